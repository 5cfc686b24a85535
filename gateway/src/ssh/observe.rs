//! From a message on a channel to the event that is recorded. Pure: no I/O, no clock.

use russh::{ChannelMsg, Sig};
use sallyport_recorder::Event;

use super::authorize::MAX_COMMAND;

/// The event of what a client asked for on `channel` and was allowed; `terminal` numbers the channel's terminal.
pub(super) fn asked(channel: u32, terminal: u32, message: &ChannelMsg) -> Option<Event> {
    Some(match message {
        ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
            Event::Pty { channel, terminal, term: name(term), width: cells(*col_width), height: cells(*row_height) }
        }
        ChannelMsg::RequestShell { .. } => Event::Shell { channel },
        ChannelMsg::Exec { command, .. } => Event::Exec { channel, command: text(command) },
        ChannelMsg::RequestSubsystem { name, .. } => Event::Subsystem { channel, name: name.clone() },
        ChannelMsg::SetEnv { variable_name, variable_value, .. } => Event::Environment {
            channel,
            name: variable_name.clone(),
            value: Some(variable_value.clone()),
            accepted: true,
        },
        ChannelMsg::WindowChange { col_width, row_height, .. } => {
            Event::Window { channel, width: cells(*col_width), height: cells(*row_height) }
        }
        ChannelMsg::Signal { signal } => Event::Signal { channel, signal: signal_name(signal) },
        ChannelMsg::Break { length, .. } => Event::Break { channel, length_ms: *length },
        ChannelMsg::AgentForward { .. } => Event::AgentForwarding { channel },
        ChannelMsg::RequestX11 { single_connection, x11_authentication_protocol: protocol, .. } => {
            Event::X11Forwarding { channel, single: *single_connection, protocol: name(protocol) }
        }
        _ => return None,
    })
}

/// The event of what a client asked for on `channel` and was refused.
pub(super) fn refused(channel: u32, message: &ChannelMsg, why: String) -> Event {
    let forward =
        |kind: &str, why: String| Event::ForwardRefused { kind: kind.to_owned(), address: String::new(), why };
    let what = match message {
        ChannelMsg::SetEnv { variable_name, .. } => {
            return Event::Environment { channel, name: name(variable_name), value: None, accepted: false };
        }
        ChannelMsg::AgentForward { .. } => return forward("agent", why),
        ChannelMsg::RequestX11 { .. } => return forward("x11", why),
        ChannelMsg::RequestShell { .. } => "shell".to_owned(),
        ChannelMsg::Exec { command, .. } => format!("exec {}", text(command)),
        ChannelMsg::RequestSubsystem { name: subsystem, .. } => format!("subsystem {}", name(subsystem)),
        ChannelMsg::Break { .. } => "break".to_owned(),
        ChannelMsg::Unknown { name: unknown, .. } => name(unknown),
        _ => "request".to_owned(),
    };
    Event::Refused { channel: Some(channel), what, why }
}

/// The event of what the target said on `channel` about its program's end.
pub(super) fn ended(channel: u32, message: &ChannelMsg) -> Option<Event> {
    match message {
        ChannelMsg::ExitStatus { exit_status } => Some(Event::ExitStatus { channel, status: *exit_status }),
        ChannelMsg::ExitSignal { signal_name: signal, core_dumped, error_message, .. } => Some(Event::ExitSignal {
            channel,
            signal: signal_name(signal),
            core_dumped: *core_dumped,
            message: name(error_message),
        }),
        _ => None,
    }
}

/// A name or an address that a peer chose, as it may stand in a sentence and in a recording: cut, and with nothing in it that
/// a terminal would obey.
pub(super) fn name(text: &str) -> String {
    let mut kept: String = text.chars().take(MAX_NAME).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_NAME).is_some() {
        kept.push('…');
    }
    kept
}

/// Whether a message is a request, and wants a reply.
pub(super) fn wants_reply(message: &ChannelMsg) -> Option<bool> {
    Some(match message {
        ChannelMsg::RequestPty { want_reply, .. }
        | ChannelMsg::RequestShell { want_reply }
        | ChannelMsg::Exec { want_reply, .. }
        | ChannelMsg::RequestSubsystem { want_reply, .. }
        | ChannelMsg::SetEnv { want_reply, .. }
        | ChannelMsg::AgentForward { want_reply }
        | ChannelMsg::RequestX11 { want_reply, .. }
        | ChannelMsg::Break { want_reply, .. }
        | ChannelMsg::Unknown { want_reply, .. } => *want_reply,
        ChannelMsg::Signal { .. } | ChannelMsg::WindowChange { .. } => false,
        _ => return None,
    })
}

/// Columns or rows; RFC 4254 gives them 32 bits, terminals use 16.
pub(super) fn cells(count: u32) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// A command line as text. One that is longer than what is passed on is a refused one, and cut.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_COMMAND).unwrap_or(bytes)).into_owned()
}

fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(custom) => name(custom),
        known => format!("{known:?}"),
    }
}

/// Longest name or address that is kept, in characters: the path of a socket fits.
const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_variable_is_recorded_without_its_value() {
        let message =
            ChannelMsg::SetEnv { want_reply: false, variable_name: "TOKEN".into(), variable_value: "secret".into() };
        let event = refused(3, &message, "no".into());
        assert_eq!(event, Event::Environment { channel: 3, name: "TOKEN".into(), value: None, accepted: false });
    }

    /// JSON makes six characters of one, and a recorder takes events of two megabytes.
    #[test]
    fn names_are_kept_as_far_as_they_can_be_read() {
        let long = "\u{1}".repeat(256 * 1024);
        let (term, subsystem, terminal_modes) = (long.clone(), long.clone(), Vec::new());
        let pty = ChannelMsg::RequestPty {
            want_reply: true,
            term,
            col_width: 80,
            row_height: 24,
            pix_width: 0,
            pix_height: 0,
            terminal_modes,
        };
        let signal = ChannelMsg::Signal { signal: Sig::Custom(long.clone()) };
        let failed = ChannelMsg::ExitSignal {
            signal_name: Sig::Custom(long.clone()),
            core_dumped: false,
            error_message: long.clone(),
            lang_tag: String::new(),
        };
        let variable = ChannelMsg::SetEnv { want_reply: false, variable_name: long, variable_value: String::new() };
        let subsystem = ChannelMsg::RequestSubsystem { want_reply: true, name: subsystem };
        for event in [
            asked(0, 0, &pty).unwrap(),
            asked(0, 0, &signal).unwrap(),
            ended(0, &failed).unwrap(),
            refused(0, &variable, String::new()),
            refused(0, &subsystem, String::new()),
        ] {
            let size = serde_json::to_vec(&event).unwrap().len();
            assert!(size < 8 * 1024, "{size} bytes of {:.60}", format!("{event:?}"));
        }
    }

    #[test]
    fn signals_are_named_without_sig() {
        assert_eq!(signal_name(&Sig::TERM), "TERM");
        assert_eq!(signal_name(&Sig::Custom("WINCH".into())), "WINCH");
    }
}
