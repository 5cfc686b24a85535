//! The private namespace's backend: the engine, the namespace's listeners, and its helper, put together.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::engine::{Core, Device, Engine, Link, PeerConfig, WireSocket};
use crate::flow::FlowSink;
use crate::netns::{Control, DEVICE_MAC, DeviceKind, GatewaySetup, PrivateNamespace, Setup};
use crate::tailnet::ARRIVAL_QUEUE;
use crate::{Arrival, Arrivals, Backend, BackendKind, Config, Datagrams, Error, FlowRecords, Peer, PeerState};
use crate::{PublicKey, Stream};

/// A running data plane in a private namespace. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Plane {
    engine: Engine,
    control: Control,
    config: Config,
    backend: Backend,
    sink: FlowSink,
    accepting: Vec<AbortHandle>,
}

impl Plane {
    pub(crate) async fn start(config: Config, peers: Vec<Peer>) -> Result<(Self, Arrivals), Error> {
        let listen = config.listen;
        let socket = WireSocket::bind(listen).map_err(|source| Error::Listen { address: listen, source })?;
        let setup = setup(&config);
        let opened = tokio::task::spawn_blocking(move || PrivateNamespace::open(&setup)).await;
        let namespace = opened.map_err(system("make the private namespace"))?.map_err(Error::NoBackend)?;
        let (kind, link) = match namespace.device.kind {
            DeviceKind::Tun => (BackendKind::Tun, Link::Ip),
            DeviceKind::Packet => (BackendKind::Packet, Link::Ethernet(DEVICE_MAC)),
        };
        let device = Device::new(namespace.device.fd, link).map_err(system("watch the tunnel's device"))?;
        let sink = FlowSink::new();
        let core = Core::new(config.private_key.clone(), sink.clone());
        let engine = Engine::start(core, socket, device);
        let (sender, receiver) = mpsc::channel(ARRIVAL_QUEUE);
        let mut plane = Self {
            engine,
            control: namespace.control,
            config,
            backend: Backend { kind, notes: namespace.notes },
            sink,
            accepting: Vec::new(),
        };
        for peer in peers {
            plane.upsert(peer)?;
        }
        for listener in namespace.listeners {
            let listener = TcpListener::from_std(listener.socket).map_err(system("watch a listener"))?;
            let task = tokio::spawn(accept(listener, Arc::clone(plane.engine.core()), sender.clone()));
            plane.accepting.push(task.abort_handle());
        }
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
            let control = self.control.clone();
            tokio::spawn(async move { cut(&control, &gone).await });
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, key: &PublicKey) -> bool {
        let Some(addresses) = self.engine.core().remove(key) else { return false };
        cut(&self.control, &addresses).await;
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

    pub(crate) fn flows(&self) -> FlowRecords {
        self.sink.subscribe()
    }

    pub(crate) async fn udp(&self, port: u16) -> Result<Datagrams, Error> {
        let v4 = self.bind(self.config.gateway.0.into(), port).await?;
        let v6 = self.bind(self.config.gateway.1.into(), port).await?;
        Ok(Datagrams::sockets(v4, v6))
    }

    pub(crate) async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        let failed = |source| Error::Dial { address, source };
        let stream = self.control.tcp_connect(address).await.map_err(|error| failed(io::Error::other(error)))?;
        stream.set_nodelay(true).map_err(failed)?;
        TcpStream::from_std(stream).map(Stream::Tcp).map_err(failed)
    }

    async fn bind(&self, address: IpAddr, port: u16) -> Result<UdpSocket, Error> {
        let failed = |source| Error::Datagrams { port, source };
        let bound = self.control.udp_bind(SocketAddr::new(address, port)).await;
        let socket = bound.map_err(|error| failed(io::Error::other(error)))?;
        UdpSocket::from_std(socket).map_err(failed)
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
    }
}

/// Accepts connections and says whose they are. Waits while the gateway's queue of arrivals is full.
async fn accept(listener: TcpListener, core: Arc<Core>, arrivals: mpsc::Sender<Arrival>) {
    while !arrivals.is_closed() {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection through the tailnet could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(destination) = stream.local_addr() else { continue };
        // Nobody's: its device was removed a moment ago.
        let Some((device, flow)) = core.arrival(source, destination) else { continue };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let arrival = Arrival { stream: Stream::Tcp(stream), device, source, destination, flow };
        if arrivals.send(arrival).await.is_err() {
            return;
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

fn setup(config: &Config) -> Setup {
    Setup::Gateway(GatewaySetup {
        addresses: vec![config.gateway.0.into(), config.gateway.1.into()],
        service: vec![config.service.0.into(), config.service.1.into()],
        ports: config.ports.clone(),
        mtu: config.mtu,
        device: config.backend.and_then(|kind| match kind {
            BackendKind::Tun => Some(DeviceKind::Tun),
            BackendKind::Packet => Some(DeviceKind::Packet),
            BackendKind::Memory => None,
        }),
    })
}

fn system<E: Into<Box<dyn std::error::Error + Send + Sync>>>(doing: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::System { doing, source: io::Error::other(error) }
}

/// A pause after an error of accept, which means that we are out of descriptors or memory.
const AFTER_ERROR: Duration = Duration::from_millis(20);
