//! `sallyport.toml`: what the operator writes, read strictly and completely.
//!
//! Everything has a default, so that an absent file is a configuration too. A key that nobody knows is an error, because a
//! misspelt setting is worse than a missing one. Mistakes name the file, line and column. Nothing is opened here and no
//! secret is read: a configuration says where things are.

mod file;
mod target;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};

pub use target::{
    Address, CaFile, HostIdentity, Login, Name, NameError, POSTGRES_PORT, PostgresAdmin, PostgresLogin, PostgresTarget,
    Services, SshTarget, Tag, Target, TlsMode,
};

use crate::secrets::SecretError;

/// A whole configuration, every path absolute or relative to the working folder.
#[derive(Clone, Debug)]
pub struct Config {
    /// The WireGuard network.
    pub tailnet: Tailnet,
    /// What the gateway's resolver does with names that are not its own.
    pub dns: Dns,
    /// Where things are kept.
    pub state: Paths,
    /// The policy file.
    pub policy: PathBuf,
    /// The targets of the file; those of `sallyport target add` are in the state.
    pub targets: Vec<Target>,
}

/// `[tailnet]`
#[derive(Clone, Debug)]
pub struct Tailnet {
    /// The domain that targets have their names in, in lower case and without a dot at the end.
    pub domain: String,
    /// Where WireGuard listens.
    pub listen: SocketAddr,
    /// What devices dial, `host:port`; unset, the machine's own name.
    pub endpoint: Option<String>,
    /// The IPv4 prefix of the whole tailnet.
    pub prefix4: Ipv4Net,
    /// The IPv6 prefix of the whole tailnet; unset, one that is drawn at random once and kept in the state.
    pub prefix6: Option<Ipv6Net>,
    /// The largest packet inside the tunnel, in bytes.
    pub mtu: u16,
    /// How packets come and go.
    pub backend: Backend,
}

/// How the data plane is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The best one that this machine allows.
    #[default]
    Auto,
    /// A TUN device in a network namespace of its own.
    Tun,
    /// AF_PACKET in a network namespace of its own.
    Packet,
    /// TCP in the gateway's own process: no namespace, no privilege.
    Userspace,
}

/// `[dns]`
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Resolvers that other names are passed on to; with none they are refused.
    pub forward: Vec<SocketAddr>,
}

/// `[state]`
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder of keys, database and control socket; only its owner can look in.
    pub folder: PathBuf,
    /// The SQLite database.
    pub database: PathBuf,
    /// The folder of recordings.
    pub recordings: PathBuf,
}

/// A mistake in `sallyport.toml`, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    place: String,
    message: String,
}

impl Config {
    /// Reads the file at `path`. `state` takes the place of the state folder that the file names.
    ///
    /// # Errors
    /// When the file cannot be read, or anything in it is wrong.
    pub fn load(path: &Path, state: Option<&Path>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            place: path.display().to_string(),
            message: format!("cannot be read: {e}; `sallyport init` writes one"),
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &path.display().to_string(), base, state)
    }

    /// The configuration of an empty file in the working folder.
    ///
    /// # Errors
    /// None in practice: an empty file is valid.
    pub fn defaults(state: Option<&Path>) -> Result<Self, ConfigError> {
        Self::parse("", DEFAULT_FILE, Path::new(""), state)
    }

    /// Reads `text`, calling it `name` in errors; relative paths are below `base`.
    ///
    /// # Errors
    /// When anything in it is wrong.
    pub fn parse(text: &str, name: &str, base: &Path, state: Option<&Path>) -> Result<Self, ConfigError> {
        file::parse(text, base, state).map_err(|mistake| mistake.at(text, name))
    }

    /// Reads every secret that a target refers to once, so that a missing one shows at start.
    ///
    /// # Errors
    /// The first target whose secret cannot be had, or is readable by others.
    pub async fn check_secrets(&self) -> Result<(), SecretOfTarget> {
        for target in &self.targets {
            target.check_secrets().await?;
        }
        Ok(())
    }
}

/// A target's secret that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("target {target}: {source}")]
pub struct SecretOfTarget {
    /// The target.
    pub target: String,
    /// What is wrong with the secret.
    pub source: SecretError,
}

impl Tailnet {
    /// What devices are told to dial: the configured endpoint, or this machine's own name and the port we listen on.
    #[must_use]
    pub fn endpoint(&self) -> String {
        if let Some(endpoint) = &self.endpoint {
            return endpoint.clone();
        }
        match self.listen.ip() {
            ip if !ip.is_unspecified() => self.listen.to_string(),
            _ => format!("{}:{}", own_name(), self.listen.port()),
        }
    }
}

/// What this machine calls itself.
pub(crate) fn own_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".to_owned())
}

/// An address and a port with the port's default.
fn socket(text: &str, port: u16) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)))
}

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sallyport.toml";

#[cfg(test)]
mod tests;
