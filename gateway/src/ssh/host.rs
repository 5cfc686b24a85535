//! Is this the host that was registered? The one place where a target's host key is judged.

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};

use crate::target::{HostIdentity, SshTarget, Target};

/// A target as it has to prove itself.
#[derive(Debug)]
pub(super) struct Host {
    identity: HostIdentity,
    names: Vec<String>,
    target: String,
}

/// What ends a target's connection early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The protocol, or the transport.
    #[error("{0}")]
    Protocol(#[from] russh::Error),
    /// It is not the host that was registered.
    #[error("{0}")]
    HostKey(String),
}

impl Host {
    /// Of a target that is reached by `service`.
    pub(super) fn of(target: &Target, service: &SshTarget) -> Self {
        Self {
            identity: service.host.clone(),
            names: vec![target.name.clone(), service.address.host.clone()],
            target: target.name.clone(),
        }
    }

    /// Whether what it shows is what it is known by. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate, now: u64) -> Result<(), String> {
        match (&self.identity, shown) {
            (HostIdentity::Keys(keys), shown) => {
                let key = shown.public_key();
                match keys.iter().any(|known| known.key_data() == key.key_data()) {
                    true => Ok(()),
                    false => Err(self.changed(keys.iter().map(fingerprint).collect::<Vec<_>>().join(" or "), &key)),
                }
            }
            (HostIdentity::Authority(authority), PublicKeyOrCertificate::Certificate(certificate)) => {
                self.certified(authority, certificate, now)
            }
            (HostIdentity::Authority(authority), shown) => {
                let expected = format!("a certificate of {}", fingerprint(authority));
                Err(self.changed(expected, &shown.public_key()))
            }
        }
    }

    fn certified(&self, authority: &PublicKey, certificate: &Certificate, now: u64) -> Result<(), String> {
        let expected = authority.fingerprint(HashAlg::Sha256);
        let names = certificate.valid_principals();
        let named = names.is_empty() || names.iter().any(|name| self.names.contains(name));
        let valid = certificate.cert_type() == CertType::Host
            && certificate.critical_options().is_empty()
            && certificate.validate_at(now, [&expected]).is_ok();
        match valid && named {
            true => Ok(()),
            false => Err(format!(
                "the host certificate of {} is not valid for {}: expected one of {expected}, found one of {} for {}",
                self.target,
                self.names.join(" or "),
                certificate.signature_key().fingerprint(HashAlg::Sha256),
                names.join(", "),
            )),
        }
    }

    fn changed(&self, expected: String, found: &PublicKey) -> String {
        format!(
            "THE HOST KEY OF {} HAS CHANGED: expected {expected}, found {} ({}). Somebody may be in between. If the host \
             was installed anew, an operator registers its new key with 'sallyport target add' or in sallyport.toml",
            self.target,
            fingerprint(found),
            found.algorithm(),
        )
    }
}

/// A key as people compare it.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
