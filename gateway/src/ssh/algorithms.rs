//! What both connections negotiate with: one list for the client's leg and one for the target's.
//!
//! Post-quantum exchange first, AES-GCM first because both sides have it in hardware. Nothing with SHA-1, CBC or a group
//! below 2,048 bits; strict key exchange (OpenSSH's PROTOCOL, section 1.10) with every peer that knows it. An OpenSSH of
//! 2014 (6.6) still finds something in each list. Compression is off: it costs more than it saves, and it has leaked.
//!
//! On the client's leg its own order decides, and OpenSSH's has ChaCha20 first, at twice the cost of AES in hardware. Where it
//! carries more than a little it is led to AES by a second key exchange, which delays no login: see [`lead`].

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::server::Lead;
use russh::{Limits, Preferred, cipher, compression, kex, mac};

use crate::target::HostIdentity;

/// For the client's leg.
pub(super) fn for_client() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Where a client is led that knows AES-GCM and put something else first; nowhere on a machine without AES in hardware.
/// Only OpenSSH is: it is known to bear an exchange of keys while much is under way.
pub(super) fn lead(client: &str) -> Option<Lead> {
    let limits = Limits { rekey_write_limit: LEAD_AFTER, rekey_read_limit: LEAD_AFTER, ..Limits::default() };
    (client.starts_with("SSH-2.0-OpenSSH_") && aes_in_hardware())
        .then_some(Lead { ciphers: Cow::Borrowed(AES_GCM), limits })
}

#[cfg(target_arch = "x86_64")]
fn aes_in_hardware() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn aes_in_hardware() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_in_hardware() -> bool {
    false
}

/// For a target's leg: only host keys of the kind that the target is known by are asked for, or it might show another.
pub(super) fn for_target(identity: &HostIdentity) -> Preferred {
    let mut preferred = for_client();
    match identity {
        HostIdentity::Keys(keys) => {
            let known = |algorithm: &Algorithm| {
                keys.iter().any(|key| match (key.algorithm(), algorithm) {
                    (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                    (key, algorithm) => key == *algorithm,
                })
            };
            preferred.key = KEYS.iter().filter(|algorithm| known(algorithm)).cloned().collect();
        }
        HostIdentity::Authority(_) => preferred.host_key_certificates = Cow::Borrowed(KEYS),
    }
    preferred
}

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// A client that carries fewer bytes than this, either way, is not led anywhere.
const LEAD_AFTER: usize = 1024 * 1024;

const AES_GCM: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];
