//! Packets on their way to the engine: one bounded queue for all connections.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;
use crate::offload::VirtioHeader;

/// The queue. What finds it full waits its turn ([`Egress::starve`]) or is dropped ([`Egress::answer`]).
#[derive(Debug, Default)]
pub(super) struct Egress {
    queue: Mutex<Queue>,
    ready: Notify,
}

/// A packet, perhaps to be cut into many.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) virtio: VirtioHeader,
    pub(super) packet: Vec<u8>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Memory of earlier packets.
    spare: Vec<Vec<u8>>,
    /// Connections that had something to say and found no room, in the order of their asking.
    starved: VecDeque<Weak<Connection>>,
}

impl Queue {
    fn is_ready(&self) -> bool {
        !self.frames.is_empty() || !self.starved.is_empty()
    }
}

impl Egress {
    /// Whether a connection may add a packet.
    pub(super) fn has_room(&self) -> bool {
        self.queue.lock().bytes < ROOM
    }

    /// Memory for a packet of `length` bytes.
    pub(super) fn memory(&self, length: usize) -> Vec<u8> {
        let mut memory = self.queue.lock().spare.pop().unwrap_or_default();
        memory.clear();
        memory.resize(length, 0);
        memory
    }

    /// Adds a packet, unless the queue is far past full: answers to packets are not asked whether there is room.
    pub(super) fn push(&self, frame: Frame) {
        let mut queue = self.queue.lock();
        if queue.bytes < ROOM + ROOM_FOR_ANSWERS {
            queue.bytes += frame.packet.len();
            queue.frames.push_back(frame);
            drop(queue);
            self.ready.notify_one();
        }
    }

    /// Adds a packet that is no connection's; dropped when the queue is full, as IP allows.
    pub(super) fn answer(&self, packet: Vec<u8>) {
        if self.has_room() {
            self.push(Frame { virtio: VirtioHeader::default(), packet });
        }
    }

    /// Remembers a connection that found no room. Wakes the reader too: it may have emptied the queue since.
    pub(super) fn starve(&self, connection: &Arc<Connection>) {
        self.queue.lock().starved.push_back(Arc::downgrade(connection));
        self.ready.notify_one();
    }

    /// Waits until there is a packet, or room for one that a connection wants to send. Cancel-safe.
    pub(super) async fn ready(&self) {
        while !self.queue.lock().is_ready() {
            self.ready.notified().await;
        }
    }

    /// Takes the oldest packet.
    pub(super) fn pop(&self) -> Option<Frame> {
        let mut queue = self.queue.lock();
        let frame = queue.frames.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(frame.packet.len());
        Some(frame)
    }

    /// Gives a packet's memory back.
    pub(super) fn recycle(&self, frame: Frame) {
        let mut queue = self.queue.lock();
        if queue.spare.len() < SPARE {
            queue.spare.push(frame.packet);
        }
    }

    /// The connection that has waited longest, once half of the room is free.
    pub(super) fn next_starved(&self) -> Option<Arc<Connection>> {
        let mut queue = self.queue.lock();
        if queue.bytes > ROOM / 2 {
            return None;
        }
        while let Some(waiting) = queue.starved.pop_front() {
            if let Some(connection) = waiting.upgrade() {
                return Some(connection);
            }
        }
        None
    }
}

/// Bytes that connections may have waiting here: a few milliseconds of a gigabit.
const ROOM: usize = 1024 * 1024;
/// Bytes past that for what answers a packet: acknowledgements, resets.
const ROOM_FOR_ANSWERS: usize = 256 * 1024;
/// Packets whose memory is kept for the next: two megabytes at most.
const SPARE: usize = 32;
