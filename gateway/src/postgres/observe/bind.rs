//! Bind: what values are bound to which statement.

use sallyport_policies::ParameterRule;

use super::super::wire::string;
use super::text;

/// A Bind message, as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// The portal that is made.
    pub(super) portal: String,
    /// The prepared statement.
    pub(super) statement: String,
    /// The first values.
    pub(super) values: Vec<Raw>,
    /// How many there are besides these.
    pub(super) more: u64,
}

/// A value as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    /// Whether it is in the binary format.
    pub(super) binary: bool,
    /// Its first bytes; none of a hidden one, and nothing at all of NULL.
    pub(super) bytes: Option<Vec<u8>>,
    /// How many it has in all.
    pub(super) length: u64,
}

impl Bound {
    /// Reads as much of the message as `head` has; `None` where not even the names are there.
    pub(super) fn read(head: &[u8], rule: ParameterRule) -> Option<Self> {
        let (portal, rest) = string(head)?;
        let (statement, rest) = string(rest)?;
        let mut bound = Self { portal: text(portal), statement: text(statement), ..Self::default() };
        bound.read_values(rest, rule);
        Some(bound)
    }

    /// What is kept of its values, in bytes.
    pub(super) fn size(&self) -> usize {
        let bytes = |value: &Raw| size_of::<Raw>() + value.bytes.as_ref().map_or(0, Vec::len);
        self.values.iter().map(bytes).sum()
    }

    /// Stops where the message ends, or says something that cannot be.
    fn read_values(&mut self, rest: &[u8], rule: ParameterRule) -> Option<()> {
        let (count, mut rest) = number(rest)?;
        let formats = rest.get(..usize::from(count) * 2)?;
        rest = rest.get(formats.len()..)?;
        // None stands for text, one for all, and else each has its own (PostgreSQL, "Message Formats", Bind).
        let binary = |at: usize| {
            let at = if count == 1 { 0 } else { at };
            formats.chunks_exact(2).nth(at).is_some_and(|format| format == [0, 1])
        };
        let (count, mut rest) = number(rest)?;
        self.more = u64::from(count);
        for at in 0..usize::from(count).min(VALUES_MAX) {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(*length);
            let Ok(size) = usize::try_from(length) else {
                self.keep(Raw { binary: binary(at), bytes: None, length: 0 });
                rest = after;
                continue;
            };
            let seen = after.get(..size.min(after.len())).unwrap_or_default();
            let kept = if rule == ParameterRule::Hide { 0 } else { VALUE_MAX.min(seen.len()) };
            let bytes = Some(seen.get(..kept).unwrap_or_default().to_vec());
            self.keep(Raw { binary: binary(at), bytes, length: u64::try_from(size).unwrap_or(u64::MAX) });
            rest = after.get(size..)?;
        }
        Some(())
    }

    fn keep(&mut self, value: Raw) {
        self.values.push(value);
        self.more = self.more.saturating_sub(1);
    }
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Values of one Bind that are recorded.
const VALUES_MAX: usize = 64;

/// Bytes of one value that are recorded.
pub(super) const VALUE_MAX: usize = 256;
