//! The way into the tailnet: the private namespace, or, where none may be made, a TCP stack in this process. By either the
//! tunnel makes connections for whoever asks, and hands them over as descriptors: the kernel's own socket out of the
//! namespace, or one end of a pair whose other end the stack feeds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::DeviceFile;
use super::names::Resolver;
use crate::Stream;
use crate::netns::Control;
use crate::userspace::{Here, Stack};

/// The way into the tailnet.
#[derive(Debug)]
pub(super) struct Reach {
    way: Way,
    own: Vec<IpAddr>,
    resolver: Resolver,
}

/// Where TCP is.
#[derive(Debug)]
pub(super) enum Way {
    /// In the kernel, inside the namespace, which members may enter.
    Namespace(Control),
    /// In this process.
    Stack(InProcess),
}

/// The stack, and what keeps its time.
#[derive(Debug)]
pub(super) struct InProcess {
    stack: Arc<Stack>,
    keeping: AbortHandle,
    /// Why there is no namespace.
    pub(super) why: String,
}

/// A connection that was made for somebody.
pub(super) struct Lent {
    /// Theirs.
    pub(super) end: OwnedFd,
    /// What carries it until both sides are done, where the kernel does not.
    pub(super) carrying: Option<BoxFuture<'static, ()>>,
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl InProcess {
    /// For the device of `file`. Must be called inside a tokio runtime.
    pub(super) fn new(file: &DeviceFile, why: String) -> Self {
        let v4 = file.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let v6 = file.addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        });
        let own = (v4.unwrap_or(Ipv4Addr::UNSPECIFIED), v6.unwrap_or(Ipv6Addr::UNSPECIFIED));
        // Nothing is accepted here, so nobody waits for what was opened.
        let (stack, _opened) = Stack::new(Here { own, service: None, ports: Vec::new(), mtu: file.mtu });
        let clock = Arc::clone(&stack);
        let keeping = tokio::spawn(async move { clock.keep_time().await }).abort_handle();
        Self { stack, keeping, why }
    }

    /// For the engine.
    pub(super) fn stack(&self) -> Arc<Stack> {
        Arc::clone(&self.stack)
    }
}

impl Reach {
    pub(super) fn new(file: &DeviceFile, way: Way) -> Self {
        Self { way, own: file.addresses.clone(), resolver: Resolver::new(file) }
    }

    /// Where TCP is.
    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// Connects to a name or address inside the tailnet, for somebody else.
    ///
    /// # Errors
    /// A sentence for the person.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<Lent, String> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolver.addresses(self, host).await;
                found.map_err(|error| format!("the tailnet has no {host}: {error}"))?
            }
        };
        let mut failed = io::Error::other("it has no address of a family that this device has");
        for address in addresses {
            match self.dial(SocketAddr::new(address, port)).await.and_then(lend) {
                Ok(lent) => return Ok(lent),
                Err(error) => failed = error,
            }
        }
        Err(format!("{host}, port {port}, does not answer: {failed}"))
    }

    /// Connects to an address, from the device's own of the same family.
    pub(super) async fn dial(&self, to: SocketAddr) -> io::Result<Stream> {
        if !self.own.iter().any(|own| own.is_ipv4() == to.is_ipv4()) {
            return Err(io::Error::other(format!("this device has no address to call {to} from")));
        }
        let dialling = async {
            match &self.way {
                Way::Namespace(control) => {
                    let stream = control.tcp_connect(to).await.map_err(io::Error::other)?;
                    stream.set_nodelay(true)?;
                    TcpStream::from_std(stream).map(Stream::Tcp)
                }
                Way::Stack(inside) => inside.stack.dial(to).await.map(Stream::Stack),
            }
        };
        match timeout(PATIENCE, dialling).await {
            Ok(dialled) => dialled,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Makes a connection somebody else's.
fn lend(mut stream: Stream) -> io::Result<Lent> {
    if let Stream::Tcp(stream) = stream {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        return Ok(Lent { end: stream.into(), carrying: None });
    }
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let mut near = UnixStream::from_std(near)?;
    let carrying = async move {
        // Whichever side breaks it, the other one sees its end.
        let _ = copy_bidirectional(&mut near, &mut stream).await;
    };
    Ok(Lent { end: far.into(), carrying: Some(Box::pin(carrying)) })
}

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
