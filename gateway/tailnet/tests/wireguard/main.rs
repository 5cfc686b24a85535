//! The data plane with a stock peer: wireguard-go, in a network namespace of its own, and `wg` to set it up.
//!
//! Needs root and those programs; reported as skipped where they are missing. It makes two namespaces joined by a veth
//! pair, and removes them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test, and its client dials for itself"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use sallyport_tailnet::{
    Arrival, Arrivals, BackendKind, Config, DEFAULT_MTU, FlowEvent, FlowRecords, Peer, PrivateKey, PublicKey, Tailnet,
    Verdict, netns,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

#[path = "../../../../tests/src/skip.rs"]
mod skip;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [netns::SUBCOMMAND] => netns::helper_main(),
        ["--list", ..] => ExitCode::SUCCESS,
        ["inside", client] => {
            tokio::runtime::Runtime::new().unwrap().block_on(every_case(client));
            ExitCode::SUCCESS
        }
        ["echo", address] => echo(address.parse().unwrap()),
        ["refused", address] => {
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            ExitCode::SUCCESS
        }
        ["hold", address] => hold(address.parse().unwrap()),
        _ => outside(),
    }
}

/// Makes the namespaces and runs the cases in the gateway's.
fn outside() -> ExitCode {
    if !nix::unistd::Uid::effective().is_root() || !["wireguard-go", "wg", "ip"].into_iter().all(is_there) {
        skip::skip("wireguard-go as a peer (it wants root, wireguard-go, wg and ip)");
        return ExitCode::SUCCESS;
    }
    let (gateway, client) = (format!("sp-g-{}", std::process::id()), format!("sp-c-{}", std::process::id()));
    let _namespaces = [Namespace::new(&gateway), Namespace::new(&client)];
    ip(&format!("-n {gateway} link add v0 type veth peer name v1 netns {client}"));
    for (namespace, device, host) in [(&gateway, "v0", 1), (&client, "v1", 2)] {
        ip(&format!("-n {namespace} addr add 192.0.2.{host}/24 dev {device}"));
        ip(&format!("-n {namespace} addr add 2001:db8::{host}/64 dev {device} nodad"));
        ip(&format!("-n {namespace} link set {device} up"));
        ip(&format!("-n {namespace} link set lo up"));
    }
    let inside = inside(&gateway, &["inside", &client]).status().unwrap();
    if inside.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn every_case(client: &str) {
    for (backend, outer) in [
        (BackendKind::Tun, "192.0.2.1"),
        (BackendKind::Packet, "2001:db8::1"),
        (BackendKind::Userspace, "192.0.2.1"),
        (BackendKind::Userspace, "2001:db8::1"),
    ] {
        println!("{backend}, WireGuard over {outer}");
        let outer: IpAddr = outer.parse().unwrap();
        case(client, backend, outer).await;
    }
}

/// One backend, one family outside the tunnel, both inside.
async fn case(client: &str, backend: BackendKind, outer: IpAddr) {
    let (own, device) = (PrivateKey::generate(), PrivateKey::generate());
    let mut peer = Peer {
        key: device.public(),
        preshared: None,
        addresses: vec![DEVICE.0.into(), DEVICE.1.into()],
        endpoint: None,
        keepalive: None,
    };
    let config = |listen| config(&own, listen, backend);
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let (tailnet, arrivals) = Tailnet::start(config(any), vec![peer.clone()]).await.unwrap();
    assert_eq!(tailnet.backend().kind, backend);
    let port = tailnet.local_addr().unwrap().port();
    let mut records = tailnet.flows();
    let (ends, mut ended) = mpsc::channel(8);
    let serving = tokio::spawn(serve(arrivals, peer.key, ends));
    let stock = Stock::start(client, &device, &own, SocketAddr::new(outer, port)).await;

    for address in [SocketAddr::from((TARGET.0, PORT)), SocketAddr::from((TARGET.1, PORT))] {
        run(client, &["echo", &address.to_string()]).await;
        // A connection of the case before may still be saying goodbye through the new tunnel; nobody decides on that.
        let record = loop {
            let record = record_of(&mut records, address).await;
            if record.verdict.is_some() {
                break record;
            }
        };
        assert!(record.rx_bytes > BULK as u64 && record.tx_bytes > BULK as u64, "{record:?}");
        assert_eq!(record.verdict, Some(Verdict::Allowed { session: "echo".to_owned() }));
        assert!(ended.recv().await.unwrap(), "it ends in order");
        println!("  bulk both ways to {address}");
    }
    let closed = SocketAddr::from((TARGET.0, 23));
    run(client, &["refused", &closed.to_string()]).await;
    assert_eq!(record_of(&mut records, closed).await.verdict, None);
    println!("  a closed port leaves a record");

    stock.set(&["listen-port", "41001"]);
    run(client, &["echo", &SocketAddr::from((TARGET.0, PORT)).to_string()]).await;
    assert!(ended.recv().await.unwrap());
    let endpoint = tailnet.peers().first().unwrap().endpoint.unwrap();
    assert_eq!((endpoint.port(), endpoint.is_ipv4()), (41001, outer.is_ipv4()));
    println!("  it roams to {endpoint}");

    let mut holding = inside(client, &["hold", &SocketAddr::from((TARGET.0, PORT)).to_string()]).spawn().unwrap();
    sleep(Duration::from_millis(500)).await;
    assert!(tailnet.remove(&peer.key).await);
    let in_order = timeout(PATIENCE, ended.recv()).await.expect("the connection ends at once").unwrap();
    assert!(!in_order, "it is broken, not closed");
    holding.kill().unwrap();
    holding.wait().unwrap();
    println!("  removing the device breaks its connections");

    serving.abort();
    drop(tailnet);
    sleep(Duration::from_millis(100)).await;
    peer.endpoint = Some(endpoint);
    let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (tailnet, _arrivals) = Tailnet::start(config(listen), vec![peer]).await.unwrap();
    let woken = async {
        while tailnet.peers().first().unwrap().last_handshake.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, woken).await.expect("the restarted gateway wakes its peer");
    println!("  after a restart the session comes back by itself");
}

/// Echoes every connection, checks whose it is, and tells whether it ended in order.
async fn serve(mut arrivals: Arrivals, key: PublicKey, ends: mpsc::Sender<bool>) {
    while let Some(Arrival { stream, device, source, destination, flow }) = arrivals.next().await {
        assert_eq!(device, key);
        assert!([IpAddr::from(DEVICE.0), DEVICE.1.into()].contains(&source.ip()), "{source}");
        assert_eq!(destination.port(), PORT);
        let ends = ends.clone();
        tokio::spawn(async move {
            flow.verdict(Verdict::Allowed { session: "echo".to_owned() });
            let (mut reader, mut writer) = tokio::io::split(stream);
            let copied = tokio::io::copy(&mut reader, &mut writer).await;
            drop((reader, writer, flow));
            let _ = ends.send(copied.is_ok()).await;
        });
    }
}

async fn record_of(records: &mut FlowRecords, destination: SocketAddr) -> sallyport_tailnet::FlowRecord {
    loop {
        match timeout(PATIENCE, records.next()).await.expect("a flow record") {
            Some(FlowEvent::Ended(record)) if record.destination == destination => return record,
            Some(_) => {}
            None => panic!("the data plane has stopped"),
        }
    }
}

/// Sends a pattern, and expects the same back.
fn echo(address: SocketAddr) -> ExitCode {
    let mut stream = TcpStream::connect(address).unwrap();
    let pattern: Vec<u8> = (0..BULK).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = pattern.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    writing.join().unwrap();
    if heard == pattern { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Waits on a silent connection until it breaks.
fn hold(address: SocketAddr) -> ExitCode {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"x").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    let _ = stream.read_exact(&mut byte);
    ExitCode::SUCCESS
}

/// wireguard-go with one peer: us.
struct Stock {
    process: Child,
    device: String,
}

impl Stock {
    async fn start(namespace: &str, own: &PrivateKey, gateway: &PrivateKey, endpoint: SocketAddr) -> Self {
        let device = format!("spw{}{}", std::process::id(), if endpoint.is_ipv4() { "a" } else { "b" });
        let process = Command::new("ip")
            .args(["netns", "exec", namespace, "wireguard-go", "-f", &device])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = format!("/var/run/wireguard/{device}.sock");
        let ready = async {
            while !std::path::Path::new(&socket).exists() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ready).await.expect("wireguard-go starts");
        let stock = Self { process, device };
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("key");
        std::fs::write(&secret, own.expose().as_bytes()).unwrap();
        let (peer, endpoint) = (gateway.public().to_string(), endpoint.to_string());
        let allowed = "100.64.0.0/10,fd00::/48";
        stock.set(&[
            "private-key",
            secret.to_str().unwrap(),
            "peer",
            &peer,
            "allowed-ips",
            allowed,
            "endpoint",
            &endpoint,
        ]);
        let name = &stock.device;
        ip(&format!("-n {namespace} addr add {}/32 dev {name}", DEVICE.0));
        ip(&format!("-n {namespace} addr add {}/128 dev {name} nodad", DEVICE.1));
        ip(&format!("-n {namespace} link set {name} mtu {DEFAULT_MTU} up"));
        ip(&format!("-n {namespace} route add 100.64.0.0/10 dev {name}"));
        ip(&format!("-n {namespace} route add fd00::/48 dev {name}"));
        stock
    }

    fn set(&self, arguments: &[&str]) {
        let status = Command::new("wg").args(["set", &self.device]).args(arguments).status().unwrap();
        assert!(status.success(), "wg set {arguments:?}");
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.device));
    }
}

struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        ip(&format!("netns add {name}"));
        Self(name.to_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn config(own: &PrivateKey, listen: SocketAddr, backend: BackendKind) -> Config {
    Config {
        private_key: own.clone(),
        listen,
        gateway: (Ipv4Addr::new(100, 64, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        prefix: ("100.64.0.0/10".parse().unwrap(), "fd00::/48".parse().unwrap()),
        service: ("100.100.0.0/16".parse().unwrap(), "fd00:0:0:1::/64".parse().unwrap()),
        ports: vec![PORT],
        mtu: DEFAULT_MTU,
        backend: Some(backend),
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// This program again, in a namespace.
fn inside(namespace: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(std::env::current_exe().unwrap()).args(arguments);
    command
}

async fn run(namespace: &str, arguments: &[&str]) {
    let mut command = inside(namespace, arguments);
    let ran = tokio::task::spawn_blocking(move || command.status().unwrap());
    assert!(timeout(PATIENCE, ran).await.expect("an answer in time").unwrap().success(), "{arguments:?}");
}

const DEVICE: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(100, 64, 0, 2), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
const TARGET: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(100, 100, 0, 7), Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 7));
const PORT: u16 = 22;
/// Bytes each way: some thousands of packets.
const BULK: usize = 8 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);
