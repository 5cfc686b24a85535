//! What `sallyport doctor` shows a target to learn whether it would let the gateway in: a certificate that could do
//! nothing there, made outside of any session, or the key or password that the target's login names.

use std::sync::Arc;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, PrivateKey, ssh_key};

use super::Vault;
use super::login::{Credential, LIFETIME, SKEW, is_plain, key_of, read};
use crate::target::Login;

/// When a certificate holds: from so many seconds from now to so many. A target accepts it only if its own clock lies within,
/// so a short one asks what time it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// The first second, from now.
    pub(crate) from: i64,
    /// The first second that is not in it any more.
    pub(crate) to: i64,
}

impl Window {
    /// As the certificates of sessions.
    pub(crate) const USUAL: Self = Self { from: -SKEW.cast_signed(), to: LIFETIME.cast_signed() };
}

impl Vault {
    /// The means of `login` to be let in as `account`; a certificate holds in `window`, and is good for nothing more.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn trial(&self, login: &Login, account: &str, window: Window) -> Result<Credential, String> {
        match login {
            Login::Certificate if !is_plain(account) => {
                Err(format!("the account {account:?} has characters that a certificate must not carry"))
            }
            Login::Certificate => {
                self.idle_certificate(account, window).map_err(|error| format!("user certificate: {error}"))
            }
            Login::Key(secret) => key_of(secret).await.map(Credential::Key),
            Login::Password(secret) => read(secret).await.map(Credential::Password),
        }
    }

    /// INVARIANT: whatever it may be let in for, `force-command` is all that would run (OpenSSH's PROTOCOL.certkeys), and no
    /// terminal or forward is given.
    fn idle_certificate(&self, account: &str, window: Window) -> Result<Credential, ssh_key::Error> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let now = self.now();
        let subject = key.public_key().key_data().clone();
        let (from, to) = (now.saturating_add_signed(window.from), now.saturating_add_signed(window.to));
        let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), subject, from, to)?;
        builder
            .serial(rand::random())?
            .cert_type(CertType::User)?
            .key_id("sallyport doctor")?
            .valid_principal(account)?;
        builder.critical_option("force-command", "/bin/false")?;
        Ok(Credential::Certificate(Arc::new(key), Box::new(builder.sign(&self.user_ca)?)))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn what_targets_are_tried_with_can_run_nothing() {
        let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let clock = Clock::from_fn(|| Timestamp::from_second(1_800_000_000).unwrap());
        let vault =
            Vault { user_ca: key(), host_ca: key(), host_key: key(), domain: "corp.internal".to_owned(), clock };
        let Ok(Credential::Certificate(_, certificate)) =
            vault.trial(&Login::Certificate, "ubuntu", Window { from: -5, to: 5 }).await
        else {
            panic!("no certificate");
        };
        assert_eq!(certificate.critical_options().get("force-command").map(String::as_str), Some("/bin/false"));
        assert!(certificate.extensions().is_empty());
        assert_eq!((certificate.valid_after(), certificate.valid_before()), (1_799_999_995, 1_800_000_005));
        assert!(vault.trial(&Login::Certificate, "root,bob", Window::USUAL).await.is_err());
        let password = Login::Password("env:NOWHERE".parse().unwrap());
        assert!(vault.trial(&password, "ubuntu", Window::USUAL).await.is_err());
    }
}
