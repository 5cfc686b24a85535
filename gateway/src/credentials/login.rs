//! What a target checks: a certificate minted for one session, or a key or password by reference.

use std::sync::Arc;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, Certificate, PrivateKey, ssh_key};
use sallyport_policies::{ExecRule, SshCapability};
use sallyport_recorder::SessionId;

use super::Vault;
use crate::access::SshPermit;
use crate::failure::{Failure, Stage};
use crate::secrets::{Secret, SecretRef};
use crate::target::Login;

/// How the gateway logs in to a target, once.
#[derive(Debug)]
pub enum Credential {
    /// A certificate of the gateway's authority, and the key that it is for.
    Certificate(Arc<PrivateKey>, Box<Certificate>),
    /// A private key.
    Key(Arc<PrivateKey>),
    /// A password.
    Password(Secret),
}

/// When a certificate holds: from so many seconds from now to so many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// The first second, from now.
    pub(crate) from: i64,
    /// The first second that is not in it any more.
    pub(crate) to: i64,
}

impl Window {
    /// Of a session's certificate, which is used at once, and once: a target's clock may be a minute behind, or five ahead.
    pub(crate) const USUAL: Self = Self { from: -60, to: 5 * 60 };
}

impl Vault {
    /// The credential that `permit` gives for `session`.
    ///
    /// # Errors
    /// [`Failure::Target`] when the account's name cannot stand in a certificate, [`Failure::Ours`] when the secret cannot be
    /// had.
    pub async fn credential(&self, permit: &SshPermit, session: SessionId) -> Result<Credential, Failure> {
        let target = permit.target();
        // Where a secret lies is the operator's to read, in the log, and not the caller's.
        let refused = |detail: String| Failure::Ours(format!("the gateway's credential for {}: {detail}", target.name));
        match &target.ssh()?.login {
            Login::Certificate => self.mint(permit, session),
            Login::Key(secret) => key_of(secret).await.map(Credential::Key).map_err(refused),
            Login::Password(secret) => Ok(Credential::Password(read(secret).await.map_err(refused)?)),
        }
    }

    fn mint(&self, permit: &SshPermit, session: SessionId) -> Result<Credential, Failure> {
        let key_id = format!("{} session {session}", permit.caller());
        let extensions = extensions(permit.capability());
        self.certify(permit.account(), &key_id, Window::USUAL, Rights::Extensions(&extensions)).map_err(|error| {
            match error {
                Uncertified::Account(_) => Failure::target(&permit.target().name, Stage::Login, error),
                Uncertified::Unsigned(_) => Failure::Ours(error.to_string()),
            }
        })
    }

    /// A new key, certified for `account` in `window`.
    pub(super) fn certify(
        &self,
        account: &str,
        key_id: &str,
        window: Window,
        rights: Rights<'_>,
    ) -> Result<Credential, Uncertified> {
        if !is_plain(account) {
            return Err(Uncertified::Account(account.to_owned()));
        }
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let (subject, now) = (key.public_key().key_data().clone(), self.now());
        let (from, to) = (now.saturating_add_signed(window.from), now.saturating_add_signed(window.to));
        let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), subject, from, to)?;
        builder.serial(rand::random())?.cert_type(CertType::User)?.key_id(key_id)?.valid_principal(account)?;
        match rights {
            Rights::Extensions(extensions) => {
                for extension in extensions {
                    builder.extension(*extension, "")?;
                }
            }
            Rights::None => {
                builder.critical_option("force-command", "/bin/false")?;
            }
        }
        Ok(Credential::Certificate(Arc::new(key), Box::new(builder.sign(&self.user_ca)?)))
    }
}

/// What a certificate lets its holder do at the target (OpenSSH's PROTOCOL.certkeys).
#[derive(Debug, Clone, Copy)]
pub(super) enum Rights<'a> {
    /// To run what is asked for, and what these extensions give.
    Extensions(&'a [&'static str]),
    /// Nothing: `force-command` is all that would run, and no terminal or forward is given.
    None,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Uncertified {
    #[error("the account {0:?} has characters that a certificate must not carry")]
    Account(String),
    #[error("user certificate: {0}")]
    Unsigned(#[from] ssh_key::Error),
}

/// What the target's sshd is to allow on the connection: no more than the permit does, as a second lock behind ours
/// (OpenSSH's PROTOCOL.certkeys).
fn extensions(capability: &SshCapability) -> Vec<&'static str> {
    let forwards = !capability.local_forward.is_empty() || !capability.remote_forward.is_empty();
    [
        ("permit-X11-forwarding", capability.x11),
        ("permit-agent-forwarding", capability.agent),
        ("permit-port-forwarding", forwards),
        ("permit-pty", capability.shell || capability.exec != ExecRule::None),
    ]
    .into_iter()
    .filter_map(|(extension, given)| given.then_some(extension))
    .collect()
}

/// The private key that a reference leads to.
pub(super) async fn key_of(secret: &SecretRef) -> Result<Arc<PrivateKey>, String> {
    let key = PrivateKey::from_openssh(read(secret).await?.expose());
    let key = key.map_err(|error| format!("{secret} is no private key: {error}"))?;
    match key.is_encrypted() {
        true => Err(format!("the key of {secret} has a passphrase: give one without")),
        false => Ok(Arc::new(key)),
    }
}

pub(super) async fn read(secret: &SecretRef) -> Result<Secret, String> {
    secret.read().await.map_err(|error| error.to_string())
}

/// Whether a name can be a principal without meaning more than itself to any sshd: a comma, say, separates principals
/// (CVE-2026-35414).
fn is_plain(account: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    (1..=MAX_ACCOUNT).contains(&account.len()) && !account.starts_with('-') && account.chars().all(plain)
}

/// Longest account name, in bytes: Linux allows 32, directories more.
const MAX_ACCOUNT: usize = 128;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn refuses_principals_that_mean_more_than_themselves() {
        for (name, account) in [
            ("two principals", "root,bob"),
            ("a pattern", "adm*"),
            ("a space", "root bob"),
            ("a line break", "root\nbob"),
            ("an option", "-oProxyCommand"),
            ("a quote", "a\"b"),
            ("nothing", ""),
            ("not ASCII", "r\u{43e}ot"),
        ] {
            assert!(!is_plain(account), "{name}");
        }
        assert!(is_plain("ubuntu") && is_plain("svc-web.1_x@corp.example"));
    }

    #[test]
    fn a_certificate_opens_no_more_than_the_permit() {
        let plain = SshCapability::default();
        assert_eq!(extensions(&plain), ["permit-pty"]);
        let forwards = SshCapability { shell: false, exec: ExecRule::None, agent: true, ..plain };
        assert_eq!(extensions(&forwards), ["permit-agent-forwarding"]);
        let forwards = SshCapability { remote_forward: vec!["localhost:*".into()], x11: true, ..forwards };
        let all = ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding"];
        assert_eq!(extensions(&forwards), all);
    }

    #[test]
    fn a_certificate_is_for_one_account_and_some_minutes() {
        let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let clock = Clock::from_fn(|| Timestamp::from_second(1_800_000_000).unwrap());
        let vault =
            Vault { user_ca: key(), host_ca: key(), host_key: key(), domain: "corp.internal".to_owned(), clock };
        let Ok(Credential::Certificate(_, certificate)) =
            vault.certify("ubuntu", "alice@example.com", Window::USUAL, Rights::Extensions(&[]))
        else {
            panic!("no certificate");
        };
        assert_eq!(certificate.valid_principals(), ["ubuntu"]);
        assert_eq!(certificate.key_id(), "alice@example.com");
        assert_eq!(certificate.valid_before() - certificate.valid_after(), 60 + 5 * 60);
        assert!(certificate.extensions().is_empty());
        let authority = vault.user_ca.public_key().fingerprint(Default::default());
        certificate.validate_at(vault.now(), [&authority]).unwrap();
        certificate.validate_at(vault.now() + 5 * 60, [&authority]).unwrap_err();
    }
}
