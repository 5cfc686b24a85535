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

impl Credential {
    /// Its kind, for the recording.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Certificate(..) => "certificate",
            Self::Key(_) => "key",
            Self::Password(_) => "password",
        }
    }
}

impl Vault {
    /// The credential that `permit` gives for `session`.
    ///
    /// # Errors
    /// [`Failure::Target`] when the account's name cannot stand in a certificate, [`Failure::Ours`] when the secret cannot be had.
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
        let account = permit.account();
        if !is_plain(account) {
            let detail = format!("the account {account:?} has characters that a certificate must not carry");
            return Err(Failure::target(&permit.target().name, Stage::Login, detail));
        }
        self.certify(account, &format!("{} session {session}", permit.caller()), &extensions(permit.capability()))
            .map_err(|error| Failure::Ours(format!("user certificate: {error}")))
    }

    /// A new key, certified for `account` for the next minutes.
    fn certify(&self, account: &str, key_id: &str, extensions: &[&str]) -> Result<Credential, ssh_key::Error> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let now = self.now();
        let subject = key.public_key().key_data().clone();
        let mut builder =
            Builder::new_with_random_nonce(&mut rand::rng(), subject, now.saturating_sub(SKEW), now + LIFETIME)?;
        builder.serial(rand::random())?.cert_type(CertType::User)?.key_id(key_id)?.valid_principal(account)?;
        for extension in extensions {
            builder.extension(*extension, "")?;
        }
        Ok(Credential::Certificate(Arc::new(key), Box::new(builder.sign(&self.user_ca)?)))
    }
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
pub(super) fn is_plain(account: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    (1..=MAX_ACCOUNT).contains(&account.len()) && !account.starts_with('-') && account.chars().all(plain)
}

/// Longest account name, in bytes: Linux allows 32, directories more.
const MAX_ACCOUNT: usize = 128;
/// How far a target's clock may be behind, in seconds.
pub(super) const SKEW: u64 = 60;
/// How long a user certificate holds, in seconds: it is used at once, and once.
pub(super) const LIFETIME: u64 = 5 * 60;

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
        let Ok(Credential::Certificate(_, certificate)) = vault.certify("ubuntu", "alice@example.com", &[]) else {
            panic!("no certificate");
        };
        assert_eq!(certificate.valid_principals(), ["ubuntu"]);
        assert_eq!(certificate.key_id(), "alice@example.com");
        assert_eq!(certificate.valid_before() - certificate.valid_after(), SKEW + LIFETIME);
        assert!(certificate.extensions().is_empty());
        let authority = vault.user_authority().fingerprint(Default::default());
        certificate.validate_at(vault.now(), [&authority]).unwrap();
        certificate.validate_at(vault.now() + LIFETIME, [&authority]).unwrap_err();
    }
}
