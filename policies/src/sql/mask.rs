//! Passwords in SQL: what a recording must not hold.

use std::borrow::Cow;
use std::ops::Range;

use super::lex::{Kind, Token, lex};

/// The text with its passwords blotted out: the strings behind PASSWORD in statements about roles and user mappings, and the
/// values of `password=…` within strings, such as connections. Of a text that cannot be cut into words each string behind such
/// a word counts as one, whether or not it has an end; nothing else is blotted out, so that nothing else can hide behind it.
pub fn mask_secrets(sql: &str) -> Cow<'_, str> {
    if !is_suspect(sql) {
        return Cow::Borrowed(sql);
    }
    match lex(sql, true) {
        Ok(tokens) => blot(sql, secrets(sql, &tokens)),
        Err(_) => blot(sql, strings_behind_signs(sql)),
    }
}

/// Whether something was blotted out of a text.
pub fn is_masked(sql: &str) -> bool {
    sql.contains(INNER)
}

/// Whether the text could hold a password at all: a quick look, on any statement. All signs have this in them.
fn is_suspect(sql: &str) -> bool {
    sql.as_bytes().windows(5).any(|part| part.eq_ignore_ascii_case(b"passw") || part.eq_ignore_ascii_case(b"passf"))
}

/// What is blotted out, and what stands there instead.
type Secret = (Range<usize>, &'static str);

fn secrets(sql: &str, tokens: &[Token]) -> Vec<Secret> {
    let mut found = Vec::new();
    for tokens in tokens.split(|token| token.is_symbol(";")) {
        for (at, token) in tokens.iter().enumerate() {
            let (begin, end) = token.at;
            match &token.kind {
                Kind::String(_) if is_announced(tokens, at) => found.push((begin..end, MASK)),
                Kind::String(_) => found.extend(values(sql, begin..end)),
                // Without the quotes that it wants.
                Kind::Word(word) if word != "null" && is_of_role(tokens, at) => found.push((begin..end, MASK)),
                Kind::Quoted(_) if is_of_role(tokens, at) => found.push((begin..end, MASK)),
                _ => {}
            }
        }
    }
    found
}

/// `PASSWORD 'x'`, `password = 'x'`, `OPTIONS (password 'x')`, `set_config('password', 'x')`
fn is_announced(tokens: &[Token], at: usize) -> bool {
    let before = |steps: usize| at.checked_sub(steps).and_then(|place| tokens.get(place));
    before(1).is_some_and(is_sign)
        || before(1).is_some_and(|token| !token.is_symbol(",")) && before(2).is_some_and(is_sign)
}

/// What stands right behind PASSWORD in a statement that makes or changes a role.
fn is_of_role(tokens: &[Token], at: usize) -> bool {
    let [verb, what, ..] = tokens else { return false };
    let role = what.is("role") || what.is("user") || what.is("group");
    let announced = at.checked_sub(1).and_then(|at| tokens.get(at)).is_some_and(is_sign);
    (verb.is("create") || verb.is("alter")) && role && announced
}

fn is_sign(token: &Token) -> bool {
    token.name().is_some_and(|name| SIGNS.iter().any(|sign| name.eq_ignore_ascii_case(sign)))
}

/// The values of `password=x`, `"password": "x"`, `PASSWORD ''x''` within a piece of text.
fn values(sql: &str, within: Range<usize>) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut at = within.start;
    while let Some(behind) = sign(sql, at..within.end) {
        at = behind;
        let rest = sql.get(behind..within.end).unwrap_or_default();
        let value = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || "=:>\\'\"".contains(c));
        let (lead, value) = rest.split_at(rest.len() - value.len());
        let value = value.get(..visible(value)).unwrap_or_default();
        if value.is_empty() || !lead.contains(['=', ':', '\'', '"']) {
            continue;
        }
        let length = match lead.chars().next_back().filter(|last| matches!(last, '\'' | '"')) {
            Some(quote) => quoted(value, quote, lead.len() - lead.trim_end_matches(quote).len()),
            None => value.find(|c: char| c.is_whitespace() || "'\"&,;)}".contains(c)).unwrap_or(value.len()),
        };
        let begin = behind + lead.len();
        at = begin + length;
        found.push((begin..at, INNER));
    }
    found
}

/// The first string behind each sign of a text that nobody can cut into words.
fn strings_behind_signs(sql: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(behind) = sign(sql, at..sql.len()) {
        at = behind;
        let rest = sql.get(behind..).unwrap_or_default();
        let near = rest.get(..visible(rest)).unwrap_or_default();
        let mut quotes = near.char_indices().filter(|(_, c)| matches!(c, '\'' | '"' | '$'));
        let Some((begin, length)) = quotes.find_map(|(begin, quote)| Some((begin, string(near.get(begin..)?, quote)?)))
        else {
            continue;
        };
        at = behind + begin + length;
        found.push((behind + begin..at, MASK));
    }
    found
}

/// How long the string is that begins here, if one does: to its end, or as far as can be seen.
fn string(near: &str, quote: char) -> Option<usize> {
    if quote != '$' {
        // There may be a quote in it that should have been two.
        return Some(near.rfind(quote).filter(|last| *last > 0).map_or(near.len(), |last| last + 1));
    }
    let (tag, body) = near.strip_prefix('$')?.split_once('$')?;
    let plain = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    let delimiter = format!("${tag}$");
    plain.then(|| body.find(&delimiter).map_or(near.len(), |end| end + 2 * delimiter.len()))
}

/// How long a value is that ends with as many quotes as it began with; twice as many stand for themselves.
fn quoted(value: &str, quote: char, opening: usize) -> usize {
    let mut at = 0;
    while let Some(next) = value.get(at..).and_then(|rest| rest.find(quote)) {
        let (before, from) = value.split_at(at + next);
        let run = from.len() - from.trim_start_matches(quote).len();
        if !before.ends_with('\\') && run % (2 * opening.max(1)) != 0 {
            return before.len();
        }
        at = before.len() + run;
    }
    value.len()
}

/// Where the next sign ends.
fn sign(sql: &str, within: Range<usize>) -> Option<usize> {
    let bytes = sql.as_bytes().get(..within.end)?;
    within.into_iter().find_map(|at| {
        let rest = bytes.get(at..)?;
        let begins = |sign: &&&str| rest.get(..sign.len()).is_some_and(|it| it.eq_ignore_ascii_case(sign.as_bytes()));
        rest.first().filter(|first| matches!(first, b'p' | b'P' | b's' | b'S'))?;
        SIGNS.iter().find(begins).map(|sign| at + sign.len())
    })
}

/// Bytes of the front of `text` that are looked at: [`LONGEST`], as whole characters.
fn visible(text: &str) -> usize {
    (LONGEST..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

fn blot(sql: &str, secrets: Vec<Secret>) -> Cow<'_, str> {
    if secrets.is_empty() {
        return Cow::Borrowed(sql);
    }
    let (mut masked, mut from) = (String::with_capacity(sql.len()), 0);
    for (place, instead) in secrets {
        masked.push_str(sql.get(from..place.start).unwrap_or_default());
        masked.push_str(instead);
        from = place.end;
    }
    masked.push_str(sql.get(from..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Words that announce a secret, in small letters. MD5 and SCRAM verifiers stand where passwords do.
const SIGNS: [&str; 4] = ["password", "passwd", "sslpassword", "passfile"];

/// What stands in the recording instead of a string.
const MASK: &str = "'***'";
/// What stands in it instead of a value within one.
const INNER: &str = "***";
/// The longest secret that is looked for without knowing the words around it, in bytes: no more hides behind a sign.
const LONGEST: usize = 1_024;

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
            (
                "a connection",
                "SELECT dblink('host=h password=s3cret port=1', 'select 1')",
                "SELECT dblink('host=h password=*** port=1', 'select 1')",
            ),
            (
                "a quoted one in it",
                "SELECT dblink('password = ''s3 cre''''t'' port=1')",
                "SELECT dblink('password = ''***'' port=1')",
            ),
            (
                "in JSON",
                r#"INSERT INTO u VALUES ('{"password": "s3cret", "a": 1}')"#,
                r#"INSERT INTO u VALUES ('{"password": "***", "a": 1}')"#,
            ),
            (
                "in a block",
                "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''s3cret'''; DROP TABLE t; END $$",
                "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''***'''; DROP TABLE t; END $$",
            ),
            ("without quotes", "ALTER ROLE a PASSWORD s3cret", "ALTER ROLE a PASSWORD '***'"),
            ("in other quotes", "ALTER USER a PASSWORD \"s3cret\"", "ALTER USER a PASSWORD '***'"),
            ("in other quotes, cut", "ALTER ROLE a PASSWORD \"s3cr", "ALTER ROLE a PASSWORD '***'"),
            ("with a quote in it", "ALTER ROLE a PASSWORD 's3'cret'", "ALTER ROLE a PASSWORD '***'"),
            (
                "a comparison",
                "SELECT * FROM u WHERE password = 's3cret' AND name = 'a'",
                "SELECT * FROM u WHERE password = '***' AND name = 'a'",
            ),
            (
                "a subscription",
                "CREATE SUBSCRIPTION s CONNECTION 'password=s3cret' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION 'password=***' PUBLICATION p",
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

    #[test]
    fn nothing_else_hides_behind_a_password() {
        let tail = "x ".repeat(60_000);
        for (name, sql) in [
            ("a block", "DO $$ BEGIN /* password */ PERFORM evil(); END $$".to_owned()),
            ("a block with a value", "DO $$ BEGIN -- password=x\n PERFORM evil(); END $$".to_owned()),
            ("a word in a string", "SELECT 'passwords are evil'".to_owned()),
            ("a text of too many words", format!("SELECT /* password 'a' */ 'b', evil() {tail}")),
            ("a string without end", format!("SELECT /* password $$ */ 1{} evil() {tail}", " ".repeat(2_000))),
            ("a column", "SELECT password evil FROM u".to_owned()),
        ] {
            let masked = mask_secrets(&sql);
            assert!(masked.contains("evil"), "{name}: {:.200}", masked);
        }
    }

    #[test]
    fn a_text_of_signs_alone_is_masked_in_one_pass() {
        let cost = |times: usize| {
            let texts = ["password ", "password$ ", "password='", "'password=x "].map(|text| text.repeat(times));
            let one = format!("SELECT '{}'", "password ".repeat(times));
            let texts = texts.into_iter().chain([one]);
            let begun = on_processor();
            texts.for_each(|text| assert!(mask_secrets(&text).len() > times));
            on_processor() - begun
        };
        // Sixteen times as much text, and 256 times as much work if each sign looked at all of it.
        let (few, many) = (cost(1_000), cost(16_000));
        assert!(many < 80 * few.max(1_000_000), "{few} and {many} nanoseconds");
    }

    /// How long this thread had a processor so far, in nanoseconds.
    fn on_processor() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_masked(text in "(password|PASSWD|[ ='\":$>é;,a\\\\]){0,40}") {
            let masked = mask_secrets(&text);
            proptest::prop_assert!(masked == text || is_masked(&masked));
        }
    }
}
