//! `sallyport device`: enrol, list, remove, expire.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sallyport_tailnet::{PresharedKey, PrivateKey, PublicKey};

use super::{BadInput, Ended, Out, Site, announce, expiry};
use crate::config::{Config, Name, Tag};
use crate::identity::Owner;
use crate::state::{Enrolled, Folder, Keys, NewDevice, State};
use crate::wgquick::{WgQuick, qr_code};
use crate::whole::Draft;

/// The words after `sallyport device`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Enrol a device, and print the wg-quick file for its WireGuard client
    Add(Add),
    /// List the devices
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a device; its sessions end at once
    Rm {
        /// The device's name
        name: String,
    },
    /// Let a device expire, now or later; its owner then has to enrol it again
    Expire {
        /// The device's name
        name: String,
        /// When: 90d, 12h, a date, a time, or never
        #[arg(long, default_value = "now", value_name = "TIME")]
        at: String,
    },
}

/// A device to enrol.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("owner").required(true))]
pub(super) struct Add {
    /// The user who answers for it, such as alice@example.com
    #[arg(long, group = "owner")]
    user: Option<String>,
    /// A tag, for a machine without a user, such as tag:ci; may be given several times
    #[arg(long = "tag", group = "owner", value_name = "TAG")]
    tags: Vec<Tag>,
    /// Its name [default: made from its owner's]
    #[arg(long)]
    name: Option<Name>,
    /// Its WireGuard public key, if it has made its own; without one, a key is made and printed, and kept nowhere
    #[arg(long, value_name = "KEY")]
    public_key: Option<PublicKey>,
    /// When it expires: 90d, a date, never [default: 180d for a user's, never for a tagged one]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Print a QR code for a phone in place of the file
    #[arg(long)]
    qr: bool,
    /// Write the file here, readable by you alone, in place of printing it
    #[arg(long, value_name = "FILE", conflicts_with = "qr")]
    out: Option<PathBuf>,
}

pub(super) async fn run(command: Command, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let asks = matches!(command, Command::Ls { .. });
    let (config, state) = if asks { site.find().await? } else { site.open().await? };
    match command {
        Command::Add(args) => add(args, site, &config, &state, out).await?,
        Command::Ls { json } => list(json, site, &state, out).await?,
        Command::Rm { name } => {
            state.remove_device(&name, site.clock.now()).await?;
            announce(&config, out).await?;
            out.line(&format!("{name} is removed"))?;
        }
        Command::Expire { name, at } => {
            let at = expires(&at, site)?;
            state.expire_device(&name, at).await?;
            announce(&config, out).await?;
            match at {
                Some(at) => out.line(&format!("{name} expires at {at}"))?,
                None => out.line(&format!("{name} does not expire"))?,
            }
        }
    }
    state.close().await;
    Ok(Ended::Yes)
}

/// Refuses early what [`written`] would refuse after the device was enrolled.
fn is_free(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata().is_ok() {
        true => Err(BadInput(format!("{} is there already: name another file", path.display())).into()),
        false => Ok(()),
    }
}

/// Writes the device's file, which holds its private key.
fn written(path: &Path, file: &str) -> anyhow::Result<()> {
    let placed = Draft::of(path).and_then(|mut draft| {
        draft.content().write_all(file.as_bytes())?;
        draft.place()
    });
    placed.with_context(|| {
        format!(
            "the device is enrolled, but {} could not be written: run `sallyport device rm`, and try again",
            path.display()
        )
    })
}

async fn add(args: Add, site: &Site, config: &Config, state: &State, out: &mut Out) -> anyhow::Result<()> {
    args.out.as_deref().map_or(Ok(()), is_free)?;
    let owner = owner(args.user, args.tags)?;
    let expires = match (&args.expires, &owner) {
        (Some(text), _) => expires(text, site)?,
        (None, Owner::User(_)) => Some(expiry::after(KEY_LIFE, site.clock.now())?),
        (None, Owner::Tags(_)) => None,
    };
    let gateway_key = Keys::open(&Folder::open(&config.state.folder)?)?.wireguard.public();
    let private_key = args.public_key.is_none().then(PrivateKey::generate);
    let key = match (&private_key, args.public_key) {
        (Some(private), _) => private.public(),
        (None, Some(public)) => public,
        (None, None) => return Err(BadInput("a device needs a key".to_owned()).into()),
    };
    let new = NewDevice { name: args.name, owner, key, preshared: PresharedKey::generate(), expires };
    let enrolled = state.add_device(new, site.clock.now()).await?;
    announce(config, out).await?;
    let endpoint = config.tailnet.endpoint();
    let file = WgQuick {
        name: &enrolled.device.name,
        private_key: private_key.as_ref(),
        addresses: &enrolled.device.addresses,
        plan: state.plan(),
        domain: &config.tailnet.domain,
        mtu: config.tailnet.mtu,
        gateway_key,
        preshared: &enrolled.preshared,
        endpoint: &endpoint,
    };
    let file = file.to_string();
    match &args.out {
        Some(path) => written(path, &file)?,
        None if args.qr => {
            out.line(&qr_code(&file).context("the file does not fit into a QR code: leave --qr out")?)?
        }
        None => out.line(file.trim_end())?,
    }
    let until = expires.map_or_else(|| "and does not expire".to_owned(), |at| format!("until {}", expiry::shown(at)));
    out.note(&format!("{} is enrolled {until}; its owner is {}", enrolled.device.name, enrolled.device.owner))?;
    if config.tailnet.endpoint.is_none() {
        out.note(&format!(
            "devices will dial {endpoint}: set [tailnet] endpoint if they know this machine by another name"
        ))?;
    }
    Ok(())
}

async fn list(json: bool, site: &Site, state: &State, out: &mut Out) -> anyhow::Result<()> {
    let now = site.clock.now();
    let devices = state.devices().await?;
    if json {
        return out.json(&devices.iter().map(as_json).collect::<Vec<_>>());
    }
    let row = |enrolled: &Enrolled| {
        let device = &enrolled.device;
        let expires = match device.expires {
            None => "never".to_owned(),
            Some(_) if enrolled.has_expired(now) => "expired".to_owned(),
            Some(at) => expiry::shown(at),
        };
        [
            device.name.clone(),
            device.owner.to_string(),
            device.addresses.first().map(ToString::to_string).unwrap_or_default(),
            expires,
            enrolled.handshake.map_or_else(|| "never".to_owned(), |at| expiry::ago(at, now)),
            enrolled.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        ]
    };
    out.table(["NAME", "OWNER", "ADDRESS", "EXPIRES", "SEEN", "FROM"], devices.iter().map(row))
}

fn as_json(enrolled: &Enrolled) -> serde_json::Value {
    let device = &enrolled.device;
    let tags = Some(device.owner.tags()).filter(|tags| !tags.is_empty());
    serde_json::json!({
        "name": device.name,
        "user": device.owner.user(),
        "tags": tags,
        "public_key": device.key,
        "addresses": device.addresses,
        "created": enrolled.created,
        "expires": device.expires,
        "last_handshake": enrolled.handshake,
        "endpoint": enrolled.endpoint,
    })
}

fn owner(user: Option<String>, tags: Vec<Tag>) -> Result<Owner, BadInput> {
    let Some(user) = user else { return Ok(Owner::Tags(tags.into_iter().map(String::from).collect())) };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
    let named = user.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && domain.contains(|c| c != '@'));
    match named && user.len() <= 254 && user.chars().all(plain) {
        true => Ok(Owner::User(user)),
        false => Err(BadInput(format!("{user:?} is no user: write a login such as alice@example.com"))),
    }
}

fn expires(text: &str, site: &Site) -> Result<Option<jiff::Timestamp>, BadInput> {
    match text {
        "never" => Ok(None),
        "now" => Ok(Some(site.clock.now())),
        _ => expiry::after(text, site.clock.now()).map(Some),
    }
}

/// How long a user's device is enrolled unless something else is said: as long as Tailscale's keys are.
const KEY_LIFE: &str = "180d";
