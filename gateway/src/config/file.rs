//! The text of `sallyport.toml`: its tables as written, and their way to a [`Config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use sallyport_tailnet::DEFAULT_MTU;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{
    Backend, Config, ConfigError, Dns, Paths, PostgresTarget, Services, SshTarget, Tag, Tailnet, Target, socket,
};
use crate::config::target::Name;

/// A mistake and the bytes of the text that it is about.
pub(super) struct Mistake {
    message: String,
    span: Option<Range<usize>>,
}

impl Mistake {
    /// Turns the byte offset into line and column, counted from 1; a column is a character.
    pub(super) fn at(self, text: &str, name: &str) -> ConfigError {
        let before = self.span.map(|span| text.get(..span.start).unwrap_or(text));
        let place = match before {
            Some(before) => {
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                format!("{name}:{line}:{column}")
            }
            None => name.to_owned(),
        };
        ConfigError { place, message: self.message }
    }
}

impl From<toml::de::Error> for Mistake {
    fn from(error: toml::de::Error) -> Self {
        Self { message: error.message().trim_end().replace('\n', ", "), span: error.span() }
    }
}

/// Reads `text` whole.
pub(super) fn parse(text: &str, base: &Path, state: Option<&Path>) -> Result<Config, Mistake> {
    let file: File = toml::from_str(text)?;
    let tailnet = file.tailnet.resolve()?;
    let folder = match state {
        Some(folder) => folder.to_owned(),
        None => base.join(&file.state.folder),
    };
    let database = match file.state.database {
        Some(reference) => base.join(path_of(&reference, "sqlite:", "sqlite:state/sallyport.db")?),
        None => folder.join("sallyport.db"),
    };
    let recordings = match file.state.recordings {
        Some(reference) => base.join(path_of(&reference, "file:", "file:state/recordings")?),
        None => folder.join("recordings"),
    };
    Ok(Config {
        tailnet,
        dns: Dns { forward: file.dns.forward.into_iter().map(|Resolver(address)| address).collect() },
        state: Paths { folder, database, recordings },
        policy: base.join(file.policy.file),
        targets: targets(file.target, base)?,
    })
}

fn targets(written: Vec<TargetTable>, base: &Path) -> Result<Vec<Target>, Mistake> {
    let mut names = BTreeMap::new();
    let mut targets = Vec::with_capacity(written.len());
    for table in written {
        let span = table.name.span();
        let name = table.name.into_inner();
        if names.insert(name.clone(), span.clone()).is_some() {
            let message = format!("a second target is named {name}: names are unique, give this one another");
            return Err(Mistake { message, span: Some(span) });
        }
        let services = Services::new(table.ssh, table.postgres);
        let services = services.map_err(|error| Mistake { message: error.to_string(), span: Some(span) })?;
        targets.push(Target { name, tags: table.tags, services: services.below(base) });
    }
    Ok(targets)
}

/// The path of a reference of this kind, the only one that can be used there.
fn path_of<'a>(reference: &'a Spanned<String>, kind: &str, example: &str) -> Result<&'a str, Mistake> {
    let path = reference.get_ref().strip_prefix(kind).filter(|path| !path.is_empty());
    path.ok_or_else(|| Mistake {
        message: format!("\"{}\" is of no kind that can be used here: write \"{example}\"", reference.get_ref()),
        span: Some(reference.span()),
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tailnet: TailnetTable,
    dns: DnsTable,
    state: StateTable,
    policy: PolicyTable,
    target: Vec<TargetTable>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TailnetTable {
    domain: Domain,
    listen: SocketAddr,
    endpoint: Option<Endpoint>,
    prefix4: Option<Spanned<Ipv4Net>>,
    prefix6: Option<Spanned<Ipv6Net>>,
    mtu: Option<Spanned<u16>>,
    backend: Backend,
}

impl Default for TailnetTable {
    fn default() -> Self {
        Self {
            domain: Domain("sallyport.internal".to_owned()),
            listen: SocketAddr::from(([0, 0, 0, 0], 51820)),
            endpoint: None,
            prefix4: None,
            prefix6: None,
            mtu: None,
            backend: Backend::Auto,
        }
    }
}

impl TailnetTable {
    fn resolve(self) -> Result<Tailnet, Mistake> {
        let prefix4 = match self.prefix4 {
            Some(net) => checked(net, |net| {
                let longest = (8..=MAX_PREFIX4).contains(&net.prefix_len());
                (net.trunc() == *net && longest)
                    .then_some(())
                    .ok_or("an IPv4 prefix is a network of /8 to /24, such as \"100.64.0.0/16\"")
            })?,
            None => Ipv4Net::new_assert([100, 64, 0, 0].into(), 16),
        };
        let prefix6 = self.prefix6.map(|net| {
            checked(net, |net| {
                (net.trunc() == *net && net.prefix_len() <= MAX_PREFIX6).then_some(()).ok_or(
                    "an IPv6 prefix is a network of at most /96: its last 32 bits carry the IPv4 address of each device",
                )
            })
        });
        let mtu = match self.mtu {
            Some(mtu) => checked(mtu, |mtu| {
                (DEFAULT_MTU..=9000)
                    .contains(mtu)
                    .then_some(())
                    .ok_or("an MTU is between 1280 (IPv6's least) and 9000 bytes")
            })?,
            None => DEFAULT_MTU,
        };
        Ok(Tailnet {
            domain: self.domain.0,
            listen: self.listen,
            endpoint: self.endpoint.map(|Endpoint(text)| text),
            prefix4,
            prefix6: prefix6.transpose()?,
            mtu,
            backend: self.backend,
        })
    }
}

fn checked<T>(value: Spanned<T>, rule: impl Fn(&T) -> Result<(), &'static str>) -> Result<T, Mistake> {
    match rule(value.get_ref()) {
        Ok(()) => Ok(value.into_inner()),
        Err(message) => Err(Mistake { message: message.to_owned(), span: Some(value.span()) }),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DnsTable {
    forward: Vec<Resolver>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StateTable {
    folder: PathBuf,
    database: Option<Spanned<String>>,
    recordings: Option<Spanned<String>>,
}

impl Default for StateTable {
    fn default() -> Self {
        Self { folder: PathBuf::from("state"), database: None, recordings: None }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PolicyTable {
    file: PathBuf,
}

impl Default for PolicyTable {
    fn default() -> Self {
        Self { file: PathBuf::from("policy.hujson") }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetTable {
    name: Spanned<Name>,
    #[serde(default)]
    tags: Vec<Tag>,
    ssh: Option<SshTarget>,
    postgres: Option<PostgresTarget>,
}

struct Domain(String);

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.to_ascii_lowercase();
        let domain = text.trim_end_matches('.');
        let fits = domain.len() <= 180 && !domain.is_empty() && domain.split('.').all(|label| Name::new(label).is_ok());
        match fits {
            true => Ok(Self(domain.to_owned())),
            false => {
                Err(de::Error::custom("a domain is labels of letters, digits and hyphens, such as \"corp.internal\""))
            }
        }
    }
}

struct Endpoint(String);

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port != 0);
        match port.and_then(|port| super::Address::parse(&text, port)) {
            Some(_) => Ok(Self(text)),
            None => Err(de::Error::custom(
                "an endpoint is the host and port that devices dial, such as \"gateway.example.com:51820\"",
            )),
        }
    }
}

struct Resolver(SocketAddr);

impl<'de> Deserialize<'de> for Resolver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        socket(&text, 53).map(Self).ok_or_else(|| {
            de::Error::custom(
                "a resolver is an address with or without a port, such as \"10.0.0.2\" or \"10.0.0.2:53\"",
            )
        })
    }
}

/// The longest IPv4 prefix, which leaves 128 addresses to devices and as many to targets.
const MAX_PREFIX4: u8 = 24;

/// The longest IPv6 prefix: 32 bits below it carry an IPv4 address.
const MAX_PREFIX6: u8 = 96;
