//! How the gateway proves itself to a server: whatever the server asks for, as far as that gives nothing away.
//!
//! [`scram`](super::scram) has SCRAM's own steps.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::wire::{frontend, message, string};
use super::scram::{Binding, Opening, Proving};
use crate::credentials::{PostgresCredential, Salted};
use crate::target::TlsMode;

/// A login that is under way.
pub(super) struct Login<'a> {
    role: &'a str,
    credential: &'a PostgresCredential,
    certificate: Option<&'a CertificateDer<'static>>,
    tls: TlsMode,
    salted: &'a Salted,
    state: State,
}

enum State {
    /// Nothing was asked for yet.
    Begun,
    /// The server has our first message of SCRAM.
    Scram(Opening),
    /// The server has our proof.
    Proving(Proving),
    /// The server has proved that it knows the password, or was told it.
    Proved,
    /// The server has let us in.
    In,
}

impl<'a> Login<'a> {
    /// As a role, by its credential, to the server that has shown `certificate`.
    pub(super) fn new(
        (role, credential): (&'a str, &'a PostgresCredential),
        certificate: Option<&'a CertificateDer<'static>>,
        tls: TlsMode,
        salted: &'a Salted,
    ) -> Self {
        Self { role, credential, certificate, tls, salted, state: State::Begun }
    }

    /// Whether the server has let us in.
    pub(super) fn is_in(&self) -> bool {
        matches!(self.state, State::In)
    }

    /// The answer to the payload of an authentication message; `None` where none is wanted.
    ///
    /// # Errors
    /// Why it is not answered.
    pub(super) async fn answer(&mut self, payload: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let (&kind, rest) = payload.split_first_chunk::<4>().ok_or("it sent half a request")?;
        let state = std::mem::replace(&mut self.state, State::Begun);
        match (u32::from_be_bytes(kind), state) {
            (OK, State::Begun | State::Proved) => self.become_(State::In, None),
            (CLEARTEXT, State::Begun) => {
                let verified = matches!(self.tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
                if !verified {
                    return Err("it asks for the password in the clear, which goes inside verified TLS only".to_owned());
                }
                let answer = terminated(self.password()?);
                self.become_(State::Proved, Some(answer))
            }
            (MD5, State::Begun) => {
                let salt: [u8; 4] = rest.try_into().map_err(|_| "it sent a salt of a wrong length")?;
                let answer = terminated(&md5_hash(self.role.as_bytes(), self.password()?.as_bytes(), salt));
                self.become_(State::Proved, Some(answer))
            }
            (SASL, State::Begun) => self.begin_scram(rest),
            (SASL_CONTINUE, State::Scram(opening)) => {
                let (answer, proving) = opening.answer(rest, (self.role, self.password()?), self.salted).await?;
                self.become_(State::Proving(proving), Some(message(frontend::PASSWORD, answer.as_bytes())))
            }
            (SASL_FINAL, State::Proving(proving)) => {
                let believed = proving.believe(rest, self.salted);
                believed.map_err(|why| format!("it does not know the password itself: {why}"))?;
                self.become_(State::Proved, None)
            }
            (OK | SASL_CONTINUE | SASL_FINAL, _) => Err("it cut the authentication short".to_owned()),
            (kind, _) => Err(format!("it asks for a way to log in that the gateway does not have (kind {kind})")),
        }
    }

    fn become_(&mut self, state: State, answer: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, String> {
        self.state = state;
        Ok(answer)
    }

    fn begin_scram(&mut self, mechanisms: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut offered = Vec::new();
        let mut rest = mechanisms;
        while let Some((name, after)) = string(rest).filter(|(name, _)| !name.is_empty()) {
            offered.push(name);
            rest = after;
        }
        let binding = self.certificate.and_then(end_point);
        let plus = offered.contains(&SCRAM_SHA_256_PLUS.as_bytes());
        let (mechanism, binding) = match binding {
            Some(hash) if plus => (SCRAM_SHA_256_PLUS, Binding::EndPoint(hash)),
            Some(_) => (SCRAM_SHA_256, Binding::Unrequested),
            None => (SCRAM_SHA_256, Binding::Unsupported),
        };
        if !offered.contains(&mechanism.as_bytes()) {
            return Err("it offers no kind of SCRAM that the gateway has".to_owned());
        }
        // Asked for first: without one there is nothing to begin.
        self.password()?;
        let opening = Opening::new(binding);
        let first = opening.message();
        let length = u32::try_from(first.len()).map_err(|_| "a message of SCRAM is too long")?;
        let payload = [mechanism.as_bytes(), &[0], &length.to_be_bytes(), first.as_bytes()].concat();
        self.become_(State::Scram(opening), Some(message(frontend::PASSWORD, &payload)))
    }

    fn password(&self) -> Result<&'a str, String> {
        match self.credential {
            PostgresCredential::Password(secret) | PostgresCredential::Drawn(secret) => Ok(secret.expose()),
            other => Err(format!("it asks for a password, and the gateway logs in there by {}", other.kind())),
        }
    }
}

fn terminated(text: &str) -> Vec<u8> {
    message(frontend::PASSWORD, &[text.as_bytes(), &[0]].concat())
}

/// The `tls-server-end-point` of a certificate (RFC 5929, section 4.1): its hash, by the hash of its signature. None for
/// signatures that name no single hash.
fn end_point(certificate: &CertificateDer<'static>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // MD5 and SHA-1 count as SHA-256, says the RFC.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// Kinds of authentication messages.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    /// What the gateway says to a server that wants so many iterations.
    async fn asked(iterations: u32) -> Result<Option<Vec<u8>>, String> {
        let credential = PostgresCredential::Password(Secret::random());
        let salted = Salted::default();
        let mut login = Login::new(("analyst", &credential), None, TlsMode::Disable, &salted);
        let first = login.answer(b"\0\0\0\x0aSCRAM-SHA-256\0\0").await.unwrap().unwrap();
        let nonce = String::from_utf8_lossy(&first).rsplit_once("r=").unwrap().1.to_owned();
        login.answer(&[&b"\0\0\0\x0b"[..], format!("r={nonce}x,s=c2FsdA==,i={iterations}").as_bytes()].concat()).await
    }

    #[tokio::test]
    async fn a_server_cannot_have_the_gateway_hash_for_hours() {
        assert!(asked(4_096).await.is_ok());
        for iterations in [10_000_000, u32::MAX] {
            assert!(asked(iterations).await.unwrap_err().contains("iteration"), "{iterations}");
        }
    }

    #[tokio::test]
    async fn a_password_is_hashed_where_it_holds_up_nobody_else() {
        let mut hashing = std::pin::pin!(asked(100_000));
        assert!(futures::poll!(&mut hashing).is_pending());
        assert!(hashing.await.is_ok());
    }

    #[tokio::test]
    async fn a_server_that_cuts_the_proof_short_is_not_believed() {
        let (credential, salted) = (PostgresCredential::Password(Secret::random()), Salted::default());
        for early in [&b"\0\0\0\0"[..], b"\0\0\0\x0cv=abc", b"\0\0\0\x03", b"\0\0\0\x05salt", b"\0\0"] {
            let mut login = Login::new(("analyst", &credential), None, TlsMode::Disable, &salted);
            login.answer(b"\0\0\0\x0aSCRAM-SHA-256\0\0").await.unwrap();
            assert!(login.answer(early).await.is_err() && !login.is_in(), "{}", early.escape_ascii());
        }
    }
}
