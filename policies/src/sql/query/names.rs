//! Names that stand before a parenthesis, by the tokens alone: whatever could be the call of a function.

use crate::sql::Need;
use crate::sql::lex::{Kind, Token};

/// Every call that expressions in these tokens could make.
pub(in crate::sql) fn calls(tokens: &[Token]) -> Vec<Need> {
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
pub(in crate::sql) fn mentions(tokens: &[Token]) -> Vec<Need> {
    let mention = |(schema, name): (Option<&str>, &str)| Need::Mention(schema.map(str::to_owned), name.to_owned());
    candidates(tokens).map(mention).collect()
}

/// Schema and name of a procedure.
pub(in crate::sql) fn name_of(tokens: &[Token]) -> Option<(Option<String>, String)> {
    match tokens {
        [.., schema, dot, name] if dot.is_symbol(".") => {
            Some((Some(schema.name()?.to_owned()), name.name()?.to_owned()))
        }
        [name] => Some((None, name.name()?.to_owned())),
        _ => None,
    }
}

/// Names that stand before a parenthesis, less those that no function can have or that stand where none can be called.
pub(super) fn candidates(tokens: &[Token]) -> impl Iterator<Item = (Option<&str>, &str)> {
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

/// Those of [`RESERVED`] that a function may have for its name, and that mean nothing else in an expression that holds no
/// query and no window.
#[rustfmt::skip]
const UNRESERVED: [&str; 25] = [
    "authorization", "binary", "by", "collation", "concurrently", "conflict", "cross", "cube", "filter", "freeze",
    "full", "inner", "join", "key", "materialized", "natural", "outer", "over", "partition", "rollup", "set", "sets",
    "tablesample", "verbose", "within",
];

/// Words before a parenthesis that are no function's name: reserved for something else by PostgreSQL (Appendix C), or
/// syntax that the server reads before it looks for a function.
#[rustfmt::skip]
const RESERVED: [&str; 159] = [
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between",
    "bigint", "binary", "bit", "boolean", "both", "by", "case", "cast", "char", "character", "check", "coalesce",
    "collate", "collation", "column", "concurrently", "conflict", "constraint", "create", "cross", "cube",
    "current_catalog", "current_date", "current_role", "current_time", "current_timestamp", "current_user", "dec",
    "decimal", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "exists", "extract",
    "false", "fetch", "filter", "float", "for", "foreign", "freeze", "from", "full", "grant", "greatest", "group",
    "grouping", "having", "ilike", "in", "initially", "inner", "inout", "int", "integer", "intersect", "interval",
    "into", "is", "isnull", "join", "key", "lateral", "leading", "least", "like", "limit", "localtime",
    "localtimestamp", "materialized", "national", "natural", "nchar", "none", "normalize", "not", "notnull", "null",
    "nullif", "numeric", "offset", "on", "only", "or", "order", "out", "outer", "over", "overlay", "partition",
    "placing", "position", "precision", "primary", "real", "references", "returning", "rollup", "row", "select",
    "session_user", "set", "setof", "sets", "similar", "smallint", "some", "substring", "symmetric", "table",
    "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user",
    "using", "values", "varchar", "variadic", "verbose", "when", "where", "window", "with", "within", "xmlattributes",
    "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot",
    "xmlserialize", "xmltable",
];
