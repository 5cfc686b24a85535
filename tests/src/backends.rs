//! The same story on each backend of the data plane, with wireguard-go and OpenSSH; and which one is chosen.

use e2e::{Caller, PERSON, Setup, World, run, wait_until};

#[test]
fn the_whole_story_on_a_tun_device() {
    story("tun", "private namespace, TUN");
}

#[test]
fn the_whole_story_on_a_packet_socket() {
    story("packet", "private namespace, packet socket");
}

#[test]
fn the_whole_story_in_userspace() {
    story("userspace", "userspace");
}

fn story(backend: &str, logged: &str) {
    let mut world = World::start(Setup { tailnet: format!("backend = \"{backend}\""), ..Setup::default() });
    let said = world.gateway().printed();
    assert!(said.contains(logged), "{said}");
    let alice = world.caller("alice@example.com", "laptop");
    names_and_both_families(&alice);
    files_both_ways(&world, &alice);
    denials(&world, &alice);
    comes_back_after_a_restart(&mut world, &alice);
    ends_with_its_device(&world, &alice);
}

/// The resolver answers over UDP and TCP, and what it says leads to the target, in both families.
fn names_and_both_families(alice: &Caller) {
    for (family, database) in [("-4", "ahostsv4"), ("-6", "ahostsv6")] {
        let mut getent = alice.command("getent");
        getent.args([database, "web1"]);
        assert!(run(getent, b"").ok().contains("web1"), "{database}");
        assert_eq!(alice.ssh(&[family, "ubuntu@web1", "id -un"]).ok(), "ubuntu\n", "{family}");
    }
    // `use-vc`: the same over TCP (resolv.conf(5)).
    let mut getent = alice.command("env");
    getent.args(["RES_OPTIONS=use-vc", "getent", "ahosts", "web1"]);
    assert!(run(getent, b"").ok().contains("web1"), "over TCP");
}

fn files_both_ways(world: &World, alice: &Caller) {
    let (here, back) = (alice.folder().join("here"), alice.folder().join("back"));
    let mut noise = std::process::Command::new("openssl");
    noise.args(["rand", "-out"]).arg(&here).arg(FILE.to_string());
    let _made = run(noise, b"").ok();
    let there = world.folder().join("home/ubuntu/there");
    for (from, to) in [
        (here.display().to_string(), format!("ubuntu@web1:{}", there.display())),
        (format!("ubuntu@web1:{}", there.display()), back.display().to_string()),
    ] {
        let mut scp = alice.client("scp");
        scp.args([&from, &to]);
        let _copied = run(scp, b"").ok();
    }
    let sent = std::fs::read(&here).unwrap();
    assert!(sent == std::fs::read(&there).unwrap() && sent == std::fs::read(&back).unwrap(), "the files differ");
}

/// Somebody without a rule, an account that no rule gives, a port that nobody serves.
fn denials(world: &World, alice: &Caller) {
    let bob = world.caller("bob@example.com", "tablet");
    let _denied = bob.ssh(&["ubuntu@web1", "id"]).failed();
    let _denied = alice.ssh(&["root@web1", "id"]).failed();
    let mut closed = alice.command("bash");
    closed.args(["-c", "exec 3<>/dev/tcp/web1/23"]);
    let said = run(closed, b"").failed();
    assert!(said.contains("refused"), "{said}");
    let mut ping = alice.command("ping");
    ping.args(["-c", "1", "-W", "10", "web1"]);
    if e2e::has_peer("ping") {
        let _answered = run(ping, b"").ok();
    }
}

fn comes_back_after_a_restart(world: &mut World, alice: &Caller) {
    world.kill_once_it_knows_its_devices();
    let before = alice.received();
    world.up();
    // wireguard-go still holds the old keys; the gateway begins the handshake.
    wait_until("the gateway has greeted its client", || alice.received() > before);
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo again"]).ok(), "again\n");
}

/// A device that is removed loses its sessions at once, and gets no answer any more.
fn ends_with_its_device(world: &World, alice: &Caller) {
    let mut talk =
        alice.talk(&["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2", "ubuntu@web1", "echo up; cat"]);
    talk.expect("up");
    let _removed = world.sallyport(&["device", "rm", "laptop"]).ok();
    assert_eq!(talk.end(), 255);
    world.wait_for_outcome("revoked");
    let _silence = alice.ssh(&["-o", "ConnectTimeout=3", "ubuntu@web1", "echo in"]).failed();
}

#[test]
fn userspace_is_chosen_where_namespaces_are_denied_and_the_log_says_why() {
    if !e2e::has_namespaces_for_everyone() {
        return;
    }
    let world = World::start(Setup { user: PERSON, confined: true, ..Setup::default() });
    let said = world.gateway().printed();
    assert!(said.contains("backend=userspace"), "{said}");
    assert!(said.contains("no private network namespace could be made"), "{said}");
    assert!(said.contains("max_user_namespaces"), "what to change: {said}");
    let alice = world.caller("alice@example.com", "laptop");
    for family in ["-4", "-6"] {
        let sent = vec![b'x'; 5_000_000];
        assert_eq!(alice.ssh_with(&[family, "ubuntu@web1", "wc -c"], &sent).ok().trim(), "5000000", "{family}");
    }
}

/// Bytes of the file that goes both ways.
const FILE: usize = 50_000_000;
