//! What this connection has asked the target to send back: where it listens, and whether it may reach the caller's agent and
//! display. A channel from the target opens only for something that stands here, so none can belong to another session.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use russh::server::GlobalRequest;
use sallyport_policies::Endpoint;
use tokio::sync::RwLock;

/// What was asked for and passed on.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Held for writing while the target is asked to listen, so that the first connection to a port that it chose itself is
    /// judged after the port is known.
    pub(super) listeners: RwLock<Listeners>,
    agent: AtomicBool,
    display: Mutex<Display>,
}

/// Where the target listens.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

/// One place where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    /// As the client asked for it, and was permitted to; its port may have been left to the target.
    pub(super) asked: Place,
    /// As it came about.
    pub(super) at: Place,
}

/// An endpoint, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A port.
    Tcp { host: String, port: u32 },
    /// A socket.
    Unix { path: String },
}

/// How often the caller's display may be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Display {
    #[default]
    Never,
    /// The client asked for a single connection (RFC 4254, section 6.3.1).
    Once,
    Always,
}

impl Asked {
    /// The agent may be reached from now on.
    pub(super) fn forward_agent(&self) {
        self.agent.store(true, Ordering::Release);
    }

    /// Whether it may be.
    pub(super) fn agent(&self) -> bool {
        self.agent.load(Ordering::Acquire)
    }

    /// The display may be reached from now on, once or any number of times.
    pub(super) fn forward_display(&self, single: bool) {
        let mut display = self.display.lock();
        *display = match (*display, single) {
            (Display::Never, true) => Display::Once,
            (Display::Once | Display::Always, true) => *display,
            (_, false) => Display::Always,
        };
    }

    /// Whether it may be reached now; a single time is used up by asking.
    pub(super) fn display(&self) -> bool {
        let mut display = self.display.lock();
        match *display {
            Display::Never => false,
            Display::Once => {
                *display = Display::Never;
                true
            }
            Display::Always => true,
        }
    }
}

impl Listeners {
    /// What was asked for so that the target listens at `place`, as far as a connection to there can tell: targets name the
    /// address of a port in their own ways, so the port decides.
    pub(super) fn hear(&self, place: Endpoint<'_>) -> Option<&Place> {
        let heard = self.0.iter().find(|one| match (one.at.endpoint(), place) {
            (Endpoint::Tcp { port, .. }, Endpoint::Tcp { port: wanted, .. }) => port == wanted,
            (one, wanted) => one == wanted,
        });
        heard.map(|one| &one.asked)
    }

    /// Whether the target was asked to listen exactly there.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.0.iter().any(|one| one.at == *place)
    }

    /// One more, unless there are too many.
    pub(super) fn add(&mut self, listener: Listener) {
        self.0.push(listener);
    }

    /// One less.
    pub(super) fn remove(&mut self, place: &Place) {
        if let Some(at) = self.0.iter().position(|one| one.at == *place) {
            self.0.swap_remove(at);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Listener] {
        &self.0
    }

    /// Whether there are as many as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_LISTENERS
    }

    /// All of them, once.
    pub(super) fn drain(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.0)
    }
}

impl Place {
    /// The place that a request names, if it names one.
    pub(super) fn of(request: &GlobalRequest) -> Option<Self> {
        match request {
            GlobalRequest::TcpIpForward { address, port } | GlobalRequest::CancelTcpIpForward { address, port } => {
                Some(Self::Tcp { host: address.clone(), port: *port })
            }
            GlobalRequest::StreamLocalForward { socket_path }
            | GlobalRequest::CancelStreamLocalForward { socket_path } => Some(Self::Unix { path: socket_path.clone() }),
            GlobalRequest::Unknown { .. } => None,
        }
    }

    /// As the policy sees it.
    pub(super) fn endpoint(&self) -> Endpoint<'_> {
        match self {
            Self::Tcp { host, port } => Endpoint::Tcp { host, port: *port },
            Self::Unix { path } => Endpoint::Unix { path },
        }
    }
}

/// Listeners of one connection.
pub(super) const MAX_LISTENERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_heard_only_where_this_session_listens() {
        let mut listeners = Listeners::default();
        let tcp = |port| Place::Tcp { host: "localhost".into(), port };
        let unix = Place::Unix { path: "/run/a".into() };
        listeners.add(Listener { asked: tcp(0), at: tcp(8080) });
        listeners.add(Listener { asked: unix.clone(), at: unix.clone() });
        assert_eq!(listeners.hear(Endpoint::Tcp { host: "127.0.0.1", port: 8080 }), Some(&tcp(0)));
        assert_eq!(listeners.hear(Endpoint::Tcp { host: "localhost", port: 8081 }), None);
        assert_eq!(listeners.hear(Endpoint::Unix { path: "/run/b" }), None);
        listeners.remove(&unix);
        assert_eq!(listeners.hear(Endpoint::Unix { path: "/run/a" }), None);
    }

    #[test]
    fn a_single_connection_to_the_display_is_single() {
        let asked = Asked::default();
        assert!(!asked.display());
        asked.forward_display(true);
        assert!(asked.display());
        assert!(!asked.display());
        asked.forward_display(false);
        assert!(asked.display() && asked.display());
    }
}
