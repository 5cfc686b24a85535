//! SSH through the tunnel and the gateway, beside the same client to the same sshd through the same tunnel without the
//! gateway, and straight over loopback.

use crate::ssh::{AES, CHACHA};
use crate::{Figure, ROUNDS, alternate, median, plane};
use e2e::{Namespace, POLICY, Process, Setup, World, run, wait_until};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// A world, and the ways to its `web1`.
struct Ways {
    world: World,
    machine: Namespace,
    key: PathBuf,
    /// The data plane without a gateway, beside the world's.
    _plane: Process,
}

#[derive(Clone, Copy)]
enum Way {
    /// Straight to sshd, in its own namespace.
    Loopback,
    /// Over WireGuard from another machine, and copied to sshd where the tunnel ends.
    Tunnel,
    /// Over WireGuard from another machine, and through the gateway.
    Gateway,
}

pub(crate) fn figures() -> Vec<Figure> {
    let ways = Ways::new(Setup::default());
    let [down_loopback] = beside(Way::Loopback, |way| ways.down(way, AES));
    let [up_loopback] = beside(Way::Loopback, |way| ways.up(way, AES));
    let [down] = beside(Way::Tunnel, |way| ways.down(way, AES));
    let [up] = beside(Way::Tunnel, |way| ways.up(way, AES));
    let [down_chacha] = beside(Way::Tunnel, |way| ways.down(way, CHACHA));
    let [up_chacha] = beside(Way::Tunnel, |way| ways.up(way, CHACHA));
    let [login] = beside(Way::Tunnel, |way| ways.login(way));
    let idle = ways.idle_session();
    let rule = r#""app": { "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {}, "recording": "off" }] }"#;
    let policy = POLICY.replace("\"ip\": [\"tcp:22\"] }", &format!("\"ip\": [\"tcp:22\"], {rule} }}"));
    let unrecorded = Ways::new(Setup { policy, ..Setup::default() });
    let [recording] = alternate(ROUNDS, || [unrecorded.down(Way::Gateway, AES)], || [ways.down(Way::Gateway, AES)]);
    let userspace = Ways::new(Setup { tailnet: "backend = \"userspace\"".to_owned(), ..Setup::default() });
    let [down_userspace] = alternate(ROUNDS, || [ways.down(Way::Gateway, AES)], || [userspace.down(Way::Gateway, AES)]);
    let [up_userspace] = alternate(ROUNDS, || [ways.up(Way::Gateway, AES)], || [userspace.up(Way::Gateway, AES)]);
    let figure =
        |name: &str, unit, direct, ours, goal| Figure { name: name.to_owned(), unit, direct, ours, goal, runs: ROUNDS };
    let pair = |name: &str, unit, (direct, ours): (f64, f64), goal| figure(name, unit, Some(direct), ours, goal);
    vec![
        pair("ssh download in the tunnel, aes256-gcm, beside no gateway", "MB/s", down, "ratio >= 0.95"),
        pair("ssh upload in the tunnel, aes256-gcm, beside no gateway", "MB/s", up, "ratio >= 0.85"),
        pair("ssh download in the tunnel, chacha20, beside no gateway", "MB/s", down_chacha, "ratio >= 0.95"),
        pair("ssh upload in the tunnel, chacha20, beside no gateway", "MB/s", up_chacha, "ratio >= 0.85"),
        pair("ssh host true in the tunnel, beside no gateway", "ms", login, "ours <= direct"),
        pair("ssh download, tunnel and gateway beside plain loopback", "MB/s", down_loopback, ""),
        pair("ssh upload, tunnel and gateway beside plain loopback", "MB/s", up_loopback, ""),
        figure("memory of an idle session, in the tunnel", "MB", None, idle, "<= 0.3"),
        pair("ssh download in the tunnel, recording on beside off", "MB/s", recording, ""),
        pair("ssh download in the tunnel, in user space beside namespaces", "MB/s", down_userspace, ""),
        pair("ssh upload in the tunnel, in user space beside namespaces", "MB/s", up_userspace, ""),
    ]
}

/// What is measured on this way, and through the gateway.
fn beside(way: Way, measure: impl Fn(Way) -> f64) -> [(f64, f64); 1] {
    alternate(ROUNDS, || [measure(way)], || [measure(Way::Gateway)])
}

impl Ways {
    fn new(setup: Setup) -> Self {
        let world = World::start(setup);
        let machine = world.bare_machine();
        let at = world.folder();
        let key = at.join("direct-key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        let _made = run(keygen, b"").ok();
        std::fs::copy(key.with_extension("pub"), at.join("web1/authorized_keys")).unwrap();
        let device = at.join(DEVICE);
        std::fs::write(
            &device,
            world.sallyport(&["device", "add", "--user", "alice@example.com", "--name", "laptop"]).ok(),
        )
        .unwrap();
        std::fs::set_permissions(&device, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(at.join("known"), world.known_hosts()).unwrap();
        let plane = plane::tailnet(world.hosts(), PLANE, &at.join(BARE_DEVICE), &[world.web1.address().to_string()]);
        // Bytes that do not compress away; read once before they are measured, they come from the page cache.
        let mut fill = Command::new("sh");
        fill.arg("-c").arg(format!("head -c {BULK} /dev/urandom > {}", at.join("bulk").display()));
        let _filled = run(fill, b"").ok();
        Self { world, machine, key, _plane: plane }
    }

    /// The words of `ssh` to sshd on this way.
    fn ssh(&self, way: Way) -> Vec<String> {
        let words = ["ssh", "-F", "none", "-q", "-o", "BatchMode=yes"];
        let key =
            ["-i", self.key.to_str().unwrap(), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
        let known = format!("UserKnownHostsFile={}", self.world.folder().join("known").display());
        let rest = match way {
            Way::Loopback => [&key[..], &["ubuntu@127.0.0.2"]].concat(),
            Way::Tunnel => [&key[..], &["ubuntu@100.64.128.1"]].concat(),
            Way::Gateway => vec!["-o", &known, "ubuntu@web1"],
        };
        words.into_iter().chain(rest).map(str::to_owned).collect()
    }

    /// A script on the way's machine; `$@` is the way's ssh.
    fn script(&self, way: Way, script: &str) -> Command {
        let inside = |device: &str| {
            let mut command = self.machine.command(self.world.binary_for_everyone());
            command.env("XDG_RUNTIME_DIR", self.world.folder().join("home"));
            command.arg("shell").arg("--config").arg(self.world.folder().join(device)).args(["--", "sh"]);
            command
        };
        let mut command = match way {
            Way::Loopback => self.world.hosts().command("sh"),
            Way::Tunnel => inside(BARE_DEVICE),
            Way::Gateway => inside(DEVICE),
        };
        command.args(["-c", script, "sh"]).args(self.ssh(way)).env_remove("SSH_AUTH_SOCK");
        command
    }

    /// What the script prints: nanoseconds between its two clocks.
    fn nanoseconds(&self, way: Way, timed: &str) -> f64 {
        let script = format!("a=$(date +%s%N); {timed} || exit 1; b=$(date +%s%N); echo $((b - a))");
        run(self.script(way, &script), b"").ok().trim().parse().unwrap()
    }

    fn down(&self, way: Way, cipher: &str) -> f64 {
        let download = format!("\"$@\" -c {cipher} cat {} > /dev/null", self.bulk().display());
        f64::from(BULK) * 1000.0 / self.nanoseconds(way, &download)
    }

    fn up(&self, way: Way, cipher: &str) -> f64 {
        let upload = format!("\"$@\" -c {cipher} 'cat > /dev/null' < {}", self.bulk().display());
        f64::from(BULK) * 1000.0 / self.nanoseconds(way, &upload)
    }

    fn bulk(&self) -> PathBuf {
        self.world.folder().join("bulk")
    }

    /// Milliseconds of `ssh host true`, the median of ten.
    fn login(&self, way: Way) -> f64 {
        median((0..10).map(|_| self.nanoseconds(way, "\"$@\" true") / 1e6).collect())
    }

    /// Megabytes that the gateway grows by for one more idle session.
    fn idle_session(&self) -> f64 {
        let before = self.world.gateway().resident_kb();
        let log = self.world.folder().join("idle.log");
        let sessions: Vec<Process> = (0..IDLE)
            .map(|_| Process::spawn(self.script(Way::Gateway, "exec \"$@\" 'echo up; sleep 600'"), &log))
            .collect();
        let begun = Instant::now();
        wait_until("every session is up", || sessions[0].printed().matches("up\n").count() == IDLE as usize);
        assert!(begun.elapsed().as_secs() < 60);
        let after = self.world.gateway().resident_kb();
        f64::from(u32::try_from(after.saturating_sub(before)).unwrap()) / 1024.0 / f64::from(IDLE)
    }
}

/// The files of the two devices: of the world's gateway, and of the data plane without one.
const DEVICE: &str = "device.conf";
const BARE_DEVICE: &str = "bare.conf";
/// Where that data plane listens, on the gateway's machine.
const PLANE: &str = "10.200.255.1:51821";
/// Bytes of one bulk transfer: 200 MB.
const BULK: u32 = 200_000_000;
/// Idle sessions to weigh.
const IDLE: u32 = 40;
