//! The memory that bulk is written from past the page cache: a piece of a file from the border of a block on, which lies on
//! one in memory, too. It is one huge page where the system has them, since looking up its pages one by one is most of what
//! such a write costs the processor otherwise.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use memmap2::{Advice, MmapMut};

/// What a file is written in past the cache, in memory as on the disk: no file system and no disk asks for more.
const BLOCK: usize = 4096;
/// Bytes that are collected for one write past the cache, and of a huge page.
pub(crate) const BATCH: usize = 2 << 20;

/// The end of a file that is not written yet, and what of it lies in its last block already.
pub(crate) struct Blocks {
    memory: MmapMut,
    length: usize,
    /// Where in the file it begins.
    at: u64,
}

impl Blocks {
    /// What begins with the last block of a file of `length` bytes, if that is not whole.
    pub(crate) fn after(file: &File, length: u64) -> io::Result<Self> {
        let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
        let mut blocks = Self { length: over, ..Self::anywhere(length - over as u64)? };
        let rest = blocks.memory.get_mut(..over).unwrap_or_default();
        file.read_exact_at(rest, length - over as u64)?;
        Ok(blocks)
    }

    /// What begins at `at`.
    pub(crate) fn anywhere(at: u64) -> io::Result<Self> {
        let memory = MmapMut::map_anon(BATCH)?;
        // Small pages do as well.
        let _ = memory.advise(Advice::HugePage);
        Ok(Self { memory, length: 0, at })
    }

    /// Room for `size` bytes after what is there, if there is so much. Whoever has filled it says [`Blocks::filled_in`].
    pub(crate) fn place(&mut self, size: usize) -> Option<&mut [u8]> {
        self.memory.get_mut(self.length..self.length.checked_add(size)?)
    }

    /// So many bytes more are there.
    pub(crate) fn filled_in(&mut self, size: usize) {
        self.length = (self.length + size).min(BATCH);
    }

    /// Takes in as much as there is room for, and says how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(BATCH - self.length);
        if let (Some(bytes), Some(room)) = (bytes.get(..taken), self.place(taken)) {
            room.copy_from_slice(bytes);
        }
        self.filled_in(taken);
        taken
    }

    pub(crate) fn is_full(&self) -> bool {
        self.length == BATCH
    }

    /// Where in the file it begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn filled(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn whole(&self) -> &[u8] {
        self.filled().get(..self.length - self.length % BLOCK).unwrap_or_default()
    }

    /// The whole blocks are in the file: what is left over moves to the front.
    pub(crate) fn written(&mut self) {
        let (rest, whole) = (self.length % BLOCK, self.whole().len());
        self.memory.copy_within(whole..whole + rest, 0);
        self.at += whole as u64;
        self.length = rest;
    }
}
