//! `acls` and `grants`.

use std::sync::Arc;

use jsonc_parser::ast::{StringLit, Value};
use jsonc_parser::common::Ranged;

use crate::reader::{Fields, Reader, quote};
use crate::rules::{CapabilityRule, NetworkRule, PostgresRule, Reach, Rules};
use crate::selector::Destination;
use crate::traffic::{Protocol, Traffic};

use super::capability;
use super::definitions::Definitions;
use super::selectors::{callers, destination, destinations, note_empty};

pub(super) fn read(reader: &mut Reader<'_>, definitions: &Definitions, policy: &Fields<'_>, rules: &mut Rules) {
    for (at, rule) in section(reader, policy, "acls") {
        if let Some(rule) = acl(reader, definitions, rule, at) {
            rules.network.push(rule);
        }
    }
    for (at, rule) in section(reader, policy, "grants") {
        grant(reader, definitions, rule, at, rules);
    }
}

/// The rules of a section, each with its name: `acls[0]`, `acls[1]` ….
pub(super) fn section<'v>(reader: &mut Reader<'_>, policy: &Fields<'v>, name: &str) -> Vec<(String, &'v Value<'v>)> {
    let list = policy.get(name).map(|value| reader.array(value, "a list of rules: [{ … }, { … }]")).unwrap_or_default();
    list.into_iter().enumerate().map(|(at, rule)| (format!("{name}[{at}]"), rule)).collect()
}

fn acl(reader: &mut Reader<'_>, definitions: &Definitions, value: &Value<'_>, name: String) -> Option<NetworkRule> {
    let known = ["action", "src", "users", "dst", "ports", "proto", "srcPosture"];
    let rule = reader.fields(value, "an ACL", &known)?;
    match rule.get("action") {
        Some(value) => {
            let expected = "\"accept\": everything that no rule accepts is denied";
            if let Some(lit) = reader.string(value, expected)
                && lit.value != "accept"
            {
                reader.error(lit.range, format!("there is no action {}", quote(&lit.value)), expected);
            }
        }
        None => reader.error(rule.at, "the rule has no \"action\"", "\"action\": \"accept\""),
    }
    let protocol = match rule.get("proto") {
        Some(value) => Some(protocol(reader, value)?),
        None => None,
    };
    let from = Arc::new(callers(reader, definitions, &rule, Some("users")));
    let mut reach = Vec::new();
    match rule.either(reader, "dst", "ports") {
        Some(value) => {
            note_empty(reader, value);
            for lit in reader.strings(value, ACL_DST_EXPECTED) {
                if let Some((destination, traffic)) = destination_with_ports(reader, definitions, lit, protocol) {
                    reach.push(Reach { destinations: Arc::new([destination]), traffic: vec![traffic] });
                }
            }
        }
        None => reader.error(rule.at, "the rule has no \"dst\"", ACL_DST_EXPECTED),
    }
    Some(NetworkRule { location: reader.location(value.range(), name), from, reach })
}

/// The `proto` of an ACL or a test.
pub(super) fn protocol(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Protocol> {
    let expected = "a protocol's name or number in quotes, such as \"tcp\", \"udp\", \"icmp\" or \"47\"";
    let lit = reader.string(value, expected)?;
    let protocol = Protocol::parse(&lit.value);
    if protocol.is_none() {
        reader.error(lit.range, format!("there is no protocol {}", quote(&lit.value)), expected);
    }
    protocol
}

/// `tag:prod:22`, `web1:80,443`, `10.0.0.0/8:*`, `[fd7a::1]:22`.
fn destination_with_ports(
    reader: &mut Reader<'_>,
    definitions: &Definitions,
    lit: &StringLit<'_>,
    protocol: Option<Protocol>,
) -> Option<(Destination, Traffic)> {
    let (place, ports) = split_port(reader, lit)?;
    let Some(traffic) = Traffic::of(protocol, ports) else {
        reader.error(lit.range, format!("{} are no ports", quote(ports)), PORTS_EXPECTED);
        return None;
    };
    Some((destination(reader, definitions, place, lit.range)?, traffic))
}

/// Splits at the last colon; an IPv6 address may stand in brackets.
pub(super) fn split_port<'v>(reader: &mut Reader<'_>, lit: &'v StringLit<'v>) -> Option<(&'v str, &'v str)> {
    let text = lit.value.as_ref();
    let Some((place, ports)) = text.rsplit_once(':') else {
        reader.error(lit.range, format!("{} names no port", quote(text)), format!("\"{}:22\"", place_of(text)));
        return None;
    };
    if matches!(place, "tag" | "group" | "autogroup" | "ipset" | "host" | "svc") {
        reader.error(lit.range, format!("{} names no port", quote(text)), format!("\"{}:22\"", place_of(text)));
        return None;
    }
    let bare = place.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(place);
    Some((bare, ports))
}

fn place_of(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

fn grant(reader: &mut Reader<'_>, definitions: &Definitions, value: &Value<'_>, name: String, rules: &mut Rules) {
    let known = ["src", "dst", "ip", "app", "srcPosture", "via"];
    let Some(rule) = reader.fields(value, "a grant", &known) else { return };
    let from = Arc::new(callers(reader, definitions, &rule, None));
    let destinations: Arc<[Destination]> = match rule.get("dst") {
        Some(value) => destinations(reader, definitions, value).into_iter().map(|(one, _)| one).collect(),
        None => {
            reader.error(
                rule.at,
                "the grant has no \"dst\"",
                "\"dst\": a list of destinations, such as [\"tag:prod\"]",
            );
            Arc::default()
        }
    };
    if let Some(via) = rule.entry("via") {
        reader.note(via.at, "\"via\" has no meaning here: the gateway is the only way to a target");
    }
    if rule.get("ip").is_none() && rule.get("app").is_none() {
        reader.error(rule.at, "the grant gives nothing", "\"ip\", \"app\" or both");
    }
    let location = reader.location(value.range(), name);
    if let Some(app) = rule.get("app") {
        let app = capability::read(reader, app);
        rules.postgres.extend(app.postgres.into_iter().map(|value| PostgresRule {
            location: location.clone(),
            from: Arc::clone(&from),
            destinations: Arc::clone(&destinations),
            roles: value.roles,
            databases: value.databases,
            recording: value.recording,
            capability: value.capability,
        }));
        rules.capabilities.extend(app.ssh.into_iter().map(|value| CapabilityRule {
            location: location.clone(),
            from: Arc::clone(&from),
            destinations: Arc::clone(&destinations),
            accounts: value.accounts,
            recording: value.recording,
            capability: value.capability,
        }));
    }
    if let Some(ip) = rule.get("ip") {
        let traffic = reader.strings(ip, IP_EXPECTED).into_iter().filter_map(|lit| traffic(reader, lit)).collect();
        rules.network.push(NetworkRule { location, from, reach: vec![Reach { destinations, traffic }] });
    }
}

fn traffic(reader: &mut Reader<'_>, lit: &StringLit<'_>) -> Option<Traffic> {
    let found = Traffic::parse_grant(&lit.value);
    if found.is_none() {
        reader.error(lit.range, format!("{} is no protocol and port", quote(&lit.value)), IP_EXPECTED);
    }
    found
}

const ACL_DST_EXPECTED: &str = "a list of destinations with ports, such as [\"tag:prod:22\", \"web1:80,443\"]";

const PORTS_EXPECTED: &str = "\"*\", ports and ranges such as \"22\", \"80,443\" or \"8000-8999\"; only \"*\" with a protocol \
                              that has no ports";

const IP_EXPECTED: &str = "a list such as [\"tcp:22\"], [\"udp:4000-4100\"], [\"443\"], [\"icmp:*\"] or [\"*\"]";
