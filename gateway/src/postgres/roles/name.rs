//! What a role that is made is called: the same for the same caller with the same groups, another for everybody else.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::identity::{Device, Owner};

/// `sallyport:alice@example.com:k3jw5qzv2m6c7ixa`, of at most 63 bytes: long ones are cut in the middle part alone. The
/// last part is a hash of the gateway, the whole caller and the groups, so no two share a name. Only ASCII that reads the
/// same in every encoding, log and connection string is in it.
pub(super) fn of(gateway: &str, device: &Device, groups: &[String]) -> String {
    match &device.owner {
        Owner::User(login) => of_user(gateway, login, groups),
        Owner::Tags(_) => named(gateway, ("device", &device.id.to_string()), &device.name, groups),
    }
}

/// The same for a user, whatever the device.
pub(in super::super) fn of_user(gateway: &str, login: &str, groups: &[String]) -> String {
    named(gateway, ("user", login), login, groups)
}

fn named(gateway: &str, (kind, whole): (&str, &str), shown: &str, groups: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in [gateway, kind, whole].into_iter().chain(groups.iter().map(String::as_str)) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash = BASE32_NOPAD.encode(hash.finalize().get(..HASH).unwrap_or_default()).to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+@".contains(c) { c } else { '_' };
    let shown: String = shown.chars().map(plain).take(SHOWN).collect();
    format!("{PREFIX}{shown}:{hash}")
}

/// The groups of a permit, each once and in one order.
pub(in super::super) fn groups(named: &[String]) -> Vec<String> {
    let mut groups = named.to_vec();
    groups.sort();
    groups.dedup();
    groups
}

/// A name as SQL quotes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL quotes it, whatever the server's settings say about backslashes.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

/// What all such names begin with.
pub(super) const PREFIX: &str = "sallyport:";
/// Bytes of the hash; base32 makes 16 letters of them.
const HASH: usize = 10;
/// Letters of the caller: what is left of PostgreSQL's 63 bytes.
const SHOWN: usize = 63 - PREFIX.len() - 1 - 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(owner: Owner) -> Device {
        let key = sallyport_tailnet::PrivateKey::generate().public();
        let attributes = Default::default();
        Device { id: 7, name: "ci".into(), key, owner, addresses: Vec::new(), expires: None, attributes }
    }

    fn user(login: &str) -> Device {
        device(Owner::User(login.to_owned()))
    }

    #[test]
    fn names_are_readable_short_and_nobody_elses() {
        let readers = ["readers".to_owned()];
        let alice = of("g", &user("alice@example.com"), &readers);
        assert!(alice.starts_with("sallyport:alice@example.com:") && alice.len() == 44, "{alice}");
        assert_eq!(alice, of("g", &user("alice@example.com"), &readers));
        let long = format!("{}@example.com", "ä'\"\\;x".repeat(40));
        let longer = format!("{long}b");
        let both = ["read".to_owned(), "ers".to_owned()];
        let all = [
            alice,
            of("h", &user("alice@example.com"), &readers),
            of("g", &user("alice@example.com"), &both),
            of("g", &user("alice@example.com"), &[]),
            of("g", &user("bob@example.com"), &readers),
            of("g", &user("7"), &readers),
            of("g", &device(Owner::Tags(vec!["tag:ci".into()])), &readers),
            of("g", &user(&long), &readers),
            of("g", &user(&longer), &readers),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
        for name in &all {
            assert!(name.len() <= 63, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+@:".contains(c)), "{name}");
        }
    }

    #[test]
    fn quotes_end_nothing_early() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal(r"a'b\c"), r"E'a''b\\c'");
    }
}
