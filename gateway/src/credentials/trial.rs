//! What `sallyport doctor` shows a target to learn whether it would let the gateway in: a certificate that could do
//! nothing there, made outside of any session.

use std::sync::Arc;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, PrivateKey, ssh_key};

use super::Vault;
use super::login::{Credential, is_plain, key_of};
use crate::target::Login;

impl Vault {
    /// The means of `login` to be let in as `account`, and to do nothing more. Passwords are not tried.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn trial(&self, login: &Login, account: &str) -> Result<Credential, String> {
        match login {
            Login::Certificate if !is_plain(account) => {
                Err(format!("the account {account:?} has characters that a certificate must not carry"))
            }
            Login::Certificate => self.idle_certificate(account).map_err(|error| format!("user certificate: {error}")),
            Login::Key(secret) => key_of(secret).await.map(Credential::Key),
            Login::Password(_) => Err("passwords are not tried".to_owned()),
        }
    }

    /// INVARIANT: whatever it may be let in for, `force-command` is all that would run (OpenSSH's PROTOCOL.certkeys), and no
    /// terminal or forward is given.
    fn idle_certificate(&self, account: &str) -> Result<Credential, ssh_key::Error> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let now = self.now();
        let subject = key.public_key().key_data().clone();
        let mut builder =
            Builder::new_with_random_nonce(&mut rand::rng(), subject, now.saturating_sub(SKEW), now + LIFETIME)?;
        builder
            .serial(rand::random())?
            .cert_type(CertType::User)?
            .key_id("sallyport doctor")?
            .valid_principal(account)?;
        builder.critical_option("force-command", "/bin/false")?;
        Ok(Credential::Certificate(Arc::new(key), Box::new(builder.sign(&self.user_ca)?)))
    }
}

/// How far a target's clock may be behind, in seconds: as for sessions, so that the answer is the same.
const SKEW: u64 = 60;
/// How long it holds, in seconds.
const LIFETIME: u64 = 60;

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
        let Ok(Credential::Certificate(_, certificate)) = vault.trial(&Login::Certificate, "ubuntu").await else {
            panic!("no certificate");
        };
        assert_eq!(certificate.critical_options().get("force-command").map(String::as_str), Some("/bin/false"));
        assert!(certificate.extensions().is_empty());
        assert!(vault.trial(&Login::Certificate, "root,bob").await.is_err());
        let password = Login::Password("env:NOWHERE".parse().unwrap());
        assert!(vault.trial(&password, "ubuntu").await.is_err());
    }
}
