//! A real terminal that a test can type into, resize and look at: tmux.

use crate::{run, wait_until};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers the terminals of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A terminal of 80 × 24 with one program in it; gone when dropped.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Runs `command` in a new terminal, whose control socket is put into `folder`.
    #[must_use]
    pub fn new(folder: &Path, command: &Command) -> Self {
        // A socket of its own: the server of an earlier terminal may still be on its way out.
        let socket = folder.join(format!("tmux-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let terminal = Self { socket };
        let mut tmux = terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24"]);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                tmux.arg("-e").arg([name, "=".as_ref(), value].into_iter().collect::<OsString>());
            }
        }
        tmux.arg(command.get_program()).args(command.get_args());
        let _started = run(tmux, b"").ok();
        terminal
    }

    /// Types `text`, and Enter.
    pub fn enter(&self, text: &str) {
        let _typed = run(self.tmux(&["send-keys", "-l", text]), b"").ok();
        self.press("Enter");
    }

    /// Presses one key by tmux's name for it: `C-c`, `Space`, `Escape`.
    pub fn press(&self, key: &str) {
        let _pressed = run(self.tmux(&["send-keys", key]), b"").ok();
    }

    /// Changes the window's size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let _resized = run(self.tmux(&["resize-window", "-x", &columns, "-y", &rows]), b"").ok();
    }

    /// What stands on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        run(self.tmux(&["capture-pane", "-p"]), b"").text()
    }

    /// Waits until `text` stands on the screen.
    ///
    /// # Panics
    /// When it does not within half a minute.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the text stands on the screen", || {
                last = self.screen();
                last.contains(text)
            });
        }));
        assert!(found.is_ok(), "{text:?} did not appear; the screen:\n{last}");
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-f").arg("/dev/null").arg("-S").arg(&self.socket).args(arguments);
        command
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ended_already = self.tmux(&["kill-server"]).output();
    }
}
