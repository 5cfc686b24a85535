//! Where a forward may lead: `host:port` over TCP, or the path of a Unix socket, as `localForward` and `remoteForward`
//! list them.
//!
//! A pattern that begins with `/` is a path, and any other is `host:port`. In a host, `*` stands for any characters, and
//! it is compared as the client wrote it, in any capitals: `localhost` is not `127.0.0.1`. In a port, `*` stands for any,
//! also for 0, which asks for whatever port is free. In a path, `*` and `?` never stand for a slash, and a path with `.`,
//! `..` or an empty part in it matches nothing, so that no pattern can be walked out of.

use std::fmt;

use crate::pattern;

/// One end of a forward on the target's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// A host as the target resolves it, and a port.
    Tcp {
        /// Its name or address, without brackets.
        host: &'a str,
        /// RFC 4254 gives it 32 bits; only 16 of them mean something.
        port: u32,
    },
    /// The path of a Unix socket on the target.
    Unix {
        /// Absolute, to match anything.
        path: &'a str,
    },
}

impl Endpoint<'_> {
    /// Whether one of `patterns` covers this endpoint.
    pub(crate) fn is_among(&self, patterns: &[String]) -> bool {
        match self {
            Endpoint::Tcp { host, port } => {
                let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                is_host(&host)
                    && *port <= u32::from(u16::MAX)
                    && patterns.iter().any(|one| covers_tcp(one, &host, *port))
            }
            Endpoint::Unix { path } => {
                is_path(path) && patterns.iter().any(|one| one.starts_with('/') && pattern::matches_path(one, path))
            }
        }
    }
}

impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix { path } => f.write_str(path),
        }
    }
}

fn covers_tcp(pattern: &str, host: &str, port: u32) -> bool {
    let Some((hosts, ports)) = split(pattern) else { return false };
    let same_port = ports == "*" || ports.parse() == Ok(port);
    same_port && pattern::matches(&hosts.to_ascii_lowercase(), host)
}

/// The host and the port of a pattern.
fn split(pattern: &str) -> Option<(&str, &str)> {
    let (host, port) = pattern.rsplit_once(':').filter(|_| !pattern.starts_with('/'))?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    Some((bare.unwrap_or(host), port))
}

/// What may stand for a host; nothing at all is every interface of the target (RFC 4254, section 7.1).
fn is_host(host: &str) -> bool {
    host.len() <= MAX_HOST && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:*".contains(c))
}

fn is_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let absolute = parts.next() == Some("");
    absolute && path.len() <= MAX_PATH && parts.all(is_part)
}

fn is_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(char::is_control)
}

/// Whether a policy may hold this pattern: `host:port`, `[address]:port` with `*` for any host or any port, or a path.
pub(crate) fn is_pattern(text: &str) -> bool {
    if text.starts_with('/') {
        return is_path(text);
    }
    let Some((host, port)) = split(text) else { return false };
    let bracketed = text.starts_with('[');
    let host = !host.is_empty() && is_host(host) && (bracketed || !host.contains(':'));
    host && (port == "*" || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()))
}

/// Longest name of a host (RFC 1035, section 2.3.4), in bytes.
const MAX_HOST: usize = 255;

/// Longer than the path of any socket: `sun_path` has 108 bytes on Linux.
const MAX_PATH: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, host: &str, port: u32) -> bool {
        assert!(is_pattern(pattern), "{pattern}");
        Endpoint::Tcp { host, port }.is_among(&[pattern.to_owned()])
    }

    #[test]
    fn a_pattern_covers_host_and_port_whole() {
        for (pattern, host, port, expected) in [
            ("localhost:9090", "localhost", 9090, true),
            ("localhost:9090", "LocalHost.", 9090, true),
            ("localhost:9090", "localhost", 9091, false),
            ("localhost:9090", "xlocalhost", 9090, false),
            ("localhost:9090", "127.0.0.1", 9090, false),
            ("*.internal:443", "db.internal", 443, true),
            ("*.internal:443", "db.internal.evil", 443, false),
            ("*.internal:443", "evil\0.internal", 443, false),
            ("*.internal:443", "evil/x.internal", 443, false),
            ("localhost:*", "localhost", 0, true),
            ("localhost:*", "localhost", 65_536 + 22, false),
            ("*:80", "", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("*:*", "fe80::1", 80, true),
        ] {
            assert_eq!(allows(pattern, host, port), expected, "{pattern} against {host}:{port}");
        }
    }

    #[test]
    fn a_path_cannot_be_walked_out_of_its_pattern() {
        for (pattern, path, expected) in [
            ("/run/docker.sock", "/run/docker.sock", true),
            ("/run/docker.sock", "/run/docker.sock2", false),
            ("/run/user/*/bus", "/run/user/1000/bus", true),
            ("/run/user/*", "/run/user/1000/bus", false),
            ("/run/user/*", "/run/user/..", false),
            ("/run/*/docker.sock", "/run/../docker.sock", false),
            ("/run/*", "run/x", false),
            ("/run/*", "/run//", false),
            ("/run/*", "/run/a\0b", false),
        ] {
            assert!(is_pattern(pattern), "{pattern}");
            assert_eq!(Endpoint::Unix { path }.is_among(&[pattern.to_owned()]), expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn a_path_and_a_host_never_stand_for_each_other() {
        let any = ["*:*".to_owned()];
        assert!(!Endpoint::Unix { path: "/run/docker.sock" }.is_among(&any));
        assert!(!Endpoint::Tcp { host: "/run/a", port: 1 }.is_among(&["/run/a:1".to_owned()]));
    }

    #[test]
    fn what_can_match_nothing_is_no_pattern() {
        for text in ["localhost", "localhost:", "localhost:http", ":80", "::1:80", "/run/../x", "/", "/run//x", "a b:1"]
        {
            assert!(!is_pattern(text), "{text}");
        }
    }
}
