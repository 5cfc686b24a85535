//! How a Postgres server is reached, known again and logged in to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Address, NameError};
use crate::secrets::SecretRef;

/// How a Postgres server is reached, known again and logged in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresTarget {
    /// Where it listens.
    #[serde(deserialize_with = "address")]
    pub address: Address,
    /// What it has to prove before anything is sent to it.
    #[serde(default)]
    pub tls: TlsMode,
    /// The authority that its certificate is from, `file:` and a path; unset, those that this machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaFile>,
    /// How the gateway logs in.
    pub login: PostgresLogin,
    /// The database of a caller who names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Who makes roles there for sessions; unset, none are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<PostgresAdmin>,
}

/// The login that makes roles for sessions: one with CREATEROLE, and with leave to give their groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "AdminTable")]
pub struct PostgresAdmin {
    /// Its role.
    pub user: String,
    /// Its password; unset, a certificate is minted for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The database that it logs in to.
    #[serde(default = "admin_database")]
    pub database: String,
}

impl PostgresAdmin {
    /// `user`, with its password or else a certificate, in the database that every server has.
    #[must_use]
    pub fn new(user: String, password: Option<SecretRef>) -> Self {
        Self { user, password, database: admin_database() }
    }
}

/// [`PostgresAdmin`] as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdminTable {
    user: String,
    password: Option<SecretRef>,
    #[serde(default = "admin_database")]
    database: String,
}

impl TryFrom<AdminTable> for PostgresAdmin {
    type Error = NameError;

    fn try_from(AdminTable { user, password, database }: AdminTable) -> Result<Self, NameError> {
        let fits = |name: &str| (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        match fits(&user) && fits(&database) {
            true => Ok(Self { user, password, database }),
            false => Err(NameError("the admin's user and database are names of 1 to 63 bytes".to_owned())),
        }
    }
}

/// The database that every server has.
fn admin_database() -> String {
    "postgres".to_owned()
}

/// How much of the server's TLS is checked; the words are libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS. Passwords go as SCRAM or md5 only.
    Disable,
    /// TLS, and whoever answers is believed.
    Require,
    /// TLS with a certificate of the authority.
    VerifyCa,
    /// TLS with a certificate of the authority for the host that is dialled.
    #[default]
    VerifyFull,
}

/// A PEM file of certificates, written `file:PATH`. It is public, so anybody may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaFile(PathBuf);

/// How the gateway logs in to a Postgres server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresLogin {
    /// With a client certificate of the gateway's database authority, minted for the session (`cert` in `pg_hba.conf`).
    Certificate,
    /// With nothing: the server believes the gateway's address (`trust`).
    Trust,
    /// With one password, whatever the role.
    Password(SecretRef),
    /// With a password for each role.
    Passwords(BTreeMap<String, SecretRef>),
}

impl PostgresTarget {
    /// Makes relative paths ones below `base`.
    #[must_use]
    pub fn below(mut self, base: &Path) -> Self {
        self.ca = self.ca.map(|CaFile(path)| CaFile(base.join(path)));
        self.login = match self.login {
            PostgresLogin::Password(secret) => PostgresLogin::Password(secret.below(base)),
            PostgresLogin::Passwords(secrets) => {
                PostgresLogin::Passwords(secrets.into_iter().map(|(role, secret)| (role, secret.below(base))).collect())
            }
            login @ (PostgresLogin::Certificate | PostgresLogin::Trust) => login,
        };
        if let Some(admin) = &mut self.admin {
            admin.password = admin.password.take().map(|secret| secret.below(base));
        }
        self
    }

    /// The secrets that it takes to be there.
    pub(crate) fn secrets(&self) -> Vec<&SecretRef> {
        let admin = self.admin.as_ref().and_then(|admin| admin.password.as_ref());
        self.login.secrets().into_iter().chain(admin).collect()
    }
}

impl PostgresLogin {
    /// The secrets that it takes.
    fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Certificate | Self::Trust => Vec::new(),
            Self::Password(secret) => vec![secret],
            Self::Passwords(secrets) => secrets.values().collect(),
        }
    }
}

impl fmt::Display for PostgresLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate => f.write_str("certificate"),
            Self::Trust => f.write_str("trust"),
            Self::Password(secret) => write!(f, "password {secret}"),
            Self::Passwords(secrets) => write!(f, "passwords of {} roles", secrets.len()),
        }
    }
}

impl FromStr for PostgresLogin {
    type Err = NameError;

    /// Reads what a command line can say: `certificate`, `trust`, or a reference to a password.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "certificate" => Ok(Self::Certificate),
            "trust" => Ok(Self::Trust),
            _ => text.parse().map(Self::Password).map_err(|_| {
                NameError(format!("{text:?} is no login: write certificate, trust, or a reference to a password such as env:ORDERS_PASSWORD"))
            }),
        }
    }
}

impl<'de> Deserialize<'de> for PostgresLogin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            password: Option<SecretRef>,
            passwords: Option<BTreeMap<String, SecretRef>>,
        }
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = PostgresLogin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"certificate\", \"trust\", { password = \"env:…\" } or { passwords = { role = \"env:…\" } }",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PostgresLogin, E> {
                match text {
                    "certificate" => Ok(PostgresLogin::Certificate),
                    "trust" => Ok(PostgresLogin::Trust),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<PostgresLogin, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                match (table.password, table.passwords) {
                    (Some(secret), None) => Ok(PostgresLogin::Password(secret)),
                    (None, Some(secrets)) => Ok(PostgresLogin::Passwords(secrets)),
                    _ => Err(de::Error::custom("give password or passwords, and not both")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for PostgresLogin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Self::Certificate => serializer.serialize_str("certificate"),
            Self::Trust => serializer.serialize_str("trust"),
            Self::Password(secret) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("password", secret)?;
                map.end()
            }
            Self::Passwords(secrets) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("passwords", secrets)?;
                map.end()
            }
        }
    }
}

impl TlsMode {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for TlsMode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let modes = [Self::Disable, Self::Require, Self::VerifyCa, Self::VerifyFull];
        modes
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| NameError(format!("{text:?} is not verify-full, verify-ca, require or disable")))
    }
}

impl CaFile {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for CaFile {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("file:").map(str::trim) {
            Some(path) if !path.is_empty() => Ok(Self(path.into())),
            _ => Err(NameError(format!("{text:?} is no file of certificates: write \"file:PATH\""))),
        }
    }
}

impl TryFrom<String> for CaFile {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<CaFile> for String {
    fn from(CaFile(path): CaFile) -> Self {
        format!("file:{}", path.display())
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    let text = String::deserialize(deserializer)?;
    Address::parse(&text, PORT)
        .ok_or_else(|| de::Error::custom(format!("{text:?} is not host:port, such as \"10.0.4.2:5432\"")))
}

/// The longest name, in bytes: `NAMEDATALEN` less one.
const NAME_MAX: usize = 63;

/// The port of Postgres servers that are configured no other.
pub const PORT: u16 = 5432;
