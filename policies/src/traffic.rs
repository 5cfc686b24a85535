//! Protocols and ports: the `ip` of a grant, the `proto` and the ports of an ACL.

use std::fmt;

/// An IP protocol by its number (IANA, Assigned Internet Protocol Numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// TCP.
    pub const TCP: Protocol = Protocol(6);
    /// UDP.
    pub const UDP: Protocol = Protocol(17);
    const ICMP: Protocol = Protocol(1);
    const ICMPV6: Protocol = Protocol(58);
    const SCTP: Protocol = Protocol(132);

    /// What a rule means that names no protocol.
    pub(crate) const USUAL: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6];

    /// The names that Tailscale knows, and numbers.
    pub(crate) fn parse(text: &str) -> Option<Protocol> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, protocol)| *protocol);
        named.or_else(|| text.parse().ok().filter(|number: &u8| number.to_string() == text).map(Protocol))
    }

    pub(crate) fn has_ports(self) -> bool {
        matches!(self, Protocol::TCP | Protocol::UDP | Protocol::SCTP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "protocol {}", self.0),
        }
    }
}

/// A port of a protocol, such as `tcp:22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The number; 0 for a protocol without ports.
    pub number: u16,
}

impl Port {
    /// Where SSH is spoken.
    pub const SSH: Port = Port::tcp(22);
    /// Where PostgreSQL is spoken.
    pub const POSTGRES: Port = Port::tcp(5432);

    /// A TCP port.
    pub const fn tcp(number: u16) -> Port {
        Port { protocol: Protocol::TCP, number }
    }

    /// A UDP port.
    pub const fn udp(number: u16) -> Port {
        Port { protocol: Protocol::UDP, number }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol.has_ports() { write!(f, "{}:{}", self.protocol, self.number) } else { self.protocol.fmt(f) }
    }
}

/// What a rule lets through: protocols, and on those that have ports, ranges of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// `None` stands for all.
    protocols: Option<Vec<Protocol>>,
    /// `None` stands for all; both ends are included.
    ports: Option<Vec<(u16, u16)>>,
}

impl Traffic {
    /// Reads an entry of a grant's `ip`: `*`, `22`, `tcp:22`, `udp:4000-4100`, `icmp:*`.
    pub(crate) fn parse_grant(text: &str) -> Option<Traffic> {
        if text == "*" {
            return Some(Traffic { protocols: None, ports: None });
        }
        match text.split_once(':') {
            Some((protocol, ports)) => Traffic::of(Some(Protocol::parse(protocol)?), ports),
            None => Traffic::of(None, text),
        }
    }

    /// What an ACL's `proto` and the ports behind a destination say.
    pub(crate) fn of(protocol: Option<Protocol>, ports: &str) -> Option<Traffic> {
        let ports = if ports == "*" {
            None
        } else if protocol.is_some_and(|protocol| !protocol.has_ports()) {
            return None;
        } else {
            Some(ports.split(',').map(|range| parse_range(range.trim())).collect::<Option<Vec<_>>>()?)
        };
        let protocols = Some(protocol.map_or_else(|| Protocol::USUAL.to_vec(), |one| vec![one]));
        Some(Traffic { protocols, ports })
    }

    pub(crate) fn covers(&self, port: Port) -> bool {
        let protocol = self.protocols.as_ref().is_none_or(|protocols| protocols.contains(&port.protocol));
        let number =
            self.ports.as_ref().is_none_or(|ranges| ranges.iter().any(|(a, b)| (*a..=*b).contains(&port.number)));
        protocol && number
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    // `parse` alone would let "+22" through.
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
        None => number(text).map(|one| (one, one)),
    }
}

const NAMES: [(&str, Protocol); 13] = [
    ("tcp", Protocol::TCP),
    ("udp", Protocol::UDP),
    ("icmp", Protocol::ICMP),
    ("ipv6-icmp", Protocol::ICMPV6),
    ("sctp", Protocol::SCTP),
    ("igmp", Protocol(2)),
    ("ipv4", Protocol(4)),
    ("ip-in-ip", Protocol(4)),
    ("egp", Protocol(8)),
    ("igp", Protocol(9)),
    ("gre", Protocol(47)),
    ("esp", Protocol(50)),
    ("ah", Protocol(51)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_grant_may_say() {
        for (text, port, expected) in [
            ("*", Port::tcp(22), true),
            ("22", Port::tcp(22), true),
            ("22", Port::udp(22), true),
            ("22", Port::tcp(23), false),
            ("tcp:22", Port::tcp(22), true),
            ("tcp:22", Port::udp(22), false),
            ("tcp:20-30", Port::tcp(30), true),
            ("tcp:20-30", Port::tcp(31), false),
            ("tcp:80,443", Port::tcp(443), true),
            ("udp:*", Port::udp(9), true),
            ("6:*", Port::tcp(9), true),
            ("icmp:*", Port::tcp(22), false),
        ] {
            assert_eq!(Traffic::parse_grant(text).unwrap().covers(port), expected, "{text} for {port}");
        }
    }

    #[test]
    fn refuses_what_is_no_port() {
        for text in
            ["", "tcp", "tcp:", "tcp:x", "tcp:70000", "tcp:30-20", "icmp:22", "foo:22", "tcp:+22", "22:tcp", "1-"]
        {
            assert_eq!(Traffic::parse_grant(text), None, "{text}");
        }
    }
}
