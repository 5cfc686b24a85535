//! The judge: may this text be run under this capability?
//!
//! A text is cut into statements by a scanner that follows PostgreSQL's own ([`lex`]). What a statement other than a query
//! does shows in its first words ([`classify`]); queries go through a real parser ([`query`]), and what the parser found is
//! held against the scanner's tokens, so that a text which the two read differently is no query that anybody knows. Each
//! statement comes to a list of needs, and all of them have to be allowed.
//!
//! What cannot be judged (a text that does not parse, is too long or nested too deep, escapes that depend on settings, a
//! setting that would change how later texts are read) is allowed to those alone who may run `any`, without exceptions.
//!
//! What cannot be seen in a text: views, rules, triggers, operators, casts, the bodies of functions, and whether `t.f` is a
//! column or a call of `f` with a row of `t`. That is why a session that may not write is read-only for the server as well
//! ([`crate::PostgresCapability::is_read_only`]).

mod check;
mod classify;
mod functions;
mod lex;
mod mask;
mod query;
mod replication;
mod setting;

pub use check::{Judgement, Refusal};
pub use functions::large_object;
pub use mask::{is_masked, mask_secrets};

use std::ops::Range;

use crate::PostgresCapability;

/// What the session's settings say about how the server reads a text. The server reports both in `ParameterStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// `standard_conforming_strings`: whether a backslash in an ordinary string is just that.
    pub standard_conforming_strings: bool,
    /// Whether each byte below 128 stands for itself in `client_encoding`; see [`Reading::is_plain_encoding`].
    pub plain_encoding: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { standard_conforming_strings: true, plain_encoding: true }
    }
}

impl Reading {
    /// Whether this `client_encoding` never hides a quote or a backslash within another character. Those of East Asia that
    /// only clients may use do: `BIG5`, `GBK`, `SJIS`, `UHC`, `JOHAB`, `GB18030`, `SHIFT_JIS_2004`.
    pub fn is_plain_encoding(name: &str) -> bool {
        // As the server compares them: letters and digits alone, in lower case (its `encnames.c`).
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        PLAIN_ENCODINGS.contains(&name.as_str())
    }
}

/// What a text needs, found once and independent of any capability: what is needed, in the words of the policy.
pub(crate) enum Need {
    /// Leave to run a statement of this name.
    Statement(&'static str),
    /// Leave to call this function; its schema, where one is named, and its name.
    Function(Option<String>, String),
    /// This function is called, or something else of that name is meant, in a statement that defines something. Whoever may
    /// define things can define functions, so that only those count that a rule denies or that reach beyond the database.
    Mention(Option<String>, String),
    /// Leave to call this procedure: all of them, or this one.
    Procedure(Option<String>, String),
    /// A session that may turn itself read-write.
    ReadWrite,
    /// It runs code of its own that no judge sees, such as a DO block: not in a read-only session.
    Opaque(&'static str),
    /// It cannot be judged, and this is why.
    Unjudged(&'static str),
}

/// May this text be run? It may hold several statements; all of them have to be allowed.
pub fn judge(capability: &PostgresCapability, sql: &str) -> Judgement {
    judge_as(capability, sql, Reading::default())
}

/// Like [`judge()`], in a session with these settings.
pub fn judge_as(capability: &PostgresCapability, sql: &str, reading: Reading) -> Judgement {
    if capability.allows_everything() {
        return Judgement::Allowed;
    }
    check::check(capability, &needs(sql, reading))
}

/// May this command be run on a replication connection? What is no replication command is judged as SQL.
pub fn judge_replication(capability: &PostgresCapability, sql: &str, reading: Reading) -> Judgement {
    if !capability.replication || !replication::is_command(sql) {
        return judge_as(capability, sql, reading);
    }
    Judgement::Allowed
}

/// May the function of this OID be called by the protocol's own function call? Those of large objects have fixed numbers.
pub fn judge_function_call(capability: &PostgresCapability, oid: u32) -> Judgement {
    if capability.allows_everything() {
        return Judgement::Allowed;
    }
    let need = match functions::large_object(oid) {
        Some(name) => Need::Function(None, name.to_owned()),
        None => Need::Unjudged("a function is called by its number"),
    };
    check::check(capability, &[need])
}

/// The statements of a text of several, as places in it without the semicolons; the whole where it cannot be cut.
pub fn split(sql: &str) -> Vec<Range<usize>> {
    // Nearly every text is one statement, and needs no scanner.
    let single = !sql.trim_end_matches([';', ' ', '\n', '\r', '\t']).contains(';');
    let Some(tokens) = Some(sql).filter(|_| !single).and_then(|sql| lex::lex(sql, true).ok()) else {
        return std::iter::once(0..sql.len()).collect();
    };
    let statements = tokens.split(|token| token.is_symbol(";"));
    statements.filter_map(|tokens| Some(tokens.first()?.at.0..tokens.last()?.at.1)).collect()
}

/// The name that a PREPARE or a DECLARE gives; `None` where that cannot be told for sure, or there are several statements.
pub fn given_name(sql: &str) -> Option<String> {
    let tokens = lex::lex(sql, true).ok()?;
    let mut statements = tokens.split(|token| token.is_symbol(";")).filter(|tokens| !tokens.is_empty());
    match (statements.next()?, statements.next()) {
        ([verb, name, ..], None) if verb.is("prepare") || verb.is("declare") => name.name().map(str::to_owned),
        _ => None,
    }
}

fn needs(sql: &str, reading: Reading) -> Vec<Need> {
    if sql.len() > MAX_TEXT {
        return vec![Need::Unjudged("it is too long")];
    }
    if !reading.plain_encoding && !sql.is_ascii() {
        return vec![Need::Unjudged("the session's client_encoding can hide quotes")];
    }
    match lex::lex(sql, reading.standard_conforming_strings) {
        Ok(tokens) => {
            let statements = tokens.split(|token| token.is_symbol(";")).filter(|tokens| !tokens.is_empty());
            statements.flat_map(|tokens| classify::needs(tokens, 0)).collect()
        }
        Err(why) => vec![Need::Unjudged(why)],
    }
}

/// In bytes. A longer text is a bulk load.
const MAX_TEXT: usize = 512 * 1024;
/// Every name of an encoding in which each byte below 128 stands for itself, as PostgreSQL's `encnames.c` has them. `win932`,
/// `win936`, `win949` and `win950` are not among them: they are SJIS, GBK, UHC and BIG5.
#[rustfmt::skip]
const PLAIN_ENCODINGS: [&str; 62] = [
    "utf8", "unicode", "sqlascii",
    "euccn", "eucjis2004", "eucjp", "euckr", "euctw",
    "latin1", "latin2", "latin3", "latin4", "latin5", "latin6", "latin7", "latin8", "latin9", "latin10",
    "iso88591", "iso885910", "iso885913", "iso885914", "iso885915", "iso885916", "iso88592", "iso88593", "iso88594",
    "iso88595", "iso88596", "iso88597", "iso88598", "iso88599",
    "koi8", "koi8r", "koi8u", "alt", "win", "tcvn", "tcvn5712", "vscii", "abc",
    "win1250", "win1251", "win1252", "win1253", "win1254", "win1255", "win1256", "win1257", "win1258", "win866", "win874",
    "windows1250", "windows1251", "windows1252", "windows1253", "windows1254", "windows1255", "windows1256",
    "windows1257", "windows1258", "windows866",
];

#[cfg(test)]
mod tests;
