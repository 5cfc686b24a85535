//! The `app` of a grant: our own capabilities, that for SSH in this file, and those that are not used yet.

use jsonc_parser::ast::{StringLit, Value};

use crate::account::Account;
use crate::reader::{Fields, Reader, quote};
use crate::{ExecRule, RecordingRule, SftpRule, SshCapability, duration, forward};

use super::postgres::{self, PostgresValue};
use super::ssh::{account_list, env};

/// What a grant's `app` holds.
#[derive(Default)]
pub(super) struct App {
    pub(super) ssh: Vec<SshValue>,
    pub(super) postgres: Vec<PostgresValue>,
}

/// A value of `sallyport.dev/cap/ssh`.
pub(super) struct SshValue {
    /// For which accounts; none stands for all.
    pub(super) accounts: Vec<Account>,
    pub(super) recording: Option<RecordingRule>,
    pub(super) capability: SshCapability,
}

/// The values of our capabilities; others are noted, or refused where they claim to be ours.
pub(super) fn read(reader: &mut Reader<'_>, app: &Value<'_>) -> App {
    let mut found = App::default();
    for entry in reader.entries(app, "an object of capabilities: { \"sallyport.dev/cap/ssh\": [{ … }] }") {
        let values = reader.array(entry.value, "a list of capability values: [{ … }]");
        if entry.name == SSH {
            found.ssh.extend(values.into_iter().filter_map(|value| ssh(reader, value)));
        } else if entry.name == POSTGRES {
            found.postgres.extend(values.into_iter().filter_map(|value| postgres::read(reader, value)));
        } else if LATER.contains(&entry.name) {
            reader.note(entry.at, format!("{:?} is not used yet", entry.name));
        } else if entry.name.starts_with("sallyport.dev/") {
            let message = format!("there is no capability {}", quote(entry.name));
            reader.unknown(entry.at, &message, entry.name, &OURS);
        } else {
            reader.note(entry.at, format!("the capability {} has no meaning here", quote(entry.name)));
        }
    }
    found
}

fn ssh(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<SshValue> {
    let fields = reader.fields(value, "a capability for ssh", &KEYS)?;
    let accounts = match fields.get("accounts") {
        Some(value) => {
            let expected = "a list of accounts, such as [\"ubuntu\"]";
            let accounts = account_list(reader, value, expected);
            if accounts.is_empty() {
                reader.error(fields.at, "\"accounts\" names no account", expected);
            }
            accounts.into_iter().map(|(_, account)| account).collect()
        }
        None => Vec::new(),
    };
    let recording = fields.get("recording").and_then(|value| recording(reader, value));
    let strings = |reader: &mut Reader<'_>, name: &str, check: Check, expected: &str| {
        fields.get(name).map(|value| checked(reader, value, check, expected)).unwrap_or_default()
    };
    let capability = SshCapability {
        shell: switch(reader, &fields, "shell"),
        exec: exec(reader, &fields),
        sftp: sftp(reader, &fields),
        subsystems: strings(
            reader,
            "subsystems",
            is_subsystem,
            "names of subsystems; file transfer is \"sftp\": { … }",
        ),
        local_forward: strings(reader, "localForward", forward::is_pattern, FORWARD_EXPECTED),
        remote_forward: strings(reader, "remoteForward", forward::is_pattern, FORWARD_EXPECTED),
        agent: switch(reader, &fields, "agent"),
        x11: switch(reader, &fields, "x11"),
        env: fields.get("env").map(|value| env(reader, value)).unwrap_or_default(),
        max_duration: limit(reader, &fields, "maxDuration"),
        idle_timeout: limit(reader, &fields, "idleTimeout"),
    };
    Some(SshValue { accounts, recording, capability })
}

/// `{}` and `true` allow, `false` and absence deny.
pub(super) fn switch(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> bool {
    match fields.get(name) {
        None => false,
        Some(value @ Value::Object(_)) => reader.fields(value, &format!("{name:?}"), &[]).is_some(),
        Some(value) => reader.boolean(value, "{} or true to allow it, false to deny it").unwrap_or(false),
    }
}

fn exec(reader: &mut Reader<'_>, fields: &Fields<'_>) -> ExecRule {
    match fields.get("exec") {
        Some(value @ Value::Object(_)) => {
            let commands = reader.fields(value, "\"exec\"", &["commands"]).and_then(|exec| exec.get("commands"));
            commands.map_or(ExecRule::Any, |value| {
                let list = reader.strings(value, "a list of commands, with \"*\" and \"?\" as wildcards");
                ExecRule::Patterns(list.into_iter().map(|lit| lit.value.to_string()).collect())
            })
        }
        _ if switch(reader, fields, "exec") => ExecRule::Any,
        _ => ExecRule::None,
    }
}

fn sftp(reader: &mut Reader<'_>, fields: &Fields<'_>) -> SftpRule {
    let expected = "\"download\": true, \"upload\": true or both";
    let denied = SftpRule { download: false, upload: false };
    let Some(value) = fields.get("sftp") else { return denied };
    let Some(sftp) = reader.fields(value, "\"sftp\"", &["download", "upload"]) else { return denied };
    let (download, upload) = (sftp.get("download"), sftp.get("upload"));
    if download.is_none() && upload.is_none() {
        reader.error(sftp.at, "\"sftp\" says neither \"download\" nor \"upload\"", expected);
    }
    let mut allowed =
        |value: Option<&Value<'_>>| value.and_then(|value| reader.boolean(value, "true or false")).unwrap_or(false);
    SftpRule { download: allowed(download), upload: allowed(upload) }
}

pub(super) fn limit(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Option<std::time::Duration> {
    let expected = "a time, such as \"30m\" or \"8h\"";
    let lit = reader.string(fields.get(name)?, expected)?;
    let found = duration::parse(&lit.value).filter(|time| !time.is_zero());
    if found.is_none() {
        reader.error(lit.range, format!("{} is no time", quote(&lit.value)), expected);
    }
    found
}

pub(super) fn recording(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<RecordingRule> {
    let lit = reader.string(value, "\"required\", \"bestEffort\" or \"off\"")?;
    let found = RecordingRule::ALL.into_iter().find(|rule| rule.as_str() == lit.value);
    if found.is_none() {
        let message = format!("there is no recording rule {}", quote(&lit.value));
        reader.unknown(lit.range, &message, &lit.value, &RecordingRule::ALL.map(RecordingRule::as_str));
    }
    found
}

pub(super) type Check = fn(&str) -> bool;

pub(super) fn checked(reader: &mut Reader<'_>, value: &Value<'_>, check: Check, expected: &str) -> Vec<String> {
    let keep = |lit: &StringLit<'_>, reader: &mut Reader<'_>| {
        if check(&lit.value) {
            return Some(lit.value.to_string());
        }
        reader.error(lit.range, format!("{} is not allowed here", quote(&lit.value)), expected);
        None
    };
    reader.strings(value, expected).into_iter().filter_map(|lit| keep(lit, reader)).collect()
}

/// SFTP has a key of its own, which tells upload from download.
fn is_subsystem(name: &str) -> bool {
    name != "sftp" && name.chars().all(|c| c.is_ascii_graphic())
}

const SSH: &str = "sallyport.dev/cap/ssh";

const POSTGRES: &str = "sallyport.dev/cap/postgres";

const OURS: [&str; 3] = [SSH, POSTGRES, "sallyport.dev/cap/kubernetes"];

const LATER: [&str; 2] = ["tailscale.com/cap/kubernetes", "sallyport.dev/cap/kubernetes"];

const KEYS: [&str; 13] = [
    "accounts",
    "recording",
    "shell",
    "exec",
    "sftp",
    "subsystems",
    "localForward",
    "remoteForward",
    "agent",
    "x11",
    "env",
    "maxDuration",
    "idleTimeout",
];

const FORWARD_EXPECTED: &str = "a list of host:port and of paths of sockets, such as [\"localhost:9090\", \"*.internal:443\", \"localhost:*\", \
     \"/run/app/*.sock\"]";
