//! A connection through the tailnet: bytes both ways, whichever backend carries them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::inner::InnerStream;
use crate::memory::MemoryStream;
use crate::userspace::StackStream;

/// A connection through the tailnet.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// The kernel's own TCP, inside the private namespace.
    Tcp(TcpStream),
    /// The stack in this process.
    Stack(StackStream),
    /// A pipe inside this process.
    Memory(MemoryStream),
    /// A connection inside another one.
    Inner(InnerStream),
}

impl Stream {
    /// Both ends of a connection inside another one, which holds up to `size` bytes in each direction.
    #[must_use]
    pub fn pair(size: usize) -> (Self, Self) {
        let (one, other) = InnerStream::pair(size);
        (Self::Inner(one), Self::Inner(other))
    }

    /// Takes the connection away from the runtime that it was made on. To be called there.
    ///
    /// # Errors
    /// When the runtime does not let go of it.
    pub fn detach(self) -> io::Result<DetachedStream> {
        Ok(DetachedStream(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            pipe => Detached::Pipe(pipe),
        }))
    }
}

/// A connection that no runtime watches, on its way from one runtime to another.
#[derive(Debug)]
pub struct DetachedStream(Detached);

#[derive(Debug)]
enum Detached {
    Tcp(std::net::TcpStream),
    /// No runtime watches pipes.
    Pipe(Stream),
}

impl DetachedStream {
    /// Gives it to the runtime that this is called on.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self.0 {
            Detached::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Detached::Pipe(stream) => stream,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Stack(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Inner(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Stack(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Inner(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Stack(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Inner(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Stack(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Stack(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
            Self::Inner(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Stack(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Inner(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
