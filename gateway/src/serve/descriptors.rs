//! How many connections the descriptors of this process last for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sallyport_tailnet::PublicKey;

use crate::dns;
use crate::places::Places;

/// Places for as many connections as this process may open files for; it is allowed as many as can be had.
pub(super) fn places() -> Places<PublicKey> {
    let (all, each) = shared(descriptors());
    Places::new(all, each)
}

/// How many connections there may be, and how many of one device, so that running out of descriptors ends nobody's recording.
fn shared(descriptors: usize) -> (usize, usize) {
    let all = (descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_CONNECTION).clamp(1, MAX_CONNECTIONS);
    (all, (all / DEVICE_SHARE).clamp(1, MAX_PER_DEVICE))
}

/// Raises the soft limit of open files to the hard one, and says what it is.
fn descriptors() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((DEFAULT_DESCRIPTORS, DEFAULT_DESCRIPTORS));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Connections at the same time, of everyone together, however many descriptors there are.
const MAX_CONNECTIONS: usize = 16_384;
/// Connections at the same time, of one device.
const MAX_PER_DEVICE: usize = 1_024;
/// A device may take so many of the places: one of this many parts.
const DEVICE_SHARE: usize = 2;
/// Descriptors that a session needs at the most: two connections, its recording's folder and those above it, the files that are
/// written (however many channels there are) and as many that are synced, and what is opened in passing.
const DESCRIPTORS_PER_CONNECTION: usize = 16;
/// Descriptors that the gateway itself needs, its resolver's questions included.
const DESCRIPTORS_KEPT: usize = 256 + dns::MAX_FORWARDED;
/// What a process may have open where nobody has said otherwise.
const DEFAULT_DESCRIPTORS: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_descriptors_last_for_and_a_device_has_a_share_of_them() {
        for (descriptors, all, each) in [(0, 1, 1), (1_024, 32, 16), (20_000, 1_218, 609), (1 << 20, 16_384, 1_024)] {
            assert_eq!(shared(descriptors), (all, each), "{descriptors}");
        }
    }
}
