//! The tailnet's resolver: answers for the targets' names on the gateway's tailnet addresses, over UDP and TCP (RFC 1035).
//!
//! What is answered is decided by [`answer()`], a pure function of a zone and a query. This file owns the sockets' side: bounded
//! buffers, bounded forwarding, deadlines. Names are no secret: every device may ask for every target. Other names are
//! refused, or passed on to the configured resolvers; the gateway never asks anybody else.

mod answer;
mod forward;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sallyport_tailnet::Datagrams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::places::Places;

pub use answer::{Reply, Transport, Zone, answer};

/// The resolver: the newest zone, and where other names are passed on to.
#[derive(Clone, Debug)]
pub struct Resolver {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Arc<[SocketAddr]>,
    /// Queries that wait for `upstream`, over UDP and TCP together.
    waiting: Places<IpAddr>,
}

impl Resolver {
    /// Answers from what `zone` holds at the time of each query. With no `upstream`, other names are refused.
    #[must_use]
    pub fn new(zone: watch::Receiver<Arc<Zone>>, upstream: &[SocketAddr]) -> Self {
        Self { zone, upstream: upstream.into(), waiting: Places::new(MAX_FORWARDED, MAX_OF_ONE) }
    }

    fn answer(&self, query: &[u8], transport: Transport) -> Reply {
        let zone = Arc::clone(&self.zone.borrow());
        match answer(&zone, query, transport) {
            Reply::Forward if self.upstream.is_empty() => answer::refuse(query),
            reply => reply,
        }
    }
}

/// Answers queries over UDP for as long as the socket lives.
///
/// # Errors
/// When the socket fails.
pub async fn serve_datagrams(mut datagrams: Datagrams, resolver: &Resolver) -> io::Result<()> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut forwarded: JoinSet<(SocketAddr, Option<Vec<u8>>)> = JoinSet::new();
    loop {
        tokio::select! {
            received = datagrams.recv_from(&mut buffer) => {
                let (length, from) = received?;
                let query = buffer.get(..length).unwrap_or_default();
                match resolver.answer(query, Transport::Udp) {
                    // An answer that cannot be sent is one that got lost on its way: the client asks again.
                    Reply::Answer(bytes) => drop(datagrams.send_to(&bytes, from).await),
                    Reply::Forward => {
                        // With no place free the query is dropped, and the client asks again.
                        let Some(place) = resolver.waiting.take(from.ip()) else { continue };
                        let (query, upstream) = (query.to_vec(), Arc::clone(&resolver.upstream));
                        forwarded.spawn(async move {
                            let answer = forward::ask(&upstream, &query, Transport::Udp).await;
                            drop(place);
                            (from, answer)
                        });
                    }
                    Reply::Silence => {}
                }
            }
            Some(done) = forwarded.join_next(), if !forwarded.is_empty() => {
                let Ok((to, answer)) = done else { continue };
                if let Some(bytes) = answer {
                    drop(datagrams.send_to(&bytes, to).await);
                }
            }
        }
    }
}

/// Answers queries on one TCP connection (RFC 7766), one after the other, until the client is done, silent, or talks
/// nonsense, or too many queries wait already.
pub async fn serve_stream(mut stream: impl AsyncRead + AsyncWrite + Unpin, from: IpAddr, resolver: &Resolver) {
    for _ in 0..MAX_QUERIES {
        let Ok(Ok(query)) = timeout(SILENCE, read_message(&mut stream)).await else { return };
        let answer = match resolver.answer(&query, Transport::Tcp) {
            Reply::Answer(bytes) => Some(bytes),
            Reply::Forward => {
                let Some(_place) = resolver.waiting.take(from) else { return };
                forward::ask(&resolver.upstream, &query, Transport::Tcp).await
            }
            Reply::Silence => None,
        };
        let Some(answer) = answer else { return };
        let Ok(Ok(())) = timeout(SILENCE, write_message(&mut stream, &answer)).await else { return };
    }
}

/// A message with its length before it (RFC 1035, 4.2.2).
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    stream.flush().await
}

/// The port of DNS (RFC 1035, 4.2).
pub const PORT: u16 = 53;

/// The longest query over UDP, in bytes: what EDNS clients commonly announce (RFC 6891, 6.2.5).
const MAX_DATAGRAM: usize = 4096;

/// Queries that wait for a resolver at the same time: each has a descriptor.
pub(crate) const MAX_FORWARDED: usize = 256;

/// Those of one address: what a page of many names asks for at once.
const MAX_OF_ONE: usize = 64;

/// Queries on one TCP connection.
const MAX_QUERIES: usize = 1000;

/// How long a TCP connection may be silent (RFC 7766, 6.2.3 suggests seconds).
const SILENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
