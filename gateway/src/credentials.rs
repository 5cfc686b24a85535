//! What the gateway proves itself with: to targets as an account, to callers as the target that they called.
//!
//! A credential for a target is made for one [permit](crate::access::Permit) and lasts minutes; what the operator's doctor
//! tries targets with can do nothing there. Nothing secret reaches a log: keys and secrets hide their `Debug`.

mod host;
mod login;
mod postgres;
mod roots;
mod salted;
mod trial;

use std::fmt;

use russh::keys::PrivateKey;

use crate::clock::Clock;
use crate::state::Keys;

pub use host::HostProof;
pub use login::Credential;
pub(crate) use login::Window;
pub(crate) use postgres::{ALPN, identity};
pub use postgres::{PostgresCredential, PostgresVault};
pub(crate) use salted::{Mark, Salted, ScramKeys};

/// Holds the gateway's SSH keys. Nobody else signs with them.
pub struct Vault {
    user_ca: PrivateKey,
    host_ca: PrivateKey,
    host_key: PrivateKey,
    domain: String,
    clock: Clock,
}

impl Vault {
    /// A vault of the gateway's `keys`; names of targets are also valid below `domain`.
    pub fn new(keys: &Keys, domain: &str, clock: Clock) -> Self {
        Self {
            user_ca: keys.user_ca.clone(),
            host_ca: keys.host_ca.clone(),
            host_key: keys.host.clone(),
            domain: domain.to_owned(),
            clock,
        }
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or_default()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("domain", &self.domain).finish_non_exhaustive()
    }
}
