//! Opens channels: each is judged, opened at the other end, and confirmed only then, so that nothing arrives before there is
//! a place for it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use russh::{Channel, ChannelOpenFailure, ChannelOpenHandleInner, ChannelType, client, server};
use sallyport_policies::Endpoint;
use sallyport_recorder::Event;

use super::Shared;
use super::asked::Place;
use super::forward::Forwarding;
use super::granted::{Grant, Granted};
use super::passage::Passage;
use crate::failure::Failure;
use crate::session::SshPermits;
use crate::ssh::authorize::{ChannelPermit, Forward, Kind, Request, authorize};
use crate::ssh::observe;
use crate::ssh::opening::{Opening, prohibited, shortage, unknown, wire_name};

impl Shared {
    /// Carries a channel that the client wants.
    pub(super) async fn carry(&self, opening: Opening<server::Msg>) -> Result<(), Failure> {
        let Opening { typ, channel, reply, place: _place } = opening;
        let inside = match &typ {
            ChannelType::DirectTcpip(to) => self.session.on_tailnet(&to.host_to_connect, to.port_to_connect),
            _ => None,
        };
        // Made before it is judged, so that no newer permit is missed.
        let permits = self.session.ssh_permits();
        let request = by_client(&typ, inside.is_some());
        let permit = match permits.now().and_then(|permit| authorize(&permit, request)) {
            Ok(permit) => permit,
            Err(why) => {
                let told = self.refusal(request, &why);
                return self.turn_away(&typ, why, told, reply).await;
            }
        };
        let Some(number) = self.number() else { return self.exhausted(&typ, reply).await };
        if let Some(destination) = inside {
            return self.jump(permit, (number, destination, permits), typ, channel, reply).await;
        }
        let far = match self.target.open(permit, &typ).await {
            Ok(far) => far,
            Err(russh::Error::ChannelOpenFailure(refusal)) => {
                return self.not_opened(&typ, &self.session.target().name, refusal, reply).await;
            }
            Err(_) => return Err(self.target.broke_off()),
        };
        // A channel that forwards nothing runs a program.
        let Some(granted) = Granted::by_client(&typ, false) else {
            return self.program(number, channel, far, reply).await;
        };
        self.session.record(opened(number, &typ, false)).await?;
        reply.accept().await;
        self.forward(Forwarding::new(self, number, Grant { granted, permits }), channel, far).await
    }

    /// Carries a channel that the target wants.
    pub(super) async fn carry_back(&self, opening: Opening<client::Msg>) -> Result<(), Failure> {
        let Opening { typ, channel, reply, place: _place } = opening;
        let permits = self.session.ssh_permits();
        let heard = self.heard(&typ).await;
        let request = self.by_target(&typ, heard.as_ref());
        let judged = permits.now().and_then(|permit| authorize(&permit, request));
        let (permit, granted) = match judged.map(|permit| (permit, Granted::by_target(&typ, heard))) {
            Ok((permit, Some(granted))) => (permit, granted),
            Ok((_, None)) => {
                return Err(Failure::Ours("a channel of the target's passed that forwards nothing".into()));
            }
            Err(why) => return self.turn_away(&typ, why.clone(), why, reply).await,
        };
        let Some(number) = self.number() else { return self.exhausted(&typ, reply).await };
        let near = match self.open_at_client(permit, &typ).await {
            Ok(near) => near,
            Err(russh::Error::ChannelOpenFailure(refusal)) => {
                return self.not_opened(&typ, "the client", refusal, reply).await;
            }
            // Its connection is over, and the session with it.
            Err(_) => return Ok(()),
        };
        self.session.record(opened(number, &typ, false)).await?;
        reply.accept().await;
        self.forward(Forwarding::new(self, number, Grant { granted, permits }), near, channel).await
    }

    /// Carries a program's channel.
    async fn program(
        &self,
        number: u32,
        near: Channel<server::Msg>,
        far: Channel<client::Msg>,
        reply: ChannelOpenHandleInner<server::Msg>,
    ) -> Result<(), Failure> {
        self.session.record(Event::ChannelOpen { channel: number, kind: "session".to_owned() }).await?;
        reply.accept().await;
        let (result, sent, received) = Passage::carry(self, number, near, far).await;
        self.session.record(Event::ChannelClose { channel: number, sent, received }).await?;
        result
    }

    async fn forward(
        &self,
        forwarding: Forwarding<'_>,
        near: Channel<server::Msg>,
        far: Channel<client::Msg>,
    ) -> Result<(), Failure> {
        let result = forwarding.carry(near, far).await;
        self.session.record(forwarding.closed()).await?;
        result
    }

    /// Answers a connection to another target of the gateway itself: the target of this session is not asked.
    async fn jump(
        &self,
        _permit: ChannelPermit,
        (number, destination, permits): (u32, SocketAddr, SshPermits),
        typ: ChannelType,
        near: Channel<server::Msg>,
        reply: ChannelOpenHandleInner<server::Msg>,
    ) -> Result<(), Failure> {
        let Some(granted) = Granted::by_client(&typ, true) else {
            return Err(Failure::Ours("a jump that leads nowhere".into()));
        };
        let far = match self.session.call(destination) {
            Ok(far) => far,
            Err(failure) => {
                let told = failure.told(self.session.id());
                return self.turn_away(&typ, told.clone(), told, reply).await;
            }
        };
        self.session.record(opened(number, &typ, true)).await?;
        reply.accept().await;
        let forwarding = Forwarding::new(self, number, Grant { granted, permits });
        let result = forwarding.carry_inside(near, far).await;
        self.session.record(forwarding.closed()).await?;
        result
    }

    async fn open_at_client(
        &self,
        _permit: ChannelPermit,
        typ: &ChannelType,
    ) -> Result<Channel<server::Msg>, russh::Error> {
        match typ {
            ChannelType::ForwardedTcpIp(of) => {
                let (host, port) = (of.host_to_connect.as_str(), of.port_to_connect);
                let (from, from_port) = (of.originator_address.as_str(), of.originator_port);
                self.client.channel_open_forwarded_tcpip(host, port, from, from_port).await
            }
            ChannelType::ForwardedStreamLocal(of) => {
                self.client.channel_open_forwarded_streamlocal(of.socket_path.as_str()).await
            }
            ChannelType::AgentForward => self.client.channel_open_agent().await,
            ChannelType::X11 { originator_address, originator_port } => {
                self.client.channel_open_x11(originator_address.as_str(), *originator_port).await
            }
            _ => Err(russh::Error::Inconsistent),
        }
    }

    /// The next channel's number, unless there were too many.
    fn number(&self) -> Option<u32> {
        Some(self.channels.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < MAX_IN_ALL)
    }

    async fn exhausted<M: Send>(&self, typ: &ChannelType, reply: ChannelOpenHandleInner<M>) -> Result<(), Failure> {
        let why = format!("one connection may open {MAX_IN_ALL} channels: connect again");
        self.session.record(refused(typ, why.clone())).await?;
        reply.reject(shortage(why)).await;
        Ok(())
    }

    /// Refuses a channel because of `why`, and says `told` to whoever wants it.
    async fn turn_away<M: Send>(
        &self,
        typ: &ChannelType,
        why: String,
        told: String,
        reply: ChannelOpenHandleInner<M>,
    ) -> Result<(), Failure> {
        self.session.record(refused(typ, why)).await?;
        let refusal = match typ {
            ChannelType::Unknown { .. } => unknown(told),
            _ => prohibited(told),
        };
        reply.reject(refusal).await;
        Ok(())
    }

    /// The other end, `whose` it is, would not open it.
    async fn not_opened<M: Send>(
        &self,
        typ: &ChannelType,
        whose: &str,
        refusal: ChannelOpenFailure,
        reply: ChannelOpenHandleInner<M>,
    ) -> Result<(), Failure> {
        let reason = format!("{whose}: {}", observe::name(refusal.description()));
        self.session.record(refused(typ, reason.clone())).await?;
        reply.reject(ChannelOpenFailure::Other { code: refusal.code(), reason }).await;
        Ok(())
    }

    /// What this connection had asked for, so that the target listens where a channel of this type from it comes from.
    async fn heard(&self, typ: &ChannelType) -> Option<Place> {
        let place = match typ {
            ChannelType::ForwardedTcpIp(of) => Endpoint::Tcp { host: &of.host_to_connect, port: of.port_to_connect },
            ChannelType::ForwardedStreamLocal(of) => Endpoint::Unix { path: &of.socket_path },
            _ => return None,
        };
        self.asked.listeners.read().await.hear(place).cloned()
    }

    /// What a channel of this type from the target asks for, by what this connection has asked before.
    fn by_target<'a>(&self, typ: &'a ChannelType, heard: Option<&'a Place>) -> Request<'a> {
        match typ {
            ChannelType::ForwardedTcpIp(_) | ChannelType::ForwardedStreamLocal(_) => {
                Request::Forwarded { at: heard.map(Place::endpoint) }
            }
            ChannelType::AgentForward => Request::AgentChannel { forwarding: self.asked.agent() },
            ChannelType::X11 { .. } => Request::X11Channel { forwarding: self.asked.display() },
            ChannelType::Session => Request::Unknown(Kind::TargetSession, Kind::TargetSession.wire()),
            ChannelType::DirectTcpip(_) => Request::Unknown(Kind::TargetDirectTcpip, Kind::TargetDirectTcpip.wire()),
            ChannelType::DirectStreamLocal(_) => {
                Request::Unknown(Kind::TargetDirectStreamlocal, Kind::TargetDirectStreamlocal.wire())
            }
            ChannelType::Unknown { typ } => Request::Unknown(Kind::UnknownTargetChannel, typ),
        }
    }
}

/// What a channel of this type from the client asks for; `inside` is whether it leads to a target of the gateway.
fn by_client(typ: &ChannelType, inside: bool) -> Request<'_> {
    match typ {
        ChannelType::Session => Request::Session,
        ChannelType::DirectTcpip(_) if inside => Request::Jump,
        ChannelType::DirectTcpip(to) => {
            Request::Dial(Endpoint::Tcp { host: &to.host_to_connect, port: to.port_to_connect })
        }
        ChannelType::DirectStreamLocal(to) => Request::Dial(Endpoint::Unix { path: &to.socket_path }),
        ChannelType::ForwardedTcpIp(_) => Request::Unknown(Kind::ClientForwardedTcpip, Kind::ForwardedTcpip.wire()),
        ChannelType::ForwardedStreamLocal(_) => {
            Request::Unknown(Kind::ClientForwardedStreamlocal, Kind::ForwardedStreamlocal.wire())
        }
        ChannelType::AgentForward => Request::Unknown(Kind::ClientAgent, Kind::ClientAgent.wire()),
        ChannelType::X11 { .. } => Request::Unknown(Kind::ClientX11, Kind::ClientX11.wire()),
        ChannelType::Unknown { typ } => Request::Unknown(Kind::UnknownChannel, typ),
    }
}

/// What is forwarded by a channel of this type, its address and who began it; `None` where nothing is.
fn described(typ: &ChannelType) -> Option<(Forward, String, String)> {
    let place = |host: &str, port| observe::name(&Endpoint::Tcp { host, port }.to_string());
    Some(match typ {
        ChannelType::DirectTcpip(to) => (
            Forward::Local,
            place(&to.host_to_connect, to.port_to_connect),
            place(&to.originator_address, to.originator_port),
        ),
        ChannelType::ForwardedTcpIp(of) => (
            Forward::Remote,
            place(&of.host_to_connect, of.port_to_connect),
            place(&of.originator_address, of.originator_port),
        ),
        ChannelType::DirectStreamLocal(to) => (Forward::StreamLocal, observe::name(&to.socket_path), String::new()),
        ChannelType::ForwardedStreamLocal(of) => {
            (Forward::RemoteStreamLocal, observe::name(&of.socket_path), String::new())
        }
        ChannelType::AgentForward => (Forward::Agent, String::new(), String::new()),
        ChannelType::X11 { originator_address, originator_port } => {
            (Forward::X11, String::new(), place(originator_address, *originator_port))
        }
        ChannelType::Session | ChannelType::Unknown { .. } => return None,
    })
}

fn opened(channel: u32, typ: &ChannelType, inside: bool) -> Event {
    match described(typ) {
        Some((forward, address, originator)) => {
            let forward = if inside { Forward::Jump } else { forward };
            Event::ForwardOpened { channel, kind: forward.kind().to_owned(), address, originator }
        }
        None => Event::ChannelOpen { channel, kind: wire_name(typ) },
    }
}

fn refused(typ: &ChannelType, why: String) -> Event {
    match described(typ) {
        Some((forward, address, _)) => Event::ForwardRefused { kind: forward.kind().to_owned(), address, why },
        None => Event::Refused { channel: None, what: format!("{} channel", wire_name(typ)), why },
    }
}

/// Channels in the life of one connection: a recording has files for each, and has to stay readable.
const MAX_IN_ALL: u32 = 20_000;
