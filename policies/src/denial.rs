//! What a denial says: one sentence for the caller, and for `explain` why each rule does not apply.

use crate::reader::quote;
use crate::rules::{Mismatch, NetworkRule, PostgresRule, SshRule, Subject};
use crate::selector::list;
use crate::traffic::Port;
use crate::{Caller, Target, account, role};

pub(crate) fn network_sentence(caller: &Caller, target: &Target, port: Port, owners: &[&str]) -> String {
    format!(
        "{caller} may not reach {} on {port}: no rule in the policy's \"acls\" or \"grants\" opens it; {}",
        target.name,
        whom_to_ask(owners)
    )
}

pub(crate) fn ssh_sentence(caller: &Caller, target: &Target, account: Option<&str>, owners: &[&str]) -> String {
    let whom = account.map(|account| format!(" as {}", plain(account))).unwrap_or_default();
    format!(
        "{caller} may not log in to {}{whom}: the network rule is there, but no rule in the policy's \"ssh\" is for {caller} \
         there; {}",
        target.name,
        whom_to_ask(owners)
    )
}

pub(crate) fn account_sentence(
    caller: &Caller,
    target: &Target,
    account: &str,
    allowed: &[String],
    owners: &[&str],
) -> String {
    let reason = if account::is_possible(account) {
        "no rule in the policy's \"ssh\" allows that account"
    } else {
        "that is not the name of an account"
    };
    format!(
        "{caller} may not log in to {} as {}: {reason}, only {}; {}",
        target.name,
        plain(account),
        list(allowed.iter().map(String::as_str)),
        whom_to_ask(owners)
    )
}

pub(crate) fn postgres_sentence(
    caller: &Caller,
    target: &Target,
    wanted: Option<(&str, &str)>,
    owners: &[&str],
) -> String {
    let whom = wanted.map(|(role, _)| format!(" as {}", plain(role))).unwrap_or_default();
    format!(
        "{caller} may not log in to {}{whom}: the network rule is there, but no grant with \"sallyport.dev/cap/postgres\" is for \
         {caller} there; {}",
        target.name,
        whom_to_ask(owners)
    )
}

pub(crate) fn role_sentence(caller: &Caller, target: &Target, role: &str, allowed: &[&str], owners: &[&str]) -> String {
    let reason = if role::is_possible(role) {
        "no \"sallyport.dev/cap/postgres\" in the policy's \"grants\" names that role"
    } else {
        "that is not the name of a role"
    };
    format!(
        "{caller} may not log in to {} as {}: {reason}, only {}; {}",
        target.name,
        plain(role),
        list(allowed.iter().copied()),
        whom_to_ask(owners)
    )
}

pub(crate) fn database_sentence(
    caller: &Caller,
    target: &Target,
    (role, database): (&str, &str),
    allowed: &[&str],
    owners: &[&str],
) -> String {
    format!(
        "{caller} may not use the database {} of {} as {}: the policy's \"sallyport.dev/cap/postgres\" names {} for that role; {}",
        plain(database),
        target.name,
        plain(role),
        list(allowed.iter().copied()),
        whom_to_ask(owners)
    )
}

pub(crate) fn posture_sentence(caller: &Caller, target: &Target, why: &str, owners: &[&str]) -> String {
    let device = if caller.device.is_empty() { "this device" } else { &caller.device };
    format!("{caller} may not reach {} from {device}, which does not meet {why}; {}", target.name, whom_to_ask(owners))
}

fn whom_to_ask(owners: &[&str]) -> String {
    if owners.is_empty() {
        "ask whoever keeps the policy".to_owned()
    } else {
        format!("ask {}", list(owners.iter().copied()))
    }
}

/// An account as it was asked for: in quotes and escaped, unless it is an ordinary name.
fn plain(name: &str) -> String {
    if account::is_possible(name) && name.is_ascii() { name.to_owned() } else { quote(name) }
}

pub(crate) fn network_why(
    rule: &NetworkRule,
    mismatch: Option<&Mismatch>,
    subject: Subject<'_>,
    target: &Target,
    port: Port,
) -> String {
    let destinations = rule.reach.iter().flat_map(|reach| reach.destinations.iter()).map(|one| one.written.as_str());
    match mismatch {
        Some(Mismatch::Source) => source_why(&rule.from.sources, subject.caller),
        Some(Mismatch::Destination) => destination_why(destinations, target),
        Some(Mismatch::Traffic) => format!("it does not open {port}"),
        Some(Mismatch::Posture(why)) => format!("the device does not meet {why}"),
        Some(Mismatch::Account | Mismatch::Database) | None => "it does not apply".to_owned(),
    }
}

pub(crate) fn ssh_why(
    rule: &SshRule,
    mismatch: Option<&Mismatch>,
    subject: Subject<'_>,
    target: &Target,
    account: Option<&str>,
) -> String {
    match mismatch {
        Some(Mismatch::Source) => source_why(&rule.from.sources, subject.caller),
        Some(Mismatch::Destination) => {
            destination_why(rule.destinations.iter().map(|one| one.written.as_str()), target)
        }
        Some(Mismatch::Account) => format!(
            "its users are {}, not {}",
            list(rule.accounts.iter().map(|(written, _)| written.as_str())),
            account.map(plain).unwrap_or_default()
        ),
        Some(Mismatch::Posture(why)) => format!("the device does not meet {why}"),
        Some(Mismatch::Traffic | Mismatch::Database) | None => "it does not apply".to_owned(),
    }
}

pub(crate) fn postgres_why(
    rule: &PostgresRule,
    mismatch: Option<&Mismatch>,
    subject: Subject<'_>,
    target: &Target,
    wanted: Option<(&str, &str)>,
) -> String {
    let (role, database) = wanted.unwrap_or_default();
    match mismatch {
        Some(Mismatch::Source) => source_why(&rule.from.sources, subject.caller),
        Some(Mismatch::Destination) => {
            destination_why(rule.destinations.iter().map(|one| one.written.as_str()), target)
        }
        Some(Mismatch::Account) => {
            let roles = list(rule.roles.iter().map(|(written, _)| written.as_str()));
            format!("its roles are {roles}, not {}", plain(role))
        }
        Some(Mismatch::Database) => {
            let databases = list(rule.databases.iter().map(String::as_str));
            format!("its databases are {databases}, not {}", plain(database))
        }
        Some(Mismatch::Posture(why)) => format!("the device does not meet {why}"),
        Some(Mismatch::Traffic) | None => "it does not apply".to_owned(),
    }
}

fn source_why(sources: &[crate::selector::Source], caller: &Caller) -> String {
    format!("its src is {}, not {caller}", list(sources.iter().map(|one| one.written.as_str())))
}

fn destination_why<'a>(destinations: impl Iterator<Item = &'a str>, target: &Target) -> String {
    let tags = if target.tags.is_empty() { String::new() } else { format!(" ({})", target.tags.join(", ")) };
    format!("its dst is {}, not {}{tags}", list(destinations), target.name)
}
