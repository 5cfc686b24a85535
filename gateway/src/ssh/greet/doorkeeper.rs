//! Answers the client inside the library's own loop, so it decides, queues, and never waits for a peer.

use std::sync::Arc;

use russh::server::{self, Auth, ChannelOpenHandle, GlobalReply, GlobalRequest, Msg};
use russh::{Channel, ChannelType};
use sallyport_recorder::Event;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::{Fault, no_methods};
use crate::access::SshPermit;
use crate::failure::Failure;
use crate::session::Session;
use crate::ssh::opening::{Asking, Opening, Places, shortage, wire_name};

/// Judges accounts, and hands what a client wants on to the relay.
pub(super) struct Doorkeeper {
    session: Arc<Session>,
    queues: Queues,
    places: Places,
    /// The client said that it opens no more session channels.
    sealed: bool,
    refusal: Option<String>,
    _gone: DropGuard,
}

/// Where the client's wishes go.
pub(super) struct Queues {
    pub(super) verdict: mpsc::Sender<Result<Arc<SshPermit>, Failure>>,
    pub(super) opening: mpsc::Sender<Opening<Msg>>,
    pub(super) asking: mpsc::Sender<Asking>,
}

impl Doorkeeper {
    /// For one client; `gone` is let go of when its connection is over.
    pub(super) fn new(session: Arc<Session>, queues: Queues, places: Places, gone: DropGuard) -> Self {
        Self { session, queues, places, sealed: false, refusal: None, _gone: gone }
    }

    /// Judges a request for `account`. Nothing of an earlier request counts.
    fn judge(&mut self, account: &str) -> Auth {
        match self.session.authorize_ssh(account) {
            Ok(permit) => match self.queues.verdict.try_send(Ok(permit)) {
                Ok(()) => Auth::Accept,
                Err(_) => no_methods(),
            },
            Err(failure) => {
                self.refusal = Some(format!("{}\r\n", failure.told(self.session.id())));
                // When the queue is full there were as many refusals before this one.
                let _ = self.queues.verdict.try_send(Err(failure));
                no_methods()
            }
        }
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
        let place = match (&typ, self.sealed) {
            (ChannelType::Session, true) => Err("the client had said that it opens no more sessions".to_owned()),
            _ => self.places.take(&typ),
        };
        match place {
            Ok(place) => {
                // There are as many places in the queue as there are channels, so it is full of none.
                let _ = self.queues.opening.try_send(Opening { typ, channel, reply, place });
            }
            Err(why) => {
                let event =
                    Event::Refused { channel: None, what: format!("{} channel", wire_name(&typ)), why: why.clone() };
                self.session.record(event).await.map_err(Fault::Session)?;
                reply.reject(shortage(why)).await;
            }
        }
        Ok(())
    }

    async fn global_request(
        &mut self,
        request: GlobalRequest,
        reply: GlobalReply,
        _: &mut server::Session,
    ) -> Result<(), Fault> {
        if let GlobalRequest::Unknown { name } = &request {
            // Holds for whatever the client sends behind it (OpenSSH's PROTOCOL, section 2.2).
            self.sealed |= name == crate::ssh::NO_MORE_SESSIONS;
        }
        self.queues.asking.try_send(Asking { request, reply }).map_err(|_| Fault::Impatience)
    }
}
