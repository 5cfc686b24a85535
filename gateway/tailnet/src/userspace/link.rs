//! What smoltcp takes for its network card: one packet in, the egress out, segmentation and checksums left to us.

use std::num::NonZeroUsize;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

use super::egress::{Egress, Frame};
use super::window;
use crate::offload::VirtioHeader;
use crate::packet::TCP;

/// The card during one poll of one connection.
pub(super) struct Link<'a> {
    /// The packet that came, until it is taken.
    packet: Option<&'a [u8]>,
    egress: &'a Egress,
    mtu: u16,
}

impl<'a> Link<'a> {
    pub(super) fn new(packet: Option<&'a [u8]>, egress: &'a Egress, mtu: u16) -> Self {
        Self { packet, egress, mtu }
    }
}

impl Device for Link<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Slot<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Slot<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), Slot { egress: self.egress, meta: PacketMeta::default() }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Slot<'_>> {
        Some(Slot { egress: self.egress, meta: PacketMeta::default() })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu);
        // What comes in has been verified by then (see `stack.rs`); what goes out is finished when it is cut.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        // Not for IPv6: smoltcp 0.14 drops what is longer than the MTU there, to be cut or not.
        capabilities.segmentation.tcpv4 = NonZeroUsize::new(LARGEST);
        capabilities
    }
}

/// The packet that came.
pub(super) struct Received<'t>(&'t [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// A place in the egress.
pub(super) struct Slot<'t> {
    egress: &'t Egress,
    meta: PacketMeta,
}

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = self.egress.memory(length);
        let filled = fill(&mut packet);
        // One that is not to be cut is cut into one, which finishes its checksum.
        let size = self.meta.segmentation_offload_size.map_or(u16::MAX, u16::from);
        let virtio = VirtioHeader::cut_tcp(packet.first().is_some_and(|first| first >> 4 == 6), size);
        window::reduce(&mut packet);
        debug_assert!(crate::packet::Outline::read(&packet).is_some_and(|outline| outline.protocol == TCP));
        self.egress.push(Frame { virtio, packet });
        filled
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}

/// The longest packet that is left to us to cut, in bytes.
const LARGEST: usize = 64_000;
