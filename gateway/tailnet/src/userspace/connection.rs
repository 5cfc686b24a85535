//! One TCP connection: a smoltcp interface with one socket, and what we know about it beyond that.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use smoltcp::socket::tcp::{self, Socket, State};

use super::backlog::Place;
use super::live::{Live, Stage};
use super::stack::Stack;
use super::table::Ends;
use crate::packet::Outline;

/// A connection.
pub(super) struct Connection {
    pub(super) ends: Ends,
    /// Tells it from an earlier one with the same ends.
    pub(super) id: u64,
    began: std::time::Instant,
    live: Mutex<Live>,
}

impl Connection {
    /// One that a device begins: it waits for the SYN.
    pub(super) fn listen(stack: &Stack, ends: Ends, place: Place) -> Option<Arc<Self>> {
        let mut live = Live::new(stack, ends, Stage::HalfOpen(place));
        let socket = live.socket();
        socket.set_timeout(Some(HALF_OPEN.into()));
        socket.listen(ends.here).ok()?;
        Some(Self::new(stack, ends, live))
    }

    /// One that we begin; [`Connection::poll_open`] sends the SYN.
    pub(super) fn dial(stack: &Stack, ends: Ends) -> io::Result<Arc<Self>> {
        let mut live = Live::new(stack, ends, Stage::Held);
        let Live { interface, sockets, socket, .. } = &mut live;
        let socket = sockets.get_mut::<Socket<'static>>(*socket);
        socket.set_timeout(Some(UNANSWERED.into()));
        socket.connect(interface.context(), ends.device, ends.here).map_err(io::Error::other)?;
        Ok(Self::new(stack, ends, live))
    }

    fn new(stack: &Stack, ends: Ends, live: Live) -> Arc<Self> {
        Arc::new(Self { ends, id: stack.next_id(), began: std::time::Instant::now(), live: Mutex::new(live) })
    }

    /// Takes a packet.
    pub(super) fn take(self: &Arc<Self>, stack: &Stack, packet: &[u8], outline: &Outline) {
        let live = &mut *self.live.lock();
        let state = live.socket().state();
        if live.edge.admits(state, packet, outline) {
            self.advance(stack, live, Some(packet));
        }
    }

    /// Does what waited for room.
    pub(super) fn feed(self: &Arc<Self>, stack: &Stack) {
        let live = &mut *self.live.lock();
        live.starved = false;
        self.advance(stack, live, None);
    }

    /// Does what is due: its time has come.
    pub(super) fn poll(self: &Arc<Self>, stack: &Stack, at: std::time::Instant) {
        let live = &mut *self.live.lock();
        if live.due == Some(at) {
            live.due = None;
        }
        self.advance(stack, live, None);
    }

    /// Ready once the other side has answered.
    pub(super) fn poll_open(self: &Arc<Self>, stack: &Stack, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let live = &mut *self.live.lock();
        self.advance(stack, live, None);
        if let Some(fate) = live.fate {
            return Poll::Ready(Err(fate.into()));
        }
        let socket = live.socket();
        match socket.state() {
            State::SynSent | State::SynReceived => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            State::Closed => {
                let ended = if self.began.elapsed() < UNANSWERED {
                    io::ErrorKind::ConnectionRefused
                } else {
                    io::ErrorKind::TimedOut
                };
                Poll::Ready(Err(ended.into()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Gives received bytes to `take`, which says how many it took; nothing at the end. Pending when there are none yet.
    pub(super) fn poll_read(
        self: &Arc<Self>,
        stack: &Stack,
        waker: &Waker,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        let live = &mut *self.live.lock();
        if let Some(fate) = live.fate {
            return Poll::Ready(Err(fate.into()));
        }
        let socket = live.socket();
        let mut read = 0;
        // Twice, for the buffer is a ring.
        for _ in 0..2 {
            let took = socket.recv(|bytes| {
                let took = take(bytes);
                (took, took)
            });
            match took {
                Ok(took) => read += took,
                Err(_) if read > 0 => break,
                Err(tcp::RecvError::Finished) => return Poll::Ready(Ok(())),
                Err(tcp::RecvError::InvalidState) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        if read == 0 {
            socket.register_recv_waker(waker);
            return Poll::Pending;
        }
        live.edge.advance(read);
        // The window may be worth telling about.
        self.advance(stack, live, None);
        Poll::Ready(Ok(()))
    }

    /// Takes bytes to send: how many. Pending when there is no room.
    pub(super) fn poll_write(
        self: &Arc<Self>,
        stack: &Stack,
        waker: &Waker,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let live = &mut *self.live.lock();
        if let Some(fate) = live.fate {
            return Poll::Ready(Err(fate.into()));
        }
        let socket = live.socket();
        let mut written = 0;
        for part in parts {
            let Ok(took) = socket.send_slice(part) else {
                let ended = if socket.is_open() { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset };
                return Poll::Ready(Err(ended.into()));
            };
            written += took;
            if took < part.len() {
                break;
            }
        }
        if written == 0 && parts.iter().any(|part| !part.is_empty()) {
            socket.register_send_waker(waker);
            return Poll::Pending;
        }
        self.advance(stack, live, None);
        Poll::Ready(Ok(written))
    }

    /// Says that nothing more will be sent.
    pub(super) fn finish(self: &Arc<Self>, stack: &Stack) {
        let live = &mut *self.live.lock();
        live.socket().close();
        self.advance(stack, live, None);
    }

    /// Its stream is gone: says goodbye, or breaks it where the device's bytes were not read (RFC 9293, 3.10.4).
    pub(super) fn release(self: &Arc<Self>, stack: &Stack) {
        let live = &mut *self.live.lock();
        let socket = live.socket();
        socket.set_keep_alive(None);
        socket.set_timeout(Some(GOODBYE.into()));
        if socket.state() == State::SynSent || socket.recv_queue() > 0 {
            socket.abort();
        } else {
            socket.close();
        }
        live.stage = match live.stage {
            Stage::Over => Stage::Over,
            _ => Stage::Released,
        };
        self.advance(stack, live, None);
    }

    /// Breaks it: reads and writes fail with `fate`, and the device gets a reset.
    pub(super) fn cut(self: &Arc<Self>, stack: &Stack, fate: io::ErrorKind) {
        let live = &mut *self.live.lock();
        live.fate.get_or_insert(fate);
        live.socket().abort();
        self.advance(stack, live, None);
    }

    /// Nobody has the address that it dials.
    pub(super) fn unreachable(self: &Arc<Self>, stack: &Stack) {
        let state = self.live.lock().socket().state();
        if state == State::SynSent {
            self.cut(stack, io::ErrorKind::HostUnreachable);
        }
    }

    /// Lets smoltcp work, and draws the conclusions.
    fn advance(self: &Arc<Self>, stack: &Stack, live: &mut Live, packet: Option<&[u8]>) {
        if let Stage::Over = live.stage {
            return;
        }
        let Ok(starved) = contain(|| live.work(stack, packet)) else { return self.give_up(stack, live) };
        live.open(self);
        live.set_timeout();
        if !starved && live.is_over() {
            live.stage = Stage::Over;
            live.due = self.wait(stack, live.due, None);
            stack.forget(self);
        } else if starved {
            if !std::mem::replace(&mut live.starved, true) {
                stack.starve(self);
            }
        } else if let Some(next) = live.next(stack) {
            // Later than what it waits for anyway: then is early enough to ask again.
            if live.due.is_none_or(|due| next < due) {
                live.due = self.wait(stack, live.due, Some(next));
            }
        }
    }

    /// smoltcp has panicked over what this device sent: its connection is lost, and nobody else's.
    fn give_up(self: &Arc<Self>, stack: &Stack, live: &mut Live) {
        tracing::error!(ends = ?self.ends, "a defect of the TCP stack ended a connection: please report it");
        live.fate.get_or_insert(io::ErrorKind::ConnectionAborted);
        live.stage = Stage::Over;
        live.due = self.wait(stack, live.due, None);
        stack.forget(self);
        // Wakes whoever waits for it.
        let _woken = contain(|| live.socket().abort());
    }

    fn wait(
        self: &Arc<Self>,
        stack: &Stack,
        before: Option<std::time::Instant>,
        at: Option<std::time::Instant>,
    ) -> Option<std::time::Instant> {
        if before != at {
            stack.timers().set(self, before, at);
        }
        at
    }
}

/// Keeps a panic from everything else that this thread does.
fn contain<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// How long a handshake may take: four times a SYN-ACK, at 1, 3 and 7 seconds.
const HALF_OPEN: Duration = Duration::from_secs(15);
/// How long we call a device that does not answer: as in the records (`engine/flows.rs`).
const UNANSWERED: Duration = Duration::from_secs(75);
/// How long a device may be silent while a connection says goodbye: Linux's `tcp_fin_timeout`.
const GOODBYE: Duration = Duration::from_secs(60);
