//! A gateway's data plane with one device: a DNS server that knows one name, and an echo on port 22.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sallyport_tailnet::{Arrivals, Config, Datagrams, Peer, PrivateKey, Tailnet};
use tokio::io::AsyncWriteExt;

/// A running data plane; it stops when dropped.
pub(crate) struct Gateway {
    _runtime: tokio::runtime::Runtime,
}

impl Gateway {
    /// Starts it and writes the device's file.
    pub(crate) fn start(file: &Path) -> Result<Self, sallyport_tailnet::Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (private, device) = (PrivateKey::generate(), PrivateKey::generate());
        let config = Config {
            private_key: private.clone(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            gateway: (Ipv4Addr::new(100, 64, 0, 1), "fd00:64::1".parse().unwrap()),
            prefix: ("100.64.0.0/16".parse().unwrap(), "fd00:64::/64".parse().unwrap()),
            service: ("100.64.128.0/17".parse().unwrap(), "fd00:64::8000:0/97".parse().unwrap()),
            ports: vec![22],
            mtu: 1280,
            backend: None,
        };
        let peer =
            Peer { key: device.public(), preshared: None, addresses: DEVICE.to_vec(), endpoint: None, keepalive: None };
        let address = runtime.block_on(async {
            let (tailnet, arrivals) = Tailnet::start(config, vec![peer]).await?;
            let datagrams = tailnet.udp(53).await?;
            tokio::spawn(answer_names(datagrams));
            let address = tailnet.local_addr();
            tokio::spawn(echo(tailnet, arrivals));
            Ok::<_, sallyport_tailnet::Error>(address)
        })?;
        write_private(file, &device_file(&device, &private, address.unwrap()));
        Ok(Self { _runtime: runtime })
    }
}

/// A device's file as `sallyport device add` prints it.
pub(crate) fn device_file(device: &PrivateKey, gateway: &PrivateKey, endpoint: SocketAddr) -> String {
    let (device, gateway) = (device.expose(), gateway.public());
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = {}/32, {}/128\nDNS = 100.64.0.1, fd00:64::1, corp.internal\nMTU = 1280\n\n\
         [Peer]\nPublicKey = {gateway}\nAllowedIPs = 100.64.0.1/32, fd00:64::1/128, 100.64.128.0/17, fd00:64::8000:0/97\n\
         Endpoint = {endpoint}\nPersistentKeepalive = 25\n",
        device.as_str(),
        DEVICE[0],
        DEVICE[1],
    )
}

/// Writes a file that its owner alone may read.
pub(crate) fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

async fn echo(tailnet: Tailnet, mut arrivals: Arrivals) {
    while let Some(arrival) = arrivals.next().await {
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(arrival.stream);
            // Whoever hangs up has heard enough.
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
    }
    drop(tailnet);
}

/// Answers for web1.corp.internal, A and AAAA, and denies every other name (RFC 1035, section 4.1).
async fn answer_names(mut datagrams: Datagrams) {
    let mut buffer = [0; 1500];
    while let Ok((length, source)) = datagrams.recv_from(&mut buffer).await {
        let question = &buffer[..length];
        let name = b"\x04web1\x04corp\x08internal\0";
        let known = question[12..].starts_with(name);
        let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let kind = u16::from_be_bytes([question[name_end], question[name_end + 1]]);
        let data = match (known, kind) {
            (true, 1) => WEB1.0.octets().to_vec(),
            (true, 28) => WEB1.1.octets().to_vec(),
            _ => Vec::new(),
        };
        let answers = u8::from(!data.is_empty());
        let mut reply = question[..name_end + 4].to_vec();
        reply[2..12].copy_from_slice(&[0x84, if known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
        if answers == 1 {
            reply.extend([
                0xc0,
                12,
                0,
                u8::try_from(kind).unwrap(),
                0,
                1,
                0,
                0,
                0,
                5,
                0,
                u8::try_from(data.len()).unwrap(),
            ]);
            reply.extend(data);
        }
        datagrams.send_to(&reply, source).await.unwrap();
    }
}

/// The device's addresses.
const DEVICE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 2))];

/// The addresses of web1.
const WEB1: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(100, 64, 128, 1), Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0x8000, 1));
