//! The transports of a session's two sides, in the clear or inside TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use sallyport_tailnet::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::{client, server};
use tokio_util::either::Either;

use super::wire::{BadFrame, HEADER, Header};

/// The client's side.
pub(super) type ClientLeg = Either<Rewound, Box<server::TlsStream<Rewound>>>;

/// The target's side.
pub(super) type TargetLeg = Either<TcpStream, Box<client::TlsStream<TcpStream>>>;

/// What a side sends, and what is sent to it. One in the clear is read and written without a lock between the two.
pub(super) type Reader<L> = Either<OwnedReadHalf, ReadHalf<L>>;
pub(super) type Writer<L> = Either<OwnedWriteHalf, WriteHalf<L>>;

/// One side of a session.
pub(super) trait Leg: AsyncRead + AsyncWrite + Sized {
    /// The connection itself, and what was read of it already; `Err` where something lies between, such as TLS.
    fn bare(self) -> Result<(TcpStream, BytesMut), Self>;

    /// Its two directions, and what was read of it already.
    fn halves(self) -> (Reader<Self>, Writer<Self>, BytesMut) {
        match self.bare() {
            Ok((stream, early)) => {
                let (reader, writer) = stream.into_split();
                (Either::Left(reader), Either::Left(writer), early)
            }
            Err(leg) => {
                let (reader, writer) = split(leg);
                (Either::Right(reader), Either::Right(writer), BytesMut::new())
            }
        }
    }
}

impl Leg for ClientLeg {
    fn bare(self) -> Result<(TcpStream, BytesMut), Self> {
        match self {
            Self::Left(Rewound { early, stream: Stream::Tcp(stream) }) => Ok((stream, early)),
            leg => Err(leg),
        }
    }
}

impl Leg for TargetLeg {
    fn bare(self) -> Result<(TcpStream, BytesMut), Self> {
        match self {
            Self::Left(stream) => Ok((stream, BytesMut::new())),
            leg => Err(leg),
        }
    }
}

/// A stream of which the first bytes were read already; they are read again.
#[derive(Debug)]
pub(super) struct Rewound {
    early: BytesMut,
    stream: Stream,
}

impl Rewound {
    /// `early` comes first, then what `stream` has.
    pub(super) fn new(stream: Stream, early: &[u8]) -> Self {
        Self { early: early.into(), stream }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.has_remaining() {
            let piece = this.early.split_to(this.early.len().min(buf.remaining()));
            buf.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoMessage {
    /// The transport broke or ended.
    #[error("{0}")]
    Transport(#[from] io::Error),
    /// A length that cannot be.
    #[error("{0}")]
    Frame(#[from] BadFrame),
    /// A message that is longer than any has to be by now.
    #[error("a message '{}' of {length} bytes is too long here", tag.escape_ascii())]
    TooLong {
        /// Its kind.
        tag: u8,
        /// Its payload.
        length: usize,
    },
}

/// The next message of `reader`, with its header, of `limit` bytes of payload at most; what comes behind it stays in `inbox`.
pub(super) async fn next_message<R: AsyncRead + Unpin>(
    reader: &mut R,
    inbox: &mut BytesMut,
    limit: usize,
) -> Result<(u8, BytesMut), NoMessage> {
    loop {
        if let Some(header) = Header::read(inbox)? {
            let length = header.payload();
            if length > limit {
                return Err(NoMessage::TooLong { tag: header.tag, length });
            }
            if inbox.len() >= HEADER + length {
                return Ok((header.tag, inbox.split_to(HEADER + length)));
            }
        }
        if reader.read_buf(inbox).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_was_read_with_the_greeting_is_handed_on_with_the_halves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the caller's side")]
        let (caller, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut caller = caller.unwrap();
        caller.write_all(b"later").await.unwrap();

        let leg = ClientLeg::Left(Rewound::new(Stream::Tcp(accepted.unwrap().0), b"early"));
        let (mut reader, mut writer, mut bytes) = leg.halves();
        assert_eq!(bytes[..], *b"early");
        while bytes.len() < b"earlylater".len() {
            assert_ne!(reader.read_buf(&mut bytes).await.unwrap(), 0);
        }
        assert_eq!(bytes[..], *b"earlylater");
        writer.write_all(b"back").await.unwrap();
        let mut back = [0; 4];
        caller.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"back");
    }
}
