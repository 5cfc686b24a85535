//! What SCRAM's slow hash makes of a password, kept in memory for the next login with the same one.
//!
//! A server has the password hashed thousands of times at each login, with a salt that stays the same until the password
//! changes. RFC 5802 (section 3) lets a client keep the two keys that come of it. They are as good as the password at the
//! servers that have that salt, so they are treated like it: overwritten when dropped, shown nowhere, written nowhere. What they
//! belong to is remembered as a keyed hash, so that no second copy of a password lies about.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::{hmac, pbkdf2};
use parking_lot::Mutex;
use zeroize::Zeroizing;

/// The keys of the passwords that were used last.
pub(crate) struct Salted {
    marks: hmac::Key,
    /// The one that was used last is the last one.
    kept: Mutex<VecDeque<(Mark, Arc<ScramKeys>)>>,
}

/// Stands for a password with a salt and a number of iterations, within one process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark([u8; 32]);

/// `ClientKey` and `ServerKey` of RFC 5802.
pub(crate) struct ScramKeys {
    /// Proves the client.
    pub(crate) client: Zeroizing<[u8; 32]>,
    /// Proves the server.
    pub(crate) server: Zeroizing<[u8; 32]>,
}

impl Default for Salted {
    fn default() -> Self {
        let key = Zeroizing::new(rand::random::<[u8; 32]>());
        Self { marks: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), kept: Mutex::default() }
    }
}

impl Salted {
    /// What these keys are found again by.
    pub(crate) fn mark(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Mark {
        let mut context = hmac::Context::with_key(&self.marks);
        context.update(&iterations.get().to_be_bytes());
        // Of a length that is told, so that no salt and password can be taken for others.
        context.update(&u64::try_from(salt.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(salt);
        context.update(password.as_bytes());
        Mark(tag(&context.sign()))
    }

    /// The keys, if they are at hand.
    pub(crate) fn find(&self, mark: Mark) -> Option<Arc<ScramKeys>> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|(known, _)| *known == mark)?;
        let found = kept.remove(at)?;
        let keys = Arc::clone(&found.1);
        kept.push_back(found);
        Some(keys)
    }

    /// Keeps the keys of a password that a server has shown to know as well: what others made the gateway hash is not worth it.
    pub(crate) fn keep(&self, mark: Mark, keys: Arc<ScramKeys>) {
        let mut kept = self.kept.lock();
        if kept.iter().all(|(known, _)| *known != mark) {
            if kept.len() >= KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back((mark, keys));
        }
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

/// Passwords whose keys are kept: those of many targets and roles, in some kilobytes.
const KEPT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Arc<ScramKeys> {
        Arc::new(ScramKeys { client: Zeroizing::new([1; 32]), server: Zeroizing::new([2; 32]) })
    }

    #[test]
    fn keys_are_found_by_password_salt_and_iterations_together() {
        let salted = Salted::default();
        let [many, few] = [4096, 1].map(|iterations| NonZeroU32::new(iterations).unwrap());
        let mark = salted.mark("hunter2", b"salt", many);
        salted.keep(mark, keys());
        assert!(salted.find(salted.mark("hunter2", b"salt", many)).is_some());
        for other in [("hunter3", &b"salt"[..], many), ("hunter2", b"salz", many), ("hunter2", b"salt", few)] {
            assert!(salted.find(salted.mark(other.0, other.1, other.2)).is_none(), "{other:?}");
        }
        assert!(salted.find(salted.mark("unter2", b"salth", many)).is_none(), "what is salt and what password");
        assert!(Salted::default().mark("hunter2", b"salt", many) != mark, "a mark of another process");
    }

    #[test]
    fn so_many_are_kept_and_those_that_were_used_last() {
        let salted = Salted::default();
        let mark = |number: usize| salted.mark(&number.to_string(), b"salt", NonZeroU32::MIN);
        (0..KEPT_MAX).for_each(|number| salted.keep(mark(number), keys()));
        assert!(salted.find(mark(0)).is_some());
        salted.keep(mark(0), keys());
        (KEPT_MAX..2 * KEPT_MAX - 1).for_each(|number| salted.keep(mark(number), keys()));
        assert_eq!(salted.kept.lock().len(), KEPT_MAX);
        assert!(salted.find(mark(0)).is_some() && salted.find(mark(1)).is_none());
    }
}
