//! What a server's certificate has to prove before the gateway sends it anything: libpq's `sslmode`, with rustls.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::target::{CaFile, PostgresTarget, TlsMode};

/// The authorities that servers are checked against, read once and again when their file has changed.
#[derive(Debug, Default)]
pub(super) struct Roots {
    machine: OnceLock<Arc<RootCertStore>>,
    files: Mutex<Vec<(PathBuf, SystemTime, Arc<RootCertStore>)>>,
}

impl Roots {
    /// What checks the certificate of `server`; `None` where nothing is checked because there is no TLS.
    pub(super) fn verifier(
        &self,
        server: &PostgresTarget,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ServerCertVerifier>>, String> {
        let nameless = |authority| Arc::new(Nameless { authority, provider: Arc::clone(provider) });
        let named = match (server.tls, &server.ca) {
            (TlsMode::Disable, _) => return Ok(None),
            // As libpq has it: no authority, nothing to verify; with one, `require` is `verify-ca`.
            (TlsMode::Require, None) => return Ok(Some(nameless(None))),
            (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => false,
            (TlsMode::VerifyFull, _) => true,
        };
        let roots = match &server.ca {
            Some(file) => self.file(file)?,
            None => Arc::clone(self.machine.get_or_init(machine)),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
        let verifier = verifier.map_err(|error| format!("no authority to check the server by: {error}"))?;
        Ok(Some(if named { verifier } else { nameless(Some(verifier)) }))
    }

    fn file(&self, file: &CaFile) -> Result<Arc<RootCertStore>, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", file.path().display());
        let modified = file.path().metadata().and_then(|file| file.modified()).map_err(|error| unreadable(&error))?;
        let mut files = self.files.lock();
        if let Some((_, _, roots)) = files.iter().find(|(path, at, _)| path == file.path() && *at == modified) {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file.path()).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
        let roots = Arc::new(roots);
        files.retain(|(path, ..)| path != file.path());
        files.push((file.path().to_owned(), modified, Arc::clone(&roots)));
        Ok(roots)
    }
}

/// The authorities that this machine trusts.
fn machine() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

/// Checks less than the name: for `verify-ca` the authority, for `require` nothing. The signatures are checked always, so that
/// whoever answers holds the key that it shows.
#[derive(Debug)]
struct Nameless {
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Nameless {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last, after the chain was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
