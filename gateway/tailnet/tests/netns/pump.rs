//! Carries packets between two devices, whatever their kinds: what the tunnel does in the product.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs::File, io};

use sallyport_tailnet::netns::{DEVICE_MAC, Device, DeviceKind, VNET_HEADER};

/// Carries packets until dropped.
pub(crate) struct Pump {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Where the packets that came out of the first device wanted to go.
    pub(crate) destinations: Destinations,
}

type Destinations = Arc<Mutex<BTreeSet<IpAddr>>>;

impl Pump {
    pub(crate) fn start(one: Device, other: Device) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kinds = (one.kind, other.kind);
        let (one, other) = (File::from(one.fd), File::from(other.fd));
        let (one_again, other_again) = (one.try_clone().unwrap(), other.try_clone().unwrap());
        let (there, back) = (Arc::clone(&stop), Arc::clone(&stop));
        let destinations = Destinations::default();
        let (seen, unused) = (Arc::clone(&destinations), Destinations::default());
        let threads = vec![
            std::thread::spawn(move || carry(one, kinds.0, other, kinds.1, &there, &seen)),
            std::thread::spawn(move || carry(other_again, kinds.1, one_again, kinds.0, &back, &unused)),
        ];
        Self { stop, threads, destinations }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn carry(
    mut from: File,
    from_kind: DeviceKind,
    mut to: File,
    to_kind: DeviceKind,
    stop: &AtomicBool,
    seen: &Destinations,
) {
    let mut buffer = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        loop {
            match from.read(&mut buffer) {
                Ok(length) => {
                    let packet = convert(&buffer[..length], from_kind, to_kind);
                    seen.lock().unwrap().insert(destination(&packet[VNET_HEADER + ethernet(to_kind)..]));
                    // A device that is full or not yet up loses packets, as the network does.
                    let _ = to.write(&packet);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break std::thread::sleep(NAP),
                Err(error) => panic!("reading a {from_kind} device: {error}"),
            }
        }
    }
}

fn convert(packet: &[u8], from: DeviceKind, to: DeviceKind) -> Vec<u8> {
    let mut header: [u8; VNET_HEADER] = packet[..VNET_HEADER].try_into().unwrap();
    let skip = ethernet(from);
    let ip = &packet[VNET_HEADER + skip..];
    let add = ethernet(to);
    let needs_checksum = header[0] & 1 == 1;
    for (field, used) in [(2, header[1] != 0), (6, needs_checksum)] {
        let value = u16::from_ne_bytes([header[field], header[field + 1]]);
        if used {
            let moved = usize::from(value) - skip + add;
            header[field..field + 2].copy_from_slice(&u16::try_from(moved).unwrap().to_ne_bytes());
        }
    }
    let mut converted = header.to_vec();
    if to == DeviceKind::Packet {
        converted.extend(DEVICE_MAC);
        converted.extend([0; 6]);
        converted.extend(if ip[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    }
    converted.extend(ip);
    converted
}

fn destination(ip: &[u8]) -> IpAddr {
    match ip[0] >> 4 {
        4 => IpAddr::from(*ip[16..].first_chunk::<4>().unwrap()),
        _ => IpAddr::from(*ip[24..].first_chunk::<16>().unwrap()),
    }
}

fn ethernet(kind: DeviceKind) -> usize {
    if kind == DeviceKind::Packet { ETHERNET } else { 0 }
}

const ETHERNET: usize = 14;
const NAP: Duration = Duration::from_micros(200);
