//! The background process that holds a device's tunnel, for as long as anybody uses it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::inside;
use super::place::Place;
use super::reach::{Lent, Reach, Way};
use super::tunnel::Tunnel;
use super::{CallerError, DeviceFile};
use crate::netns::wire;

/// What a user says first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`fingerprint`] of the device's file as the user reads it.
    pub(super) file: u64,
}

/// What the tunnel answers; with `Joined` come the namespaces' descriptors, the network's first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Welcome {
    Joined,
    /// The same without namespaces, and why there are none.
    JoinedOutside {
        why: String,
    },
    /// The file has changed since, and nobody needs the old tunnel: try again in a moment, it is leaving.
    Outdated,
    NoHandshake {
        endpoint: String,
    },
    Failed(String),
}

/// What a member may ask for: a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The answer to a call; with `Connected` comes the caller's end of the connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Connected,
    Failed(String),
}

/// Tells one text of a device's file from another, within one version of this program.
pub(super) fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The whole of the hidden subcommand.
///
/// It reads the device's file from standard input. Standard output closes when the tunnel listens, and before that says
/// in one line what went wrong. The process that was started is not the one that stays: so the tunnel is nobody's child,
/// and a command that a user becomes is not handed a stranger.
#[must_use]
pub fn tunnel_main() -> ExitCode {
    let ended = if std::env::args().nth(2).as_deref() == Some(STAY) { stay() } else { leave_one_behind() };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads it when the starter has gone, which is no reason to fail otherwise.
            let _ = writeln!(io::stdout(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn leave_one_behind() -> Result<(), CallerError> {
    let started = Command::new("/proc/self/exe").args([SUBCOMMAND, STAY]).spawn();
    started.map(drop).map_err(|error| CallerError::Tunnel(error.to_string()))
}

fn stay() -> Result<(), CallerError> {
    let failed = |error: io::Error| CallerError::Tunnel(error.to_string());
    // Away from the terminal: Ctrl-C there is for the command.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    io::stdin().read_to_string(&mut text).map_err(failed)?;
    let file = DeviceFile::parse(&text).map_err(CallerError::Tunnel)?;
    let place = Place::of(&file.private_key.public())?;
    nix::unistd::dup2_stderr(place.log()?).map_err(|error| failed(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(hold(&file, fingerprint(&text), &place))
}

/// Opens the tunnel and admits users until none is left.
async fn hold(file: &DeviceFile, fingerprint: u64, place: &Place) -> Result<(), CallerError> {
    let failed = |error: io::Error| CallerError::Tunnel(error.to_string());
    inside::write_files(file, place)?;
    let tunnel = Tunnel::start(file).await?;
    let held = Arc::new(Held { tunnel, file: fingerprint, members: AtomicUsize::new(0) });
    let listener = watch(listen(place).map_err(failed)?).map_err(failed)?;
    let nowhere = std::fs::File::options().write(true).open("/dev/null").map_err(failed)?;
    nix::unistd::dup2_stdout(nowhere).map_err(|error| failed(error.into()))?;
    let mut users = JoinSet::new();
    let mut linger = IDLE;
    loop {
        tokio::select! {
            accepted = accept(&listener) => {
                users.spawn(serve(Arc::clone(&held), accepted.map_err(failed)?));
            }
            Some(served) = users.join_next() => linger = served.unwrap_or(IDLE),
            () = tokio::time::sleep(linger), if users.is_empty() => {
                if !place.socket().exists() {
                    // The folder was cleared away, so nobody can join any more.
                    return Ok(());
                }
                // Whoever is about to join holds the lock; whoever has connected by now is let in.
                let Some(_lock) = place.try_lock() else { continue };
                match listener.get_ref().accept() {
                    Ok((user, _)) => drop(users.spawn(serve(Arc::clone(&held), user))),
                    Err(_) => return std::fs::remove_file(place.socket()).map_err(failed),
                }
            }
        }
    }
}

fn listen(place: &Place) -> io::Result<Socket> {
    let path = place.socket();
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec().nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(128)?;
    Ok(socket)
}

async fn accept(listener: &AsyncFd<Socket>) -> io::Result<Socket> {
    loop {
        let mut ready = listener.readable().await?;
        if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
            return accepted.map(|(socket, _)| socket);
        }
    }
}

/// What users share.
struct Held {
    tunnel: Tunnel,
    file: u64,
    members: AtomicUsize,
}

/// One user, from its first word until it, and everybody that holds its socket, has gone. Returns how long to wait for
/// another: not at all when this one came with another file.
async fn serve(held: Arc<Held>, socket: Socket) -> Duration {
    match welcome(&held, socket).await {
        Ok(linger) => linger,
        Err(error) => {
            tracing::warn!(%error, "a user of the tunnel");
            IDLE
        }
    }
}

async fn welcome(held: &Held, socket: Socket) -> io::Result<Duration> {
    socket.set_nonblocking(true)?;
    let process = process_of(&socket);
    let socket = watch(socket)?;
    let Some(hello) = receive::<Hello>(&socket).await? else { return Ok(IDLE) };
    if hello.file != held.file && held.members.load(Ordering::Relaxed) == 0 {
        wire::send(socket.get_ref().as_fd(), &Welcome::Outdated, &[])?;
        return Ok(Duration::ZERO);
    }
    let (answer, descriptors) = admit(&held.tunnel).await;
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    wire::send(socket.get_ref().as_fd(), &answer, &numbers)?;
    drop(descriptors);
    if matches!(answer, Welcome::Joined | Welcome::JoinedOutside { .. }) {
        held.members.fetch_add(1, Ordering::Relaxed);
        let left = attend(&socket, process, held.tunnel.reach()).await;
        held.members.fetch_sub(1, Ordering::Relaxed);
        left?;
    }
    Ok(IDLE)
}

/// What a user is told, once the gateway has answered, and the namespaces where there are any.
async fn admit(tunnel: &Tunnel) -> (Welcome, Vec<OwnedFd>) {
    let admitted = async {
        tunnel.ready().await?;
        Ok::<_, CallerError>(match tunnel.reach().way() {
            Way::Namespace(control) => {
                let found = control.namespaces().await?;
                (Welcome::Joined, std::iter::once(found.network).chain(found.user).collect())
            }
            Way::Stack(inside) => (Welcome::JoinedOutside { why: inside.why.clone() }, Vec::new()),
        })
    };
    match admitted.await {
        Ok(answer) => answer,
        Err(CallerError::NoHandshake { endpoint }) => (Welcome::NoHandshake { endpoint }, Vec::new()),
        Err(error) => (Welcome::Failed(error.to_string()), Vec::new()),
    }
}

/// Makes the connections that a member asks for, one at a time, and carries them until it has gone.
async fn attend(socket: &AsyncFd<Socket>, process: Option<OwnedFd>, reach: &Reach) -> io::Result<()> {
    let mut carrying = JoinSet::new();
    while let Some(Call { host, port }) = receive::<Call>(socket).await? {
        match reach.connect(&host, port).await {
            Ok(Lent { end, carrying: carried }) => {
                if let Some(carried) = carried {
                    carrying.spawn(carried);
                }
                wire::send(socket.get_ref().as_fd(), &Answer::Connected, &[end.as_raw_fd()])?;
            }
            Err(reason) => wire::send(socket.get_ref().as_fd(), &Answer::Failed(reason), &[])?,
        }
    }
    // Programs like sudo close what they do not know, so the process itself counts too.
    if let Some(process) = process {
        let _ = watch(process)?.readable().await?;
    }
    // What it wrote last is on its way still.
    let rest = async { while carrying.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_BYTES, rest).await;
    Ok(())
}

async fn receive<T: DeserializeOwned>(socket: &AsyncFd<Socket>) -> io::Result<Option<T>> {
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| wire::receive::<T>(socket.get_ref().as_fd())) {
            Ok(received) => return received.map(|message| message.map(|(message, _)| message)),
            Err(_would_block) => {}
        }
    }
}

#[expect(unsafe_code, reason = "the runtime cannot see that a descriptor stays open while it watches it")]
fn watch<T: AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: only sockets and pidfds of this file come here: the AsyncFd owns them, and closes them when it is dropped.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// A descriptor that becomes readable when the process at the other end has ended; none before Linux 5.3.
#[expect(unsafe_code, reason = "no crate that we use wraps pidfd_open")]
fn process_of(socket: &Socket) -> Option<OwnedFd> {
    let peer = getsockopt(socket, PeerCredentials).ok()?;
    // SAFETY: the system call takes two numbers and touches no memory.
    let number = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, peer.pid(), 0) };
    let number = RawFd::try_from(number).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// How long the rest of its connections is carried after a member has gone.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// How long the tunnel stays without users: between the commands of a script, say.
const IDLE: Duration = Duration::from_secs(5);
/// The hidden subcommand under which the executable becomes a tunnel: `main` calls [`tunnel_main`] for it.
pub const SUBCOMMAND: &str = "__tunnel";
/// The word after [`SUBCOMMAND`] in the process that stays.
const STAY: &str = "stay";
