//! One TCP stream through the data plane, beside the same stream between two wireguard-go.

use crate::{Figure, ROUNDS, alternate};
use e2e::{Namespace, Process, run, wait_until};
use sallyport_tailnet::{Config, Peer, PrivateKey, Stream, Tailnet};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Two machines joined by a cable, and a tunnel between them.
struct Pair {
    gateway: Namespace,
    caller: Namespace,
    _programs: Vec<Process>,
    /// What comes before a command for it to run inside the tunnel.
    inside: Vec<String>,
}

pub(crate) fn figures() -> Vec<Figure> {
    let folder = tempfile::tempdir().unwrap();
    let theirs = wireguard_go(folder.path());
    let ours = sallyport(folder.path());
    let down = alternate(ROUNDS, || theirs.measure("down"), || ours.measure("down"));
    let up = alternate(ROUNDS, || theirs.measure("up"), || ours.measure("up"));
    let figure = |name: &str, unit, (direct, ours): (f64, f64), goal| Figure {
        name: name.to_owned(),
        unit,
        direct: Some(direct),
        ours,
        goal,
        runs: ROUNDS,
    };
    vec![
        figure("data plane beside wireguard-go, to the caller", "Gb/s", down[0], "ratio >= 4"),
        figure("data plane beside wireguard-go, to the gateway", "Gb/s", up[0], "ratio >= 4"),
        figure("CPU of both ends, to the caller", "s/GB", down[1], "ratio <= 0.2"),
        figure("CPU of both ends, to the gateway", "s/GB", up[1], "ratio <= 0.2"),
    ]
}

impl Pair {
    /// Gigabits a second, and CPU seconds a gigabyte of everything on both machines.
    fn measure(&self, direction: &str) -> [f64; 2] {
        let before = self.gateway.cpu_seconds() + self.caller.cpu_seconds();
        let mut command = self.caller.command(&self.inside[0]);
        command.args(&self.inside[1..]).arg(own()).args(["stream", SERVER, direction]);
        let printed = run(command, b"").ok();
        let mut numbers = printed.split_whitespace().map(|number| number.parse::<f64>().unwrap());
        let (seconds, own_cpu) = (numbers.next().unwrap(), numbers.next().unwrap());
        let cpu = self.gateway.cpu_seconds() + self.caller.cpu_seconds() - before + own_cpu;
        let gigabytes = f64::from(u32::try_from(BYTES / 1_000_000).unwrap()) / 1000.0;
        [gigabytes * 8.0 / seconds, cpu / gigabytes]
    }
}

fn cable() -> (Namespace, Namespace) {
    let (gateway, caller) = (Namespace::new(), Namespace::new());
    gateway.join(("out", &["10.201.0.1/24"]), &caller, ("out", &["10.201.0.2/24"]));
    (gateway, caller)
}

fn wireguard_go(folder: &Path) -> Pair {
    let (gateway, caller) = cable();
    let (here, there) = (PrivateKey::generate(), PrivateKey::generate());
    let mut programs = Vec::new();
    let sides = [
        (
            &gateway,
            &here,
            format!("{SERVER}/24"),
            format!("ListenPort = 51820\n[Peer]\nPublicKey = {}", there.public()),
        ),
        (
            &caller,
            &there,
            "100.64.128.9/24".to_owned(),
            format!("[Peer]\nPublicKey = {}\nEndpoint = 10.201.0.1:51820", here.public()),
        ),
    ];
    for (machine, key, address, rest) in sides {
        let interface = machine.interface();
        let mut command = machine.command("wireguard-go");
        command.args(["-f", &interface]);
        programs.push(Process::spawn(command, &folder.join(&interface)));
        wait_until("wireguard-go answers", || Path::new(&format!("/var/run/wireguard/{interface}.sock")).exists());
        let file = folder.join(format!("{interface}.conf"));
        let text = format!("[Interface]\nPrivateKey = {}\n{rest}\nAllowedIPs = 0.0.0.0/0\n", key.expose().as_str());
        std::fs::write(&file, text).unwrap();
        let mut wg = machine.command("wg");
        wg.args(["setconf", &interface]).arg(&file);
        let _set = run(wg, b"").ok();
        machine.ip(&["address", "add", &address, "dev", &interface]);
        machine.ip(&["link", "set", &interface, "mtu", "1420", "up"]);
    }
    programs.push(server(&gateway, &folder.join("tcp.log"), &["serve-tcp".to_owned()]));
    Pair { gateway, caller, _programs: programs, inside: vec!["env".to_owned()] }
}

fn sallyport(folder: &Path) -> Pair {
    let (gateway, caller) = cable();
    let device = folder.join("device.conf");
    let programs = vec![tailnet(&gateway, "10.201.0.1:51820", &device, &[])];
    let ours = own().with_file_name("sallyport");
    let inside = [
        "env".to_owned(),
        format!("XDG_RUNTIME_DIR={}", folder.display()),
        ours.display().to_string(),
        "shell".to_owned(),
        "--config".to_owned(),
        device.display().to_string(),
        "--".to_owned(),
    ];
    Pair { gateway, caller, _programs: programs, inside: inside.to_vec() }
}

/// Our data plane alone on this machine, and its one device's file; `to`, if given, is the address where each connection goes.
pub(crate) fn tailnet(machine: &Namespace, endpoint: &str, device: &Path, to: &[String]) -> Process {
    let (here, there) = (PrivateKey::generate(), PrivateKey::generate());
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 100.64.0.9/32, fd00:77::9/128\nDNS = 100.64.0.1\nMTU = 1420\n\n[Peer]\n\
         PublicKey = {}\nAllowedIPs = 100.64.0.0/16, fd00:77::/64\nEndpoint = {endpoint}\n",
        there.expose().as_str(),
        here.public()
    );
    std::fs::write(device, text).unwrap();
    std::fs::set_permissions(device, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (_, port) = endpoint.rsplit_once(':').unwrap();
    let mut words =
        ["serve-tailnet", here.expose().as_str(), &there.public().to_string(), port].map(str::to_owned).to_vec();
    words.extend_from_slice(to);
    server(machine, &device.with_extension("log"), &words)
}

fn server(machine: &Namespace, log: &Path, words: &[String]) -> Process {
    let mut command = machine.command(own());
    command.args(words);
    let process = Process::spawn(command, log);
    wait_until("the server listens", || process.printed().contains("listening"));
    process
}

fn own() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

/// The data plane alone, on a UDP port: every connection is served by [`serve`], or copied to and from an address.
pub(crate) fn serve_tailnet(words: &[String]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config {
            private_key: words[0].parse().unwrap(),
            listen: ([0, 0, 0, 0], words[2].parse().unwrap()).into(),
            gateway: ("100.64.0.1".parse().unwrap(), "fd00:77::1".parse().unwrap()),
            prefix: ("100.64.0.0/16".parse().unwrap(), "fd00:77::/64".parse().unwrap()),
            service: ("100.64.128.0/17".parse().unwrap(), "fd00:77:0:0:1::/80".parse().unwrap()),
            ports: vec![PORT],
            mtu: 1420,
            backend: None,
        };
        let peer = Peer {
            key: words[1].parse().unwrap(),
            preshared: None,
            addresses: vec!["100.64.0.9".parse().unwrap(), "fd00:77::9".parse().unwrap()],
            endpoint: None,
            keepalive: None,
        };
        let (_tailnet, mut arrivals) = Tailnet::start(config, vec![peer]).await.unwrap();
        println!("listening");
        while let Some(arrival) = arrivals.next().await {
            let Stream::Tcp(stream) = arrival.stream else { continue };
            match words.get(3) {
                None => drop(tokio::spawn(serve(stream))),
                Some(address) => drop(tokio::spawn(copy(stream, address.clone()))),
            }
        }
    });
}

/// The same server on the machine's own network, for wireguard-go.
pub(crate) fn serve_tcp() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind(("0.0.0.0", PORT)).await.unwrap();
        println!("listening");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
}

/// Copies between a stream and another one to this address, as a router would have passed its packets on.
async fn copy(mut stream: tokio::net::TcpStream, address: String) -> std::io::Result<()> {
    let mut there = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    there.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut there, 256 * 1024, 256 * 1024).await.map(drop)
}

/// Sends or takes [`BYTES`], as the first byte wants.
async fn serve(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    if stream.read_u8().await? == b'd' {
        let mut left = BYTES;
        while left > 0 {
            let part = left.min(buffer.len());
            stream.write_all(&buffer[..part]).await?;
            left -= part;
        }
        return stream.shutdown().await;
    }
    let mut taken = 0;
    while taken < BYTES {
        taken += stream.read(&mut buffer).await?;
    }
    stream.write_u8(0).await
}

/// The client: prints the seconds it took and the CPU seconds that it used itself.
pub(crate) fn stream(words: &[String]) {
    let mut stream = std::net::TcpStream::connect((words[0].as_str(), PORT)).unwrap();
    let started = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    if words[1] == "down" {
        stream.write_all(b"d").unwrap();
        while stream.read(&mut buffer).unwrap() > 0 {}
    } else {
        stream.write_all(b"u").unwrap();
        for _part in 0..BYTES / buffer.len() {
            stream.write_all(&buffer).unwrap();
        }
        stream.write_all(&buffer[..BYTES % buffer.len()]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: f64 =
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|t| t.parse::<f64>().unwrap()).sum();
    println!("{seconds} {}", ticks / 100.0);
}

/// Bytes of one stream: 200 MB.
const BYTES: usize = 200_000_000;
const PORT: u16 = 22;
/// An address that leads to the server in both worlds.
const SERVER: &str = "100.64.128.1";
