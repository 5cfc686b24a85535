//! The rules, one function each.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use sallyport_tailnet::PrivateKey;
use tempfile::TempDir;

use super::gateway::{Gateway, device_file, write_private};
use super::skip::skip;

/// Runs every rule whose name contains `filter`; true when one failed.
pub(crate) fn run_all(filter: &str) -> bool {
    let as_whoever: &[&str] = if Uid::effective().is_root() { &[] } else { &["--map-root-user"] };
    let namespace = Command::new("unshare").args(as_whoever).args(["--net", "true"]).output().unwrap();
    if !namespace.status.success() {
        skip("callers in namespaces of their own (denied here, as in a container or a chroot)");
        return false;
    }
    let mut failed = false;
    for (name, rule) in RULES.into_iter().filter(|(name, _)| name.contains(filter)) {
        let folder = tempfile::tempdir().unwrap();
        let gateway = match Gateway::start(&folder.path().join("device.conf")) {
            Ok(gateway) => gateway,
            Err(error) => {
                skip(&format!("{name}: {error}"));
                continue;
            }
        };
        let passed = std::panic::catch_unwind(|| rule(&World { folder, _gateway: gateway })).is_ok();
        println!("{}: {name}", if passed { "ok" } else { "FAILED" });
        failed |= !passed;
    }
    failed
}

type Rule = fn(&World);

const RULES: [(&str, Rule); 8] = [
    ("resolves_the_tailnets_names_and_no_others", resolves_names),
    ("reaches_targets_over_ipv4_and_ipv6", reaches_targets),
    ("stays_the_same_person_in_the_same_folder", stays_the_same_person),
    ("ends_as_the_command_ends", ends_as_the_command_ends),
    ("shares_one_tunnel_and_closes_it_after_the_last_user", shares_one_tunnel),
    ("keeps_the_tunnel_for_what_the_command_left_behind", keeps_the_tunnel_for_children),
    ("leaves_when_its_folder_is_cleared_away", leaves_when_its_folder_is_gone),
    ("says_who_did_not_answer_and_lets_the_file_be_mended", says_who_did_not_answer),
];

fn resolves_names(world: &World) {
    assert!(said(&world.run("getent ahostsv4 web1")).starts_with("100.64.128.1 "));
    assert!(said(&world.run("getent ahostsv6 web1.corp.internal")).starts_with("fd00:64::8000:1 "));
    assert_eq!(world.run("getent hosts nobody").status.code(), Some(2));
    let outside = fs::read_to_string("/etc/resolv.conf").unwrap();
    assert!(!outside.contains("corp.internal"), "the host's file was changed: {outside}");
}

fn reaches_targets(world: &World) {
    for host in ["web1", "100.64.200.7", "fd00:64::8000:77", "100.64.0.1"] {
        let output = world.run(&format!("exec 5<>/dev/tcp/{host}/22; echo hello >&5; head -1 <&5"));
        assert_eq!(said(&output), "hello\n", "{host}: {output:?}");
    }
    let refused = world.run("exec 5<>/dev/tcp/web1/23");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Connection refused"), "{refused:?}");
}

fn stays_the_same_person(world: &World) {
    let me = User::from_uid(Uid::effective()).unwrap().unwrap();
    let folder = world.folder.path().display();
    let output = world.run("whoami; id -g; pwd; echo $HOME; stat -c %u .");
    assert_eq!(said(&output), format!("{}\n{}\n{folder}\n{folder}\n{}\n", me.name, me.gid, me.uid), "{output:?}");
}

fn ends_as_the_command_ends(world: &World) {
    assert_eq!(world.run("exit 7").status.code(), Some(7));
    assert_eq!(world.run("kill -TERM $$").status.signal(), Some(15));
    assert_eq!(world.run("trap '' PIPE; true").status.code(), Some(0));
}

fn shares_one_tunnel(world: &World) {
    let mut first = world.command("readlink /proc/self/ns/net; read line").stdin(Stdio::piped()).spawn().unwrap();
    let mut said_first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(first.stdout.as_mut().unwrap()), &mut said_first).unwrap();
    assert_eq!(said(&world.run("readlink /proc/self/ns/net")), said_first);
    assert_ne!(fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap(), said_first.trim());
    drop(first.stdin.take());
    first.wait().unwrap();
    assert!(world.socket().is_some(), "the tunnel left at once");
    world.wait_until_closed();
}

fn keeps_the_tunnel_for_children(world: &World) {
    let output = world.run("(sleep 7; getent ahostsv4 web1 > late) < /dev/null > /dev/null 2>&1 &");
    assert_eq!(output.status.code(), Some(0));
    std::thread::sleep(Duration::from_millis(7500));
    assert!(fs::read_to_string(world.folder.path().join("late")).unwrap().starts_with("100.64.128.1 "));
    world.wait_until_closed();
}

fn leaves_when_its_folder_is_gone(world: &World) {
    assert_eq!(world.run("true").status.code(), Some(0));
    assert_eq!(world.tunnels(), 1);
    fs::remove_dir_all(world.folder.path().join("sallyport")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    while world.tunnels() > 0 {
        assert!(Instant::now() < deadline, "the tunnel stayed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn says_who_did_not_answer(world: &World) {
    let file = world.folder.path().join("device.conf");
    let good = fs::read_to_string(&file).unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let own: PrivateKey = good.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).unwrap().parse().unwrap();
    write_private(&file, &device_file(&own, &PrivateKey::generate(), silent.local_addr().unwrap()));
    let output = world.run("true");
    let expected = format!("no handshake from {} within 6 s", silent.local_addr().unwrap());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&expected), "{output:?}");
    assert_eq!(output.status.code(), Some(125));
    write_private(&file, &good);
    assert_eq!(world.run("true").status.code(), Some(0));
}

/// A gateway, and a device's file in a folder that is also home and working folder.
struct World {
    folder: TempDir,
    _gateway: Gateway,
}

impl World {
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("shell").arg(self.folder.path().join("device.conf")).args(["bash", "-c", script]);
        command.current_dir(&self.folder).env("HOME", self.folder.path()).env("XDG_RUNTIME_DIR", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.command(script).output().unwrap()
    }

    /// Where the tunnel listens, while it runs.
    fn socket(&self) -> Option<PathBuf> {
        let places = fs::read_dir(self.folder.path().join("sallyport")).unwrap();
        places.flatten().map(|place| place.path().join("socket")).find(|path| Path::exists(path))
    }

    /// How many tunnels of this folder run.
    fn tunnels(&self) -> usize {
        let mark = format!("XDG_RUNTIME_DIR={}\0", self.folder.path().display());
        let is_ours = |process: &fs::DirEntry| {
            let read = |file| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            read("cmdline").contains("__tunnel") && read("environ").contains(&mark)
        };
        fs::read_dir("/proc").unwrap().flatten().filter(is_ours).count()
    }

    fn wait_until_closed(&self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.socket().is_some() {
            assert!(Instant::now() < deadline, "the tunnel stayed");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
