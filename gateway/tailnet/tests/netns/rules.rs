//! The rules, one function each.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;
use sallyport_tailnet::netns::{
    CallerSetup, Control, DeviceKind, Error, GatewaySetup, Listener, PrivateNamespace, Setup,
};

use super::KINDS;
use super::pump::Pump;
use super::skip::skip;

/// Runs every rule whose name contains `filter`, for every kind of device; true when one failed.
pub(crate) fn run_all(filter: &str) -> bool {
    let mut failed = false;
    for kind in KINDS {
        if let Err(error) = PrivateNamespace::open(&gateway(kind)) {
            skip(&format!("all rules with {kind}: {error}"));
            continue;
        }
        for (name, rule) in RULES.into_iter().filter(|(name, _)| name.contains(filter)) {
            let passed = std::panic::catch_unwind(|| block_on(async { rule(World::new(kind)) })).is_ok();
            println!("{}: {name} ({kind})", if passed { "ok" } else { "FAILED" });
            failed |= !passed;
        }
    }
    failed
}

type Rule = fn(World);

const RULES: [(&str, Rule); 9] = [
    ("accepts_any_address_of_the_service_prefix_on_a_service_port", accepts_any_address_of_the_service_prefix),
    ("resets_connections_to_other_ports_and_families", resets_connections_to_other_ports),
    ("carries_megabytes_both_ways", carries_megabytes_both_ways),
    ("dials_back_to_the_caller_from_the_gateways_address", dials_back_to_the_caller),
    ("answers_datagrams_on_the_gateways_address", answers_datagrams),
    ("kills_the_connections_of_one_address_alone", kills_the_connections_of_one_address),
    ("forwards_nothing_between_devices", forwards_nothing_between_devices),
    ("says_so_when_the_helper_has_died", says_so_when_the_helper_has_died),
    ("leaves_the_hosts_network_alone", leaves_the_hosts_network_alone),
];

fn accepts_any_address_of_the_service_prefix(world: World) {
    for destination in
        ["100.100.0.1:22", "100.100.255.254:22", "[fd00:100::1]:22", "[fd00:100::ffff:ffff]:22", "100.64.0.1:22"]
    {
        let destination: SocketAddr = destination.parse().unwrap();
        let client = world.connect(destination).unwrap();
        let (server, source) = world.accept(destination);
        assert_eq!(server.local_addr().unwrap(), destination);
        assert_eq!(source, client.local_addr().unwrap());
        assert!(CALLER.map(address).contains(&source.ip()), "{source}");
    }
}

fn resets_connections_to_other_ports(world: World) {
    for destination in ["100.100.0.1:23", "[fd00:100::1]:23", "100.64.0.1:23", "[fd00:64::1]:80"] {
        let error = world.connect(destination.parse().unwrap()).unwrap_err();
        let Error::Refused { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.raw_os_error(), Some(Errno::ECONNREFUSED as i32), "{destination}: {error}");
    }
}

fn carries_megabytes_both_ways(world: World) {
    for destination in ["100.100.7.7:22", "[fd00:100::7]:22"] {
        let destination = destination.parse().unwrap();
        let client = world.connect(destination).unwrap();
        let (server, _) = world.accept(destination);
        for (mut from, to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
            let bytes: Vec<u8> = (0..20_000_000_u32).map(|number| (number % 251) as u8).collect();
            let sent = bytes.clone();
            let sender = std::thread::spawn(move || {
                from.write_all(&sent).unwrap();
                from.shutdown(std::net::Shutdown::Write).unwrap();
                from
            });
            let mut received = vec![0; bytes.len()];
            (&to).read_exact(&mut received).unwrap();
            assert!(received == bytes, "the bytes differ");
            drop(sender.join().unwrap());
        }
    }
}

fn dials_back_to_the_caller(world: World) {
    // The caller's side has no listeners of its own, so a refusal by the caller's kernel is the proof of arrival.
    for caller in CALLER.map(address) {
        let error = block_on(world.gateway.tcp_connect(SocketAddr::new(caller, 9))).unwrap_err();
        let Error::Refused { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.raw_os_error(), Some(Errno::ECONNREFUSED as i32), "{caller}: {error}");
    }
}

fn answers_datagrams(world: World) {
    for (server, client) in GATEWAY.map(address).into_iter().zip(CALLER.map(address)) {
        let server = blocking(block_on(world.gateway.udp_bind(SocketAddr::new(server, 53))).unwrap());
        let client = blocking(block_on(world.caller.udp_bind(SocketAddr::new(client, 0))).unwrap());
        client.send_to(b"question", server.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 16];
        let (length, source) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], source), (&b"question"[..], client.local_addr().unwrap()));
        server.send_to(b"answer", source).unwrap();
        let (length, source) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], source), (&b"answer"[..], server.local_addr().unwrap()));
    }
}

fn kills_the_connections_of_one_address(world: World) {
    for (version, destination) in ["100.100.0.1:22", "[fd00:100::1]:22"].into_iter().enumerate() {
        let destination: SocketAddr = destination.parse().unwrap();
        let pairs: Vec<_> = (0..3)
            .map(|_| {
                let client = world.connect(destination).unwrap();
                (client, world.accept(destination).0)
            })
            .collect();
        let nobody = if version == 0 { "100.64.0.77" } else { "fd00:64::77" };
        assert_eq!(block_on(world.gateway.kill_connections(address(nobody))).unwrap(), 0);
        let killed = block_on(world.gateway.kill_connections(address(CALLER[version]))).unwrap();
        assert!(killed >= 3, "{killed}");
        for (mut client, mut server) in pairs {
            assert_eq!(client.read(&mut [0; 1]).unwrap_err().raw_os_error(), Some(Errno::ECONNRESET as i32));
            assert_eq!(server.read(&mut [0; 1]).unwrap_err().raw_os_error(), Some(Errno::ECONNABORTED as i32));
        }
    }
}

fn forwards_nothing_between_devices(world: World) {
    // An address that is neither the gateway's nor of the service prefix: another device, as it were.
    for destination in ["100.64.0.3:22", "[fd00:64::3]:22"] {
        let destination: SocketAddr = destination.parse().unwrap();
        let connected = block_on(async {
            tokio::time::timeout(Duration::from_millis(300), world.caller.tcp_connect(destination)).await
        });
        assert!(connected.is_err(), "{destination} answered: {connected:?}");
        let came_out = world.pump.destinations.lock().unwrap();
        assert!(!came_out.contains(&destination.ip()), "the gateway's side sent a packet on to {destination}");
    }
}

fn says_so_when_the_helper_has_died(world: World) {
    let client = world.connect("100.100.0.1:22".parse().unwrap()).unwrap();
    let (mut server, _) = world.accept("100.100.0.1:22".parse().unwrap());
    for child in children() {
        nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    let error = world.connect("100.100.0.1:22".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Gone), "{error}");
    // What was open goes on: the descriptors keep the namespace alive.
    (&client).write_all(b"still here").unwrap();
    let mut received = [0; 10];
    server.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"still here");
}

fn leaves_the_hosts_network_alone(world: World) {
    let interfaces = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(!interfaces.contains("tailnet"), "{interfaces}");
    drop(world);
    assert_eq!(children(), [], "a helper outlived its namespace");
}

/// A gateway and a caller, joined.
struct World {
    gateway: Control,
    listeners: Vec<Listener>,
    caller: Control,
    pump: Pump,
}

impl World {
    fn new(kind: DeviceKind) -> Self {
        let gateway = PrivateNamespace::open(&gateway(kind)).unwrap();
        let caller = PrivateNamespace::open(&caller(kind)).unwrap();
        assert_eq!((gateway.device.kind, caller.device.kind), (kind, kind));
        assert_eq!(gateway.notes, [""; 0]);
        let pump = Pump::start(gateway.device, caller.device);
        Self { gateway: gateway.control, listeners: gateway.listeners, caller: caller.control, pump }
    }

    fn connect(&self, destination: SocketAddr) -> Result<TcpStream, Error> {
        let connected = block_on(async {
            tokio::time::timeout(Duration::from_secs(5), self.caller.tcp_connect(destination)).await
        });
        let stream = connected.unwrap_or_else(|_| panic!("{destination} did not answer"))?;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Ok(stream)
    }

    fn accept(&self, destination: SocketAddr) -> (TcpStream, SocketAddr) {
        let fits = |listener: &&Listener| {
            listener.address.port() == destination.port() && listener.address.is_ipv4() == destination.is_ipv4()
        };
        let listener = &self.listeners.iter().find(fits).unwrap().socket;
        listener.set_nonblocking(false).unwrap();
        let (stream, source) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (stream, source)
    }
}

fn gateway(kind: DeviceKind) -> Setup {
    Setup::Gateway(GatewaySetup {
        addresses: GATEWAY.map(address).to_vec(),
        service: vec!["100.100.0.0/16".parse().unwrap(), "fd00:100::/64".parse().unwrap()],
        ports: vec![22, 5432],
        mtu: 1420,
        device: Some(kind),
    })
}

fn caller(kind: DeviceKind) -> Setup {
    Setup::Caller(CallerSetup {
        addresses: CALLER.map(address).to_vec(),
        allowed: vec!["100.64.0.0/10".parse().unwrap(), "fd00::/16".parse().unwrap()],
        mtu: 1420,
        device: Some(kind),
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) => tokio::task::block_in_place(|| handle.block_on(future)),
        Err(_) => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
        }
    }
}

fn blocking(socket: UdpSocket) -> UdpSocket {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// The processes that this one has started and not yet reaped: the helpers.
fn children() -> Vec<nix::unistd::Pid> {
    let mine = nix::unistd::getpid().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((before, after)) = stat.rsplit_once(") ") else { continue };
        if after.split(' ').nth(1) == Some(&mine) {
            found.push(nix::unistd::Pid::from_raw(before.split(' ').next().unwrap().parse().unwrap()));
        }
    }
    found
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const GATEWAY: [&str; 2] = ["100.64.0.1", "fd00:64::1"];
const CALLER: [&str; 2] = ["100.64.0.2", "fd00:64::2"];
