//! What `sallyport doctor` shows a target to learn whether it would let the gateway in: a certificate that could do
//! nothing there, made outside of any session, or the key or password that the target's login names.

use super::Vault;
use super::login::{Credential, Rights, Window, key_of, read};
use crate::target::Login;

impl Vault {
    /// The means of `login` to be let in as `account`. A certificate holds in `window`: a target accepts it only if its own
    /// clock lies within, so a short one asks what time it is there.
    ///
    /// INVARIANT: whatever the certificate may be let in for, nothing runs by it ([`Rights::None`]).
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn trial(&self, login: &Login, account: &str, window: Window) -> Result<Credential, String> {
        match login {
            Login::Certificate => {
                self.certify(account, "sallyport doctor", window, Rights::None).map_err(|error| error.to_string())
            }
            Login::Key(secret) => key_of(secret).await.map(Credential::Key),
            Login::Password(secret) => read(secret).await.map(Credential::Password),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use russh::keys::{Algorithm, PrivateKey};

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
