//! Sets of IP addresses: `hosts`, `ipsets` and addresses written out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Disjoint ranges of addresses in ascending order, both ends included and of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AddressSet {
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl AddressSet {
    /// Reads an address, a CIDR prefix or a range `first-last`.
    pub(crate) fn parse(text: &str) -> Option<AddressSet> {
        let range = if let Some((first, last)) = text.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first.is_ipv4() != last.is_ipv4() || first > last {
                return None;
            }
            (first, last)
        } else if text.contains('/') {
            let net: IpNet = text.parse().ok()?;
            // 10.0.0.5/8 is either a slip or means the one address: ask which.
            if net.addr() != net.network() {
                return None;
            }
            (net.network(), net.broadcast())
        } else {
            let address = text.parse().ok()?;
            (address, address)
        };
        Some(AddressSet { ranges: vec![range] })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| address <= *last)
    }

    /// The lowest address.
    pub(crate) fn first(&self) -> Option<IpAddr> {
        self.ranges.first().map(|(first, _)| *first)
    }

    /// How many ranges it takes.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Adds every address of `other`.
    pub(crate) fn add(&mut self, other: &AddressSet) {
        self.ranges.extend_from_slice(&other.ranges);
        self.ranges.sort_unstable();
        let mut joined: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(self.ranges.len());
        for (first, last) in self.ranges.drain(..) {
            match joined.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        self.ranges = joined;
    }

    /// Takes every address of `other` away.
    pub(crate) fn remove(&mut self, other: &AddressSet) {
        for (from, to) in &other.ranges {
            let mut left = Vec::with_capacity(self.ranges.len() + 1);
            for (first, last) in self.ranges.drain(..) {
                if last < *from || *to < first {
                    left.push((first, last));
                    continue;
                }
                // INVARIANT: both ranges overlap, so they are of one family and neither step leaves it.
                if first < *from {
                    left.extend(before(*from).map(|end| (first, end)));
                }
                if *to < last {
                    left.extend(after(*to).map(|start| (start, last)));
                }
            }
            self.ranges = left;
        }
    }
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> AddressSet {
        AddressSet::parse(text).unwrap()
    }

    #[test]
    fn adds_and_removes_in_order() {
        let mut net = set("10.0.0.0/8");
        net.remove(&set("10.1.0.0/16"));
        net.add(&set("10.1.2.3"));
        net.add(&set("fd7a::/64"));
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.0.255.255", true),
            ("10.1.0.0", false),
            ("10.1.2.3", true),
            ("10.1.255.255", false),
            ("10.2.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("fd7a::1", true),
            ("fd7b::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(net.contains(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn removing_everything_leaves_nothing() {
        let mut all = set("0.0.0.0/0");
        all.remove(&set("0.0.0.0/0"));
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "web1", "10.0.0.0/33", "10.0.0.2-10.0.0.1", "10.0.0.1-fd7a::1", "10.0.0", "10.0.0.5/8"] {
            assert!(AddressSet::parse(text).is_none(), "{text}");
        }
    }
}
