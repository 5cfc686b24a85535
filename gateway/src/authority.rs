//! An X.509 authority of the gateway's own (RFC 5280): its key, its certificate, and what it certifies.
//!
//! There are two, so that trusting one of them says nothing about the other: callers trust the one that certifies the
//! gateway as their targets, database servers the one that certifies it as a role.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// An authority that can certify.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A key with its certificate and that of its authority, fit for TLS.
#[derive(Debug)]
pub struct Certified {
    /// The certificate, then its authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

/// From when to when a certificate holds, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// From.
    pub from: u64,
    /// To.
    pub to: u64,
}

impl Authority {
    /// A new authority called `name`: its private key and its certificate, in PEM.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate(name: &str) -> Result<Zeroizing<String>, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = authority(name).self_signed(&key)?;
        Ok(Zeroizing::new(format!("{}{}", Zeroizing::new(key.serialize_pem()).as_str(), certificate.pem())))
    }

    /// Reads what [`Authority::generate`] made for the same `name`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn read(name: &str, text: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(text).map_err(|error| error.to_string())?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| error.to_string())?;
        let pem = text.find(BEGIN).and_then(|at| text.get(at..)).ok_or("it has no certificate")?.trim_end().to_owned();
        Ok(Self { issuer: Issuer::new(authority(name), key), certificate: certificate.into_owned(), pem })
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new key that is a server of these names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn server(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        validity: Validity,
    ) -> Result<Certified, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.certify(params, names.first().map_or("", String::as_str), validity)
    }

    /// A new key that is a client called `name`.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn client(&self, name: &str, validity: Validity) -> Result<Certified, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.certify(params, name, validity)
    }

    fn certify(&self, mut params: CertificateParams, name: &str, valid: Validity) -> Result<Certified, rcgen::Error> {
        let key = KeyPair::generate()?;
        params.distinguished_name = called(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let epoch = date_time_ymd(1970, 1, 1);
        (params.not_before, params.not_after) =
            (epoch + Duration::from_secs(valid.from), epoch + Duration::from_secs(valid.to));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certified {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// The certificate of an authority itself. It outlives the machines: replacing it means telling every peer.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// Where a certificate begins in PEM (RFC 7468).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_after_it_was_read_again() {
        let text = Authority::generate("test").unwrap();
        let (one, two) = (Authority::read("test", &text).unwrap(), Authority::read("test", &text).unwrap());
        assert_eq!(one.pem(), two.pem());
        assert!(!one.pem().contains("PRIVATE"), "what is shown to the world");
        assert_eq!(one.certificate, two.certificate);
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
