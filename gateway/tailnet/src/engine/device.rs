//! Where the engine's packets go: a device of the kernel's, or the stack in this process.
//!
//! A kernel's device is a descriptor: one packet each read and write, after a virtio header and, on a packet socket, an
//! Ethernet header.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

use crate::offload::{MAX_PIECES, VIRTIO_HEADER, VirtioHeader};
use crate::userspace::Stack;

/// Where IP packets go in and come out.
#[derive(Debug)]
pub(crate) enum Device {
    Kernel(KernelDevice),
    Stack(Arc<Stack>),
}

/// A device of the kernel's.
#[derive(Debug)]
pub(crate) struct KernelDevice {
    fd: AsyncFd<OwnedFd>,
    link: Link,
}

/// What comes between the virtio header and the IP packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    /// Nothing: a TUN device.
    Ip,
    /// An Ethernet header to this address, which the virtio header's offsets count in: a packet socket.
    Ethernet([u8; 6]),
}

impl Device {
    /// Takes a non-blocking descriptor. Must be called inside a tokio runtime.
    pub(crate) fn kernel(fd: OwnedFd, link: Link) -> io::Result<Self> {
        KernelDevice::new(fd, link).map(Self::Kernel)
    }

    /// Waits for packets, then hands them to `take` one after the other until none is left or `take` says stop.
    ///
    /// # Errors
    /// When the device is gone.
    pub(crate) async fn read(
        &self,
        frame: &mut [u8],
        take: &mut (dyn FnMut(VirtioHeader, &mut [u8]) -> Next + Send),
    ) -> io::Result<()> {
        match self {
            Self::Kernel(device) => device.read(frame, take).await,
            Self::Stack(stack) => {
                stack.read(take).await;
                Ok(())
            }
        }
    }

    /// Writes one packet, given as pieces of `arena`. Dropped, as IP allows, when the device has no room.
    ///
    /// # Errors
    /// As `writev`.
    pub(crate) fn write(&self, virtio: VirtioHeader, arena: &[u8], pieces: &[Range<usize>]) -> io::Result<()> {
        match self {
            Self::Kernel(device) => device.write(virtio, arena, pieces),
            Self::Stack(stack) => {
                stack.take(virtio, arena, pieces);
                Ok(())
            }
        }
    }
}

impl KernelDevice {
    /// Takes a non-blocking descriptor. Must be called inside a tokio runtime.
    #[expect(unsafe_code, reason = "the runtime cannot see that a descriptor stays open while it watches it")]
    fn new(fd: OwnedFd, link: Link) -> io::Result<Self> {
        // SAFETY: the descriptor is owned by the AsyncFd, always the same, and closed only when that is dropped.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd, link })
    }

    async fn read(
        &self,
        frame: &mut [u8],
        take: &mut (dyn FnMut(VirtioHeader, &mut [u8]) -> Next + Send),
    ) -> io::Result<()> {
        let mut ready = self.fd.readable().await?;
        loop {
            match nix::unistd::read(self.fd.get_ref(), frame) {
                Ok(length) => {
                    let Some((virtio, packet)) = self.open(frame, length) else { continue };
                    if let Next::Stop = take(virtio, packet) {
                        return Ok(());
                    }
                }
                Err(nix::Error::EAGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&self, virtio: VirtioHeader, arena: &[u8], pieces: &[Range<usize>]) -> io::Result<()> {
        let piece = |range: &Range<usize>| arena.get(range.clone()).unwrap_or_default();
        let head = pieces.first().map(piece).unwrap_or_default();
        let mut front = [0; VIRTIO_HEADER + ETHERNET_HEADER];
        let front = match self.link {
            Link::Ip => fill(&mut front, &[&virtio.to_bytes()]),
            Link::Ethernet(to) => {
                let kind: &[u8] = if head.first().is_some_and(|first| first >> 4 == 6) { &IPV6 } else { &IPV4 };
                let virtio = virtio.shifted(ETHERNET_HEADER_U16).to_bytes();
                fill(&mut front, &[&virtio, &to, &OWN_MAC, kind])
            }
        };
        let mut slices = [IoSlice::new(&[]); MAX_PIECES + 1];
        for (slice, bytes) in slices.iter_mut().zip(std::iter::once(front).chain(pieces.iter().map(piece))) {
            *slice = IoSlice::new(bytes);
        }
        let slices = slices.get(..=pieces.len()).unwrap_or_default();
        nix::sys::uio::writev(self.fd.get_ref().as_fd(), slices)?;
        Ok(())
    }

    /// The packet in a frame as it was read.
    fn open<'a>(&self, frame: &'a mut [u8], length: usize) -> Option<(VirtioHeader, &'a mut [u8])> {
        let virtio = VirtioHeader::read(frame)?;
        match self.link {
            Link::Ip => Some((virtio, frame.get_mut(VIRTIO_HEADER..length)?)),
            Link::Ethernet(_) => {
                let packet = frame.get_mut(VIRTIO_HEADER + ETHERNET_HEADER..length)?;
                Some((virtio.unshifted(ETHERNET_HEADER_U16), packet))
            }
        }
    }
}

/// Whether to read on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    More,
    Stop,
}

/// Puts parts one after the other into `front`.
fn fill<'a>(front: &'a mut [u8], parts: &[&[u8]]) -> &'a [u8] {
    let mut length = 0;
    for (to, from) in front.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
        length += 1;
    }
    front.get(..length).unwrap_or_default()
}

/// A frame's longest: headers and a packet of 64 kB.
pub(crate) const FRAME: usize = VIRTIO_HEADER + ETHERNET_HEADER + 65_575;
const ETHERNET_HEADER: usize = 14;
const ETHERNET_HEADER_U16: u16 = 14;
/// Our end of the veth pair: any address of the locally administered kind.
const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// EtherTypes.
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
