//! WireGuard's keys: 32 bytes each, written in base64 as `wg` writes them.
//!
//! Secrets are wiped when dropped and never show themselves in `Debug`; whoever needs the text says
//! so with [`PrivateKey::expose`].

use std::fmt;
use std::str::FromStr;

use boringtun::x25519;
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;

/// Who a device is: the public half of its WireGuard key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LENGTH]);

impl PublicKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    pub(crate) fn to_x25519(self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl From<[u8; KEY_LENGTH]> for PublicKey {
    fn from(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The secret half of a WireGuard key. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LENGTH]);

impl PrivateKey {
    /// A fresh key from the system's randomness, clamped as `wg genkey` does (RFC 7748, section 5).
    pub fn generate() -> Self {
        let mut bytes: [u8; KEY_LENGTH] = rand::random();
        bytes[0] &= 0b1111_1000;
        bytes[KEY_LENGTH - 1] = (bytes[KEY_LENGTH - 1] & 0b0111_1111) | 0b0100_0000;
        Self(bytes)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.to_x25519()).to_bytes())
    }

    /// The secret as text, for a configuration file: base64, wiped when dropped.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&self.0))
    }

    pub(crate) fn to_x25519(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(self.0)
    }
}

impl FromStr for PrivateKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

/// A secret shared by two peers, mixed into their handshakes. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LENGTH]);

impl PresharedKey {
    /// A fresh one from the system's randomness.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The secret as text, for a configuration file: base64, wiped when dropped.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&self.0))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl FromStr for PresharedKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(hidden)")
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LENGTH]>, Error> {
    let bytes = BASE64.decode(text.trim().as_bytes()).map(Zeroizing::new).map_err(|_| Error::Key)?;
    <[u8; KEY_LENGTH]>::try_from(bytes.as_slice()).map(Zeroizing::new).map_err(|_| Error::Key)
}

/// Bytes in every WireGuard key.
pub const KEY_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7748, section 6.1: Alice's pair.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn derives_the_public_key_of_rfc_7748() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(private.public().to_string(), PUBLIC);
        assert_eq!(private.expose().as_str(), PRIVATE);
    }

    #[test]
    fn refuses_text_that_is_not_a_key() {
        for text in ["", "AAAA", "not base64!", &PUBLIC[1..], &format!("{PUBLIC}AAAA")] {
            assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hides_secrets_in_debug_output() {
        assert_eq!(format!("{:?}", PRIVATE.parse::<PrivateKey>().unwrap()), "PrivateKey(hidden)");
        assert_eq!(format!("{:?}", PresharedKey::generate()), "PresharedKey(hidden)");
    }

    #[test]
    fn generates_clamped_keys_that_differ() {
        let (one, other) = (PrivateKey::generate(), PrivateKey::generate());
        assert_ne!(one.public(), other.public());
        assert_eq!(one.0[0] & 7, 0);
        assert_eq!(one.0[31] >> 6, 1);
    }

    #[test]
    fn public_keys_are_strings_in_json() {
        let key: PublicKey = PUBLIC.parse().unwrap();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{PUBLIC}\""));
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
    }
}
