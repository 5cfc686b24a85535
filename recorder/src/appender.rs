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

use crate::blocks::Blocks;

/// A megabyte that takes the disk longer than this would slow a session down: 200 MB/s.
const SLOW: Duration = Duration::from_millis(5);
const MEGABYTE: usize = 1 << 20;
/// So many batches in a row that are slow make a slow disk; one alone is a hiccup.
const SLOW_BATCHES: u32 = 3;

/// An open stream file.
pub(crate) struct Appender {
    file: Arc<File>,
    /// Bytes that the file has, or will have when everything is in it.
    length: u64,
    /// Whether some of them wait.
    waits: bool,
    bulk: Bulk,
    /// Batches that were slow, up to now and in a row.
    slow: u32,
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
        Ok(Self { file: Arc::new(file), length, waits: false, bulk: Bulk::Unknown, slow: 0 })
    }

    /// More is to come than is worth the cache's while: what is appended from now on may wait for more, or for
    /// [`Appender::flush`].
    pub(crate) fn expect_bulk(&mut self) {
        if let Bulk::Unknown = self.bulk {
            let supported = set_direct(&self.file, true).and_then(|()| set_direct(&self.file, false)).is_ok();
            let blocks = if supported { Blocks::after(&self.file, self.length).ok() } else { None };
            self.bulk = blocks.map_or(Bulk::Cached, Bulk::Direct);
        }
    }

    /// Where the next `size` bytes may be put together in memory that they are written from, if there is room there. Whoever
    /// has done so says [`Appender::appended`].
    pub(crate) fn place(&mut self, size: usize) -> io::Result<Option<&mut [u8]>> {
        if let Bulk::Direct(blocks) = &mut self.bulk
            && blocks.place(size).is_none()
        {
            self.write_blocks()?;
        }
        Ok(if let Bulk::Direct(blocks) = &mut self.bulk { blocks.place(size) } else { None })
    }

    /// The place is filled.
    pub(crate) fn appended(&mut self, size: usize) {
        if let Bulk::Direct(blocks) = &mut self.bulk {
            blocks.filled_in(size);
            (self.length, self.waits) = (self.length + size as u64, true);
        }
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
            Bulk::Direct(rest) => self.file.write_all_at(rest.filled(), rest.at()),
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
        let (begun, size) = (Instant::now(), blocks.whole().len());
        set_direct(&self.file, true)?;
        let written = self.file.write_all_at(blocks.whole(), blocks.at());
        set_direct(&self.file, false)?;
        let refused = match written {
            Ok(()) => {
                blocks.written();
                false
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => true,
            Err(error) => return Err(error),
        };
        self.judge(refused, size, begun.elapsed())
    }

    /// Turns to the cache when the disk does not take our blocks, or is slow all the time and not once.
    fn judge(&mut self, refused: bool, size: usize, took: Duration) -> io::Result<()> {
        let slow = took.as_micros() > SLOW.as_micros() * (size.max(MEGABYTE) / MEGABYTE) as u128;
        self.slow = if slow { self.slow + 1 } else { 0 };
        if let Bulk::Direct(blocks) = &self.bulk
            && (refused || self.slow >= SLOW_BATCHES)
        {
            self.file.write_all_at(blocks.filled(), blocks.at())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BATCH;

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
            appender.expect_bulk();
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
        // No disk takes blocks at an odd place of a file.
        write(&mut appender, &mut all, 7);
        appender.bulk = Bulk::Direct(Blocks::anywhere(7).unwrap());
        for size in [300_001, BATCH, BATCH, 5] {
            write(&mut appender, &mut all, size);
        }
        appender.flush().unwrap();
        assert!(matches!(appender.bulk, Bulk::Cached));
        assert!(std::fs::read(&path).unwrap() == all);
    }

    #[test]
    fn what_is_put_together_in_place_stands_between_what_is_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        let (mut appender, mut all) = (Appender::open(&path, 0).unwrap(), vec![]);
        assert!(appender.place(1).unwrap().is_none(), "a little goes to the file at once");
        write(&mut appender, &mut all, 5);
        appender.expect_bulk();
        for size in [300_001, BATCH / 2, BATCH / 2, BATCH - 4096, 1] {
            let place = appender.place(size).unwrap().unwrap();
            place.iter_mut().zip(all.len()..).for_each(|(byte, at)| *byte = u8::try_from(at % 251).unwrap());
            all.extend_from_slice(place);
            appender.appended(size);
            write(&mut appender, &mut all, 5);
        }
        assert!(appender.place(BATCH + 1).unwrap().is_none(), "there is no room for so much");
        write(&mut appender, &mut all, BATCH + 1);
        appender.flush().unwrap();
        assert!(std::fs::read(&path).unwrap() == all);
    }

    #[test]
    fn a_hiccup_of_the_disk_is_forgiven_and_a_slow_disk_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        let (mut appender, mut all) = (Appender::open(&path, 0).unwrap(), vec![]);
        appender.expect_bulk();
        write(&mut appender, &mut all, 300_001);
        let (slow, quick) = (Duration::from_millis(11), Duration::from_millis(9));
        for took in [slow, slow, quick, slow, slow] {
            appender.judge(false, BATCH, took).unwrap();
            assert!(matches!(appender.bulk, Bulk::Direct(_)));
        }
        // The last bytes before a sync are few, and the disk has its own time for each write.
        appender.judge(false, 4096, SLOW).unwrap();
        assert_eq!(appender.slow, 0);
        for _batch in 0..SLOW_BATCHES {
            appender.judge(false, BATCH, slow).unwrap();
        }
        assert!(matches!(appender.bulk, Bulk::Cached));
        write(&mut appender, &mut all, 5);
        appender.flush().unwrap();
        assert!(std::fs::read(&path).unwrap() == all);
    }
}
