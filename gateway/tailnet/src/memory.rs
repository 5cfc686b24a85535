//! The backend for tests: a tailnet inside this process, without packets, privileges or sleeps.
//!
//! It keeps the promises that callers rely on: a stream carries the key of its device, a device speaks from its own
//! addresses only, removing a device breaks its connections, and every connection leaves a flow record.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::datagrams::MemoryDatagrams;
use crate::flow::{FlowSink, PipeFlow, Side};
use crate::tailnet::{ARRIVAL_QUEUE, Inner};
use crate::{Arrival, Arrivals, Error, Peer, PeerState, PublicKey, Stream, Tailnet};

/// Builds a tailnet inside this process.
#[derive(Debug)]
pub struct Memory;

impl Memory {
    /// A tailnet without peers: its handle, what arrives, and the devices' side.
    #[expect(clippy::new_ret_no_self, reason = "there is no memory tailnet apart from the three ends it comes in")]
    pub fn new() -> (Tailnet, Arrivals, MemoryDialer) {
        let (sender, receiver) = mpsc::channel(ARRIVAL_QUEUE);
        let world = Arc::new(World {
            peers: Mutex::default(),
            arrivals: sender,
            flows: FlowSink::new(),
            services: Mutex::default(),
            next_port: AtomicU16::new(FIRST_PORT),
        });
        let tailnet = Tailnet::from_inner(Inner::Memory(Arc::clone(&world)));
        (tailnet, Arrivals::new(receiver), MemoryDialer(world))
    }
}

/// The devices' side of a memory tailnet.
#[derive(Clone, Debug)]
pub struct MemoryDialer(Arc<World>);

impl MemoryDialer {
    /// Connects as the device `key` from `source`. Waits while the gateway's queue of arrivals is full.
    ///
    /// # Errors
    /// `PermissionDenied` when the device is no peer or `source` is not its address, as WireGuard would drop the
    /// packets; `ConnectionRefused` when the gateway takes no more arrivals.
    pub async fn connect(&self, key: PublicKey, source: IpAddr, destination: SocketAddr) -> io::Result<Stream> {
        let life = self.0.admit(&key, source)?;
        let source = SocketAddr::new(source, self.0.next_port.fetch_add(1, Ordering::Relaxed).max(FIRST_PORT));
        let flow = Arc::new(PipeFlow::new(key, source, destination, self.0.flows.clone()));
        let (device, gateway) = tokio::io::duplex(PIPE_BYTES);
        let arrival = Arrival {
            stream: Stream::Memory(MemoryStream::new(gateway, life.clone(), &flow, Side::Gateway)),
            device: key,
            source,
            destination,
            flow: flow.handle(),
        };
        let stream = Stream::Memory(MemoryStream::new(device, life, &flow, Side::Device));
        self.0.arrivals.send(arrival).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(stream)
    }

    /// A UDP socket of the device `key` at `source`.
    ///
    /// # Errors
    /// `PermissionDenied` when the device is no peer or the address is not its own.
    pub fn datagrams(&self, key: PublicKey, source: SocketAddr) -> io::Result<MemoryDatagrams> {
        self.0.admit(&key, source.ip())?;
        self.0.bind(source)
    }

    /// Accepts what the gateway dials at `address`.
    ///
    /// # Errors
    /// `PermissionDenied` when the device is no peer or the address is not its own.
    pub fn listen(&self, key: PublicKey, address: SocketAddr) -> io::Result<MemoryListener> {
        self.0.admit(&key, address.ip())?;
        let (sender, receiver) = mpsc::channel(ARRIVAL_QUEUE);
        self.0.services.lock().listeners.insert(address, (key, sender));
        Ok(MemoryListener(receiver))
    }
}

/// A device's listening port.
#[derive(Debug)]
pub struct MemoryListener(mpsc::Receiver<Stream>);

impl MemoryListener {
    /// The next connection from the gateway, `None` once the tailnet is gone. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

/// Everything the ends of a memory tailnet share.
#[derive(Debug)]
pub(crate) struct World {
    peers: Mutex<HashMap<PublicKey, Member>>,
    arrivals: mpsc::Sender<Arrival>,
    flows: FlowSink,
    services: Mutex<Services>,
    next_port: AtomicU16,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    /// Cancelled when the device is removed.
    life: CancellationToken,
}

#[derive(Debug, Default)]
struct Services {
    listeners: HashMap<SocketAddr, (PublicKey, mpsc::Sender<Stream>)>,
    sockets: HashMap<SocketAddr, mpsc::Sender<(Vec<u8>, SocketAddr)>>,
}

impl World {
    pub(crate) fn upsert(&self, peer: Peer) -> Result<(), Error> {
        let mut peers = self.peers.lock();
        for address in &peer.addresses {
            let owner = |member: &&Member| member.peer.key != peer.key && member.peer.addresses.contains(address);
            if let Some(member) = peers.values().find(owner) {
                return Err(Error::AddressTaken { address: (*address).into(), owner: member.peer.key });
            }
        }
        let life = peers.get(&peer.key).map_or_else(CancellationToken::new, |member| member.life.clone());
        peers.insert(peer.key, Member { peer, life });
        Ok(())
    }

    pub(crate) fn remove(&self, key: &PublicKey) -> bool {
        let Some(member) = self.peers.lock().remove(key) else { return false };
        member.life.cancel();
        true
    }

    pub(crate) fn peers(&self) -> Vec<PeerState> {
        let state = |member: &Member| PeerState {
            key: member.peer.key,
            endpoint: member.peer.endpoint,
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        self.peers.lock().values().map(state).collect()
    }

    pub(crate) fn flows(&self) -> &FlowSink {
        &self.flows
    }

    /// The gateway's side dials a device.
    pub(crate) async fn dial(&self, address: SocketAddr) -> io::Result<Stream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (key, listener) = self.services.lock().listeners.get(&address).cloned().ok_or_else(refused)?;
        let life = self.admit(&key, address.ip())?;
        let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.next_port.fetch_add(1, Ordering::Relaxed));
        let flow = Arc::new(PipeFlow::new(key, source, address, self.flows.clone()));
        let (device, gateway) = tokio::io::duplex(PIPE_BYTES);
        let stream = MemoryStream::new(device, life.clone(), &flow, Side::Device);
        listener.send(Stream::Memory(stream)).await.map_err(|_| refused())?;
        Ok(Stream::Memory(MemoryStream::new(gateway, life, &flow, Side::Gateway)))
    }

    /// Binds a UDP address.
    pub(crate) fn bind(self: &Arc<Self>, address: SocketAddr) -> io::Result<MemoryDatagrams> {
        let (sender, receiver) = mpsc::channel(DATAGRAM_QUEUE);
        let mut services = self.services.lock();
        if services.sockets.get(&address).is_some_and(|socket| !socket.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        services.sockets.insert(address, sender);
        Ok(MemoryDatagrams::new(Arc::clone(self), address, receiver))
    }

    /// Delivers a datagram, or drops it as a network would.
    pub(crate) fn deliver(&self, payload: &[u8], from: SocketAddr, to: SocketAddr) {
        let services = self.services.lock();
        // The gateway's socket answers on every address of its port, as it has no address of its own here.
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port());
        if let Some(socket) = services.sockets.get(&to).or_else(|| services.sockets.get(&any)) {
            let _ = socket.try_send((payload.to_vec(), from));
        }
    }

    /// The life of a device that may speak from `source`.
    fn admit(&self, key: &PublicKey, source: IpAddr) -> io::Result<CancellationToken> {
        match self.peers.lock().get(key) {
            Some(member) if member.peer.addresses.contains(&source) => Ok(member.life.clone()),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// One end of a pipe between a device and the gateway. Broken when the device is removed.
#[derive(Debug)]
pub struct MemoryStream {
    pipe: DuplexStream,
    /// Resolve when the device is removed: one wakes who reads, one who writes.
    removed: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
    life: CancellationToken,
    flow: Arc<PipeFlow>,
    side: Side,
}

impl MemoryStream {
    fn new(pipe: DuplexStream, life: CancellationToken, flow: &Arc<PipeFlow>, side: Side) -> Self {
        let removed = [(); 2].map(|()| Box::pin(life.clone().cancelled_owned()));
        Self { pipe, removed, life, flow: Arc::clone(flow), side }
    }
}

/// Fails once the device is removed, and has its caller polled then.
fn check(
    life: &CancellationToken,
    removed: &mut Pin<Box<WaitForCancellationFutureOwned>>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if life.is_cancelled() || removed.as_mut().poll(cx).is_ready() {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(())
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { pipe, removed: [removed, _], life, .. } = self.get_mut();
        check(life, removed, cx)?;
        Pin::new(pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { pipe, removed: [_, removed], life, flow, side } = self.get_mut();
        check(life, removed, cx)?;
        let written = Pin::new(pipe).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            flow.count(*side, bytes);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }
}

/// What one direction holds before the writer waits, in bytes.
const PIPE_BYTES: usize = 64 * 1024;
/// Datagrams that wait at a socket before more are dropped.
const DATAGRAM_QUEUE: usize = 64;
/// Source ports come from the ephemeral range of RFC 6335.
const FIRST_PORT: u16 = 49152;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{FlowEvent, PrivateKey, Verdict};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2));
    const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(100, 100, 0, 1)), 22);

    fn world() -> (Tailnet, Arrivals, MemoryDialer, PublicKey) {
        let (tailnet, arrivals, dialer) = Memory::new();
        let key = PrivateKey::generate().public();
        let peer = Peer { key, preshared: None, addresses: vec![SOURCE], endpoint: None, keepalive: None };
        tailnet.upsert(peer).unwrap();
        (tailnet, arrivals, dialer, key)
    }

    #[tokio::test]
    async fn an_arrival_carries_its_device_and_both_addresses() {
        let (_tailnet, mut arrivals, dialer, key) = world();
        let mut device = dialer.connect(key, SOURCE, TARGET).await.unwrap();
        let mut arrival = arrivals.next().await.unwrap();
        assert_eq!((arrival.device, arrival.source.ip(), arrival.destination), (key, SOURCE, TARGET));
        device.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        arrival.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test]
    async fn a_device_speaks_from_its_own_addresses_only() {
        let (_tailnet, _arrivals, dialer, key) = world();
        let strange = PrivateKey::generate().public();
        for (key, source) in [(key, Ipv4Addr::new(100, 64, 0, 3).into()), (strange, SOURCE)] {
            let error = dialer.connect(key, source, TARGET).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[tokio::test]
    async fn an_address_belongs_to_one_device() {
        let (tailnet, _arrivals, _dialer, key) = world();
        let other = PrivateKey::generate().public();
        let peer = Peer { key: other, preshared: None, addresses: vec![SOURCE], endpoint: None, keepalive: None };
        let error = tailnet.upsert(peer).unwrap_err();
        assert!(matches!(error, Error::AddressTaken { owner, .. } if owner == key), "{error}");
    }

    #[tokio::test]
    async fn removing_a_device_breaks_its_connections() {
        let (tailnet, mut arrivals, dialer, key) = world();
        let _device = dialer.connect(key, SOURCE, TARGET).await.unwrap();
        let mut arrival = arrivals.next().await.unwrap();
        let mut buffer = [0; 1];
        let reading = arrival.stream.read(&mut buffer);
        let removing = async { assert!(tailnet.remove(&key).await) };
        let (read, ()) = tokio::join!(reading, removing);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(dialer.connect(key, SOURCE, TARGET).await.is_err());
    }

    #[tokio::test]
    async fn a_record_waits_for_the_verdict() {
        let (tailnet, mut arrivals, dialer, key) = world();
        let mut flows = tailnet.flows();
        let mut device = dialer.connect(key, SOURCE, TARGET).await.unwrap();
        device.write_all(b"four").await.unwrap();
        let Arrival { stream, flow, .. } = arrivals.next().await.unwrap();
        drop((device, stream));
        flow.verdict(Verdict::Denied { reason: "no rule".to_owned() });
        drop(flow);
        let Some(FlowEvent::Ended(record)) = flows.next().await else { panic!("no record") };
        assert_eq!((record.device, record.destination, record.rx_bytes, record.tx_bytes), (key, TARGET, 4, 0));
        assert_eq!(record.verdict, Some(Verdict::Denied { reason: "no rule".to_owned() }));
    }

    #[tokio::test]
    async fn datagrams_go_both_ways() {
        let (tailnet, _arrivals, dialer, key) = world();
        let mut server = tailnet.udp(53).await.unwrap();
        let resolver = SocketAddr::new(Ipv4Addr::new(100, 64, 0, 1).into(), 53);
        let mut device = dialer.datagrams(key, SocketAddr::new(SOURCE, 4000)).unwrap();
        device.send_to(b"web1?", resolver);
        let mut buffer = [0; 64];
        let (length, from) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"web1?");
        server.send_to(b"100.100.0.1", from).await.unwrap();
        let (length, _) = device.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"100.100.0.1");
    }

    #[tokio::test]
    async fn the_gateway_dials_a_device() {
        let (tailnet, _arrivals, dialer, key) = world();
        let address = SocketAddr::new(SOURCE, 8080);
        assert!(tailnet.dial(address).await.is_err());
        let mut listener = dialer.listen(key, address).unwrap();
        let mut called = tailnet.dial(address).await.unwrap();
        let mut accepted = listener.accept().await.unwrap();
        called.write_all(b"hi").await.unwrap();
        let mut heard = [0; 2];
        accepted.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hi");
    }
}
