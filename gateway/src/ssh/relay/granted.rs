//! What an open channel or listener was granted, so that every newer permit can be held against it. What a permit no longer
//! gives ends, with its reason; what runs beside it on the same connection does not.

use russh::ChannelType;
use sallyport_recorder::Event;

use super::Shared;
use super::asked::Place;
use crate::access::SshPermit;
use crate::failure::{Ending, Failure};
use crate::session::SshPermits;
use crate::ssh::authorize::{self, FileRule, Forward, Request, authorize};
use crate::ssh::files::ScpCommand;
use crate::ssh::observe;

/// What was granted, and the permits that it depends on from then on.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) granted: Granted,
    pub(super) permits: SshPermits,
}

impl Grant {
    /// Resolves with the reason once a newer permit does not give it any more. Cancel-safe.
    pub(super) async fn taken_away(&self) -> String {
        taken_away(&self.permits, |permit| self.granted.judge(permit)).await
    }
}

/// What a channel or a listener was granted.
#[derive(Debug, Clone)]
pub(super) enum Granted {
    /// A shell.
    Shell,
    /// A command.
    Exec(Vec<u8>),
    /// scp's far end.
    Scp(ScpCommand),
    /// SFTP, with what may be done to files.
    Sftp(FileRule),
    /// Another subsystem.
    Subsystem(String),
    /// A connection that the target made.
    Dial(Place),
    /// A connection to another target of the gateway.
    Jump(Place),
    /// That the target listens there, or a connection that it accepted.
    Listen(Place),
    /// A channel to the caller's agent.
    Agent,
    /// A channel to the caller's display.
    X11,
}

impl Granted {
    /// What `request` grants to the program of a channel; `None` where it starts none.
    pub(super) fn program(permit: &SshPermit, request: &Request<'_>) -> Option<Self> {
        Some(match request {
            Request::Shell => Self::Shell,
            Request::Exec(command) => Self::Exec(command.to_vec()),
            Request::Scp(command) => Self::Scp((*command).clone()),
            Request::Subsystem(authorize::SFTP) => Self::Sftp(FileRule::of(permit)),
            Request::Subsystem(name) => Self::Subsystem((*name).to_owned()),
            _ => return None,
        })
    }

    /// What a channel of this type from the client grants; `inside` is whether it leads to a target of the gateway. `None`
    /// where nothing is forwarded.
    pub(super) fn by_client(typ: &ChannelType, inside: bool) -> Option<Self> {
        match typ {
            ChannelType::DirectTcpip(to) => {
                let place = Place::Tcp { host: to.host_to_connect.clone(), port: to.port_to_connect };
                Some(if inside { Self::Jump(place) } else { Self::Dial(place) })
            }
            ChannelType::DirectStreamLocal(to) => Some(Self::Dial(Place::Unix { path: to.socket_path.clone() })),
            _ => None,
        }
    }

    /// What a channel of this type from the target grants; `heard` is what was asked for so that the target listens.
    pub(super) fn by_target(typ: &ChannelType, heard: Option<Place>) -> Option<Self> {
        match typ {
            ChannelType::ForwardedTcpIp(_) | ChannelType::ForwardedStreamLocal(_) => heard.map(Self::Listen),
            ChannelType::AgentForward => Some(Self::Agent),
            ChannelType::X11 { .. } => Some(Self::X11),
            _ => None,
        }
    }

    /// Decides whether `permit` gives it as well.
    ///
    /// # Errors
    /// Why not, as a sentence for the caller.
    pub(super) fn judge(&self, permit: &SshPermit) -> Result<(), String> {
        let request = match self {
            Self::Shell => Request::Shell,
            Self::Exec(command) => Request::Exec(command),
            Self::Scp(command) => Request::Scp(command),
            Self::Sftp(rule) => return FileRule::of(permit).judge_all_of(rule),
            Self::Subsystem(name) => Request::Subsystem(name),
            Self::Dial(to) => Request::Dial(to.endpoint()),
            Self::Jump(_) => Request::Jump,
            Self::Listen(at) => Request::Listen(at.endpoint()),
            Self::Agent => Request::AgentChannel { forwarding: true },
            Self::X11 => Request::X11Channel { forwarding: true },
        };
        authorize(permit, request).map(drop)
    }

    /// The event of its being taken away on `channel`.
    pub(super) fn taken_away(&self, channel: u32, why: String) -> Event {
        let forward = |forward: Forward, address: String| Event::ForwardRefused {
            kind: forward.kind().to_owned(),
            address,
            why: why.clone(),
        };
        let place = |place: &Place| observe::name(&place.endpoint().to_string());
        let what = match self {
            Self::Shell => "shell".to_owned(),
            Self::Exec(command) => format!("exec {}", observe::text(command)),
            Self::Scp(_) => "file transfer".to_owned(),
            Self::Sftp(_) => format!("subsystem {}", authorize::SFTP),
            Self::Subsystem(name) => format!("subsystem {}", observe::name(name)),
            Self::Dial(to @ Place::Tcp { .. }) => return forward(Forward::Local, place(to)),
            Self::Dial(to @ Place::Unix { .. }) => return forward(Forward::StreamLocal, place(to)),
            Self::Jump(to) => return forward(Forward::Jump, place(to)),
            Self::Listen(at) => return forward(Forward::listening(at.endpoint()), place(at)),
            Self::Agent => return forward(Forward::Agent, String::new()),
            Self::X11 => return forward(Forward::X11, String::new()),
        };
        Event::Refused { channel: Some(channel), what, why }
    }
}

impl Shared {
    /// Decides by the newest permit.
    ///
    /// # Errors
    /// Why not, as a sentence for the caller.
    pub(super) fn authorize(&self, request: Request<'_>) -> Result<authorize::ChannelPermit, String> {
        self.permits.now().and_then(|permit| authorize(&permit, request))
    }

    /// Writes down that `granted` was taken away from `channel`, and gives the sentence for whoever used it.
    pub(super) async fn take_away(&self, channel: u32, granted: &Granted, why: String) -> Result<String, Failure> {
        self.session.record(granted.taken_away(channel, why.clone())).await?;
        Ok(Ending::Revoked(why).to_string())
    }
}

/// Resolves with the reason once a newer permit than `permits` has seen is one that `judge` refuses. Cancel-safe.
pub(super) async fn taken_away(permits: &SshPermits, judge: impl Fn(&SshPermit) -> Result<(), String>) -> String {
    let mut permits = permits.clone();
    loop {
        permits.renewed().await;
        if let Err(why) = permits.now().and_then(|permit| judge(&permit)) {
            return why;
        }
    }
}
