//! The state folder: private, and one gateway's at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::{StateError, disk};
use crate::whole::Draft;

/// The folder of keys, database and control socket.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// Proof that this process is the folder's one gateway, for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Folder {
    /// Opens the folder at `path`, and makes it (0700) if there is none.
    ///
    /// # Errors
    /// When it cannot be made, or others can look in.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        make_private(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The folder at `path`, for whoever only asks: none is made.
    ///
    /// # Errors
    /// [`StateError::Absent`] when there is none, and when others can look in.
    pub fn find(path: &Path) -> Result<Self, StateError> {
        match fs::metadata(path) {
            Ok(metadata) => check_private(path, &metadata, "700").map(|()| Self(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateError::Absent { path: path.to_owned() }),
            Err(error) => Err(disk(path)(error)),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The gateway's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    /// Takes the folder for this gateway. The system gives it back when the process ends, however it ends.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another gateway has it.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let path = self.0.join("lock");
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
        let file = options.open(&path).map_err(disk(&path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let written = file.set_len(0).and_then(|()| file.rewind());
                written.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(disk(&path))?;
                Ok(Lock { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let read = Read::by_ref(&mut file).take(20).read_to_string(&mut pid);
                let known = read.is_ok() && !pid.trim().is_empty();
                let pid = if known { pid.trim().to_owned() } else { "of unknown id".to_owned() };
                Err(StateError::Locked { folder: self.0.clone(), pid })
            }
            Err((_, errno)) => Err(disk(&path)(errno.into())),
        }
    }
}

/// Makes a folder that only its owner can look into, and its parents; refuses one that is there and open.
pub(super) fn make_private(path: &Path) -> Result<(), StateError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(disk(path))?;
    check_private(path, &fs::metadata(path).map_err(disk(path))?, "700")
}

/// Makes an empty file for a database that only its owner can read; refuses one that is there and open, and what SQLite has
/// left beside it.
pub(super) fn create_private(path: &Path) -> Result<(), StateError> {
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).to_owned();
    let file = options.open(path).map_err(disk(path))?;
    check_private(path, &file.metadata().map_err(disk(path))?, "600")?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        let beside = Path::new(&beside);
        match fs::metadata(beside) {
            Ok(metadata) => check_private(beside, &metadata, "600")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(disk(beside)(error)),
        }
    }
    Ok(())
}

/// Refuses what belongs to somebody else, or lets others in.
fn check_private(path: &Path, metadata: &fs::Metadata, wanted: &'static str) -> Result<(), StateError> {
    let mode = metadata.mode() & 0o777;
    if metadata.uid() != geteuid().as_raw() {
        let other =
            io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user: name a place of your own");
        return Err(disk(path)(other));
    }
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(StateError::Exposed { path: path.to_owned(), mode, wanted }),
    }
}

/// Writes a private file whole or not at all, and gets it to the disk. One that is there is left alone: says so.
pub(super) fn write_new(path: &Path, content: &[u8]) -> Result<bool, StateError> {
    let mut draft = Draft::of(path).map_err(disk(path))?;
    match draft.content().write_all(content).and_then(|()| draft.place()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(disk(path)(error)),
    }
}
