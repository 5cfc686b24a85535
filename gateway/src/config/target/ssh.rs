//! How an SSH host is reached, known again and logged in to.

use std::fmt;
use std::path::Path;

use russh::keys::PublicKey;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Address;
use crate::secrets::SecretRef;

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

impl Login {
    /// Its kind, for the recording and for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key(_) => "key",
            Self::Password(_) => "password",
        }
    }

    /// The secret that it takes.
    pub(crate) fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Certificate => None,
            Self::Key(secret) | Self::Password(secret) => Some(secret),
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        self.secret().map_or(Ok(()), |secret| write!(f, " {secret}"))
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
