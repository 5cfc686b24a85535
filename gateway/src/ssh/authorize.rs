//! What a caller may do on a channel: the one place where a [`ChannelPermit`] is made. Every kind of request asks it.

use sallyport_policies::{ExecRule, wildcard_matches};

use crate::access::SshPermit;

/// Leave to pass on the one request that it was made for.
#[derive(Debug)]
#[must_use]
pub(super) struct ChannelPermit(());

/// What a client asks for on a channel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// A pseudo-terminal; it shows nothing by itself.
    Pty,
    /// A login shell.
    Shell,
    /// A command line.
    Exec(&'a [u8]),
    /// A subsystem, by name.
    Subsystem(&'a str),
    /// An environment variable, with its size and how many came before it.
    Environment { name: &'a str, size: usize, before: usize },
    /// A signal to the program that runs.
    Signal,
    /// A new size of the window.
    Window,
    /// Forwarding of the agent or of X11.
    Forward(Forward),
    /// Something that we do not know.
    Unknown(&'a str),
}

/// The kinds of forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forward {
    /// `ssh -L`, `-D`, `-J` and `-W`.
    Local,
    /// `ssh -R`.
    Remote,
    /// The same with Unix sockets.
    StreamLocal,
    /// `ssh -A`.
    Agent,
    /// `ssh -X` and `-Y`.
    X11,
}

impl Forward {
    /// Its name in the recording.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::StreamLocal => "stream-local",
            Self::Agent => "agent",
            Self::X11 => "x11",
        }
    }
}

/// Why a forward is refused: none is passed on in this version.
pub(super) fn forward(forward: Forward, target: &str) -> String {
    let what = match forward {
        Forward::Local => "local forwarding",
        Forward::Remote => "remote forwarding",
        Forward::StreamLocal => "forwarding of Unix sockets",
        Forward::Agent => "agent forwarding",
        Forward::X11 => "X11 forwarding",
    };
    format!("{what} to {target} is not passed on by this gateway")
}

/// Decides whether `permit` covers `request`.
///
/// # Errors
/// Why not, as a sentence for the caller.
pub(super) fn authorize(permit: &SshPermit, request: Request<'_>) -> Result<ChannelPermit, String> {
    let capability = permit.capability();
    let target = &permit.target().name;
    let account = permit.account();
    let missing =
        |what: &str| format!("{what} on {target} as {account} is not allowed: {} does not give it", permit.rule());
    let files = capability.sftp.download && capability.sftp.upload;
    let allowed = match request {
        Request::Pty | Request::Signal | Request::Window => Ok(()),
        Request::Shell => capability.shell.then_some(()).ok_or_else(|| missing("a shell")),
        Request::Exec(command) if command.len() > MAX_COMMAND => {
            Err(format!("a command of more than {MAX_COMMAND} bytes is not passed on: it could not be recorded whole"))
        }
        Request::Exec(command) if is_scp(command) && !files => Err(missing("scp in both directions")),
        Request::Exec(command) => match (&capability.exec, std::str::from_utf8(command)) {
            (ExecRule::Any, _) => Ok(()),
            (rule, Ok(text)) if rule.allows(text) => Ok(()),
            _ => Err(missing("this command")),
        },
        Request::Subsystem(SFTP) => files.then_some(()).ok_or_else(|| missing("sftp in both directions")),
        Request::Subsystem(name) => {
            let listed = capability.subsystems.iter().any(|one| one == name);
            listed.then_some(()).ok_or_else(|| missing(&format!("the subsystem {name:?}")))
        }
        Request::Environment { name, size, before } => {
            let fits = size <= MAX_VARIABLE && before < MAX_VARIABLES;
            let named = || permit.accept_env().iter().any(|pattern| wildcard_matches(pattern, name));
            (fits && named()).then_some(()).ok_or_else(|| missing(&format!("the environment variable {name:?}")))
        }
        Request::Forward(kind) => Err(forward(kind, target)),
        Request::Unknown(name) => Err(format!("the request {name:?} is not known to this gateway")),
    };
    allowed.map(ChannelPermit)
}

/// Whether a command line is scp's own other end (`scp -t`, `scp -f`).
fn is_scp(command: &[u8]) -> bool {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let program = words.next().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
    let far_end = |word: &[u8]| word.starts_with(b"-") && word.iter().any(|flag| matches!(flag, b't' | b'f'));
    program == Some(b"scp") && words.take_while(|word| word.starts_with(b"-")).any(far_end)
}

/// The subsystem of file transfer (draft-ietf-secsh-filexfer).
pub(super) const SFTP: &str = "sftp";
/// Longest command line that is passed on, in bytes; the whole of it is recorded.
pub(super) const MAX_COMMAND: usize = 64 * 1024;
/// Longest environment variable, name and value together, in bytes.
const MAX_VARIABLE: usize = 32 * 1024;
/// Environment variables of one channel; OpenSSH's sshd takes 1,024, its client sends a handful.
const MAX_VARIABLES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_scp_by_its_far_end() {
        for (command, scp) in [
            ("scp -t /tmp", true),
            ("/usr/bin/scp -v -r -f file", true),
            ("scp -pt -- x", true),
            ("scp a b:c", false),
            ("echo scp -t", false),
            ("", false),
        ] {
            assert_eq!(is_scp(command.as_bytes()), scp, "{command}");
        }
    }
}
