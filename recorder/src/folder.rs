//! A recording's folder on disk: `ROOT/YYYY-MM-DD/ID/`, 0700, files 0600. It owns creation, the lock that says that a
//! recording is being written, and the atomic change of its manifest.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Header, MANIFEST, Manifest, RecorderError,
    unsynced::{Today, Unsynced},
};

/// The name under which the next manifest is written before it takes the old one's place.
pub(crate) const NEXT_MANIFEST: &str = "manifest.json.next";

/// A folder that was just made, locked.
pub(crate) struct New {
    pub(crate) path: PathBuf,
    pub(crate) lock: Arc<File>,
    /// What must be synced before a crash of the machine can no longer lose it.
    pub(crate) unsynced: Vec<Unsynced>,
}

/// Where the recording of this session lies.
pub(crate) fn path_of(root: &Path, header: &Header) -> PathBuf {
    let day = header.started.to_zoned(jiff::tz::TimeZone::UTC).date();
    root.join(day.to_string()).join(header.id.to_string())
}

/// Makes the folder with an open manifest in it. Nothing of it is synced yet: that would hold up every new session, and the
/// first sync comes within the second that recordings promise.
pub(crate) fn create(root: &Path, today: &Today, header: &Header) -> Result<New, RecorderError> {
    let path = path_of(root, header);
    let day = path.parent().unwrap_or(root).to_owned();
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| RecorderError::disk(path, error)
    };
    make_within(&day, &path).map_err(disk(&path))?;
    let above = today.made_in(&day).map_err(disk(&day))?;
    let lock = Arc::new(File::open(&path).map_err(disk(&path))?);
    if let Err(error) = lock.try_lock() {
        return Err(RecorderError::disk(&path, io_error(error)));
    }
    // Renamed into place, so that a manifest is there whole or not at all.
    let (next, file) = write_manifest(&path.join(NEXT_MANIFEST), &Manifest::open(header.clone()))?;
    let name = path.join(MANIFEST);
    std::fs::rename(&next, &name).map_err(disk(&next))?;
    let whole = Unsynced::file(path.clone(), Arc::clone(&lock));
    let unsynced = vec![Unsynced::file(name, Arc::new(file)), whole, above];
    Ok(New { path, lock, unsynced })
}

/// Locks a folder that no live recording holds.
pub(crate) fn lock(path: &Path) -> io::Result<Option<Arc<File>>> {
    let lock = File::open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Arc::new(lock))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Writes the next manifest, which is to be synced before it takes the old one's place.
pub(crate) fn write_next(folder: &Path, manifest: &Manifest) -> Result<Unsynced, RecorderError> {
    let (next, file) = write_manifest(&folder.join(NEXT_MANIFEST), manifest)?;
    Ok(Unsynced::file(next, Arc::new(file)))
}

/// Puts the next manifest in the place of the old one, and waits for the disk. `lock` is the folder itself.
pub(crate) fn replace_manifest(folder: &Path, lock: &File) -> Result<(), RecorderError> {
    let next = folder.join(NEXT_MANIFEST);
    let renamed = std::fs::rename(&next, folder.join(MANIFEST));
    renamed.and_then(|()| lock.sync_data()).map_err(|error| RecorderError::disk(next, error))
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(PathBuf, File), RecorderError> {
    let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| RecorderError::disk(path, error))?;
    text.push(b'\n');
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(&text).map(|()| file));
    written.map(|file| (path.to_owned(), file)).map_err(|error| RecorderError::disk(path, error))
}

/// Makes the folder of a recording, and that of its day where it is not there.
fn make_within(day: &Path, path: &Path) -> io::Result<()> {
    match make(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        made => return made,
    }
    match make(day) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => make(path),
    }
}

/// Makes a folder for the owner alone.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn io_error(error: TryLockError) -> io::Error {
    match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    }
}
