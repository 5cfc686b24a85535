//! Messages → segments → files. It owns the chain and the open files of one recording. It blocks, and knows no task and
//! no clock: `drive` calls it where blocking is allowed, and tells it the time. [`stream`] makes the segments of one file.

mod stream;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    End, Event, Head, Header, MANIFEST, RecorderError, Seal, Sealed, Signer, StreamId, StreamTotal,
    appender::Appender,
    cast::{self, CastHeader},
    folder,
    manifest::Manifest,
    pack::{Desk, Packer},
    queue::{self, Message, Queued},
    unsynced::{self, Unsynced},
};

use stream::Stream;

/// A segment is cut when its content has reached this size.
pub(crate) const SEGMENT: usize = 256 << 10;
/// Files that one recording has open to be written at the most; as many again while they are synced. What every session counts
/// for among the gateway's descriptors rests on it.
pub(crate) const OPEN_FILES: usize = 4;

/// The writing end of one recording.
pub(crate) struct Writer {
    folder: PathBuf,
    /// The folder itself, held while the recording is open: whoever recovers after a crash leaves locked folders alone.
    lock: Arc<File>,
    header: Header,
    signer: Arc<Signer>,
    packer: Arc<Packer>,
    streams: BTreeMap<StreamId, Stream>,
    done: Vec<StreamTotal>,
    head: Head,
    desk: Desk,
    /// Where a segment is put together that is no part of bulk.
    segment: Vec<u8>,
    /// Files and folders that were changed since the last sync.
    unsynced: Vec<Unsynced>,
}

/// What another writer left behind, once it was cut to what is whole.
pub(crate) struct Resumed {
    pub(crate) head: Head,
    pub(crate) totals: Vec<StreamTotal>,
}

/// What must reach the disk, and what is safe once it has.
pub(crate) struct Sync {
    files: Vec<Unsynced>,
    pub(crate) head: Head,
}

impl Sync {
    /// Waits for the disk.
    pub(crate) fn run(self) -> Result<Head, RecorderError> {
        unsynced::sync_all(&self.files)?;
        Ok(self.head)
    }
}

impl Writer {
    /// A writer for a folder that was just created: `unsynced` is what creating it has changed.
    pub(crate) fn new(
        new: folder::New,
        header: Header,
        signer: Arc<Signer>,
        packer: Arc<Packer>,
    ) -> Result<Self, RecorderError> {
        let root = header.root().map_err(|error| RecorderError::disk(&new.path, error))?;
        Ok(Self {
            folder: new.path,
            lock: new.lock,
            header,
            signer,
            packer,
            streams: BTreeMap::new(),
            done: vec![],
            head: Head { segments: 0, hash: root },
            desk: Desk::default(),
            segment: vec![],
            unsynced: new.unsynced,
        })
    }

    /// A writer that goes on where another one left off, with only a seal to make.
    pub(crate) fn resume(
        folder: &Path,
        lock: Arc<File>,
        header: Header,
        signer: Arc<Signer>,
        packer: Arc<Packer>,
        resumed: Resumed,
    ) -> Result<Self, RecorderError> {
        let new = folder::New { path: folder.to_owned(), lock, unsynced: vec![] };
        let mut writer = Self::new(new, header, signer, packer)?;
        writer.head = resumed.head;
        let timeline = StreamId::Timeline.to_string();
        for total in resumed.totals {
            if total.file == timeline {
                writer.streams.insert(StreamId::Timeline, Stream::resumed(folder, StreamId::Timeline, total));
            } else {
                writer.done.push(total);
            }
        }
        Ok(writer)
    }

    /// Takes a message in. No I/O happens before [`Writer::cut_full`] or [`Writer::cut_all`].
    pub(crate) fn absorb(&mut self, queued: Queued) -> Option<Ending> {
        let at_us = queued.at_us;
        match queued.message {
            Message::Events(lines, from_us) => {
                let stream = self.stream(StreamId::Timeline, from_us);
                stream.content.push(Bytes::from(lines));
                stream.touch(at_us);
            }
            Message::Terminal(id, header) => self.terminal(id, at_us, *header),
            Message::Resize(id, width, height) => {
                let stream = self.stream(id, at_us);
                cast::resize_line(stream.content.end(), at_us.saturating_sub(stream.opened_us), width, height);
            }
            Message::Output(id @ StreamId::Terminal(_), bytes) => self.stream(id, at_us).text(at_us, &bytes),
            Message::Output(id, bytes) => self.stream(id, at_us).bytes(at_us, bytes),
            Message::Finish(id) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.finish(at_us);
                }
            }
            Message::Close(end, reply) => return Some(Ending::Close(at_us, end, reply)),
            Message::Abandon => return Some(Ending::Abandon),
        }
        None
    }

    fn terminal(&mut self, id: StreamId, at_us: u64, header: crate::TerminalHeader) {
        let header = CastHeader::new(&self.header, header, at_us);
        let stream = self.stream(id, at_us);
        stream.opened_us = at_us;
        // Plain data into memory cannot fail.
        let _ = serde_json::to_writer(stream.content.end(), &header);
        stream.content.end().push(b'\n');
    }

    fn stream(&mut self, id: StreamId, at_us: u64) -> &mut Stream {
        let folder = &self.folder;
        let stream = self.streams.entry(id).or_insert_with(|| Stream::new(folder, id));
        stream.touch(at_us);
        stream
    }

    /// Whether a stream has a whole segment to write.
    pub(crate) fn has_full(&self) -> bool {
        self.streams.values().any(Stream::is_full)
    }

    /// Whether something has not reached the disk.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty() || self.streams.values().any(|stream| !stream.synced || !stream.content.is_empty())
    }

    /// Writes the segments that are large enough.
    pub(crate) fn cut_full(&mut self) -> Result<(), RecorderError> {
        let full = self.streams.iter().filter(|(_, stream)| stream.is_full());
        let ids: Vec<StreamId> = full.map(|(id, _)| *id).collect();
        ids.into_iter().try_for_each(|id| self.cut(id))
    }

    /// Whether something was taken in that is in no file yet.
    pub(crate) fn has_any(&self) -> bool {
        self.streams.values().any(Stream::waits)
    }

    /// Writes everything, for whoever looks on. What it changed is synced when its time comes.
    pub(crate) fn cut_for_viewers(&mut self) -> Result<(), RecorderError> {
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.cut(id))?;
        for stream in self.streams.values_mut() {
            let flushed = stream.file.as_mut().map_or(Ok(()), Appender::flush);
            flushed.map_err(|error| RecorderError::disk(&stream.path, error))?;
        }
        Ok(())
    }

    /// Writes everything and says what to sync. Streams that are finished are let go, and so is memory.
    pub(crate) fn cut_all(&mut self) -> Result<Sync, RecorderError> {
        self.cut_for_viewers()?;
        let mut files = std::mem::take(&mut self.unsynced);
        for stream in self.streams.values_mut().filter(|stream| !stream.synced) {
            stream.synced = true;
            // Opened again when there is more: an idle session holds one file descriptor, its lock.
            files.extend(stream.file.take().map(|file| Unsynced::file(stream.path.clone(), file.file())));
        }
        let finished = |id: &StreamId, stream: &Stream| stream.finished && *id != StreamId::Timeline;
        let (done, open) = std::mem::take(&mut self.streams).into_iter().partition(|(id, s)| finished(id, s));
        self.streams = open;
        let done: BTreeMap<StreamId, Stream> = done;
        self.done.extend(done.into_values().map(|stream| stream.total));
        (self.desk, self.segment) = (Desk::default(), vec![]);
        Ok(Sync { files, head: self.head.clone() })
    }

    /// Syncs and closes what is open before one file more would be too many. A session of one program never has to.
    fn make_room(&mut self) -> Result<(), RecorderError> {
        if self.streams.values().filter(|stream| stream.file.is_some()).count() < OPEN_FILES {
            return Ok(());
        }
        for stream in self.streams.values_mut() {
            if let Some(mut file) = stream.file.take() {
                let synced = file.flush().and_then(|()| file.file().sync_data());
                synced.map_err(|error| RecorderError::disk(&stream.path, error))?;
                stream.synced = true;
            }
        }
        Ok(())
    }

    /// Writes what a stream holds as one segment.
    fn cut(&mut self, id: StreamId) -> Result<(), RecorderError> {
        if self.streams.get(&id).is_some_and(|stream| stream.file.is_none() && !stream.content.is_empty()) {
            self.make_room()?;
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.content.is_empty()) else {
            return Ok(());
        };
        // The folder has a new entry.
        let is_new = stream.total.segments == 0;
        let cut = stream.cut(self.header.id, &self.head, &self.packer, &mut self.desk, &mut self.segment);
        let link = cut.map_err(|error| RecorderError::disk(&stream.path, error))?;
        self.head = Head { segments: self.head.segments + 1, hash: link };
        if is_new && self.unsynced.iter().all(|changed| changed.path != self.folder) {
            self.unsynced.push(Unsynced::file(self.folder.clone(), Arc::clone(&self.lock)));
        }
        Ok(())
    }

    /// Writes the end event, waits for the disk, then replaces the manifest with the sealed one.
    pub(crate) fn seal(&mut self, at_us: u64, end: End) -> Result<Sealed, RecorderError> {
        // A reader merges the streams by time; whatever came in the same microsecond comes before the end.
        let at_us = at_us.saturating_add(1);
        let event = Event::End { outcome: end.outcome, reason: end.reason.clone() };
        let line = serde_json::to_vec(&event).map_err(|error| RecorderError::disk(&self.folder, error))?;
        self.streams.values_mut().for_each(|stream| stream.finish(at_us));
        let stream = self.stream(StreamId::Timeline, at_us);
        queue::add_line(stream.content.end(), at_us, &line);
        let mut sync = self.cut_all()?;
        // The sealed manifest takes the place of the open one, and the folder is synced after that.
        sync.files.retain(|changed| changed.path != self.folder && !changed.path.ends_with(MANIFEST));
        let head = sync.head.clone();
        let mut streams = std::mem::take(&mut self.done);
        streams.extend(self.streams.values().map(|stream| stream.total.clone()));
        streams.retain(|stream| stream.segments > 0);
        streams.sort_by(|a, b| a.file.cmp(&b.file));
        let sealed = Sealed {
            head: head.clone(),
            bytes: streams.iter().map(|stream| stream.bytes).sum(),
            duration: std::time::Duration::from_micros(at_us),
        };
        let seal = Seal { end, duration_ms: at_us / 1000, streams, head };
        let manifest = Manifest::open(self.header.clone()).sealed(seal, &self.signer);
        let manifest = manifest.map_err(|error| RecorderError::disk(&self.folder, error))?;
        sync.files.push(folder::write_next(&self.folder, &manifest)?);
        sync.run()?;
        folder::replace_manifest(&self.folder, &self.lock)?;
        Ok(sealed)
    }
}

/// How the writer's work ends.
pub(crate) enum Ending {
    /// Seal, and tell whoever closed.
    Close(u64, End, tokio::sync::oneshot::Sender<Result<Sealed, RecorderError>>),
    /// Keep what there is.
    Abandon,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::header;

    /// The files and folders below `path` that this process has open.
    fn open_below(path: &Path) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter(|to| to.starts_with(path))
            .count()
    }

    fn writer(root: &Path) -> (Writer, PathBuf) {
        let new = folder::create(root, &unsynced::Today::default(), &header()).unwrap();
        let path = new.path.clone();
        let signer = Arc::new(Signer::new(ed25519_dalek::SigningKey::from_bytes(&[7; 32])));
        (Writer::new(new, header(), signer, Arc::default()).unwrap(), path)
    }

    #[test]
    fn what_waits_to_be_written_in_bulk_is_in_the_file_for_viewers_and_for_a_sync() {
        let root = tempfile::tempdir().unwrap();
        let (mut writer, path) = writer(root.path());
        let queue = crate::queue::Queue::new(tokio::time::Instant::now());
        let bulk =
            Bytes::from((0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>());
        for written in [|writer: &mut Writer| writer.cut_all().map(drop), Writer::cut_for_viewers] {
            for waits in [false, true] {
                queue.push_last(Message::Output(StreamId::Stdout(0), bulk.clone()));
                writer.absorb(queue.pop().unwrap());
                writer.cut_full().unwrap();
                assert_eq!(writer.has_any(), waits, "one large segment is no bulk, and some of bulk waits");
            }
            written(&mut writer).unwrap();
            assert!(!writer.has_any());
            let length = std::fs::metadata(path.join("channel-0.stdout.zst")).unwrap().len();
            assert_eq!(length, writer.streams[&StreamId::Stdout(0)].total.bytes);
        }
    }

    #[test]
    fn many_streams_take_few_descriptors_and_are_written_whole() {
        let root = tempfile::tempdir().unwrap();
        let (mut writer, path) = writer(root.path());
        let queue = crate::queue::Queue::new(tokio::time::Instant::now());
        writer.cut_all().unwrap().run().unwrap();
        assert_eq!(open_below(root.path()), 1, "the lock");
        for round in 1..=3 {
            for number in 0..64 {
                queue.push_last(Message::Output(StreamId::Stdout(number), Bytes::from_static(b"output")));
                writer.absorb(queue.pop().unwrap());
            }
            writer.cut_for_viewers().unwrap();
            let open = open_below(root.path());
            assert!(open <= 1 + OPEN_FILES, "{open} are open");
            let sync = writer.cut_all().unwrap();
            assert!(open_below(root.path()) <= 1 + OPEN_FILES);
            assert_eq!(sync.run().unwrap().segments, 64 * round);
        }
        let at = jiff::Timestamp::UNIX_EPOCH;
        writer.seal(queue.now_us(), End { outcome: crate::Outcome::Completed, reason: String::new(), at }).unwrap();
        let reader = crate::read::RecordingReader::open(&path).unwrap();
        assert_eq!(reader.entries().map(Result::unwrap).count(), 64 * 3 + 1);
    }
}
