//! What the operator is told to mend, and text that is found again.

use e2e::{POLICY, Setup, Terminal, World, run, wait_until};

fn examined(world: &World) -> (i32, Vec<serde_json::Value>) {
    let said = world.sallyport(&["doctor", "--json"]);
    (said.code, serde_json::from_str(&said.text()).unwrap())
}

/// The findings of an area as one text.
fn about(findings: &[serde_json::Value], area: &str) -> String {
    let of_area = findings.iter().filter(|finding| finding["area"] == area);
    of_area.map(|finding| finding.to_string() + "\n").collect()
}

#[test]
fn a_gateway_that_is_well_is_found_well_down_to_its_targets() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo well"]).ok(), "well\n");
    let (code, findings) = examined(&world);
    assert_eq!(code, 0, "{findings:#?}");
    let targets = about(&findings, "targets");
    assert!(targets.contains("it lets the gateway in as ubuntu") && targets.contains("SHA256:"), "{targets}");
    assert!(targets.contains("its clock is within 5 seconds of this one"), "{targets}");
    let endpoint = about(&findings, "endpoint");
    assert!(endpoint.contains("WireGuard's UDP 51820 is open at") && endpoint.contains("10.200.255.1"), "{endpoint}");
    assert!(endpoint.contains("10.200.255.1:51820 is not refused"), "{endpoint}");
    assert!(about(&findings, "gateway").contains("runs since"));
    assert!(about(&findings, "data plane").contains("could be made"));
    assert!(!world.web1.log().contains("Starting session: command on pts"), "nothing ran there");
    let text = world.sallyport(&["doctor"]).ok();
    for area in ["gateway", "data plane", "endpoint", "dns", "clock", "disk", "database", "keys", "policy", "targets"] {
        assert!(text.lines().any(|line| line.starts_with(area)), "{area}: {text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let mut world = World::new();
    let _alice = world.caller("alice@example.com", "laptop");
    world.write_policy("{ \"grant\": [],\n  \"shh\": [] }");
    world.web1.trust("");
    wait_until("the gateway has refused the edit", || world.gateway().printed().contains("the last good one stays"));
    let (code, findings) = examined(&world);
    assert_eq!(code, 1);
    let policy = about(&findings, "policy");
    assert!(policy.contains("policy.hujson:1:3: ") && policy.contains("policy.hujson:2:3: "), "{policy}");
    assert!(policy.contains("the gateway refused the edit"), "{policy}");
    world.write_policy(&POLICY.replace("tag:prod\"], \"ip\"", "tag:prod\", \"web9\"], \"ip\""));
    let refused = || about(&examined(&world).1, "policy").contains("the gateway refused");
    wait_until("the gateway has taken the next one", || !refused());
    let (_, findings) = examined(&world);
    assert!(about(&findings, "policy").contains("web9"), "a target that is not there");
    let targets = about(&findings, "targets");
    assert!(targets.contains("did not accept the gateway's certificate for ubuntu"), "{targets}");
    assert!(targets.contains("sallyport target ca"), "{targets}");
    world.change_host_key_of_web1();
    let targets = about(&examined(&world).1, "targets");
    assert!(targets.contains("HAS CHANGED"), "{targets}");
    world.web1.stop();
    let targets = about(&examined(&world).1, "targets");
    assert!(targets.contains("web1: dial failed"), "{targets}");
}

#[test]
fn a_clock_that_is_off_is_told_of_by_what_the_target_accepts() {
    if !e2e::has_peer("faketime") {
        return;
    }
    let world = World::new();
    let _alice = world.caller("alice@example.com", "laptop");
    for (moved, level, said) in [
        ("+20s", "warning", "the clock of web1 is more than 5 seconds behind this one"),
        ("-20s", "warning", "the clock of web1 is more than 5 seconds ahead of this one"),
        // Certificates of sessions are accepted by a clock that is ahead for as long as they hold.
        ("-90s", "warning", "the clock of web1 is more than 5 seconds ahead of this one"),
        ("-400s", "problem", "the clock of web1 is more than five minutes ahead of this one"),
        ("+300s", "problem", "the clock of web1 is more than a minute behind this one"),
    ] {
        let doctor = world.sallyport_at(moved, &["doctor", "--json"]).text();
        let findings: Vec<serde_json::Value> = serde_json::from_str(&doctor).unwrap();
        let found = findings.iter().find(|finding| finding["said"].as_str().unwrap().contains(said));
        let found = found.unwrap_or_else(|| panic!("{moved}: {findings:#?}"));
        assert_eq!((found["level"].as_str(), found["area"].as_str()), (Some(level), Some("clock")), "{moved}");
        assert!(found["remedy"].as_str().unwrap().contains("NTP"), "{found}");
    }
    assert!(!world.web1.log().contains("Starting session"), "nothing ran there");
}

#[test]
fn a_password_is_tried_as_a_certificate_is() {
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("password");
    let write = |password: &str| {
        std::fs::write(&file, password).unwrap();
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, only_ours).unwrap();
    };
    write("the right one");
    let world = World::start(Setup {
        login: format!("{{ password = \"file:{}\" }}", file.display()),
        sshd: "Match User ubuntu\nPasswordAuthentication yes".to_owned(),
        ..Setup::default()
    });
    let mut hash = std::process::Command::new("openssl");
    hash.args(["passwd", "-6", "the right one"]);
    world.hosts().lay_over_etc("shadow", &format!("ubuntu:{}:19000:0:99999:7:::\n", run(hash, b"").ok().trim()));
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "id -un"]).ok(), "ubuntu\n");
    let targets = about(&examined(&world).1, "targets");
    assert!(targets.contains("it lets the gateway in as ubuntu"), "{targets}");
    write("a wrong one");
    let (code, findings) = examined(&world);
    let targets = about(&findings, "targets");
    assert!(code == 1 && targets.contains("did not accept the gateway's password for ubuntu"), "{targets}");
    assert!(!serde_json::to_string(&findings).unwrap().contains("wrong one"), "no secret is in what it says");
}

#[test]
fn text_is_found_as_it_stood_and_jumped_to() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.arg("ubuntu@web1");
    let shell = Terminal::new(world.folder(), &command);
    shell.wait_for("$");
    shell.enter("printf 'lost \\033[1mand\\033[0m fo'; sleep 0.2; echo und");
    shell.wait_for("lost and found");
    shell.enter("clear; exit");
    wait_until("the session has ended", || world.sallyport(&["sessions", "ls"]).ok().contains("completed"));
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo found in a command"]).ok(), "found in a command\n");
    world.wait_for_every_end();
    let found = world.sallyport(&["search", "lost and found"]).ok();
    let line = found.lines().find(|line| line.contains("lost and found")).unwrap();
    assert!(line.contains("terminal 0"), "{found}");
    let (id, moment) = (found.split_whitespace().next().unwrap(), line.split_whitespace().nth(1).unwrap());
    let then = world.sallyport(&["replay", id, "--at", moment]).ok();
    assert!(then.contains("lost and fo"), "the screen as it stood then, at {moment}: {then}");
    let json =
        world.sallyport(&["search", "found in", "--json", "--caller", "alice@example.com", "--since", "1h"]).ok();
    let places: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["place"].as_str().unwrap().to_owned())
        .collect();
    assert!(places.contains(&"stdout".to_owned()) && places.contains(&"event".to_owned()), "{json}");
    assert_eq!(world.sallyport(&["search", "found", "--target", "web9"]).code, 1);
    // A person picks one by its number.
    let picker = Terminal::new(world.folder(), &world.command(&["search", "lost and found"]));
    picker.wait_for("Play from which");
    picker.enter("1");
    picker.wait_for("lost and fo");
    picker.press("q");
    picker.wait_for("Play from which");
}
