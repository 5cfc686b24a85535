//! The main process's side: starting the helper, and asking it for things.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use parking_lot::Mutex;
use socket2::SockRef;

use super::wire::{self, Answer, Ask, Reply, Request};
use super::{Attempt, Device, Listener, PrivateNamespace, SUBCOMMAND, Setup};

/// Why the private namespace could not be had, or could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every way of making it failed.
    #[error("no private network namespace could be made: {}", sentences(.0))]
    Denied(Vec<Attempt>),
    /// The executable could not be started a second time.
    #[error("the network helper could not be started: {0}")]
    Spawn(io::Error),
    /// The helper has ended, so nothing more can be asked of it.
    #[error("the network helper has ended: restart this program (was it killed?)")]
    Gone,
    /// The helper did not answer in time.
    #[error("the network helper did not answer within {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The helper answered what does not fit the question.
    #[error("the network helper gave an answer that does not fit: is it another version of this program?")]
    Confused,
    /// The system refused what was asked.
    #[error("{step}: {source}")]
    Refused {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn sentences(attempts: &[Attempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Asks the helper for things. Clones ask the same helper; it ends when the last of them is dropped.
#[derive(Debug, Clone)]
pub struct Control {
    helper: Arc<Mutex<Helper>>,
}

/// Descriptors by which a process can join the namespace (setns(2)).
#[derive(Debug)]
pub struct Namespaces {
    /// The network namespace.
    pub network: OwnedFd,
    /// The user namespace that owns it, when it was made without privileges; join it first.
    pub user: Option<OwnedFd>,
}

impl Control {
    /// Connects from inside the namespace. There is no deadline: drop the future to give up.
    ///
    /// # Errors
    /// As the connection's own, or when the helper has gone.
    pub async fn tcp_connect(&self, destination: SocketAddr) -> Result<TcpStream, Error> {
        let descriptor = self.socket(Ask::TcpSocket(destination)).await?;
        let step = || format!("connect to {destination}");
        let refused = |source| Error::Refused { step: step(), source };
        let socket = tokio::net::TcpSocket::from_std_stream(TcpStream::from(descriptor));
        let stream = socket.connect(destination).await.map_err(refused)?;
        stream.into_std().map_err(refused)
    }

    /// Binds a UDP socket inside the namespace; non-blocking.
    ///
    /// # Errors
    /// When the address is taken or not ours, or the helper has gone.
    pub async fn udp_bind(&self, address: SocketAddr) -> Result<UdpSocket, Error> {
        self.socket(Ask::UdpBind(address)).await.map(UdpSocket::from)
    }

    /// Ends every TCP connection inside whose remote address is `source`, and returns how many there were: reads on
    /// them fail with ECONNABORTED, and the other side gets a reset.
    ///
    /// # Errors
    /// EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY; or when the helper has gone.
    pub async fn kill_connections(&self, source: IpAddr) -> Result<u32, Error> {
        match self.ask(Ask::Destroy(source)).await? {
            (Answer::Destroyed(count), _) => Ok(count),
            _ => Err(Error::Confused),
        }
    }

    /// What another process needs to join the namespace.
    ///
    /// # Errors
    /// When the helper has gone.
    pub async fn namespaces(&self) -> Result<Namespaces, Error> {
        let (_, descriptors) = self.ask(Ask::Namespaces).await?;
        let mut descriptors = descriptors.into_iter();
        let network = descriptors.next().ok_or(Error::Confused)?;
        Ok(Namespaces { network, user: descriptors.next() })
    }

    async fn socket(&self, ask: Ask) -> Result<OwnedFd, Error> {
        match self.ask(ask).await? {
            (Answer::Descriptors, descriptors) => descriptors.into_iter().next().ok_or(Error::Confused),
            _ => Err(Error::Confused),
        }
    }

    /// The helper answers within microseconds, so a thread that waits for it is cheap.
    async fn ask(&self, ask: Ask) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let helper = Arc::clone(&self.helper);
        let asked = tokio::task::spawn_blocking(move || helper.lock().ask(ask)).await;
        match asked.unwrap_or(Err(Error::Gone))? {
            (Answer::Failed { step, errno }, _) => {
                Err(Error::Refused { step, source: io::Error::from_raw_os_error(errno) })
            }
            answered => Ok(answered),
        }
    }
}

/// Starts a helper and has it make the namespace.
pub(super) fn open(setup: &Setup) -> Result<PrivateNamespace, Error> {
    let mut helper = Helper::start().map_err(Error::Spawn)?;
    let (answer, descriptors) = helper.ask(Ask::SetUp(setup.clone()))?;
    let ready = match answer {
        Answer::Ready(ready) => ready,
        Answer::Denied(attempts) => return Err(Error::Denied(attempts)),
        _ => return Err(Error::Confused),
    };
    let mut descriptors = descriptors.into_iter();
    let fd = descriptors.next().ok_or(Error::Confused)?;
    let device = Device { fd, kind: ready.kind, offloads: ready.offloads };
    let listeners: Vec<Listener> = ready
        .listeners
        .into_iter()
        .zip(descriptors)
        .map(|(address, socket)| Listener { socket: TcpListener::from(socket), address })
        .collect();
    let control = Control { helper: Arc::new(Mutex::new(helper)) };
    Ok(PrivateNamespace { device, listeners, control, notes: ready.notes })
}

/// The running helper and our end of its socket.
#[derive(Debug)]
struct Helper {
    child: Child,
    socket: OwnedFd,
    number: u64,
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let reference = SockRef::from(&ours);
        reference.set_read_timeout(Some(DEADLINE))?;
        reference.set_write_timeout(Some(DEADLINE))?;
        // The link in /proc names this very executable, even after an upgrade has put another in its place.
        let child =
            Command::new("/proc/self/exe").arg(SUBCOMMAND).stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn()?;
        Ok(Self { child, socket: ours, number: 0 })
    }

    fn ask(&mut self, ask: Ask) -> Result<(Answer, Vec<OwnedFd>), Error> {
        self.number += 1;
        let number = self.number;
        wire::send(self.socket.as_fd(), &Request { number, ask }, &[]).map_err(failed)?;
        loop {
            match wire::receive::<Reply>(self.socket.as_fd()).map_err(failed)? {
                None => return Err(Error::Gone),
                Some((reply, descriptors)) if reply.number == number => return Ok((reply.answer, descriptors)),
                // The answer to a question that was given up.
                Some(_) => {}
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It would leave by itself when the socket closes; this way no zombie stays behind either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent(DEADLINE),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Gone,
        _ => Error::Refused { step: "talk to the network helper".to_owned(), source: error },
    }
}

/// How long the helper may take to answer. Making the namespace takes some ten milliseconds on an idle machine.
const DEADLINE: Duration = Duration::from_secs(10);
