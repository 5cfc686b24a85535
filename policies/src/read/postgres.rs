//! A value of `sallyport.dev/cap/postgres`.

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged as _;

use crate::reader::{Fields, Reader, quote};
use crate::role::{self, Role};
use crate::{FunctionRule, ParameterRule, PostgresCapability, RecordingRule, StatementKind, StatementRule};

use super::capability::{checked, limit, recording, switch};

/// A value of `sallyport.dev/cap/postgres`.
pub(super) struct PostgresValue {
    /// As written, and as meant.
    pub(super) roles: Vec<(String, Role)>,
    pub(super) databases: Vec<String>,
    pub(super) recording: Option<RecordingRule>,
    pub(super) capability: PostgresCapability,
}

pub(super) fn read(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<PostgresValue> {
    let fields = reader.fields(value, "a capability for postgres", &KEYS)?;
    let roles = roles(reader, &fields);
    let databases = required(reader, &fields, "databases", DATABASES_EXPECTED, role::is_database);
    let recording = fields.get("recording").and_then(|value| recording(reader, value));
    let member_of =
        fields.get("memberOf").map(|_| required(reader, &fields, "memberOf", GROUPS_EXPECTED, role::is_possible));
    let capability = PostgresCapability {
        statements: statements(reader, &fields),
        functions: functions(reader, &fields),
        read_only: fields.get("readOnly").and_then(|value| reader.boolean(value, "true or false")).unwrap_or(false),
        max_rows: fields.get("maxRows").and_then(|value| rows(reader, value)),
        max_bytes: fields.get("maxBytes").and_then(|value| bytes(reader, value)),
        max_duration: limit(reader, &fields, "maxDuration"),
        idle_timeout: limit(reader, &fields, "idleTimeout"),
        parameters: fields.get("parameters").map_or(ParameterRule::Record, |value| parameters(reader, value)),
        replication: switch(reader, &fields, "replication"),
        member_of: member_of.unwrap_or_default(),
    };
    Some(PostgresValue { roles, databases, recording, capability })
}

fn roles(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<(String, Role)> {
    let Some(value) = fields.get("roles") else {
        if fields.get("memberOf").is_some() {
            return vec![(OWN_NAME.to_owned(), Role::Own)];
        }
        reader.error(fields.at, "the capability has no \"roles\"", ROLES_EXPECTED);
        return Vec::new();
    };
    let list = reader.strings(value, ROLES_EXPECTED);
    if matches!(value, Value::Array(array) if array.elements.is_empty()) {
        reader.error(value.range(), "\"roles\" names no role", ROLES_EXPECTED);
    }
    list.into_iter()
        .filter_map(|lit| match Role::parse(&lit.value) {
            Ok(role) => Some((lit.value.to_string(), role)),
            Err(expected) => {
                reader.error(lit.range, format!("{} is no role", quote(&lit.value)), expected);
                None
            }
        })
        .collect()
}

/// A list that must be there, and must not be empty.
fn required(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    name: &str,
    expected: &str,
    check: fn(&str) -> bool,
) -> Vec<String> {
    let Some(value) = fields.get(name) else {
        reader.error(fields.at, format!("the capability has no {name:?}"), expected);
        return Vec::new();
    };
    if matches!(value, Value::Array(array) if array.elements.is_empty()) {
        reader.error(value.range(), format!("{name:?} is empty"), expected);
    }
    checked(reader, value, check, expected)
}

fn statements(reader: &mut Reader<'_>, fields: &Fields<'_>) -> StatementRule {
    let mut rule = StatementRule::default();
    let Some(value) = fields.get("statements") else { return rule };
    for lit in reader.strings(value, STATEMENTS_EXPECTED) {
        let text = lit.value.as_ref();
        if text == "any" {
            rule.any = true;
        } else if let Some(kind) = KINDS.into_iter().find(|kind| kind.as_str() == text) {
            rule.kinds.push(kind);
        } else if StatementRule::NAMES.iter().any(|(name, _)| *name == text) {
            rule.names.push(text.to_owned());
        } else {
            let kinds = KINDS.iter().map(|kind| kind.as_str());
            let names = StatementRule::NAMES.iter().map(|(name, _)| *name);
            let known: Vec<&str> = kinds.chain(["any"]).chain(names).collect();
            reader.unknown(lit.range, &format!("there is no statement {}", quote(text)), text, &known);
        }
    }
    rule
}

fn functions(reader: &mut Reader<'_>, fields: &Fields<'_>) -> FunctionRule {
    let mut rule = FunctionRule::default();
    let Some(value) = fields.get("functions") else { return rule };
    let Some(functions) = reader.fields(value, "\"functions\"", &["allow", "deny"]) else { return rule };
    let (allow, deny) = (functions.get("allow"), functions.get("deny"));
    if allow.is_none() && deny.is_none() {
        reader.error(functions.at, "\"functions\" says neither \"allow\" nor \"deny\"", FUNCTIONS_EXPECTED);
    }
    let mut names = |value: Option<&Value<'_>>| {
        value.map(|value| checked(reader, value, is_function, FUNCTIONS_EXPECTED)).unwrap_or_default()
    };
    rule.allow = names(allow);
    rule.deny = names(deny);
    rule
}

/// A name as PostgreSQL folds it, with wildcards, and at most one schema before it.
fn is_function(text: &str) -> bool {
    text.split('.').count() <= 2
        && text.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() && !c.is_uppercase() || "_$*?".contains(c))
        })
}

fn parameters(reader: &mut Reader<'_>, value: &Value<'_>) -> ParameterRule {
    let expected = "\"record\" or \"hide\"";
    // What is not understood is hidden; the policy is refused anyway.
    let Some(lit) = reader.string(value, expected) else { return ParameterRule::Hide };
    match lit.value.as_ref() {
        "record" => ParameterRule::Record,
        "hide" => ParameterRule::Hide,
        other => {
            reader.unknown(lit.range, &format!("there is no rule {}", quote(other)), other, &["record", "hide"]);
            ParameterRule::Hide
        }
    }
}

fn rows(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<u64> {
    let count = match value {
        Value::NumberLit(lit) => number(lit.value),
        _ => None,
    };
    if count.is_none() {
        reader.mismatch(value, "how many rows, such as 10000");
    }
    count
}

/// A number of bytes, or one with PostgreSQL's own units.
fn bytes(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<u64> {
    let count = match value {
        Value::NumberLit(lit) => number(lit.value),
        Value::StringLit(lit) => {
            let unit = UNITS.iter().find_map(|(unit, size)| Some((lit.value.strip_suffix(unit)?, *size)));
            unit.and_then(|(digits, size)| number(digits)?.checked_mul(size))
        }
        _ => None,
    };
    if count.is_none() {
        reader.mismatch(value, "how many bytes, such as 1000000 or \"100MB\"");
    }
    count
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|count| *count > 0)
}

/// PostgreSQL's, powers of 1024. The longer units stand first, since `B` ends them all.
const UNITS: [(&str, u64); 4] = [("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("B", 1)];

const KINDS: [StatementKind; 4] = [StatementKind::Read, StatementKind::Write, StatementKind::Ddl, StatementKind::Role];

const KEYS: [&str; 13] = [
    "roles",
    "databases",
    "statements",
    "functions",
    "readOnly",
    "maxRows",
    "maxBytes",
    "maxDuration",
    "idleTimeout",
    "parameters",
    "replication",
    "memberOf",
    "recording",
];

const ROLES_EXPECTED: &str = "\"roles\": a list of database roles, such as [\"analyst\", \"app_*\"]";

const DATABASES_EXPECTED: &str = "\"databases\": a list of databases, such as [\"orders\", \"orders_*\"]";

const STATEMENTS_EXPECTED: &str = "a list of kinds and names of statements, such as [\"read\", \"copy\"]";

const FUNCTIONS_EXPECTED: &str =
    "names of functions in small letters, such as { \"allow\": [\"app.total\", \"st_*\"], \"deny\": [\"pg_sleep\"] }";

/// What stands for the `roles` of a capability that makes a role for whoever calls.
const OWN_NAME: &str = "the caller's own name";

const GROUPS_EXPECTED: &str = "a list of database roles, such as [\"readers\"]";
