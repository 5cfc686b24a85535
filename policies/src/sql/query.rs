//! Queries: SELECT, VALUES, TABLE, WITH, INSERT, UPDATE, DELETE and MERGE, through the parser and then held against the
//! scanner's tokens.
//!
//! The parser (crate sqlparser) knows more languages than PostgreSQL's, and could take a word for something that the server
//! does not. So whatever it says is believed only where the tokens agree: no verb that changes data, no row lock and no
//! name before a parenthesis may stand in the text without standing in the tree.
//!
//! One long file, because each half means nothing without the other: what the tree needs, and what the tokens contradict.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Insert, ObjectName,
    OnConflictAction, OnInsert, Query, Select, SetExpr, Statement, TableFactor, TableObject, Value, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::lex::{Kind, Token};
use super::{Need, functions, setting};

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
    match parsed.as_deref() {
        Ok([_]) => parsed.ok().and_then(|mut statements| statements.pop()).ok_or(NOT_PARSED),
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

/// What the parser found.
#[derive(Default)]
struct Found {
    statements: BTreeSet<&'static str>,
    functions: Vec<(Option<String>, String)>,
    settings: Vec<Need>,
    locks: bool,
    /// Relations, aliases and types, which may stand before a parenthesis as functions do.
    names: BTreeSet<String>,
    unknown: bool,
}

impl Found {
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

    fn call(&mut self, name: &ObjectName) {
        match parts(name) {
            // To the parser a function, to the server syntax: reserved words, unless they are quoted.
            Some((None, word)) if SYNTAX.contains(&word.as_str()) && !is_quoted(name) => {}
            Some((schema, name)) => self.functions.push((schema, name)),
            None => self.unknown = true,
        }
    }

    fn function(&mut self, function: &Function) {
        match parts(&function.name) {
            Some((None, name)) if name == "set_config" => self.set_config(&function.args),
            Some((Some(schema), name)) if name == "set_config" && schema == "pg_catalog" => {
                self.set_config(&function.args)
            }
            _ => self.call(&function.name),
        }
    }

    fn set_config(&mut self, arguments: &FunctionArguments) {
        let text = |at: usize| match arguments {
            FunctionArguments::List(list) => list.args.get(at).and_then(plain_string),
            _ => None,
        };
        let needs = setting::set_config(text(0).as_deref(), text(1).as_deref());
        // That it was seen shows in there being something, if only what a SELECT needs anyway.
        self.settings.push(Need::Statement("select"));
        self.settings.extend(needs);
    }

    fn name(&mut self, name: &ObjectName) {
        match parts(name) {
            Some((_, name)) => _ = self.names.insert(name),
            None => self.unknown = true,
        }
    }

    fn insert(&mut self, insert: &Insert) {
        self.statements.insert("insert");
        match &insert.table {
            TableObject::TableName(name) => self.name(name),
            _ => self.unknown = true,
        }
        self.unknown |= insert.overwrite || insert.replace_into || insert.ignore || !insert.into;
        match &insert.on {
            Some(OnInsert::OnConflict(conflict)) if matches!(conflict.action, OnConflictAction::DoUpdate(_)) => {
                self.statements.insert("update");
            }
            Some(OnInsert::DuplicateKeyUpdate(_)) => self.unknown = true,
            _ => {}
        }
        self.returns(insert.returning.is_some());
    }

    /// What comes back from a statement that writes was read.
    fn returns(&mut self, returning: bool) {
        if returning {
            self.statements.insert("select");
        }
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Query(query) if matches!(&*query.body, SetExpr::Values(_)) => {
                _ = self.statements.insert("select")
            }
            Statement::Query(_) => {}
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => {
                self.statements.insert("update");
                self.returns(update.returning.is_some() || update.from.is_some());
            }
            Statement::Delete(delete) => {
                self.statements.insert("delete");
                self.returns(delete.returning.is_some() || delete.using.is_some());
            }
            Statement::Merge(_) => {
                self.statements.insert("merge");
                self.returns(true);
            }
            _ => self.unknown = true,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() {
            self.locks = true;
            self.statements.insert("select for update");
        }
        if matches!(&*query.body, SetExpr::Table(_)) {
            self.statements.insert("select");
        }
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.insert(folded(&cte.alias.name));
        }
        self.unknown |= query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.statements.insert("select");
        if select.into.is_some() {
            self.statements.insert("create table");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => self.call(name),
            _ => {}
        }
        let alias = match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias,
            // XMLTABLE and JSON_TABLE read what they are given; the others are of other languages.
            TableFactor::XmlTable { alias, .. } | TableFactor::JsonTable { alias, .. } => alias,
            _ => {
                self.unknown = true;
                &None
            }
        };
        self.names.extend(alias.iter().map(|alias| folded(&alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon, data_type: DataType::Custom(name, _), ..
            } => {
                self.name(name);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Schema and name as the server folds them; a database before them is passed over, as the server does.
fn parts(name: &ObjectName) -> Option<(Option<String>, String)> {
    let parts = name.0.iter().map(|part| part.as_ident().map(folded)).collect::<Option<Vec<String>>>()?;
    match parts.as_slice() {
        [.., schema, name] => Some((Some(schema.clone()), name.clone())),
        [name] => Some((None, name.clone())),
        [] => None,
    }
}

fn folded(ident: &sqlparser::ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

fn is_quoted(name: &ObjectName) -> bool {
    name.0.iter().any(|part| part.as_ident().is_none_or(|ident| ident.quote_style.is_some()))
}

fn plain_string(argument: &FunctionArg) -> Option<String> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Boolean(switch) => Some(switch.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Every call that expressions in these tokens could make.
pub(super) fn calls(tokens: &[Token]) -> Vec<Need> {
    let opaque = tokens.iter().any(|token| token.is("select") || token.is("set_config"));
    let needs = candidates(tokens).map(|(schema, name)| Need::Function(schema.map(str::to_owned), name.to_owned()));
    let unreserved = tokens.windows(3).filter_map(|three| match three {
        [before, Token { kind: Kind::Word(word), .. }, open]
            if open.is_symbol("(") && !before.is_symbol(".") && UNRESERVED.contains(&word.as_str()) =>
        {
            Some(Need::Function(None, word.clone()))
        }
        _ => None,
    });
    needs.chain(unreserved).chain(opaque.then_some(Need::Unjudged("it has a query in its arguments"))).collect()
}

/// Every name in a statement that defines something which could be a function's.
pub(super) fn mentions(tokens: &[Token]) -> Vec<Need> {
    let mention = |(schema, name): (Option<&str>, &str)| Need::Mention(schema.map(str::to_owned), name.to_owned());
    candidates(tokens).map(mention).collect()
}

/// Schema and name of a procedure.
pub(super) fn name_of(tokens: &[Token]) -> Option<(Option<String>, String)> {
    match tokens {
        [.., schema, dot, name] if dot.is_symbol(".") => {
            Some((Some(schema.name()?.to_owned()), name.name()?.to_owned()))
        }
        [name] => Some((None, name.name()?.to_owned())),
        _ => None,
    }
}

/// Names that stand before a parenthesis, less those that no function can have or that stand where none can be called.
fn candidates(tokens: &[Token]) -> impl Iterator<Item = (Option<&str>, &str)> {
    tokens.windows(2).enumerate().filter_map(move |(at, pair)| {
        let [name, open] = pair else { return None };
        if !open.is_symbol("(") {
            return None;
        }
        let back = |steps: usize| at.checked_sub(steps).and_then(|before| tokens.get(before));
        let qualified = back(1).is_some_and(|token| token.is_symbol("."));
        let schema = if qualified { back(2).and_then(Token::name) } else { None };
        let before = back(if qualified { 3 } else { 1 });
        // A type, a new name, or a way to take samples.
        if before.is_some_and(|token| token.is_symbol("::") || token.is("as") || token.is("tablesample")) {
            return None;
        }
        let reserved = matches!(&name.kind, Kind::Word(word) if !qualified && RESERVED.contains(&word.as_str()));
        // OPERATOR(schema.+): no argument of a function begins like that.
        let operator = name.is("operator") && {
            let of_schema = tokens.get(at + 3).is_some_and(|token| token.is_symbol("."));
            let sign = tokens.get(if of_schema { at + 4 } else { at + 2 });
            sign.is_some_and(|token| matches!(&token.kind, Kind::Symbol(symbol) if symbol != "(" && symbol != ")"))
        };
        (!reserved && !operator).then_some((schema, name.name()?))
    })
}

/// ARRAY(subquery), ROW(values) and comparisons with many values.
const SYNTAX: [&str; 5] = ["all", "any", "array", "row", "some"];

const NOT_PARSED: &str = "it does not parse";

/// Tokens between two commas, parentheses aside: half of them can be operators, and each makes the tree deeper by one.
const MAX_RUN: usize = 2_000;

/// Parentheses, brackets and CASE within each other.
const MAX_NESTING: usize = 24;

/// Steps of the parser's descent.
const MAX_RECURSION: usize = 64;

/// Those of [`RESERVED`] that a function may have for its name, and that mean nothing else in an expression that holds no
/// query and no window.
const UNRESERVED: [&str; 25] = [
    "authorization",
    "binary",
    "by",
    "collation",
    "concurrently",
    "conflict",
    "cross",
    "cube",
    "filter",
    "freeze",
    "full",
    "inner",
    "join",
    "key",
    "materialized",
    "natural",
    "outer",
    "over",
    "partition",
    "rollup",
    "set",
    "sets",
    "tablesample",
    "verbose",
    "within",
];

/// Words before a parenthesis that are no function's name: reserved for something else by PostgreSQL (Appendix C), or
/// syntax that the server reads before it looks for a function.
const RESERVED: [&str; 159] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "by",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "conflict",
    "constraint",
    "create",
    "cross",
    "cube",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "filter",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "key",
    "lateral",
    "leading",
    "least",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "materialized",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "over",
    "overlay",
    "partition",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "rollup",
    "row",
    "select",
    "session_user",
    "set",
    "setof",
    "sets",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "within",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];
