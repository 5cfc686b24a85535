//! Passwords in SQL: what a recording must not hold.

use std::borrow::Cow;

use super::lex::{Kind, Token, lex};

/// The text with the strings blotted out that are passwords: those behind PASSWORD in statements about roles and user
/// mappings, `password=…` in connection strings, and whatever strings stand in a statement of that sort which cannot be cut
/// into words. A cut text is masked like a whole one: a string without an end counts as one.
pub fn mask_secrets(sql: &str) -> Cow<'_, str> {
    if !is_suspect(sql) {
        return Cow::Borrowed(sql);
    }
    match lex(sql, true) {
        Ok(tokens) => blot(sql, secrets(&tokens)),
        // The end may be missing; what can be told from the words before it is told.
        Err(_) => match sql.char_indices().find(|(_, c)| matches!(c, '\'' | '$')) {
            Some((at, _)) => Cow::Owned(format!("{}{MASK}", sql.get(..at).unwrap_or_default())),
            None => Cow::Borrowed(sql),
        },
    }
}

/// Whether the text could hold a password at all: a quick look, on any statement. All signs have this in them.
fn is_suspect(sql: &str) -> bool {
    sql.as_bytes().windows(5).any(|part| part.eq_ignore_ascii_case(b"passw") || part.eq_ignore_ascii_case(b"passf"))
}

fn secrets(tokens: &[Token]) -> Vec<(usize, usize)> {
    let sentences = tokens.split(|token| token.is_symbol(";"));
    sentences
        .flat_map(|tokens| tokens.iter().enumerate().filter_map(move |(at, token)| secret(tokens, at, token)))
        .collect()
}

fn secret(tokens: &[Token], at: usize, token: &Token) -> Option<(usize, usize)> {
    let Kind::String(value) = &token.kind else { return None };
    let before = |steps: usize| at.checked_sub(steps).and_then(|place| tokens.get(place));
    let named =
        |token: &Token| token.name().is_some_and(|name| SIGNS.iter().any(|sign| name.eq_ignore_ascii_case(sign)));
    // PASSWORD 'x', password = 'x', OPTIONS (password 'x'), set_config('password', 'x')
    let announced = before(1).is_some_and(named)
        || before(1).is_some_and(|token| !token.is_symbol(",")) && before(2).is_some_and(named);
    let connection = value.as_ref().is_none_or(|text| {
        SIGNS
            .iter()
            .any(|sign| text.as_bytes().windows(sign.len()).any(|part| part.eq_ignore_ascii_case(sign.as_bytes())))
    });
    (announced || connection).then_some(token.at)
}

fn blot(sql: &str, secrets: Vec<(usize, usize)>) -> Cow<'_, str> {
    if secrets.is_empty() {
        return Cow::Borrowed(sql);
    }
    let (mut masked, mut from) = (String::with_capacity(sql.len()), 0);
    for (begin, end) in secrets {
        masked.push_str(sql.get(from..begin).unwrap_or_default());
        masked.push_str(MASK);
        from = end;
    }
    masked.push_str(sql.get(from..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Words that announce a secret, in small letters. MD5 and SCRAM verifiers stand where passwords do.
const SIGNS: [&str; 4] = ["password", "passwd", "sslpassword", "passfile"];

/// What stands in the recording instead.
const MASK: &str = "'***'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_blotted_out_and_nothing_else() {
        for (name, sql, expected) in [
            (
                "a new role",
                "CREATE ROLE a LOGIN PASSWORD 's3cret' VALID UNTIL '2030-01-01'",
                "CREATE ROLE a LOGIN PASSWORD '***' VALID UNTIL '2030-01-01'",
            ),
            (
                "escaped",
                "alter user a with encrypted password E's3\\'cret'; select 'x'",
                "alter user a with encrypted password '***'; select 'x'",
            ),
            ("in dollar quotes", "ALTER ROLE a PASSWORD $x$s3'cret$x$", "ALTER ROLE a PASSWORD '***'"),
            ("behind a comment", "ALTER ROLE a PASSWORD /* 'no' */ 's3cret'", "ALTER ROLE a PASSWORD /* 'no' */ '***'"),
            (
                "a mapping",
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 's3cret')",
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password '***')",
            ),
            ("a connection", "SELECT dblink('host=h password=s3cret', 'select 1')", "SELECT dblink('***', 'select 1')"),
            (
                "a comparison",
                "SELECT * FROM u WHERE password = 's3cret' AND name = 'a'",
                "SELECT * FROM u WHERE password = '***' AND name = 'a'",
            ),
            (
                "a subscription",
                "CREATE SUBSCRIPTION s CONNECTION 'password=s3cret' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION '***' PUBLICATION p",
            ),
            ("cut in the middle", "ALTER ROLE a PASSWORD 's3cr", "ALTER ROLE a PASSWORD '***'"),
            ("cut, in dollar quotes", "ALTER ROLE a PASSWORD $$s3cr", "ALTER ROLE a PASSWORD '***'"),
            ("no password", "SELECT 'x' FROM t", "SELECT 'x' FROM t"),
            ("no string", "ALTER ROLE a PASSWORD NULL", "ALTER ROLE a PASSWORD NULL"),
        ] {
            let masked = mask_secrets(sql);
            assert_eq!(masked, expected, "{name}");
            assert!(!masked.contains("s3"), "{name}");
        }
    }
}
