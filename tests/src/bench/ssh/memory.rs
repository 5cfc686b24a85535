//! What the gateway's memory grows by.

use super::{AES, Loopback, Way};
use crate::Figure;
use e2e::wait_until;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A recorded shell in a terminal that nobody types in.
pub(crate) fn idle() -> Vec<Figure> {
    let loopback = Loopback::new(AES);
    // The first sessions pay for what all share.
    drop((0..WARM).map(|_| Shell::start(&loopback)).collect::<Vec<_>>());
    loopback.settle();
    let before = loopback.gateway().resident_kb();
    let shells: Vec<Shell> = (0..SHELLS).map(|_| Shell::start(&loopback)).collect();
    wait_until("every shell's prompt is on disk", || loopback.terminals() == shells.len());
    std::thread::sleep(SETTLING);
    let grown = loopback.gateway().resident_kb().saturating_sub(before);
    let ours = megabytes(grown) / f64::from(SHELLS);
    let name = "memory of an idle shell, recorded".to_owned();
    vec![Figure { name, unit: "MB", direct: None, ours, goal: "<= 0.2", runs: 1 }]
}

/// An upload to a program that reads nothing.
pub(crate) fn stalled() -> Vec<Figure> {
    let loopback = Loopback::new(AES);
    let mut warm = loopback.ssh(Way::Through);
    warm.arg("true");
    let _seconds = loopback.seconds(warm);
    let file = std::fs::File::create_new(loopback.folder().join("upload")).unwrap();
    file.set_len(UPLOAD).unwrap();
    let before = loopback.gateway().resident_kb();
    let mut command = loopback.ssh(Way::Through);
    command.arg("sleep 3600").stdin(std::fs::File::open(loopback.folder().join("upload")).unwrap());
    let mut client = loopback.within(|| command.spawn().unwrap());
    let (mut most, mut offset, mut still) = (0, 0, 0);
    wait_until("the upload stands still", || {
        most = most.max(loopback.gateway().resident_kb());
        let now = read_so_far(&client);
        still = if now == offset && now > 0 { still + 1 } else { 0 };
        offset = now;
        still == STILL
    });
    assert!(offset < UPLOAD, "everything was taken");
    let _ended_already = client.kill();
    let _reaped = client.wait().unwrap();
    let ours = megabytes(most.saturating_sub(before));
    let name = "memory, 512 MB upload to a program that sleeps".to_owned();
    vec![Figure { name, unit: "MB", direct: None, ours, goal: "<= 8", runs: 1 }]
}

/// An ssh client with a terminal; killed when dropped.
struct Shell(Child);

impl Shell {
    fn start(loopback: &Loopback) -> Self {
        let mut command: Command = loopback.ssh(Way::Through);
        command.arg("-tt").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(loopback.within(|| command.spawn().unwrap()))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// How much of its standard input a process has read (proc(5), `fdinfo`).
fn read_so_far(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/fdinfo/0", child.id())).unwrap_or_default();
    let position = text.lines().find_map(|line| line.strip_prefix("pos:"));
    position.and_then(|position| position.trim().parse().ok()).unwrap_or_default()
}

fn megabytes(kilobytes: u64) -> f64 {
    f64::from(u32::try_from(kilobytes).unwrap()) / 1024.0
}

/// Shells to weigh, and those that come before them.
const SHELLS: u32 = 50;
const WARM: usize = 10;
/// Nothing happens any more after this long.
const SETTLING: Duration = Duration::from_secs(3);
/// Bytes to upload.
const UPLOAD: u64 = 512_000_000;
/// Looks in a row, 20 ms apart, at which nothing has moved.
const STILL: u32 = 100;
