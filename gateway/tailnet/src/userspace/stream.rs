//! A connection as the gateway uses it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::connection::Connection;
use super::stack::Stack;

/// A connection of the stack in this process. Dropping it says goodbye; what was written is still delivered.
#[derive(Debug)]
pub struct StackStream {
    stack: Arc<Stack>,
    connection: Arc<Connection>,
}

impl StackStream {
    pub(super) fn new(stack: Arc<Stack>, connection: Arc<Connection>) -> Self {
        Self { stack, connection }
    }

    /// Waits until the other side has answered.
    pub(super) async fn open(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.connection.poll_open(&self.stack, cx)).await
    }

    /// The device's address and port, and the one here.
    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.connection.ends.device, self.connection.ends.here)
    }
}

impl Drop for StackStream {
    fn drop(&mut self) {
        self.connection.release(&self.stack);
    }
}

impl AsyncRead for StackStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let turn = ready!(coop::poll_proceed(cx));
        let read = self.connection.poll_read(&self.stack, cx.waker(), |bytes| {
            let length = bytes.len().min(buf.remaining());
            buf.put_slice(bytes.get(..length).unwrap_or_default());
            length
        });
        if read.is_ready() {
            turn.made_progress();
        }
        read
    }
}

impl AsyncWrite for StackStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(cx));
        let written = self.connection.poll_write(&self.stack, cx.waker(), parts);
        if written.is_ready() {
            turn.made_progress();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.finish(&self.stack);
        Poll::Ready(Ok(()))
    }
}
