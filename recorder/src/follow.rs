//! Reads a recording along while it is written: what is there, and then what comes. As flat in memory and as distrustful as
//! [`crate::read`]. It waits for nothing: whoever follows decides when to look again.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{
    Manifest, StreamId,
    cursor::Cursor,
    read::{self, Entries, Entry, ReadError},
};

/// A recording that may still grow.
#[derive(Debug)]
pub struct Follow {
    folder: PathBuf,
    known: BTreeSet<StreamId>,
    entries: Entries,
    outputs_from_us: u64,
}

impl Follow {
    /// Follows the recording in `folder`: its timeline and terminals from the beginning, because a screen is made of all
    /// that was ever printed on it, and what commands wrote from `outputs_from_ms` on, roughly.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path, outputs_from_ms: u64) -> Result<Self, ReadError> {
        let mut follow = Self {
            folder: folder.to_owned(),
            known: BTreeSet::new(),
            entries: Entries::default(),
            outputs_from_us: outputs_from_ms.saturating_mul(1000),
        };
        follow.look()?;
        Ok(follow)
    }

    /// Looks for what was written since: it is what [`Follow::next`] gives from now on.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn look(&mut self) -> Result<(), ReadError> {
        self.entries.look_again();
        for id in read::streams(&self.folder)? {
            // A stream that turned out to be damaged was let go, and is not begun again.
            if self.known.insert(id) {
                let from_us = match id {
                    StreamId::Stdout(_) | StreamId::Stderr(_) => self.outputs_from_us,
                    StreamId::Timeline | StreamId::Terminal(_) => 0,
                };
                self.entries.put(Cursor::new(id, self.folder.join(id.to_string()), true, from_us));
            }
        }
        Ok(())
    }

    /// The manifest as it is now: sealed once the recording is finished.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self) -> Result<Manifest, ReadError> {
        read::manifest(&self.folder)
    }
}

impl Iterator for Follow {
    type Item = Result<Entry, ReadError>;

    /// What comes next of what was there at the last look; nothing where that was all.
    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }
}
