//! A target as the operator describes it, in `sallyport.toml` or to `sallyport target add`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use russh::keys::PublicKey;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::SecretOfTarget;
use crate::secrets::SecretRef;

/// A machine that callers reach through the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name: one DNS label.
    pub name: Name,
    /// What the policy may call it.
    pub tags: Vec<Tag>,
    /// How it is reached over SSH.
    pub ssh: SshTarget,
}

/// How an SSH host is reached, known again, and logged in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SshTarget {
    /// Where its sshd listens.
    pub address: Address,
    /// How we know that it is the one.
    #[serde(flatten)]
    pub host: HostIdentity,
    /// How the gateway logs in.
    pub login: Login,
}

/// What a host has to prove before anything is sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HostIdentity {
    /// One of these keys is its own (`host_key`).
    #[serde(rename = "host_key", serialize_with = "openssh_list")]
    Keys(Vec<PublicKey>),
    /// It has a host certificate of this authority (`host_ca`).
    #[serde(rename = "host_ca", serialize_with = "openssh")]
    Authority(PublicKey),
}

/// How the gateway logs in to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a certificate of the gateway's own authority, minted for the session.
    Certificate,
    /// With a private key.
    Key(SecretRef),
    /// With a password.
    Password(SecretRef),
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

impl Target {
    /// Reads the target's secret once and forgets it again.
    ///
    /// # Errors
    /// When the secret cannot be had, or is readable by others.
    pub async fn check_secrets(&self) -> Result<(), SecretOfTarget> {
        match &self.ssh.login {
            Login::Certificate => Ok(()),
            Login::Key(secret) | Login::Password(secret) => {
                secret.check().await.map_err(|source| SecretOfTarget { target: self.name.to_string(), source })
            }
        }
    }
}

impl SshTarget {
    /// Makes relative paths of secrets ones below `base`.
    #[must_use]
    pub fn below(mut self, base: &Path) -> Self {
        self.login = match self.login {
            Login::Key(secret) => Login::Key(secret.below(base)),
            Login::Password(secret) => Login::Password(secret.below(base)),
            Login::Certificate => Login::Certificate,
        };
        self
    }
}

impl<'de> Deserialize<'de> for SshTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: Address,
            host_key: Option<Keys>,
            host_ca: Option<Key>,
            #[serde(default = "certificate")]
            login: Login,
        }
        let table = Table::deserialize(deserializer)?;
        let host = match (table.host_key, table.host_ca) {
            (Some(Keys(keys)), None) => HostIdentity::Keys(keys),
            (None, Some(Key(authority))) => HostIdentity::Authority(authority),
            (Some(_), Some(_)) => return Err(de::Error::custom("give host_key or host_ca, not both")),
            (None, None) => {
                return Err(de::Error::custom(
                    "the host's identity is missing: give host_key (the line of /etc/ssh/ssh_host_ed25519_key.pub there) or host_ca",
                ));
            }
        };
        Ok(Self { address: table.address, host, login: table.login })
    }
}

fn certificate() -> Login {
    Login::Certificate
}

/// A public key as OpenSSH writes it.
struct Key(PublicKey);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        PublicKey::from_openssh(text.trim()).map(Self).map_err(|e| {
            de::Error::custom(format!("not a public key as OpenSSH writes it, \"ssh-ed25519 AAAA…\" ({e})"))
        })
    }
}

/// One key, or a list of them.
struct Keys(Vec<PublicKey>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a public key \"ssh-ed25519 AAAA…\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keys, E> {
                Key::deserialize(de::value::StrDeserializer::new(text)).map(|Key(key)| Keys(vec![key]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(Key(key)) = list.next_element()? {
                    keys.push(key);
                }
                match keys.is_empty() {
                    true => Err(de::Error::custom("an empty list of keys lets no host in: give at least one")),
                    false => Ok(Keys(keys)),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Login {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "lowercase")]
        enum Table {
            Key(SecretRef),
            Password(SecretRef),
        }
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Login;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"certificate\", { key = \"file:…\" } or { password = \"env:…\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Login, E> {
                match text {
                    "certificate" => Ok(Login::Certificate),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Login, A::Error> {
                Ok(match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table::Key(secret) => Login::Key(secret),
                    Table::Password(secret) => Login::Password(secret),
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Login {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Certificate => serializer.serialize_str("certificate"),
            Self::Key(secret) => serializer.serialize_newtype_variant("Login", 0, "key", secret),
            Self::Password(secret) => serializer.serialize_newtype_variant("Login", 1, "password", secret),
        }
    }
}

fn openssh<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&key.to_openssh().map_err(serde::ser::Error::custom)?)
}

fn openssh_list<S: Serializer>(keys: &[PublicKey], serializer: S) -> Result<S::Ok, S::Error> {
    let lines = keys.iter().map(PublicKey::to_openssh).collect::<Result<Vec<_>, _>>();
    lines.map_err(serde::ser::Error::custom)?.serialize(serializer)
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
