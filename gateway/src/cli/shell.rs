//! `sallyport shell`: a command, or the person's own shell, inside the tailnet.
//!
//! This process becomes the command. So job control, signals and the exit status are the command's own, and there is
//! nobody in between to get them wrong.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use sallyport_tailnet::caller::CallerError;

use super::caller::{join, person};

/// What `shell` is given.
#[derive(Debug, clap::Args)]
#[command(after_help = ENDINGS)]
pub(super) struct Args {
    /// What to run [default: $SHELL]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Why there is no command.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// The tunnel cannot be had.
    #[error(transparent)]
    Tunnel(#[from] CallerError),
    /// The command cannot be run.
    #[error("cannot run {}", program.display())]
    Command {
        /// Its name.
        program: OsString,
        /// Why not.
        source: io::Error,
    },
}

impl ShellError {
    /// The exit code, as of env(1) and its like.
    #[must_use]
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Tunnel(_) => 125,
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Command { .. } => 126,
        }
    }
}

/// Becomes the command. Call it while the process has a single thread.
///
/// # Errors
/// When there is no tunnel, or no such command.
pub(super) fn run(args: Args, file: Option<PathBuf>) -> Result<Infallible, ShellError> {
    join(file)?.enter()?;
    let mut words = args.command.into_iter();
    let program = words.next().unwrap_or_else(own_shell);
    let source = Command::new(&program).args(words).exec();
    Err(ShellError::Command { program, source })
}

fn own_shell() -> OsString {
    let said = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    said.or_else(|| person().map(|user| user.shell.into_os_string())).unwrap_or_else(|| "/bin/sh".into())
}

const ENDINGS: &str = "\
The device's file is --config, $SALLYPORT_DEVICE or ~/.config/sallyport/device.conf.
Inside, you reach the tailnet and nothing else, as yourself; programs like sudo do not work there.
Exit codes: the command's own · 125 no tunnel · 126 the command cannot be run · 127 there is no such command";
