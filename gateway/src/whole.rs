//! Files that hold something private and are there whole or not at all: keys, a device's file, an exported session.
//!
//! What is being written lies beside its place, under a name that nobody guesses, and is gone when it is given up.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file (0600) that is written and not yet in its place.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: NamedTempFile,
}

impl Draft {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// When the folder takes none.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        // tempfile makes it 0600.
        Ok(Self { path: path.to_owned(), file: NamedTempFile::new_in(folder_of(path))? })
    }

    /// Where its content is written to.
    pub(crate) fn content(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Puts it in its place and in the place of what is there: of a link itself, never of what the link leads to.
    ///
    /// # Errors
    /// When the disk does not take it, or a folder is there.
    pub(crate) fn replace(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path)?;
        sync_folder(&self.path)
    }

    /// Puts it in its place, where nothing may be.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something is there, a link included, and when the disk does not take it.
    pub(crate) fn place(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist_noclobber(&self.path)?;
        sync_folder(&self.path)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
