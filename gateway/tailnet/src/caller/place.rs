//! Where users of one device's file meet: a folder of the person's own, named after the device's public key.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};

use super::CallerError;
use crate::PublicKey;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    /// The folder for this key, made if need be: below `$XDG_RUNTIME_DIR`, or `~/.cache` where that is not ours.
    pub(super) fn of(key: &PublicKey) -> Result<Self, CallerError> {
        let base = runtime_folder().unwrap_or_else(|| home().join(".cache")).join("sallyport");
        let name: String = key.as_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let place = Self { folder: base.join(name) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&place.folder);
        made.map_err(|cause| place.failed(&place.folder, cause))?;
        let metadata = fs::symlink_metadata(&place.folder).map_err(|cause| place.failed(&place.folder, cause))?;
        if metadata.uid() != Uid::effective().as_raw() || metadata.mode() & 0o077 != 0 || !metadata.is_dir() {
            let foreign = io::Error::other("it must be a folder of yours alone: remove it, and it is made again");
            return Err(place.failed(&place.folder, foreign));
        }
        Ok(place)
    }

    /// Where the tunnel listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// What lies over /etc/resolv.conf inside.
    pub(super) fn resolv_conf(&self) -> PathBuf {
        self.folder.join("resolv.conf")
    }

    /// What lies over /etc/nsswitch.conf inside.
    pub(super) fn nsswitch(&self) -> PathBuf {
        self.folder.join("nsswitch.conf")
    }

    /// An empty file, which lies over sockets that must not be asked for names.
    pub(super) fn empty(&self) -> PathBuf {
        self.folder.join("empty")
    }

    /// What the tunnel has to say while nobody is listening.
    pub(super) fn log(&self) -> Result<File, CallerError> {
        let path = self.folder.join("log");
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        opened.map_err(|cause| self.failed(&path, cause))
    }

    /// Whoever holds this may start a tunnel or let it leave. Waits for it.
    pub(super) fn lock(&self) -> Result<Flock<File>, CallerError> {
        let file = self.lock_file()?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| self.failed(&self.folder, error.into()))
    }

    /// The same, or nothing when somebody else holds it.
    pub(super) fn try_lock(&self) -> Option<Flock<File>> {
        Flock::lock(self.lock_file().ok()?, FlockArg::LockExclusiveNonblock).ok()
    }

    fn lock_file(&self) -> Result<File, CallerError> {
        let path = self.folder.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        opened.map_err(|cause| self.failed(&path, cause))
    }

    /// Puts a file here that everybody inside may read.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), CallerError> {
        fs::write(path, text).map_err(|cause| self.failed(path, cause))
    }

    fn failed(&self, path: &Path, cause: io::Error) -> CallerError {
        CallerError::Place { path: path.to_owned(), cause }
    }
}

/// `$XDG_RUNTIME_DIR`, if it is a folder of ours: after `su` it is still somebody else's.
fn runtime_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute())?;
    let metadata = fs::metadata(&folder).ok()?;
    (metadata.is_dir() && metadata.uid() == Uid::effective().as_raw()).then_some(folder)
}

/// The person's home folder.
fn home() -> PathBuf {
    let said = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    said.or_else(|| User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir)).unwrap_or_else(|| "/".into())
}
