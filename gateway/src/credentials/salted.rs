//! What SCRAM's slow hash makes of a password, kept in memory for the next login with the same one.
//!
//! A server has the password hashed thousands of times at each login, with a salt that stays the same until the password
//! changes. RFC 5802 (section 3) lets a client keep the two keys that come of it. They are as good as the password at the
//! servers that have that salt, so they are treated like it: overwritten when dropped, shown nowhere, written nowhere. What they
//! belong to is remembered as a keyed hash, so that no second copy of a password lies about.
//!
//! Each target has its own: what one server says, or has hashed, neither finds nor pushes out what is kept of another.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::{hmac, pbkdf2};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::target::{PostgresTarget, Target};

/// What is kept of all targets, each by its name and for as long as it is described so.
#[derive(Default)]
pub(super) struct SaltedByTarget(Mutex<HashMap<String, (PostgresTarget, Arc<Salted>)>>);

/// The keys of the passwords that the gateway logs in with at one target.
pub(crate) struct Salted {
    marks: hmac::Key,
    /// The one whose role has proved itself last is the last one.
    kept: Mutex<VecDeque<(Mark, Arc<ScramKeys>)>>,
}

/// Stands for a role's password with a salt and a number of iterations, within one [`Salted`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    role: String,
    hash: [u8; 32],
}

/// `ClientKey` and `ServerKey` of RFC 5802.
pub(crate) struct ScramKeys {
    /// Proves the client.
    pub(crate) client: Zeroizing<[u8; 32]>,
    /// Proves the server.
    pub(crate) server: Zeroizing<[u8; 32]>,
}

impl SaltedByTarget {
    /// Of the target called `name`, which is `server`: nothing, where it was another one before.
    pub(super) fn of(&self, name: &str, server: &PostgresTarget) -> Arc<Salted> {
        let mut all = self.0.lock();
        match all.get(name) {
            Some((known, salted)) if known == server => Arc::clone(salted),
            _ => {
                let salted = Arc::<Salted>::default();
                all.insert(name.to_owned(), (server.clone(), Arc::clone(&salted)));
                salted
            }
        }
    }

    /// Drops what is kept of targets that are gone or are described otherwise now; `target` finds them by their names.
    pub(super) fn forget(&self, target: impl Fn(&str) -> Option<Arc<Target>>) {
        let is_the_same = |name: &str, server: &PostgresTarget| {
            target(name).is_some_and(|target| target.postgres().is_ok_and(|now| now == server))
        };
        self.0.lock().retain(|name, (server, _)| is_the_same(name, server));
    }
}

impl Default for Salted {
    fn default() -> Self {
        let key = Zeroizing::new(rand::random::<[u8; 32]>());
        Self { marks: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), kept: Mutex::default() }
    }
}

impl Salted {
    /// What these keys are found again by.
    pub(crate) fn mark(&self, role: &str, password: &str, salt: &[u8], iterations: NonZeroU32) -> Mark {
        let mut context = hmac::Context::with_key(&self.marks);
        context.update(&iterations.get().to_be_bytes());
        // Of a length that is told, so that no salt and password can be taken for others.
        context.update(&u64::try_from(salt.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(salt);
        context.update(password.as_bytes());
        Mark { role: role.to_owned(), hash: tag(&context.sign()) }
    }

    /// The keys, if they are at hand.
    pub(crate) fn find(&self, mark: &Mark) -> Option<Arc<ScramKeys>> {
        self.kept.lock().iter().find(|(known, _)| known == mark).map(|(_, keys)| Arc::clone(keys))
    }

    /// Keeps the keys of a password that the server has shown to know as well, in the place of those that its role had before:
    /// what others made the gateway hash is not worth it.
    pub(crate) fn keep(&self, mark: Mark, keys: Arc<ScramKeys>) {
        let mut kept = self.kept.lock();
        kept.retain(|(known, _)| known.role != mark.role);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((mark, keys));
    }
}

impl ScramKeys {
    /// Hashes `password`, which takes about a millisecond for PostgreSQL's 4,096 iterations.
    pub(crate) fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // As PostgreSQL does: what cannot be prepared stands for itself.
        let prepared = Zeroizing::new(match stringprep::saslprep(password) {
            Ok(prepared) => prepared.into_owned(),
            Err(_) => password.to_owned(),
        });
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), salted.as_mut_slice());
        let salted = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
        let key = |name: &str| Zeroizing::new(tag(&hmac::sign(&salted, name.as_bytes())));
        Self { client: key("Client Key"), server: key("Server Key") }
    }
}

/// The bytes of an HMAC-SHA-256.
fn tag(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(tag.as_ref()).for_each(|(byte, from)| *byte = *from);
    bytes
}

/// Roles of one target whose keys are kept, in some kilobytes.
const KEPT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Services;

    fn keys() -> Arc<ScramKeys> {
        Arc::new(ScramKeys { client: Zeroizing::new([1; 32]), server: Zeroizing::new([2; 32]) })
    }

    fn target(description: &str) -> Arc<Target> {
        let postgres: PostgresTarget = toml::from_str(description).unwrap();
        let services = Services { ssh: None, postgres: Some(postgres) };
        Arc::new(Target { name: "orders".into(), tags: Vec::new(), addresses: Vec::new(), services })
    }

    #[test]
    fn keys_are_found_by_role_password_salt_and_iterations_together() {
        let salted = Salted::default();
        let [many, few] = [4096, 1].map(|iterations| NonZeroU32::new(iterations).unwrap());
        let mark = || salted.mark("analyst", "hunter2", b"salt", many);
        salted.keep(mark(), keys());
        assert!(salted.find(&mark()).is_some());
        for other in [
            ("reader", "hunter2", &b"salt"[..], many),
            ("analyst", "hunter3", b"salt", many),
            ("analyst", "hunter2", b"salz", many),
            ("analyst", "hunter2", b"salt", few),
        ] {
            assert!(salted.find(&salted.mark(other.0, other.1, other.2, other.3)).is_none(), "{other:?}");
        }
        let other = salted.mark("analyst", "unter2", b"salth", many);
        assert!(salted.find(&other).is_none(), "what is salt and what password");
        assert!(Salted::default().mark("analyst", "hunter2", b"salt", many) != mark(), "a mark of another target");
    }

    #[test]
    fn a_role_has_the_keys_of_its_newest_password_alone() {
        let salted = Salted::default();
        let mark = |password| salted.mark("analyst", password, b"salt", NonZeroU32::MIN);
        salted.keep(mark("old"), keys());
        salted.keep(mark("new"), keys());
        assert!(salted.find(&mark("old")).is_none() && salted.find(&mark("new")).is_some());
    }

    #[test]
    fn so_many_are_kept_those_of_the_roles_that_last_proved_themselves() {
        let salted = Salted::default();
        let mark = |number: usize| salted.mark(&number.to_string(), "hunter2", b"salt", NonZeroU32::MIN);
        (0..KEPT_MAX).for_each(|number| salted.keep(mark(number), keys()));
        assert!(salted.find(&mark(0)).is_some());
        salted.keep(mark(0), keys());
        (KEPT_MAX..2 * KEPT_MAX - 1).for_each(|number| salted.keep(mark(number), keys()));
        assert_eq!(salted.kept.lock().len(), KEPT_MAX);
        assert!(salted.find(&mark(0)).is_some() && salted.find(&mark(1)).is_none());
    }

    #[test]
    fn a_target_neither_finds_nor_pushes_out_what_another_one_has_kept() {
        let all = SaltedByTarget::default();
        let orders = target("address = \"orders:5432\"\nlogin = \"trust\"");
        let [honest, hostile] = ["orders", "hostile"].map(|name| all.of(name, orders.postgres().unwrap()));
        let mark = |salted: &Salted, role: &str| salted.mark(role, "hunter2", b"salt", NonZeroU32::MIN);
        honest.keep(mark(&honest, "analyst"), keys());
        assert!(
            hostile.find(&mark(&honest, "analyst")).is_none() && hostile.find(&mark(&hostile, "analyst")).is_none()
        );
        (0..2 * KEPT_MAX).for_each(|number| hostile.keep(mark(&hostile, &number.to_string()), keys()));
        let honest = all.of("orders", orders.postgres().unwrap());
        assert!(honest.find(&mark(&honest, "analyst")).is_some());
    }

    #[test]
    fn what_is_kept_of_a_target_goes_when_it_does_or_is_another_one() {
        let all = SaltedByTarget::default();
        let described = |login: &str| target(&format!("address = \"orders:5432\"\nlogin = {login}"));
        let (before, after) = (described(r#"{ password = "env:OLD" }"#), described(r#"{ password = "env:NEW" }"#));
        let server = before.postgres().unwrap();
        let kept = Arc::downgrade(&all.of("orders", server));
        assert!(Arc::ptr_eq(&all.of("orders", server), &kept.upgrade().unwrap()));
        all.forget(|_| Some(Arc::clone(&before)));
        assert!(kept.upgrade().is_some(), "nothing has changed");
        all.forget(|_| Some(Arc::clone(&after)));
        assert!(kept.upgrade().is_none(), "it logs in otherwise");
        let kept = Arc::downgrade(&all.of("orders", server));
        all.forget(|_| None);
        assert!(kept.upgrade().is_none(), "it is gone");
        let kept = Arc::downgrade(&all.of("orders", server));
        drop(all.of("orders", after.postgres().unwrap()));
        assert!(kept.upgrade().is_none(), "a session has noticed first");
    }
}
