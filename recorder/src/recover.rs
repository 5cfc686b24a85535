//! What a gateway does at its start with the recordings that its last run left behind: cut each to the longest chain that
//! is whole, add the end event, seal it and mark it interrupted. One folder that resists holds up none of the others.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::SignedDuration;

use crate::{
    End, Head, Header, Outcome, RecorderError, Sealed, SessionId, Signer, State, Store, StreamId, StreamTotal,
    folder::{self, NEXT_MANIFEST},
    hash::Hash,
    read::{self, ReadError},
    scan::{Lost, Scan},
    writer::{Resumed, Writer},
};

/// A recording that was left behind.
#[derive(Debug)]
pub struct Recovered {
    /// The session's name.
    pub id: SessionId,
    /// Its folder.
    pub folder: PathBuf,
    /// What became of it.
    pub result: Result<Recovery, RecoverError>,
}

/// A recording that is sealed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The seal.
    pub sealed: Sealed,
    /// Bytes that were cut off because they were not whole, or hung on something that was not.
    pub cut: u64,
}

/// A recording could not be sealed and was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Its manifest is gone or damaged.
    #[error(transparent)]
    Manifest(#[from] ReadError),
    /// The disk refused.
    #[error("{} could not be recovered: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The seal could not be written.
    #[error(transparent)]
    Seal(#[from] RecorderError),
}

impl Store {
    /// Seals every recording that was left behind. Those that are being written are left alone: their writer holds a
    /// lock, which ends with its process. Blocks; call it before the first session.
    ///
    /// # Errors
    /// When the store cannot be read; what happened to each folder is in the list.
    pub fn recover(&self, signer: &Arc<Signer>) -> io::Result<Vec<Recovered>> {
        let mut recovered = vec![];
        for stored in self.list()? {
            let result = self.recover_one(&stored.folder, signer);
            if let Some(result) = result.transpose() {
                recovered.push(Recovered { id: stored.id, folder: stored.folder, result });
            }
        }
        Ok(recovered)
    }

    fn recover_one(&self, path: &Path, signer: &Arc<Signer>) -> Result<Option<Recovery>, RecoverError> {
        let disk = |source| RecoverError::Disk { path: path.to_owned(), source };
        let Some(lock) = folder::lock(path).map_err(disk)? else { return Ok(None) };
        // A gateway that died between making a folder and its manifest recorded nothing.
        if is_unborn(path).map_err(disk)? {
            fs::remove_dir_all(path).map_err(disk)?;
            return Ok(None);
        }
        let manifest = read::manifest(path)?;
        if manifest.state != State::Open {
            return Ok(None);
        }
        let header = manifest.header;
        let mut whole = Whole::of(path, &header).map_err(disk)?;
        let cut = whole.cut().map_err(disk)?;
        let last_us = whole.last_us;
        let elapsed = SignedDuration::from_micros(i64::try_from(last_us).unwrap_or(i64::MAX));
        let end = End {
            outcome: Outcome::Interrupted,
            reason: "the gateway stopped without closing this session".into(),
            at: header.started.saturating_add(elapsed).unwrap_or(header.started),
        };
        let resumed =
            Resumed { head: whole.head, totals: whole.streams.into_values().map(|file| file.total).collect() };
        let mut writer = Writer::resume(path, lock, header, Arc::clone(signer), self.packer(), resumed)?;
        let sealed = writer.seal(last_us, end)?;
        Ok(Some(Recovery { sealed, cut }))
    }
}

/// Whether nothing is in a folder, or only the manifest that it was to get.
fn is_unborn(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.file_name() != NEXT_MANIFEST {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The longest chain in a folder that is whole.
struct Whole {
    folder: PathBuf,
    head: Head,
    last_us: u64,
    streams: BTreeMap<StreamId, Kept>,
}

/// How much of one file is kept.
struct Kept {
    scan: Scan,
    /// What comes after it, if that is a segment.
    next: Option<Piece>,
    total: StreamTotal,
}

/// A segment that is whole in itself.
struct Piece {
    seq: u64,
    prev: Hash,
    link: Hash,
    last_us: u64,
    end: u64,
    content: u64,
}

impl Whole {
    /// Follows the chain, one segment of each file in memory: it goes through each from its beginning to its end.
    fn of(folder: &Path, header: &Header) -> io::Result<Self> {
        let mut streams = BTreeMap::new();
        let mut order = BinaryHeap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(StreamId::of_file) else { continue };
            let mut scan = Scan::open(&entry.path())?;
            let next = piece(&mut scan, id, header.id)?;
            let total = StreamTotal { file: id.to_string(), segments: 0, bytes: 0, content: 0 };
            order.extend(next.as_ref().map(|piece| Reverse((piece.seq, id))));
            streams.insert(id, Kept { scan, next, total });
        }
        let (mut head, mut last_us) = (Head { segments: 0, hash: header.root()? }, 0);
        while let Some(Reverse((_, id))) = order.pop()
            && let Some(kept) = streams.get_mut(&id)
            && let Some(piece) = kept.next.take()
            && piece.seq == head.segments
            && piece.prev == head.hash
        {
            head = Head { segments: piece.seq + 1, hash: piece.link };
            last_us = piece.last_us.max(last_us);
            kept.total.segments += 1;
            kept.total.bytes = piece.end;
            kept.total.content = piece.content;
            kept.next = self::piece(&mut kept.scan, id, header.id)?;
            order.extend(kept.next.as_ref().map(|piece| Reverse((piece.seq, id))));
        }
        Ok(Self { folder: folder.to_owned(), head, last_us, streams })
    }

    /// Cuts every file to what is kept, and says how many bytes that took away.
    fn cut(&mut self) -> io::Result<u64> {
        let mut cut = 0;
        for (id, kept) in &self.streams {
            let path = self.folder.join(id.to_string());
            let length = kept.scan.length();
            cut += length - kept.total.bytes;
            if kept.total.segments == 0 {
                fs::remove_file(&path)?;
            } else if length > kept.total.bytes {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(kept.total.bytes)?;
                file.sync_all()?;
            }
        }
        self.streams.retain(|_, kept| kept.total.segments > 0);
        match fs::remove_file(self.folder.join(NEXT_MANIFEST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.folder)?.sync_all()?;
        Ok(cut)
    }
}

/// The next segment, if it is whole and in its place. What cannot be read now is an error: it may be whole all the same.
fn piece(scan: &mut Scan, id: StreamId, session: SessionId) -> io::Result<Option<Piece>> {
    let found = match scan.next_segment() {
        Ok(Some(found)) => found,
        Err(Lost::Unreadable(error)) => return Err(error),
        Ok(None) | Err(_) => return Ok(None),
    };
    let header = &found.linked.header;
    let whole = found.linked.holds && header.stream == id && header.session == session;
    if !whole || Hash::of(&[&scan.data(&found)?]) != header.data {
        return Ok(None);
    }
    Ok(Some(Piece {
        seq: header.seq,
        prev: header.prev,
        link: found.linked.link,
        last_us: header.last_us,
        end: found.end,
        content: header.offset.saturating_add(u64::from(header.length)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_one_that_ends_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timeline.jsonl.zst");
        fs::write(&path, [0; 200]).unwrap();
        let session = SessionId::new(jiff::Timestamp::UNIX_EPOCH);
        assert!(piece(&mut Scan::open(&path).unwrap(), StreamId::Timeline, session).unwrap().is_none());
        let mut scan = Scan::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(piece(&mut scan, StreamId::Timeline, session).is_err());
    }
}
