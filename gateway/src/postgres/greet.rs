//! The client's side until it has asked for a session: encryption as it wants it, then its start-up packet.
//!
//! The tunnel has proved who calls and encrypts already, so TLS is there for clients that insist on it, and no password is
//! asked for. Packets are read to their last byte and not beyond, so that nothing that came in the clear is taken for
//! something that came through TLS (CVE-2021-23214).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use sallyport_tailnet::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::leg::{ClientLeg, Rewound};
use super::wire::{BadStartup, CancelKey, Hello, Startup};
use crate::credentials::ALPN;
use crate::failure::Failure;

/// A connection whose first bytes say that it speaks PostgreSQL's protocol. Nothing was sent on it yet.
#[derive(Debug)]
pub struct Greeting {
    stream: Rewound,
    first: First,
}

/// How a connection begins.
#[derive(Debug)]
enum First {
    /// With a packet.
    Hello(Hello),
    /// With TLS at once (`sslnegotiation=direct`).
    Tls,
}

/// What a client has come for.
pub enum Asked {
    /// A session.
    Session(Client),
    /// To stop what another of its connections does.
    Cancel(Canceller),
}

/// A client that waits for its session.
pub struct Client {
    pub(super) leg: ClientLeg,
    pub(super) startup: Startup,
}

/// A client that waits for the connection to be closed, when its request was passed on.
pub struct Canceller {
    /// Which connection.
    pub(super) key: CancelKey,
    pub(super) leg: ClientLeg,
}

impl Greeting {
    /// Reads the client's first packet, or sees that it begins with TLS.
    ///
    /// # Errors
    /// [`Failure::Client`] when it does not come in time, or is something else.
    pub async fn read(mut stream: Stream) -> Result<Self, Failure> {
        let reading = async {
            let mut length = [0; 4];
            stream.read_exact(&mut length).await?;
            match length.first() {
                Some(&TLS_HANDSHAKE) => Ok::<_, Fault>((length.to_vec(), First::Tls)),
                _ => Ok((Vec::new(), First::Hello(packet(&mut stream, length).await?))),
            }
        };
        match timeout(GREETING_DEADLINE, reading).await {
            Ok(Ok((early, first))) => Ok(Self { stream: Rewound::new(stream, &early), first }),
            Ok(Err(fault)) => Err(fault.into()),
            Err(_) => Err(Failure::Client("it sent no greeting in time".into())),
        }
    }

    /// Lets the client go on until it has asked for something. With no `serving`, there is no TLS to be had.
    ///
    /// # Errors
    /// [`Failure::Client`] when it does not in time, or breaks the protocol.
    pub async fn asked(self, serving: Option<Arc<ServerConfig>>) -> Result<Asked, Failure> {
        match timeout(STARTUP_DEADLINE, self.go_on(serving)).await {
            Ok(asked) => asked.map_err(Failure::from),
            Err(_) => Err(Failure::Client("it did not finish its start-up in time".into())),
        }
    }

    async fn go_on(self, serving: Option<Arc<ServerConfig>>) -> Result<Asked, Fault> {
        let (mut leg, mut hello) = match (self.first, &serving) {
            (First::Hello(hello), _) => (Either::Left(self.stream), hello),
            (First::Tls, None) => return Err(Fault::Protocol("there is no TLS to be had here")),
            (First::Tls, Some(config)) => {
                let mut tls = TlsAcceptor::from(Arc::clone(config)).accept(self.stream).await?;
                if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
                    return Err(Fault::Protocol("direct TLS without ALPN for \"postgresql\""));
                }
                let hello = next(&mut tls).await?;
                (Either::Right(Box::new(tls)), hello)
            }
        };
        // Each kind of encryption may be asked for once, as in PostgreSQL.
        let (mut tls_asked, mut gss_asked) = (matches!(leg, Either::Right(_)), false);
        loop {
            hello = match hello {
                Hello::Startup(startup) => return Ok(Asked::Session(Client { leg, startup })),
                Hello::Cancel(key) => return Ok(Asked::Cancel(Canceller { key, leg })),
                Hello::Tls if !tls_asked => {
                    tls_asked = true;
                    leg = encrypt(leg, serving.as_ref()).await?;
                    next(&mut leg).await?
                }
                Hello::Gss if !gss_asked => {
                    gss_asked = true;
                    leg.write_all(b"N").await?;
                    leg.flush().await?;
                    next(&mut leg).await?
                }
                Hello::Tls | Hello::Gss => return Err(Fault::Protocol("it asked for encryption twice")),
            }
        }
    }
}

/// Answers a request for TLS, and does it where there is something to show.
async fn encrypt(leg: ClientLeg, serving: Option<&Arc<ServerConfig>>) -> Result<ClientLeg, Fault> {
    match (leg, serving) {
        (Either::Left(mut clear), Some(config)) => {
            clear.write_all(b"S").await?;
            clear.flush().await?;
            let tls = TlsAcceptor::from(Arc::clone(config)).accept(clear).await?;
            Ok(Either::Right(Box::new(tls)))
        }
        (mut leg, _) => {
            leg.write_all(b"N").await?;
            leg.flush().await?;
            Ok(leg)
        }
    }
}

async fn next<S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<Hello, Fault> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    packet(stream, length).await
}

/// Reads the packet that begins with `length`, and not a byte more.
async fn packet<S: AsyncReadExt + Unpin>(stream: &mut S, length: [u8; 4]) -> Result<Hello, Fault> {
    let mut packet = vec![0; Hello::size(length)?];
    stream.read_exact(&mut packet).await?;
    Ok(Hello::read(&packet)?)
}

/// What ends a start-up early.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it left before it had asked for a session ({0})")]
    Transport(#[from] io::Error),
    #[error("{0}")]
    Startup(#[from] BadStartup),
    #[error("{0}")]
    Protocol(&'static str),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Client(fault.to_string())
    }
}

/// The first byte of a TLS handshake (RFC 8446, section 5.1); the length of a packet begins with a zero.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a client may take to say what it speaks.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take from there until it has asked for something; PostgreSQL gives it a minute.
const STARTUP_DEADLINE: Duration = Duration::from_secs(30);
