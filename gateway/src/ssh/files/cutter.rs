//! Cuts one direction of SFTP into packets and looks at their heads: `uint32 length`, a type, and what the type needs to be
//! judged. The rest of a packet passes by or is dropped, and is never held.

use bytes::{Buf, Bytes};

use super::{Broken, Passed};

/// One direction's place between its packets.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The beginning of a packet's head.
    held: Vec<u8>,
    /// Bytes still to come of a packet that was judged.
    left: usize,
    /// Whether these are dropped.
    dropping: bool,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Pass,
    /// It does not.
    Drop,
    /// Another head takes its head's place.
    Replace(Bytes),
}

/// What a direction's packets mean.
pub(super) trait Packets {
    /// How many bytes the head of the packet that begins with `begun` has, as far as is known: more than are there while
    /// more are needed.
    fn head(&self, begun: &[u8]) -> Result<usize, Broken>;

    /// Decides about the packet of this head, of which `left` bytes are still to come.
    fn judge(&mut self, head: &[u8], left: usize, passed: &mut Passed) -> Result<Fate, Broken>;

    /// Whether another packet can be taken now.
    fn ready(&self) -> bool {
        true
    }

    /// What is to be sent between two packets.
    fn between(&mut self) -> Option<Bytes> {
        None
    }
}

impl Cutter {
    /// Takes from `chunk` until it is empty or no packet can be taken.
    pub(super) fn feed(
        &mut self,
        chunk: &mut Bytes,
        packets: &mut impl Packets,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        let mut run = Run { from: 0, to: 0 };
        loop {
            if self.is_between() {
                while let Some(piece) = packets.between() {
                    run.flush(chunk, passed);
                    passed.pieces.push(piece);
                }
                if !packets.ready() {
                    break;
                }
            }
            let rest = chunk.get(run.to..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if self.left > 0 {
                let size = self.left.min(rest.len());
                self.left -= size;
                run.take(size, !self.dropping, chunk, passed);
            } else {
                self.head(rest, &mut run, chunk, packets, passed)?;
            }
        }
        run.flush(chunk, passed);
        chunk.advance(run.to);
        Ok(())
    }

    /// Bytes that are still to come of the packet that passes by.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether the last packet is complete and nothing of the next was taken.
    fn is_between(&self) -> bool {
        self.left == 0 && self.held.is_empty()
    }

    /// Takes as much of a head as there is, and judges it once it is whole.
    fn head(
        &mut self,
        rest: &[u8],
        run: &mut Run,
        chunk: &Bytes,
        packets: &mut impl Packets,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        if self.held.is_empty()
            && let Some(head) = whole(rest, packets)?
        {
            let fate = self.judge(head, packets, passed)?;
            match fate {
                Fate::Pass => run.take(head.len(), true, chunk, passed),
                Fate::Drop => run.take(head.len(), false, chunk, passed),
                Fate::Replace(other) => {
                    run.take(head.len(), false, chunk, passed);
                    passed.pieces.push(other);
                }
            }
            return Ok(());
        }
        // Byte by byte would be slow, and more than the head would be held for nothing.
        let mut taken = 0;
        while taken < rest.len() {
            let wanted = packets.head(&self.held)?.saturating_sub(self.held.len());
            if wanted == 0 {
                break;
            }
            let piece = rest.get(taken..).unwrap_or_default();
            let piece = piece.get(..wanted).unwrap_or(piece);
            self.held.extend_from_slice(piece);
            taken += piece.len();
        }
        run.take(taken, false, chunk, passed);
        if packets.head(&self.held)? <= self.held.len() {
            let head = std::mem::take(&mut self.held);
            match self.judge(&head, packets, passed)? {
                Fate::Pass => passed.pieces.push(Bytes::from(head)),
                Fate::Drop => {}
                Fate::Replace(other) => passed.pieces.push(other),
            }
        }
        Ok(())
    }

    fn judge(&mut self, head: &[u8], packets: &mut impl Packets, passed: &mut Passed) -> Result<Fate, Broken> {
        let left = total(head).saturating_sub(head.len());
        let fate = packets.judge(head, left, passed)?;
        (self.left, self.dropping) = (left, fate == Fate::Drop);
        Ok(fate)
    }
}

/// The head at the beginning of `rest`, where all of it is there.
fn whole<'a>(rest: &'a [u8], packets: &impl Packets) -> Result<Option<&'a [u8]>, Broken> {
    Ok(rest.get(..packets.head(rest)?))
}

/// Bytes of a packet with its length, by its length.
fn total(head: &[u8]) -> usize {
    let length = head.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
    usize::try_from(length).unwrap_or(usize::MAX).saturating_add(LENGTH)
}

/// Bytes that follow each other in the chunk and go on together, so that cutting makes no more pieces than it must.
struct Run {
    from: usize,
    to: usize,
}

impl Run {
    fn take(&mut self, size: usize, keep: bool, chunk: &Bytes, passed: &mut Passed) {
        if keep {
            self.to += size;
        } else {
            self.flush(chunk, passed);
            self.to += size;
            self.from = self.to;
        }
    }

    fn flush(&mut self, chunk: &Bytes, passed: &mut Passed) {
        if self.from < self.to {
            passed.pieces.push(chunk.slice(self.from..self.to));
        }
        self.from = self.to;
    }
}

/// Bytes of the field that says how long a packet is.
pub(super) const LENGTH: usize = 4;
