//! The data plane as the gateway sees it: a handle, and what arrives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::flow::PipeFlow;
use crate::memory::World;
use crate::plane::Plane;
use crate::{
    Backend, BackendKind, Config, Datagrams, Error, FlowHandle, FlowRecords, InnerEnds, Peer, PeerState, PublicKey,
    Stream,
};

/// A running data plane. Cheap to clone; it stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Tailnet(Arc<Inner>);

#[derive(Debug)]
pub(crate) enum Inner {
    Plane(Box<Plane>),
    Memory(Arc<World>),
}

impl Tailnet {
    /// Opens the WireGuard port and the best backend that works here, and begins a handshake with every peer whose
    /// endpoint is known.
    ///
    /// # Errors
    /// When the port cannot be opened, or no backend works; the error says why for each.
    pub async fn start(config: Config, peers: Vec<Peer>) -> Result<(Self, Arrivals), Error> {
        let (plane, arrivals) = Plane::start(config, peers).await?;
        Ok((Self::from_inner(Inner::Plane(Box::new(plane))), arrivals))
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Adds a peer, or changes the one with this key. Its connections live on if its addresses stay.
    ///
    /// # Errors
    /// When another peer has one of its addresses.
    pub fn upsert(&self, peer: Peer) -> Result<(), Error> {
        match &*self.0 {
            Inner::Plane(plane) => plane.upsert(peer),
            Inner::Memory(world) => world.upsert(peer),
        }
    }

    /// Removes a peer: from now on its packets are dropped, and its TCP connections are broken. False when there was
    /// no such peer.
    pub async fn remove(&self, key: &PublicKey) -> bool {
        match &*self.0 {
            Inner::Plane(plane) => plane.remove(key).await,
            Inner::Memory(world) => world.remove(key),
        }
    }

    /// Every peer as it is now.
    pub fn peers(&self) -> Vec<PeerState> {
        match &*self.0 {
            Inner::Plane(plane) => plane.peers(),
            Inner::Memory(world) => world.peers(),
        }
    }

    /// Which backend won, and what could be better.
    pub fn backend(&self) -> Backend {
        match &*self.0 {
            Inner::Plane(plane) => plane.backend().clone(),
            Inner::Memory(_) => Backend { kind: BackendKind::Memory, notes: Vec::new() },
        }
    }

    /// Where WireGuard listens, with the port that the system chose if the configuration said 0. `None` in memory.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &*self.0 {
            Inner::Plane(plane) => plane.local_addr().ok(),
            Inner::Memory(_) => None,
        }
    }

    /// Opens a UDP port on both of the gateway's tailnet addresses.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn udp(&self, port: u16) -> Result<Datagrams, Error> {
        match &*self.0 {
            Inner::Plane(plane) => plane.udp(port).await,
            Inner::Memory(world) => Datagrams::memory(world, port).map_err(|source| Error::Datagrams { port, source }),
        }
    }

    /// Connects from the gateway to an address inside the tailnet.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        match &*self.0 {
            Inner::Plane(plane) => plane.dial(address).await,
            Inner::Memory(world) => world.dial(address).await.map_err(|source| Error::Dial { address, source }),
        }
    }

    /// Keeps a record of a connection inside another one, at the gateway's end of it, as of those that arrive by themselves.
    /// `None` where it is none of [`Stream::pair`].
    pub fn keep_inner(&self, stream: &mut Stream, ends: InnerEnds) -> Option<FlowHandle> {
        let Stream::Inner(stream) = stream else { return None };
        let sink = match &*self.0 {
            Inner::Plane(plane) => plane.sink(),
            Inner::Memory(world) => world.flows(),
        };
        let InnerEnds { device, source, destination } = ends;
        Some(stream.keep(PipeFlow::new(device, source, destination, sink.clone())))
    }

    /// The records of every connection that ends from now on.
    pub fn flows(&self) -> FlowRecords {
        match &*self.0 {
            Inner::Plane(plane) => plane.flows(),
            Inner::Memory(world) => world.flows().subscribe(),
        }
    }
}

/// A connection from a device to an address of the service prefix, or to the gateway's own.
#[derive(Debug)]
#[must_use]
pub struct Arrival {
    /// Its bytes.
    pub stream: Stream,
    /// The key that its packets proved.
    ///
    /// INVARIANT: never derived from the address alone: the connection's first packet was decrypted with this key.
    pub device: PublicKey,
    /// The device's address and port.
    pub source: SocketAddr,
    /// Whom the device called.
    pub destination: SocketAddr,
    /// The connection's record: write the decision there, and keep it while the connection lasts.
    pub flow: FlowHandle,
}

/// Connections in the order of their arrival.
///
/// Bounded: while [`ARRIVAL_QUEUE`] wait here, further ones wait in the kernel's backlog, and past that the device's
/// own TCP tries again.
#[derive(Debug)]
pub struct Arrivals(mpsc::Receiver<Arrival>);

impl Arrivals {
    pub(crate) fn new(receiver: mpsc::Receiver<Arrival>) -> Self {
        Self(receiver)
    }

    /// The next connection, `None` once the data plane has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arrival> {
        self.0.recv().await
    }
}

/// How often the other end of a silent connection is asked whether it is still there, on every backend.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30 * 60);
/// Connections that wait for the gateway to take them.
pub const ARRIVAL_QUEUE: usize = 128;
