//! A target as the operator describes it, in `sallyport.toml` or to `sallyport target add`: what every target has. How it is
//! reached over each protocol is in the files below.

mod postgres;
mod ssh;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::SecretOfTarget;

pub use postgres::{CaFile, PORT as POSTGRES_PORT, PostgresAdmin, PostgresLogin, PostgresTarget, TlsMode};
pub use ssh::{HostIdentity, Login, SshTarget};

/// A machine that callers reach through the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name: one DNS label.
    pub name: Name,
    /// What the policy may call it.
    pub tags: Vec<Tag>,
    /// How it is reached.
    pub services: Services,
}

/// How a target is reached, for each protocol that it speaks; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "ServicesTable")]
pub struct Services {
    /// Over SSH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshTarget>,
    /// Over the protocol of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTarget>,
}

/// [`Services`] as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicesTable {
    ssh: Option<SshTarget>,
    postgres: Option<PostgresTarget>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The name of a device or target: one DNS label in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A tag, `tag:` included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// A name, tag or address that is not written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

impl NameError {
    /// With the sentence that says what is wrong, and how it is written.
    pub(crate) fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

impl Target {
    /// Reads the target's secrets once and forgets them again.
    ///
    /// # Errors
    /// When a secret cannot be had, or is readable by others.
    pub async fn check_secrets(&self) -> Result<(), SecretOfTarget> {
        let ssh = self.services.ssh.iter().filter_map(|ssh| ssh.login.secret());
        let postgres = self.services.postgres.iter().flat_map(|postgres| postgres.secrets());
        for secret in ssh.chain(postgres) {
            let checked = secret.check().await;
            checked.map_err(|source| SecretOfTarget { target: self.name.to_string(), source })?;
        }
        Ok(())
    }
}

impl Services {
    /// At least one of them.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(ssh: Option<SshTarget>, postgres: Option<PostgresTarget>) -> Result<Self, NameError> {
        match (&ssh, &postgres) {
            (None, None) => {
                Err(NameError("a target is reached somehow: give it ssh = { … } or postgres = { … }".to_owned()))
            }
            _ => Ok(Self { ssh, postgres }),
        }
    }

    /// Makes relative paths ones below `base`.
    #[must_use]
    pub fn below(self, base: &Path) -> Self {
        Self { ssh: self.ssh.map(|ssh| ssh.below(base)), postgres: self.postgres.map(|postgres| postgres.below(base)) }
    }
}

impl TryFrom<ServicesTable> for Services {
    type Error = NameError;

    fn try_from(table: ServicesTable) -> Result<Self, NameError> {
        Self::new(table.ssh, table.postgres)
    }
}

impl Address {
    /// Reads `host`, `host:port`, `[v6]:port` or a bare IPv6 address; the port is `port` unless given.
    #[must_use]
    pub fn parse(text: &str, port: u16) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            return Some(Self { host: host.to_owned(), port: port_of(rest.strip_prefix(':'), rest.is_empty(), port)? });
        }
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Some(Self { host: text.to_owned(), port });
        }
        let (host, given) = match text.split_once(':') {
            Some((host, given)) => (host, Some(given)),
            None => (text, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let named = !host.is_empty() && host.len() <= 253 && !host.starts_with('-') && host.chars().all(plain);
        named.then_some(())?;
        Some(Self { host: host.to_owned(), port: port_of(given, given.is_none(), port)? })
    }
}

fn port_of(given: Option<&str>, absent: bool, default: u16) -> Option<u16> {
    match (given, absent) {
        (Some(text), _) => text.parse().ok().filter(|port| *port != 0),
        (None, true) => Some(default),
        (None, false) => None,
    }
}

impl FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text, 22).ok_or_else(|| NameError(format!("{text:?} is not host:port, such as \"10.0.3.7:22\"")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Name {
    /// Checks that `text` can be a name: a DNS label (RFC 1035, 2.3.1, with RFC 1123's leading digits), in lower case.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=63).contains(&text.len()) && text.chars().all(plain);
        match fits && !text.starts_with('-') && !text.ends_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError(format!(
                "{text:?} cannot be a name: use at most 63 lower-case letters, digits and hyphens, such as \"web1\""
            ))),
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// Checks that `text` can be a tag: `tag:` and a letter, then letters, digits and hyphens, as Tailscale has them.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix("tag:").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        match rest.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.len() <= 63 && rest.chars().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError(format!(
                "{text:?} cannot be a tag: write \"tag:\", then a letter, then letters, digits and hyphens, such as \"tag:prod\""
            ))),
        }
    }

    /// The tag, `tag:` included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Name);
text!(Tag);
