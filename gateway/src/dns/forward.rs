//! Passing a query on to the configured resolvers, and nothing but their answer back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::{Transport, read_message, write_message};

/// Asks one resolver after the other; `None` when none has answered in time.
pub(super) async fn ask(upstream: &[SocketAddr], query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let [first, second, rest @ ..] = query else { return None };
    for resolver in upstream {
        // An id of our own: the client's says nothing to somebody who guesses answers.
        let id: [u8; 2] = rand::random();
        let query = [&id, rest].concat();
        let exchange = async {
            match transport {
                Transport::Udp => ask_datagram(*resolver, &query).await,
                Transport::Tcp => ask_stream(*resolver, &query).await,
            }
        };
        if let Ok(Ok(mut answer)) = timeout(PATIENCE, exchange).await
            && answers(&answer, id)
        {
            answer.splice(..2, [*first, *second]);
            return Some(answer);
        }
    }
    None
}

/// Whether these bytes are a response with our id.
fn answers(answer: &[u8], id: [u8; 2]) -> bool {
    matches!(answer, [first, second, flags, ..] if [*first, *second] == id && flags & 0x80 != 0)
}

async fn ask_datagram(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn ask_stream(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = if resolver.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let mut stream = socket.connect(resolver).await?;
    write_message(&mut stream, query).await?;
    read_message(&mut stream).await
}

/// How long one resolver may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest answer over UDP that is passed on, in bytes.
const MAX_ANSWER: usize = 4096;
