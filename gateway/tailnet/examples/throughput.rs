//! How fast one TCP stream is through the data plane, and what it costs: two processes, each with a private namespace,
//! and WireGuard between them on the loopback.
//!
//! `throughput [seconds] [tun|packet]` prints a line of JSON for each direction, seen from the client: gigabits a
//! second, and the CPU seconds that the gateway's process spent on a gigabyte, its kernel's share included.
#![expect(clippy::print_stdout, reason = "printing figures is its job")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use sallyport_tailnet::{Arrival, Arrivals, BackendKind, Config, DEFAULT_MTU, Peer, PrivateKey, Tailnet, netns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == netns::SUBCOMMAND) {
        return netns::helper_main();
    }
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &[String]) -> Outcome<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["client", own, gateway, port, seconds, backend] => {
            runtime.block_on(client(own.parse()?, gateway, port.parse()?, seconds.parse()?, kind(backend)))
        }
        rest => {
            let seconds = rest.first().copied().unwrap_or("5");
            runtime.block_on(gateway(seconds, rest.get(1).copied().unwrap_or("tun")))
        }
    }
}

/// Serves `d` (send until the client hangs up) and `u` (take everything), and says what each cost.
async fn gateway(seconds: &str, backend: &str) -> Outcome<()> {
    let (own, device) = (PrivateKey::generate(), PrivateKey::generate());
    let peer =
        Peer { key: device.public(), preshared: None, addresses: vec![CLIENT.into()], endpoint: None, keepalive: None };
    let gateway_key = own.public();
    let (tailnet, arrivals) = Tailnet::start(config(own, GATEWAY, SERVICE, kind(backend)), vec![peer]).await?;
    let port = tailnet.local_addr().map_or(0, |address| address.port()).to_string();
    let mut client = Command::new("/proc/self/exe")
        .args(["client", &device.expose(), &gateway_key.to_string(), &port, seconds, backend])
        .stdout(Stdio::piped())
        .spawn()?;
    let served = tokio::spawn(serve(arrivals));
    let lines = BufReader::new(client.stdout.take().ok_or("no output")?).lines();
    tokio::task::spawn_blocking(move || lines.map_while(Result::ok).for_each(|line| println!("{line}"))).await?;
    client.wait()?;
    served.abort();
    Ok(())
}

async fn serve(mut arrivals: Arrivals) {
    while let Some(Arrival { mut stream, flow, .. }) = arrivals.next().await {
        let (start, before) = (Instant::now(), cpu());
        let mut buffer = vec![0; 256 * 1024];
        let way = stream.read_u8().await.unwrap_or_default();
        let mut bytes = 0;
        loop {
            let moved = if way == b'd' { stream.write(&buffer).await } else { stream.read(&mut buffer).await };
            match moved {
                Ok(0) | Err(_) => break,
                Ok(moved) => bytes += moved as u64,
            }
        }
        drop(flow);
        let direction = if way == b'd' { "down" } else { "up" };
        report("gateway", direction, bytes, start.elapsed(), cpu() - before);
    }
}

async fn client(own: PrivateKey, gateway: &str, port: u16, seconds: u64, backend: Option<BackendKind>) -> Outcome<()> {
    let peer = Peer {
        key: gateway.parse()?,
        preshared: None,
        addresses: vec![TARGET.into()],
        endpoint: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        keepalive: None,
    };
    // The client is a gateway too, of a tailnet in which the target is a device: it needs no more to dial.
    let (tailnet, _arrivals) = Tailnet::start(config(own, CLIENT, "10.99.0.0/24", backend), vec![peer]).await?;
    for way in [b'd', b'u'] {
        let mut stream = tailnet.dial(SocketAddr::from((TARGET, PORT))).await?;
        stream.write_u8(way).await?;
        let (start, before) = (Instant::now(), cpu());
        let mut buffer = vec![0; 256 * 1024];
        let mut bytes = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            let moved = if way == b'd' { stream.read(&mut buffer).await? } else { stream.write(&buffer).await? };
            bytes += moved as u64;
        }
        report("client", if way == b'd' { "down" } else { "up" }, bytes, start.elapsed(), cpu() - before);
        drop(stream);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

fn config(private_key: PrivateKey, own: Ipv4Addr, service: &str, backend: Option<BackendKind>) -> Config {
    let v6 = |text: &str| text.parse().unwrap_or_default();
    Config {
        private_key,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        gateway: (own, Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(own.to_bits()))),
        prefix: ("100.64.0.0/10".parse().unwrap_or_default(), v6("fd00::/48")),
        service: (service.parse().unwrap_or_default(), v6("fd00:0:0:1::/64")),
        ports: vec![PORT],
        mtu: DEFAULT_MTU,
        backend,
    }
}

fn kind(name: &str) -> Option<BackendKind> {
    Some(if name == "packet" { BackendKind::Packet } else { BackendKind::Tun })
}

/// CPU time of this process so far, the kernel's on its behalf included.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    let times = usage.map(|usage| [usage.user_time(), usage.system_time()]).into_iter().flatten();
    times.map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).unsigned_abs())).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn report(who: &str, direction: &str, bytes: u64, took: Duration, cpu: Duration) {
    let gigabits = bytes as f64 * 8.0 / took.as_secs_f64() / 1e9;
    let cost = cpu.as_secs_f64() / (bytes as f64 / 1e9);
    println!(
        r#"{{"who": "{who}", "direction": "{direction}", "gigabits_per_second": {gigabits:.2}, "cpu_seconds_per_gigabyte": {cost:.2}}}"#
    );
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const TARGET: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 1);
const SERVICE: &str = "100.100.0.0/16";
const PORT: u16 = 5201;
