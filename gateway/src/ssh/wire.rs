//! The bytes below a connection: buffered reading, what the greeting read already, and a way to cut it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A transport that reads in large pieces, because the SSH library reads each packet with two small reads, and that fails
/// once it is cut, because the library's own tasks cannot be ended otherwise.
pub(super) struct Wire<S> {
    stream: BufReader<S>,
    early: Bytes,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: AsyncRead> Wire<S> {
    /// Wraps `stream`, of which `early` was read already.
    pub(super) fn new(stream: S, early: impl Into<Bytes>, cut: CancellationToken) -> Self {
        Self {
            stream: BufReader::with_capacity(READ_BUFFER, stream),
            early: early.into(),
            cut: Box::pin(cut.cancelled_owned()),
        }
    }
}

impl<S> Wire<S> {
    /// Turns waiting into an error once the connection was cut.
    fn unless_cut<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Pending if self.cut.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.has_remaining() {
            let piece = this.early.split_to(this.early.len().min(buf.remaining()));
            buf.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        // Always through the buffer, also for large reads: what a packet leaves over is then at hand for the next.
        let filled = Pin::new(&mut this.stream).poll_fill_buf(cx).map_ok(|bytes| {
            let piece = bytes.get(..bytes.len().min(buf.remaining())).unwrap_or_default();
            buf.put_slice(piece);
            piece.len()
        });
        let filled = filled.map_ok(|read| Pin::new(&mut this.stream).consume(read));
        this.unless_cut(cx, filled)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.unless_cut(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.unless_cut(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.unless_cut(cx, shut)
    }
}

/// Two packets of the largest size that is usual (RFC 4253, section 6.1), in bytes.
const READ_BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn gives_what_was_read_early_first() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut wire = Wire::new(near, &b"SSH-"[..], CancellationToken::new());
        far.write_all(b"2.0").await.unwrap();
        let mut all = [0; 7];
        wire.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"SSH-2.0");
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_when_the_wire_is_cut() {
        let (_far, near) = tokio::io::duplex(64);
        let cut = CancellationToken::new();
        let mut wire = Wire::new(near, Bytes::new(), cut.clone());
        let reading = tokio::spawn(async move { wire.read_u8().await });
        tokio::task::yield_now().await;
        cut.cancel();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
