//! SET, RESET and `set_config`: settings of the session, from harmless ones to those that change how texts are read.

use super::lex::{Kind, Token};
use super::{Need, Reading};

/// What stands behind SET.
pub(super) fn set(rest: &[Token]) -> Vec<Need> {
    let rest = match rest {
        [first, rest @ ..] if first.is("local") => rest,
        [first, second, rest @ ..] if first.is("session") && second.is("characteristics") => return modes(rest),
        [first, second, ..] if first.is("session") && second.is("authorization") => {
            return vec![Need::Statement("set role")];
        }
        [first, rest @ ..] if first.is("session") => rest,
        _ => rest,
    };
    match rest {
        [first, ..] if first.is("transaction") => modes(rest),
        [first, ..] if first.is("constraints") => Vec::new(),
        [first, ..] if first.is("role") => vec![Need::Statement("set role")],
        [first, second, ..] if first.is("session") && second.is("authorization") => vec![Need::Statement("set role")],
        [first, second, ..] if first.is("time") && second.is("zone") => Vec::new(),
        [first, ..] if first.is("schema") || first.is("xml") || first.is("catalog") => Vec::new(),
        [first, value @ ..] if first.is("names") => change("client_encoding", value),
        [name, to, value @ ..] if to.is("to") || to.is_symbol("=") => {
            name.name().map_or_else(|| vec![UNCLEAR], |name| change(name, value))
        }
        // A parameter of an extension has two names.
        [_, dot, ..] if dot.is_symbol(".") => vec![Need::Statement("set")],
        _ => vec![UNCLEAR],
    }
}

/// What stands behind RESET. It leads back to what the session began with, which the gateway saw to.
pub(super) fn reset(rest: &[Token]) -> Vec<Need> {
    match rest {
        [first, second, ..] if first.is("session") && second.is("authorization") => vec![Need::Statement("set role")],
        [first, ..] if first.is("role") => vec![Need::Statement("set role")],
        // A transaction's own begins as no session does: up to version 15 this makes it read-write.
        [first, ..] if is_name(first, "transaction_read_only") => vec![Need::ReadWrite],
        [first, ..] if is_name(first, "role") || is_name(first, "session_authorization") => {
            vec![Need::Statement("set role")]
        }
        _ => Vec::new(),
    }
}

fn is_name(token: &Token, name: &str) -> bool {
    token.name().is_some_and(|found| found.eq_ignore_ascii_case(name))
}

/// The modes of a transaction: READ WRITE is the one that needs anything.
pub(super) fn modes(rest: &[Token]) -> Vec<Need> {
    let writes = rest.windows(2).any(|pair| matches!(pair, [a, b] if a.is("read") && b.is("write")));
    if writes { vec![Need::ReadWrite] } else { Vec::new() }
}

/// `set_config(name, value, …)`, as far as its arguments are plain strings.
pub(super) fn set_config(name: Option<&str>, value: Option<&str>) -> Vec<Need> {
    let name = match (name, value) {
        (Some(name), Some(_)) => name,
        // pg_dump takes the name from pg_settings. Other lists are values of settings that matter: `S,JIS` is an encoding.
        (None, Some("view, foreign-table")) => return vec![Need::Statement("set")],
        _ => return vec![UNCLEAR],
    };
    let value = value.unwrap_or_default();
    if name.eq_ignore_ascii_case("role") || name.eq_ignore_ascii_case("session_authorization") {
        return vec![Need::Statement("set role")];
    }
    let value = Token { kind: Kind::String(Some(value.to_owned())), at: (0, 0) };
    change(name, std::slice::from_ref(&value))
}

fn change(name: &str, value: &[Token]) -> Vec<Need> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "standard_conforming_strings" if is_switch(value, true) => Vec::new(),
        "standard_conforming_strings" => vec![Need::Unjudged("it changes how later texts are read")],
        "client_encoding" if only(value).is_some_and(Reading::is_plain_encoding) => Vec::new(),
        "client_encoding" => vec![Need::Unjudged("it changes how later texts are read")],
        "transaction_read_only" if only(value).is_some_and(|value| value.eq_ignore_ascii_case("default")) => {
            vec![Need::ReadWrite]
        }
        "transaction_read_only" | "default_transaction_read_only" if is_switch(value, true) => Vec::new(),
        "transaction_read_only" | "default_transaction_read_only" => vec![Need::ReadWrite],
        "search_path" if is_plain_path(value) => Vec::new(),
        "role" | "session_authorization" => vec![Need::Statement("set role")],
        name if HARMLESS.contains(&name) || name.starts_with("enable_") => Vec::new(),
        _ => vec![Need::Statement("set")],
    }
}

/// A path that names `pg_catalog` may put it behind schemas whose functions then stand for the built-in ones.
fn is_plain_path(value: &[Token]) -> bool {
    let names_catalog = |token: &Token| match &token.kind {
        Kind::Word(name) | Kind::Quoted(name) => name == "pg_catalog",
        // A list in one string is folded as names without quotes are.
        Kind::String(Some(text)) => text.to_ascii_lowercase().contains("pg_catalog"),
        Kind::String(None) => true,
        _ => false,
    };
    let elsewhere = value.iter().skip(1).any(names_catalog);
    let first = value.first().is_none_or(|token| !names_catalog(token) || only_name(token) == Some("pg_catalog"));
    first && !elsewhere
}

/// Whether the value is this state of a switch, or what the session began with.
fn is_switch(value: &[Token], on: bool) -> bool {
    let words: &[&str] = if on { &["on", "true", "yes", "1", "default"] } else { &["off", "false", "no", "0"] };
    only(value).is_some_and(|found| words.iter().any(|word| found.eq_ignore_ascii_case(word)))
}

fn only(value: &[Token]) -> Option<&str> {
    match value {
        [token] => only_name(token),
        _ => None,
    }
}

fn only_name(token: &Token) -> Option<&str> {
    match &token.kind {
        Kind::Word(name) | Kind::Quoted(name) | Kind::String(Some(name)) => Some(name),
        _ => None,
    }
}

const UNCLEAR: Need = Need::Unjudged("which setting it changes to what is not clear");

/// Settings that change how things look, how long they may take and how they are planned; drivers set them at their start.
const HARMLESS: [&str; 24] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "cursor_tuple_fraction",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "escape_string_warning",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "row_security",
    "statement_timeout",
    "synchronize_seqscans",
    "timezone",
    "transaction_isolation",
];
