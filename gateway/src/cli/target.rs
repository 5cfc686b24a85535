//! `sallyport target`: register, list, remove, and let the gateway in.

use std::io::{BufRead, IsTerminal};

use russh::keys::PublicKey;

use super::{BadInput, Ended, Out, Site, announce, scan};
use crate::config::{
    Address, CaFile, Config, HostIdentity, Login, Name, NameError, POSTGRES_PORT, PostgresAdmin, PostgresLogin,
    PostgresTarget, Services, SshTarget, Tag, Target, TlsMode,
};
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
    Ca {
        /// The one for databases in its place, for PostgreSQL's ssl_ca_file
        #[arg(long)]
        database: bool,
    },
}

/// A machine to register.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("identity").requires("ssh"))]
#[command(group = clap::ArgGroup::new("service").args(["ssh", "postgres"]).required(true).multiple(true))]
pub(super) struct Add {
    /// Its name: one word, as in `ssh web1`
    name: Name,
    /// What the policy may call it, such as tag:prod; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    #[command(flatten)]
    ssh: Ssh,
    #[command(flatten)]
    postgres: Postgres,
}

/// How an SSH host is reached.
#[derive(Debug, clap::Args)]
struct Ssh {
    /// Where its sshd listens, HOST:PORT
    #[arg(long = "ssh", id = "ssh", value_name = "ADDRESS", requires = "identity")]
    address: Option<Address>,
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
    /// Log in with this private key (file:PATH, env:NAME, exec:PROGRAM) in place of a certificate
    #[arg(long, value_name = "REFERENCE", conflicts_with = "password", requires = "ssh")]
    key: Option<SecretRef>,
    /// Log in with this password (env:NAME, file:PATH, exec:PROGRAM) in place of a certificate
    #[arg(long, value_name = "REFERENCE", requires = "ssh")]
    password: Option<SecretRef>,
}

/// How a Postgres server is reached.
#[derive(Debug, clap::Args)]
struct Postgres {
    /// Where its Postgres server listens, HOST:PORT
    #[arg(long = "postgres", id = "postgres", value_name = "ADDRESS", requires = "login", value_parser = postgres_address)]
    address: Option<Address>,
    /// How the gateway logs in there: certificate, trust, or a password (env:NAME, file:PATH, exec:PROGRAM)
    #[arg(long = "postgres-login", id = "login", value_name = "LOGIN", requires = "postgres")]
    login: Option<PostgresLogin>,
    /// What the server's TLS has to prove: verify-full, verify-ca, require or disable
    #[arg(long, value_name = "MODE", default_value = "verify-full")]
    tls: TlsMode,
    /// The authority of the server's certificate (file:PATH) in place of those that this machine trusts
    #[arg(long, value_name = "FILE", requires = "postgres")]
    ca: Option<CaFile>,
    /// The database of callers who name none
    #[arg(long, value_name = "NAME", requires = "postgres")]
    database: Option<String>,
    /// The role that makes roles for sessions there
    #[arg(long = "postgres-admin", id = "admin", value_name = "ROLE", requires = "postgres")]
    admin: Option<String>,
    /// Its password (env:NAME, file:PATH, exec:PROGRAM) in place of a certificate
    #[arg(long = "postgres-admin-password", value_name = "REFERENCE", requires = "admin")]
    admin_password: Option<SecretRef>,
}

pub(super) async fn run(command: Command, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let asks = matches!(command, Command::Ls { .. });
    let (config, state) = if asks { site.find().await? } else { site.open().await? };
    let ended = match command {
        Command::Add(args) => add(*args, site, &config, &state, out).await?,
        Command::Ls { json } => list(json, site, &config, &state, out).await?,
        Command::Rm { name } => {
            state.remove_target(&name, &config.targets, site.clock.now()).await?;
            announce(&config, out).await?;
            out.line(&format!("{name} is removed"))?;
            Ended::Yes
        }
        Command::Ca { database } => {
            let keys = Keys::open(&Folder::open(&config.state.folder)?)?;
            match database {
                false => authority(&keys, out)?,
                true => database_authority(&keys, out)?,
            }
        }
    };
    state.close().await;
    Ok(ended)
}

async fn add(args: Add, site: &Site, config: &Config, state: &State, out: &mut Out) -> anyhow::Result<Ended> {
    let ssh = match args.ssh.address.clone() {
        Some(address) => match ssh(address, args.ssh, out).await? {
            Some(ssh) => Some(ssh),
            None => {
                out.note("nothing was registered")?;
                return Ok(Ended::No);
            }
        },
        None => None,
    };
    // The gateway may be started in another folder than this command.
    let services = Services::new(ssh, postgres(args.postgres))?.below(&std::env::current_dir()?);
    let target = Target { name: args.name, tags: args.tags, services };
    target.check_secrets().await.map_err(|error| BadInput(error.to_string()))?;
    state.add_target(&target, &config.targets, site.clock.now()).await?;
    let known = state.targets(&config.targets, site.clock.now()).await?;
    announce(config, out).await?;
    let address = known.iter().find(|known| known.target.name == target.name.as_str());
    let address = address.and_then(|known| known.target.addresses.first()).map(ToString::to_string);
    let domain = &config.tailnet.domain;
    out.line(&format!("{0} is registered: {0}.{domain}, {1}", target.name, address.unwrap_or_default()))?;
    if target.services.ssh.is_some_and(|ssh| ssh.login == Login::Certificate) {
        out.note("let the gateway in there: `sallyport target ca` prints the line and where it goes")?;
    }
    Ok(Ended::Yes)
}

/// What the words say about SSH; `None` when the person does not take the host's keys for its own.
async fn ssh(address: Address, args: Ssh, out: &mut Out) -> anyhow::Result<Option<SshTarget>> {
    let host = match (args.host_ca, args.scan) {
        (Some(authority), _) => HostIdentity::Authority(authority),
        (None, false) => HostIdentity::Keys(args.host_key),
        (None, true) => {
            let keys = scan::host_keys(&address).await?;
            if !accepted(&address, &keys, args.accept, out)? {
                return Ok(None);
            }
            HostIdentity::Keys(keys)
        }
    };
    let login = match (args.key, args.password) {
        (Some(key), _) => Login::Key(key),
        (None, Some(password)) => Login::Password(password),
        (None, None) => Login::Certificate,
    };
    Ok(Some(SshTarget { address, host, login }))
}

/// What the words say about Postgres.
fn postgres(args: Postgres) -> Option<PostgresTarget> {
    let (address, login) = args.address.zip(args.login)?;
    let admin = args.admin.map(|user| PostgresAdmin::new(user, args.admin_password));
    Some(PostgresTarget { address, tls: args.tls, ca: args.ca, login, database: args.database, admin })
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
        let services = &target.services;
        let ssh = services.ssh.iter().map(|ssh| format!("ssh {} ({})", ssh.address, ssh.login));
        let postgres = services.postgres.iter().map(|server| format!("postgres {} ({})", server.address, server.login));
        [
            target.name.clone(),
            target.tags.join(","),
            target.addresses.first().map(ToString::to_string).unwrap_or_default(),
            ssh.chain(postgres).collect::<Vec<_>>().join(", "),
            if known.in_file { "sallyport.toml" } else { "target add" }.to_owned(),
        ]
    };
    out.table(["NAME", "TAGS", "ADDRESS", "REACHED", "FROM"], targets.iter().map(row))?;
    Ok(Ended::Yes)
}

fn as_json(known: &Known) -> serde_json::Value {
    let target = &known.target;
    serde_json::json!({
        "name": target.name,
        "tags": target.tags,
        "addresses": target.addresses,
        "ssh": target.services.ssh,
        "postgres": target.services.postgres,
        "in_file": known.in_file,
    })
}

fn authority(keys: &Keys, out: &mut Out) -> anyhow::Result<Ended> {
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

fn database_authority(keys: &Keys, out: &mut Out) -> anyhow::Result<Ended> {
    out.line(keys.database_ca.pem())?;
    out.note(
        "\nOn each server that the gateway logs in to by certificate:
  1. put this into a file, and name it in postgresql.conf:  ssl_ca_file = 'sallyport.crt'
  2. add to pg_hba.conf, above what else would match:  hostssl all all GATEWAY/32 cert
  3. reload the server
Roles need no password: a certificate names the role that the policy allowed, and lives for minutes.",
    )?;
    Ok(Ended::Yes)
}

fn postgres_address(text: &str) -> Result<Address, NameError> {
    Address::parse(text, POSTGRES_PORT)
        .ok_or_else(|| NameError::new(format!("{text:?} is not host:port, such as \"10.0.4.2:5432\"")))
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_openssh(text.trim()).map_err(|e| format!("not a public key as OpenSSH writes it ({e})"))
}
