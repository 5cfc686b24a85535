//! Sallyport's WireGuard data plane.
//!
//! A [`Tailnet`] yields an [`Arrival`] for each connection that a device opens through its tunnel: a stream of bytes,
//! the device's key, and both addresses. The key is proven by the packets themselves; nothing above this crate has to
//! trust an address. The crate knows nothing of users, policies or protocols: it says who is calling and whom.
//!
//! WireGuard itself is boringtun's ([the paper](https://www.wireguard.com/papers/wireguard.pdf)). [`Memory`] is the
//! same interface inside one process, for tests.

pub mod caller;
mod config;
mod datagrams;
mod engine;
mod error;
mod flow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod icmp;
mod inner;
mod keys;
mod memory;
pub mod netns;
mod offload;
mod opening;
mod packet;
mod plane;
mod stream;
mod tailnet;
mod userspace;

pub use config::{Backend, BackendKind, Config, DEFAULT_MTU, Peer, PeerState};
pub use datagrams::{Datagrams, MemoryDatagrams};
pub use error::Error;
pub use flow::{FLOW_QUEUE, FlowEvent, FlowHandle, FlowRecord, FlowRecords, Protocol, Verdict};
pub use inner::{InnerEnds, InnerStream};
pub use keys::{KEY_LENGTH, PresharedKey, PrivateKey, PublicKey};
pub use memory::{Memory, MemoryDialer, MemoryListener, MemoryStream};
pub use stream::{DetachedStream, Stream};
pub use tailnet::{ARRIVAL_QUEUE, Arrival, Arrivals, Tailnet};
pub use userspace::StackStream;
