//! The client's side until it is in: its first line, the key exchange, and the account that it asks for.
//!
//! The tunnel has proved who calls, so the first authentication request that the policy lets in succeeds, whatever its
//! method; keys and passwords are not looked at. Each request is judged by the account that it names.

mod doorkeeper;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::server::{self, Auth, Msg};
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use sallyport_recorder::Event;
use sallyport_tailnet::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::opening::{Asking, MAX_OPENINGS, Opening, Places, prohibited};
use super::wire::Wire;
use super::{Vault, algorithms};
use crate::access::SshPermit;
use crate::credentials::HostProof;
use crate::failure::Failure;
use crate::session::Session;

use doorkeeper::{Doorkeeper, Queues};

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
        let begun = server::run_stream(Arc::new(config(proof, &self.client)), wire, handler).await;
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
    /// Requests without waiting for their answers.
    #[error("more than {MAX_ASKINGS} requests wait for their answers")]
    Impatience,
}

/// A client whose connection is up.
pub(super) struct Client {
    handle: server::Handle,
    verdicts: Mutex<mpsc::Receiver<Result<Arc<SshPermit>, Failure>>>,
    openings: Mutex<mpsc::Receiver<Opening<Msg>>>,
    askings: Mutex<mpsc::Receiver<Asking>>,
    gone: CancellationToken,
    name: String,
    session: Arc<Session>,
}

/// Answers the client's greeting and begins the key exchange.
pub(super) async fn greet(
    greeting: Greeting,
    session: &Arc<Session>,
    vault: &Vault,
    places: Places,
    cut: CancellationToken,
) -> Result<Client, Failure> {
    let (verdict, verdicts) = mpsc::channel(MAX_ATTEMPTS);
    let (opening, openings) = mpsc::channel(MAX_OPENINGS);
    let (asking, askings) = mpsc::channel(MAX_ASKINGS);
    let gone = CancellationToken::new();
    let queues = Queues { verdict, opening, asking };
    let doorkeeper = Doorkeeper::new(Arc::clone(session), queues, places, gone.clone().drop_guard());
    let proof = vault.host_proof(Some(session.target()))?;
    let name = greeting.client().to_owned();
    let running = greeting.begin(proof, doorkeeper, cut).await?;
    Ok(Client {
        handle: running.handle(),
        verdicts: Mutex::new(verdicts),
        openings: Mutex::new(openings),
        askings: Mutex::new(askings),
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
    pub(super) async fn permitted(&self) -> Result<Arc<SshPermit>, Failure> {
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

    async fn verdict(&self) -> Result<Arc<SshPermit>, Failure> {
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
    pub(super) async fn opening(&self) -> Option<Opening<Msg>> {
        self.openings.lock().await.recv().await
    }

    /// The next request that it makes about the whole connection. They have to be answered in this order.
    pub(super) async fn asking(&self) -> Option<Asking> {
        self.askings.lock().await.recv().await
    }

    /// For what is opened towards it.
    pub(super) fn handle(&self) -> server::Handle {
        self.handle.clone()
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
                opening.reply.reject(prohibited(told.clone())).await;
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

/// A refusal after which no method is worth a try: the policy would say the same. An empty list of what else there is would
/// have OpenSSH's client try all that it knows, and ask a person for a password.
pub(super) fn no_methods() -> Auth {
    let methods = MethodSet::from([MethodKind::None].as_slice());
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}

fn config(proof: HostProof, client: &str) -> server::Config {
    server::Config {
        server_id: SshId::Standard(concat!("SSH-2.0-Sallyport_", env!("CARGO_PKG_VERSION")).into()),
        // Refusals depend on the policy, not on a secret that somebody could guess at.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MAX_ATTEMPTS,
        keys: vec![proof.key],
        certificates: proof.certificate.into_iter().collect(),
        preferred: algorithms::for_client(),
        lead: algorithms::lead(client),
        window_size: super::window::OPENING,
        maximum_packet_size: super::window::PACKET,
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
/// Requests about the connection that may wait for their answers; OpenSSH's client sends one for each `-R` at once.
const MAX_ASKINGS: usize = 128;
