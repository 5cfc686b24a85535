//! What a network card would do: cut large packets up, join small ones together, compute checksums.
//!
//! Pure functions on bytes. The kernel hands us TCP packets of up to 64 kB with a virtio-net header that says how to
//! cut them ([`Segments`]), and takes joined ones from us ([`Merger`]); one trip through its network stack for fifty
//! packets is what makes the data plane fast. Source: the virtio specification 1.2, section 5.1.6.

mod checksum;
mod merge;
mod split;
mod virtio;

pub(crate) use checksum::{finish_transport, icmp_checksum, is_intact, renew_ipv4};
pub(crate) use merge::{MAX_PIECES, Merger};
pub(crate) use split::Segments;
pub(crate) use virtio::{VIRTIO_HEADER, VirtioHeader};
