//! The target's side until it is ready: TLS as the target's description wants it, then the start-up as the permit's role.

mod login;
mod scram;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::judge::Judge;
use super::leg::{NoMessage, TargetLeg, next_message};
use super::refuse::Fault;
use super::roles::Armed;
use super::wire::{
    CancelKey, ErrorFields, HEADER, Header, ProtocolVersion, Startup, backend, message, string, tls_request,
};
use crate::access::PostgresPermit;
use crate::authority::Certified;
use crate::credentials::{PostgresCredential, PostgresVault};
use crate::failure::{Failure, Stage};
use crate::session::Session;
use crate::target::PostgresTarget;

use login::Login;

/// A server that let the gateway in as a role and waits for the first statement.
pub(super) struct Target {
    /// The connection.
    pub(super) leg: TargetLeg,
    /// What it has said beyond being ready.
    pub(super) inbox: BytesMut,
    /// What the client is told before authentication and after it.
    pub(super) welcome: Welcome,
    /// What cancels its statements, where it has said so.
    pub(super) key: Option<CancelKey>,
    /// How the gateway logged in.
    pub(super) login: &'static str,
    /// The fingerprint of its certificate; empty without TLS.
    pub(super) fingerprint: String,
}

/// What a server said at its start, for the client.
#[derive(Debug)]
pub(super) struct Welcome {
    /// Its NegotiateProtocolVersion.
    negotiation: Option<BytesMut>,
    /// Its parameters and notices.
    said: Vec<u8>,
    /// Its first ReadyForQuery.
    ready: BytesMut,
    /// The version that both sides speak from here.
    pub(super) version: ProtocolVersion,
}

impl Welcome {
    /// The judge, after it has heard the server's parameters.
    pub(super) fn heard_by(&self, mut judge: Judge) -> Judge {
        self.parameters().for_each(|payload| judge.reported(payload));
        judge
    }

    /// The value of one of the server's parameters.
    pub(super) fn parameter(&self, name: &[u8]) -> Option<String> {
        let pairs = self.parameters().filter_map(|payload| Some((string(payload)?.0, string(string(payload)?.1)?.0)));
        let value = pairs.filter(|(given, _)| *given == name).map(|(_, value)| value).last();
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The payloads of the server's ParameterStatus messages.
    fn parameters(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.said.as_slice();
        std::iter::from_fn(move || {
            let header = Header::read(rest).ok().flatten()?;
            let (message, after) = rest.split_at(rest.len().min(HEADER + header.payload()));
            rest = after;
            Some((header.tag, message.get(HEADER..).unwrap_or_default()))
        })
        .filter(|(tag, _)| *tag == backend::PARAMETER)
        .map(|(_, payload)| payload)
    }

    /// The messages that let the client in, with this key in the place of the server's.
    pub(super) fn bytes(&self, key: &CancelKey) -> Vec<u8> {
        let mut bytes = self.negotiation.as_deref().unwrap_or_default().to_vec();
        bytes.extend(message(backend::AUTHENTICATION, &[0; 4]));
        bytes.extend_from_slice(&self.said);
        bytes.extend(message(backend::KEY_DATA, &key.payload()));
        bytes.extend_from_slice(&self.ready);
        bytes
    }
}

/// Opens the connection, logs in as the permit's role, or as the one that was made for its caller, and starts the session
/// as `startup` says.
pub(super) async fn reach(
    session: &Session,
    vault: &PostgresVault,
    permit: &PostgresPermit,
    startup: &Startup,
    made: Option<&Armed>,
) -> Result<Target, Fault> {
    let issued;
    let (role, credential) = match made {
        Some(made) => (made.role(), made.credential()),
        None => {
            issued = vault.credential(permit, session.id()).await?;
            (permit.account(), &issued)
        }
    };
    enter(session.dial().await?, session.target(), vault, role, credential, startup).await
}

/// Does TLS on `stream`, logs in as `role`, and starts a session of its own as `startup` says.
pub(super) async fn enter(
    stream: TcpStream,
    target: &crate::target::Target,
    vault: &PostgresVault,
    role: &str,
    credential: &PostgresCredential,
    startup: &Startup,
) -> Result<Target, Fault> {
    let own = match credential {
        PostgresCredential::Certificate(certified) => Some(certified),
        PostgresCredential::Password(_) | PostgresCredential::Drawn(_) | PostgresCredential::Trust => None,
    };
    let (mut leg, certificate) = secure(stream, target, vault, own).await?;
    let name = target.name.as_str();
    let salted = vault.salted(target, credential)?;
    let login = Login::new((role, credential), certificate.as_ref(), target.postgres()?.tls, &salted);
    match timeout(LOGIN_DEADLINE, start(&mut leg, startup, login)).await {
        Ok(Ok((inbox, welcome, key))) => Ok(Target {
            leg,
            inbox,
            welcome,
            key,
            login: credential.kind(),
            fingerprint: certificate.as_ref().map(fingerprint).unwrap_or_default(),
        }),
        Ok(Err(turned)) => Err(turned.into_fault(name)),
        Err(_) => Err(Failure::target(name, Stage::Login, "it did not finish in time").into()),
    }
}

/// Asks the target to stop what runs on the connection of `key`.
pub(super) async fn cancel(session: &Session, vault: &PostgresVault, key: &CancelKey) -> Result<(), Failure> {
    let (mut leg, _) = secure(session.dial().await?, session.target(), vault, None).await?;
    let asking = async {
        leg.write_all(&key.request()).await?;
        leg.flush().await?;
        // It closes once it has sent the signal.
        leg.read(&mut [0; 1]).await
    };
    let _ = timeout(CANCEL_DEADLINE, asking).await;
    Ok(())
}

/// Does TLS where the target's description wants it.
async fn secure(
    mut stream: TcpStream,
    target: &crate::target::Target,
    vault: &PostgresVault,
    own: Option<&Certified>,
) -> Result<(TargetLeg, Option<CertificateDer<'static>>), Failure> {
    let server = target.postgres()?;
    let config = vault.calling(server, own);
    let config = config.map_err(|detail| Failure::Ours(format!("TLS towards {}: {detail}", target.name)))?;
    let Some(config) = config else { return Ok((Either::Left(stream), None)) };
    let failed = |detail: String| Failure::target(&target.name, Stage::Tls, detail);
    let handshake = async {
        stream.write_all(&tls_request()).await.map_err(|error| failed(error.to_string()))?;
        let answer = stream.read_u8().await.map_err(|error| failed(error.to_string()))?;
        match answer {
            b'S' => {}
            b'N' => return Err(failed(format!("it has no TLS, and tls = \"{}\" wants it", server.tls.as_str()))),
            _ => return Err(failed("it does not answer as PostgreSQL does".to_owned())),
        }
        let name = server_name(server).map_err(failed)?;
        let tls = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
        tls.map_err(|error| failed(error.to_string()))
    };
    let tls = match timeout(TLS_DEADLINE, handshake).await {
        Ok(tls) => tls?,
        Err(_) => return Err(failed("it did not finish in time".to_owned())),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|one| one.clone().into_owned());
    Ok((Either::Right(Box::new(tls)), certificate))
}

fn server_name(server: &PostgresTarget) -> Result<ServerName<'static>, String> {
    let host = &server.address.host;
    ServerName::try_from(host.clone()).map_err(|_| format!("{host:?} is no name that a certificate can be for"))
}

/// As SSH writes the fingerprint of a key.
fn fingerprint(certificate: &CertificateDer<'static>) -> String {
    let digest = Sha256::digest(certificate.as_ref());
    format!("SHA256:{}", data_encoding::BASE64_NOPAD.encode(&digest))
}

/// Why a server did not let the gateway in.
enum Turned {
    /// It said so.
    Away(ErrorFields),
    /// It asked for something that the gateway does not have or does not give.
    Login(String),
    /// It does not keep to the protocol, or the connection broke.
    Broken(NoMessage),
}

impl Turned {
    fn into_fault(self, target: &str) -> Fault {
        match self {
            Self::Away(fields) => {
                let detail = format!("{}: {}", fields.severity, fields.message);
                Fault { failure: Failure::target(target, Stage::Login, detail), code: fields.sqlstate() }
            }
            Self::Login(detail) => Failure::target(target, Stage::Login, detail).into(),
            Self::Broken(error) => Failure::target(target, Stage::Protocol, error).into(),
        }
    }
}

impl<E: Into<NoMessage>> From<E> for Turned {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// Everything from the start-up packet to the first ReadyForQuery.
async fn start(
    leg: &mut TargetLeg,
    startup: &Startup,
    mut login: Login<'_>,
) -> Result<(BytesMut, Welcome, Option<CancelKey>), Turned> {
    leg.write_all(&startup.packet()).await?;
    leg.flush().await?;
    let mut inbox = BytesMut::with_capacity(INBOX);
    let mut welcome = Welcome { negotiation: None, said: Vec::new(), ready: BytesMut::new(), version: startup.version };
    let mut key = None;
    loop {
        let (tag, message) = next_message(leg, &mut inbox, MESSAGE_MAX).await?;
        let payload = message.get(HEADER..).unwrap_or_default();
        match tag {
            backend::AUTHENTICATION => {
                if let Some(answer) = login.answer(payload).await.map_err(Turned::Login)? {
                    leg.write_all(&answer).await?;
                    leg.flush().await?;
                }
            }
            backend::ERROR => return Err(Turned::Away(ErrorFields::read(payload))),
            backend::NEGOTIATE => {
                if let Some((&newest, _)) = payload.split_first_chunk::<4>() {
                    welcome.version = ProtocolVersion::of(u32::from_be_bytes(newest)).min(startup.version);
                }
                welcome.negotiation = Some(message);
            }
            backend::KEY_DATA => key = CancelKey::read(payload).ok(),
            backend::READY if login.is_in() => {
                welcome.ready = message;
                return Ok((inbox, welcome, key));
            }
            backend::PARAMETER | backend::NOTICE if welcome.said.len() < SAID_MAX => {
                welcome.said.extend_from_slice(&message);
            }
            _ => return Err(Turned::Login(format!("it sent a message '{}' while logging in", tag.escape_ascii()))),
        }
    }
}

/// Bytes for what a server says while it starts.
const INBOX: usize = 4 * 1024;
/// Longest message while starting, in bytes of payload; libpq takes 30,000 at the most.
const MESSAGE_MAX: usize = 64 * 1024;
/// Most that a server may say before it is ready, in bytes; PostgreSQL says less than one kilobyte.
const SAID_MAX: usize = 1024 * 1024;
/// How long a server may take with TLS.
const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take until it is ready. One that recovers says so at once.
const LOGIN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server may take to pass a cancellation on.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);
