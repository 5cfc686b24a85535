//! A device's tunnel: the private namespace, or a TCP stack of its own, and the packet engine with one peer, the gateway.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::reach::{InProcess, Reach, Way};
use super::{CallerError, DeviceFile, HANDSHAKE};
use crate::engine::{Core, Device, Engine, Link, PeerConfig, WireSocket};
use crate::flow::FlowSink;
use crate::netns::{CallerSetup, DEVICE_MAC, DeviceKind, PrivateNamespace, Setup};

/// A running tunnel. It stops when dropped.
#[derive(Debug)]
pub(super) struct Tunnel {
    engine: Engine,
    reach: Reach,
    endpoint: String,
}

impl Tunnel {
    /// Makes the namespace, or does without one, and begins a handshake with the gateway.
    pub(super) async fn start(file: &DeviceFile) -> Result<Self, CallerError> {
        let gateway = resolve(&file.endpoint).await?;
        let failed = |error: std::io::Error| CallerError::Tunnel(error.to_string());
        let (device, way) = open(file).map_err(failed)?;
        let any: SocketAddr = match gateway {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = WireSocket::bind(any).map_err(failed)?;
        let core = Core::new(file.private_key.clone(), FlowSink::new());
        core.upsert(PeerConfig {
            key: file.gateway,
            preshared: file.preshared.clone(),
            allowed: file.allowed.clone(),
            endpoint: Some(gateway),
            // So that whoever joins later finds a fresh session instead of waiting for a handshake.
            keepalive: file.keepalive.or(Some(KEEPALIVE)),
        })?;
        let engine = Engine::start(core, socket, device);
        Ok(Self { engine, reach: Reach::new(file, way), endpoint: file.endpoint.clone() })
    }

    /// Waits until the gateway has answered a handshake that still holds.
    pub(super) async fn ready(&self) -> Result<(), CallerError> {
        let deadline = Instant::now() + HANDSHAKE;
        while Instant::now() < deadline {
            let fresh = |shaken: Instant| shaken.elapsed() < SESSION;
            if self.engine.core().peers(Instant::now()).iter().any(|peer| peer.last_handshake.is_some_and(fresh)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(CallerError::NoHandshake { endpoint: self.endpoint.clone() })
    }

    /// The way into the tailnet.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }
}

/// The best that this machine allows.
fn open(file: &DeviceFile) -> std::io::Result<(Device, Way)> {
    let setup = Setup::Caller(CallerSetup {
        addresses: file.addresses.clone(),
        allowed: file.allowed.clone(),
        mtu: file.mtu,
        device: None,
    });
    let namespace = match PrivateNamespace::open(&setup) {
        Ok(namespace) => namespace,
        Err(error) => {
            tracing::info!("{error}, so TCP runs in this process");
            let inside = InProcess::new(file, error.to_string());
            return Ok((Device::Stack(inside.stack()), Way::Stack(inside)));
        }
    };
    for note in &namespace.notes {
        tracing::info!("{note}");
    }
    let link = match namespace.device.kind {
        DeviceKind::Tun => Link::Ip,
        DeviceKind::Packet => Link::Ethernet(DEVICE_MAC),
    };
    Ok((Device::kernel(namespace.device.fd, link)?, Way::Namespace(namespace.control)))
}

async fn resolve(endpoint: &str) -> Result<SocketAddr, CallerError> {
    let found = tokio::net::lookup_host(endpoint).await.map(|mut addresses| addresses.next());
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(CallerError::Tunnel(format!("the gateway's name in Endpoint = {endpoint} has no address"))),
        Err(error) => Err(CallerError::Tunnel(format!("the gateway's name in Endpoint = {endpoint}: {error}"))),
    }
}

/// How long a handshake holds (REJECT_AFTER_TIME of the WireGuard paper, section 6.1).
const SESSION: Duration = Duration::from_secs(180);

/// Seconds between packets that keep the session and a NAT's mapping alive: what WireGuard's documentation recommends.
const KEEPALIVE: u16 = 25;
