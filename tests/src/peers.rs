//! Implementations of SSH other than OpenSSH, as clients and as targets: Go's, Dropbear, AsyncSSH.

use e2e::{Caller, Process, Setup, World, run, wait_until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

#[test]
fn the_post_quantum_exchange_comes_about_on_both_legs() {
    let Some(gossh) = go_peer("gossh") else { return };
    let keys = tempfile::tempdir().unwrap();
    let world = World::start(Setup { targets: target("go1", GO1, &host_key(keys.path())), ..Setup::default() });
    let mut server = world.hosts().command(&gossh);
    server.args(["target", POST_QUANTUM, AES_GCM, GO1]).arg(keys.path().join("key"));
    server.arg(world.sallyport(&["target", "ca"]).ok());
    let server = Process::spawn(server, &world.folder().join("gossh.log"));
    wait_until("the target listens", || server.printed().contains("listening"));
    let alice = world.caller("alice@example.com", "laptop");
    let client = |kex: &str, command: &str| {
        let mut client = alice.command(gossh.to_str().unwrap());
        client.args(["client", kex, AES_GCM, "go1.corp.internal:22", "ubuntu", &world.known_hosts(), command]);
        run(client, b"from the caller")
    };
    let done = client(POST_QUANTUM, "cat; echo err >&2; exit 7");
    assert_eq!((done.code, done.text().as_str(), done.stderr.as_str()), (7, "from the caller", "err\n"));
    // The target's own word that it would have taken nothing else.
    let classic = world.hosts().command(&gossh);
    let refused = direct(classic, "curve25519-sha256");
    assert!(refused.contains("no common algorithm"), "{refused}");
}

#[test]
fn chacha20_and_a_classic_exchange_serve_a_peer_that_insists_on_them() {
    let Some(gossh) = go_peer("gossh") else { return };
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    for (kex, cipher) in [
        ("curve25519-sha256", "chacha20-poly1305@openssh.com"),
        ("ecdh-sha2-nistp256", "aes128-gcm@openssh.com"),
        ("diffie-hellman-group14-sha256", "aes256-ctr"),
    ] {
        let mut client = alice.command(gossh.to_str().unwrap());
        client.args([
            "client",
            kex,
            cipher,
            "web1.corp.internal:22",
            "ubuntu",
            &world.known_hosts(),
            "head -c 3000000 /dev/zero",
        ]);
        assert_eq!(run(client, b"").ok().len(), 3_000_000, "{kex} with {cipher}");
    }
    for weak in ["diffie-hellman-group1-sha1", "diffie-hellman-group14-sha1"] {
        let mut client = alice.command(gossh.to_str().unwrap());
        client.args(["client", weak, AES_GCM, "web1.corp.internal:22", "ubuntu", &world.known_hosts(), "true"]);
        assert!(run(client, b"").failed().contains("no common algorithm"), "{weak}");
    }
}

#[test]
fn dropbear_is_served_as_a_client_and_reached_as_a_target() {
    if !e2e::has_peer("dbclient") || !e2e::has_peer("dropbear") {
        return;
    }
    let keys = tempfile::tempdir().unwrap();
    let login = host_key(keys.path());
    let home = tempfile::tempdir().unwrap();
    let mut generate = Command::new("dropbearkey");
    generate.args(["-t", "ed25519", "-f"]).arg(home.path().join("host"));
    let printed = run(generate, b"").ok();
    let host: String = printed
        .lines()
        .find(|line| line.starts_with("ssh-ed25519"))
        .unwrap()
        .split(' ')
        .take(2)
        .collect::<Vec<_>>()
        .join(" ");
    let target = format!(
        "[[target]]\nname = \"tiny\"\ntags = [\"tag:prod\"]\n\
         ssh = {{ address = \"{TINY}\", host_key = \"{host}\", login = {{ key = \"file:{}\" }} }}\n",
        keys.path().join("key").display()
    );
    let world = World::start(Setup { targets: target, ..Setup::default() });
    let _dropbear = start_dropbear(&world, home.path(), &login);
    let alice = world.caller("alice@example.com", "laptop");
    // OpenSSH reaches Dropbear.
    let done = alice.ssh_with(&["ubuntu@tiny", "cat; echo err >&2; exit 9"], b"through");
    assert_eq!((done.code, done.text().as_str(), done.stderr.as_str()), (9, "through", "err\n"));
    let bytes = vec![b'd'; 5_000_000];
    assert_eq!(alice.ssh_with(&["ubuntu@tiny", "wc -c"], &bytes).ok().trim(), "5000000");
    // Dropbear reaches OpenSSH, and Dropbear.
    for host in ["web1.corp.internal", "tiny.corp.internal"] {
        let mut client = alice.command("dbclient");
        client.args(["-y", "-T", &format!("ubuntu@{host}"), "cat; exit 5"]);
        let done = run(client, &bytes);
        assert_eq!((done.code, done.stdout.len()), (5, bytes.len()), "{host}: {}", done.stderr);
    }
}

#[test]
fn asyncssh_runs_commands_a_terminal_signals_and_sftp_over_one_connection() {
    if !has_python_module("asyncssh") {
        return;
    }
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let known_hosts = alice.folder().join("known_hosts");
    let said = python(&alice, "asyncssh_client.py", &["web1.corp.internal", "ubuntu", known_hosts.to_str().unwrap()]);
    assert_eq!(said, "ok\n");
}

/// Runs a script of `tests/peers` with the machine's own Python.
#[track_caller]
fn python(caller: &Caller, script: &str, arguments: &[&str]) -> String {
    let mut command = caller.command(PYTHON);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script)).args(arguments);
    run(command, b"").ok()
}

fn has_python_module(module: &str) -> bool {
    let found = Command::new(PYTHON).args(["-W", "ignore", "-c", &format!("import {module}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        e2e::skip(&format!("python3-{module}"));
    }
    found
}

/// Builds a peer written in Go, or finds it built; Go is for peers alone.
fn go_peer(name: &str) -> Option<PathBuf> {
    if !e2e::has_peer("go") {
        return None;
    }
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _building = ONE_AT_A_TIME.lock();
    let binary = std::env::current_exe().unwrap().with_file_name(name);
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&binary).arg(".");
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name));
    let built = build.output().unwrap();
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        e2e::skip(&format!("{name}: go build said {}", said.lines().next().unwrap_or_default()));
        return None;
    }
    Some(binary)
}

/// What the target says to a client that offers another key exchange than its own.
fn direct(mut client: Command, kex: &str) -> String {
    client.args(["client", kex, AES_GCM, GO1, "ubuntu", "-", "true"]);
    run(client, b"").failed()
}

/// A new ed25519 key in `folder`, and its public half as it stands in known_hosts.
fn host_key(folder: &Path) -> String {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join("key"));
    let _made = run(keygen, b"").ok();
    let line = std::fs::read_to_string(folder.join("key.pub")).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn target(name: &str, address: &str, host_key: &str) -> String {
    format!(
        "[[target]]\nname = \"{name}\"\ntags = [\"tag:prod\"]\n\
         ssh = {{ address = \"{address}\", host_key = \"{host_key}\" }}\n"
    )
}

/// Dropbear lets `ubuntu` in by `login`; it looks for authorized_keys in the account's home alone.
fn start_dropbear(world: &World, folder: &Path, login: &str) -> Process {
    let ssh = world.folder().join("home/ubuntu/.ssh");
    std::fs::create_dir_all(&ssh).unwrap();
    std::fs::write(ssh.join("authorized_keys"), format!("{login}\n")).unwrap();
    for path in [ssh.clone(), ssh.join("authorized_keys")] {
        std::os::unix::fs::chown(path, Some(UBUNTU), Some(UBUNTU)).unwrap();
    }
    let mut command = world.hosts().command("dropbear");
    command.args(["-F", "-E", "-s", "-p", TINY, "-P"]).arg(folder.join("pid")).arg("-r").arg(folder.join("host"));
    let process = Process::spawn(command, &folder.join("log"));
    wait_until("dropbear listens", || process.printed().contains("Not backgrounding"));
    process
}

const POST_QUANTUM: &str = "mlkem768x25519-sha256";
const AES_GCM: &str = "aes256-gcm@openssh.com";
const GO1: &str = "127.0.0.3:22";
const TINY: &str = "127.0.0.4:22";
const PYTHON: &str = "/usr/bin/python3";
/// The account of the world's hosts.
const UBUNTU: u32 = 20001;
