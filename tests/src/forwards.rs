//! Forwarding as a caller does it over the tailnet: jumps from target to target, and the escapes of a live session.

use e2e::{Caller, Finished, Setup, Terminal, World, run};

/// Alice may forward to the target's own loopback; Bob passes the network rule to web1 alone.
const POLICY: &str = r#"{
  "groups":    { "group:sre": ["alice@example.com"], "group:staff": ["alice@example.com", "bob@example.com"] },
  "tagOwners": { "tag:prod": ["group:sre"] },
  "grants": [
    { "src": ["group:staff"], "dst": ["web1"], "ip": ["tcp:22"] },
    { "src": ["group:sre"], "dst": ["tag:prod"], "ip": ["tcp:22"], "app": { "sallyport.dev/cap/ssh": [
      { "shell": {}, "exec": {}, "localForward": ["127.0.0.2:*"] } ] } },
  ],
  "ssh": [
    { "action": "accept", "src": ["group:staff"], "dst": ["web1"], "users": ["ubuntu"] },
    { "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu"] },
  ],
}
"#;

/// A world with a second name for the same sshd.
fn world() -> World {
    let world = World::start(Setup { policy: POLICY.to_owned(), ..Setup::default() });
    let added = ["target", "add", "web2", "--ssh", "127.0.0.2:22", "--scan", "--accept", "--tag", "tag:prod"];
    let _registered = world.sallyport(&added).ok();
    world
}

/// `ssh -J`, whose two clients read the same file.
fn jump(caller: &Caller, over: &str, to: &str, command: &str) -> Finished {
    let file = caller.folder().join("ssh_config");
    let config = format!(
        "Host *\nStrictHostKeyChecking yes\nGlobalKnownHostsFile none\nUserKnownHostsFile {}\nBatchMode yes\n\
         IdentityFile none\nConnectTimeout 20\n",
        caller.folder().join("known_hosts").display()
    );
    std::fs::write(&file, config).unwrap();
    let mut ssh = caller.command("ssh");
    ssh.arg("-F").arg(file).args(["-J", over, to, command]);
    run(ssh, b"")
}

#[test]
fn a_jump_to_another_target_is_a_session_of_its_own() {
    let world = world();
    let alice = world.caller("alice@example.com", "laptop");
    for name in ["web2", "web2.corp.internal", "WEB2"] {
        let to = format!("ubuntu@{name}");
        assert_eq!(jump(&alice, "ubuntu@web1", &to, "echo through; exit 7").code, 7, "{name}");
    }
    let twice = jump(&alice, "ubuntu@web1,ubuntu@web2", "ubuntu@web1", "echo twice");
    assert_eq!(twice.ok(), "twice\n");
    e2e::wait_until("every session is listed as completed", || {
        let listed: serde_json::Value =
            serde_json::from_str(&world.sallyport(&["sessions", "ls", "--json"]).ok()).unwrap();
        let of = |target: &str| {
            listed.as_array().unwrap().iter().filter(|s| s["target"] == target && s["outcome"] == "completed").count()
        };
        // Three to web1 and three to web2; then web1, web2 and web1 again.
        (of("web1"), of("web2")) == (5, 4)
    });
    leaves_the_records_of_any_connection(&world);
    let log = world.web1.log();
    assert!(!log.contains("direct-tcpip") && !log.contains("connect_to"), "web1 was asked to dial: {log}");

    // What she may not do directly, she may not do from web1 either; nor may Bob, who does not reach web2 at all.
    let refused = jump(&alice, "ubuntu@web1", "deploy@web2", "id").failed();
    assert!(refused.contains("may not log in to web2 as deploy"), "{refused}");
    let bob = world.caller("bob@example.com", "tablet");
    let refused = jump(&bob, "ubuntu@web1", "ubuntu@web2", "id").failed();
    assert!(refused.contains("web2"), "{refused}");
    // The one to web1 was allowed; that a caller without a way to web2 was refused there is a flow too.
    e2e::wait_until("the refused connection has its record", || {
        let flows = flows(&world, "tablet");
        let denied = |flow: &&serde_json::Value| flow["denied"].as_str().is_some_and(|why| why.contains("web2"));
        flows.iter().filter(denied).all(|flow| flow["session"].is_null()) && flows.iter().any(|flow| denied(&flow))
    });
}

/// The flows of a device, the latest first.
fn flows(world: &World, device: &str) -> Vec<serde_json::Value> {
    let listed = world.sallyport(&["flows", "ls", "--device", device, "--json"]).ok();
    serde_json::from_str::<serde_json::Value>(&listed).unwrap().as_array().unwrap().clone()
}

/// The connection inside the session is a flow as the one around it is, and stands in the record of the session that it
/// was made in, with its bytes.
fn leaves_the_records_of_any_connection(world: &World) {
    let listed = world.sallyport(&["sessions", "ls", "--json"]).ok();
    let sessions: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    let of = |target: &'static str| sessions.iter().filter(move |session| session["target"] == target);
    assert_eq!((of("web1").count(), of("web2").count()), (5, 4));
    e2e::wait_until("each session's connection has its record", || {
        let flows = flows(world, "laptop");
        sessions.iter().all(|session| {
            let became = |flow: &&serde_json::Value| flow["session"] == session["id"];
            let whole = |flow: &serde_json::Value| {
                let bytes = |way: &str| flow[way].as_u64().unwrap();
                let there = flow["destination"].as_str().unwrap().ends_with(":22");
                there && flow["denied"].is_null() && bytes("rx_bytes") > 1_000 && bytes("tx_bytes") > 1_000
            };
            flows.iter().find(became).is_some_and(whole)
        })
    });
    let ids = of("web1").map(|session| session["id"].as_str().unwrap());
    let told: String = ids.map(|id| world.sallyport(&["replay", id]).ok()).collect();
    assert!(told.contains("jump") && told.contains("web2:22"), "{told}");
}

#[test]
fn the_escapes_of_a_live_session_work() {
    let world = world();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.args(["-o", "EnableEscapeCommandline=yes", "ubuntu@web1"]);
    let terminal = Terminal::new(world.folder(), &command);
    terminal.wait_for("$");
    terminal.enter("");
    terminal.press("~");
    terminal.press("C");
    terminal.wait_for("ssh>");
    terminal.enter(" -L 7009:127.0.0.2:22");
    terminal.wait_for("Forwarding port");
    let greeting = alice.namespace().within(|| {
        let mut stream = std::net::TcpStream::connect("127.0.0.1:7009").unwrap();
        let mut greeting = [0; 8];
        std::io::Read::read_exact(&mut stream, &mut greeting).unwrap();
        greeting
    });
    assert_eq!(&greeting, b"SSH-2.0-");
    terminal.enter("");
    terminal.press("~");
    terminal.press(".");
    e2e::wait_until("the session ended", || {
        let listed = world.sallyport(&["sessions", "ls", "--json"]).ok();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        listed.as_array().unwrap().iter().all(|session| session["outcome"].is_string())
    });
}
