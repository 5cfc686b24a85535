//! `sallyport target`: register, list, remove, and let the gateway in.

use std::io::{BufRead, IsTerminal};

use russh::keys::PublicKey;

use super::{BadInput, Ended, Out, Site, announce, scan};
use crate::config::{Address, Config, HostIdentity, Login, Name, SshTarget, Tag, Target};
use crate::secrets::SecretRef;
use crate::state::{Folder, Keys, Known, State};

/// The words after `sallyport target`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Register a machine
    Add(Box<Add>),
    /// List the targets
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a target; its sessions end at once
    Rm {
        /// The target's name
        name: String,
    },
    /// Print the authority that targets have to trust, for sshd's TrustedUserCAKeys
    Ca,
}

/// A machine to register.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("identity").required(true))]
pub(super) struct Add {
    /// Its name: one word, as in `ssh web1`
    name: Name,
    /// Where its sshd listens, HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    ssh: Address,
    /// Its host key, a line "ssh-ed25519 AAAA…"; may be given several times
    #[arg(long, group = "identity", value_name = "LINE", value_parser = public_key)]
    host_key: Vec<PublicKey>,
    /// The authority that signs its host certificate, a line "ssh-ed25519 AAAA…"
    #[arg(long, group = "identity", value_name = "LINE", value_parser = public_key)]
    host_ca: Option<PublicKey>,
    /// Ask the machine for its host keys, show them, and take them if you say so
    #[arg(long, group = "identity")]
    scan: bool,
    /// Take scanned keys unseen
    #[arg(long, requires = "scan")]
    accept: bool,
    /// What the policy may call it, such as tag:prod; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// Log in with this private key (file:PATH, env:NAME, exec:PROGRAM) in place of a certificate
    #[arg(long, value_name = "REFERENCE", conflicts_with = "password")]
    key: Option<SecretRef>,
    /// Log in with this password (env:NAME, file:PATH, exec:PROGRAM) in place of a certificate
    #[arg(long, value_name = "REFERENCE")]
    password: Option<SecretRef>,
}

pub(super) async fn run(command: Command, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (config, state) = site.open().await?;
    let ended = match command {
        Command::Add(args) => add(*args, site, &config, &state, out).await?,
        Command::Ls { json } => list(json, site, &config, &state, out).await?,
        Command::Rm { name } => {
            state.remove_target(&name, &config.targets, site.clock.now()).await?;
            announce(&config, out).await?;
            out.line(&format!("{name} is removed"))?;
            Ended::Yes
        }
        Command::Ca => authority(&config, out)?,
    };
    state.close().await;
    Ok(ended)
}

async fn add(args: Add, site: &Site, config: &Config, state: &State, out: &mut Out) -> anyhow::Result<Ended> {
    let host = match (args.host_ca, args.scan) {
        (Some(authority), _) => HostIdentity::Authority(authority),
        (None, false) => HostIdentity::Keys(args.host_key),
        (None, true) => {
            let keys = scan::host_keys(&args.ssh).await?;
            if !accepted(&args.ssh, &keys, args.accept, out)? {
                out.note("nothing was registered")?;
                return Ok(Ended::No);
            }
            HostIdentity::Keys(keys)
        }
    };
    let login = match (args.key, args.password) {
        (Some(key), _) => Login::Key(key),
        (None, Some(password)) => Login::Password(password),
        (None, None) => Login::Certificate,
    };
    // The gateway may be started in another folder than this command.
    let ssh = SshTarget { address: args.ssh, host, login }.below(&std::env::current_dir()?);
    let target = Target { name: args.name, tags: args.tags, ssh };
    target.check_secrets().await.map_err(|error| BadInput(error.to_string()))?;
    state.add_target(&target, &config.targets, site.clock.now()).await?;
    let known = state.targets(&config.targets, site.clock.now()).await?;
    announce(config, out).await?;
    let address = known.iter().find(|known| known.target.name == target.name.as_str());
    let address = address.and_then(|known| known.target.addresses.first()).map(ToString::to_string);
    let domain = &config.tailnet.domain;
    out.line(&format!("{0} is registered: {0}.{domain}, {1}", target.name, address.unwrap_or_default()))?;
    if target.ssh.login == Login::Certificate {
        out.note("let the gateway in there: `sallyport target ca` prints the line and where it goes")?;
    }
    Ok(Ended::Yes)
}

/// Shows the keys and asks the person, unless they were accepted unseen.
fn accepted(address: &Address, keys: &[PublicKey], unseen: bool, out: &mut Out) -> anyhow::Result<bool> {
    out.note(&format!("{address} says that its host keys are:"))?;
    for key in keys {
        out.note(&format!("  {} {}", key.algorithm(), key.fingerprint(russh::keys::HashAlg::Sha256)))?;
    }
    if unseen {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        let hint = "compare these with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there, then add --accept";
        return Err(BadInput(hint.to_owned()).into());
    }
    out.ask("Are they the same as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows there? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn list(json: bool, site: &Site, config: &Config, state: &State, out: &mut Out) -> anyhow::Result<Ended> {
    let targets = state.targets(&config.targets, site.clock.now()).await?;
    if json {
        out.json(&targets.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(Ended::Yes);
    }
    let row = |known: &Known| {
        let target = &known.target;
        let login = match &target.ssh.login {
            Login::Certificate => "certificate".to_owned(),
            Login::Key(secret) => format!("key {secret}"),
            Login::Password(secret) => format!("password {secret}"),
        };
        [
            target.name.clone(),
            target.tags.join(","),
            target.addresses.first().map(ToString::to_string).unwrap_or_default(),
            target.ssh.address.to_string(),
            login,
            if known.in_file { "sallyport.toml" } else { "target add" }.to_owned(),
        ]
    };
    out.table(["NAME", "TAGS", "ADDRESS", "SSH", "LOGIN", "FROM"], targets.iter().map(row))?;
    Ok(Ended::Yes)
}

fn as_json(known: &Known) -> serde_json::Value {
    let target = &known.target;
    serde_json::json!({
        "name": target.name,
        "tags": target.tags,
        "addresses": target.addresses,
        "ssh": target.ssh,
        "in_file": known.in_file,
    })
}

fn authority(config: &Config, out: &mut Out) -> anyhow::Result<Ended> {
    let keys = Keys::open(&Folder::open(&config.state.folder)?)?;
    out.line(&keys.user_ca.public_key().to_openssh()?)?;
    out.note(
        "\nOn each target, as root:
  1. put this line into /etc/ssh/sallyport_user_ca.pub
  2. add to /etc/ssh/sshd_config:  TrustedUserCAKeys /etc/ssh/sallyport_user_ca.pub
  3. reload sshd
Accounts need no key of their own: a certificate names the account that the policy allowed, and lives for minutes.",
    )?;
    Ok(Ended::Yes)
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_openssh(text.trim()).map_err(|e| format!("not a public key as OpenSSH writes it ({e})"))
}
