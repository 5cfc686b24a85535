//! `tests` and `sshTests`.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;

use crate::account::is_possible;
use crate::check::{NetworkExpectation, NetworkTest, Outcome, SshExpectation, SshTest, TestCaller};
use crate::posture::is_attribute;
use crate::reader::{Fields, Reader, quote};
use crate::rules::Rules;
use crate::selector::{Destination, What, Who};
use crate::traffic::{Port, Protocol};

use super::definitions::Definitions;
use super::network::{protocol, section, split_port};
use super::selectors::{destination, destinations, source};

pub(super) fn read(reader: &mut Reader<'_>, definitions: &Definitions, policy: &Fields<'_>, rules: &mut Rules) {
    for (name, value) in section(reader, policy, "tests") {
        rules.tests.extend(network_test(reader, definitions, value, &name));
    }
    for (name, value) in section(reader, policy, "sshTests") {
        rules.ssh_tests.extend(ssh_test(reader, definitions, value, &name));
    }
}

fn network_test(
    reader: &mut Reader<'_>,
    definitions: &Definitions,
    value: &Value<'_>,
    name: &str,
) -> Option<NetworkTest> {
    // `user` and `allow` are Tailscale's older names for `src` and `accept`.
    let known = ["src", "user", "srcPostureAttrs", "proto", "accept", "allow", "deny"];
    let test = reader.fields(value, "a test", &known)?;
    let proto = test.get("proto").map(|value| protocol(reader, value));
    let proto = proto.unwrap_or(Some(Protocol::TCP)).unwrap_or(Protocol::TCP);
    let attributes = attributes(reader, &test);
    let caller = caller(reader, definitions, &test, attributes);
    let mut expectations = Vec::new();
    for (value, allowed) in [(test.either(reader, "accept", "allow"), true), (test.get("deny"), false)] {
        let Some(value) = value else { continue };
        for lit in reader.strings(value, TEST_DST_EXPECTED) {
            let Some((place, number)) = split_port(reader, lit) else { continue };
            let Some(number) = parse_port(number, proto) else {
                reader.error(lit.range, format!("{} is no port", quote(number)), TEST_DST_EXPECTED);
                continue;
            };
            let Some(destination) = destination(reader, definitions, place, lit.range) else { continue };
            if is_testable(reader, &destination, lit.range) {
                let location = reader.location(lit.range, name.to_owned());
                let port = Port { protocol: proto, number };
                expectations.push(NetworkExpectation { location, destination, port, allowed });
            }
        }
    }
    if expectations.is_empty() {
        reader.error(test.at, "the test expects nothing", "\"accept\", \"deny\" or both");
    }
    Some(NetworkTest { caller: caller?, expectations })
}

fn parse_port(text: &str, protocol: Protocol) -> Option<u16> {
    if !protocol.has_ports() && text == "*" {
        return Some(0);
    }
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn ssh_test(reader: &mut Reader<'_>, definitions: &Definitions, value: &Value<'_>, name: &str) -> Option<SshTest> {
    let known = ["src", "srcPostureAttrs", "dst", "accept", "check", "deny"];
    let test = reader.fields(value, "an ssh test", &known)?;
    let speaks_of_device = test.get("srcPostureAttrs").is_some();
    let attributes = attributes(reader, &test);
    let caller = caller(reader, definitions, &test, attributes);
    let mut kept = Vec::new();
    match test.get("dst") {
        Some(value) => {
            for (destination, at) in destinations(reader, definitions, value) {
                if is_testable(reader, &destination, at) {
                    kept.push(destination);
                }
            }
        }
        None => reader.error(test.at, "the test has no \"dst\"", "\"dst\": a list of targets, such as [\"web1\"]"),
    }
    let mut expectations = Vec::new();
    for (key, outcome) in [("accept", Outcome::Accept), ("check", Outcome::Check), ("deny", Outcome::Deny)] {
        let Some(value) = test.get(key) else { continue };
        for lit in reader.strings(value, "a list of accounts, such as [\"ubuntu\"]") {
            if is_possible(&lit.value) || outcome == Outcome::Deny {
                let location = reader.location(lit.range, name.to_owned());
                expectations.push(SshExpectation { location, account: lit.value.to_string(), outcome });
            } else {
                reader.error(
                    lit.range,
                    format!("{} is no account", quote(&lit.value)),
                    "an account's name, such as \"ubuntu\"",
                );
            }
        }
    }
    if expectations.is_empty() || test.get("dst").is_some() && kept.is_empty() {
        reader.error(test.at, "the test expects nothing", "a \"dst\" and \"accept\", \"check\" or \"deny\"");
    }
    Some(SshTest { caller: caller?, speaks_of_device, destinations: kept, expectations })
}

fn caller(
    reader: &mut Reader<'_>,
    definitions: &Definitions,
    test: &Fields<'_>,
    attributes: BTreeMap<String, crate::Value>,
) -> Option<TestCaller> {
    let expected = "a user, a group, a tag or an address";
    let Some(value) = test.either(reader, "src", "user") else {
        reader.error(test.at, "the test has no \"src\"", format!("\"src\": {expected}"));
        return None;
    };
    let lit = reader.string(value, expected)?;
    let source = source(reader, definitions, lit)?;
    let is_somebody = match &source.who {
        Who::User(_) | Who::Tag(_) => true,
        Who::Group(members) => !members.is_empty(),
        Who::Addresses(set) => set.len() > 0,
        _ => false,
    };
    if is_somebody {
        return Some(TestCaller { source, attributes });
    }
    reader.error(lit.range, format!("{} is nobody in particular", quote(&lit.value)), expected);
    None
}

fn is_testable(reader: &mut Reader<'_>, destination: &Destination, at: jsonc_parser::common::Range) -> bool {
    let testable = match &destination.what {
        What::Target(_) | What::Tag(_) => true,
        What::Addresses(set) => set.len() > 0,
        _ => false,
    };
    if !testable {
        let message = format!("{} is no target in particular", quote(&destination.written));
        reader.error(at, message, "a target's name, a tag, a host or an address");
    }
    testable
}

fn attributes(reader: &mut Reader<'_>, test: &Fields<'_>) -> BTreeMap<String, crate::Value> {
    let expected = "an object of attributes: { \"node:os\": \"linux\" }";
    let entries = test.get("srcPostureAttrs").map(|value| reader.entries(value, expected)).unwrap_or_default();
    let mut attributes = BTreeMap::new();
    for entry in entries {
        if !is_attribute(entry.name) {
            let message = format!("{} is no attribute", quote(entry.name));
            reader.error(entry.at, message, "a namespace and a key, such as \"node:os\"");
        }
        let value = match entry.value {
            Value::StringLit(lit) => crate::Value::String(lit.value.to_string()),
            Value::BooleanLit(lit) => crate::Value::Bool(lit.value),
            Value::NumberLit(lit) => crate::Value::Number(lit.value.parse().unwrap_or(f64::NAN)),
            other => {
                reader.error(other.range(), "an attribute has one value", "a string, a number, true or false");
                continue;
            }
        };
        attributes.insert(entry.name.to_owned(), value);
    }
    attributes
}

const TEST_DST_EXPECTED: &str = "a list of targets with one port each, such as [\"tag:prod:22\", \"web1:443\"]";
