//! The client's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677). Each step consumes the one before.
//!
//! The one thing that is not in every library for it: the keys that a password gives need not be hashed anew at each login.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::super::wire::{ServerFinal, ServerFirst};
use crate::credentials::{Mark, Salted, ScramKeys};

/// What ties a login to the TLS that it is in.
pub(super) enum Binding {
    /// There is no TLS, or none that could.
    Unsupported,
    /// We could, and the server has not offered it: one in the middle that took the offer away is found out by this.
    Unrequested,
    /// The certificate's `tls-server-end-point` (RFC 5929).
    EndPoint(Vec<u8>),
}

impl Binding {
    /// The GS2 header that says so.
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::Unrequested => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::EndPoint(hash) => hash,
            Self::Unsupported | Self::Unrequested => &[],
        }
    }
}

/// Our first message, made or sent; the server's is to come.
pub(super) struct Opening {
    binding: Binding,
    nonce: String,
}

/// The server has our proof, and owes its own.
pub(super) struct Proving {
    said: String,
    mark: Mark,
    keys: Arc<ScramKeys>,
}

impl Opening {
    pub(super) fn new(binding: Binding) -> Self {
        Self { binding, nonce: BASE64.encode(&rand::random::<[u8; NONCE]>()) }
    }

    /// The first message. PostgreSQL takes the name from its own start-up packet.
    pub(super) fn message(&self) -> String {
        format!("{}n=,r={}", self.binding.header(), self.nonce)
    }

    /// What is answered to the server's first message, by a role and its password, and what is to come then.
    ///
    /// # Errors
    /// Why it is not answered.
    pub(super) async fn answer(
        self,
        said: &[u8],
        who: (&str, &str),
        salted: &Salted,
    ) -> Result<(String, Proving), String> {
        let ServerFirst { nonce, salt, iterations } = ServerFirst::read(said).ok_or("it does not speak SCRAM")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("it answers somebody else's SCRAM".to_owned());
        }
        let (mark, keys) = keys(who, salt, iterations, salted).await?;
        let binding = [self.binding.header().as_bytes(), self.binding.data()].concat();
        let unproved = format!("c={},r={nonce}", BASE64.encode(&binding));
        let said = format!("n=,r={},{},{unproved}", self.nonce, String::from_utf8_lossy(said));
        Ok((format!("{unproved},p={}", proof(&keys, &said)), Proving { said, mark, keys }))
    }
}

impl Proving {
    /// Believes the server that it knows the password, and keeps the keys for the next time.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn believe(self, said: &[u8], salted: &Salted) -> Result<(), String> {
        let Some(ServerFinal(signature)) = ServerFinal::read(said) else {
            return Err("it gives no proof".to_owned());
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.keys.server.as_slice());
        hmac::verify(&key, self.said.as_bytes(), &signature).map_err(|_| "its proof is wrong".to_owned())?;
        salted.keep(self.mark, self.keys);
        Ok(())
    }
}

/// The keys of the password, from the last time or anew. To hash takes a millisecond, or many where the server says so: that
/// is done where it holds up nobody else.
async fn keys(
    (role, password): (&str, &str),
    salt: Vec<u8>,
    iterations: NonZeroU32,
    salted: &Salted,
) -> Result<(Mark, Arc<ScramKeys>), String> {
    if iterations.get() > ITERATIONS_MAX {
        return Err(format!("it wants {iterations} iterations of SCRAM's hash, and {ITERATIONS_MAX} are the most"));
    }
    let mark = salted.mark(role, password, &salt, iterations);
    if let Some(known) = salted.find(&mark) {
        return Ok((mark, known));
    }
    let password = Zeroizing::new(password.to_owned());
    let derived = spawn_blocking(move || ScramKeys::derive(&password, &salt, iterations)).await;
    let keys = derived.map_err(|_| "the password could not be hashed".to_owned())?;
    Ok((mark, Arc::new(keys)))
}

/// `ClientProof` (RFC 5802, section 3) for what was said.
fn proof(keys: &ScramKeys, said: &str) -> String {
    let stored = digest::digest(&digest::SHA256, keys.client.as_slice());
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()), said.as_bytes());
    let proof: Vec<u8> = keys.client.iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
    BASE64.encode(&proof)
}

/// Bytes of our nonce, before base64: as libpq has.
const NONCE: usize = 18;

/// Iterations that a server may ask for: PostgreSQL's own are 4,096, and a hostile one would have the gateway hash for hours.
const ITERATIONS_MAX: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3, but for the name, which PostgreSQL's clients leave out, and so with a proof of its own.
    #[tokio::test]
    async fn proves_what_postgres_expects_and_believes_no_wrong_proof() {
        let salted = Salted::default();
        let said = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        for last in [b'=', b'A'] {
            let opening = Opening { binding: Binding::Unsupported, nonce: "rOprNGfwEbeRWgbNEkqO".into() };
            assert_eq!(opening.message(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
            let (answer, proving) = opening.answer(said, ("user", "pencil"), &salted).await.unwrap();
            let (unproved, proved) = answer.rsplit_once(",p=").unwrap();
            assert_eq!(unproved, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
            let both = format!("n=,r=rOprNGfwEbeRWgbNEkqO,{},{unproved}", str::from_utf8(said).unwrap());
            assert_eq!((proving.said.as_str(), proved), (both.as_str(), proof(&proving.keys, &both).as_str()));
            let server = hmac::Key::new(hmac::HMAC_SHA256, proving.keys.server.as_slice());
            let mut signature = hmac::sign(&server, proving.said.as_bytes()).as_ref().to_vec();
            signature[31] ^= u8::from(last == b'A');
            let believed = proving.believe(format!("v={}", BASE64.encode(&signature)).as_bytes(), &salted);
            assert_eq!(believed.is_ok(), last == b'=');
        }
    }

    /// The keys of RFC 7677's example, by the signature that it gives for its own messages.
    #[test]
    fn makes_the_keys_of_the_standards_example() {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::derive("pencil", &salt, NonZeroU32::new(4096).unwrap());
        let said = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                    r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                    c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signed = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), said.as_bytes());
        let server = BASE64.encode(signed(keys.server.as_slice()).as_ref());
        assert_eq!(server, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(proof(&keys, said), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    }

    #[tokio::test]
    async fn only_a_server_that_has_proved_itself_has_keys_kept() {
        let salted = Salted::default();
        let exchange = async || {
            let opening = Opening::new(Binding::Unrequested);
            let first = format!("r={}x,s=c2FsdA==,i=1", opening.nonce);
            opening.answer(first.as_bytes(), ("analyst", "hunter2"), &salted).await.unwrap().1
        };
        let mark = salted.mark("analyst", "hunter2", b"salt", NonZeroU32::MIN);
        for wrong in ["v=AAAA", "e=invalid-proof", "v=", ""] {
            assert!(exchange().await.believe(wrong.as_bytes(), &salted).is_err(), "{wrong}");
        }
        assert!(salted.find(&mark).is_none());
        let proving = exchange().await;
        let server = hmac::Key::new(hmac::HMAC_SHA256, proving.keys.server.as_slice());
        let signature = BASE64.encode(hmac::sign(&server, proving.said.as_bytes()).as_ref());
        proving.believe(format!("v={signature}").as_bytes(), &salted).unwrap();
        let kept = salted.find(&mark).unwrap();
        assert!(Arc::ptr_eq(&exchange().await.keys, &kept), "it was hashed anew");
    }

    #[tokio::test]
    async fn an_answer_to_somebody_elses_message_is_refused() {
        for nonce in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAx"] {
            let said = format!("r={nonce},s=c2FsdA==,i=1");
            let opening = Opening::new(Binding::Unsupported);
            let answer = opening.answer(said.as_bytes(), ("analyst", "hunter2"), &Salted::default()).await;
            assert!(answer.is_err(), "{nonce:?}");
        }
        let opening = Opening::new(Binding::Unsupported);
        let mine_alone = format!("r={},s=c2FsdA==,i=1", opening.nonce);
        assert!(opening.answer(mine_alone.as_bytes(), ("analyst", "hunter2"), &Salted::default()).await.is_err());
    }
}
