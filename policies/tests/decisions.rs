//! What policies decide: each row is a rule of the language.

#![expect(clippy::panic, reason = "helpers of the tests, outside a test function")]

use sallyport_policies::{
    Caller, Decision, ExecRule, Inventory, Missing, Policy, Port, RecordingRule, SshAction, SshGrant, Target, Value,
};

fn parse(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|errors| panic!("{errors}")).policy
}

fn user(name: &str) -> Caller {
    Caller { user: Some(name.into()), device: "laptop".into(), ..Caller::default() }
}

fn managed(name: &str) -> Caller {
    let attributes = [("node:os".into(), Value::from("linux")), ("custom:diskEncrypted".into(), Value::from(true))];
    Caller { attributes: attributes.into(), ..user(name) }
}

fn target(name: &str, tags: &[&str]) -> Target {
    Target { name: name.into(), tags: tags.iter().map(|tag| (*tag).into()).collect(), addresses: Vec::new() }
}

fn inventory() -> Inventory {
    Inventory { devices: Vec::new(), targets: vec![target("web1", &["tag:prod"]), target("orders", &["tag:data"])] }
}

const EXAMPLE: &str = r#"{
  "groups":    { "group:sre": ["alice@example.com"], "group:data": ["bob@example.com"] },
  "tagOwners": { "tag:prod": ["group:sre"] },
  "postures":  { "posture:managed": ["node:os IN ['linux', 'macos']", "custom:diskEncrypted == true"] },
  "grants": [
    { "src": ["group:sre"],  "dst": ["tag:prod"], "ip": ["tcp:22"], "srcPosture": ["posture:managed"],
      "app": { "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {}, "sftp": { "download": true }, "localForward": ["localhost:9090"] }] } },
    { "src": ["group:data"], "dst": ["orders"],   "ip": ["tcp:5432"],
      "app": { "sallyport.dev/cap/postgres": [{ "roles": ["analyst"], "databases": ["orders"], "statements": ["read"] }] } } ],
  "ssh":      [ { "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu", "autogroup:nonroot"] } ],
  "sshTests": [ { "src": "alice@example.com", "dst": ["web1"], "accept": ["ubuntu"], "deny": ["root"] } ] }"#;

fn denial<T: std::fmt::Debug>(decision: Decision<T>) -> sallyport_policies::Denial {
    match decision {
        Decision::Deny(denial) => denial,
        Decision::Allow(grant) => panic!("allowed: {grant:?}"),
    }
}

fn grant(decision: Decision<SshGrant>) -> SshGrant {
    decision.into_result().unwrap_or_else(|denial| panic!("{denial}"))
}

#[test]
fn the_starter_policy_parses_without_notes_and_passes_its_tests() {
    let parsed = Policy::parse(Policy::starter()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(parsed.notes, []);
    assert_eq!(parsed.policy.run_tests(&Inventory::default()), []);
}

#[test]
fn the_example_of_the_design_decides_as_it_says() {
    let policy = parse(EXAMPLE);
    assert_eq!(policy.run_tests(&inventory()), []);
    let web1 = target("web1", &["tag:prod"]);
    let ubuntu = grant(policy.ssh(&managed("alice@example.com"), &web1, "ubuntu"));
    assert_eq!(ubuntu.network_rule.to_string(), "grants[0] (line 6, column 5)");
    assert_eq!(ubuntu.ssh_rule.to_string(), "ssh[0] (line 10, column 17)");
    assert_eq!((ubuntu.action, ubuntu.recording), (SshAction::Accept, RecordingRule::Required));
    let capability = ubuntu.capability;
    assert!(
        capability.shell && capability.exec == ExecRule::Any && capability.sftp.download && !capability.sftp.upload
    );
    assert_eq!(capability.local_forward, ["localhost:9090"]);
    assert!(!capability.agent && !capability.x11 && capability.remote_forward.is_empty());

    let root = denial(policy.ssh(&managed("alice@example.com"), &web1, "root"));
    assert_eq!(root.missing, Missing::Account);
    assert_eq!(
        root.sentence,
        "alice@example.com may not log in to web1 as root: no rule in the policy's \"ssh\" allows that account, only ubuntu \
         or autogroup:nonroot; ask group:sre"
    );
    assert_eq!(root.considered[0].why_not, "its users are ubuntu or autogroup:nonroot, not root");

    let unmanaged = denial(policy.approach(&user("alice@example.com"), &web1, Port::SSH));
    assert_eq!(unmanaged.missing, Missing::Posture);
    assert_eq!(
        unmanaged.sentence,
        "alice@example.com may not reach web1 from laptop, which does not meet posture:managed: it asks for \"node:os IN \
         ['linux', 'macos']\", but node:os is not set; ask group:sre"
    );

    let stranger = denial(policy.approach(&managed("bob@example.com"), &web1, Port::SSH));
    assert_eq!(stranger.missing, Missing::NetworkRule);
    assert_eq!(
        stranger.sentence,
        "bob@example.com may not reach web1 on tcp:22: no rule in the policy's \"acls\" or \"grants\" opens it; ask group:sre"
    );
    assert_eq!(stranger.considered.len(), 2);
    assert!(policy.approach(&user("bob@example.com"), &target("orders", &[]), Port::tcp(5432)).is_allowed());
}
