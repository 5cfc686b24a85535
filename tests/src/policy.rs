//! Who may: denials that say what is missing, the same decision explained, mistakes that are refused.

use e2e::{POLICY, Setup, World, wait_until};
use nix::sys::signal::Signal;

#[test]
fn a_caller_without_the_account_reads_one_clear_sentence() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let refused = alice.ssh(&["root@web1", "id"]);
    assert_eq!((refused.code, refused.text().as_str()), (255, ""));
    let sentence = "alice@example.com may not log in to web1 as root";
    assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
    assert!(refused.stderr.contains("ubuntu"), "it names what is allowed: {}", refused.stderr);
    assert!(!world.web1.log().contains("root"), "the target never heard of it");
    let explained = world.sallyport(&["policy", "explain", "alice@example.com", "web1", "--as", "root"]);
    assert_ne!(explained.code, 0);
    assert!((explained.text() + &explained.stderr).contains(sentence));
}

#[test]
fn a_caller_without_an_ssh_rule_gets_in_as_nobody() {
    let world = World::new();
    let bob = world.caller("bob@example.com", "phone");
    for account in ["ubuntu", "root", "bob"] {
        let refused = bob.ssh(&[&format!("{account}@web1"), "id"]);
        assert_eq!(refused.code, 255);
        assert!(refused.stderr.contains("bob@example.com may not"), "{}", refused.stderr);
    }
    assert!(!world.web1.log().contains("Accepted"), "{}", world.web1.log());
}

#[test]
fn without_a_network_rule_no_byte_reaches_the_target() {
    let world = World::new();
    let eve = world.caller("eve@example.com", "stranger");
    let refused = eve.ssh(&["-o", "ConnectTimeout=10", "ubuntu@web1", "id"]);
    assert_eq!((refused.code, refused.text().as_str()), (255, ""));
    assert!(!world.web1.log().contains("Connection from"), "{}", world.web1.log());
}

#[test]
fn explain_names_the_rule_and_the_line_that_allow() {
    let world = World::new();
    let said = world.sallyport(&["policy", "explain", "alice@example.com", "web1", "--as", "ubuntu"]).ok();
    let rule = POLICY.lines().position(|line| line.contains("\"action\"")).unwrap() + 1;
    assert!(said.contains(&format!("ssh[0] (line {rule},")), "{said}");
}

#[test]
fn a_policy_that_is_put_right_or_wrong_counts_for_the_next_decision_and_ends_live_sessions() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.args(["ubuntu@web1", "echo up; sleep 2345678"]);
    let mut talk = e2e::Talk::start(command);
    talk.expect("up");
    world.write_policy(&POLICY.replace("\"users\": [\"ubuntu\"]", "\"users\": [\"deploy\"]"));
    world.gateway().signal(Signal::SIGHUP);
    assert_eq!(talk.end(), 255, "{}", talk.heard());
    assert!(talk.heard().contains("alice@example.com may not log in to web1 as ubuntu"), "{}", talk.heard());
    assert_eq!(alice.ssh(&["deploy@web1", "id -un"]).ok(), "deploy\n");
    // A policy that is wrong is not taken: the last good one stays.
    world.write_policy("{ \"grants\": nonsense");
    let before = world.gateway().printed().len();
    world.gateway().signal(Signal::SIGHUP);
    wait_until("the operator reads why", || world.gateway().printed()[before..].contains("policy.hujson:1:"));
    assert_eq!(alice.ssh(&["deploy@web1", "id -un"]).ok(), "deploy\n");
}

#[test]
fn each_kind_of_mistake_is_refused_with_its_place() {
    let world = World::build(Setup::default());
    let cases = [
        ("not HuJSON", "{ \"grants\": [ }", "policy.hujson:1:"),
        ("a misspelt section", "{ \"grant\": [] }", "grants"),
        (
            "a misspelt key of a rule",
            r#"{ "ssh": [ { "action": "accept", "source": ["*"], "dst": ["*"], "users": ["u"] } ] }"#,
            "src",
        ),
        (
            "a group that is not there",
            r#"{ "grants": [ { "src": ["group:nobody"], "dst": ["*"], "ip": ["*"] } ] }"#,
            "group:nobody",
        ),
        (
            "a tag without an owner",
            r#"{ "grants": [ { "src": ["*"], "dst": ["tag:lost"], "ip": ["*"] } ] }"#,
            "tag:lost",
        ),
        (
            "an action that is none",
            r#"{ "ssh": [ { "action": "allow", "src": ["*"], "dst": ["*"], "users": ["u"] } ] }"#,
            "accept",
        ),
        ("a port that is none", r#"{ "grants": [ { "src": ["*"], "dst": ["*"], "ip": ["tcp:99999"] } ] }"#, "99999"),
        ("the wrong type", r#"{ "grants": {} }"#, "policy.hujson:1:"),
        (
            "a test of its own that fails",
            r#"{ "groups": {"group:g": ["alice@example.com"]}, "sshTests": [ { "src": "alice@example.com", "dst": ["web1"], "accept": ["root"] } ] }"#,
            "root",
        ),
    ];
    for (name, policy, expected) in cases {
        world.write_policy(policy);
        let said = world.sallyport(&["policy", "check"]).failed();
        assert!(said.contains(expected), "{name}: {said}");
        assert!(said.contains("policy.hujson:"), "{name}: no place in {said}");
        let said = world.up_fails();
        assert!(said.contains(expected), "{name}, at start: {said}");
    }
    world.write_policy("{ \"grant\": [],\n  \"shh\": [] }");
    let both = world.sallyport(&["policy", "check"]).failed();
    assert!(both.contains("policy.hujson:1:") && both.contains("policy.hujson:2:"), "all at once: {both}");
}
