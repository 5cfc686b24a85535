//! The last resort: TCP, UDP and ICMP in this process, where no network namespace may be made. TCP is smoltcp's.
//!
//! It stands in the private namespace's place and behaves as that does: every address of the service prefixes and the
//! gateway's own is here by one look at the packet's destination; allowed ports are accepted, others are refused with a
//! reset, pings are answered, and nothing is ever passed on to another device.
//!
//! ```text
//! engine ─▶ Stack::take ─▶ Table ─▶ Connection (an Interface with one socket) ─▶ Stream
//!        ◀─ Egress      ◀──────────────┘   ▲
//!                                        Timers
//! ```
//!
//! smoltcp walks through all sockets of a set at each poll, so each connection has a set of its own, found by our own
//! table and polled when it has a packet, when its stream is used, or when its time has come. An idle connection costs
//! memory and nothing else.
//!
//! Who slows down: a stream whose buffer is full waits ([`live::BUFFER`] each way); a connection that finds
//! `Egress` full waits until that has drained; the device's TCP waits for the window. Bounds: [`table`] for connections,
//! [`backlog`] for those that nobody has accepted yet.
//!
//! Locks are taken in this order: a connection's, then the table's, the timers' or the egress's. Nothing here calls the
//! engine while it holds one.

mod answers;
mod backlog;
mod connection;
mod datagrams;
mod egress;
mod link;
mod live;
mod normal;
mod stack;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod window;

pub(crate) use self::backlog::Opened;
pub(crate) use self::datagrams::StackDatagrams;
pub(crate) use self::stack::{Here, Stack};
pub use self::stream::StackStream;
