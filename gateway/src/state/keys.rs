//! The gateway's own keys: made at the first start, kept in files that only their owner can read.

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use russh::keys::{Algorithm, PrivateKey as SshKey};
use sallyport_tailnet::PrivateKey;
use zeroize::Zeroizing;

use super::folder::{make_private, write_new};
use super::{Folder, StateError};
use crate::authority::Authority;
use crate::secrets;

/// Everything that the gateway proves itself with.
#[derive(Debug)]
pub struct Keys {
    /// The gateway's WireGuard key.
    pub wireguard: PrivateKey,
    /// Signs the certificates that the gateway logs in to targets with.
    pub user_ca: SshKey,
    /// Signs the host certificates that callers' clients check.
    pub host_ca: SshKey,
    /// The host key that the gateway shows to callers.
    pub host: SshKey,
    /// Certifies the gateway as the targets that callers reach over TLS.
    pub tls_ca: Arc<Authority>,
    /// Certifies the gateway as a role to database servers.
    pub database_ca: Arc<Authority>,
    /// Seals recordings.
    pub recording: SigningKey,
}

impl Keys {
    /// Reads the keys of `folder`, making those that are missing: for the gateway, and whoever sets one up.
    ///
    /// # Errors
    /// When one cannot be read or written, is open to others, or is no key.
    pub fn open(folder: &Folder) -> Result<Self, StateError> {
        let keys = folder.path().join("keys");
        make_private(&keys)?;
        Shelf { keys, missing: Missing::Made }.all()
    }

    /// Reads the keys of `folder`, for whoever only asks about them.
    ///
    /// # Errors
    /// [`StateError::Absent`] when one is not there; when one cannot be read, is open to others, or is no key.
    pub fn read(folder: &Folder) -> Result<Self, StateError> {
        Shelf { keys: folder.path().join("keys"), missing: Missing::Refused }.all()
    }
}

/// The folder of keys, and how it is read.
struct Shelf {
    keys: PathBuf,
    missing: Missing,
}

/// What becomes of a key that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Made,
    Refused,
}

impl Shelf {
    fn all(&self) -> Result<Keys, StateError> {
        Ok(Keys {
            wireguard: self.key("wireguard", new_wireguard, |text| {
                text.parse().map_err(|e: sallyport_tailnet::Error| e.to_string())
            })?,
            user_ca: self.ssh("ssh_user_ca", "sallyport user CA")?,
            host_ca: self.ssh("ssh_host_ca", "sallyport host CA")?,
            host: self.ssh("ssh_host_ed25519", "sallyport")?,
            tls_ca: self.authority("tls_ca.pem", "sallyport TLS CA")?,
            database_ca: self.authority("database_ca.pem", "sallyport database CA")?,
            recording: self.key("recording.pem", new_recording, |text| {
                SigningKey::from_pkcs8_pem(text).map_err(|e| e.to_string())
            })?,
        })
    }

    /// Reads one key.
    fn key<T>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>, String>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, StateError> {
        let path = self.keys.join(name);
        let wrong = |reason: String| StateError::Key { path: path.clone(), reason };
        match (path.exists(), self.missing) {
            (true, _) => {}
            (false, Missing::Refused) => return Err(StateError::Absent { path }),
            // Whoever else makes it at the same time, one of the two files wins, and both read that one.
            (false, Missing::Made) => drop(write_new(&path, make().map_err(wrong)?.as_bytes())?),
        }
        let bytes = secrets::read_private(&path).map_err(|error| match error {
            secrets::SecretError::Open { path, mode } => StateError::Exposed { path, mode, wanted: "600" },
            secrets::SecretError::Unreadable { path, source } => StateError::Disk { path, source },
            other => wrong(other.to_string()),
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|e| wrong(e.to_string()))?;
        read(text).map_err(wrong)
    }

    fn ssh(&self, name: &str, comment: &str) -> Result<SshKey, StateError> {
        let make = || {
            let mut key = SshKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(|e| e.to_string())?;
            key.set_comment(comment);
            key.to_openssh(LineEnding::LF).map_err(|e| e.to_string())
        };
        self.key(name, make, |text| SshKey::from_openssh(text).map_err(|e| e.to_string()))
    }

    fn authority(&self, file: &str, name: &str) -> Result<Arc<Authority>, StateError> {
        let make = || Authority::generate(name).map_err(|e| e.to_string());
        self.key(file, make, |text| Authority::read(name, text).map(Arc::new))
    }
}

fn new_wireguard() -> Result<Zeroizing<String>, String> {
    let mut text = PrivateKey::generate().expose();
    text.push('\n');
    Ok(text)
}

fn new_recording() -> Result<Zeroizing<String>, String> {
    let key = SigningKey::from_bytes(&rand::random());
    key.to_pkcs8_pem(LineEnding::LF).map_err(|e| e.to_string())
}
