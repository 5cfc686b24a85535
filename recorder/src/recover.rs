//! What a gateway does at its start with the recordings that its last run left behind: cut each to the longest chain that
//! is whole, add the end event, seal it and mark it interrupted. One folder that resists holds up none of the others.

use std::{
    collections::BTreeMap,
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
    scan::Scan,
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
        if fs::read_dir(path).map_err(disk)?.next().is_none() {
            fs::remove_dir(path).map_err(disk)?;
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

/// The longest chain in a folder that is whole.
struct Whole {
    folder: PathBuf,
    head: Head,
    last_us: u64,
    streams: BTreeMap<StreamId, Kept>,
}

/// How much of one file is kept.
struct Kept {
    length: u64,
    total: StreamTotal,
}

/// A segment that is whole in itself.
struct Piece {
    seq: u64,
    stream: StreamId,
    prev: Hash,
    link: Hash,
    last_us: u64,
    end: u64,
    content: u64,
}

impl Whole {
    fn of(folder: &Path, header: &Header) -> io::Result<Self> {
        let mut pieces = vec![];
        let mut streams = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(StreamId::of_file) else { continue };
            let mut scan = Scan::open(&entry.path())?;
            let total = StreamTotal { file: id.to_string(), segments: 0, bytes: 0, content: 0 };
            streams.insert(id, Kept { length: scan.length(), total });
            pieces.extend(std::iter::from_fn(|| piece(&mut scan, id, header.id)));
        }
        pieces.sort_by_key(|piece: &Piece| piece.seq);
        let mut whole =
            Self { folder: folder.to_owned(), head: Head { segments: 0, hash: header.root()? }, last_us: 0, streams };
        for piece in pieces {
            if piece.seq != whole.head.segments || piece.prev != whole.head.hash {
                break;
            }
            whole.head = Head { segments: piece.seq + 1, hash: piece.link };
            whole.last_us = whole.last_us.max(piece.last_us);
            if let Some(kept) = whole.streams.get_mut(&piece.stream) {
                kept.total.segments += 1;
                kept.total.bytes = piece.end;
                kept.total.content = piece.content;
            }
        }
        Ok(whole)
    }

    /// Cuts every file to what is kept, and says how many bytes that took away.
    fn cut(&mut self) -> io::Result<u64> {
        let mut cut = 0;
        for (id, kept) in &self.streams {
            let path = self.folder.join(id.to_string());
            cut += kept.length - kept.total.bytes;
            if kept.total.segments == 0 {
                fs::remove_file(&path)?;
            } else if kept.length > kept.total.bytes {
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

/// The next segment, if it is whole and in its place.
fn piece(scan: &mut Scan, id: StreamId, session: SessionId) -> Option<Piece> {
    let found = scan.next_segment().ok()??;
    let header = &found.linked.header;
    let whole = found.linked.holds && header.stream == id && header.session == session;
    if !whole || Hash::of(&[&scan.data(&found).ok()?]) != header.data {
        return None;
    }
    Some(Piece {
        seq: header.seq,
        stream: id,
        prev: header.prev,
        link: found.linked.link,
        last_us: header.last_us,
        end: found.end,
        content: header.offset.saturating_add(u64::from(header.length)),
    })
}
