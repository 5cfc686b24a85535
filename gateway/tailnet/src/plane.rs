//! A data plane of packets: the engine, and the backend on its inner side, put together.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::engine::{Core, Engine, PeerConfig, WireSocket};
use crate::flow::FlowSink;
use crate::netns::Control;
use crate::opening::{Inside, Opening, settle};
use crate::tailnet::ARRIVAL_QUEUE;
use crate::{Arrivals, Backend, Config, Datagrams, Error, FlowRecords, Peer, PeerState, PublicKey, Stream};

/// A running data plane. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Plane {
    engine: Engine,
    inside: Inside,
    config: Config,
    backend: Backend,
    sink: FlowSink,
    accepting: Vec<AbortHandle>,
}

impl Plane {
    pub(crate) async fn start(config: Config, peers: Vec<Peer>) -> Result<(Self, Arrivals), Error> {
        let listen = config.listen;
        let socket = WireSocket::bind(listen).map_err(|source| Error::Listen { address: listen, source })?;
        let Opening { device, backend, inside, waiting } = Opening::choose(&config).await?;
        let sink = FlowSink::new();
        let core = Core::new(config.private_key.clone(), sink.clone());
        let engine = Engine::start(core, socket, device);
        let (sender, receiver) = mpsc::channel(ARRIVAL_QUEUE);
        let mut plane = Self { engine, inside, config, backend, sink, accepting: Vec::new() };
        for peer in peers {
            plane.upsert(peer)?;
        }
        plane.accepting = waiting.accept(plane.engine.core(), &sender)?;
        Ok((plane, Arrivals::new(receiver)))
    }

    pub(crate) fn upsert(&self, peer: Peer) -> Result<(), Error> {
        for address in &peer.addresses {
            self.check(*address)?;
        }
        let allowed = peer.addresses.into_iter().map(IpNet::from).collect();
        let Peer { key, preshared, endpoint, keepalive, .. } = peer;
        let gone = self.engine.core().upsert(PeerConfig { key, preshared, allowed, endpoint, keepalive })?;
        if !gone.is_empty() {
            match &self.inside {
                Inside::Namespace(control) => {
                    let control = control.clone();
                    tokio::spawn(async move { cut(&control, &gone).await });
                }
                Inside::Stack(stack) => gone.iter().for_each(|address| stack.cut(Some(address.addr()))),
            }
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, key: &PublicKey) -> bool {
        let Some(addresses) = self.engine.core().remove(key) else { return false };
        match &self.inside {
            Inside::Namespace(control) => cut(control, &addresses).await,
            Inside::Stack(stack) => addresses.iter().for_each(|address| stack.cut(Some(address.addr()))),
        }
        true
    }

    pub(crate) fn peers(&self) -> Vec<PeerState> {
        self.engine.core().peers(Instant::now())
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.engine.local_addr()
    }

    /// Where records go.
    pub(crate) fn sink(&self) -> &FlowSink {
        &self.sink
    }

    pub(crate) fn flows(&self) -> FlowRecords {
        self.sink.subscribe()
    }

    pub(crate) async fn udp(&self, port: u16) -> Result<Datagrams, Error> {
        let failed = |source| Error::Datagrams { port, source };
        match &self.inside {
            Inside::Namespace(control) => {
                let v4 = bind(control, self.config.gateway.0.into(), port).await.map_err(failed)?;
                let v6 = bind(control, self.config.gateway.1.into(), port).await.map_err(failed)?;
                Ok(Datagrams::sockets(v4, v6))
            }
            Inside::Stack(stack) => Datagrams::stack(stack, port).map_err(failed),
        }
    }

    pub(crate) async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        let failed = |source| Error::Dial { address, source };
        match &self.inside {
            Inside::Namespace(control) => {
                let connected = control.tcp_connect(address).await.map_err(|error| failed(io::Error::other(error)))?;
                let stream = TcpStream::from_std(connected).map_err(failed)?;
                settle(&stream).map_err(failed)?;
                Ok(Stream::Tcp(stream))
            }
            Inside::Stack(stack) => stack.dial(address).await.map(Stream::Stack).map_err(failed),
        }
    }

    /// A device's address is inside the tailnet, and neither a target's nor the gateway's: the namespace's kernel would
    /// drop its packets as forged.
    fn check(&self, address: IpAddr) -> Result<(), Error> {
        let Config { gateway, prefix, service, .. } = &self.config;
        let fits = match &address {
            IpAddr::V4(v4) => prefix.0.contains(v4) && !service.0.contains(v4) && *v4 != gateway.0,
            IpAddr::V6(v6) => prefix.1.contains(v6) && !service.1.contains(v6) && *v6 != gateway.1,
        };
        if fits { Ok(()) } else { Err(Error::AddressForeign { address }) }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
        if let Inside::Stack(stack) = &self.inside {
            stack.cut(None);
        }
    }
}

/// Breaks the connections of addresses that no peer has any more.
async fn cut(control: &Control, addresses: &[IpNet]) {
    for address in addresses {
        if let Err(error) = control.kill_connections(address.addr()).await {
            tracing::warn!(%error, %address, "the connections of a removed device could not be broken");
        }
    }
}

async fn bind(control: &Control, address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = control.udp_bind(SocketAddr::new(address, port)).await.map_err(io::Error::other)?;
    UdpSocket::from_std(socket)
}
