//! What a caller may do inside an SSH session: the capability `sallyport.dev/cap/ssh`.
//!
//! It stands in the `app` of a grant, and a value lists what is allowed; a key that is missing denies.
//! ```jsonc
//! "app": { "sallyport.dev/cap/ssh": [{
//!   "shell": {},                                          // an interactive shell
//!   "exec": { "commands": ["uptime", "git-upload-pack *"] }, // these commands; {} is any
//!   "sftp": { "download": true, "upload": false },
//!   "subsystems": ["netconf"],
//!   "localForward": ["localhost:9090", "*.internal:443"], // ssh -L, -D, -W: host:port as the target dials it,
//!                                                         // or the path of a Unix socket there: "/run/app/*.sock"
//!   "remoteForward": ["localhost:*"],                     // ssh -R, by host:port or path as the target binds it
//!   "agent": {}, "x11": {},
//!   "env": ["TZ", "LC_*"],                                // besides the acceptEnv of the ssh rule
//!   "maxDuration": "8h", "idleTimeout": "30m",
//!   "recording": "bestEffort",                            // "required", "bestEffort" or "off"
//!   "accounts": ["ubuntu"],                               // only when logged in as one of these
//! }] }
//! ```

use std::time::Duration;

use crate::postgres::stricter;
use crate::{Endpoint, pattern};

/// What one SSH session may do. Capabilities that apply together add up, while limits stay with the strictest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshCapability {
    /// An interactive shell.
    pub shell: bool,
    /// Commands.
    pub exec: ExecRule,
    /// File transfer.
    pub sftp: SftpRule,
    /// Other subsystems, by name.
    pub subsystems: Vec<String>,
    /// `host:port`, or the paths of sockets, that the client may have dialled from the target (`ssh -L`); `*` stands for
    /// any.
    pub local_forward: Vec<String>,
    /// `host:port`, or the paths of sockets, that the client may have bound on the target (`ssh -R`); `*` stands for any.
    pub remote_forward: Vec<String>,
    /// Forwarding of the client's authentication agent.
    pub agent: bool,
    /// Forwarding of the client's X11 display.
    pub x11: bool,
    /// Names of environment variables, besides those of the `ssh` rule; `*` and `?` are wildcards.
    pub env: Vec<String>,
    /// The longest that a session may last.
    pub max_duration: Option<Duration>,
    /// The longest that a session may stay silent.
    pub idle_timeout: Option<Duration>,
}

impl Default for SshCapability {
    /// What an `ssh` rule gives by itself: shell, commands and file transfer; no forwarding of any kind.
    fn default() -> Self {
        SshCapability {
            shell: true,
            exec: ExecRule::Any,
            sftp: SftpRule { download: true, upload: true },
            ..SshCapability::nothing()
        }
    }
}

impl SshCapability {
    /// No right at all: where capabilities begin to add up.
    pub(crate) fn nothing() -> Self {
        SshCapability {
            shell: false,
            exec: ExecRule::None,
            sftp: SftpRule { download: false, upload: false },
            subsystems: Vec::new(),
            local_forward: Vec::new(),
            remote_forward: Vec::new(),
            agent: false,
            x11: false,
            env: Vec::new(),
            max_duration: None,
            idle_timeout: None,
        }
    }

    /// Adds another capability's rights, and keeps the stricter of the limits.
    pub(crate) fn add(&mut self, other: &SshCapability) {
        self.shell |= other.shell;
        self.exec.add(&other.exec);
        self.sftp.download |= other.sftp.download;
        self.sftp.upload |= other.sftp.upload;
        self.subsystems.extend_from_slice(&other.subsystems);
        self.local_forward.extend_from_slice(&other.local_forward);
        self.remote_forward.extend_from_slice(&other.remote_forward);
        self.agent |= other.agent;
        self.x11 |= other.x11;
        self.env.extend_from_slice(&other.env);
        self.max_duration = stricter(self.max_duration, other.max_duration);
        self.idle_timeout = stricter(self.idle_timeout, other.idle_timeout);
    }

    /// Whether the client may have `to` dialled from the target.
    pub fn may_dial(&self, to: Endpoint<'_>) -> bool {
        to.is_among(&self.local_forward)
    }

    /// Whether the client may have the target listen at `at`.
    pub fn may_listen(&self, at: Endpoint<'_>) -> bool {
        at.is_among(&self.remote_forward)
    }
}

/// Which commands may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecRule {
    /// None.
    None,
    /// Any.
    Any,
    /// Those that one of the patterns covers from end to end.
    Patterns(Vec<String>),
}

impl ExecRule {
    /// Whether this command line may be run. In a pattern, `*` and `?` stand for anything but the characters with which
    /// a shell begins another command.
    pub fn allows(&self, command: &str) -> bool {
        match self {
            ExecRule::None => false,
            ExecRule::Any => true,
            ExecRule::Patterns(patterns) => patterns.iter().any(|one| pattern::matches_command(one, command)),
        }
    }

    fn add(&mut self, other: &ExecRule) {
        match (&mut *self, other) {
            (ExecRule::Any, _) | (_, ExecRule::None) => {}
            (ExecRule::Patterns(mine), ExecRule::Patterns(theirs)) => mine.extend_from_slice(theirs),
            (_, more) => *self = more.clone(),
        }
    }
}

/// Which way files may go by SFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SftpRule {
    /// From the target to the caller.
    pub download: bool,
    /// From the caller to the target; renaming, removing and creating folders too.
    pub upload: bool,
}
