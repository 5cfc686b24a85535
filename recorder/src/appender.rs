//! One stream file as it is appended to. A little goes through the page cache. Bulk goes past it (open(2), `O_DIRECT`):
//! filling the cache and writing back from there costs the processor three times what all else about a recording does. Where
//! the file system has no such way, or the disk is too slow for a session to wait for it, the cache takes bulk, too.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// What a file is written in past the cache, in memory as on the disk: no file system and no disk asks for more.
const BLOCK: usize = 4096;
/// Bytes that are collected for one write past the cache.
const BATCH: usize = 1 << 20;
/// A batch that takes the disk longer than this would slow a session down: 200 MB/s.
const SLOW: Duration = Duration::from_millis(5);

/// An open stream file.
pub(crate) struct Appender {
    file: Arc<File>,
    /// Bytes that the file has, or will have when everything is in it.
    length: u64,
    /// Whether some of them wait.
    waits: bool,
    bulk: Bulk,
}

/// How bulk gets to the disk.
enum Bulk {
    /// There was none yet.
    Unknown,
    /// Past the cache, in whole blocks; the rest of them waits here.
    Direct(Blocks),
    /// Through the cache.
    Cached,
}

impl Appender {
    /// Opens the file at `path`, which has `length` bytes, and makes it where that is 0.
    pub(crate) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(length == 0).mode(0o600).open(path)?;
        Ok(Self { file: Arc::new(file), length, waits: false, bulk: Bulk::Unknown })
    }

    /// More is to come than is worth the cache's while: what is appended from now on may wait for more, or for
    /// [`Appender::flush`].
    pub(crate) fn expect_bulk(&mut self) -> io::Result<()> {
        if let Bulk::Unknown = self.bulk {
            let supported = set_direct(&self.file, true).and_then(|()| set_direct(&self.file, false)).is_ok();
            self.bulk = if supported { Bulk::Direct(Blocks::after(&self.file, self.length)?) } else { Bulk::Cached };
        }
        Ok(())
    }

    /// Appends these bytes.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Bulk::Direct(blocks) = &mut self.bulk
            && !bytes.is_empty()
        {
            let taken = blocks.fill(bytes);
            (self.length, self.waits) = (self.length + taken as u64, true);
            bytes = bytes.get(taken..).unwrap_or_default();
            if blocks.is_full() {
                self.write_blocks()?;
            }
        }
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Whether something waits for a flush.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Puts into the file whatever waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write_blocks()?;
        self.waits = false;
        match &self.bulk {
            // It is written over with what follows, if anything does, so it stays here as well.
            Bulk::Direct(rest) => self.file.write_all_at(rest.filled(), rest.at),
            Bulk::Unknown | Bulk::Cached => Ok(()),
        }
    }

    /// The file, to be synced after [`Appender::flush`].
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Writes the whole blocks that wait, and turns to the cache where the disk does not take them, or not soon.
    fn write_blocks(&mut self) -> io::Result<()> {
        let Bulk::Direct(blocks) = &mut self.bulk else { return Ok(()) };
        if blocks.whole().is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        set_direct(&self.file, true)?;
        let written = self.file.write_all_at(blocks.whole(), blocks.at);
        set_direct(&self.file, false)?;
        let refused = match written {
            Ok(()) => {
                blocks.written();
                false
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => true,
            Err(error) => return Err(error),
        };
        if refused || begun.elapsed() > SLOW {
            self.file.write_all_at(blocks.filled(), blocks.at)?;
            self.bulk = Bulk::Cached;
        }
        Ok(())
    }
}

/// Whether writes to this file go past the cache from now on.
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let flags = if direct { OFlag::O_DIRECT } else { OFlag::empty() };
    fcntl(file, FcntlArg::F_SETFL(flags)).map(drop).map_err(io::Error::from)
}

/// A piece of a file from the border of a block on, which lies on one in memory, too.
struct Blocks {
    memory: Vec<u8>,
    /// Where in `memory` it begins.
    begin: usize,
    length: usize,
    /// Where in the file it begins.
    at: u64,
}

impl Blocks {
    /// What begins with the last block of a file of `length` bytes, if that is not whole.
    fn after(file: &File, length: u64) -> io::Result<Self> {
        let memory = vec![0; BLOCK + BATCH];
        let begin = memory.as_ptr().align_offset(BLOCK);
        let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
        let mut blocks = Self { memory, begin, length: over, at: length - over as u64 };
        let rest = blocks.memory.get_mut(begin..begin + over).unwrap_or_default();
        file.read_exact_at(rest, length - over as u64)?;
        Ok(blocks)
    }

    /// Takes in as much as there is room for, and says how much that was.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let from = self.begin + self.length;
        let taken = bytes.len().min(BATCH - self.length);
        if let (Some(room), Some(bytes)) = (self.memory.get_mut(from..from + taken), bytes.get(..taken)) {
            room.copy_from_slice(bytes);
        }
        self.length += taken;
        taken
    }

    fn is_full(&self) -> bool {
        self.length == BATCH
    }

    fn filled(&self) -> &[u8] {
        self.memory.get(self.begin..self.begin + self.length).unwrap_or_default()
    }

    fn whole(&self) -> &[u8] {
        self.filled().get(..self.length - self.length % BLOCK).unwrap_or_default()
    }

    /// The whole blocks are in the file: what is left over moves to the front.
    fn written(&mut self) {
        let (rest, whole) = (self.length % BLOCK, self.whole().len());
        self.memory.copy_within(self.begin + whole..self.begin + whole + rest, self.begin);
        self.at += whole as u64;
        self.length = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes to a file that says at each byte where it is.
    fn write(appender: &mut Appender, all: &mut Vec<u8>, size: usize) {
        let from = all.len();
        all.extend((from..from + size).map(|at| u8::try_from(at % 251).unwrap()));
        appender.append(&all[from..]).unwrap();
    }

    #[test]
    fn small_and_large_pieces_stand_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        let mut all = vec![];
        for _opened in 0..3 {
            let mut appender = Appender::open(&path, all.len() as u64).unwrap();
            write(&mut appender, &mut all, 7);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), all.len() as u64, "a little is there at once");
            appender.expect_bulk().unwrap();
            for _flushed in 0..4 {
                for size in [300_001, 5, BATCH, 4096, 3 * BATCH + 1] {
                    write(&mut appender, &mut all, size);
                }
                appender.flush().unwrap();
                assert!(std::fs::read(&path).unwrap() == all);
            }
        }
    }

    #[test]
    fn a_disk_that_does_not_take_our_blocks_gets_everything_through_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        let (mut appender, mut all) = (Appender::open(&path, 0).unwrap(), vec![]);
        // No disk takes blocks from an odd address.
        let mut odd = Blocks::after(&appender.file, 0).unwrap();
        odd.begin = if odd.begin == 0 { 1 } else { odd.begin - 1 };
        appender.bulk = Bulk::Direct(odd);
        for size in [300_001, BATCH, BATCH, 5] {
            write(&mut appender, &mut all, size);
        }
        appender.flush().unwrap();
        assert!(matches!(appender.bulk, Bulk::Cached));
        assert!(std::fs::read(&path).unwrap() == all);
    }
}
