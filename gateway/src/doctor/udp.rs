//! The WireGuard port, as far as it can be looked at from this machine.
//!
//! WireGuard answers nobody whose key it does not know (section 5.1 of its paper), so silence proves nothing. But where no
//! socket is open the kernel says so with an ICMP error, and where there is no way the sender is told: what is wrong here is
//! found, and what only a device can tell is said to be so.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use nix::ifaddrs::getifaddrs;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Finding;

/// How a place takes a packet.
#[derive(Debug, PartialEq, Eq)]
enum Knock {
    /// It says nothing.
    Silent,
    /// Nothing is open there.
    Refused,
    /// Nothing leads there: why.
    NoWay(String),
}

/// Whether the port is open on each address of this machine that the gateway listens on.
pub(super) async fn open(listen: SocketAddr) -> Vec<Finding> {
    let places = own_addresses(listen);
    let knocked = join_all(places.iter().map(|place| knock(*place))).await;
    let closed = |knocked: &Knock| *knocked == Knock::Refused;
    let list = |wanted: bool| {
        let those = places.iter().zip(&knocked).filter(|(_, knocked)| closed(knocked) == wanted);
        those.map(|(place, _)| place.ip().to_string()).take(LISTED).collect::<Vec<_>>().join(", ")
    };
    let (shut, port) = (list(true), listen.port());
    if !shut.is_empty() {
        let said =
            format!("no socket is open on UDP {port} at {shut}, and the gateway says that it listens on {listen}");
        let remedy = "see with `ss -ulpn` what has the port, and restart the gateway";
        return vec![Finding::problem("endpoint", said, remedy)];
    }
    let said = match list(false) {
        none if none.is_empty() => return Vec::new(),
        addresses => format!("WireGuard's UDP {port} is open at {addresses}, asked from this machine"),
    };
    vec![Finding::ok("endpoint", said)]
}

/// Whether packets to the endpoint that devices dial find anything, as far as that shows here.
pub(super) async fn leads_there(endpoint: &str, found: &[SocketAddr]) -> Vec<Finding> {
    let knocked = join_all(found.iter().map(|place| knock(*place))).await;
    let told = found.iter().zip(knocked).filter_map(|(place, knocked)| {
        let (said, remedy) = match knocked {
            Knock::Silent => return None,
            Knock::Refused => (
                format!("{endpoint}: {place} says that nothing is open on that UDP port"),
                "forward the port to this machine there, or correct endpoint in [tailnet]",
            ),
            Knock::NoWay(why) => (
                format!("{endpoint}: no packet gets from here to {place}: {why}"),
                "if devices do get there, leave it; else correct endpoint in [tailnet], or the route",
            ),
        };
        Some(Finding::warning("endpoint", said, remedy))
    });
    let told: Vec<_> = told.collect();
    match told.is_empty() && !found.is_empty() {
        true => vec![Finding::ok(
            "endpoint",
            format!(
                "a packet to {endpoint} is not refused; WireGuard answers known devices alone, so only one of them proves the way"
            ),
        )],
        false => told,
    }
}

/// The addresses of this machine at which `listen` listens.
fn own_addresses(listen: SocketAddr) -> Vec<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return vec![listen];
    }
    let mut own: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        // A socket of IPv6's takes both families; an address of a link alone wants its interface named.
        .filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => listen.is_ipv6() && !v6.is_unicast_link_local(),
        })
        .collect();
    own.sort();
    own.dedup();
    own.into_iter().map(|address| SocketAddr::new(address, listen.port())).collect()
}

/// Sends a packet that is none of WireGuard's, and waits whether the kernel here or there complains.
async fn knock(to: SocketAddr) -> Knock {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let sent = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(to).await?;
        socket.send(&[0]).await?;
        match timeout(COMPLAINT, socket.recv(&mut [0; 1])).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    };
    match sent.await {
        Ok(()) => Knock::Silent,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Knock::Refused,
        Err(error) => Knock::NoWay(error.to_string()),
    }
}

/// How long a complaint may be under way.
const COMPLAINT: Duration = Duration::from_millis(500);
/// Addresses that are listed.
const LISTED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[tokio::test]
    async fn a_port_that_nobody_has_open_is_told_from_one_that_is_silent() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let here = socket.local_addr().unwrap();
        let (found, there) = (open(here).await, leads_there("gateway.example.com:51820", &[here]).await);
        assert!(found[0].level == Level::Ok && found[0].said.contains("127.0.0.1"), "{found:?}");
        assert!(there[0].level == Level::Ok && there[0].said.contains("not refused"), "{there:?}");
        drop(socket);
        let (found, there) = (open(here).await, leads_there("gateway.example.com:51820", &[here]).await);
        assert!(found[0].level == Level::Problem && found[0].said.contains("no socket is open"), "{found:?}");
        assert!(there[0].level == Level::Warning && there[0].said.contains("nothing is open"), "{there:?}");
    }

    #[test]
    fn a_socket_for_every_address_is_asked_at_each() {
        let everywhere = own_addresses("[::]:51820".parse().unwrap());
        assert!(everywhere.contains(&"127.0.0.1:51820".parse().unwrap()), "{everywhere:?}");
        let v4 = own_addresses("0.0.0.0:51820".parse().unwrap());
        assert!(v4.iter().all(SocketAddr::is_ipv4) && !v4.is_empty());
        assert_eq!(own_addresses("127.0.0.9:1".parse().unwrap()), ["127.0.0.9:1".parse().unwrap()]);
    }
}
