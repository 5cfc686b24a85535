//! The `sallyport` command: what its words are, where its commands find things, and how they end.
//!
//! Each command has a file with an `Args` and a `run`. A command that changes the state does so itself, in the database,
//! and then has a running gateway look again; it works as well without one. Results go to standard output, everything
//! else to standard error, both through [`Out`].

mod caller;
mod demo;
mod device;
mod doctor;
mod expiry;
mod export;
mod flows;
mod init;
mod ls;
mod out;
mod policy;
mod proxy;
mod recordings;
mod replay;
mod scan;
mod search;
mod sessions;
mod shell;
mod target;
mod up;
mod verify;
mod watch;
mod which;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

pub use out::Out;

use crate::admin;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, DEFAULT_FILE, NameError};
use crate::state::{State, StateError};
use shell::ShellError;

/// A gateway that brokers and records SSH and Postgres over WireGuard.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version, after_help = ENDINGS, max_term_width = 100)]
pub struct Cli {
    /// The configuration [default: $SALLYPORT_CONFIG, or sallyport.toml if there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Where things are")]
    config: Option<PathBuf>,

    /// The state folder, in place of the configured one [default: $SALLYPORT_STATE]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Where things are")]
    state: Option<PathBuf>,

    #[command(subcommand)]
    words: Words,
}

#[derive(Debug, Subcommand)]
enum Words {
    #[command(flatten)]
    Command(Command),
    /// Run a command, or your shell, inside the tailnet: a caller's side without root
    Shell(shell::Args),
    /// Join standard input and output to a port inside the tailnet, as ssh's ProxyCommand
    Proxy(proxy::Args),
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin: write sallyport.toml, a policy, and the gateway's keys
    Init(init::Args),
    /// Run the gateway
    Up(up::Args),
    /// See the whole story on this machine, in a minute and without root
    Demo(demo::Args),
    /// Check, test and explain the policy
    #[command(subcommand)]
    Policy(policy::Command),
    /// Enrol devices, list and remove them
    #[command(subcommand)]
    Device(device::Command),
    /// Register targets, list and remove them
    #[command(subcommand)]
    Target(target::Command),
    /// List targets, and print what ends host-key questions
    Ls(ls::Args),
    /// List sessions, show one, watch it live, or end it
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Play a session
    Replay(replay::Args),
    /// Find text in all recordings, as it stood on screens
    Search(search::Args),
    /// Write a session as an asciicast, as text, as SQL, or as JSON lines
    Export(export::Args),
    /// Prove a recording, or say which byte of it is wrong
    Verify(verify::Args),
    /// Say what is wrong here, and what to do about it
    Doctor(doctor::Args),
    /// List connections on the tailnet, allowed or not
    #[command(subcommand)]
    Flows(flows::Command),
}

/// How a command ended, when it did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Yes, or done.
    Yes,
    /// No: denied, not valid, not there.
    No,
}

/// What was given to a command makes no sense; the sentence says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Where a command finds things.
#[derive(Clone, Debug)]
pub struct Site {
    /// The configuration file, if one was named.
    pub config: Option<PathBuf>,
    /// The state folder, if one was named.
    pub state: Option<PathBuf>,
    /// The time.
    pub clock: Clock,
}

/// Runs the command line that this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help is asked for and goes to standard output; a mistake goes to standard error.
            let told = message.print();
            return ExitCode::from(if told.is_ok() && !message.use_stderr() { 0 } else { BAD_INPUT });
        }
    };
    let mut out = Out::of_process();
    match cli.run(&mut out) {
        Ok(Ended::Yes) => ExitCode::SUCCESS,
        Ok(Ended::No) => ExitCode::from(NO),
        // Whoever read the output has had enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone as well.
            let _ = out.note(&format!("sallyport: {error:#}"));
            ExitCode::from(code(&error))
        }
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// When it could not do what it was asked.
    pub fn run(self, out: &mut Out) -> anyhow::Result<Ended> {
        // These two move this process into a namespace, which only a process with a single thread can do.
        let command = match self.words {
            Words::Shell(args) => match shell::run(args, self.config)? {},
            Words::Proxy(args) => return proxy::run(&args, self.config).map(|()| Ended::Yes),
            Words::Command(command) => command,
        };
        let from_environment = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let site = Site {
            config: self.config.or_else(|| from_environment("SALLYPORT_CONFIG")),
            state: self.state.or_else(|| from_environment("SALLYPORT_STATE")),
            clock: Clock::system(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(command.run(&site, out))
    }
}

impl Command {
    async fn run(self, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
        match self {
            Self::Init(args) => init::run(args, site, out).await,
            Self::Up(args) => up::run(args, site).await,
            Self::Demo(demo::Args {}) => demo::run(out).await,
            Self::Policy(command) => policy::run(command, site, out).await,
            Self::Device(command) => device::run(command, site, out).await,
            Self::Target(command) => target::run(command, site, out).await,
            Self::Ls(args) => ls::run(args, site, out).await,
            Self::Sessions(command) => sessions::run(command, site, out).await,
            Self::Replay(args) => replay::run(&args, site, out),
            Self::Search(args) => search::run(&args, site, out),
            Self::Export(args) => export::run(&args, site, out),
            Self::Verify(args) => verify::run(args, site, out).await,
            Self::Doctor(args) => doctor::run(args, site, out).await,
            Self::Flows(command) => flows::run(command, site, out).await,
        }
    }
}

impl Site {
    /// Reads the configuration; without a file, everything has its default.
    ///
    /// # Errors
    /// When the file was named and is not there, or anything in it is wrong.
    pub fn config(&self) -> Result<Config, ConfigError> {
        match &self.config {
            Some(path) => Config::load(path, self.state.as_deref()),
            None if Path::new(DEFAULT_FILE).exists() => Config::load(Path::new(DEFAULT_FILE), self.state.as_deref()),
            None => Config::defaults(self.state.as_deref()),
        }
    }

    /// Reads the configuration and opens the state, which is made if there is none: for commands that change it.
    ///
    /// # Errors
    /// When either is wrong.
    pub async fn open(&self) -> anyhow::Result<(Config, State)> {
        let config = self.config()?;
        let state = State::open(&config).await?;
        Ok((config, state))
    }

    /// Reads the configuration and opens the state that is there: for commands that only ask.
    ///
    /// # Errors
    /// When either is wrong, or there is no state.
    pub async fn find(&self) -> anyhow::Result<(Config, State)> {
        let config = self.config()?;
        let state = State::find(&config).await?;
        Ok((config, state))
    }
}

/// Has a running gateway look at what changed, and passes on what it says.
async fn announce(config: &Config, out: &mut Out) -> anyhow::Result<()> {
    let applied =
        admin::tell_changed(&config.state.folder).await.context("the change is kept, but not in force yet")?;
    let Some(applied) = applied else { return Ok(()) };
    for problem in &applied.problems {
        out.note(problem)?;
    }
    match applied.ended_sessions {
        0 => Ok(()),
        1 => out.note("one session was ended by it"),
        count => out.note(&format!("{count} sessions were ended by it")),
    }
}

/// The exit code of an error: whether what was given made no sense, or what was asked could not be done.
fn code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ShellError>() {
        return error.code();
    }
    let refused = matches!(error.downcast_ref(), Some(StateError::Refused(_)));
    let wrong = error.is::<BadInput>() || error.is::<ConfigError>() || error.is::<NameError>();
    if refused || wrong { BAD_INPUT } else { COULD_NOT }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

const ENDINGS: &str = "\
Exit codes: 0 yes, or done · 1 no: denied, not valid · 2 a mistake in the command line or a file · 3 it could not be done

Begin with `sallyport init`.";

const NO: u8 = 1;
const BAD_INPUT: u8 = 2;
const COULD_NOT: u8 = 3;

#[cfg(test)]
mod tests;
