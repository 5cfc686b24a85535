//! What a caller's client checks: a host certificate for the target that it called (PROTOCOL.certkeys).

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Certificate, PrivateKey, ssh_key};

use super::Vault;
use crate::failure::Failure;
use crate::target::Target;

/// A host key, and the certificate that says for which names it stands.
#[derive(Debug)]
pub struct HostProof {
    /// The host key.
    pub key: PrivateKey,
    /// Its certificate; none when it is not known which target was called.
    pub certificate: Option<Certificate>,
}

impl Vault {
    /// The proof for `target`: its names with and without the domain, and its addresses.
    ///
    /// # Errors
    /// [`Failure::Ours`] when signing fails.
    pub fn host_proof(&self, target: Option<&Target>) -> Result<HostProof, Failure> {
        let certificate = target.map(|target| self.host_certificate(target)).transpose();
        let certificate = certificate.map_err(|error| Failure::Ours(format!("host certificate: {error}")))?;
        Ok(HostProof { key: self.host_key.clone(), certificate })
    }

    fn host_certificate(&self, target: &Target) -> Result<Certificate, ssh_key::Error> {
        let now = self.now();
        let mut builder = Builder::new_with_random_nonce(
            &mut rand::rng(),
            self.host_key.public_key().key_data().clone(),
            now.saturating_sub(SKEW),
            now + LIFETIME,
        )?;
        builder.cert_type(CertType::Host)?.key_id(format!("sallyport {}", target.name))?;
        builder.valid_principal(target.name.as_str())?.valid_principal(format!("{}.{}", target.name, self.domain))?;
        for address in &target.addresses {
            builder.valid_principal(address.to_string())?;
        }
        builder.sign(&self.host_ca)
    }
}

/// How far a caller's clock may be behind, in seconds.
const SKEW: u64 = 24 * 60 * 60;
/// How long a host certificate holds, in seconds: it is made anew for each connection, so this is for clocks ahead.
const LIFETIME: u64 = 24 * 60 * 60;
