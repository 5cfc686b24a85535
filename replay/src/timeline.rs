//! Events as sentences.

use sallyport_recorder::Event;

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
        Event::Rekey { leg } => format!("new keys with the {leg}"),
        Event::End { outcome, reason } => format!("end: {}, {reason}", outcome.as_str()),
        Event::Refused { channel, what, why } => match channel {
            Some(channel) => format!("#{channel} REFUSED {what}: {why}"),
            None => format!("REFUSED {what}: {why}"),
        },
        Event::ForwardRefused { kind, address, why } => format!("REFUSED {kind} forward of {address}: {why}"),
        _ => in_channel(event).map_or_else(
            || "an event that this version does not know".to_owned(),
            |(channel, text)| format!("#{channel} {text}"),
        ),
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
        Event::Window { channel, width, height } => (*channel, format!("window {width}×{height}")),
        Event::Signal { channel, signal } => (*channel, format!("signal {signal}")),
        Event::ExitStatus { channel, status } => (*channel, format!("exit {status}")),
        Event::ExitSignal { channel, signal, core_dumped, message } => {
            let dumped = if *core_dumped { ", core dumped" } else { "" };
            let said = if message.is_empty() { String::new() } else { format!(": {message}") };
            (*channel, format!("ended by signal {signal}{dumped}{said}"))
        }
        _ => return None,
    })
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
                Event::Refused { channel: Some(2), what: "agent".into(), why: "no rule grants it".into() },
                "#2 REFUSED agent: no rule grants it",
            ),
            (
                Event::Gap { from_ms: 100, to_ms: 350, why: "disk full".into() },
                "GAP: nothing was recorded for 250 ms: disk full",
            ),
            (Event::Unknown, "an event that this version does not know"),
        ];
        for (event, expected) in rows {
            assert_eq!(sentence(&event), expected);
        }
    }
}
