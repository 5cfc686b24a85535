//! What holds for every policy.

#![expect(clippy::unwrap_used, reason = "helpers of the tests, outside a test function")]

use proptest::prelude::*;
use sallyport_policies::{Caller, Decision, Inventory, Policy, Port, SshAction, Target};

const PEOPLE: [&str; 3] = ["alice@example.com", "bob@example.com", "carol@example.org"];
const TARGETS: [(&str, &str); 3] = [("web1", "tag:prod"), ("web2", "tag:dev"), ("db1", "tag:prod")];
const ACCOUNTS: [&str; 4] = ["root", "ubuntu", "alice", "0"];

/// A rule of each section, put together from parts that sometimes fit each other.
#[derive(Debug, Clone)]
enum Rule {
    Grant(String),
    Accept(String),
    Check(String),
}

fn one_of(entries: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(entries).prop_map(|entry| format!("{entry:?}"))
}

fn rule() -> impl Strategy<Value = Rule> {
    let src = || one_of(&["group:sre", "alice@example.com", "user:*@example.org", "autogroup:member"]);
    let dst = || one_of(&["tag:prod", "tag:dev", "web1", "db1"]);
    let users = || one_of(&["root", "ubuntu", "autogroup:nonroot", "localpart:*@example.com"]);
    let ip = one_of(&["tcp:22", "22", "tcp:80", "*"]);
    let ssh = |action: &'static str| {
        (src(), dst(), users()).prop_map(move |(src, dst, users)| {
            format!(r#"{{ "action": "{action}", "src": [{src}], "dst": [{dst}], "users": [{users}] }}"#)
        })
    };
    prop_oneof![
        (src(), dst(), ip).prop_map(|(src, dst, ip)| {
            Rule::Grant(format!(r#"{{ "src": [{src}], "dst": [{dst}], "ip": [{ip}] }}"#))
        }),
        ssh("accept").prop_map(Rule::Accept),
        ssh("check").prop_map(Rule::Check),
    ]
}

fn policy(rules: &[Rule]) -> Policy {
    let (mut grants, mut ssh) = (Vec::new(), Vec::new());
    for rule in rules {
        match rule {
            Rule::Grant(text) => grants.push(text.as_str()),
            Rule::Accept(text) | Rule::Check(text) => ssh.push(text.as_str()),
        }
    }
    let text = format!(
        r#"{{ "groups": {{ "group:sre": ["bob@example.com"] }}, "tagOwners": {{ "tag:prod": [], "tag:dev": [] }},
             "grants": [{}], "ssh": [{}] }}"#,
        grants.join(","),
        ssh.join(",")
    );
    Policy::parse(&text).unwrap().policy
}

/// Who gets in where and as whom: denied, checked or accepted.
fn access(policy: &Policy) -> Vec<(String, u8)> {
    let mut all = Vec::new();
    for person in PEOPLE {
        let caller = Caller { user: Some(person.into()), ..Caller::default() };
        for (name, tag) in TARGETS {
            let target = Target { name: name.into(), tags: vec![tag.into()], addresses: Vec::new() };
            let approach = policy.approach(&caller, &target, Port::SSH).is_allowed();
            all.push((format!("{person} to {name}"), u8::from(approach)));
            for account in ACCOUNTS {
                let outcome = match policy.ssh(&caller, &target, account) {
                    Decision::Deny(_) => 0,
                    Decision::Allow(grant) if grant.action == SshAction::Accept => 2,
                    Decision::Allow(_) => 1,
                };
                assert!(outcome == 0 || approach, "{person} logs in to {name} as {account} without an approach");
                all.push((format!("{person} to {name} as {account}"), outcome));
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn reading_never_panics(text in "\\PC{0,200}") {
        let _ = Policy::parse(&text);
    }

    #[test]
    fn reading_a_damaged_policy_never_panics(at in 0..Policy::starter().len(), with in "\\PC{0,3}", cut in 0_usize..9) {
        let starter = Policy::starter();
        let before = starter.get(..at).unwrap_or_default();
        let after = starter.get(at + cut..).unwrap_or_default();
        if let Ok(parsed) = Policy::parse(&format!("{before}{with}{after}")) {
            access(&parsed.policy);
            parsed.policy.run_tests(&Inventory::default());
        }
    }

    #[test]
    fn adding_a_rule_takes_nothing_away_but_by_a_check(rules in prop::collection::vec(rule(), 0..6), more in rule()) {
        let before = access(&policy(&rules));
        let mut rules = rules;
        rules.push(more.clone());
        let after = access(&policy(&rules));
        for ((what, before), (_, after)) in before.iter().zip(&after) {
            let kept = after >= before || (matches!(more, Rule::Check(_)) && *after == 1);
            prop_assert!(kept, "{}: {} became {} by {:?}", what, before, after, more);
        }
    }

    #[test]
    fn the_order_of_rules_changes_nobodys_access(rules in prop::collection::vec(rule(), 0..6)) {
        let mut reversed = rules.clone();
        reversed.reverse();
        prop_assert_eq!(access(&policy(&rules)), access(&policy(&reversed)));
    }
}

#[test]
fn bounds_hold() {
    let deep = format!(r#"{{ "grants": {}{} }}"#, "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("{{ // {}\n}}", "x".repeat(600_000));
    let many = format!(r#"{{ "grants": [{}] }}"#, "{},".repeat(6_000));
    let list = (0..20_000).map(|n| format!("\"u{n}@x\",")).collect::<String>();
    let members = format!(r#"{{ "groups": {{ "group:a": [{list}] }} }}"#);
    let string = format!(r#"{{ "groups": {{ "group:a": ["{}@x"] }} }}"#, "a".repeat(5_000));
    for (name, text, expected) in [
        ("nesting", deep, "nesting depth"),
        ("length", long, "at most 524288 bytes"),
        ("rules", many, "at most 5000"),
        ("members", members, "at most 5000"),
        ("strings", string, "at most 4096 bytes"),
    ] {
        let errors = Policy::parse(&text).unwrap_err();
        assert!(errors.to_string().contains(expected), "{name}: {}", errors.iter().next().unwrap());
        assert!(errors.iter().count() <= 201, "{name}");
    }
}
