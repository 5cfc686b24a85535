//! The network: where devices dial, and the resolvers that names are passed on to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{Finding, Patient, udp};

/// Whether devices can find the gateway: its name, its port, and whether any have been there.
pub(super) async fn endpoint(patient: &Patient<'_>) -> Vec<Finding> {
    let endpoint = patient.config.tailnet.endpoint();
    let (found, told) = resolves(&endpoint).await;
    let mut findings = vec![told, port(patient)];
    // Without a gateway it is no news that nothing is open.
    if let Some(listen) = patient.gateway.as_ref().and_then(|status| status.listen.parse().ok()) {
        findings.extend(udp::open(listen).await);
        findings.extend(udp::leads_there(&endpoint, &found).await);
    }
    findings.extend(devices(patient));
    findings
}

/// Where the endpoint leads, and what there is to say about that.
async fn resolves(endpoint: &str) -> (Vec<SocketAddr>, Finding) {
    let remedy = "set endpoint in [tailnet] to a name or address that devices can reach, with its UDP port";
    let nowhere = |said: String| (Vec::new(), Finding::problem("endpoint", said, remedy));
    let found = match timeout(RESOLVE, lookup_host(endpoint)).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return nowhere(format!("{endpoint} does not resolve: {error}")),
        Err(_) => return nowhere(format!("{endpoint}: no name server answers in time")),
    };
    let listed = found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
    if found.iter().all(|address| address.ip().is_loopback()) {
        let said = format!("{endpoint} is this machine's loopback ({listed}): no other machine can dial it");
        return (found, Finding::warning("endpoint", said, remedy));
    }
    // An address that can be bound is this machine's own; for any other the packets are forwarded, or go astray.
    let told = match found.iter().any(|address| is_own(address.ip())) {
        true => Finding::ok("endpoint", format!("{endpoint} is this machine ({listed})")),
        false => Finding::warning(
            "endpoint",
            format!("{endpoint} ({listed}) is no address of this machine"),
            "if it is a NAT or a load balancer, forward this UDP port to here; else correct endpoint in [tailnet]",
        ),
    };
    (found, told)
}

fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether the port is the gateway's, or free for it.
fn port(patient: &Patient<'_>) -> Finding {
    let listen = patient.config.tailnet.listen;
    if let Some(status) = &patient.gateway {
        return Finding::ok("endpoint", format!("WireGuard listens on UDP {}", status.listen));
    }
    match UdpSocket::bind(listen) {
        Ok(_) => Finding::ok("endpoint", format!("UDP {listen} is free for the gateway")),
        Err(error) => Finding::problem(
            "endpoint",
            format!("UDP {listen} cannot be had: {error}"),
            "stop what uses it (`ss -ulpn` shows it), or change listen in [tailnet]",
        ),
    }
}

/// What speaks for the way from outside being open: devices that came that way. WireGuard answers nobody else.
fn devices(patient: &Patient<'_>) -> Option<Finding> {
    let (_, stored) = patient.stored.as_ref()?;
    let now = patient.clock.now();
    let valid: Vec<_> = stored.devices.iter().filter(|enrolled| !enrolled.has_expired(now)).collect();
    let last = valid.iter().filter_map(|enrolled| Some((enrolled.handshake?, enrolled.device.name.as_str()))).max();
    Some(match last {
        _ if valid.is_empty() => Finding::warning(
            "endpoint",
            "no device is enrolled",
            "enrol one: `sallyport device add --user NAME@DOMAIN`",
        ),
        Some((at, name)) => {
            let ago = now.duration_since(at).as_secs().max(0);
            Finding::ok("endpoint", format!("packets come through: {name} was last heard {} ago", said(ago)))
        }
        None => Finding::warning(
            "endpoint",
            format!("none of the {} enrolled devices was ever heard", valid.len()),
            "bring one up and look again; if it stays silent, a firewall or NAT is in the way of this UDP port",
        ),
    })
}

fn said(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whether the domain and the resolvers that other names go to are sound.
pub(super) async fn dns(patient: &Patient<'_>) -> Vec<Finding> {
    let domain = &patient.config.tailnet.domain;
    let mut findings = Vec::new();
    if domain == "local" || domain.ends_with(".local") {
        let said = format!("the domain {domain} belongs to multicast DNS (RFC 6762): some systems never ask for it");
        findings.push(Finding::warning("dns", said, "choose another domain in [tailnet], such as corp.internal"));
    }
    let forward = &patient.config.dns.forward;
    findings.extend(join_all(forward.iter().map(|resolver| answers(*resolver))).await);
    if forward.is_empty() {
        findings
            .push(Finding::ok("dns", format!("names below {domain} are answered; others are refused, as configured")));
    }
    findings
}

/// Asks a resolver who serves the root, which every resolver knows.
async fn answers(resolver: SocketAddr) -> Finding {
    let asked = timeout(RESOLVE, ask(resolver)).await;
    let remedy = "take it out of forward in [dns], or name one that this machine reaches on UDP port 53";
    match asked {
        Ok(Ok(())) => Finding::ok("dns", format!("the resolver {resolver} answers")),
        Ok(Err(error)) => Finding::problem("dns", format!("the resolver {resolver} cannot be asked: {error}"), remedy),
        Err(_) => Finding::problem("dns", format!("the resolver {resolver} does not answer"), remedy),
    }
}

async fn ask(resolver: SocketAddr) -> std::io::Result<()> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    let root = Name::from_str(".").map_err(std::io::Error::other)?;
    message.add_query(Query::query(root, RecordType::NS));
    message.metadata.recursion_desired = true;
    let bytes = message.to_vec().map_err(std::io::Error::other)?;
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(&bytes).await?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).await?;
    let answer = Message::from_vec(answer.get(..length).unwrap_or_default()).map_err(std::io::Error::other)?;
    match answer.metadata.id == message.metadata.id {
        true => Ok(()),
        false => Err(std::io::Error::other("it answered something else")),
    }
}

/// How long a name server may take.
const RESOLVE: Duration = Duration::from_secs(5);
