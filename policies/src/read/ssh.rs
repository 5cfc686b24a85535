//! `ssh`.

use std::time::Duration;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;

use crate::account::Account;
use crate::reader::{Fields, Reader, quote};
use crate::rules::{Rules, SshRule};
use crate::selector::{Destination, What, Who};
use crate::{RecordingRule, SshAction, duration};

use super::definitions::Definitions;
use super::network::section;
use super::selectors::{callers, destinations, note_empty};

pub(super) fn read(reader: &mut Reader<'_>, definitions: &Definitions, policy: &Fields<'_>, rules: &mut Rules) {
    for (name, value) in section(reader, policy, "ssh") {
        if let Some(rule) = rule(reader, definitions, value, name) {
            rules.ssh.push(rule);
        }
    }
    // The sort is stable: within each kind the order of the text stays.
    rules.ssh.sort_by_key(|rule| rule.action == SshAction::Accept);
}

fn rule(reader: &mut Reader<'_>, definitions: &Definitions, value: &Value<'_>, name: String) -> Option<SshRule> {
    let known =
        ["action", "src", "dst", "users", "checkPeriod", "acceptEnv", "srcPosture", "recorder", "enforceRecorder"];
    let rule = reader.fields(value, "an ssh rule", &known)?;
    let action = action(reader, &rule);
    let from = callers(reader, definitions, &rule, None);
    check_sources(reader, &rule, &from.sources, action);
    let destinations = ssh_destinations(reader, definitions, &rule);
    let accounts = accounts(reader, &rule);
    let accept_env = rule.get("acceptEnv").map(|value| env(reader, value)).unwrap_or_default();
    let recording = recording(reader, &rule);
    let location = reader.location(value.range(), name);
    Some(SshRule { location, action: action?, from, destinations, accounts, accept_env, recording })
}

fn action(reader: &mut Reader<'_>, rule: &Fields<'_>) -> Option<SshAction> {
    let expected = "\"accept\" or \"check\"";
    let period = rule.entry("checkPeriod");
    let Some(value) = rule.get("action") else {
        reader.error(rule.at, "the rule has no \"action\"", expected);
        return None;
    };
    let lit = reader.string(value, expected)?;
    match lit.value.as_ref() {
        "accept" => {
            if let Some(period) = period {
                reader.error(
                    period.at,
                    "\"checkPeriod\" in a rule that does not check",
                    "\"action\": \"check\" beside it",
                );
            }
            Some(SshAction::Accept)
        }
        "check" => {
            let period = match period {
                Some(entry) => check_period(reader, entry.value)?,
                None => DEFAULT_CHECK_PERIOD,
            };
            Some(SshAction::Check { period })
        }
        other => {
            reader.error(lit.range, format!("there is no action {}", quote(other)), expected);
            None
        }
    }
}

fn check_period(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Duration> {
    let expected = "\"always\" or a time from \"1m\" to \"168h\", such as \"12h\"";
    let lit = reader.string(value, expected)?;
    if lit.value == "always" {
        return Some(Duration::ZERO);
    }
    let period = duration::parse(&lit.value).filter(|period| (MIN_CHECK_PERIOD..=MAX_CHECK_PERIOD).contains(period));
    if period.is_none() {
        reader.error(lit.range, format!("{} is no check period", quote(&lit.value)), expected);
    }
    period
}

/// Tailscale's rule: only people and tagged machines call by ssh, so neither `*` nor addresses stand in `src`.
fn check_sources(
    reader: &mut Reader<'_>,
    rule: &Fields<'_>,
    sources: &[crate::selector::Source],
    action: Option<SshAction>,
) {
    let Some(at) = rule.entry("src").map(|entry| entry.value.range()) else { return };
    for source in sources {
        match source.who {
            Who::Anyone | Who::Addresses(_) => {
                let message = format!("{} cannot stand in the \"src\" of an ssh rule", quote(&source.written));
                reader.error(at, message, "users, groups, tags, \"autogroup:member\" or \"autogroup:tagged\"");
            }
            Who::Tag(_) | Who::Tagged if matches!(action, Some(SshAction::Check { .. })) => {
                let message =
                    format!("{} cannot pass a check: a tagged machine has nobody to log in", quote(&source.written));
                reader.note(at, message);
            }
            _ => {}
        }
    }
}

/// Tailscale's rule: an ssh rule names its destinations, so neither `*` nor plain addresses stand in `dst`.
fn ssh_destinations(reader: &mut Reader<'_>, definitions: &Definitions, rule: &Fields<'_>) -> Vec<Destination> {
    let Some(value) = rule.get("dst") else {
        reader.error(rule.at, "the rule has no \"dst\"", SSH_DST_EXPECTED);
        return Vec::new();
    };
    let mut kept = Vec::new();
    for (destination, at) in destinations(reader, definitions, value) {
        let is_host = definitions.hosts.contains_key(destination.written.trim_start_matches("host:"));
        match destination.what {
            What::Anything => {
                reader.error(at, "\"*\" cannot stand in the \"dst\" of an ssh rule", SSH_DST_EXPECTED);
            }
            What::Addresses(_) if !is_host => {
                let message = format!("{} cannot stand in the \"dst\" of an ssh rule", quote(&destination.written));
                reader.error(at, message, format!("{SSH_DST_EXPECTED}; an address can be given a name in \"hosts\""));
            }
            _ => kept.push(destination),
        }
    }
    kept
}

fn accounts(reader: &mut Reader<'_>, rule: &Fields<'_>) -> Vec<(String, Account)> {
    let expected = "\"users\": a list of accounts, such as [\"ubuntu\", \"autogroup:nonroot\"]";
    let Some(value) = rule.get("users") else {
        reader.error(rule.at, "the rule has no \"users\"", expected);
        return Vec::new();
    };
    note_empty(reader, value);
    account_list(reader, value, expected)
}

/// A list of accounts, each as written and as meant.
pub(super) fn account_list(reader: &mut Reader<'_>, value: &Value<'_>, expected: &str) -> Vec<(String, Account)> {
    let list = reader.strings(value, expected);
    list.into_iter()
        .filter_map(|lit| match Account::parse(&lit.value) {
            Ok(account) => Some((lit.value.to_string(), account)),
            Err(expected) => {
                reader.error(lit.range, format!("{} is no account", quote(&lit.value)), expected);
                None
            }
        })
        .collect()
}

/// Names of environment variables, with wildcards.
pub(super) fn env(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<String> {
    let expected = "names of environment variables, with \"*\" and \"?\" as wildcards, such as [\"LANG\", \"LC_*\"]";
    let list = reader.strings(value, expected);
    list.into_iter()
        .filter_map(|lit| {
            if lit.value.chars().all(|c| c.is_ascii_alphanumeric() || "_*?".contains(c)) {
                return Some(lit.value.to_string());
            }
            reader.error(lit.range, format!("{} is no variable's name", quote(&lit.value)), expected);
            None
        })
        .collect()
}

/// Every session is recorded here, and `"enforceRecorder": false` alone lets it go on without.
fn recording(reader: &mut Reader<'_>, rule: &Fields<'_>) -> RecordingRule {
    if let Some(entry) = rule.entry("recorder") {
        reader.note(entry.at, "\"recorder\" is not read: the gateway itself records, into the store of sallyport.toml");
        reader.strings(entry.value, "a list of tags, such as [\"tag:recorder\"]");
    }
    match rule.get("enforceRecorder").and_then(|value| reader.boolean(value, "true or false")) {
        Some(false) => RecordingRule::BestEffort,
        Some(true) | None => RecordingRule::Required,
    }
}

const SSH_DST_EXPECTED: &str = "a tag, a target's name, a host or \"autogroup:self\"";

/// Tailscale's default.
const DEFAULT_CHECK_PERIOD: Duration = Duration::from_secs(12 * 3_600);
const MIN_CHECK_PERIOD: Duration = Duration::from_secs(60);
const MAX_CHECK_PERIOD: Duration = Duration::from_secs(168 * 3_600);
