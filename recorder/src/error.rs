//! Why nothing more is being recorded.

use std::{io, path::PathBuf, sync::Arc};

/// The recorder cannot go on. Cheap to clone: every later call on the same recording returns the same error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// The disk refused.
    #[error("the recording cannot be written to {}: {source}; free space or mend the permissions there", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The recording was closed already.
    #[error("the recording is closed: nothing can be added to it")]
    Closed,
    /// The terminal's or channel's number is in use.
    #[error("{file} exists already in this recording: give each terminal and channel a number of its own")]
    Exists {
        /// The file.
        file: String,
    },
    /// The part that writes has ended with the program's other tasks, or failed inside.
    #[error("the recorder has stopped before the recording was closed")]
    Stopped,
}

impl RecorderError {
    pub(crate) fn disk(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Disk { path: path.into(), source: Arc::new(source.into()) }
    }
}
