//! Addresses, routes and settings of the namespace.
//!
//! On the gateway's side every address of the service prefixes is local by one route each ("AnyIP"), with no set-up for
//! an address: connections to them are accepted, closed ports are refused with a reset and pings are answered, all by
//! the kernel. Everything else goes to the device. Nothing is ever forwarded: a packet that came out of the tunnel and
//! is not for us is dropped, so that one device cannot reach another.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use nix::unistd::Gid;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::RuleAction;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::advice::{Failure, Step};
use super::{DEVICE_NAME, Setup};

/// Sets what must be set before there is a device. Returns what could not be set.
pub(super) fn tune(setup: &Setup) -> Vec<String> {
    let group = Gid::effective();
    let mut settings = vec![
        // Forwarding comes first, since it resets others. A new namespace copies these from the host.
        ("ipv4/ip_forward", "0".to_owned()),
        ("ipv6/conf/all/forwarding", "0".to_owned()),
        ("ipv4/conf/all/rp_filter", "0".to_owned()),
        ("ipv4/conf/default/rp_filter", "0".to_owned()),
        ("ipv4/conf/all/accept_redirects", "0".to_owned()),
        ("ipv6/conf/all/disable_ipv6", "0".to_owned()),
        ("ipv6/conf/default/disable_ipv6", "0".to_owned()),
        ("ipv6/conf/default/accept_ra", "0".to_owned()),
        ("ipv6/conf/default/accept_redirects", "0".to_owned()),
        // No link-local address, hence no router solicitations into the tunnel.
        ("ipv6/conf/default/addr_gen_mode", "1".to_owned()),
        ("ipv4/tcp_rmem", TCP_MEMORY.to_owned()),
        ("ipv4/tcp_wmem", TCP_MEMORY.to_owned()),
        ("ipv4/ip_unprivileged_port_start", "0".to_owned()),
        ("ipv4/ping_group_range", format!("{group} {group}")),
    ];
    if let Setup::Gateway(_) = setup {
        settings.push(("core/somaxconn", "65535".to_owned()));
    }
    let mut notes = Vec::new();
    for (name, value) in settings {
        let path = format!("/proc/sys/net/{name}");
        let same = |text: String| text.split_whitespace().eq(value.split_whitespace());
        if fs::read_to_string(&path).is_ok_and(same) {
            continue;
        }
        if let Err(error) = fs::write(&path, &value) {
            notes.push(format!("could not set {path} to {value}: {error}"));
        }
    }
    notes
}

/// Brings up the device, with addresses, routes and rules.
pub(super) async fn configure(setup: &Setup) -> Result<(), Failure> {
    let netlink = netlink()?;
    netlink.set_link(LinkUnspec::new_with_name("lo").up().build(), "bring up lo").await?;
    netlink.set_link(LinkUnspec::new_with_name(DEVICE_NAME).up().build(), "bring up the device").await?;
    let device = if_nametoindex(DEVICE_NAME).step("find the device")?;
    let loopback = if_nametoindex("lo").step("find lo")?;
    let (addresses, routes) = match setup {
        Setup::Gateway(gateway) => {
            for prefix in &gateway.service {
                netlink.add_route(local_route(*prefix, loopback)?, format!("accept all of {prefix}")).await?;
            }
            (&gateway.addresses, everything())
        }
        Setup::Caller(caller) => (&caller.addresses, caller.allowed.clone()),
    };
    for address in addresses {
        netlink.add_address(device, *address).await?;
        if address.is_ipv6() {
            // The kernel makes the same route for an IPv6 address, but later, in a work queue.
            netlink.add_route(local_route(IpNet::from(*address), loopback)?, format!("accept {address}")).await?;
        }
    }
    for prefix in routes {
        // IPv6 may be switched off on this machine; then there is no address of it either.
        if addresses.iter().any(|address| address.is_ipv4() == prefix.addr().is_ipv4()) {
            netlink.add_route(device_route(prefix, device)?, format!("route {prefix} to the device")).await?;
        }
    }
    netlink.forbid_forwarding().await
}

fn everything() -> Vec<IpNet> {
    [IpNet::new(IpAddr::from([0; 4]), 0), IpNet::new(IpAddr::from([0; 16]), 0)].into_iter().flatten().collect()
}

fn local_route(prefix: IpNet, loopback: u32) -> Result<RouteMessage, Failure> {
    let builder = route(prefix)?.output_interface(loopback).kind(RouteType::Local).scope(RouteScope::Host);
    Ok(builder.table_id(LOCAL_TABLE).build())
}

fn device_route(prefix: IpNet, device: u32) -> Result<RouteMessage, Failure> {
    Ok(route(prefix)?.output_interface(device).scope(RouteScope::Link).build())
}

fn route(prefix: IpNet) -> Result<RouteMessageBuilder<IpAddr>, Failure> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(prefix.network(), prefix.prefix_len())
        .map_err(std::io::Error::other)
        .step(format!("make a route to {prefix}"))
}

/// Route netlink in the namespace we are in; wants a tokio runtime.
pub(super) struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

/// Opens route netlink.
pub(super) fn netlink() -> Result<Netlink, Failure> {
    let (connection, handle, _) = rtnetlink::new_connection().step("open route netlink")?;
    Ok(Netlink { handle, connection: tokio::spawn(connection) })
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    pub(super) async fn add_link(&self, link: LinkMessage, step: &str) -> Result<(), Failure> {
        self.handle.link().add(link).execute().await.map_err(system).step(step)
    }

    pub(super) async fn set_link(&self, link: LinkMessage, step: &str) -> Result<(), Failure> {
        self.handle.link().set(link).execute().await.map_err(system).step(step)
    }

    async fn add_address(&self, device: u32, address: IpAddr) -> Result<(), Failure> {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(device, address, prefix);
        // There is nobody to hold the same address, and until the check for that is over it could not be used.
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        request.execute().await.map_err(system).step(format!("add the address {address}"))
    }

    async fn add_route(&self, route: RouteMessage, step: String) -> Result<(), Failure> {
        self.handle.route().add(route).execute().await.map_err(system).step(step)
    }

    /// After the look-up of local addresses, whatever came from the device is dropped.
    async fn forbid_forwarding(&self) -> Result<(), Failure> {
        let step = "add the rule that nothing is forwarded";
        let rule = || {
            let rule = self.handle.rule().add().input_interface(DEVICE_NAME).priority(1);
            rule.action(RuleAction::Blackhole)
        };
        rule().v4().execute().await.map_err(system).step(step)?;
        rule().v6().execute().await.map_err(system).step(step)
    }
}

fn system(error: rtnetlink::Error) -> std::io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other),
    }
}

/// Least, first and most bytes of a TCP buffer: room for a gigabit over 100 ms.
const TCP_MEMORY: &str = "4096 262144 16777216";

/// The table that the kernel asks first (RT_TABLE_LOCAL of `rtnetlink.h`).
const LOCAL_TABLE: u32 = 255;
