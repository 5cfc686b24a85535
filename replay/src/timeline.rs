//! Events as sentences.

use sallyport_recorder::{Direction, Event, FileResult};

use crate::show::counted;
use crate::statement;

/// An event in a line for a person. What came from outside is in it as it came: make it [`crate::harmless`] to show it.
#[must_use]
pub fn sentence(event: &Event) -> String {
    match event {
        Event::Start { protocol, caller, target } => format!("{caller} calls {target} by {protocol}"),
        Event::Authorized { account, rules, client } => {
            let client = if client.is_empty() { String::new() } else { format!(" ({client})") };
            format!("let in as {account} by {}{client}", rules.join(", "))
        }
        Event::TargetConnected { address, host_key, login } => {
            format!("target {address} reached, {host_key}, login by {login}")
        }
        Event::Gap { from_ms, to_ms, why } => {
            format!("GAP: nothing was recorded for {} ms: {why}", to_ms.saturating_sub(*from_ms))
        }
        Event::TooLong { length, begins } => format!("TOO LONG to be recorded ({length} bytes): {begins}"),
        Event::Rekey { leg } => format!("new keys with the {leg}"),
        Event::End { outcome, reason } => format!("end: {}, {reason}", outcome.as_str()),
        Event::Refused { channel, what, why } => match channel {
            Some(channel) => format!("#{channel} REFUSED {what}: {why}"),
            None => format!("REFUSED {what}: {why}"),
        },
        Event::ForwardRefused { kind, address, why } => format!("REFUSED {}: {why}", forward(kind, address)),
        Event::ListenerOpened { kind, address } => format!("{}: the target listens", forward(kind, address)),
        Event::ListenerClosed { kind, address } => format!("{}: the target listens no longer", forward(kind, address)),
        Event::DatabaseSession(_)
        | Event::Statement(_)
        | Event::StatementRefused { .. }
        | Event::FunctionCall(_)
        | Event::Notice(_)
        | Event::Notification { .. }
        | Event::RoleMade { .. }
        | Event::RoleEnded { .. }
        | Event::DatabaseCancel => in_database(event),
        _ => in_channel(event).map_or_else(
            || "an event that this version does not know".to_owned(),
            |(channel, text)| format!("#{channel} {text}"),
        ),
    }
}

/// What is forwarded, in words.
pub(crate) fn forward(kind: &str, address: &str) -> String {
    match kind {
        "local" | "stream-local" => format!("local forward to {address}"),
        "remote" | "remote-stream-local" => format!("remote forward from {address}"),
        "jump" => format!("jump to {address}"),
        "agent" => "use of the agent".to_owned(),
        "x11" => "use of the X11 display".to_owned(),
        other => format!("{other} forward of {address}"),
    }
}

/// The events of a database session.
fn in_database(event: &Event) -> String {
    match event {
        Event::DatabaseSession(session) => {
            let client = if session.application_name.is_empty() { "a client" } else { &session.application_name };
            format!("{client} is in {} as {}", session.database, session.role)
        }
        Event::Statement(one) => statement::sentence(one),
        Event::StatementRefused { sql, why, .. } => {
            let text = sql.text.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("REFUSED {text}: {why}")
        }
        Event::FunctionCall(call) => {
            let name = if call.name.is_empty() { call.function.to_string() } else { call.name.clone() };
            let failed = call.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            format!("function {name}, {} bytes in, {} bytes out{failed}", call.sent, call.received)
        }
        Event::Notice(notice) => notice.to_string(),
        Event::Notification { channel, payload } => format!("notification on {channel}: {payload}"),
        Event::RoleMade { role, groups } => format!("the role {role} was made, a member of {}", groups.join(", ")),
        Event::RoleEnded { role, fate } => format!("the role {role} was {fate}"),
        Event::DatabaseCancel => "the client asked for what runs to be stopped".to_owned(),
        _ => String::new(),
    }
}

/// The events that belong to one channel.
fn in_channel(event: &Event) -> Option<(u32, String)> {
    Some(match event {
        Event::ChannelOpen { channel, kind } => (*channel, format!("opened ({kind})")),
        Event::ChannelClose { channel, sent, received } => {
            (*channel, format!("closed after {sent} bytes in, {received} bytes out"))
        }
        Event::Environment { channel, name, value: Some(value), accepted: true } => {
            (*channel, format!("environment {name}={value}"))
        }
        Event::Environment { channel, name, .. } => (*channel, format!("environment {name} refused")),
        Event::Pty { channel, terminal, term, width, height } => {
            (*channel, format!("terminal {terminal}, {width}×{height} {term}"))
        }
        Event::Shell { channel } => (*channel, "shell".to_owned()),
        Event::Exec { channel, command } => (*channel, format!("exec {command}")),
        Event::Subsystem { channel, name } => (*channel, format!("subsystem {name}")),
        Event::SftpOpened { channel } => (*channel, "file transfer by SFTP".to_owned()),
        Event::File { channel, .. } => (*channel, file(event)?),
        Event::FileChange { channel, .. } => (*channel, change(event)?),
        Event::FileLooks { channel, folders, questions, failed } => {
            let (folders, questions) = (counted(*folders, "folder"), counted(*questions, "question"));
            (*channel, format!("{folders} listed, {questions} about files, {failed} failed"))
        }
        Event::Window { channel, width, height } => (*channel, format!("window {width}×{height}")),
        Event::Signal { channel, signal } => (*channel, format!("signal {signal}")),
        Event::Break { channel, length_ms } => (*channel, format!("break of {length_ms} ms")),
        Event::ExitStatus { channel, status } => (*channel, format!("exit {status}")),
        Event::ExitSignal { channel, signal, core_dumped, message } => {
            let dumped = if *core_dumped { ", core dumped" } else { "" };
            let said = if message.is_empty() { String::new() } else { format!(": {message}") };
            (*channel, format!("ended by signal {signal}{dumped}{said}"))
        }
        _ => return forwarded(event),
    })
}

/// The events of what a channel forwards.
fn forwarded(event: &Event) -> Option<(u32, String)> {
    Some(match event {
        Event::ForwardOpened { channel, kind, address, originator } => {
            let from = if originator.is_empty() { String::new() } else { format!(", from {originator}") };
            (*channel, format!("{}{from}", forward(kind, address)))
        }
        Event::ForwardClosed { channel, sent, received, lasted_ms } => {
            (*channel, format!("closed after {lasted_ms} ms, {sent} bytes in, {received} bytes out"))
        }
        Event::AgentForwarding { channel } => (*channel, "the target may use the agent".to_owned()),
        Event::X11Forwarding { channel, single, .. } => {
            let times = if *single { " once" } else { "" };
            (*channel, format!("the target may use the X11 display{times}"))
        }
        _ => return None,
    })
}

/// A file that was sent: `upload /srv/a: 312 bytes in 4 ms`.
fn file(event: &Event) -> Option<String> {
    let Event::File { path, name, direction, read, written, unconfirmed, size, took_us, result, why, .. } = event
    else {
        return None;
    };
    let mut line = match direction {
        Direction::Download => format!("download {path}"),
        Direction::Upload => format!("upload {path}"),
        Direction::Both => format!("open {path}"),
    };
    if !name.is_empty() {
        line.push_str(&format!(" ({name})"));
    }
    let bytes = match direction {
        Direction::Download => format!("{read} bytes"),
        Direction::Upload => format!("{written} bytes"),
        Direction::Both => format!("{read} bytes read, {written} written"),
    };
    line.push_str(&format!(": {bytes}"));
    if let Some(size) = size.filter(|size| *size != read + written) {
        line.push_str(&format!(" of {size}"));
    }
    if *unconfirmed > 0 {
        line.push_str(&format!(", {unconfirmed} more without an answer"));
    }
    line.push_str(&format!(" in {} ms", took_us / 1000));
    line.push_str(&failed(*result, why));
    Some(line)
}

/// Anything else that was done to a file: `rename /srv/a → /srv/b`.
fn change(event: &Event) -> Option<String> {
    let Event::FileChange { action, path, to, detail, result, why, .. } = event else { return None };
    let mut line = format!("{action} {path}");
    if !to.is_empty() {
        line.push_str(&format!(" → {to}"));
    }
    if !detail.is_empty() {
        line.push_str(&format!(" ({detail})"));
    }
    line.push_str(&failed(*result, why));
    Some(line)
}

fn failed(result: FileResult, why: &str) -> String {
    match result {
        FileResult::Ok => String::new(),
        FileResult::Failed => format!(" FAILED: {why}"),
        FileResult::CutOff => format!(" CUT OFF: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_run_and_what_was_refused() {
        let rows = [
            (Event::Exec { channel: 1, command: "uname -a".into() }, "#1 exec uname -a"),
            (Event::ExitStatus { channel: 1, status: 3 }, "#1 exit 3"),
            (
                Event::File {
                    channel: 2,
                    path: "there".into(),
                    name: "sub/a".into(),
                    direction: Direction::Upload,
                    read: 0,
                    written: 0,
                    unconfirmed: 40,
                    size: Some(312),
                    took_us: 4_200,
                    result: FileResult::CutOff,
                    why: "the channel ended before the file was closed".into(),
                },
                "#2 upload there (sub/a): 0 bytes of 312, 40 more without an answer in 4 ms CUT OFF: the channel ended \
                 before the file was closed",
            ),
            (
                Event::FileChange {
                    channel: 2,
                    action: "rename".into(),
                    path: "/a".into(),
                    to: "/b".into(),
                    detail: String::new(),
                    result: FileResult::Failed,
                    why: "no such file (2)".into(),
                },
                "#2 rename /a → /b FAILED: no such file (2)",
            ),
            (
                Event::FileLooks { channel: 2, folders: 1, questions: 5, failed: 2 },
                "#2 1 folder listed, 5 questions about files, 2 failed",
            ),
            (
                Event::Refused { channel: Some(2), what: "agent".into(), why: "no rule grants it".into() },
                "#2 REFUSED agent: no rule grants it",
            ),
            (
                Event::Gap { from_ms: 100, to_ms: 350, why: "disk full".into() },
                "GAP: nothing was recorded for 250 ms: disk full",
            ),
            (
                Event::ForwardOpened {
                    channel: 4,
                    kind: "local".into(),
                    address: "localhost:9090".into(),
                    originator: "127.0.0.1:5000".into(),
                },
                "#4 local forward to localhost:9090, from 127.0.0.1:5000",
            ),
            (
                Event::ForwardClosed { channel: 4, sent: 1, received: 2, lasted_ms: 3 },
                "#4 closed after 3 ms, 1 bytes in, 2 bytes out",
            ),
            (
                Event::ListenerOpened { kind: "remote".into(), address: "localhost:8080".into() },
                "remote forward from localhost:8080: the target listens",
            ),
            (Event::Unknown, "an event that this version does not know"),
        ];
        for (event, expected) in rows {
            assert_eq!(sentence(&event), expected);
        }
    }
}
