//! The tailnet's plan of addresses, and which one the next device or target gets. Pure arithmetic: the state remembers.
//!
//! The IPv4 prefix is cut in two: devices have the lower half, with the gateway at its first address; targets have the
//! upper half. An IPv6 address is the IPv6 prefix with the IPv4 address in its last 32 bits, so that one number names both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::{SignedDuration, Timestamp};

/// The two prefixes of a tailnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

/// Who an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The lower half: devices, and the gateway.
    Devices,
    /// The upper half, which the gateway answers for: targets.
    Services,
}

/// An address that was given out at some time.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The address.
    pub address: Ipv4Addr,
    /// When its holder was removed; none for as long as it has one.
    pub released: Option<Timestamp>,
}

impl Plan {
    /// The plan of a tailnet with these prefixes: IPv4 of at most /24, IPv6 of at most /96.
    #[must_use]
    pub fn new(v4: Ipv4Net, v6: Ipv6Net) -> Self {
        Self { v4: v4.trunc(), v6: v6.trunc() }
    }

    /// Both prefixes of the whole tailnet.
    #[must_use]
    pub fn prefix(&self) -> (Ipv4Net, Ipv6Net) {
        (self.v4, self.v6)
    }

    /// The gateway's own addresses.
    #[must_use]
    pub fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        let v4 = Ipv4Addr::from_bits(self.v4.network().to_bits() + 1);
        (v4, self.v6_of(v4))
    }

    /// The prefixes that targets have their addresses in.
    #[must_use]
    pub fn services(&self) -> (Ipv4Net, Ipv6Net) {
        let (first, _) = self.range(Half::Services);
        // Neither length can be wrong: the prefixes are at most /24 and /96, and longer by one here.
        let v4 = Ipv4Net::new(first, self.v4.prefix_len() + 1).unwrap_or(self.v4);
        let v6 = Ipv6Net::new(self.v6_of(first), 96 + v4.prefix_len()).unwrap_or(self.v6);
        (v4, v6)
    }

    /// An IPv4 address with its IPv6 companion.
    #[must_use]
    pub fn both(&self, v4: Ipv4Addr) -> Vec<IpAddr> {
        vec![IpAddr::V4(v4), IpAddr::V6(self.v6_of(v4))]
    }

    /// Whether `address` is one of the tailnet's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.contains(&v4),
            IpAddr::V6(v6) => self.v6.contains(&v6),
        }
    }

    /// Whether `address` may be given to someone of this half.
    #[must_use]
    pub fn has(&self, half: Half, address: Ipv4Addr) -> bool {
        let (first, last) = self.range(half);
        (first..=last).contains(&address) && self.v4.contains(&address)
    }

    /// The next address of `half`: the lowest one that nobody has had yet, so that a new device is never mistaken for an
    /// old one; once all have been given out, the one that has been free for longest, [`REST`] at least.
    #[must_use]
    pub fn next(&self, half: Half, taken: &[Taken], now: Timestamp) -> Option<Ipv4Addr> {
        let (first, last) = self.range(half);
        let mut known: Vec<u32> = taken.iter().map(|taken| taken.address.to_bits()).collect();
        known.sort_unstable();
        known.dedup();
        let mut candidate = first.to_bits();
        for address in known.into_iter().skip_while(|address| *address < first.to_bits()) {
            if address != candidate {
                break;
            }
            candidate += 1;
        }
        if candidate <= last.to_bits() {
            return Some(Ipv4Addr::from_bits(candidate));
        }
        let rested = |released: &Timestamp| now.duration_since(*released) >= REST;
        let free = taken.iter().filter(|taken| self.has(half, taken.address));
        let free = free.filter_map(|taken| taken.released.filter(rested).map(|released| (released, taken.address)));
        free.min().map(|(_, address)| address)
    }

    /// The first and last address that may be given out: without the network's own, the gateway's and the broadcast one.
    fn range(&self, half: Half) -> (Ipv4Addr, Ipv4Addr) {
        let network = self.v4.network().to_bits();
        let middle = network | (1 << (31 - self.v4.prefix_len()));
        let (first, last) = match half {
            Half::Devices => (network + 2, middle - 1),
            Half::Services => (middle, self.v4.broadcast().to_bits() - 1),
        };
        (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last))
    }

    fn v6_of(&self, v4: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.v6.network().to_bits() | u128::from(v4.to_bits()))
    }
}

/// A unique local prefix of our own: `fd` and 40 random bits (RFC 4193, 3.2).
#[must_use]
pub fn random_prefix6() -> Ipv6Net {
    let global: u64 = rand::random::<u64>() & ((1 << 40) - 1);
    let bits = (0xfd << 120) | (u128::from(global) << 80);
    Ipv6Net::new(Ipv6Addr::from_bits(bits), 48).unwrap_or_default()
}

/// How long an address rests after a removal before another may have it, when there is no other left.
pub const REST: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(v4: &str) -> Plan {
        Plan::new(v4.parse().unwrap(), "fd12:3456:789a::/48".parse().unwrap())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn held(address: u32) -> Taken {
        Taken { address: Ipv4Addr::from_bits(address), released: None }
    }

    #[test]
    fn cuts_the_default_prefix_as_documented() {
        let plan = plan("100.64.0.0/16");
        assert_eq!(plan.gateway().0.to_string(), "100.64.0.1");
        assert_eq!(plan.gateway().1.to_string(), "fd12:3456:789a::6440:1");
        assert_eq!(plan.services().0.to_string(), "100.64.128.0/17");
        assert_eq!(plan.services().1.to_string(), "fd12:3456:789a::6440:8000/113");
        assert_eq!(plan.next(Half::Devices, &[], at(0)).unwrap().to_string(), "100.64.0.2");
        assert_eq!(plan.next(Half::Services, &[], at(0)).unwrap().to_string(), "100.64.128.0");
    }

    #[test]
    fn prefers_an_address_nobody_has_had() {
        let plan = plan("10.1.2.0/24");
        let first = u32::from(Ipv4Addr::new(10, 1, 2, 2));
        let taken = [held(first), Taken { address: Ipv4Addr::from_bits(first + 1), released: Some(at(0)) }];
        assert_eq!(plan.next(Half::Devices, &taken, at(1_000_000)).unwrap().to_string(), "10.1.2.4");
    }

    #[test]
    fn takes_the_longest_free_address_when_none_is_new_and_lets_it_rest_first() {
        let plan = plan("10.1.2.0/24");
        let first = u32::from(Ipv4Addr::new(10, 1, 2, 2));
        let mut taken: Vec<Taken> = (0..126).map(|offset| held(first + offset)).collect();
        assert_eq!(plan.next(Half::Devices, &taken, at(0)), None);
        taken[5].released = Some(at(50));
        taken[9].released = Some(at(10));
        assert_eq!(plan.next(Half::Devices, &taken, at(86_000)), None, "all free ones still rest");
        assert_eq!(plan.next(Half::Devices, &taken, at(86_500)).unwrap().to_string(), "10.1.2.11");
    }

    #[test]
    fn never_gives_out_the_ends_or_the_gateway() {
        let plan = plan("10.1.2.0/24");
        for (half, count) in [(Half::Devices, 126), (Half::Services, 127)] {
            let mut taken = Vec::new();
            while let Some(address) = plan.next(half, &taken, at(0)) {
                assert!(plan.has(half, address) && address != plan.gateway().0, "{address}");
                taken.push(Taken { address, released: None });
            }
            assert_eq!(taken.len(), count);
        }
        assert!(!plan.has(Half::Services, Ipv4Addr::new(10, 1, 2, 255)));
        assert!(!plan.has(Half::Devices, Ipv4Addr::new(10, 1, 2, 0)));
    }

    #[test]
    fn draws_unique_local_prefixes() {
        let (one, other) = (random_prefix6(), random_prefix6());
        assert_ne!(one, other);
        assert!(one.network().is_unique_local() && one.prefix_len() == 48);
    }
}
