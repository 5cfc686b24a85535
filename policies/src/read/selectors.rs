//! The entries of `src` and `dst`: users, groups, tags, targets, hosts, addresses and autogroups.

use std::net::IpAddr;
use std::sync::Arc;

use jsonc_parser::ast::{StringLit, Value};
use jsonc_parser::common::Range;

use crate::address::AddressSet;
use crate::reader::{Fields, Reader, quote};
use crate::rules::Callers;
use crate::selector::{Destination, Source, What, Who};

use super::definitions::Definitions;

/// The `src` and `srcPosture` of a rule; `legacy` is the older name of `src`, if it had one.
pub(super) fn callers(
    reader: &mut Reader<'_>,
    definitions: &Definitions,
    rule: &Fields<'_>,
    legacy: Option<&str>,
) -> Callers {
    let value = legacy.map_or_else(|| rule.get("src"), |legacy| rule.either(reader, "src", legacy));
    let sources = match value {
        Some(value) => {
            note_empty(reader, value);
            let list = reader.strings(value, "a list of callers, such as [\"group:sre\"]");
            list.into_iter().filter_map(|lit| source(reader, definitions, lit)).collect()
        }
        None => {
            reader.error(rule.at, "the rule has no \"src\"", "\"src\": a list of callers, such as [\"group:sre\"]");
            Vec::new()
        }
    };
    let postures = match rule.get("srcPosture") {
        Some(value) => definitions.postures_named(reader, value),
        None => definitions.default_postures.clone(),
    };
    Callers { sources, postures }
}

pub(super) fn source(reader: &mut Reader<'_>, definitions: &Definitions, lit: &StringLit<'_>) -> Option<Source> {
    let (text, at) = (lit.value.as_ref(), lit.range);
    let who = match text.split_once(':') {
        _ if text == "*" => Who::Anyone,
        Some(("autogroup", _)) => autogroup_source(reader, text, at)?,
        Some(("group", _)) => Who::Group(definitions.group(reader, text, at)?),
        Some(("tag", _)) => Who::Tag(definitions.tag(reader, text, at)?),
        Some(("ipset", _)) => Who::Addresses(definitions.ipset(reader, text, at)?),
        Some(("user", pattern)) if pattern.strip_prefix("*@").is_some_and(is_name) => {
            Who::Domain(pattern.trim_start_matches("*@").to_owned())
        }
        _ if is_user(text) => Who::User(text.to_owned()),
        _ => match addresses(definitions, text) {
            Some(set) => Who::Addresses(set),
            None => {
                let message = format!("{} is neither a user nor defined in \"hosts\"", quote(text));
                reader.error(at, message, SOURCE_EXPECTED);
                return None;
            }
        },
    };
    Some(Source { written: text.to_owned(), who })
}

fn autogroup_source(reader: &mut Reader<'_>, text: &str, at: Range) -> Option<Who> {
    match text {
        "autogroup:member" => Some(Who::Member),
        "autogroup:tagged" => Some(Who::Tagged),
        "autogroup:danger-all" => Some(Who::Anyone),
        "autogroup:shared" => {
            reader.note(at, format!("{text:?} matches nobody: devices are not shared between tailnets here"));
            Some(Who::Nobody)
        }
        _ if AUTOGROUP_ROLES.contains(&text) => {
            reader.note(at, format!("{text:?} matches nobody: users have no roles here; name a group instead"));
            Some(Who::Nobody)
        }
        "autogroup:self" | "autogroup:internet" | "autogroup:nonroot" => {
            reader.error(at, format!("{text:?} cannot call"), SOURCE_EXPECTED);
            None
        }
        _ => {
            unknown_autogroup(reader, text, at);
            None
        }
    }
}

fn unknown_autogroup(reader: &mut Reader<'_>, text: &str, at: Range) {
    let known = [&AUTOGROUPS[..], &AUTOGROUP_ROLES].concat();
    reader.unknown(at, &format!("there is no {}", quote(text)), text, &known);
}

/// A list of destinations without ports.
pub(super) fn destinations(
    reader: &mut Reader<'_>,
    definitions: &Definitions,
    value: &Value<'_>,
) -> Vec<(Destination, Range)> {
    note_empty(reader, value);
    let list = reader.strings(value, "a list of destinations, such as [\"tag:prod\", \"web1\"]");
    list.into_iter()
        .filter_map(|lit| Some((destination(reader, definitions, &lit.value, lit.range)?, lit.range)))
        .collect()
}

pub(super) fn destination(
    reader: &mut Reader<'_>,
    definitions: &Definitions,
    text: &str,
    at: Range,
) -> Option<Destination> {
    let what = match text.split_once(':') {
        _ if text == "*" => What::Anything,
        Some(("autogroup", _)) => autogroup_destination(reader, text, at)?,
        Some(("tag", _)) => What::Tag(definitions.tag(reader, text, at)?),
        Some(("ipset", _)) => What::Addresses(definitions.ipset(reader, text, at)?),
        Some(("group", _)) => {
            definitions.group(reader, text, at)?;
            nobodys(reader, text, at)
        }
        Some(("svc", _)) => {
            reader.note(at, format!("{} matches no target: there are no services here; name the target", quote(text)));
            What::Nothing
        }
        _ if is_user(text) => nobodys(reader, text, at),
        _ => match addresses(definitions, text) {
            Some(set) => What::Addresses(set),
            None if is_name(text) => What::Target(text.to_owned()),
            None => {
                reader.error(at, format!("{} is no destination", quote(text)), DESTINATION_EXPECTED);
                return None;
            }
        },
    };
    Some(Destination { written: text.to_owned(), what })
}

fn autogroup_destination(reader: &mut Reader<'_>, text: &str, at: Range) -> Option<What> {
    match text {
        "autogroup:tagged" => Some(What::Tagged),
        "autogroup:self" | "autogroup:member" => Some(nobodys(reader, text, at)),
        _ if AUTOGROUP_ROLES.contains(&text) => Some(nobodys(reader, text, at)),
        "autogroup:internet" => {
            reader.note(at, format!("{text:?} matches no target: there are no exit nodes here"));
            Some(What::Nothing)
        }
        "autogroup:shared" | "autogroup:danger-all" | "autogroup:nonroot" => {
            reader.error(at, format!("{text:?} cannot be called"), DESTINATION_EXPECTED);
            None
        }
        _ => {
            unknown_autogroup(reader, text, at);
            None
        }
    }
}

/// An empty list is no mistake, and yet seldom meant.
pub(super) fn note_empty(reader: &mut Reader<'_>, value: &Value<'_>) {
    if let Value::Array(array) = value
        && array.elements.is_empty()
    {
        reader.note(array.range, "the list is empty, so the rule never applies");
    }
}

fn nobodys(reader: &mut Reader<'_>, text: &str, at: Range) -> What {
    reader.note(at, format!("{} matches no target: targets have tags here, and belong to no user", quote(text)));
    What::Nothing
}

/// A host by name, or an address or prefix written out.
fn addresses(definitions: &Definitions, text: &str) -> Option<Arc<AddressSet>> {
    let text = text.strip_prefix("host:").unwrap_or(text);
    definitions.hosts.get(text).cloned().or_else(|| {
        let looks_like_one = text.parse::<IpAddr>().is_ok() || text.contains('/') || is_range(text);
        AddressSet::parse(text).filter(|_| looks_like_one).map(Arc::new)
    })
}

fn is_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(first, _)| first.trim().parse::<IpAddr>().is_ok())
}

/// A login name: something on both sides of one `@`.
pub(super) fn is_user(text: &str) -> bool {
    let plain = |part: &str| !part.chars().any(|c| c.is_whitespace() || c.is_control() || "@:*/".contains(c));
    text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && plain(local) && plain(domain))
}

/// A name of a group, a tag, a host or a target.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

const SOURCE_EXPECTED: &str =
    "a user, a group, a tag, a host or an address, \"autogroup:member\", \"autogroup:tagged\" or \"*\"";

const DESTINATION_EXPECTED: &str =
    "a target's name, a tag, a host, an address, an ipset, \"autogroup:tagged\" or \"*\"";

/// Roles of Tailscale's admin console.
pub(super) const AUTOGROUP_ROLES: [&str; 6] = [
    "autogroup:admin",
    "autogroup:owner",
    "autogroup:it-admin",
    "autogroup:network-admin",
    "autogroup:billing-admin",
    "autogroup:auditor",
];

/// Every other autogroup of Tailscale's policy file.
const AUTOGROUPS: [&str; 7] = [
    "autogroup:member",
    "autogroup:tagged",
    "autogroup:self",
    "autogroup:internet",
    "autogroup:nonroot",
    "autogroup:shared",
    "autogroup:danger-all",
];
