//! The matrix: everything that can be asked for, against every right there is. A kind or a right that is added and
//! forgotten here does not compile.

use sallyport_policies::{Endpoint, ExecRule, SftpRule, SshCapability};

use super::{Given, Kind, Request, Scope, judge};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Shell,
    Exec,
    Sftp,
    Subsystems,
    LocalForward,
    RemoteForward,
    Agent,
    X11,
    Env,
}

use Right::{Agent, Env, Exec, LocalForward, RemoteForward, Sftp, Shell, Subsystems, X11};

const RIGHTS: [Right; 9] = [Shell, Exec, Sftp, Subsystems, LocalForward, RemoteForward, Agent, X11, Env];

/// A capability that gives these rights, as far as anything can be asked of each, and no other.
fn giving(rights: &[Right]) -> SshCapability {
    let has = |right| rights.contains(&right);
    let listed = |right, entries: &[&str]| match has(right) {
        true => entries.iter().map(ToString::to_string).collect(),
        false => Vec::new(),
    };
    SshCapability {
        shell: has(Shell),
        exec: if has(Exec) { ExecRule::Any } else { ExecRule::None },
        sftp: SftpRule { download: has(Sftp), upload: has(Sftp) },
        subsystems: listed(Subsystems, &["netconf"]),
        local_forward: listed(LocalForward, &["*:*", "/run/*"]),
        remote_forward: listed(RemoteForward, &["*:*", "/run/*"]),
        agent: has(Agent),
        x11: has(X11),
        env: listed(Env, &["LANG"]),
        max_duration: None,
        idle_timeout: None,
    }
}

/// What allows a kind.
enum Allowed {
    /// Nothing can be denied by it: it gives away nothing of itself.
    Always,
    /// This right alone.
    By(Right),
    /// Only what this connection asked for before, whatever its rights.
    AskedFor,
    /// Both.
    AskedForBy(Right),
    /// No right.
    Never,
}

fn allowed(kind: Kind) -> Allowed {
    match kind {
        Kind::Pty | Kind::Signal | Kind::Break | Kind::Window | Kind::Session => Allowed::Always,
        Kind::Shell => Allowed::By(Shell),
        Kind::Exec => Allowed::By(Exec),
        Kind::Subsystem => Allowed::By(Subsystems),
        Kind::Environment => Allowed::By(Env),
        Kind::AgentForwarding => Allowed::By(Agent),
        Kind::X11Forwarding => Allowed::By(X11),
        Kind::DirectTcpip | Kind::DirectStreamlocal => Allowed::By(LocalForward),
        Kind::TcpipForward | Kind::StreamlocalForward => Allowed::By(RemoteForward),
        Kind::CancelTcpipForward | Kind::CancelStreamlocalForward => Allowed::AskedFor,
        Kind::ForwardedTcpip | Kind::ForwardedStreamlocal => Allowed::AskedForBy(RemoteForward),
        Kind::Agent => Allowed::AskedForBy(Agent),
        Kind::X11 => Allowed::AskedForBy(X11),
        Kind::UnknownRequest
        | Kind::UnknownChannel
        | Kind::UnknownGlobal
        | Kind::UnknownTargetChannel
        | Kind::ClientForwardedTcpip
        | Kind::ClientForwardedStreamlocal
        | Kind::ClientAgent
        | Kind::ClientX11
        | Kind::TargetSession
        | Kind::TargetDirectTcpip
        | Kind::TargetDirectStreamlocal => Allowed::Never,
    }
}

/// What is asked for; `asked` is whether this connection had asked for what the target now wants to open.
fn request(kind: Kind, asked: bool) -> Request<'static> {
    let (tcp, unix) = (Endpoint::Tcp { host: "localhost", port: 80 }, Endpoint::Unix { path: "/run/x" });
    match kind {
        Kind::Pty => Request::Pty,
        Kind::Shell => Request::Shell,
        Kind::Exec => Request::Exec(b"uname -a"),
        Kind::Subsystem => Request::Subsystem("netconf"),
        Kind::Environment => Request::Environment { name: "LANG", size: 9, before: 0 },
        Kind::Signal => Request::Signal,
        Kind::Break => Request::Break,
        Kind::Window => Request::Window,
        Kind::AgentForwarding => Request::AgentForwarding,
        Kind::X11Forwarding => Request::X11Forwarding,
        Kind::Session => Request::Session,
        Kind::DirectTcpip => Request::Dial(tcp),
        Kind::DirectStreamlocal => Request::Dial(unix),
        Kind::TcpipForward => Request::Listen(tcp),
        Kind::StreamlocalForward => Request::Listen(unix),
        Kind::CancelTcpipForward | Kind::CancelStreamlocalForward => Request::Unlisten { listening: asked },
        Kind::ForwardedTcpip => Request::Forwarded { at: asked.then_some(tcp) },
        Kind::ForwardedStreamlocal => Request::Forwarded { at: asked.then_some(unix) },
        Kind::Agent => Request::AgentChannel { forwarding: asked },
        Kind::X11 => Request::X11Channel { forwarding: asked },
        Kind::UnknownRequest
        | Kind::UnknownChannel
        | Kind::UnknownGlobal
        | Kind::UnknownTargetChannel
        | Kind::ClientForwardedTcpip
        | Kind::ClientForwardedStreamlocal
        | Kind::ClientAgent
        | Kind::ClientX11
        | Kind::TargetSession
        | Kind::TargetDirectTcpip
        | Kind::TargetDirectStreamlocal => Request::Unknown(kind, kind.wire()),
    }
}

fn passes(kind: Kind, rights: &[Right], asked: bool) -> bool {
    let capability = giving(rights);
    let given = Given { capability: &capability, accept_env: &capability.env, place: String::new() };
    judge(&given, request(kind, asked)).is_ok()
}

#[test]
fn each_kind_passes_by_its_own_right_and_by_no_other() {
    for kind in Kind::ALL {
        for right in RIGHTS {
            let expected = match allowed(*kind) {
                Allowed::Always | Allowed::AskedFor => true,
                Allowed::By(needed) | Allowed::AskedForBy(needed) => right == needed,
                Allowed::Never => false,
            };
            assert_eq!(passes(*kind, &[right], true), expected, "{kind:?} with {right:?} alone");
        }
    }
}

#[test]
fn without_its_right_no_kind_passes_whatever_else_is_given() {
    for kind in Kind::ALL {
        let (Allowed::By(needed) | Allowed::AskedForBy(needed)) = allowed(*kind) else { continue };
        let others: Vec<Right> = RIGHTS.into_iter().filter(|right| *right != needed).collect();
        assert!(!passes(*kind, &others, true), "{kind:?} without {needed:?}");
    }
}

#[test]
fn a_target_opens_nothing_that_was_not_asked_for() {
    for kind in Kind::ALL.iter().filter(|kind| kind.scope() == Scope::TargetChannel) {
        assert!(!passes(*kind, &RIGHTS, false), "{kind:?}");
    }
    assert!(!passes(Kind::CancelTcpipForward, &RIGHTS, false));
}
