//! What policies decide: each row is a rule of the language.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of the tests, outside a test function")]

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

/// Definitions that the rows below share; each row adds its rules.
const SHARED: &str = r#"
  "groups":    { "group:sre": ["alice@example.com"], "group:dev": ["bob@example.com", "root@example.com"] },
  "tagOwners": { "tag:prod": ["group:sre"], "tag:ci": ["group:sre", "bob@example.com"] },
  "hosts":     { "db1": "10.0.4.2", "office": "203.0.113.0/24" },
  "ipsets":    { "ipset:inside": ["add 10.0.0.0/8", "remove 10.9.0.0/16"] },
  "postures":  { "posture:linux": ["node:os == 'linux'"], "posture:mac": ["node:os == 'macos'"],
                 "posture:strict": ["node:os == 'linux'", "custom:diskEncrypted == true"] },
"#;

fn with(rules: &str) -> Policy {
    parse(&format!("{{ {SHARED} {rules} }}"))
}

fn web1() -> Target {
    Target { addresses: vec!["10.0.4.2".parse().unwrap()], ..target("web1", &["tag:prod"]) }
}

fn machine() -> Caller {
    let addresses = vec!["203.0.113.7".parse().unwrap()];
    Caller { tags: vec!["tag:ci".into()], device: "build1".into(), addresses, ..Caller::default() }
}

#[test]
fn network_rules_open_just_what_they_say() {
    let alice = user("alice@example.com");
    let bob = user("bob@example.com");
    let two_domains = user("alice@example.org@example.com");
    let linux = Caller { attributes: [("node:os".into(), Value::from("linux"))].into(), ..alice.clone() };
    let tagged_alice = Caller { tags: vec!["tag:ci".into()], ..alice.clone() };
    let grant = |src: &str, dst: &str, ip: &str| {
        format!(r#""grants": [{{ "src": ["{src}"], "dst": ["{dst}"], "ip": ["{ip}"] }}]"#)
    };
    let acl =
        |src: &str, dst: &str| format!(r#""acls": [{{ "action": "accept", "src": ["{src}"], "dst": ["{dst}"] }}]"#);
    let posture =
        |names: &str| format!(r#""grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["*"], "srcPosture": [{names}] }}]"#);
    for (name, rules, caller, expected) in [
        ("no rule at all", String::new(), &alice, false),
        ("a user", grant("alice@example.com", "tag:prod", "tcp:22"), &alice, true),
        ("another user", grant("alice@example.com", "tag:prod", "tcp:22"), &bob, false),
        ("a group's member", grant("group:sre", "tag:prod", "tcp:22"), &alice, true),
        ("not a member", grant("group:dev", "tag:prod", "tcp:22"), &alice, false),
        ("everyone of a domain", grant("user:*@example.com", "tag:prod", "tcp:22"), &alice, true),
        ("another domain", grant("user:*@example.org", "tag:prod", "tcp:22"), &alice, false),
        ("a domain behind another", grant("user:*@example.com", "tag:prod", "tcp:22"), &two_domains, false),
        ("any member", grant("autogroup:member", "tag:prod", "tcp:22"), &alice, true),
        ("a machine is no member", grant("autogroup:member", "tag:prod", "tcp:22"), &machine(), false),
        ("a tagged machine", grant("autogroup:tagged", "tag:prod", "tcp:22"), &machine(), true),
        ("a user is not tagged", grant("autogroup:tagged", "tag:prod", "tcp:22"), &alice, false),
        ("a tag", grant("tag:ci", "tag:prod", "tcp:22"), &machine(), true),
        ("tags take the user's place", grant("alice@example.com", "tag:prod", "tcp:22"), &tagged_alice, false),
        ("the role of an admin is nobody's", grant("autogroup:admin", "tag:prod", "tcp:22"), &alice, false),
        ("an address of the caller", grant("office", "tag:prod", "tcp:22"), &machine(), true),
        ("a caller without that address", grant("office", "tag:prod", "tcp:22"), &alice, false),
        ("a target by name", grant("*", "web1", "tcp:22"), &alice, true),
        ("another target", grant("*", "web2", "tcp:22"), &alice, false),
        ("a target by host", grant("*", "db1", "tcp:22"), &alice, true),
        ("a target by address", grant("*", "10.0.4.2", "tcp:22"), &alice, true),
        ("a target by prefix", grant("*", "10.0.0.0/16", "tcp:22"), &alice, true),
        ("a target outside the prefix", grant("*", "10.1.0.0/16", "tcp:22"), &alice, false),
        ("a target by set", grant("*", "ipset:inside", "tcp:22"), &alice, true),
        ("another tag", grant("*", "tag:ci", "tcp:22"), &alice, false),
        ("any tag", grant("*", "autogroup:tagged", "tcp:22"), &alice, true),
        ("a device of one's own", grant("*", "autogroup:self", "tcp:22"), &alice, false),
        ("another port", grant("*", "*", "tcp:23"), &alice, false),
        ("another protocol", grant("*", "*", "udp:22"), &alice, false),
        ("a range", grant("*", "*", "20-25"), &alice, true),
        ("everything", grant("*", "*", "*"), &alice, true),
        ("an ACL", acl("group:sre", "tag:prod:22"), &alice, true),
        ("an ACL with another port", acl("group:sre", "tag:prod:80,443"), &alice, false),
        ("an ACL by name", acl("*", "web1:*"), &alice, true),
        ("no posture met", posture(r#""posture:linux""#), &alice, false),
        ("the posture met", posture(r#""posture:linux""#), &linux, true),
        ("one of several postures met", posture(r#""posture:mac", "posture:linux""#), &linux, true),
        ("half of a posture met", posture(r#""posture:strict""#), &linux, false),
        (
            "the default posture not met",
            format!(r#""defaultSrcPosture": ["posture:linux"], {}"#, grant("*", "*", "*")),
            &alice,
            false,
        ),
        ("app without ip", r#""grants": [{ "src": ["*"], "dst": ["*"], "app": {} }]"#.to_owned(), &alice, false),
    ] {
        let ssh = r#""ssh": [{ "action": "accept", "src": ["autogroup:member", "autogroup:tagged"], "dst": ["autogroup:tagged"], "users": ["ubuntu"] }]"#;
        let separator = if rules.is_empty() { "" } else { "," };
        let with_ssh = with(&format!("{rules}{separator} {ssh}"));
        assert_eq!(with_ssh.approach(caller, &web1(), Port::SSH).is_allowed(), expected, "approach: {name}");
        assert_eq!(with_ssh.ssh(caller, &web1(), "ubuntu").is_allowed(), expected, "ssh: {name}");
        let alone = with(&rules);
        let denial = denial(alone.approach(caller, &web1(), Port::SSH));
        let missing = matches!(denial.missing, Missing::SshRule);
        assert_eq!(missing, expected, "the network rule alone lets nobody in by ssh: {name}");
    }
}

#[test]
fn the_default_posture_holds_for_every_rule_without_one_of_its_own() {
    let linux = Caller { attributes: [("node:os".into(), Value::from("linux"))].into(), ..user("alice@example.com") };
    let own = r#", "srcPosture": ["posture:linux"]"#;
    for (name, network, ssh, expected) in [
        ("neither", "", "", false),
        ("the network rule alone", own, "", false),
        ("the ssh rule alone", "", own, false),
        ("both", own, own, true),
    ] {
        let policy = with(&format!(
            r#""defaultSrcPosture": ["posture:mac"],
               "grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["*"]{network} }}],
               "ssh": [{{ "action": "accept", "src": ["group:sre"], "dst": ["web1"], "users": ["ubuntu"]{ssh} }}]"#
        ));
        assert_eq!(policy.ssh(&linux, &web1(), "ubuntu").is_allowed(), expected, "{name}");
    }
}

#[test]
fn ssh_rules_allow_just_the_accounts_they_name() {
    let (alice, bob, root) = (user("alice@example.com"), user("bob@example.com"), user("root@example.com"));
    let rule = |src: &str, dst: &str, users: &str| {
        format!(r#"{{ "action": "accept", "src": ["{src}"], "dst": ["{dst}"], "users": [{users}] }}"#)
    };
    for (name, rule, caller, account, expected) in [
        ("the account", rule("group:sre", "tag:prod", r#""ubuntu""#), &alice, "ubuntu", true),
        ("another account", rule("group:sre", "tag:prod", r#""ubuntu""#), &alice, "root", false),
        ("in other letters", rule("group:sre", "tag:prod", r#""ubuntu""#), &alice, "Ubuntu", false),
        ("with a blank", rule("group:sre", "tag:prod", r#""ubuntu""#), &alice, "ubuntu ", false),
        ("no account", rule("group:sre", "tag:prod", r#""ubuntu""#), &alice, "", false),
        ("root by name", rule("group:sre", "tag:prod", r#""root""#), &alice, "root", true),
        ("nonroot", rule("group:sre", "tag:prod", r#""autogroup:nonroot""#), &alice, "deploy", true),
        ("nonroot for root", rule("group:sre", "tag:prod", r#""autogroup:nonroot""#), &alice, "root", false),
        ("nonroot for uid 0", rule("group:sre", "tag:prod", r#""autogroup:nonroot""#), &alice, "0", false),
        ("one's own name", rule("group:sre", "tag:prod", r#""localpart:*@example.com""#), &alice, "alice", true),
        ("another's name", rule("group:sre", "tag:prod", r#""localpart:*@example.com""#), &alice, "bob", false),
        (
            "another domain's name",
            rule("group:sre", "tag:prod", r#""localpart:*@example.org""#),
            &alice,
            "alice",
            false,
        ),
        ("root's own name", rule("group:dev", "tag:prod", r#""localpart:*@example.com""#), &root, "root", false),
        ("another caller", rule("group:sre", "tag:prod", r#""ubuntu""#), &bob, "ubuntu", false),
        ("a machine", rule("tag:ci", "tag:prod", r#""ubuntu""#), &machine(), "ubuntu", true),
        ("a target by name", rule("group:sre", "web1", r#""ubuntu""#), &alice, "ubuntu", true),
        ("another target", rule("group:sre", "web2", r#""ubuntu""#), &alice, "ubuntu", false),
        ("a target by host", rule("group:sre", "db1", r#""ubuntu""#), &alice, "ubuntu", true),
        ("a device of one's own", rule("group:sre", "autogroup:self", r#""ubuntu""#), &alice, "ubuntu", false),
    ] {
        let policy =
            with(&format!(r#""grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["tcp:22"] }}], "ssh": [{rule}]"#));
        assert_eq!(policy.ssh(caller, &web1(), account).is_allowed(), expected, "{name}");
        let without_network = with(&format!(r#""ssh": [{rule}]"#));
        let denial = denial(without_network.ssh(caller, &web1(), account));
        assert_eq!(denial.missing, Missing::NetworkRule, "the ssh rule alone opens nothing: {name}");
    }
}

/// One network rule for everybody, `ssh` rules, and grants that carry capabilities.
fn ssh_policy(ssh: &str, capabilities: &str) -> Policy {
    with(&format!(r#""grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["tcp:22"] }}{capabilities}], "ssh": [{ssh}]"#))
}

#[test]
fn check_rules_come_before_accept_rules_and_then_the_first_holds() {
    let policy = ssh_policy(
        r#"{ "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["root", "ubuntu"] },
           { "action": "check",  "src": ["group:sre"], "dst": ["tag:prod"], "users": ["root"], "checkPeriod": "1h30m" },
           { "action": "check",  "src": ["group:sre"], "dst": ["tag:prod"], "users": ["root"], "checkPeriod": "always" },
           { "action": "check",  "src": ["group:sre"], "dst": ["tag:prod"], "users": ["deploy"] },
           { "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu"], "enforceRecorder": false }"#,
        "",
    );
    let alice = user("alice@example.com");
    for (account, rule, action) in [
        ("root", "ssh[1]", SshAction::Check { period: std::time::Duration::from_secs(5400) }),
        ("deploy", "ssh[3]", SshAction::Check { period: std::time::Duration::from_secs(43_200) }),
        ("ubuntu", "ssh[0]", SshAction::Accept),
    ] {
        let grant = grant(policy.ssh(&alice, &web1(), account));
        assert_eq!((grant.ssh_rule.rule.as_str(), grant.action), (rule, action), "{account}");
        assert_eq!(grant.recording, RecordingRule::Required, "{account}");
    }
    assert_eq!(policy.ssh_accounts(&alice, &web1()), ["root", "deploy", "ubuntu"]);
    assert_eq!(policy.ssh_accounts(&user("bob@example.com"), &web1()), [""; 0]);
}

#[test]
fn capabilities_stand_in_the_place_of_the_default_and_add_up() {
    let rule = r#"{ "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu", "root"], "acceptEnv": ["LANG"] }"#;
    let cap = |src: &str, value: &str| {
        format!(r#", {{ "src": ["{src}"], "dst": ["tag:prod"], "app": {{ "sallyport.dev/cap/ssh": [{value}] }} }}"#)
    };
    let ask = |capabilities: String, account: &str| {
        grant(ssh_policy(rule, &capabilities).ssh(&user("alice@example.com"), &web1(), account))
    };
    let default = ask(String::new(), "ubuntu").capability;
    assert!(default.shell && default.exec == ExecRule::Any && default.sftp.upload && default.sftp.download);
    assert!(!default.agent && !default.x11 && default.local_forward.is_empty() && default.subsystems.is_empty());

    let others = ask(cap("group:dev", r#"{ "agent": true }"#), "ubuntu");
    assert_eq!(others.capability, default, "a capability for others changes nothing");

    let shell = ask(cap("group:sre", r#"{ "shell": {} }"#), "ubuntu").capability;
    assert!(shell.shell && shell.exec == ExecRule::None && !shell.sftp.download && !shell.sftp.upload);

    let nothing = ask(cap("group:sre", "{}"), "ubuntu").capability;
    assert!(!nothing.shell && nothing.exec == ExecRule::None);

    let both = ask(
        cap(
            "group:sre",
            r#"{ "exec": { "commands": ["uptime"] }, "sftp": { "upload": true }, "maxDuration": "8h", "env": ["TZ"] }"#,
        ) + &cap(
            "*",
            r#"{ "exec": { "commands": ["df *"] }, "agent": {}, "maxDuration": "1h" }, { "subsystems": ["netconf"] }"#,
        ),
        "ubuntu",
    );
    assert!(both.capability.exec.allows("uptime") && both.capability.exec.allows("df -h"));
    assert!(!both.capability.exec.allows("df -h; reboot") && !both.capability.exec.allows("uptime -p"));
    assert!(!both.capability.shell && both.capability.sftp.upload && !both.capability.sftp.download);
    assert!(both.capability.agent && both.capability.subsystems == ["netconf"]);
    assert_eq!(both.capability.max_duration, Some(std::time::Duration::from_secs(3600)), "the stricter limit");
    assert_eq!(both.accept_env, ["LANG", "TZ"]);
    let rules: Vec<&str> = both.capability_rules.iter().map(|location| location.rule.as_str()).collect();
    assert_eq!(rules, ["grants[1]", "grants[2]"]);

    let some = cap("group:sre", r#"{ "shell": {}, "accounts": ["ubuntu"] }"#);
    assert_eq!(ask(some.clone(), "ubuntu").capability.exec, ExecRule::None);
    assert_eq!(ask(some, "root").capability, default, "a capability for other accounts changes nothing");
}

#[test]
fn recording_is_required_unless_a_rule_says_otherwise() {
    let cap =
        |value: &str| format!(r#", {{ "src": ["*"], "dst": ["*"], "app": {{ "sallyport.dev/cap/ssh": [{value}] }} }}"#);
    let (required, best, off) = (RecordingRule::Required, RecordingRule::BestEffort, RecordingRule::Off);
    // The last column is what the approach says, before the account is known; there is another account, "root".
    for (name, enforce, caps, expected, approach) in [
        ("nothing said", "", String::new(), required, required),
        ("enforced", r#", "enforceRecorder": true"#, String::new(), required, required),
        ("not enforced", r#", "enforceRecorder": false"#, String::new(), best, required),
        ("switched off", "", cap(r#"{ "recording": "off" }"#), off, off),
        ("best effort", "", cap(r#"{ "recording": "bestEffort" }"#), best, best),
        (
            "required by the capability",
            r#", "enforceRecorder": false"#,
            cap(r#"{ "recording": "required" }"#),
            required,
            required,
        ),
        ("the strictest of two", "", cap(r#"{ "recording": "off" }, { "recording": "bestEffort" }"#), best, best),
        ("one says nothing", "", cap(r#"{ "recording": "off" }, {}"#), off, off),
        ("off for this account", "", cap(r#"{ "recording": "off", "accounts": ["ubuntu"] }"#), off, required),
        ("off for another account", "", cap(r#"{ "recording": "off", "accounts": ["root"] }"#), required, required),
    ] {
        let ssh = format!(
            r#"{{ "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu"]{enforce} }},
               {{ "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["root"] }}"#
        );
        let policy = ssh_policy(&ssh, &caps);
        let alice = user("alice@example.com");
        assert_eq!(grant(policy.ssh(&alice, &web1(), "ubuntu")).recording, expected, "{name}");
        let found = policy.approach(&alice, &web1(), Port::SSH).into_result().unwrap();
        assert_eq!(found.recording, approach, "approach: {name}");
    }
}

#[test]
fn denials_say_what_is_missing_and_whom_to_ask() {
    let rule = r#"{ "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu"] }"#;
    let policy = ssh_policy(rule, "");
    let (alice, bob, web2) = (user("alice@example.com"), user("bob@example.com"), target("web2", &[]));
    for (name, denial, missing, sentence) in [
        (
            "no ssh rule for the caller",
            denial(policy.approach(&bob, &web1(), Port::SSH)),
            Missing::SshRule,
            "bob@example.com may not log in to web1: the network rule is there, but no rule in the policy's \"ssh\" is for \
             bob@example.com there; ask group:sre",
        ),
        (
            "no ssh rule for the target, and no owner",
            denial(policy.ssh(&alice, &web2, "ubuntu")),
            Missing::SshRule,
            "alice@example.com may not log in to web2 as ubuntu: the network rule is there, but no rule in the policy's \
             \"ssh\" is for alice@example.com there; ask whoever keeps the policy",
        ),
        (
            "a machine",
            denial(policy.ssh(&machine(), &web1(), "ubuntu")),
            Missing::SshRule,
            "build1 (tag:ci) may not log in to web1 as ubuntu: the network rule is there, but no rule in the policy's \
             \"ssh\" is for build1 (tag:ci) there; ask group:sre",
        ),
        (
            "an account that is none",
            denial(policy.ssh(&alice, &web1(), "root\u{1b}[2J\n")),
            Missing::Account,
            "alice@example.com may not log in to web1 as \"root\\u{1b}[2J\\n\": that is not the name of an account, only \
             ubuntu; ask group:sre",
        ),
    ] {
        assert_eq!((denial.missing, denial.sentence.as_str()), (missing, sentence), "{name}");
    }
    let considered = denial(policy.ssh(&alice, &web2, "ubuntu")).considered;
    assert_eq!(considered.len(), 1);
    assert_eq!(considered[0].location.rule, "ssh[0]");
    assert_eq!(considered[0].why_not, "its dst is tag:prod, not web2");
}

#[test]
fn tests_that_fail_say_where_and_what_happened_instead() {
    let policy = parse(
        r#"{
  "tagOwners": { "tag:prod": [] },
  "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"] }],
  "ssh": [{ "action": "check", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["root"] }],
  "tests": [
    { "src": "alice@example.com", "accept": ["tag:prod:22", "tag:prod:80"], "deny": ["web1:22", "web9:22"] },
  ],
  "sshTests": [
    { "src": "alice@example.com", "dst": ["web1"], "accept": ["root"], "check": ["root", "ubuntu"], "deny": ["ubuntu", "root"] },
  ],
}"#,
    );
    let failures: Vec<String> = policy.run_tests(&inventory()).iter().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        [
            "6:61: tests[0]: alice@example.com should reach tag:prod on tcp:80, but does not: alice@example.com may not reach \
             web1 on tcp:80: no rule in the policy's \"acls\" or \"grants\" opens it; ask whoever keeps the policy",
            "6:86: tests[0]: alice@example.com should not reach web1 on tcp:22, but grants[0] (line 3, column 14) allows it",
            "6:97: tests[0]: there is no target web9: add it, or test by tag",
            "9:63: sshTests[0]: alice@example.com to web1 as root should be accepted, but is checked by ssh[0] (line 4, column \
             11)",
            "9:90: sshTests[0]: alice@example.com to web1 as ubuntu should be checked, but is denied as alice@example.com may \
             not log in to web1 as ubuntu: no rule in the policy's \"ssh\" allows that account, only root; ask whoever keeps \
             the policy",
            "9:120: sshTests[0]: alice@example.com to web1 as root should be denied, but is checked by ssh[0] (line 4, column \
             11)",
        ]
    );
}

#[test]
fn ssh_tests_are_about_a_device_that_meets_every_posture_unless_they_say_otherwise() {
    let mac = r#""srcPostureAttrs": { "node:os": "macos" }, "#;
    let linux = r#""srcPostureAttrs": { "node:os": "linux" }, "#;
    for (name, attributes, expected, holds) in [
        ("nothing said", "", "accept", true),
        ("nothing said, and denied", "", "deny", false),
        ("the posture met", linux, "accept", true),
        ("the posture not met", mac, "accept", false),
        ("the posture not met, and denied", mac, "deny", true),
        ("no attribute at all", r#""srcPostureAttrs": {}, "#, "deny", true),
    ] {
        let policy = with(&format!(
            r#""grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["*"], "srcPosture": ["posture:linux"] }}],
               "ssh": [{{ "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["root"] }}],
               "sshTests": [{{ {attributes} "src": "alice@example.com", "dst": ["web1"], "{expected}": ["root"] }}]"#
        ));
        assert_eq!(policy.run_tests(&inventory()).is_empty(), holds, "{name}");
    }
}

#[test]
fn rules_that_name_an_unknown_target_are_told() {
    let policy = parse(r#"{ "grants": [{ "src": ["*"], "dst": ["web1", "wbe1"], "ip": ["*"] }] }"#);
    let notes: Vec<String> = policy.unknown_targets(&inventory()).iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["1:14: grants[0]: there is no target \"wbe1\", so that its dst matches nothing"]);
}

#[test]
fn the_revision_is_that_of_the_text() {
    assert_eq!(parse("{}").revision(), "44136fa355b3");
    assert_ne!(parse("{ }").revision(), parse("{}").revision());
}
