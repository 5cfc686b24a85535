//! The client's requests about the whole connection, answered one after the other as they came (RFC 4254, section 4).

use std::time::Duration;

use russh::server::{GlobalReply, GlobalRequest};
use sallyport_recorder::Event;
use tokio::time::timeout;

use super::Shared;
use super::asked::{Listener, MAX_LISTENERS, Place};
use super::granted::Granted;
use crate::failure::{Ending, Failure};
use crate::ssh::authorize::{Forward, Kind, Request};
use crate::ssh::opening::Asking;
use crate::ssh::{KEEPALIVE_REQUEST, NO_MORE_SESSIONS, observe};

impl Shared {
    /// Answers one request.
    pub(super) async fn answer(&self, asking: Asking) -> Result<(), Failure> {
        let Asking { request, reply } = asking;
        match (Place::of(&request), &request) {
            (Some(place), GlobalRequest::TcpIpForward { .. } | GlobalRequest::StreamLocalForward { .. }) => {
                self.listen(place, reply).await
            }
            (Some(place), _) => self.unlisten(place, reply).await,
            (None, GlobalRequest::Unknown { name }) => self.unknown(name, reply).await,
            (None, _) => Ok(()),
        }
    }

    async fn listen(&self, place: Place, reply: GlobalReply) -> Result<(), Failure> {
        let mut listeners = self.asked.listeners.write().await;
        let permit = match self.authorize(Request::Listen(place.endpoint())) {
            Ok(_) if listeners.is_full() => Err(format!("one connection may listen at {MAX_LISTENERS} places")),
            judged => judged,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(why) => return self.refuse_listener(&place, why, reply).await,
        };
        let heard = match timeout(ANSWER, self.target.listen(permit, place.endpoint())).await {
            Ok(Ok(port)) => Ok(port),
            Ok(Err(russh::Error::RequestDenied)) => Err("the target refused to listen"),
            Ok(Err(_)) => return Err(self.target.broke_off()),
            Err(_) => Err("the target did not answer in time"),
        };
        let chosen = match heard {
            Ok(port) => port,
            Err(why) => return self.refuse_listener(&place, why.to_owned(), reply).await,
        };
        // The target tells the port where it was left to it.
        let (at, port) = match &place {
            Place::Tcp { host, port: 0 } => (Place::Tcp { host: host.clone(), port: chosen }, Some(chosen)),
            place => (place.clone(), None),
        };
        let (kind, address) = described(&at);
        self.session.record(Event::ListenerOpened { kind, address }).await?;
        listeners.add(Listener { asked: place, at });
        reply.success(port);
        Ok(())
    }

    async fn unlisten(&self, place: Place, reply: GlobalReply) -> Result<(), Failure> {
        let mut listeners = self.asked.listeners.write().await;
        let permit = match self.authorize(Request::Unlisten { listening: listeners.has(&place) }) {
            Ok(permit) => permit,
            Err(why) => return self.refuse_listener(&place, why, reply).await,
        };
        match timeout(ANSWER, self.target.unlisten(permit, place.endpoint())).await {
            Ok(Ok(())) => {
                listeners.remove(&place);
                let (kind, address) = described(&place);
                self.session.record(Event::ListenerClosed { kind, address }).await?;
                reply.success(None);
            }
            Ok(Err(russh::Error::RequestDenied)) | Err(_) => reply.failure(),
            Ok(Err(_)) => return Err(self.target.broke_off()),
        }
        Ok(())
    }

    async fn unknown(&self, name: &str, reply: GlobalReply) -> Result<(), Failure> {
        match name {
            // It asks whether we are there, and any answer will do.
            KEEPALIVE_REQUEST => reply.failure(),
            NO_MORE_SESSIONS => reply.success(None),
            name => {
                let judged = self.authorize(Request::Unknown(Kind::UnknownGlobal, name));
                let what = format!("global request {}", observe::name(name));
                if let Err(why) = judged {
                    self.session.record(Event::Refused { channel: None, what, why }).await?;
                }
                reply.failure();
            }
        }
        Ok(())
    }

    async fn refuse_listener(&self, place: &Place, why: String, reply: GlobalReply) -> Result<(), Failure> {
        let (kind, address) = described(place);
        self.session.record(Event::ForwardRefused { kind, address, why }).await?;
        reply.failure();
        Ok(())
    }

    /// Ends the listeners that the newest permit does not give.
    pub(super) async fn judge_listeners(&self) -> Result<(), Failure> {
        let mut listeners = self.asked.listeners.write().await;
        let judged = listeners.all().iter().filter_map(|listener| {
            let granted = Granted::Listen(listener.asked.clone());
            let why = self.permits.now().and_then(|permit| granted.judge(&permit)).err()?;
            Some((listener.at.clone(), why))
        });
        for (at, why) in judged.collect::<Vec<_>>() {
            // Whatever the target answers, no connection of this listener is taken any more.
            listeners.remove(&at);
            if let Ok(permit) = self.authorize(Request::Unlisten { listening: true }) {
                let _ = timeout(ANSWER, self.target.unlisten(permit, at.endpoint())).await;
            }
            let (kind, address) = described(&at);
            let refused = Event::ForwardRefused { kind: kind.clone(), address: address.clone(), why: why.clone() };
            self.session.record(refused).await?;
            self.session.record(Event::ListenerClosed { kind, address }).await?;
            self.notify(Ending::Revoked(why).to_string()).await;
        }
        Ok(())
    }

    /// Writes down that nothing listens any more: with the connection, its listeners end.
    pub(super) async fn close_listeners(&self) -> Result<(), Failure> {
        for listener in self.asked.listeners.write().await.drain() {
            let (kind, address) = described(&listener.at);
            self.session.record(Event::ListenerClosed { kind, address }).await?;
        }
        Ok(())
    }
}

/// A listener's kind and address, as they are recorded.
fn described(place: &Place) -> (String, String) {
    let at = place.endpoint();
    (Forward::listening(at).kind().to_owned(), observe::name(&at.to_string()))
}

/// How long a target may take to answer whether it listens.
const ANSWER: Duration = Duration::from_secs(15);
