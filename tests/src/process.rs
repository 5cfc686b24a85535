//! Processes that end with their owner, commands with a deadline, and waiting for a condition.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running program; killed and reaped when dropped. What it prints goes to a log file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log`, which is added to.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let file = File::options().append(true).create(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Everything printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal; a process that has ended already is left alone.
    pub fn signal(&self, signal: Signal) {
        let _ended_already = kill(Pid::from_raw(self.id()), signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end after a signal was sent.
    pub fn wait(&mut self) {
        wait_until("a process ends", || !self.is_running());
    }

    /// Resident memory in kB, that of its children not included.
    ///
    /// # Panics
    /// When the process has ended.
    #[must_use]
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a live process has a VmRSS");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU seconds that it has used so far, its children not included.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("── {} ──\n{}", self.log.display(), self.printed());
        }
    }
}

/// A running command that a test talks with, line by line; killed when dropped.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Talk {
    /// Starts the command; what it prints, errors included, is gathered from now on.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        gather(child.stdout.take().unwrap(), Arc::clone(&heard));
        gather(child.stderr.take().unwrap(), Arc::clone(&heard));
        Self { stdin: child.stdin.take(), child, heard }
    }

    /// Sends a line.
    ///
    /// # Panics
    /// When the command reads no more.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open until the end");
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits until `text` was printed.
    ///
    /// # Panics
    /// When it was not within [`PATIENCE`].
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let started = Instant::now();
        while !self.heard().contains(text) {
            assert!(started.elapsed() < PATIENCE, "{text:?} was not printed; this was: {}", self.heard());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything printed so far.
    ///
    /// # Panics
    /// Never in practice: nothing panics while it holds the lock.
    #[must_use]
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Closes its standard input, waits for the end, and gives the exit code.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        drop(self.stdin.take());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < PATIENCE, "the command does not end; it printed: {}", self.heard());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// User and system time of a process in seconds (proc(5): fields 14 and 15 of `stat`, in ticks of 10 ms).
pub(crate) fn cpu_seconds(id: &str) -> f64 {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok());
    f64::from(ticks.sum::<u32>()) / 100.0
}

fn gather(mut from: impl std::io::Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; 128 and the signal's number after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as text, of a command that must have succeeded.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self.text()
    }

    /// Output and error together, of a command that must have failed.
    ///
    /// # Panics
    /// When the exit code is 0.
    #[must_use]
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self.text() + &self.stderr
    }
}

/// Runs `command` to its end with `input` on standard input.
///
/// # Panics
/// When it cannot be started or takes longer than [`DEADLINE`].
#[must_use]
#[track_caller]
pub fn run(mut command: Command, input: &[u8]) -> Finished {
    let started = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdin, mut stdout, mut stderr) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let input = input.to_vec();
    std::thread::spawn(move || stdin.write_all(&input));
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > DEADLINE {
            let _ended_already = child.kill();
            let errors = String::from_utf8_lossy(&errors.join().unwrap().unwrap()).into_owned();
            panic!("{command:?} did not end within {DEADLINE:?}: {errors}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let took = started.elapsed();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Finished {
        code: status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default()),
        stdout: output.join().unwrap().unwrap(),
        stderr: String::from_utf8_lossy(&errors.join().unwrap().unwrap()).into_owned(),
        took,
    }
}

/// Asks until the condition holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The value of `measure` once it has not changed by more than a few percent for a second.
///
/// # Panics
/// When it never does.
#[must_use]
pub fn settle(mut measure: impl FnMut() -> u64) -> u64 {
    let mut last = (Instant::now(), measure());
    wait_until("the measure stands still", || {
        let now = measure();
        if now.abs_diff(last.1) > last.1 / 50 {
            last = (Instant::now(), now);
        }
        last.0.elapsed() > Duration::from_secs(1)
    });
    last.1
}

/// How long one command may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);
/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
