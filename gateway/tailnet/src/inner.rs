//! A connection inside another one (`ssh -J`), which leaves the same record as those that arrive by themselves.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::flow::{PipeFlow, Side};
use crate::{FlowHandle, PublicKey};

/// One end of such a connection; what carries it is at its ends.
#[derive(Debug)]
pub struct InnerStream {
    pipe: DuplexStream,
    /// Its record, at the gateway's end.
    flow: Option<Arc<PipeFlow>>,
}

impl InnerStream {
    /// Both ends, which hold up to `size` bytes in each direction.
    pub(crate) fn pair(size: usize) -> (Self, Self) {
        let (one, other) = tokio::io::duplex(size);
        (Self { pipe: one, flow: None }, Self { pipe: other, flow: None })
    }

    /// Keeps a record of what goes through this end, the gateway's.
    pub(crate) fn keep(&mut self, flow: PipeFlow) -> FlowHandle {
        let flow = Arc::new(flow);
        self.flow = Some(Arc::clone(&flow));
        flow.handle()
    }
}

/// Who calls whom inside a connection.
#[derive(Clone, Copy, Debug)]
pub struct InnerEnds {
    /// The device that has proved itself by the connection around it.
    pub device: PublicKey,
    /// Its address and port there.
    pub source: SocketAddr,
    /// Whom it calls.
    pub destination: SocketAddr,
}

impl AsyncRead for InnerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.pipe).poll_read(cx, buf);
        if let (Some(flow), Poll::Ready(Ok(()))) = (&this.flow, &read) {
            flow.count(Side::Device, buf.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for InnerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.pipe).poll_write(cx, bytes);
        if let (Some(flow), Poll::Ready(Ok(bytes))) = (&this.flow, &written) {
            flow.count(Side::Gateway, *bytes);
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{FlowEvent, Memory, PrivateKey, Stream, Verdict};

    #[tokio::test]
    async fn a_call_inside_a_connection_leaves_a_record_of_its_own() {
        let (tailnet, _arrivals, _dialer) = Memory::new();
        let mut flows = tailnet.flows();
        let address = |last, port| SocketAddr::new(Ipv4Addr::new(100, 64, 0, last).into(), port);
        let ends = InnerEnds {
            device: PrivateKey::generate().public(),
            source: address(2, 50_000),
            destination: address(9, 22),
        };
        let (mut near, mut far) = Stream::pair(1024);
        let flow = tailnet.keep_inner(&mut far, ends).unwrap();
        near.write_all(b"hello").await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
        far.write_all(b"hi").await.unwrap();
        flow.verdict(Verdict::Allowed { session: "one".to_owned() });
        drop((near, far, flow));
        let Some(FlowEvent::Ended(record)) = flows.next().await else { panic!("no record") };
        assert_eq!((record.device, record.source, record.destination), (ends.device, ends.source, ends.destination));
        assert_eq!((record.rx_bytes, record.tx_bytes), (5, 2));
        assert_eq!(record.verdict, Some(Verdict::Allowed { session: "one".to_owned() }));
    }
}
