//! Queries: SELECT, VALUES, TABLE, WITH, INSERT, UPDATE, DELETE and MERGE, through the parser and then held against the
//! scanner's tokens.
//!
//! The parser (crate sqlparser) knows more languages than PostgreSQL's, and could take a word for something that the server
//! does not. So whatever it says ([`tree`]) is believed only where the tokens agree: no verb that changes data, no row lock
//! and no name before a parenthesis ([`names`]) may stand in the text without standing in the tree.

mod names;
mod tree;

use std::collections::HashSet;

use sqlparser::ast::{Statement, Visit};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::lex::{Kind, Token};
use super::{Need, functions};

use names::candidates;
pub(super) use names::{calls, mentions, name_of};
use tree::Found;

/// What a query needs.
pub(super) fn needs(tokens: &[Token]) -> Vec<Need> {
    match parse(tokens) {
        Ok(statement) => {
            let mut found = Found::default();
            let _ = statement.visit(&mut found);
            found.needs(tokens)
        }
        Err(why) => vec![Need::Unjudged(why)],
    }
}

fn parse(tokens: &[Token]) -> Result<Statement, &'static str> {
    if is_unwieldy(tokens) {
        return Err("it is too long or nested too deep");
    }
    // The parser knows TABLE within a query only.
    let text = match tokens {
        [first, rest @ ..] if first.is("table") => format!("select * from {}", plain(rest)),
        _ => plain(tokens),
    };
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(MAX_RECURSION);
    let parsed = parser.try_with_sql(&text).and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|_| NOT_PARSED)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(NOT_PARSED),
    }
}

/// The tokens as a text that every scanner cuts alike: one blank between two tokens, no comments, strings of one form.
fn plain(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        match &token.kind {
            Kind::Word(word) if word.is_ascii() => text.push_str(word),
            Kind::Word(name) | Kind::Quoted(name) => quote(&mut text, name, '"'),
            Kind::String(value) => quote(&mut text, value.as_deref().unwrap_or_default(), '\''),
            Kind::Number => text.push('0'),
            Kind::Parameter => text.push_str("$1"),
            Kind::Symbol(symbol) => text.push_str(symbol),
        }
        text.push(' ');
    }
    text
}

fn quote(text: &mut String, value: &str, mark: char) {
    text.push(mark);
    for c in value.chars() {
        if c == mark {
            text.push(mark);
        }
        text.push(c);
    }
    text.push(mark);
}

/// Whether the tree would be deeper than a stack is sure to take. Parentheses nest; operators and set operations between
/// two commas make a tree as deep as there are many.
fn is_unwieldy(tokens: &[Token]) -> bool {
    let mut open = vec![0_usize];
    for token in tokens {
        if token.is_symbol("(") || token.is_symbol("[") || token.is("case") {
            open.push(0);
        } else if token.is_symbol(")") || token.is_symbol("]") || token.is("end") {
            if open.len() > 1 {
                open.pop();
            }
        } else if let Some(run) = open.last_mut() {
            *run = if token.is_symbol(",") { 0 } else { *run + 1 };
            if *run > MAX_RUN {
                return true;
            }
        }
        if open.len() > MAX_NESTING {
            return true;
        }
    }
    false
}

impl Found {
    /// What it needs, where `tokens` agree that it is all there is.
    fn needs(self, tokens: &[Token]) -> Vec<Need> {
        if self.unknown || !self.agrees_with(tokens) {
            return vec![Need::Unjudged(NOT_PARSED)];
        }
        // To update that view is to SET, whatever the name in the row, roles and how texts are read among them.
        let changes = self.statements.contains("update") || self.statements.contains("merge");
        if changes && tokens.iter().any(|token| token.name() == Some("pg_settings")) {
            return vec![Need::Unjudged("it changes settings by way of pg_settings")];
        }
        let statements = self.statements.into_iter().map(Need::Statement);
        let functions = self.functions.into_iter().map(|(schema, name)| Need::Function(schema, name));
        statements.chain(functions).chain(self.settings).collect()
    }

    /// Whether `tokens` hold no verb, lock or call that is not in the tree.
    fn agrees_with(&self, tokens: &[Token]) -> bool {
        let has = |verb: &str| self.statements.contains(verb);
        let verbs = tokens.iter().all(|token| match &token.kind {
            Kind::Word(word) => match word.as_str() {
                "insert" => has("insert") || has("merge"),
                "update" => has("update") || has("merge") || self.locks,
                "delete" => has("delete") || has("merge"),
                "merge" => has("merge"),
                "into" => has("insert") || has("merge") || has("create table"),
                "share" => self.locks,
                _ => true,
            },
            _ => true,
        });
        let called: HashSet<&str> = self.functions.iter().map(|(_, name)| name.as_str()).collect();
        verbs
            && candidates(tokens).all(|(schema, name)| {
                self.names.contains(name)
                    || functions::class(schema, name) == functions::Class::Harmless
                    || called.contains(name)
                    || schema.is_none_or(|schema| schema == "pg_catalog")
                        && name == "set_config"
                        && !self.settings.is_empty()
            })
    }
}

const NOT_PARSED: &str = "it does not parse";

/// Tokens between two commas, parentheses aside: half of them can be operators, and each makes the tree deeper by one.
const MAX_RUN: usize = 2_000;

/// Parentheses, brackets and CASE within each other.
const MAX_NESTING: usize = 24;

/// Steps of the parser's descent.
const MAX_RECURSION: usize = 64;
