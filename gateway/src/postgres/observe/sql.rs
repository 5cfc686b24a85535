//! Statements' texts: masked, cut, and hashed where they are cut.

use data_encoding::HEXLOWER;
use sallyport_policies::sql::mask_secrets;
use sallyport_recorder::Sql;
use sha2::{Digest, Sha256};

/// The text of a statement, of which the rest may still be coming.
#[derive(Debug, Default)]
pub(super) struct Text {
    sql: Sql,
    open: Option<Open>,
}

/// What is known of a text whose end has not come.
#[derive(Debug)]
struct Open {
    /// Bytes so far.
    length: u64,
    /// Of these bytes; none of a text with a password in it, which a hash would let be guessed at.
    hash: Option<Sha256>,
}

impl Text {
    /// From the bytes at which the text begins, up to the zero byte that ends it.
    pub(super) fn begin(bytes: &[u8]) -> Self {
        let (seen, ended) = up_to_zero(bytes);
        let text = String::from_utf8_lossy(seen);
        let masked = mask_secrets(&text);
        let shown = cut(&masked, TEXT_MAX).to_owned();
        if ended && shown.len() == masked.len() {
            return Self { sql: Sql { text: shown, ..Sql::default() }, open: None };
        }
        let hash = (masked == text).then(Sha256::new);
        let mut cut = Self { sql: Sql { text: shown, ..Sql::default() }, open: Some(Open { length: 0, hash }) };
        cut.more(bytes);
        cut
    }

    /// More of the same message.
    pub(super) fn more(&mut self, bytes: &[u8]) {
        let Some(Open { length, hash }) = &mut self.open else { return };
        let (seen, ended) = up_to_zero(bytes);
        *length = length.saturating_add(u64::try_from(seen.len()).unwrap_or(u64::MAX));
        if let Some(hash) = hash {
            hash.update(seen);
        }
        self.sql.length = Some(*length);
        if ended {
            self.sql.sha256 = hash.take().map(|hash| HEXLOWER.encode(&hash.finalize()));
            self.open = None;
        }
    }

    /// What is kept of it, in bytes.
    pub(super) fn size(&self) -> usize {
        self.sql.text.len()
    }

    /// The text as it is recorded.
    pub(super) fn sql(&self) -> Sql {
        self.sql.clone()
    }

    /// As much of it as tells which text it was.
    pub(super) fn beginning(&self) -> Sql {
        let short = cut(&self.sql.text, BEGINNING_MAX);
        let whole = short.len() == self.sql.text.len();
        let length = (!whole).then(|| u64::try_from(self.sql.text.len()).unwrap_or(u64::MAX));
        Sql { text: short.to_owned(), length: self.sql.length.or(length), sha256: self.sql.sha256.clone() }
    }

    /// Its statements, where there are several and all are there to be seen. Not where it depends on the session's settings
    /// (`standard_conforming_strings`, `client_encoding`) how the server cuts them: nothing of the text may get lost by that.
    pub(super) fn pieces(&self) -> Vec<std::ops::Range<usize>> {
        let settled = self.sql.text.is_ascii() && !self.sql.text.contains('\\');
        if self.sql.length.is_some() || self.open.is_some() || !settled {
            return Vec::new();
        }
        let pieces = sallyport_policies::sql::split(&self.sql.text);
        if (2..=PIECES_MAX).contains(&pieces.len()) { pieces } else { Vec::new() }
    }

    /// One of its statements.
    pub(super) fn piece(&self, range: std::ops::Range<usize>) -> Sql {
        Sql { text: self.sql.text.get(range).unwrap_or_default().to_owned(), ..Sql::default() }
    }
}

/// The bytes before the first zero byte, and whether there is one.
fn up_to_zero(bytes: &[u8]) -> (&[u8], bool) {
    let end = bytes.iter().position(|byte| *byte == 0);
    (bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default(), end.is_some())
}

/// As much of the front of `text` as fits into so many bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Bytes of a text that are recorded once more.
const BEGINNING_MAX: usize = 256;

/// Statements of one text that are told apart: what is kept of their places takes no more than the text itself.
const PIECES_MAX: usize = 1_024;

/// Bytes of a text that are recorded.
pub(super) const TEXT_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_and_hashed_whatever_pieces_it_comes_in() {
        let long = "SELECT '".to_owned() + &"é".repeat(40_000) + "'";
        let whole = Sha256::digest(long.as_bytes());
        let bytes = [long.as_bytes(), &[0, 1, 2]].concat();
        for at in [TEXT_MAX + 3, 60_000, 64 * 1024, long.len(), long.len() + 1] {
            let mut text = Text::begin(&bytes[..at]);
            bytes[at..].chunks(7_001).for_each(|piece| text.more(piece));
            let sql = text.sql();
            assert!(sql.text.len() <= TEXT_MAX && long.starts_with(&sql.text), "{at}");
            assert_eq!(sql.length, Some(long.len() as u64), "{at}");
            assert_eq!(sql.sha256.as_deref(), Some(HEXLOWER.encode(&whole).as_str()), "{at}");
        }
    }

    #[test]
    fn a_short_text_is_itself_and_a_password_has_no_hash() {
        assert_eq!(Text::begin(b"SELECT 1\0").sql(), Sql { text: "SELECT 1".into(), ..Sql::default() });
        let secret = format!("ALTER ROLE a PASSWORD 's3cret' -- {}\0", "x".repeat(TEXT_MAX));
        let sql = Text::begin(secret.as_bytes()).sql();
        assert!(sql.sha256.is_none() && sql.length.is_some() && !sql.text.contains("s3cret"), "{sql:?}");
    }
}
