//! SQL of any kind through the judge. Whatever it is, it may not panic or run out of stack, what is refused says why, and more
//! rights never allow less.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sallyport_policies::sql::{Judgement, Reading, judge_as, mask_secrets, split};
use sallyport_policies::{Caller, Decision, Policy, PostgresCapability, Target};

fuzz_target!(|sql: &str| {
    let reading = Reading { standard_conforming_strings: sql.len() % 2 == 0, plain_encoding: sql.len() % 3 != 0 };
    let mut before = false;
    for words in [r#""read""#, r#""read", "write""#, r#""read", "write", "ddl", "copy", "set""#, r#""any""#] {
        let judgement = judge_as(&capability(words), sql, reading);
        if let Judgement::Refused(refusal) = &judgement {
            assert!(!refusal.message.is_empty() && !refusal.hint.is_empty());
        }
        assert!(judgement.is_allowed() || !before, "more rights allow less");
        before = judgement.is_allowed();
    }
    assert!(before, "any is everything");
    assert!(split(sql).iter().all(|at| sql.get(at.clone()).is_some()));
    let _ = mask_secrets(sql);
});

fn capability(words: &str) -> PostgresCapability {
    let text = format!(
        r#"{{ "grants": [{{ "src": ["*"], "dst": ["*"], "ip": ["*"], "app": {{ "sallyport.dev/cap/postgres": [
            {{ "roles": ["*"], "databases": ["*"], "statements": [{words}] }}] }} }}] }}"#
    );
    let policy = Policy::parse(&text).expect("a policy").policy;
    let caller = Caller { user: Some("alice@example.com".into()), ..Caller::default() };
    match policy.postgres(&caller, &Target { name: "orders".into(), ..Target::default() }, "analyst", "orders") {
        Decision::Allow(grant) => grant.capability,
        Decision::Deny(denial) => panic!("{denial}"),
    }
}
