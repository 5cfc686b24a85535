//! Much data: the speed of one stream, what recording costs it, and whether many at a time all come through.

use super::{AES, CHACHA, Loopback, Way};
use crate::{Figure, ROUNDS, alternate};
use e2e::run;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One stream through and direct, each way, with each cipher, and with what OpenSSH chooses by itself; recorded.
pub(crate) fn figures() -> Vec<Figure> {
    let mut figures = of_ciphers("aes256-gcm", &Loopback::new(AES));
    figures.extend(of_ciphers("chacha20", &Loopback::new(CHACHA)));
    figures.extend(of_ciphers("usual settings", &Loopback::as_it_comes()));
    figures
}

fn of_ciphers(name: &str, loopback: &Loopback) -> Vec<Figure> {
    let noise = Noise::new(loopback);
    let down = alternate(ROUNDS, || noise.down(Way::Direct), || noise.down(Way::Through));
    let up = alternate(ROUNDS, || noise.up(Way::Direct), || noise.up(Way::Through));
    let down_copied = alternate(ROUNDS, || noise.down(Way::Direct), || noise.down(Way::Relayed));
    let up_copied = alternate(ROUNDS, || noise.up(Way::Direct), || noise.up(Way::Relayed));
    let beside = |what: &str, way: &str, (direct, ours), goal| Figure {
        name: format!("ssh {what}, {name}, {way} beside direct"),
        unit: "MB/s",
        direct: Some(direct),
        ours,
        goal,
        runs: ROUNDS,
    };
    let processor = |whose: &str, what: &str, direct, ours| Figure {
        name: format!("CPU of {whose}, ssh {what}, {name}"),
        unit: "s/GB",
        direct,
        ours,
        goal: "",
        runs: ROUNDS,
    };
    let whole = |what: &str, (direct, ours)| processor("the whole machine", what, Some(direct), ours);
    let own = |what: &str, (_, ours)| processor("the gateway", what, None, ours);
    vec![
        beside("download", "through", down[0], "ratio >= 0.95"),
        beside("upload", "through", up[0], "ratio >= 0.85"),
        // What anything in between costs by itself.
        beside("download", "a copying relay", down_copied[0], ""),
        beside("upload", "a copying relay", up_copied[0], ""),
        own("download", down[1]),
        own("upload", up[1]),
        whole("download", down[2]),
        whole("upload", up[2]),
    ]
}

/// A download with and without its output in the recording: of bytes that do not compress, and of a log.
pub(crate) fn recording() -> Vec<Figure> {
    let (on, off) = (Loopback::new(AES), Loopback::unrecorded(AES));
    let figures = |what: &str, [on_file, off_file]: [Noise<'_>; 2]| {
        let [speed, cpu, _] = alternate(ROUNDS, || off_file.down(Way::Through), || on_file.down(Way::Through));
        let figure = |name: String, unit, (direct, ours), goal| Figure {
            name,
            unit,
            direct: Some(direct),
            ours,
            goal,
            runs: ROUNDS,
        };
        [
            figure(format!("ssh download of {what}, recording on beside off"), "MB/s", speed, "ratio >= 0.95"),
            figure(format!("CPU of the gateway, {what}, recording on beside off"), "s/GB", cpu, ""),
        ]
    };
    let noise = figures("noise", [Noise::new(&on), Noise::new(&off)]);
    let log = figures("a log", [Noise::log(&on), Noise::log(&off)]);
    noise.into_iter().chain(log).collect()
}

/// Downloads side by side, all recorded: none may hang.
pub(crate) fn downloads() -> Vec<Figure> {
    let loopback = Loopback::new(AES);
    let waiting = Mutex::new(DOWNLOADS);
    let begun = Instant::now();
    let whole: u32 = std::thread::scope(|scope| {
        let lane = || {
            let mut whole = 0;
            loop {
                {
                    let mut waiting = waiting.lock().unwrap();
                    let Some(left) = waiting.checked_sub(1) else { return whole };
                    *waiting = left;
                }
                whole += u32::from(download(&loopback) == DOWNLOAD);
            }
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    let took = begun.elapsed().as_secs_f64();
    loopback.settle();
    let figure =
        |name: &str, unit, ours, goal| Figure { name: name.to_owned(), unit, direct: None, ours, goal, runs: 1 };
    vec![
        figure("64 downloads of 128 MB, 16 at a time, recorded: hung or short", "", f64::from(DOWNLOADS - whole), "0"),
        figure("64 downloads of 128 MB, 16 at a time, recorded: together", "MB/s", 64.0 * 128.0 / took, ""),
    ]
}

/// Bytes that came; the client is killed when they stop coming.
fn download(loopback: &Loopback) -> usize {
    let mut command = loopback.ssh(Way::Through);
    command.arg(format!("head -c {DOWNLOAD} /dev/zero")).stdout(Stdio::piped());
    let mut child = loopback.within(|| command.spawn().unwrap());
    let mut stdout = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut buffer, mut taken) = (vec![0; 64 * 1024], 0);
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            taken += read;
        }
        taken
    });
    let begun = Instant::now();
    while !reading.is_finished() && begun.elapsed() < HUNG {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ended_already = child.kill();
    let _reaped = child.wait().unwrap();
    reading.join().unwrap()
}

/// A file to transfer, in the page cache.
pub(super) struct Noise<'a> {
    loopback: &'a Loopback,
    file: PathBuf,
}

impl<'a> Noise<'a> {
    /// Of bytes that do not compress.
    pub(super) fn new(loopback: &'a Loopback) -> Self {
        Self::made(loopback, "noise", &format!("head -c {BULK} /dev/urandom"))
    }

    /// Of lines as a web server logs them.
    fn log(loopback: &'a Loopback) -> Self {
        let line = r#"printf "2026-01-02T03:04:05 web1 app[%d]: GET /items/%x 200 %dus\n", n, n * 2654435761 % 4294967296, n % 9973"#;
        Self::made(loopback, "log", &format!("awk 'BEGIN {{ for (;;) {{ n++; {line} }} }}' | head -c {BULK}"))
    }

    fn made(loopback: &'a Loopback, name: &str, script: &str) -> Self {
        let file = loopback.folder().join(name);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{script} > {0}; sync {0}", file.display()));
        let _made = run(shell, b"").ok();
        Self { loopback, file }
    }

    /// Megabytes a second, and CPU seconds a gigabyte of the gateway and of the whole machine.
    pub(super) fn down(&self, way: Way) -> [f64; 3] {
        let mut command = self.loopback.ssh(way);
        command.arg("cat").arg(&self.file);
        self.measured(command)
    }

    /// Megabytes a second, beside sessions that stay open; so much that the login does not count, which costs more there.
    pub(super) fn down_unsettled(&self, way: Way) -> f64 {
        let mut command = self.loopback.ssh(way);
        command.arg("cat").args([&self.file; 4]);
        4.0 * f64::from(BULK) / 1e6 / self.loopback.seconds(command)
    }

    fn up(&self, way: Way) -> [f64; 3] {
        let mut command = self.loopback.ssh(way);
        command.arg("cat > /dev/null").stdin(File::open(&self.file).unwrap());
        self.measured(command)
    }

    fn measured(&self, command: Command) -> [f64; 3] {
        let used = || [self.loopback.gateway().cpu_seconds(), busy_seconds()];
        let before = used();
        let seconds = self.loopback.seconds(command);
        self.loopback.settle();
        let (after, gigabytes) = (used(), f64::from(BULK) / 1e9);
        let [gateway, machine] = std::array::from_fn(|index| (after[index] - before[index]) / gigabytes);
        [gigabytes * 1000.0 / seconds, gateway, machine]
    }
}

/// CPU seconds that the whole machine has used so far (proc(5), `/proc/stat`: ticks of 10 ms by what they went to).
fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<f64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    let [user, nice, system, _idle, _waiting, hard, soft, ..] = ticks[..] else { panic!("{stat}") };
    (user + nice + system + hard + soft) / 100.0
}

/// Bytes of one bulk transfer.
const BULK: u32 = 400_000_000;
/// How many downloads, how many bytes each, and how many at a time.
const DOWNLOADS: u32 = 64;
const DOWNLOAD: usize = 128_000_000;
const LANES: usize = 16;
/// A download that is not done by then hangs.
const HUNG: Duration = Duration::from_secs(120);
