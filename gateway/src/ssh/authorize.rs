//! What a caller may do on a channel: the one place where a [`ChannelPermit`] is made. Every kind of request asks it.

use sallyport_policies::{ExecRule, wildcard_matches};

use super::files::ScpCommand;
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
    /// scp's far end: files one way, whether or not commands may be run.
    Scp(&'a ScpCommand),
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
    let missing = |what: &str| format!("{what}{}", missing(permit));
    let files = FileRule::of(permit);
    let allowed = match request {
        Request::Pty | Request::Signal | Request::Window => Ok(()),
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
