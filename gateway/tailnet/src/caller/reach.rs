//! A tunnel where no namespace may be made: it makes the connections itself, with the TCP stack in this process, and hands
//! each to whoever asked for it as one end of a pair of sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::DeviceFile;
use super::names::Resolver;
use crate::userspace::{Here, Stack, StackStream};

/// The way into the tailnet.
#[derive(Debug)]
pub(super) struct Reach {
    stack: Arc<Stack>,
    own: Vec<IpAddr>,
    resolver: Resolver,
    keeping: AbortHandle,
    /// Why there is no namespace.
    pub(super) why: String,
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Reach {
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
        Self { stack, own: file.addresses.clone(), resolver: Resolver::new(file), keeping, why }
    }

    /// For the engine.
    pub(super) fn stack(&self) -> Arc<Stack> {
        Arc::clone(&self.stack)
    }

    /// Connects to a name or address inside the tailnet.
    ///
    /// # Errors
    /// A sentence for the person.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<StackStream, String> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self
                .resolver
                .addresses(self, host)
                .await
                .map_err(|error| format!("the tailnet has no {host}: {error}"))?,
        };
        let mut failed = io::Error::other("it has no address of a family that this device has");
        for address in addresses {
            match self.dial(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(format!("{host}, port {port}, does not answer: {failed}"))
    }

    /// Connects to an address, from the device's own of the same family.
    pub(super) async fn dial(&self, to: SocketAddr) -> io::Result<StackStream> {
        if !self.own.iter().any(|own| own.is_ipv4() == to.is_ipv4()) {
            return Err(io::Error::other(format!("this device has no address to call {to} from")));
        }
        match timeout(PATIENCE, self.stack.dial(to)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Carries a connection for somebody else: their end of it, and what does the carrying until both sides are done.
pub(super) fn lend(mut stream: StackStream) -> io::Result<(OwnedFd, impl Future<Output = ()> + Send + 'static)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let mut near = UnixStream::from_std(near)?;
    let carrying = async move {
        // Whichever side breaks it, the other one sees its end.
        let _ = copy_bidirectional(&mut near, &mut stream).await;
    };
    Ok((far.into(), carrying))
}

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
