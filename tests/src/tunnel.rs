//! The way in: a stock WireGuard client, names, both address families, roaming, restarts.

use e2e::{PERSON, Setup, World, run, wait_until};

#[test]
fn a_stock_client_reaches_a_stock_sshd_by_name_and_lands_as_the_account() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "id -un"]).ok(), "ubuntu\n");
    assert_eq!(alice.ssh(&["ubuntu@web1.corp.internal", "id -un"]).ok(), "ubuntu\n");
    // wireguard-go's own state: one peer, a handshake, bytes both ways.
    assert_ne!(alice.wg_show("latest-handshakes"), "0");
    assert!(alice.wg_show("endpoints").ends_with(":51820"));
}

#[test]
fn ipv4_and_ipv6_both_lead_to_the_target() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    for family in ["-4", "-6"] {
        let client = alice.ssh(&[family, "ubuntu@web1", "echo over $0"]).ok();
        assert!(client.starts_with("over"), "{family}: {client}");
        assert_eq!(alice.ssh_with(&[family, "ubuntu@web1", "wc -c"], &vec![b'x'; 3_000_000]).ok().trim(), "3000000");
    }
}

#[test]
fn the_resolver_answers_for_targets_and_refuses_other_names() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let lookup = |database: &str, name: &str| {
        let mut getent = alice.command("getent");
        getent.args([database, name]);
        run(getent, b"")
    };
    let four = lookup("ahostsv4", "web1").ok();
    let six = lookup("ahostsv6", "web1").ok();
    assert!(four.starts_with("100."), "{four}");
    assert!(six.starts_with("fd"), "{six}");
    let full = lookup("ahostsv4", "WEB1.corp.internal").ok();
    assert_eq!(address(&four), address(&full), "the same address under its full name, in any case");
    assert_ne!(lookup("ahosts", "nosuch.corp.internal").code, 0);
    assert_ne!(lookup("ahosts", "example.com").code, 0);
}

#[test]
fn a_client_that_moves_to_another_address_keeps_its_session() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&["ubuntu@web1", "echo before; read moved; echo after $moved"]);
    talk.expect("before");
    // Another port, and another address on the way there.
    let mut wg = alice.wg("set");
    wg.args(["listen-port", "44444"]);
    let _set = run(wg, b"").ok();
    alice.namespace().ip(&["address", "del", "10.200.0.2/24", "dev", "out"]);
    alice.namespace().ip(&["address", "add", "10.200.0.77/24", "dev", "out"]);
    alice.namespace().ip(&["route", "replace", "10.200.255.1", "via", "10.200.0.1"]);
    talk.say("there");
    talk.expect("after there");
    assert_eq!(talk.end(), 0);
}

#[test]
fn a_client_comes_back_by_itself_after_the_gateway_was_killed() {
    let mut world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo 1"]).ok(), "1\n");
    world.kill_once_it_knows_its_devices();
    let before = alice.received();
    world.up();
    // wireguard-go still holds the old keys; the gateway begins the handshake.
    wait_until("the gateway has greeted its client", || alice.received() > before);
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo 2"]).ok(), "2\n");
}

#[test]
fn a_device_that_was_removed_or_never_added_gets_no_answer() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo in"]).ok(), "in\n");
    let _removed = world.sallyport(&["device", "rm", "laptop"]).ok();
    let out = alice.ssh(&["-o", "ConnectTimeout=3", "ubuntu@web1", "echo in"]).failed();
    assert!(!out.contains("in\n"), "{out}");
}

#[test]
fn removing_a_device_ends_its_sessions_at_once() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&[
        "-o",
        "ServerAliveInterval=1",
        "-o",
        "ServerAliveCountMax=8",
        "-tt",
        "ubuntu@web1",
        "echo up; sleep 1234567",
    ]);
    talk.expect("up");
    let _removed = world.sallyport(&["device", "rm", "laptop"]).ok();
    assert_eq!(talk.end(), 255);
    world.wait_for_outcome("revoked");
    // With a terminal, so that the target's sshd ends the command when its connection goes, as it does for anybody.
    wait_until("the command on the target has ended with it", || !world.web1.runs("sleep 1234567"));
}

#[test]
fn a_device_that_expires_while_it_is_used_loses_its_session_and_is_let_in_no_more() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let expires = |at: &str| -> jiff::Timestamp {
        let _set = world.sallyport(&["device", "expire", "laptop", "--at", at]).ok();
        let listed = world.sallyport(&["device", "ls", "--json"]).ok();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        listed[0]["expires"].as_str().unwrap().parse().unwrap()
    };
    let mut command = alice.client("ssh");
    let soon = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3", "-tt"];
    command.args(soon).args(["ubuntu@web1", "echo up; read line; echo got $line; sleep 3456789"]);
    let mut talk = e2e::Talk::start(command);
    talk.expect("up");
    // A time that was put off does not end it.
    let first = expires("3s");
    let _later = expires("1h");
    wait_until("the first time has passed", || jiff::Timestamp::now() > first);
    talk.say("more");
    talk.expect("got more");

    let expired = expires("4s");
    assert_eq!(talk.end(), 255);
    let mut session = serde_json::Value::Null;
    wait_until("the session is in the list, ended", || {
        let listed: serde_json::Value =
            serde_json::from_str(&world.sallyport(&["sessions", "ls", "--json"]).ok()).unwrap();
        session = listed[0].clone();
        session["outcome"] == "expired" || session["outcome"] == "revoked"
    });
    let ended: jiff::Timestamp = session["ended"].as_str().unwrap().parse().unwrap();
    assert!(ended >= expired, "it ended at {ended}, before its device expired at {expired}");
    assert!(session["reason"].as_str().unwrap().contains("expired"), "{session}");
    wait_until("the command on the target has ended with it", || !world.web1.runs("sleep 3456789"));
    let out = alice.ssh(&["-o", "ConnectTimeout=3", "ubuntu@web1", "echo in"]).failed();
    assert!(!out.contains("in\n"), "{out}");
    let _again = expires("90d");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo in"]).ok(), "in\n");
}

#[test]
fn an_ordinary_user_can_run_the_gateway() {
    let world = World::start(Setup { user: PERSON, ..Setup::default() });
    let alice = world.caller("alice@example.com", "laptop");
    for family in ["-4", "-6"] {
        assert_eq!(alice.ssh(&[family, "ubuntu@web1", "id -un"]).ok(), "ubuntu\n");
    }
}

#[test]
fn a_second_gateway_on_the_same_state_is_refused() {
    let world = World::new();
    let said = world.up_fails();
    assert!(said.contains("already") || said.contains("another"), "{said}");
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo first"]).ok(), "first\n", "the first one is unharmed");
}

fn address(found: &str) -> &str {
    found.split_whitespace().next().unwrap_or_default()
}
