//! The client's side until it is in: its first line, the key exchange, and the account that it asks for.
//!
//! The tunnel has proved who calls, so the first authentication request that the policy lets in succeeds, whatever its
//! method; keys and passwords are not looked at. Each request is judged by the account that it names.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::server::{self, Auth, ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure, ChannelType, Disconnect, MethodSet, SshId};
use sallyport_recorder::Event;
use sallyport_tailnet::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wire::Wire;
use super::{Vault, algorithms, authorize};
use crate::access::SshPermit;
use crate::credentials::HostProof;
use crate::failure::Failure;
use crate::session::Session;

/// A connection whose first line says that it speaks SSH 2. Nothing was sent on it yet.
#[derive(Debug)]
pub struct Greeting {
    stream: Stream,
    early: BytesMut,
    client: String,
}

impl Greeting {
    /// Reads the client's identification (RFC 4253, section 4.2).
    ///
    /// # Errors
    /// [`Failure::Client`] when it does not come in time, or is something else.
    pub async fn read(mut stream: Stream) -> Result<Self, Failure> {
        let mut early = BytesMut::with_capacity(MAX_IDENTIFICATION);
        let reading = async {
            loop {
                if let Some(line) = early.iter().take(MAX_IDENTIFICATION).position(|byte| *byte == b'\n') {
                    return Ok(line);
                }
                if early.len() >= MAX_IDENTIFICATION || stream.read_buf(&mut early).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::InvalidData));
                }
            }
        };
        let line = match timeout(GREETING_DEADLINE, reading).await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) => return Err(Failure::Client("it did not greet as SSH does".into())),
            Err(_) => return Err(Failure::Client("it sent no greeting in time".into())),
        };
        let client = String::from_utf8_lossy(early.get(..line).unwrap_or_default()).trim_end().to_owned();
        match client.starts_with("SSH-2.0-") || client.starts_with("SSH-1.99-") {
            true => Ok(Self { stream, early, client }),
            false => Err(Failure::Client("it does not speak SSH 2".into())),
        }
    }

    /// What the client calls itself.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// Begins the key exchange with `handler` behind it.
    pub(super) async fn begin<H>(
        self,
        proof: HostProof,
        handler: H,
        cut: CancellationToken,
    ) -> Result<server::RunningSession<H>, Failure>
    where
        H: server::Handler<Error = Fault> + Send + 'static,
    {
        let wire = Wire::new(self.stream, self.early, cut);
        let begun = server::run_stream(Arc::new(config(proof)), wire, handler).await;
        begun.map_err(|fault| Failure::Client(fault.to_string()))
    }
}

/// What ends a client's connection early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The protocol, or the transport.
    #[error("{0}")]
    Protocol(#[from] russh::Error),
    /// The recording.
    #[error("{0}")]
    Session(Failure),
}

/// A client whose connection is up.
pub(super) struct Client {
    handle: server::Handle,
    verdicts: Mutex<mpsc::Receiver<Result<SshPermit, Failure>>>,
    openings: Mutex<mpsc::Receiver<Opening>>,
    gone: CancellationToken,
    name: String,
    session: Arc<Session>,
}

/// A channel that the client wants, and its place among those that it may have.
pub(super) struct Opening {
    pub(super) channel: Channel<Msg>,
    pub(super) reply: ChannelOpenHandle,
    pub(super) place: OwnedSemaphorePermit,
}

/// Answers the client's greeting and begins the key exchange.
pub(super) async fn greet(
    greeting: Greeting,
    session: &Arc<Session>,
    vault: &Vault,
    cut: CancellationToken,
) -> Result<Client, Failure> {
    let (verdict, verdicts) = mpsc::channel(MAX_ATTEMPTS);
    let (opening, openings) = mpsc::channel(MAX_CHANNELS);
    let gone = CancellationToken::new();
    let doorkeeper = Doorkeeper {
        session: Arc::clone(session),
        verdict,
        opening,
        places: Arc::new(Semaphore::new(MAX_CHANNELS)),
        refusal: None,
        _gone: gone.clone().drop_guard(),
    };
    let proof = vault.host_proof(Some(session.target()))?;
    let name = greeting.client().to_owned();
    let running = greeting.begin(proof, doorkeeper, cut).await?;
    Ok(Client {
        handle: running.handle(),
        verdicts: Mutex::new(verdicts),
        openings: Mutex::new(openings),
        gone,
        name,
        session: Arc::clone(session),
    })
}

impl Client {
    /// Waits until the client is in. One that was refused has read why, and leaves; all others are told here.
    ///
    /// # Errors
    /// Why it is not: the last denial, or that it took too long or left.
    pub(super) async fn permitted(&self) -> Result<SshPermit, Failure> {
        let permit = tokio::select! {
            verdict = self.verdict() => verdict?,
            () = tokio::time::sleep(LOGIN_DEADLINE) => {
                self.disconnect("it took too long to log in").await;
                return Err(Failure::Client("it took too long to log in".into()));
            }
            ending = self.session.ended() => {
                self.disconnect(&ending.to_string()).await;
                return Err(Failure::Denied(ending.to_string()));
            }
        };
        let authorized = Event::Authorized {
            account: permit.account().to_owned(),
            rules: vec![permit.rule().to_owned()],
            client: self.name.clone(),
        };
        self.session.record(authorized).await?;
        Ok(permit)
    }

    async fn verdict(&self) -> Result<SshPermit, Failure> {
        let mut last = Failure::Client("it left before it logged in".into());
        let mut verdicts = self.verdicts.lock().await;
        while let Some(verdict) = verdicts.recv().await {
            match verdict {
                Ok(permit) => return Ok(permit),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// The next channel that it wants.
    pub(super) async fn opening(&self) -> Option<Opening> {
        self.openings.lock().await.recv().await
    }

    /// Resolves when its connection is over.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Tells it why there will be no session: as the answer to the channel that it opens first, which every client shows,
    /// and, to one that opens none, as the reason of the disconnection.
    pub(super) async fn dismiss(&self, failure: Failure, session: &Session) -> Failure {
        let told = failure.told(session.id());
        let refused = async {
            if let Some(opening) = self.opening().await {
                opening.reply.reject(ChannelOpenFailure::Other { code: PROHIBITED, reason: told.clone() }).await;
            }
        };
        match timeout(DISMISSAL, refused).await {
            // A client leaves by itself then; one with more channels to open is shown the door.
            Ok(()) if timeout(DISMISSAL, self.gone.cancelled()).await.is_ok() => {}
            _ => self.disconnect(&told).await,
        }
        failure
    }

    /// Disconnects it, saying why.
    pub(super) async fn disconnect(&self, why: &str) {
        let said = self.handle.disconnect(Disconnect::ByApplication, why.to_owned(), "en".to_owned());
        let _ = timeout(DISMISSAL, async {
            let _ = said.await;
            self.gone.cancelled().await;
        })
        .await;
    }
}

/// Answers the client inside the library's own loop, so it decides and passes on, and never waits for a peer.
struct Doorkeeper {
    session: Arc<Session>,
    verdict: mpsc::Sender<Result<SshPermit, Failure>>,
    opening: mpsc::Sender<Opening>,
    places: Arc<Semaphore>,
    refusal: Option<String>,
    _gone: DropGuard,
}

impl Doorkeeper {
    /// Judges a request for `account`. Nothing of an earlier request counts.
    fn judge(&mut self, account: &str) -> Auth {
        match self.session.authorize_ssh(account) {
            Ok(permit) => match self.verdict.try_send(Ok(permit)) {
                Ok(()) => Auth::Accept,
                Err(_) => no_methods(),
            },
            Err(failure) => {
                self.refusal = Some(format!("{}\r\n", failure.told(self.session.id())));
                // When the queue is full there were as many refusals before this one.
                let _ = self.verdict.try_send(Err(failure));
                no_methods()
            }
        }
    }

    /// Hands a session channel to the relay, while there is a place.
    async fn open(&mut self, channel: Channel<Msg>, reply: ChannelOpenHandle) -> Result<(), Fault> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                // There are as many places in the queue as there are channels, so it is full of none.
                let _ = self.opening.try_send(Opening { channel, reply, place });
            }
            Err(_) => {
                let why = format!("at most {MAX_CHANNELS} channels may be open on one connection");
                let what = "session channel".to_owned();
                let event = Event::Refused { channel: None, what, why: why.clone() };
                self.session.record(event).await.map_err(Fault::Session)?;
                reply.reject(ChannelOpenFailure::Other { code: SHORTAGE, reason: why }).await;
            }
        }
        Ok(())
    }

    /// Rejects a channel of a type that no client has to open, by its name.
    async fn reject_unknown(&mut self, typ: String, reply: ChannelOpenHandle) -> Result<(), Fault> {
        let why = "a client opens no channel of this type".to_owned();
        let event = Event::Refused { channel: None, what: format!("{typ} channel"), why };
        self.session.record(event).await.map_err(Fault::Session)?;
        reply.reject(ChannelOpenFailure::UnknownChannelType).await;
        Ok(())
    }

    /// Refuses to forward anything.
    async fn refuse_forward(&mut self, forward: authorize::Forward, address: String) -> Result<String, Fault> {
        let why = authorize::forward(forward, &self.session.target().name);
        let event = Event::ForwardRefused { kind: forward.kind().to_owned(), address, why: why.clone() };
        self.session.record(event).await.map_err(Fault::Session)?;
        Ok(why)
    }

    async fn reject_forward(
        &mut self,
        forward: authorize::Forward,
        address: String,
        reply: ChannelOpenHandle,
    ) -> Result<(), Fault> {
        let reason = self.refuse_forward(forward, address).await?;
        reply.reject(ChannelOpenFailure::Other { code: PROHIBITED, reason }).await;
        Ok(())
    }
}

impl server::Handler for Doorkeeper {
    type Error = Fault;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Fault> {
        Ok(self.judge(user))
    }

    async fn auth_password(&mut self, user: &str, _password: &str) -> Result<Auth, Fault> {
        Ok(self.judge(user))
    }

    async fn auth_publickey(&mut self, user: &str, _key: server::VerifiedPublicKey<'_>) -> Result<Auth, Fault> {
        Ok(self.judge(user))
    }

    async fn auth_openssh_certificate(&mut self, user: &str, _: &russh::keys::Certificate) -> Result<Auth, Fault> {
        Ok(self.judge(user))
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Fault> {
        Ok(self.refusal.take())
    }

    async fn channel_open(
        &mut self,
        typ: ChannelType,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Fault> {
        use authorize::Forward::{Local, StreamLocal};
        match typ {
            ChannelType::Session => self.open(channel, reply).await,
            ChannelType::DirectTcpip(to) => {
                let address = format!("{}:{}", to.host_to_connect, to.port_to_connect);
                self.reject_forward(Local, address, reply).await
            }
            ChannelType::DirectStreamLocal(to) => self.reject_forward(StreamLocal, to.socket_path, reply).await,
            ChannelType::X11 { .. } => self.reject_unknown("x11".to_owned(), reply).await,
            ChannelType::ForwardedTcpIp(_) => self.reject_unknown("forwarded-tcpip".to_owned(), reply).await,
            ChannelType::ForwardedStreamLocal(_) => {
                self.reject_unknown("forwarded-streamlocal@openssh.com".to_owned(), reply).await
            }
            ChannelType::AgentForward => self.reject_unknown("auth-agent@openssh.com".to_owned(), reply).await,
            ChannelType::Unknown { typ } => self.reject_unknown(typ, reply).await,
        }
    }

    async fn tcpip_forward(&mut self, host: &str, port: &mut u32, _: &mut server::Session) -> Result<bool, Fault> {
        self.refuse_forward(authorize::Forward::Remote, format!("{host}:{port}")).await.map(|_why| false)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut server::Session) -> Result<bool, Fault> {
        self.refuse_forward(authorize::Forward::StreamLocal, path.to_owned()).await.map(|_why| false)
    }
}

/// A refusal after which no method is worth a try: the policy would say the same.
pub(super) fn no_methods() -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::empty()), partial_success: false }
}

fn config(proof: HostProof) -> server::Config {
    server::Config {
        server_id: SshId::Standard(concat!("SSH-2.0-Sallyport_", env!("CARGO_PKG_VERSION")).into()),
        // Refusals depend on the policy, not on a secret that somebody could guess at.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MAX_ATTEMPTS,
        keys: vec![proof.key],
        certificates: proof.certificate.into_iter().collect(),
        preferred: algorithms::for_client(),
        window_size: super::relay::WINDOW,
        event_buffer_size: super::relay::QUEUE,
        keepalive_interval: Some(super::relay::KEEPALIVE),
        keepalive_max: super::relay::KEEPALIVES,
        inactivity_timeout: Some(super::relay::SILENCE),
        ..server::Config::default()
    }
}

/// Longest identification line with its line ending (RFC 4253, section 4.2), in bytes.
const MAX_IDENTIFICATION: usize = 255;
/// How long a client may take to say that it speaks SSH.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take until it is in, from its greeting.
const LOGIN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a client is given to hear why it has to go.
const DISMISSAL: Duration = Duration::from_secs(1);
/// Authentication requests of one connection; OpenSSH's sshd allows six.
const MAX_ATTEMPTS: usize = 6;
/// Channels that may be open on one connection; OpenSSH's sshd allows ten sessions.
pub(super) const MAX_CHANNELS: usize = 64;
/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, section 5.1).
const PROHIBITED: u32 = 1;
/// SSH_OPEN_RESOURCE_SHORTAGE (RFC 4254, section 5.1).
const SHORTAGE: u32 = 4;
