//! Everything that can be asked for over SSH, by its name on the wire: the rows of the matrix of what is refused.

use std::fmt;

/// By whom, and of what, something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// By the client, on a session channel (RFC 4254, section 5.4).
    ChannelRequest,
    /// By the client, as a new channel (RFC 4254, section 5.1).
    ClientChannel,
    /// By the client, of the whole connection (RFC 4254, section 4).
    GlobalRequest,
    /// By the target, as a new channel.
    TargetChannel,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChannelRequest => "the request",
            Self::ClientChannel => "the channel type",
            Self::GlobalRequest => "the global request",
            Self::TargetChannel => "the target's channel type",
        })
    }
}

/// Defines [`Kind`] with a list of all, so that none can be added without standing in it.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $scope:ident $wire:literal,)*) => {
        /// One thing that can be asked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind there is.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its name on the wire; that of an unknown one is made up.
            pub fn wire(self) -> &'static str {
                match self { $(Self::$kind => $wire,)* }
            }

            /// By whom, and of what, it is asked.
            pub fn scope(self) -> Scope {
                match self { $(Self::$kind => Scope::$scope,)* }
            }
        }
    };
}

kinds! {
    /// A pseudo-terminal.
    Pty = ChannelRequest "pty-req",
    /// A shell.
    Shell = ChannelRequest "shell",
    /// A command.
    Exec = ChannelRequest "exec",
    /// A subsystem, file transfer among them.
    Subsystem = ChannelRequest "subsystem",
    /// An environment variable.
    Environment = ChannelRequest "env",
    /// A signal.
    Signal = ChannelRequest "signal",
    /// A break on the line.
    Break = ChannelRequest "break",
    /// A new size of the window.
    Window = ChannelRequest "window-change",
    /// Forwarding of the agent.
    AgentForwarding = ChannelRequest "auth-agent-req@openssh.com",
    /// Forwarding of X11.
    X11Forwarding = ChannelRequest "x11-req",
    /// Any other request on a channel.
    UnknownRequest = ChannelRequest "unknown-request@example.com",
    /// A channel for a program.
    Session = ClientChannel "session",
    /// A connection that the target makes.
    DirectTcpip = ClientChannel "direct-tcpip",
    /// The same to a Unix socket.
    DirectStreamlocal = ClientChannel "direct-streamlocal@openssh.com",
    /// What only a target opens, from the client.
    ClientForwardedTcpip = ClientChannel "forwarded-tcpip",
    /// The same of a Unix socket.
    ClientForwardedStreamlocal = ClientChannel "forwarded-streamlocal@openssh.com",
    /// The same of an agent.
    ClientAgent = ClientChannel "auth-agent@openssh.com",
    /// The same of a display.
    ClientX11 = ClientChannel "x11",
    /// Any other channel of the client's.
    UnknownChannel = ClientChannel "unknown-channel@example.com",
    /// That the target listens on a port.
    TcpipForward = GlobalRequest "tcpip-forward",
    /// That it does no longer.
    CancelTcpipForward = GlobalRequest "cancel-tcpip-forward",
    /// That the target listens on a Unix socket.
    StreamlocalForward = GlobalRequest "streamlocal-forward@openssh.com",
    /// That it does no longer.
    CancelStreamlocalForward = GlobalRequest "cancel-streamlocal-forward@openssh.com",
    /// Any other request about the connection.
    UnknownGlobal = GlobalRequest "unknown-global@example.com",
    /// A connection to where the target listens.
    ForwardedTcpip = TargetChannel "forwarded-tcpip",
    /// The same of a Unix socket.
    ForwardedStreamlocal = TargetChannel "forwarded-streamlocal@openssh.com",
    /// A channel to the caller's agent.
    Agent = TargetChannel "auth-agent@openssh.com",
    /// A channel to the caller's display.
    X11 = TargetChannel "x11",
    /// What only a client opens, from the target.
    TargetSession = TargetChannel "session",
    /// The same.
    TargetDirectTcpip = TargetChannel "direct-tcpip",
    /// The same of a Unix socket.
    TargetDirectStreamlocal = TargetChannel "direct-streamlocal@openssh.com",
    /// Any other channel of the target's.
    UnknownTargetChannel = TargetChannel "unknown-channel@example.com",
}
