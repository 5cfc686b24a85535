//! UDP on the gateway's tailnet addresses: what the gateway's DNS speaks through.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::memory::World;
use crate::userspace::{Stack, StackDatagrams};

/// One UDP port on both of the gateway's tailnet addresses.
#[derive(Debug)]
pub struct Datagrams(Ports);

#[derive(Debug)]
enum Ports {
    Sockets { v4: UdpSocket, v6: UdpSocket },
    Stack(StackDatagrams),
    Memory(MemoryDatagrams),
}

impl Datagrams {
    pub(crate) fn sockets(v4: UdpSocket, v6: UdpSocket) -> Self {
        Self(Ports::Sockets { v4, v6 })
    }

    pub(crate) fn stack(stack: &Arc<Stack>, port: u16) -> io::Result<Self> {
        StackDatagrams::bind(stack, port).map(|datagrams| Self(Ports::Stack(datagrams)))
    }

    pub(crate) fn memory(world: &Arc<World>, port: u16) -> io::Result<Self> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        world.bind(any).map(|datagrams| Self(Ports::Memory(datagrams)))
    }

    /// The next datagram: its length and its sender. What does not fit the buffer is cut off. Cancel-safe.
    ///
    /// # Errors
    /// When the port is gone; nothing more will come.
    pub async fn recv_from(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match &mut self.0 {
            Ports::Memory(datagrams) => datagrams.recv_from(buffer).await,
            Ports::Stack(datagrams) => datagrams.recv_from(buffer).await,
            Ports::Sockets { v4, v6 } => loop {
                tokio::select! {
                    ready = v4.readable() => ready?,
                    ready = v6.readable() => ready?,
                }
                for socket in [&*v4, &*v6] {
                    match socket.try_recv_from(buffer) {
                        // A port unreachable that came back for an earlier answer; the port itself is well.
                        Err(error) if is_passing(&error) => {}
                        received => return received,
                    }
                }
            },
        }
    }

    /// Sends an answer from the address of the same family.
    ///
    /// # Errors
    /// As the kernel's `sendto`; the userspace stack refuses what does not fit a packet of the tunnel.
    pub async fn send_to(&self, payload: &[u8], destination: SocketAddr) -> io::Result<usize> {
        match &self.0 {
            Ports::Sockets { v4, .. } if destination.is_ipv4() => v4.send_to(payload, destination).await,
            Ports::Sockets { v6, .. } => v6.send_to(payload, destination).await,
            Ports::Stack(datagrams) => datagrams.send_to(payload, destination),
            Ports::Memory(datagrams) => {
                datagrams.send_to(payload, destination);
                Ok(payload.len())
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused)
}

/// A UDP socket inside a memory tailnet.
#[derive(Debug)]
pub struct MemoryDatagrams {
    world: Arc<World>,
    address: SocketAddr,
    receiver: mpsc::Receiver<(Vec<u8>, SocketAddr)>,
}

impl MemoryDatagrams {
    pub(crate) fn new(world: Arc<World>, address: SocketAddr, receiver: mpsc::Receiver<(Vec<u8>, SocketAddr)>) -> Self {
        Self { world, address, receiver }
    }

    /// The next datagram: its length and its sender. Cancel-safe.
    ///
    /// # Errors
    /// When another socket took this address.
    pub async fn recv_from(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (payload, from) = self.receiver.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        let length = payload.len().min(buffer.len());
        buffer.iter_mut().zip(&payload).for_each(|(to, from)| *to = *from);
        Ok((length, from))
    }

    /// Sends a datagram; dropped where nobody listens or the listener's queue is full.
    pub fn send_to(&self, payload: &[u8], destination: SocketAddr) {
        self.world.deliver(payload, self.address, destination);
    }
}
