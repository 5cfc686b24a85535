//! Walks through the segments of one stream file. Safe with hostile bytes: sizes are bounded before anything is
//! allocated, and one segment at a time is in memory.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::segment::{self, Linked, MAGIC, Malformed, SegmentHeader};

/// A stream file that is read from its beginning.
#[derive(Debug)]
pub struct Scan {
    path: PathBuf,
    position: u64,
    length: u64,
}

/// A segment that was found; its data is read on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its header, and the link.
    pub linked: Linked,
    /// Where in the file it begins.
    pub at: u64,
    /// Where in the file its data begins.
    pub data_at: u64,
    /// Where in the file it ends.
    pub end: u64,
}

/// Why the next segment could not be found.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The file ends in the middle of a segment.
    #[error("the file ends within the segment that begins at byte {at}")]
    Cut {
        /// Where that segment begins.
        at: u64,
    },
    /// No segment begins where one should.
    #[error("at byte {at}: {why}")]
    Malformed {
        /// Where.
        at: u64,
        /// What is wrong.
        why: Malformed,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

impl Scan {
    /// Begins at the start of a file. The file is opened for each read, so that thousands of streams need no more file
    /// descriptors than one.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        Ok(Self { path: path.to_owned(), position: 0, length: metadata.len() })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far the walk has come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The file's size when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes in what was appended since it was opened.
    pub(crate) fn look_again(&mut self) {
        if let Ok(metadata) = std::fs::symlink_metadata(&self.path) {
            self.length = self.length.max(metadata.len());
        }
    }

    /// Goes on at this byte.
    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// The next segment, or `None` at the end. After an error the position is still before what was lost.
    ///
    /// # Errors
    /// When no whole segment follows.
    pub fn next_segment(&mut self) -> Result<Option<Found>, Lost> {
        let at = self.position;
        let left = self.length.saturating_sub(at);
        if left == 0 {
            return Ok(None);
        }
        let malformed = |why| Lost::Malformed { at, why };
        let file = File::open(&self.path)?;
        let mut start = [0; 8];
        let known = start.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (given, _) = start.split_at_mut(known);
        file.read_exact_at(given, at)?;
        if !MAGIC.iter().zip(given.iter()).all(|(a, b)| a == b) {
            return Err(malformed(Malformed::NotASegment));
        }
        if known < start.len() {
            return Err(Lost::Cut { at });
        }
        let size = segment::frame_length(start).map_err(malformed)?;
        if left < size as u64 {
            return Err(Lost::Cut { at });
        }
        let mut frame = vec![0; size];
        file.read_exact_at(&mut frame, at)?;
        let found = self.found(at, &frame)?;
        self.position = found.end;
        Ok(Some(found))
    }

    /// The segment whose header, at `at`, is this frame.
    ///
    /// # Errors
    /// When the frame is no header, or the file ends within the segment.
    pub(crate) fn found(&self, at: u64, frame: &[u8]) -> Result<Found, Lost> {
        let linked = SegmentHeader::decode(frame).map_err(|why| Lost::Malformed { at, why })?;
        let data_at = at.saturating_add(frame.len() as u64);
        let end = data_at.saturating_add(u64::from(linked.header.packed));
        if end > self.length {
            return Err(Lost::Cut { at });
        }
        Ok(Found { linked, at, data_at, end })
    }

    /// The compressed data of a segment.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn data(&self, found: &Found) -> io::Result<Vec<u8>> {
        let mut data = vec![0; found.linked.header.packed as usize];
        File::open(&self.path)?.read_exact_at(&mut data, found.data_at)?;
        Ok(data)
    }
}
