//! What a caller may do on an SSH connection: the one place where a [`ChannelPermit`] is made. Every request on a channel,
//! every channel that either end opens and every request about the whole connection asks it; without a permit nothing is
//! passed on and nothing opens.

mod kind;
#[cfg(test)]
mod matrix;

use sallyport_policies::{Endpoint, ExecRule, SshCapability, wildcard_matches};

use super::files::ScpCommand;
use super::observe;
use crate::access::SshPermit;

pub use kind::{Kind, Scope};

/// Leave to pass on the one request, or to open the one channel, that it was made for.
#[derive(Debug)]
#[must_use]
pub(super) struct ChannelPermit(());

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// A pseudo-terminal; it shows nothing by itself.
    Pty,
    /// A login shell.
    Shell,
    /// A command line.
    Exec(&'a [u8]),
    /// scp's far end: files one way, whether or not commands may be run.
    Scp(&'a ScpCommand),
    /// A subsystem, by name.
    Subsystem(&'a str),
    /// An environment variable, with its size and how many came before it.
    Environment { name: &'a str, size: usize, before: usize },
    /// A signal to the program that runs.
    Signal,
    /// A break on the line of its terminal (RFC 4335).
    Break,
    /// A new size of the window.
    Window,
    /// `ssh -A`: the target may open channels to the caller's agent.
    AgentForwarding,
    /// `ssh -X` and `-Y`: the target may open channels to the caller's display.
    X11Forwarding,
    /// A channel for a program; what runs there is asked for on it.
    Session,
    /// A channel from the client to what the target dials: `ssh -L`, `-D`, `-W` and `-J`.
    Dial(Endpoint<'a>),
    /// A channel from the client to another target of this gateway, which the gateway itself answers.
    Jump,
    /// That the target listens: `ssh -R`.
    Listen(Endpoint<'a>),
    /// That the target listens no longer; whether this connection had asked it to listen there.
    Unlisten { listening: bool },
    /// A channel from the target, for a connection to where it listens; where this connection had asked it to.
    Forwarded { at: Option<Endpoint<'a>> },
    /// A channel from the target to the caller's agent; whether agent forwarding was asked for and passed on.
    AgentChannel { forwarding: bool },
    /// A channel from the target to the caller's display; the same.
    X11Channel { forwarding: bool },
    /// Something that we do not know, or that this end has no business to ask for.
    Unknown(Kind, &'a str),
}

/// The kinds of forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forward {
    /// `ssh -L`, `-D`, `-J` and `-W`.
    Local,
    /// `ssh -R`.
    Remote,
    /// `ssh -L` to a Unix socket.
    StreamLocal,
    /// `ssh -R` of a Unix socket.
    RemoteStreamLocal,
    /// `ssh -J` and `-W` to another target of the gateway.
    Jump,
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
            Self::RemoteStreamLocal => "remote-stream-local",
            Self::Jump => "jump",
            Self::Agent => "agent",
            Self::X11 => "x11",
        }
    }

    /// Of a listener at `at`.
    pub(super) fn listening(at: Endpoint<'_>) -> Self {
        match at {
            Endpoint::Tcp { .. } => Self::Remote,
            Endpoint::Unix { .. } => Self::RemoteStreamLocal,
        }
    }
}

/// What a request does with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileUse {
    /// It looks at names and attributes, or ends something.
    Look,
    /// It brings a file's content to the caller.
    Download,
    /// It changes what is on the target.
    Upload,
    /// It does, or may do, both.
    Both,
}

/// What a permit gives on a channel that carries files, for each of its requests to be held against.
#[derive(Debug, Clone)]
pub(super) struct FileRule {
    download: bool,
    upload: bool,
    place: String,
}

impl FileRule {
    /// The files of a permit.
    pub(super) fn of(permit: &SshPermit) -> Self {
        let sftp = permit.capability().sftp;
        Self { download: sftp.download, upload: sftp.upload, place: missing(permit) }
    }

    /// Decides whether files may be used in this way.
    ///
    /// # Errors
    /// Why not, as a sentence for the caller.
    pub(super) fn judge(&self, usage: FileUse) -> Result<(), String> {
        let what = match usage {
            FileUse::Look if self.download || self.upload => return Ok(()),
            FileUse::Look => "file transfer",
            FileUse::Download | FileUse::Both if !self.download => "downloading files",
            FileUse::Upload | FileUse::Both if !self.upload => "uploading or changing files",
            FileUse::Download | FileUse::Upload | FileUse::Both => return Ok(()),
        };
        Err(format!("{what}{}", self.place))
    }

    /// Decides whether it gives all that `held` gave.
    ///
    /// # Errors
    /// What it does not, as a sentence for the caller.
    pub(super) fn judge_all_of(&self, held: &Self) -> Result<(), String> {
        let uses = [(FileUse::Look, true), (FileUse::Download, held.download), (FileUse::Upload, held.upload)];
        uses.into_iter().filter(|(_, given)| *given).try_for_each(|(usage, _)| self.judge(usage))
    }
}

/// Decides whether `permit` covers `request`.
///
/// # Errors
/// Why not, as a sentence for the caller.
pub(super) fn authorize(permit: &SshPermit, request: Request<'_>) -> Result<ChannelPermit, String> {
    let place = missing(permit);
    let given = Given { capability: permit.capability(), accept_env: permit.accept_env(), place };
    judge(&given, request).map(ChannelPermit)
}

/// What a permit gives, for a request to be held against.
struct Given<'a> {
    capability: &'a SshCapability,
    accept_env: &'a [String],
    /// The end of a sentence about what is not given.
    place: String,
}

/// The decision itself.
fn judge(given: &Given<'_>, request: Request<'_>) -> Result<(), String> {
    let Given { capability, accept_env, place } = given;
    let missing = |what: &str| format!("{what}{place}");
    let files = FileRule { download: capability.sftp.download, upload: capability.sftp.upload, place: place.clone() };
    match request {
        Request::Pty | Request::Signal | Request::Break | Request::Window => Ok(()),
        Request::Shell => capability.shell.then_some(()).ok_or_else(|| missing("a shell")),
        Request::Exec(command) if command.len() > MAX_COMMAND => {
            Err(format!("a command of more than {MAX_COMMAND} bytes is not passed on: it could not be recorded whole"))
        }
        Request::Scp(command) => files.judge(if command.uploads() { FileUse::Upload } else { FileUse::Download }),
        Request::Exec(command) => match (&capability.exec, std::str::from_utf8(command)) {
            (ExecRule::Any, _) => Ok(()),
            (rule, Ok(text)) if rule.allows(text) => Ok(()),
            _ => Err(missing("this command")),
        },
        // Each of its requests is judged again.
        Request::Subsystem(SFTP) => files.judge(FileUse::Look),
        Request::Subsystem(name) => {
            let listed = capability.subsystems.iter().any(|one| one == name);
            listed.then_some(()).ok_or_else(|| missing(&format!("the subsystem \"{}\"", observe::name(name))))
        }
        Request::Environment { name, size, before } => {
            let fits = size <= MAX_VARIABLE && before < MAX_VARIABLES;
            let named = || accept_env.iter().any(|pattern| wildcard_matches(pattern, name));
            (fits && named())
                .then_some(())
                .ok_or_else(|| missing(&format!("the environment variable \"{}\"", observe::name(name))))
        }
        Request::AgentForwarding => capability.agent.then_some(()).ok_or_else(|| missing("agent forwarding")),
        Request::X11Forwarding => capability.x11.then_some(()).ok_or_else(|| missing("X11 forwarding")),
        // A channel alone runs nothing, and where a caller jumps to, that target's own permits decide.
        Request::Session | Request::Jump => Ok(()),
        Request::Dial(to) => {
            capability.may_dial(to).then_some(()).ok_or_else(|| missing(&format!("local forwarding to {}", shown(to))))
        }
        Request::Listen(at) | Request::Forwarded { at: Some(at) } => capability
            .may_listen(at)
            .then_some(())
            .ok_or_else(|| missing(&format!("remote forwarding from {}", shown(at)))),
        Request::Unlisten { listening: true } => Ok(()),
        Request::Unlisten { listening: false } | Request::Forwarded { at: None } => {
            Err("this session asked for no such forward".to_owned())
        }
        Request::AgentChannel { forwarding } => (capability.agent && forwarding)
            .then_some(())
            .ok_or_else(|| "this session did not forward an agent".to_owned()),
        Request::X11Channel { forwarding } => {
            (capability.x11 && forwarding).then_some(()).ok_or_else(|| "this session did not forward X11".to_owned())
        }
        Request::Unknown(kind, name) => {
            Err(format!("{} {:?} is not known to this gateway", kind.scope(), observe::name(name)))
        }
    }
}

/// An endpoint that a peer named, in a sentence.
fn shown(endpoint: Endpoint<'_>) -> String {
    observe::name(&endpoint.to_string())
}

/// The end of a sentence about something that a permit does not give.
fn missing(permit: &SshPermit) -> String {
    format!(" on {} as {} is not allowed: {} does not give it", permit.target().name, permit.account(), permit.rule())
}

/// The subsystem of file transfer (draft-ietf-secsh-filexfer).
pub(super) const SFTP: &str = "sftp";
/// Longest command line that is passed on, in bytes; the whole of it is recorded.
pub(super) const MAX_COMMAND: usize = 64 * 1024;
/// Longest environment variable, name and value together, in bytes.
const MAX_VARIABLE: usize = 32 * 1024;
/// Environment variables of one channel; OpenSSH's sshd takes 1,024, its client sends a handful.
const MAX_VARIABLES: usize = 128;

#[cfg(any(test, fuzzing))]
impl FileRule {
    /// A rule for tests of what is held against it.
    pub(super) fn giving(download: bool, upload: bool) -> Self {
        Self { download, upload, place: " is not allowed".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_and_downloads_are_allowed_apart() {
        use FileUse::{Both, Download, Look, Upload};
        for (download, upload, allowed) in [
            (false, false, &[][..]),
            (true, false, &[Look, Download][..]),
            (false, true, &[Look, Upload][..]),
            (true, true, &[Look, Download, Upload, Both][..]),
        ] {
            for usage in [Look, Download, Upload, Both] {
                let judged = FileRule::giving(download, upload).judge(usage);
                assert_eq!(judged.is_ok(), allowed.contains(&usage), "{download} {upload} {usage:?}");
            }
        }
    }
}
