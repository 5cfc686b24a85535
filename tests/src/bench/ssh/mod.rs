//! The SSH broker on plain loopback: no tunnel, the same client, sshd, ciphers and key exchange straight and through.

pub(crate) mod bulk;
pub(crate) mod gateway;
mod loopback;
pub(crate) mod memory;
pub(crate) mod sessions;

use loopback::{Loopback, Way};

/// The cipher of the figures that compare no ciphers.
pub(crate) const AES: &str = "aes256-gcm@openssh.com";
pub(crate) const CHACHA: &str = "chacha20-poly1305@openssh.com";
