//! SSH through the tunnel and the gateway, beside the same client straight to the same sshd over loopback.

use crate::{Figure, ROUNDS, alternate, median};
use e2e::{Namespace, POLICY, Process, Setup, World, run, wait_until};
use std::process::Command;
use std::time::Instant;

/// A world, and the two ways to its `web1`.
struct Ways {
    world: World,
    machine: Namespace,
    key: std::path::PathBuf,
    device: std::path::PathBuf,
}

pub(crate) fn figures() -> Vec<Figure> {
    let ways = Ways::new(POLICY.to_owned());
    let bulk_down = alternate(ROUNDS, || [ways.down(&ways.direct())], || [ways.down(&ways.through())]);
    let bulk_up = alternate(ROUNDS, || [ways.up(&ways.direct())], || [ways.up(&ways.through())]);
    let first = alternate(ROUNDS, || [ways.login(&ways.direct())], || [ways.login(&ways.through())]);
    let idle = ways.idle_session();
    let rule = r#""app": { "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {}, "recording": "off" }] }"#;
    let unrecorded = Ways::new(POLICY.replace("\"ip\": [\"tcp:22\"] }", &format!("\"ip\": [\"tcp:22\"], {rule} }}")));
    let recording = alternate(ROUNDS, || [unrecorded.down(&unrecorded.through())], || [ways.down(&ways.through())]);
    let figure =
        |name: &str, unit, direct, ours, goal| Figure { name: name.to_owned(), unit, direct, ours, goal, runs: ROUNDS };
    let beside = |name: &str, unit, (direct, ours): (f64, f64), goal| figure(name, unit, Some(direct), ours, goal);
    vec![
        beside("ssh download, tunnel and gateway beside plain loopback", "MB/s", bulk_down[0], "ratio >= 0.80"),
        beside("ssh upload, tunnel and gateway beside plain loopback", "MB/s", bulk_up[0], "ratio >= 0.80"),
        beside("ssh host true, tunnel and gateway beside plain loopback", "ms", first[0], "ours <= direct + 8"),
        figure("memory of an idle session, in the tunnel", "MB", None, idle, "<= 0.3"),
        beside("ssh download in the tunnel, recording on beside off", "MB/s", recording[0], ""),
    ]
}

impl Ways {
    fn new(policy: String) -> Self {
        let world = World::start(Setup { policy, ..Setup::default() });
        let machine = world.bare_machine();
        let (key, device) = (world.folder().join("direct-key"), world.folder().join("device.conf"));
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        let _made = run(keygen, b"").ok();
        std::fs::copy(key.with_extension("pub"), world.folder().join("web1/authorized_keys")).unwrap();
        let file = world.sallyport(&["device", "add", "--user", "alice@example.com", "--name", "laptop"]).ok();
        std::fs::write(&device, file).unwrap();
        std::fs::set_permissions(&device, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(world.folder().join("known"), world.known_hosts()).unwrap();
        // Bytes that do not compress away; read once before they are measured, they come from the page cache.
        let file = world.folder().join("bulk");
        let mut fill = Command::new("sh");
        fill.arg("-c").arg(format!("head -c {BULK} /dev/urandom > {}", file.display()));
        let _filled = run(fill, b"").ok();
        Self { world, machine, key, device }
    }

    /// Straight to sshd, in its own namespace.
    fn direct(&self) -> Vec<String> {
        let options =
            ["-i", self.key.to_str().unwrap(), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
        let words = ["ssh", "-F", "none", "-q", "-o", "BatchMode=yes", "-c", "aes256-gcm@openssh.com"];
        let mut way = vec!["hosts".to_owned()];
        way.extend(words.into_iter().chain(options).chain(["ubuntu@127.0.0.2"]).map(str::to_owned));
        way
    }

    /// Over WireGuard and through the gateway, from another machine.
    fn through(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.world.folder().join("known").display());
        let words = [
            "ssh",
            "-F",
            "none",
            "-q",
            "-o",
            "BatchMode=yes",
            "-c",
            "aes256-gcm@openssh.com",
            "-o",
            &known,
            "ubuntu@web1",
        ];
        std::iter::once("caller").chain(words).map(str::to_owned).collect()
    }

    /// A script on the way's machine; `$@` is the way's ssh.
    fn script(&self, way: &[String], script: &str) -> Command {
        let mut command = match way[0].as_str() {
            "hosts" => self.world.hosts().command("sh"),
            _ => {
                let mut command = self.machine.command(self.world.binary_for_everyone());
                command.env("XDG_RUNTIME_DIR", self.world.folder().join("home"));
                command.arg("shell").arg("--config").arg(&self.device).args(["--", "sh"]);
                command
            }
        };
        command.args(["-c", script, "sh"]).args(&way[1..]).env_remove("SSH_AUTH_SOCK");
        command
    }

    /// What the script prints: nanoseconds between its two clocks.
    fn nanoseconds(&self, way: &[String], timed: &str) -> f64 {
        let script = format!("a=$(date +%s%N); {timed} || exit 1; b=$(date +%s%N); echo $((b - a))");
        run(self.script(way, &script), b"").ok().trim().parse().unwrap()
    }

    fn down(&self, way: &[String]) -> f64 {
        f64::from(BULK) * 1000.0 / self.nanoseconds(way, &format!("\"$@\" cat {} > /dev/null", self.bulk().display()))
    }

    fn up(&self, way: &[String]) -> f64 {
        let upload = format!("\"$@\" 'cat > /dev/null' < {}", self.bulk().display());
        f64::from(BULK) * 1000.0 / self.nanoseconds(way, &upload)
    }

    fn bulk(&self) -> std::path::PathBuf {
        self.world.folder().join("bulk")
    }

    /// Milliseconds of `ssh host true`, the median of ten.
    fn login(&self, way: &[String]) -> f64 {
        median((0..10).map(|_| self.nanoseconds(way, "\"$@\" true") / 1e6).collect())
    }

    /// Megabytes that the gateway grows by for one more idle session.
    fn idle_session(&self) -> f64 {
        let before = self.world.gateway().resident_kb();
        let log = self.world.folder().join("idle.log");
        let sessions: Vec<Process> = (0..IDLE)
            .map(|_| Process::spawn(self.script(&self.through(), "exec \"$@\" 'echo up; sleep 600'"), &log))
            .collect();
        let begun = Instant::now();
        wait_until("every session is up", || sessions[0].printed().matches("up\n").count() == IDLE as usize);
        assert!(begun.elapsed().as_secs() < 60);
        let after = self.world.gateway().resident_kb();
        f64::from(u32::try_from(after.saturating_sub(before)).unwrap()) / 1024.0 / f64::from(IDLE)
    }
}

/// Bytes of one bulk transfer: 200 MB.
const BULK: u32 = 200_000_000;
/// Idle sessions to weigh.
const IDLE: u32 = 40;
