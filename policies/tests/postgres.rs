//! What policies decide about PostgreSQL: each row is a rule of the language.

#![expect(clippy::panic, reason = "helpers of the tests, outside a test function")]

use std::time::Duration;

use sallyport_policies::{
    Caller, Decision, Denial, Missing, ParameterRule, Policy, Port, PostgresGrant, RecordingRule, StatementKind, Target,
};

fn parse(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|errors| panic!("{errors}")).policy
}

fn user(name: &str) -> Caller {
    Caller { user: Some(name.into()), device: "laptop".into(), ..Caller::default() }
}

fn orders() -> Target {
    Target { name: "orders".into(), tags: vec!["tag:data".into()], addresses: Vec::new() }
}

/// A network rule for everybody, and capabilities for alice.
fn with(capabilities: &str) -> Policy {
    parse(&format!(
        r#"{{ "groups": {{ "group:data": ["alice@example.com"] }}, "tagOwners": {{ "tag:data": ["group:data"] }},
            "postures": {{ "posture:linux": ["node:os == 'linux'"] }},
            "grants": [
{{ "src": ["*"], "dst": ["*"], "ip": ["tcp:5432"] }},
{{ "src": ["group:data"], "dst": ["tag:data"], "app": {{ "sallyport.dev/cap/postgres": [{capabilities}] }} }}] }}"#
    ))
}

fn grant(decision: Decision<PostgresGrant>) -> PostgresGrant {
    decision.into_result().unwrap_or_else(|denial| panic!("{denial}"))
}

fn denial<T: std::fmt::Debug>(decision: Decision<T>) -> Denial {
    match decision {
        Decision::Deny(denial) => denial,
        Decision::Allow(grant) => panic!("allowed: {grant:?}"),
    }
}

const ANALYST: &str = r#"{ "roles": ["analyst"], "databases": ["orders", "orders_*"], "statements": ["read"] }"#;

#[test]
fn a_session_needs_a_network_rule_and_a_capability_for_role_and_database() {
    let (alice, bob) = (user("alice@example.com"), user("bob@example.com"));
    for (name, caller, role, database, missing) in [
        ("the role and the database", &alice, "analyst", "orders", None),
        ("a database of that form", &alice, "analyst", "orders_2026", None),
        ("another database", &alice, "analyst", "postgres", Some(Missing::Database)),
        ("a database in other letters", &alice, "analyst", "Orders", Some(Missing::Database)),
        ("a database that is none", &alice, "analyst", "orders_\0", Some(Missing::Database)),
        ("another role", &alice, "postgres", "orders", Some(Missing::Role)),
        ("a role in other letters", &alice, "Analyst", "orders", Some(Missing::Role)),
        ("no role", &alice, "", "orders", Some(Missing::Role)),
        ("another caller", &bob, "analyst", "orders", Some(Missing::PostgresCapability)),
    ] {
        let found = with(ANALYST).postgres(caller, &orders(), role, database);
        assert_eq!(found.into_result().err().map(|denial| denial.missing), missing, "{name}");
    }
    let elsewhere = Target { name: "ledger".into(), ..Target::default() };
    let found = with(ANALYST).postgres(&alice, &elsewhere, "analyst", "orders");
    assert_eq!(denial(found).missing, Missing::PostgresCapability, "another target");

    let closed = parse(&format!(
        r#"{{ "tagOwners": {{ "tag:data": [] }}, "grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["tcp:22"], "app": {{ "sallyport.dev/cap/postgres": [{ANALYST}] }} }}] }}"#
    ));
    assert_eq!(denial(closed.postgres(&alice, &orders(), "analyst", "orders")).missing, Missing::NetworkRule);
    assert!(closed.postgres_roles(&alice, &orders()).is_empty());
}

#[test]
fn the_port_opens_to_those_who_could_log_in_somewhere() {
    let policy = with(ANALYST);
    assert!(policy.approach(&user("alice@example.com"), &orders(), Port::POSTGRES).is_allowed());
    let denied = denial(policy.approach(&user("bob@example.com"), &orders(), Port::POSTGRES));
    assert_eq!(denied.missing, Missing::PostgresCapability);
    assert_eq!(
        denied.sentence,
        "bob@example.com may not log in to orders: the network rule is there, but no grant with \
         \"sallyport.dev/cap/postgres\" is for bob@example.com there; ask group:data"
    );
}

#[test]
fn role_and_database_have_to_stand_in_one_capability() {
    let policy = with(
        r#"{ "roles": ["analyst"], "databases": ["orders"], "statements": ["read"] },
           { "roles": ["owner"], "databases": ["ledger"], "statements": ["any"] }"#,
    );
    let alice = user("alice@example.com");
    assert!(policy.postgres(&alice, &orders(), "owner", "ledger").is_allowed());
    let crossed = denial(policy.postgres(&alice, &orders(), "owner", "orders"));
    assert_eq!(crossed.missing, Missing::Database);
    assert_eq!(
        crossed.sentence,
        "alice@example.com may not use the database orders of orders as owner: the policy's \
         \"sallyport.dev/cap/postgres\" names ledger for that role; ask group:data"
    );
    let why: Vec<String> = crossed.considered.iter().map(|one| format!("{}: {}", one.location, one.why_not)).collect();
    assert_eq!(
        why,
        [
            "grants[1] (line 5, column 1): its roles are analyst, not owner",
            "grants[1] (line 5, column 1): its databases are ledger, not orders"
        ]
    );
    let roles = policy.postgres_roles(&alice, &orders());
    assert_eq!(roles, [("analyst".into(), vec!["orders".into()]), ("owner".into(), vec!["ledger".to_owned()])]);
}

#[test]
fn rights_add_up_and_the_strictest_limit_holds() {
    let policy = with(
        r#"{ "roles": ["*"], "databases": ["*"], "statements": ["read", "copy"], "maxRows": 100, "maxBytes": "1MB",
             "functions": { "allow": ["st_*"], "deny": ["pg_sleep"] }, "idleTimeout": "30m", "memberOf": ["readers"] },
           { "roles": ["analyst"], "databases": ["orders"], "statements": ["write"], "maxRows": 10, "maxBytes": 5000000,
             "functions": { "allow": ["app.total"] }, "maxDuration": "8h", "parameters": "hide", "readOnly": true,
             "replication": {}, "memberOf": ["readers", "writers"] }"#,
    );
    let alice = user("alice@example.com");
    let both = grant(policy.postgres(&alice, &orders(), "analyst", "orders"));
    assert_eq!(both.capability_rules.iter().map(|at| at.rule.as_str()).collect::<Vec<_>>(), ["grants[1]"]);
    let capability = both.capability;
    assert_eq!(capability.statements.kinds, [StatementKind::Read, StatementKind::Write]);
    assert_eq!(capability.statements.names, ["copy"]);
    assert_eq!((capability.max_rows, capability.max_bytes), (Some(10), Some(1 << 20)));
    assert_eq!(capability.max_duration, Some(Duration::from_secs(8 * 3600)));
    assert_eq!(capability.idle_timeout, Some(Duration::from_secs(1800)));
    assert_eq!(capability.functions.allow, ["st_*", "app.total"]);
    assert_eq!(capability.functions.deny, ["pg_sleep"]);
    assert_eq!(capability.parameters, ParameterRule::Hide);
    assert!(capability.read_only && capability.replication);
    assert_eq!(capability.member_of, ["readers", "writers"]);

    let first = grant(policy.postgres(&alice, &orders(), "auditor", "orders")).capability;
    assert!(!first.read_only && !first.replication && first.parameters == ParameterRule::Record);
    assert!(first.is_read_only(), "it allows nothing that writes");
}

#[test]
fn a_role_that_is_made_has_the_rights_of_rules_with_groups_alone_and_the_limits_of_all() {
    let policy = with(
        r#"{ "databases": ["orders"], "statements": ["read"], "memberOf": ["readers"] },
           { "roles": ["analyst", "alice"], "databases": ["*"], "statements": ["any"], "functions": { "deny": ["pg_sleep"] },
             "maxRows": 10, "replication": {} }"#,
    );
    let alice = user("alice@example.com");
    for name in ["alice", "alice@example.com"] {
        let made = grant(policy.postgres(&alice, &orders(), name, "orders")).capability;
        assert_eq!(made.member_of, ["readers"], "{name}");
        assert!(!made.statements.any && !made.replication, "{name}: {made:?}");
    }
    let limited = grant(policy.postgres(&alice, &orders(), "alice", "orders")).capability;
    assert_eq!((limited.max_rows, limited.functions.deny), (Some(10), vec!["pg_sleep".to_owned()]));
    let standing = grant(policy.postgres(&alice, &orders(), "analyst", "orders")).capability;
    assert!(standing.member_of.is_empty() && standing.statements.any);
    let tagged = Caller { tags: vec!["tag:ci".into()], ..user("alice@example.com") };
    assert!(!policy.postgres(&tagged, &orders(), "alice", "orders").is_allowed(), "a machine has no name of its own");
    assert!(!policy.postgres(&alice, &orders(), "bob", "orders").is_allowed());
}

#[test]
fn a_session_may_go_on_where_nothing_is_taken_from_it() {
    let capability = |more: &str| {
        let policy = with(&format!(r#"{{ "roles": ["analyst"], "databases": ["*"], {more} }}"#));
        grant(policy.postgres(&user("alice@example.com"), &orders(), "analyst", "orders")).capability
    };
    for (name, now, held, covered) in [
        ("the same", r#""statements": ["read"]"#, r#""statements": ["read"]"#, true),
        ("one more kind", r#""statements": ["read", "copy"]"#, r#""statements": ["read"]"#, true),
        ("one kind less", r#""statements": ["read"]"#, r#""statements": ["read", "copy"]"#, false),
        ("everything", r#""statements": ["any"]"#, r#""statements": ["read", "do"]"#, true),
        ("not everything", r#""statements": ["read", "write", "ddl"]"#, r#""statements": ["any"]"#, false),
        ("the kind of a name", r#""statements": ["write"]"#, r#""statements": ["insert"]"#, true),
        ("read-only now", r#""statements": ["any"], "readOnly": true"#, r#""statements": ["any"]"#, false),
        ("a limit", r#""statements": ["read"], "maxRows": 5"#, r#""statements": ["read"]"#, false),
        ("a wider limit", r#""statements": ["read"], "maxRows": 50"#, r#""statements": ["read"], "maxRows": 5"#, true),
        ("hidden now", r#""parameters": "hide""#, r#""parameters": "record""#, false),
        ("a function denied", r#""functions": { "deny": ["a", "b"] }"#, r#""functions": { "deny": ["a"] }"#, false),
        ("a function less", r#""functions": { "allow": ["a"] }"#, r#""functions": { "allow": ["a", "b"] }"#, false),
        ("one more group", r#""memberOf": ["a", "b"]"#, r#""memberOf": ["a"]"#, true),
        ("one group less", r#""memberOf": ["a"]"#, r#""memberOf": ["a", "b"]"#, false),
        ("a made role where there was a standing one", r#""memberOf": ["a"]"#, r#""replication": {}"#, false),
        ("a standing role where one was made", r#""readOnly": true"#, r#""readOnly": true, "memberOf": ["a"]"#, false),
    ] {
        assert_eq!(capability(now).covers(&capability(held)), covered, "{name}");
    }
}

#[test]
fn recording_is_required_unless_a_capability_says_otherwise() {
    let cap = |recording: &str| {
        format!(r#"{{ "roles": ["analyst"], "databases": ["*"], "statements": ["read"]{recording} }}"#)
    };
    let (required, best, off) = (RecordingRule::Required, RecordingRule::BestEffort, RecordingRule::Off);
    for (name, capabilities, expected) in [
        ("nothing said", cap(""), required),
        ("best effort", cap(r#", "recording": "bestEffort""#), best),
        ("off", cap(r#", "recording": "off""#), off),
        ("the strictest of two", cap(r#", "recording": "off""#) + "," + &cap(r#", "recording": "bestEffort""#), best),
    ] {
        let policy = with(&capabilities);
        let alice = user("alice@example.com");
        assert_eq!(grant(policy.postgres(&alice, &orders(), "analyst", "orders")).recording, expected, "{name}");
        let approach = policy.approach(&alice, &orders(), Port::POSTGRES).into_result().unwrap();
        assert!(approach.recording >= expected, "the approach is at least as strict: {name}");
    }
}

#[test]
fn a_posture_keeps_a_capability_from_applying() {
    let policy = parse(&format!(
        r#"{{ "tagOwners": {{ "tag:data": [] }}, "postures": {{ "posture:linux": ["node:os == 'linux'"] }},
            "grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["*"] }},
                       {{ "src": ["*"], "dst": ["*"], "srcPosture": ["posture:linux"],
                          "app": {{ "sallyport.dev/cap/postgres": [{ANALYST}] }} }}] }}"#
    ));
    let alice = user("alice@example.com");
    assert_eq!(denial(policy.approach(&alice, &orders(), Port::POSTGRES)).missing, Missing::Posture);
    assert_eq!(denial(policy.postgres(&alice, &orders(), "analyst", "orders")).missing, Missing::Posture);
    let linux = Caller { attributes: [("node:os".into(), "linux".into())].into(), ..alice };
    assert!(policy.postgres(&linux, &orders(), "analyst", "orders").is_allowed());
}

#[test]
fn the_callers_own_name_is_a_role() {
    let policy = with(r#"{ "roles": ["localpart:*@example.com"], "databases": ["*"], "statements": ["read"] }"#);
    let alice = user("alice@example.com");
    assert!(policy.postgres(&alice, &orders(), "alice", "orders").is_allowed());
    let other = denial(policy.postgres(&alice, &orders(), "bob\u{1b}[2J", "orders"));
    assert_eq!(
        other.sentence,
        "alice@example.com may not log in to orders as \"bob\\u{1b}[2J\": that is not the name of a role, only \
         localpart:*@example.com; ask group:data"
    );
}
