//! What the main process and the helper say to each other: one JSON message a packet, with descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Attempt, DeviceKind, Offloads, Setup};

/// One question of the main process. Its number comes back with the answer, so that an answer which came too late is
/// not taken for that of the next question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The first one: make the namespace. Answered by `Ready` with the device and the listeners.
    SetUp(Setup),
    /// A TCP socket for this destination, not connected.
    TcpSocket(SocketAddr),
    /// A UDP socket bound to this address.
    UdpBind(SocketAddr),
    /// End every TCP connection with this remote address.
    Destroy(IpAddr),
    /// Descriptors of the namespaces: the network's, and the user's where there is one.
    Namespaces,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) number: u64,
    pub(super) answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Ready(Ready),
    /// Nothing worked.
    Denied(Vec<Attempt>),
    /// The socket or sockets asked for come with this message.
    Descriptors,
    /// So many connections were ended.
    Destroyed(u32),
    /// What failed, and the system's number for why.
    Failed {
        step: String,
        errno: i32,
    },
}

/// The namespace stands; the device's descriptor comes first, then two listeners for each port.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) kind: DeviceKind,
    pub(super) offloads: Offloads,
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) notes: Vec<String>,
}

/// Sends one message.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than 64 KiB"));
    }
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message; `None` when the other side has gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let (length, descriptors) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = message {
                descriptors.extend(fds.into_iter().map(own));
            }
        }
        if received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was cut short"));
        }
        (received.bytes, descriptors)
    };
    match bytes.get(..length) {
        None | Some([]) => Ok(None),
        Some(message) => Ok(Some((serde_json::from_slice(message)?, descriptors))),
    }
}

#[expect(unsafe_code, reason = "the kernel hands out descriptors as numbers")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// The longest message, in bytes: a set-up with hundreds of prefixes fits.
const MAX_MESSAGE: usize = 64 * 1024;

/// Most descriptors in a message (SCM_MAX_FD of Linux).
const MAX_DESCRIPTORS: usize = 253;
