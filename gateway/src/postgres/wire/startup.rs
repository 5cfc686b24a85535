//! What a client sends before anything has a tag: requests for encryption, to cancel, and to start.

use std::fmt;

use super::string;

/// The longest packet before a session, in bytes (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP: u32 = 10_000;

/// Most parameters of a start-up packet.
pub const PARAMETERS_MAX: usize = 256;

/// The first thing that a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// It wants TLS.
    Tls,
    /// It wants GSSAPI encryption.
    Gss,
    /// It wants a statement of another connection to stop.
    Cancel(CancelKey),
    /// It wants a session.
    Startup(Startup),
}

/// The version of the protocol that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3 in all that are in use.
    pub major: u16,
    /// 0, or 2 with long cancel keys.
    pub minor: u16,
}

/// What identifies a connection to whoever wants to cancel on it.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The number of the process.
    pub process: u32,
    /// 4 bytes, or up to 256 since protocol 3.2.
    pub secret: Vec<u8>,
}

/// A request for a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version that the client wants.
    pub version: ProtocolVersion,
    parameters: Vec<(String, String)>,
}

/// A first packet that is none of PostgreSQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStartup {
    /// Its length cannot be.
    #[error("invalid length of startup packet")]
    Length,
    /// It asks for a version that nobody speaks.
    #[error("unsupported frontend protocol {0}: this gateway supports 3.x")]
    Version(ProtocolVersion),
    /// Its layout is wrong.
    #[error("invalid startup packet layout: {0}")]
    Layout(&'static str),
}

impl Hello {
    /// How long the packet is that begins with `length`, in bytes and without the length itself.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn size(length: [u8; 4]) -> Result<usize, BadStartup> {
        let length = u32::from_be_bytes(length);
        match (8..=MAX_STARTUP).contains(&length) {
            true => usize::try_from(length - 4).map_err(|_| BadStartup::Length),
            false => Err(BadStartup::Length),
        }
    }

    /// Reads a packet without its length.
    ///
    /// # Errors
    /// When it is none of PostgreSQL's.
    pub fn read(packet: &[u8]) -> Result<Self, BadStartup> {
        let (&code, rest) = packet.split_first_chunk::<4>().ok_or(BadStartup::Length)?;
        let code = u32::from_be_bytes(code);
        match code {
            TLS if rest.is_empty() => Ok(Self::Tls),
            GSS if rest.is_empty() => Ok(Self::Gss),
            CANCEL => CancelKey::read(rest).map(Self::Cancel),
            _ => Startup::read(ProtocolVersion::of(code), rest).map(Self::Startup),
        }
    }
}

impl ProtocolVersion {
    /// The one that everybody speaks.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// The first with long cancel keys.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// The version in the first four bytes.
    pub fn of(code: u32) -> Self {
        let [a, b, c, d] = code.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }

    fn code(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.major.to_be_bytes(), self.minor.to_be_bytes());
        [a, b, c, d]
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl CancelKey {
    /// Reads a process and a secret: of a CancelRequest behind its code, or of a BackendKeyData.
    ///
    /// # Errors
    /// When the secret is shorter or longer than any.
    pub fn read(payload: &[u8]) -> Result<Self, BadStartup> {
        let (&process, secret) = payload.split_first_chunk::<4>().ok_or(BadStartup::Layout("no cancel key"))?;
        match (4..=SECRET_MAX).contains(&secret.len()) {
            true => Ok(Self { process: u32::from_be_bytes(process), secret: secret.to_vec() }),
            false => Err(BadStartup::Layout("a cancel key of a wrong length")),
        }
    }

    /// The packet that cancels what runs on this connection.
    pub fn request(&self) -> Vec<u8> {
        packet(&CANCEL.to_be_bytes(), &self.payload())
    }

    /// The payload of the BackendKeyData that tells a client this key.
    pub fn payload(&self) -> Vec<u8> {
        [&self.process.to_be_bytes(), self.secret.as_slice()].concat()
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({}, …)", self.process)
    }
}

impl Startup {
    /// A request with these parameters.
    pub fn new(version: ProtocolVersion, parameters: Vec<(String, String)>) -> Self {
        Self { version, parameters }
    }

    fn read(version: ProtocolVersion, mut rest: &[u8]) -> Result<Self, BadStartup> {
        if version.major != 3 {
            return Err(BadStartup::Version(version));
        }
        let mut parameters = Vec::new();
        loop {
            let (name, after) = string(rest).ok_or(BadStartup::Layout("expected terminator as last byte"))?;
            if name.is_empty() {
                return match after.is_empty() {
                    true => Ok(Self { version, parameters }),
                    false => Err(BadStartup::Layout("something comes after its end")),
                };
            }
            let (value, after) = string(after).ok_or(BadStartup::Layout("a parameter has no value"))?;
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
            let (name, value) =
                text(name).and_then(|name| Ok((name, text(value)?))).map_err(|_| BadStartup::Layout("not UTF-8"))?;
            if parameters.len() == PARAMETERS_MAX {
                return Err(BadStartup::Layout("too many parameters"));
            }
            parameters.push((name, value));
            rest = after;
        }
    }

    /// The value of a parameter: the last, where it is given several times, as PostgreSQL takes it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All parameters, in their order.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// Gives a parameter this value, once.
    pub fn set(&mut self, name: &str, value: &str) {
        self.parameters.retain(|(given, _)| given != name);
        self.parameters.push((name.to_owned(), value.to_owned()));
    }

    /// The packet.
    pub fn packet(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for text in self.parameters.iter().flat_map(|(name, value)| [name, value]) {
            payload.extend_from_slice(text.as_bytes());
            payload.push(0);
        }
        payload.push(0);
        packet(&self.version.code(), &payload)
    }
}

impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may hold what somebody took a setting for.
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        f.debug_struct("Startup").field("version", &self.version).field("parameters", &names).finish()
    }
}

/// The request for TLS.
pub fn tls_request() -> Vec<u8> {
    packet(&TLS.to_be_bytes(), &[])
}

fn packet(code: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len().saturating_add(8)).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], code, payload].concat()
}

const CANCEL: u32 = (1234 << 16) | 5678;
const TLS: u32 = (1234 << 16) | 5679;
const GSS: u32 = (1234 << 16) | 5680;
/// The longest secret of a cancel key, in bytes (protocol 3.2).
const SECRET_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(packet: &[u8]) -> Result<Hello, BadStartup> {
        let (&length, rest) = packet.split_first_chunk::<4>().unwrap();
        assert_eq!(Hello::size(length), Ok(rest.len()));
        Hello::read(rest)
    }

    #[test]
    fn packets_are_read_as_they_are_written() {
        assert_eq!(read(&tls_request()), Ok(Hello::Tls));
        let parameters = vec![("user".to_owned(), "analyst".to_owned()), ("options".to_owned(), String::new())];
        let startup = Startup::new(ProtocolVersion::V3_2, parameters);
        assert_eq!(read(&startup.packet()), Ok(Hello::Startup(startup)));
        for secret in [4, 32, 256] {
            let key = CancelKey { process: 7, secret: vec![1; secret] };
            assert_eq!(read(&key.request()), Ok(Hello::Cancel(key.clone())));
            assert_eq!(CancelKey::read(&key.payload()), Ok(key));
        }
    }

    #[test]
    fn the_last_of_several_values_counts_as_in_postgres() {
        let Ok(Hello::Startup(startup)) = Hello::read(b"\0\x03\0\0user\0alice\0user\0root\0\0") else { panic!() };
        assert_eq!(startup.parameter("user"), Some("root"));
        let mut once = startup;
        once.set("user", "bob");
        assert_eq!(once.parameters(), [("user".to_owned(), "bob".to_owned())]);
    }

    #[test]
    fn what_is_no_start_is_refused() {
        for (name, packet) in [
            ("HTTP", &b"GET / HTTP/1.1\r\n"[..]),
            ("version 2", b"\0\x02\0\0user\0"),
            ("no end", b"\0\x03\0\0user\0a\0"),
            ("no value", b"\0\x03\0\0user\0"),
            ("more after the end", b"\0\x03\0\0user\0a\0\0x"),
            ("TLS with a tail", b"\x04\xd2\x16\x2f0"),
            ("a short cancel key", b"\x04\xd2\x16\x2e\0\0\0\x01abc"),
            ("not UTF-8", b"\0\x03\0\0user\0\xff\0\0"),
            ("nothing", b""),
        ] {
            assert!(Hello::read(packet).is_err(), "{name}");
        }
        for length in [0, 4, 7, MAX_STARTUP + 1, u32::MAX] {
            assert_eq!(Hello::size(length.to_be_bytes()), Err(BadStartup::Length), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_surprise_the_reader(packet in proptest::collection::vec(any::<u8>(), 0..300), version in any::<bool>()) {
            let mut packet = packet;
            if version && packet.len() >= 4 {
                packet.splice(..4, [0, 3, 0, 2]);
            }
            if let Ok(Hello::Startup(startup)) = Hello::read(&packet) {
                prop_assert_eq!(&startup.packet()[4..], &packet[..]);
            }
        }
    }
}
