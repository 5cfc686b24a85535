//! What a statement needs, by its first words. In PostgreSQL's grammar these say what a statement other than a query does,
//! whatever stands behind them (`src/backend/parser/gram.y`).

use super::lex::{Kind, Token};
use super::{Need, query, setting};

/// What one statement needs. `depth` counts the statements that it stands in.
pub(super) fn needs(tokens: &[Token], depth: usize) -> Vec<Need> {
    if depth > MAX_DEPTH {
        return vec![Need::Unjudged("statements in it are nested too deep")];
    }
    let [first, rest @ ..] = tokens else { return Vec::new() };
    let Kind::Word(word) = &first.kind else {
        return if first.is_symbol("(") { query::needs(tokens) } else { vec![UNKNOWN] };
    };
    match word.as_str() {
        "select" | "values" | "table" | "with" | "insert" | "update" | "delete" | "merge" => query::needs(tokens),
        "explain" => explain(rest, depth),
        "show" => vec![Need::Statement("show")],
        "set" => setting::set(rest),
        "reset" => setting::reset(rest),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => transaction(rest),
        "prepare" if rest.first().is_some_and(|next| next.is("transaction")) => {
            vec![Need::Statement("prepare transaction")]
        }
        "prepare" => carried(rest, "as", depth),
        "declare" => carried(rest, "for", depth),
        // What it runs was judged when it was prepared; its arguments are new.
        "execute" => query::calls(rest.get(1..).unwrap_or_default()),
        "fetch" | "move" | "close" | "deallocate" | "discard" | "unlisten" => Vec::new(),
        "copy" => copy(rest, depth),
        "call" => call(rest),
        "do" => vec![Need::Statement("do"), Need::Opaque("a DO block")],
        "create" => create(rest, depth),
        "alter" => alter(rest),
        "drop" => drop(rest),
        "lock" => lock(rest),
        "import" => vec![Need::Statement("import foreign schema")],
        "security" => vec![Need::Statement("security label")],
        "reassign" => vec![Need::Statement("reassign owned")],
        other => SAME_NAME.iter().find(|name| **name == other).map_or(vec![UNKNOWN], |name| named(name, rest)),
    }
}

/// A statement that is called as it begins. Expressions in it (of ANALYZE none, of COMMENT none) call nothing.
fn named(name: &'static str, rest: &[Token]) -> Vec<Need> {
    std::iter::once(Need::Statement(name)).chain(query::mentions(rest)).collect()
}

/// EXPLAIN runs its statement with ANALYZE only, but plans it always, and planning calls functions.
fn explain(rest: &[Token], depth: usize) -> Vec<Need> {
    let (runs, statement) = match rest {
        [first, ..] if first.is_symbol("(") && !begins_query(rest.get(1)) => {
            let (options, statement) = split_parentheses(rest);
            (!options.iter().all(plans_only), statement)
        }
        _ => {
            let words =
                rest.iter().take_while(|token| token.is("analyze") || token.is("analyse") || token.is("verbose"));
            let (options, statement) = rest.split_at(words.count());
            (options.iter().any(|token| !token.is("verbose")), statement)
        }
    };
    let inner = needs(statement, depth + 1).into_iter();
    let inner = inner.filter(|need| runs || !matches!(need, Need::Statement(_)));
    std::iter::once(Need::Statement("explain")).chain(inner).collect()
}

/// Whether this part of EXPLAIN's options is sure not to make it run its statement. ANALYZE does, in quotes as well, and
/// whatever is not known might.
fn plans_only(token: &Token) -> bool {
    match &token.kind {
        Kind::Word(word) => PLANNING.contains(&word.as_str()),
        Kind::Symbol(_) | Kind::Number | Kind::String(_) => true,
        _ => false,
    }
}

/// What begins, ends or divides a transaction. Only turning it read-write and two-phase commit need anything.
fn transaction(rest: &[Token]) -> Vec<Need> {
    if rest.first().is_some_and(|next| next.is("prepared")) {
        return vec![Need::Statement("prepare transaction")];
    }
    setting::modes(rest)
}

/// PREPARE name (types) AS statement; DECLARE name CURSOR FOR query.
fn carried(rest: &[Token], word: &str, depth: usize) -> Vec<Need> {
    match rest.iter().position(|token| token.is(word)) {
        Some(at) => needs(rest.get(at + 1..).unwrap_or_default(), depth + 1),
        None => vec![UNKNOWN],
    }
}

/// COPY moves rows in bulk: a right of its own, besides the one to read or to insert.
fn copy(rest: &[Token], depth: usize) -> Vec<Need> {
    let mut found = vec![Need::Statement("copy")];
    let rest = match rest {
        [first, ..] if first.is_symbol("(") => {
            let (inner, rest) = split_parentheses(rest);
            found.extend(needs(inner, depth + 1));
            rest
        }
        _ => {
            let Some(at) = rest.iter().position(|token| token.is("from") || token.is("to")) else {
                return vec![UNKNOWN];
            };
            let (relation, rest) = rest.split_at(at);
            let writes = rest.first().is_some_and(|token| token.is("from"));
            found.push(Need::Statement(if writes { "insert" } else { "select" }));
            found.extend(query::mentions(relation));
            rest
        }
    };
    let [direction, place, options @ ..] = rest else { return vec![UNKNOWN] };
    if !direction.is("from") && !direction.is("to") {
        return vec![UNKNOWN];
    }
    match &place.kind {
        Kind::Word(word) if word == "stdin" || word == "stdout" => {}
        Kind::Word(word) if word == "program" => found.push(Need::Statement("copy program")),
        Kind::String(_) => found.push(Need::Statement("copy file")),
        _ => return vec![UNKNOWN],
    }
    if let Some(at) = options.iter().position(|token| token.is("where")) {
        found.extend(query::calls(options.get(at..).unwrap_or_default()));
    }
    found
}

/// CALL needs leave for all procedures, or for this one.
fn call(rest: &[Token]) -> Vec<Need> {
    let Some(open) = rest.iter().position(|token| token.is_symbol("(")) else { return vec![UNKNOWN] };
    let (name, arguments) = rest.split_at(open);
    let Some((schema, procedure)) = query::name_of(name) else { return vec![UNKNOWN] };
    let mut found = vec![Need::Procedure(schema, procedure)];
    found.extend(query::calls(arguments));
    found
}

fn create(rest: &[Token], depth: usize) -> Vec<Need> {
    let Some((name, object)) = created(rest) else { return vec![UNKNOWN] };
    let mut found = named(name, rest);
    if matches!(name, "create table" | "create materialized view") {
        // CREATE TABLE … AS query, which is run.
        let begin = object.windows(2).position(|pair| matches!(pair, [a, b] if a.is("as") && begins_query(Some(b))));
        if let Some(at) = begin {
            found.extend(needs(without_options(object.get(at + 1..).unwrap_or_default()), depth + 1));
        }
    }
    if name == "create schema" {
        // Statements stand in it, without semicolons.
        found.extend(rest.iter().enumerate().filter_map(|(at, token)| match () {
            () if token.is("grant") => Some(Need::Statement("grant")),
            () if token.is("create") => {
                Some(created(rest.get(at + 1..).unwrap_or_default()).map_or(UNKNOWN, |(name, _)| Need::Statement(name)))
            }
            () => None,
        }));
    }
    found
}

/// What is created, and from where on it is described.
fn created(rest: &[Token]) -> Option<(&'static str, &[Token])> {
    let ahead = [
        "or",
        "replace",
        "global",
        "local",
        "temp",
        "temporary",
        "unlogged",
        "recursive",
        "trusted",
        "procedural",
        "unique",
        "constraint",
        "default",
        "foreign",
    ];
    let object = rest.iter().position(|token| !ahead.iter().any(|word| token.is(word))).unwrap_or(0);
    let object = rest.get(object..).unwrap_or_default();
    let name = match words(object) {
        (Some("role" | "group"), _) => "create role",
        (Some("user"), Some("mapping")) => "create other",
        (Some("user"), _) => "create role",
        (Some("table"), _) => "create table",
        (Some("index"), _) => "create index",
        (Some("view"), _) => "create view",
        (Some("materialized"), _) => "create materialized view",
        (Some("sequence"), _) => "create sequence",
        (Some("schema"), _) => "create schema",
        (Some("database"), _) => "create database",
        (Some("function" | "procedure" | "aggregate"), _) => "create function",
        (Some("trigger"), _) => "create trigger",
        (Some("type" | "domain"), _) => "create type",
        (Some("extension"), _) => "create extension",
        (Some("policy"), _) => "create policy",
        (Some(_), _) => "create other",
        (None, _) => return None,
    };
    Some((name, object))
}

/// The query of a CREATE TABLE AS without the `WITH [NO] DATA` behind it, which no query has.
fn without_options(query: &[Token]) -> &[Token] {
    match query {
        [rest @ .., with, no, data] if with.is("with") && no.is("no") && data.is("data") => rest,
        [rest @ .., with, data] if with.is("with") && data.is("data") => rest,
        _ => query,
    }
}

fn alter(rest: &[Token]) -> Vec<Need> {
    let name = match words(rest) {
        (Some("system"), _) => "alter system",
        (Some("default"), _) => "alter default privileges",
        (Some("role" | "group"), _) => "alter role",
        (Some("user"), Some("mapping")) => "alter other",
        (Some("user"), _) => "alter role",
        (Some("table"), _) => "alter table",
        (Some("index"), _) => "alter index",
        (Some("view"), _) => "alter view",
        (Some("sequence"), _) => "alter sequence",
        (Some("database"), _) => "alter database",
        (Some("function" | "procedure" | "aggregate" | "routine"), _) => "alter function",
        (Some(_), _) => "alter other",
        (None, _) => return vec![UNKNOWN],
    };
    named(name, rest)
}

fn drop(rest: &[Token]) -> Vec<Need> {
    let name = match words(rest) {
        (Some("owned"), _) => "drop owned",
        (Some("role" | "group"), _) => "drop role",
        (Some("user"), Some("mapping")) => "drop other",
        (Some("user"), _) => "drop role",
        (Some("table"), _) => "drop table",
        (Some("index"), _) => "drop index",
        (Some("view"), _) => "drop view",
        (Some("materialized"), _) => "drop materialized view",
        (Some("sequence"), _) => "drop sequence",
        (Some("schema"), _) => "drop schema",
        (Some("database"), _) => "drop database",
        (Some("function" | "procedure" | "aggregate" | "routine"), _) => "drop function",
        (Some(_), _) => "drop other",
        (None, _) => return vec![UNKNOWN],
    };
    vec![Need::Statement(name)]
}

/// ACCESS SHARE is what every SELECT takes.
fn lock(rest: &[Token]) -> Vec<Need> {
    let mode = rest.iter().position(|token| token.is("in")).and_then(|at| rest.get(at + 1..));
    let reads =
        mode.is_some_and(|mode| matches!(mode, [a, b, c, ..] if a.is("access") && b.is("share") && c.is("mode")));
    vec![Need::Statement(if reads { "select" } else { "lock" })]
}

/// The first two words, where they are words.
fn words(tokens: &[Token]) -> (Option<&str>, Option<&str>) {
    let word = |at: usize| match tokens.get(at).map(|token| &token.kind) {
        Some(Kind::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    (word(0), word(1))
}

fn begins_query(token: Option<&Token>) -> bool {
    token.is_some_and(|token| {
        token.is_symbol("(") || ["select", "values", "table", "with", "execute"].iter().any(|word| token.is(word))
    })
}

/// What stands in the parentheses that `tokens` begin with, and what behind them; all and nothing where they do not close.
fn split_parentheses(tokens: &[Token]) -> (&[Token], &[Token]) {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.is_symbol("(") {
            depth += 1;
        } else if token.is_symbol(")") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return (tokens.get(1..at).unwrap_or_default(), tokens.get(at + 1..).unwrap_or_default());
            }
        }
    }
    (tokens, &[])
}

/// Statements whose name is the word that they begin with.
const SAME_NAME: [&str; 13] = [
    "truncate",
    "grant",
    "revoke",
    "comment",
    "reindex",
    "refresh",
    "vacuum",
    "analyze",
    "cluster",
    "listen",
    "notify",
    "checkpoint",
    "load",
];

/// Options of EXPLAIN, and their values, that leave it at planning.
const PLANNING: [&str; 18] = [
    "verbose",
    "costs",
    "settings",
    "generic_plan",
    "buffers",
    "wal",
    "timing",
    "summary",
    "memory",
    "format",
    "text",
    "xml",
    "json",
    "yaml",
    "on",
    "off",
    "true",
    "false",
];

const UNKNOWN: Need = Need::Unjudged("it is no statement that is known");

/// EXPLAIN of a DECLARE of a SELECT is as deep as it gets.
const MAX_DEPTH: usize = 4;
