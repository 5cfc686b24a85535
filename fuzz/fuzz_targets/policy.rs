//! Any text: it is refused, or it makes a policy that decides, explains and tests itself without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sallyport_policies::{Caller, Decision, Inventory, Policy, Port, Target, Value};

fuzz_target!(|text: &str| {
    let parsed = match Policy::parse(text) {
        Ok(parsed) => parsed,
        Err(errors) => {
            assert!(errors.iter().count() > 0, "refused without a reason");
            let _ = errors.display("policy.hujson");
            return;
        }
    };
    let policy = parsed.policy;
    let attributes = [("node:os".to_owned(), Value::from("linux")), ("node:osVersion".to_owned(), Value::from("13.4"))];
    let alice = Caller {
        user: Some("alice@example.com".to_owned()),
        device: "laptop".to_owned(),
        addresses: vec!["100.64.0.7".parse().unwrap(), "fd7a::7".parse().unwrap()],
        attributes: attributes.into(),
        ..Caller::default()
    };
    let machine = Caller { user: None, tags: vec!["tag:ci".to_owned()], ..alice.clone() };
    let web1 = Target {
        name: "web1".to_owned(),
        tags: vec!["tag:prod".to_owned()],
        addresses: vec!["10.0.0.1".parse().unwrap()],
    };
    for caller in [&alice, &machine] {
        let approach = policy.approach(caller, &web1, Port::SSH);
        let _ = policy.approach(caller, &web1, Port::tcp(5432));
        for account in ["root", "ubuntu", "alice", "0", ""] {
            if let Decision::Allow(grant) = policy.ssh(caller, &web1, account) {
                assert!(approach.is_allowed(), "a login without an approach");
                assert!(!policy.ssh_accounts(caller, &web1).is_empty(), "a login that no listing shows");
                let _ = grant.capability.exec.allows("ls -l; reboot");
            }
        }
    }
    let _ = policy.run_tests(&Inventory { devices: vec![alice, machine], targets: vec![web1] });
});
