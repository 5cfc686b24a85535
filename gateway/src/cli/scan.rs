//! Asking a machine for its host keys, as ssh-keyscan(1) does. What comes back is the machine's word and no proof: a
//! person compares it before it is pinned.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use russh::client;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use tokio::time::timeout;

use crate::config::Address;

/// The host keys of the machine at `address`, at most one of each kind.
pub(super) async fn host_keys(address: &Address) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    let mut last = None;
    for algorithm in [
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    ] {
        match timeout(PATIENCE, host_key(address, algorithm)).await {
            Ok(Ok(key)) => keys.push(key),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {
                anyhow::bail!(
                    "{address} did not answer within {} seconds: is that where its sshd listens?",
                    PATIENCE.as_secs()
                )
            }
        }
    }
    match (keys.is_empty(), last) {
        (true, Some(error)) => Err(error).with_context(|| format!("{address} gave no host key")),
        _ => Ok(keys),
    }
}

/// The host key of one kind: the key exchange is begun, and broken off when the key is there.
async fn host_key(address: &Address, algorithm: Algorithm) -> Result<PublicKey, russh::Error> {
    let seen = Arc::new(Mutex::new(None));
    let preferred = russh::Preferred { key: Cow::Owned(vec![algorithm]), ..russh::Preferred::DEFAULT };
    let config = client::Config { preferred, ..client::Config::default() };
    let watcher = Watcher(Arc::clone(&seen));
    #[expect(clippy::disallowed_methods, reason = "an operator asks, for a machine that is no target yet")]
    let refused = client::connect(Arc::new(config), (address.host.as_str(), address.port), watcher).await;
    match (seen.lock().take(), refused) {
        (Some(key), _) => Ok(key),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(russh::Error::UnknownKey),
    }
}

/// Notes the key, and goes no further.
struct Watcher(Arc<Mutex<Option<PublicKey>>>);

impl client::Handler for Watcher {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = key {
            *self.0.lock() = Some(key.clone());
        }
        Ok(false)
    }
}

/// How long a machine may take for one key.
const PATIENCE: Duration = Duration::from_secs(10);
