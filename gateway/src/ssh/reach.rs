//! The target's side: transport and key exchange, begun before the client has said who it wants to be, then the host's
//! proof, then the login with what the vault gives for the permit.

mod target;

use std::sync::Arc;

use parking_lot::Mutex;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Handle, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelType, SshId};
use sallyport_recorder::Event;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::host::{Fault, Host, fingerprint};
use super::login::{present, turned_away};
use super::opening::{MAX_OPENINGS, Opening, Places, shortage, wire_name};
use super::wire::Wire;
use super::{Vault, algorithms, observe};
use crate::access::SshPermit;
use crate::credentials::Credential;
use crate::failure::{Failure, Stage};
use crate::session::Session;
use crate::target::{HostIdentity, Login};

pub(super) use target::Target;

/// A target that has proved who it is; nothing of the caller's was sent to it.
pub(super) struct Reached {
    handle: Handle<Watch>,
    target: String,
    seen: Arc<Seen>,
    openings: mpsc::Receiver<Opening<Msg>>,
    gone: CancellationToken,
}

/// Opens the transport to the session's target and exchanges keys.
pub(super) async fn reach(
    session: Arc<Session>,
    vault: Arc<Vault>,
    places: Places,
    cut: CancellationToken,
) -> Result<Reached, Failure> {
    let target = session.target();
    let ssh = target.ssh()?;
    let stream = session.dial().await?;
    let gone = CancellationToken::new();
    let seen = Arc::new(Seen::default());
    let (opening, openings) = mpsc::channel(MAX_OPENINGS);
    let watch = Watch {
        host: Host::of(target, ssh),
        vault,
        seen: Arc::clone(&seen),
        session: Arc::clone(&session),
        opening,
        places,
        _gone: gone.clone().drop_guard(),
    };
    let wire = Wire::new(stream, Vec::new(), cut);
    let config = Arc::new(config(&ssh.host));
    match timeout(KEX_DEADLINE, client::connect_stream(config, wire, watch)).await {
        Ok(Ok(handle)) => Ok(Reached { handle, target: target.name.clone(), seen, openings, gone }),
        Ok(Err(Fault::HostKey(detail))) => Err(Failure::target(&target.name, Stage::HostKey, detail)),
        Ok(Err(Fault::Protocol(error))) => Err(Failure::target(&target.name, Stage::Protocol, describe(&error))),
        Err(_) => Err(Failure::target(&target.name, Stage::Protocol, "it did not finish its key exchange in time")),
    }
}

impl Reached {
    /// Logs in as the permit's account.
    pub(super) async fn enter(
        mut self,
        permit: &SshPermit,
        credential: Credential,
        session: &Session,
    ) -> Result<Target, Failure> {
        let target = session.target();
        let ssh = target.ssh()?;
        let refusal = match timeout(LOGIN_DEADLINE, present(&mut self.handle, permit.account(), credential)).await {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => {
                Some(format!("{}; {}", turned_away(target, &ssh.login, permit.account()), remedy(&ssh.login)))
            }
            Ok(Err(error)) => Some(self.seen.fault().unwrap_or_else(|| describe(&error))),
            Err(_) => Some("it did not answer in time".to_owned()),
        };
        if let Some(detail) = refusal {
            return Err(Failure::target(&target.name, Stage::Login, detail));
        }
        let connected = Event::TargetConnected {
            address: ssh.address.to_string(),
            host_key: self.seen.host_key.lock().clone(),
            login: ssh.login.kind().to_owned(),
        };
        session.record(connected).await?;
        Ok(Target::new(self))
    }
}

/// What to do about a target that turns the gateway away.
fn remedy(login: &Login) -> &'static str {
    match login {
        Login::Certificate => "its sshd has to trust the gateway's authority: 'sallyport target ca' prints the line",
        Login::Key(_) | Login::Password(_) => "check the secret that the target's login names",
    }
}

/// What was seen of a target.
#[derive(Debug, Default)]
struct Seen {
    host_key: Mutex<String>,
    fault: Mutex<Option<String>>,
}

impl Seen {
    fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }
}

/// Checks the host's proof, and notes how the connection ended.
struct Watch {
    host: Host,
    vault: Arc<Vault>,
    seen: Arc<Seen>,
    session: Arc<Session>,
    opening: mpsc::Sender<Opening<Msg>>,
    places: Places,
    _gone: DropGuard,
}

impl client::Handler for Watch {
    type Error = Fault;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        self.host.check(shown, self.vault.now()).map_err(Fault::HostKey)?;
        *self.seen.host_key.lock() = fingerprint(&shown.public_key());
        Ok(true)
    }

    async fn server_channel_open(
        &mut self,
        typ: ChannelType,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Fault> {
        match self.places.take(&typ) {
            Ok(place) => {
                // There are as many places in the queue as there are channels, so it is full of none.
                let _ = self.opening.try_send(Opening { typ, channel, reply, place });
            }
            Err(why) => {
                self.refused(format!("{} channel of the target", wire_name(&typ)), why.clone()).await;
                reply.reject(shortage(why)).await;
            }
        }
        Ok(())
    }

    async fn server_global_request(&mut self, name: String, _: &mut client::Session) -> Result<(), Fault> {
        let what = format!("global request {} of the target", observe::name(&name));
        self.refused(what, "it is not known to this gateway".to_owned()).await;
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Fault>) -> Result<(), Fault> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                *self.seen.fault.lock() = Some(format!("it disconnected: {}", info.message));
                Ok(())
            }
            DisconnectReason::Error(fault) => {
                let text = match &fault {
                    Fault::Protocol(error) => describe(error),
                    Fault::HostKey(detail) => detail.clone(),
                };
                *self.seen.fault.lock() = Some(text);
                Err(fault)
            }
        }
    }
}

impl Watch {
    /// Writes a refusal down. A recording that fails ends the session by itself.
    async fn refused(&self, what: String, why: String) {
        let _ = self.session.record(Event::Refused { channel: None, what, why }).await;
    }
}

/// A transport's or protocol's error, in words for whoever has to mend the target.
fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::HUP | russh::Error::Disconnect | russh::Error::SendError | russh::Error::RecvError => {
            "it closed the connection".to_owned()
        }
        russh::Error::IO(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it closed the connection".to_owned()
        }
        other => other.to_string(),
    }
}

fn config(identity: &HostIdentity) -> client::Config {
    client::Config {
        client_id: SshId::Standard(concat!("SSH-2.0-Sallyport_", env!("CARGO_PKG_VERSION")).into()),
        preferred: algorithms::for_target(identity),
        window_size: super::window::OPENING,
        maximum_packet_size: super::window::PACKET,
        channel_buffer_size: super::relay::QUEUE,
        keepalive_interval: Some(super::relay::KEEPALIVE),
        keepalive_max: super::relay::KEEPALIVES,
        inactivity_timeout: Some(super::relay::SILENCE),
        ..client::Config::default()
    }
}

/// How long a target may take from its greeting to its keys.
const KEX_DEADLINE: Duration = Duration::from_secs(15);
/// How long a target may take to log the gateway in.
const LOGIN_DEADLINE: Duration = Duration::from_secs(15);
