//! Choosing a backend, best first, and accepting connections on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::engine::{Core, Device, Link};
use crate::netns::{Control, DEVICE_MAC, DeviceKind, GatewaySetup, Listener, PrivateNamespace, Setup};
use crate::tailnet::KEEPALIVE;
use crate::userspace::{Here, Opened, Stack};
use crate::{Arrival, Backend, BackendKind, Config, Error, Stream};

/// A backend that stands and accepts nothing yet.
pub(crate) struct Opening {
    pub(crate) device: Device,
    pub(crate) backend: Backend,
    pub(crate) inside: Inside,
    pub(crate) waiting: Waiting,
}

/// Where the connections are.
#[derive(Debug)]
pub(crate) enum Inside {
    /// In the kernel of a private namespace.
    Namespace(Control),
    /// In this process.
    Stack(Arc<Stack>),
}

/// What connections will come from.
pub(crate) enum Waiting {
    Listeners(Vec<Listener>),
    Stack(Arc<Stack>, mpsc::Receiver<Opened>),
}

impl Opening {
    /// Opens the backend that the configuration names, or the best that works.
    pub(crate) async fn choose(config: &Config) -> Result<Self, Error> {
        if config.backend == Some(BackendKind::Userspace) {
            return Ok(Self::userspace(config, Vec::new()));
        }
        let setup = setup(config);
        let opened = tokio::task::spawn_blocking(move || PrivateNamespace::open(&setup)).await;
        match opened.map_err(system("make the private namespace"))? {
            Ok(namespace) => Self::namespace(namespace),
            Err(error) if config.backend.is_some() => Err(Error::NoBackend(error)),
            Err(error) => Ok(Self::userspace(config, vec![error.to_string(), WORSE.to_owned()])),
        }
    }

    fn namespace(namespace: PrivateNamespace) -> Result<Self, Error> {
        let (kind, link) = match namespace.device.kind {
            DeviceKind::Tun => (BackendKind::Tun, Link::Ip),
            DeviceKind::Packet => (BackendKind::Packet, Link::Ethernet(DEVICE_MAC)),
        };
        let device = Device::kernel(namespace.device.fd, link).map_err(system("watch the tunnel's device"))?;
        Ok(Self {
            device,
            backend: Backend { kind, notes: namespace.notes },
            inside: Inside::Namespace(namespace.control),
            waiting: Waiting::Listeners(namespace.listeners),
        })
    }

    fn userspace(config: &Config, notes: Vec<String>) -> Self {
        let (stack, opened) = Stack::new(Here {
            own: config.gateway,
            service: Some(config.service),
            ports: config.ports.clone(),
            mtu: config.mtu,
        });
        Self {
            device: Device::Stack(Arc::clone(&stack)),
            backend: Backend { kind: BackendKind::Userspace, notes },
            inside: Inside::Stack(Arc::clone(&stack)),
            waiting: Waiting::Stack(stack, opened),
        }
    }
}

impl Waiting {
    /// Starts the tasks that accept.
    pub(crate) fn accept(self, core: &Arc<Core>, arrivals: &mpsc::Sender<Arrival>) -> Result<Vec<AbortHandle>, Error> {
        match self {
            Self::Listeners(listeners) => listeners
                .into_iter()
                .map(|listener| {
                    let listener = TcpListener::from_std(listener.socket).map_err(system("watch a listener"))?;
                    Ok(tokio::spawn(accept(listener, Arc::clone(core), arrivals.clone())).abort_handle())
                })
                .collect(),
            Self::Stack(stack, opened) => {
                let clock = Arc::clone(&stack);
                let accepting = accept_opened(stack, opened, Arc::clone(core), arrivals.clone());
                let keeping = async move { clock.keep_time().await };
                Ok(vec![tokio::spawn(accepting).abort_handle(), tokio::spawn(keeping).abort_handle()])
            }
        }
    }
}

/// Accepts connections and says whose they are. Waits while the gateway's queue of arrivals is full.
async fn accept(listener: TcpListener, core: Arc<Core>, arrivals: mpsc::Sender<Arrival>) {
    while !arrivals.is_closed() {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection through the tailnet could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(destination) = stream.local_addr() else { continue };
        // Nobody's: its device was removed a moment ago.
        let Some((device, flow)) = core.arrival(source, destination) else { continue };
        if let Err(error) = settle(&stream) {
            tracing::debug!(%error, "the options of a connection");
        }
        let arrival = Arrival { stream: Stream::Tcp(stream), device, source, destination, flow };
        if arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

/// The same for the stack in this process.
async fn accept_opened(
    stack: Arc<Stack>,
    mut opened: mpsc::Receiver<Opened>,
    core: Arc<Core>,
    arrivals: mpsc::Sender<Arrival>,
) {
    while let Some(opened) = opened.recv().await {
        let (stream, source, destination) = stack.stream(opened);
        let Some((device, flow)) = core.arrival(source, destination) else { continue };
        let arrival = Arrival { stream: Stream::Stack(stream), device, source, destination, flow };
        if arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

/// Sends at once what is written, and asks a silent device now and then whether it is still there.
pub(crate) fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(BETWEEN_PROBES).with_retries(PROBES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn setup(config: &Config) -> Setup {
    Setup::Gateway(GatewaySetup {
        addresses: vec![config.gateway.0.into(), config.gateway.1.into()],
        service: vec![config.service.0.into(), config.service.1.into()],
        ports: config.ports.clone(),
        mtu: config.mtu,
        device: config.backend.and_then(|kind| match kind {
            BackendKind::Tun => Some(DeviceKind::Tun),
            BackendKind::Packet => Some(DeviceKind::Packet),
            BackendKind::Userspace | BackendKind::Memory => None,
        }),
    })
}

pub(crate) fn system<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    doing: &'static str,
) -> impl FnOnce(E) -> Error {
    move |error| Error::System { doing, source: io::Error::other(error) }
}

/// A pause after an error of accept, which means that we are out of descriptors or memory.
const AFTER_ERROR: Duration = Duration::from_millis(20);
/// Between questions that a silent device does not answer, and how many: it is given up two hours after its last
/// packet, as its flow is.
const BETWEEN_PROBES: Duration = Duration::from_secs(10 * 60);
const PROBES: u32 = 9;
/// What it means that there is no namespace.
const WORSE: &str = "so TCP runs in this process: a lossy path slows it down more than the kernel's, each connection has at \
                     most 256 kB under way, and IP fragments are dropped";
