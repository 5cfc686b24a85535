//! A device's tunnel: the private namespace and the packet engine with one peer, the gateway.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::{CallerError, DeviceFile, HANDSHAKE};
use crate::engine::{Core, Device, Engine, Link, PeerConfig, WireSocket};
use crate::flow::FlowSink;
use crate::netns::{CallerSetup, Control, DEVICE_MAC, DeviceKind, PrivateNamespace, Setup};

/// A running tunnel. It stops when dropped.
#[derive(Debug)]
pub(super) struct Tunnel {
    engine: Engine,
    control: Control,
    endpoint: String,
}

impl Tunnel {
    /// Makes the namespace and begins a handshake with the gateway.
    pub(super) async fn start(file: &DeviceFile) -> Result<Self, CallerError> {
        let gateway = resolve(&file.endpoint).await?;
        let setup = Setup::Caller(CallerSetup {
            addresses: file.addresses.clone(),
            allowed: file.allowed.clone(),
            mtu: file.mtu,
            device: None,
        });
        let namespace = PrivateNamespace::open(&setup)?;
        for note in &namespace.notes {
            tracing::info!("{note}");
        }
        let link = match namespace.device.kind {
            DeviceKind::Tun => Link::Ip,
            DeviceKind::Packet => Link::Ethernet(DEVICE_MAC),
        };
        let any: SocketAddr = match gateway {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let failed = |error: std::io::Error| CallerError::Tunnel(error.to_string());
        let socket = WireSocket::bind(any).map_err(failed)?;
        let device = Device::kernel(namespace.device.fd, link).map_err(failed)?;
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
        Ok(Self { engine, control: namespace.control, endpoint: file.endpoint.clone() })
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

    /// Asks for things of the namespace.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }
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
