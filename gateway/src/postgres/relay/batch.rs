//! What one look at a direction's inbox gives to write, and how far that has come. Whether a write that was stopped has left
//! its reader with half a frame is found out when somebody asks, so that it costs nothing while all goes well.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWrite;

use super::super::wire::{HEADER, Header};
use super::{Recorded, Stopped};

/// Pieces of the inbox and of ours, in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<Piece>,
    /// Bytes of the inbox that are done with once it is written.
    pub(super) taken: usize,
    /// There is more to look at, once these events are written down.
    pub(super) full: bool,
    /// Bytes of it that were written.
    written: usize,
    /// Bytes that a frame of which the beginning was written before still lacks.
    owed: usize,
}

#[derive(Debug)]
enum Piece {
    /// So much of the inbox.
    Inbox(Range<usize>),
    /// Something of ours: whole frames.
    Ours(Vec<u8>),
}

impl Piece {
    fn bytes<'a>(&'a self, inbox: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Inbox(range) => inbox.get(range.clone()).unwrap_or_default(),
            Self::Ours(bytes) => bytes,
        }
    }
}

impl Batch {
    /// Passes on a piece of the inbox, together with the one before it where they touch.
    pub(super) fn pass(&mut self, range: Range<usize>) {
        match self.pieces.last_mut() {
            Some(Piece::Inbox(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.pieces.push(Piece::Inbox(range)),
        }
    }

    /// Puts something of ours behind what is there.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        self.pieces.push(Piece::Ours(bytes));
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes its pieces, those of ours and those of `inbox`, for as long as the session is recorded: not one byte is handed
    /// over after that.
    ///
    /// # Errors
    /// [`Stopped::Writing`], or [`Stopped::Recording`].
    pub(super) async fn write(
        &mut self,
        inbox: &[u8],
        writer: &mut (impl AsyncWrite + Unpin),
        recorded: &impl Recorded,
    ) -> Result<(), Stopped> {
        let mut writer = Pin::new(writer);
        for piece in &self.pieces {
            let mut left = piece.bytes(inbox);
            while !left.is_empty() {
                let taken = poll_fn(|cx| {
                    recorded.holds().map_err(Stopped::Recording)?;
                    writer.as_mut().poll_write(cx, left).map_err(Stopped::Writing)
                });
                let taken = match taken.await? {
                    0 => return Err(Stopped::Writing(io::ErrorKind::WriteZero.into())),
                    taken => taken,
                };
                self.written += taken;
                left = left.get(taken..).unwrap_or_default();
            }
        }
        poll_fn(|cx| match recorded.holds() {
            Ok(()) => writer.as_mut().poll_flush(cx).map_err(Stopped::Writing),
            Err(failure) => Poll::Ready(Err(Stopped::Recording(failure))),
        })
        .await
    }

    /// Everything is written; of its last frame `owed` bytes are still to come.
    pub(super) fn done(&mut self, owed: usize) {
        self.pieces.clear();
        (self.written, self.owed) = (0, owed);
    }

    /// Whether what was written, of this one and of all before, ends with a whole frame.
    pub(super) fn ends_whole(&self, inbox: &[u8]) -> bool {
        let (mut written, mut owed) = (self.written, self.owed);
        for piece in &self.pieces {
            let bytes = piece.bytes(inbox);
            let mut left = bytes.get(..written).unwrap_or(bytes);
            written -= left.len();
            while !left.is_empty() {
                if owed == 0 {
                    let Ok(Some(header)) = Header::read(left) else { return false };
                    owed = HEADER + header.payload();
                }
                let here = owed.min(left.len());
                left = left.get(here..).unwrap_or_default();
                owed -= here;
            }
        }
        owed == 0
    }
}
