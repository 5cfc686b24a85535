//! Which backends work on this machine, for whoever asks before or while a gateway runs.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::netns::{DeviceKind, GatewaySetup, PrivateNamespace, Setup};
use crate::{BackendKind, DEFAULT_MTU};

/// What was found about one backend.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Which.
    pub kind: BackendKind,
    /// What works less well than it could; or why it does not work at all. Each says what to change.
    pub outcome: Result<Vec<String>, String>,
}

/// Tries each backend, best first: the first that works is the one that a gateway here would use by itself.
///
/// It makes namespaces and removes them, and touches nothing else. Blocks for some ten milliseconds each. The program
/// must answer to [`SUBCOMMAND`](crate::netns::SUBCOMMAND).
#[must_use]
pub fn probe() -> Vec<Probe> {
    let namespace = |kind, device| {
        let opened = PrivateNamespace::open(&setup(device));
        Probe { kind, outcome: opened.map(|namespace| namespace.notes).map_err(|error| error.to_string()) }
    };
    vec![
        namespace(BackendKind::Tun, DeviceKind::Tun),
        namespace(BackendKind::Packet, DeviceKind::Packet),
        Probe { kind: BackendKind::Userspace, outcome: Ok(Vec::new()) },
    ]
}

/// A gateway of addresses that mean nothing: they exist inside the namespace only.
fn setup(device: DeviceKind) -> Setup {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 128, 0), 17);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 0), 64);
    Setup::Gateway(GatewaySetup {
        addresses: vec![Ipv4Addr::new(100, 64, 0, 1).into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into()],
        service: vec![v4.into(), v6.into()],
        ports: vec![22],
        mtu: DEFAULT_MTU,
        device: Some(device),
    })
}
