//! UDP ports on the gateway's own addresses.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::answers;
use super::stack::Stack;

/// Who listens on which port.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<HashMap<u16, mpsc::Sender<Datagram>>>);

type Datagram = (Vec<u8>, SocketAddr);

impl Ports {
    /// Delivers a datagram, or drops it where the reader is slow. False: nobody listens there.
    pub(super) fn deliver(&self, port: u16, from: SocketAddr, payload: &[u8]) -> bool {
        let ports = self.0.lock();
        let Some(listener) = ports.get(&port) else { return false };
        let _full = listener.try_send((payload.to_vec(), from));
        true
    }
}

/// One UDP port on both of the gateway's addresses.
#[derive(Debug)]
pub(crate) struct StackDatagrams {
    stack: Arc<Stack>,
    port: u16,
    receiver: mpsc::Receiver<Datagram>,
}

impl StackDatagrams {
    pub(crate) fn bind(stack: &Arc<Stack>, port: u16) -> io::Result<Self> {
        let mut ports = stack.ports().0.lock();
        if ports.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        ports.insert(port, sender);
        Ok(Self { stack: Arc::clone(stack), port, receiver })
    }

    /// The next datagram. Cancel-safe.
    pub(crate) async fn recv_from(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (payload, from) = self.receiver.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        let length = payload.len().min(buffer.len());
        buffer.iter_mut().zip(&payload).for_each(|(to, from)| *to = *from);
        Ok((length, from))
    }

    /// Sends an answer from the gateway's address of the same family. One that does not fit a packet is refused: this
    /// stack makes no fragments.
    pub(crate) fn send_to(&self, payload: &[u8], destination: SocketAddr) -> io::Result<usize> {
        let source = SocketAddr::new(self.stack.gateway(destination.is_ipv4()), self.port);
        let packet = answers::datagram(source, destination, payload);
        match packet.filter(|packet| packet.len() <= usize::from(self.stack.mtu())) {
            Some(packet) => self.stack.egress().answer(packet),
            None => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
        }
        Ok(payload.len())
    }
}

impl Drop for StackDatagrams {
    fn drop(&mut self) {
        self.stack.ports().0.lock().remove(&self.port);
    }
}

/// Datagrams that wait for a slow reader before more are dropped.
const QUEUE: usize = 256;
