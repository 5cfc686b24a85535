//! The helper's life: set up once, then answer until the main process has gone.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::ExitCode;

use super::advice::{Attempt, Failure, Step};
use super::device::{self, Opened};
use super::enter::{Entered, enter};
use super::wire::{self, Answer, Ask, Ready, Reply, Request};
use super::{DeviceKind, Setup, destroy, network, sockets};

/// The whole of the hidden subcommand [`super::SUBCOMMAND`].
///
/// Call it before anything else in `main`: a process with several threads cannot move into a user namespace. Started
/// by hand it says so and fails.
#[must_use]
pub fn helper_main() -> ExitCode {
    let input = io::stdin();
    match serve(input.as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the helper has nobody else to tell")]
fn complain(error: &io::Error) {
    eprintln!("sallyport: the network helper is started by `sallyport up` and `sallyport shell`, not by hand: {error}");
}

fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    let Some((request, _)) = wire::receive::<Request>(socket)? else { return Ok(()) };
    let Ask::SetUp(setup) = &request.ask else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message was not a set-up"));
    };
    let entered = match set_up(setup) {
        Ok(stand) => {
            let descriptors: Vec<RawFd> = stand.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            wire::send(socket, &Reply { number: request.number, answer: Answer::Ready(stand.ready) }, &descriptors)?;
            stand.entered
        }
        Err(attempts) => {
            return wire::send(socket, &Reply { number: request.number, answer: Answer::Denied(attempts) }, &[]);
        }
    };
    while let Some((request, _)) = wire::receive::<Request>(socket)? {
        let (answer, descriptors) = match answer(&request.ask, entered) {
            Ok(answered) => answered,
            Err(Failure { step, source }) => {
                (Answer::Failed { step, errno: source.raw_os_error().unwrap_or(nix::libc::EIO) }, Vec::new())
            }
        };
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        wire::send(socket, &Reply { number: request.number, answer }, &numbers)?;
    }
    Ok(())
}

/// A namespace that stands, and the descriptors to send.
struct Stand {
    entered: Entered,
    ready: Ready,
    descriptors: Vec<OwnedFd>,
}

fn set_up(setup: &Setup) -> Result<Stand, Vec<Attempt>> {
    let single = |failure: Failure| vec![Attempt::new(&failure)];
    let entered = enter().map_err(single)?;
    let mut notes = network::tune(setup);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().step("start a runtime").map_err(single)?;
    let (opened, failed) = runtime.block_on(open_device(setup))?;
    notes.extend(failed.iter().map(ToString::to_string));
    notes.extend(opened.notes);
    runtime.block_on(network::configure(setup)).map_err(|failure| {
        let mut attempts = failed;
        attempts.push(Attempt::new(&failure));
        attempts
    })?;
    let listeners = sockets::listen(setup, &mut notes).map_err(single)?;
    let mut descriptors = vec![opened.device.fd];
    let mut addresses = Vec::new();
    for (address, socket) in listeners {
        addresses.push(address);
        descriptors.push(socket);
    }
    let ready = Ready { kind: opened.device.kind, offloads: opened.device.offloads, listeners: addresses, notes };
    Ok(Stand { entered, ready, descriptors })
}

/// The best kind of device that works, and why those before it did not.
async fn open_device(setup: &Setup) -> Result<(Opened, Vec<Attempt>), Vec<Attempt>> {
    let (wanted, mtu) = match setup {
        Setup::Gateway(gateway) => (gateway.device, gateway.mtu),
        Setup::Caller(caller) => (caller.device, caller.mtu),
    };
    let mut attempts = Vec::new();
    for kind in [DeviceKind::Tun, DeviceKind::Packet] {
        if wanted.is_some_and(|wanted| wanted != kind) {
            continue;
        }
        match device::open(kind, mtu).await {
            Ok(opened) => return Ok((opened, attempts)),
            Err(failure) => attempts.push(Attempt::new(&failure)),
        }
    }
    Err(attempts)
}

fn answer(ask: &Ask, entered: Entered) -> Result<(Answer, Vec<OwnedFd>), Failure> {
    match ask {
        Ask::SetUp(_) => Err(io::Error::from_raw_os_error(nix::libc::EALREADY)).step("set up a second time"),
        Ask::TcpSocket(destination) => Ok((Answer::Descriptors, vec![sockets::tcp(*destination)?])),
        Ask::UdpBind(address) => Ok((Answer::Descriptors, vec![sockets::udp(*address)?])),
        Ask::Destroy(remote) => Ok((Answer::Destroyed(destroy_connections(*remote)?), Vec::new())),
        Ask::Namespaces => Ok((Answer::Descriptors, namespaces(entered)?)),
    }
}

fn destroy_connections(remote: IpAddr) -> Result<u32, Failure> {
    destroy::connections_of(remote).step("end the connections of an address (SOCK_DESTROY)")
}

fn namespaces(entered: Entered) -> Result<Vec<OwnedFd>, Failure> {
    let open = |path: &str| File::open(path).map(OwnedFd::from).step(format!("open {path}"));
    let mut descriptors = vec![open("/proc/self/ns/net")?];
    if entered == Entered::UserAndNetwork {
        descriptors.push(open("/proc/self/ns/user")?);
    }
    Ok(descriptors)
}
