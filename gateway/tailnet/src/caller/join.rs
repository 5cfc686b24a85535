//! Joining a device's tunnel, and starting it when nobody has.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::place::Place;
use super::warden::{Answer, Call, Hello, SUBCOMMAND, Welcome, fingerprint};
use super::{CallerError, DeviceFile, inside};
use crate::netns::wire;

/// A place in a running tunnel. The tunnel stays while this is held, and while the process that joined lives.
#[derive(Debug)]
pub struct Membership {
    socket: OwnedFd,
    way: Way,
}

/// How this member comes into the tailnet.
#[derive(Debug)]
enum Way {
    /// By the tunnel's namespaces.
    Namespace { network: OwnedFd, user: Option<OwnedFd>, place: Place },
    /// By what the tunnel connects for it alone: no namespace can be made, and that is why.
    Outside(String),
}

/// A connection that the tunnel has made. The tunnel stays while this is held.
#[derive(Debug)]
pub struct Connection {
    stream: Socket,
    _socket: OwnedFd,
}

impl Connection {
    /// Its bytes.
    #[must_use]
    pub fn stream(&self) -> &Socket {
        &self.stream
    }
}

/// Joins the tunnel of this device's file; the first to do so starts it. Blocks for at most some ten seconds.
///
/// # Errors
/// When the file is missing or wrong, no namespace can be made here, or the gateway does not answer.
pub fn join(path: &Path) -> Result<Membership, CallerError> {
    let text = DeviceFile::read_text(path)?;
    let wrong = |reason| CallerError::File { path: path.to_owned(), reason };
    let file = DeviceFile::parse(&text).map_err(wrong)?;
    let place = Place::of(&file.private_key.public())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt(&text, &place)? {
            Some(membership) => return Ok(membership),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            None => return Err(CallerError::Tunnel("the one with the file as it was does not leave".to_owned())),
        }
    }
}

/// Joins, or finds that a tunnel is leaving.
fn attempt(text: &str, place: &Place) -> Result<Option<Membership>, CallerError> {
    let socket = {
        let _lock = place.lock()?;
        match connect(place) {
            Ok(socket) => socket,
            Err(_nobody_there) => {
                start(text)?;
                connect(place).map_err(|cause| CallerError::Place { path: place.socket(), cause })?
            }
        }
    };
    let lost = |error: io::Error| CallerError::Tunnel(format!("it does not answer: {error}"));
    wire::send(socket.as_fd(), &Hello { file: fingerprint(text) }, &[]).map_err(lost)?;
    let Some((welcome, descriptors)) = wire::receive::<Welcome>(socket.as_fd()).map_err(lost)? else {
        return Err(CallerError::Tunnel("it has just ended: try again".to_owned()));
    };
    let mut descriptors = descriptors.into_iter();
    match (welcome, descriptors.next()) {
        (Welcome::Joined, Some(network)) => {
            let way = Way::Namespace { network, user: descriptors.next(), place: place.clone() };
            Ok(Some(Membership { socket: socket.into(), way }))
        }
        (Welcome::JoinedOutside { why }, _) => Ok(Some(Membership { socket: socket.into(), way: Way::Outside(why) })),
        (Welcome::Outdated, _) => Ok(None),
        (Welcome::NoHandshake { endpoint }, _) => Err(CallerError::NoHandshake { endpoint }),
        (Welcome::Failed(reason), _) => Err(CallerError::Tunnel(reason)),
        (Welcome::Joined, None) => Err(CallerError::Tunnel("it sent no namespace: is it another version?".to_owned())),
    }
}

impl Membership {
    /// Has the tunnel connect to a name or address inside the tailnet, and stays outside. Blocks until that is done.
    ///
    /// # Errors
    /// When the tailnet has no such name, or nobody answers there.
    pub fn connect(self, host: &str, port: u16) -> Result<Connection, CallerError> {
        let lost = |error: io::Error| CallerError::Tunnel(format!("it does not answer: {error}"));
        let socket = Socket::from(self.socket);
        socket.set_read_timeout(Some(CALL)).map_err(lost)?;
        wire::send(socket.as_fd(), &Call { host: host.to_owned(), port }, &[]).map_err(lost)?;
        match wire::receive::<Answer>(socket.as_fd()).map_err(lost)? {
            Some((Answer::Connected, descriptors)) => {
                let stream = descriptors.into_iter().next();
                let stream = stream.ok_or_else(|| CallerError::Tunnel("it sent no connection".to_owned()))?;
                Ok(Connection { stream: stream.into(), _socket: socket.into() })
            }
            Some((Answer::Failed(reason), _)) => Err(CallerError::Connect(reason)),
            None => Err(CallerError::Tunnel("it has just ended: try again".to_owned())),
        }
    }

    /// Moves this process, which must have a single thread, into the tunnel's namespaces: from here on it sees the
    /// tailnet alone, and the tailnet's names. Its users, files, variables and working folder stay the same.
    ///
    /// The process and whatever it becomes or starts keeps the tunnel alive.
    ///
    /// # Errors
    /// When there is no namespace here, or a step is refused; then the process may be halfway, and should end.
    pub fn enter(self) -> Result<(), CallerError> {
        let (network, user, place) = match self.way {
            Way::Namespace { network, user, place } => (network, user, place),
            Way::Outside(why) => return Err(CallerError::NoNamespace(why)),
        };
        inside::enter(&network, user.as_ref(), &place)?;
        inside::keep_open(self.socket)
    }
}

fn connect(place: &Place) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None)?;
    socket.connect(&SockAddr::unix(place.socket())?)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Starts a tunnel and waits until it listens.
fn start(text: &str) -> Result<(), CallerError> {
    let failed = |error: io::Error| CallerError::Tunnel(error.to_string());
    let mut child = Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes()).map_err(failed)?;
    }
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        File::from(OwnedFd::from(output)).read_to_string(&mut said).map_err(failed)?;
    }
    child.wait().map_err(failed)?;
    match said.trim() {
        "" => Ok(()),
        reason => Err(CallerError::Tunnel(reason.trim_start_matches("the tunnel could not be opened: ").to_owned())),
    }
}

/// How long a call may take: longer than the tunnel tries.
const CALL: Duration = Duration::from_secs(45);
/// How long a running tunnel may take to answer: longer than it waits for the gateway.
const PATIENCE: Duration = Duration::from_secs(15);
