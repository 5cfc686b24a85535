//! Device postures: named lists of conditions on a device's attributes, all of which have to hold.
//!
//! Follows Tailscale's device posture conditions. An attribute that is not set fails every comparison, `!=` and `NOT IN`
//! included; `IS SET` and `NOT SET` alone look at whether it is there.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::Value;

/// An entry of `postures`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Posture {
    pub(crate) name: String,
    pub(crate) conditions: Vec<Condition>,
}

impl Posture {
    /// The first condition that does not hold, with what was found instead.
    pub(crate) fn unmet(&self, attributes: &BTreeMap<String, Value>) -> Option<String> {
        self.conditions.iter().find_map(|condition| condition.unmet(attributes))
    }
}

/// One condition, such as `node:osVersion >= '13.4'`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    written: String,
    attribute: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equal(Value),
    NotEqual(Value),
    Order(Relation, Value),
    In(Vec<Value>),
    NotIn(Vec<Value>),
    IsSet,
    NotSet,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Relation {
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Condition {
    /// Reads a condition; an attribute alone asks for `true`.
    pub(crate) fn parse(text: &str) -> Option<Condition> {
        let rest = text.trim();
        let end = rest.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).unwrap_or(rest.len());
        let (attribute, rest) = rest.split_at_checked(end)?;
        if !is_attribute(attribute) {
            return None;
        }
        let test = parse_test(rest.trim())?;
        Some(Condition { written: text.trim().to_owned(), attribute: attribute.to_owned(), test })
    }

    fn unmet(&self, attributes: &BTreeMap<String, Value>) -> Option<String> {
        let found = attributes.get(&self.attribute);
        if self.test.holds(found) {
            return None;
        }
        let found = match found {
            None => "is not set".to_owned(),
            Some(Value::String(text)) => format!("is '{text}'"),
            Some(Value::Number(number)) => format!("is {number}"),
            Some(Value::Bool(value)) => format!("is {value}"),
        };
        Some(format!("it asks for \"{}\", but {} {found}", self.written, self.attribute))
    }
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Test::NotSet, found) => found.is_none(),
            (_, None) => false,
            (Test::IsSet, Some(_)) => true,
            (Test::Equal(wanted), Some(found)) => found == wanted,
            (Test::NotEqual(wanted), Some(found)) => same_kind(found, wanted) && found != wanted,
            (Test::In(list), Some(found)) => list.contains(found),
            (Test::NotIn(list), Some(found)) => !list.contains(found) && list.iter().all(|one| same_kind(one, found)),
            (Test::Order(relation, wanted), Some(found)) => {
                let order = match (found, wanted) {
                    (Value::Number(found), Value::Number(wanted)) => found.partial_cmp(wanted),
                    (Value::String(found), Value::String(wanted)) => compare_versions(found, wanted),
                    _ => None,
                };
                order.is_some_and(|order| relation.holds(order))
            }
        }
    }
}

impl Relation {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Relation::Less => order.is_lt(),
            Relation::AtMost => order.is_le(),
            Relation::More => order.is_gt(),
            Relation::AtLeast => order.is_ge(),
        }
    }
}

fn same_kind(one: &Value, other: &Value) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Compares versions run by run: digits as numbers, the rest as text. `None` where either is no version.
fn compare_versions(one: &str, other: &str) -> Option<Ordering> {
    let starts_with_digit = |text: &str| text.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    if !starts_with_digit(one) || !starts_with_digit(other) {
        return None;
    }
    let (mut one, mut other) = (one.trim_start_matches('v'), other.trim_start_matches('v'));
    while !one.is_empty() && !other.is_empty() {
        let (mine, rest_of_one) = take_run(one);
        let (theirs, rest_of_other) = take_run(other);
        let digits = |run: &str| run.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(mine) && digits(theirs) {
            let (mine, theirs) = (mine.trim_start_matches('0'), theirs.trim_start_matches('0'));
            mine.len().cmp(&theirs.len()).then_with(|| mine.cmp(theirs))
        } else {
            mine.cmp(theirs)
        };
        if order.is_ne() {
            return Some(order);
        }
        (one, other) = (rest_of_one, rest_of_other);
    }
    Some(one.len().cmp(&other.len()))
}

/// Splits off the longest run of digits, or of anything else.
fn take_run(text: &str) -> (&str, &str) {
    let first_is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != first_is_digit).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `node:os`, `custom:diskEncrypted`: a namespace and a key.
pub(crate) fn is_attribute(text: &str) -> bool {
    text.split_once(':').is_some_and(|(namespace, key)| {
        let plain =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        plain(namespace) && plain(key)
    })
}

fn parse_test(text: &str) -> Option<Test> {
    match text {
        "" => return Some(Test::Equal(Value::Bool(true))),
        _ if words(text) == ["IS", "SET"] => return Some(Test::IsSet),
        _ if words(text) == ["NOT", "SET"] => return Some(Test::NotSet),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix("NOT") {
        return parse_list(rest.trim_start().strip_prefix("IN")?).map(Test::NotIn);
    }
    if let Some(rest) = text.strip_prefix("IN") {
        return parse_list(rest).map(Test::In);
    }
    let relations = [("<=", Relation::AtMost), (">=", Relation::AtLeast), ("<", Relation::Less), (">", Relation::More)];
    if let Some(rest) = text.strip_prefix("==") {
        parse_value(rest).map(Test::Equal)
    } else if let Some(rest) = text.strip_prefix("!=") {
        parse_value(rest).map(Test::NotEqual)
    } else {
        let (relation, rest) =
            relations.iter().find_map(|(sign, relation)| Some((*relation, text.strip_prefix(sign)?)))?;
        // True and false have no order.
        parse_value(rest).filter(|value| !matches!(value, Value::Bool(_))).map(|value| Test::Order(relation, value))
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().take(3).collect()
}

fn parse_value(text: &str) -> Option<Value> {
    let text = text.trim();
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => match text.strip_prefix('\'') {
            Some(rest) => rest.strip_suffix('\'').filter(|inner| !inner.contains('\'')).map(Value::from),
            None => {
                text.parse().ok().filter(|number: &f64| number.is_finite() && !text.starts_with('+')).map(Value::Number)
            }
        },
    }
}

/// Reads `['a', 'b']`; a comma between quotes belongs to the text.
fn parse_list(text: &str) -> Option<Vec<Value>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut quoted = false;
    let parts = inner.split(|c: char| {
        quoted ^= c == '\'';
        c == ',' && !quoted
    });
    parts.map(parse_value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, value: Option<Value>) -> bool {
        let attributes = value.map(|value| ("node:x".to_owned(), value)).into_iter().collect();
        Condition::parse(condition).unwrap_or_else(|| panic!("{condition}")).unmet(&attributes).is_none()
    }

    #[test]
    fn unset_attribute_fails_every_comparison() {
        for condition in [
            "node:x",
            "node:x == 'a'",
            "node:x != 'a'",
            "node:x < '1'",
            "node:x <= '1'",
            "node:x > '1'",
            "node:x >= '1'",
            "node:x IN ['a']",
            "node:x NOT IN ['a']",
            "node:x IS SET",
            "node:x != true",
            "node:x != 1",
        ] {
            assert!(!holds(condition, None), "{condition}");
        }
        assert!(holds("node:x NOT SET", None));
    }

    #[test]
    fn compares() {
        for (condition, value, expected) in [
            ("node:x == 'linux'", Value::from("linux"), true),
            ("node:x=='linux'", Value::from("linux"), true),
            ("node:x == 'linux'", Value::from("macos"), false),
            ("node:x != 'linux'", Value::from("macos"), true),
            ("node:x != 'linux'", Value::from(true), false),
            ("node:x == true", Value::from(true), true),
            ("node:x", Value::from(true), true),
            ("node:x", Value::from("true"), false),
            ("node:x >= '13.4'", Value::from("13.10"), true),
            ("node:x >= '13.4'", Value::from("13.4.0"), true),
            ("node:x < '13.4'", Value::from("9.9"), true),
            ("node:x > '1.60'", Value::from("1.60.1"), true),
            ("node:x > '1.060'", Value::from("1.60"), false),
            ("node:x >= '1'", Value::from("unknown"), false),
            ("node:x < '1'", Value::from("unknown"), false),
            ("node:x >= 80", Value::from(80.0), true),
            ("node:x > 80", Value::from(80.0), false),
            ("node:x > 80", Value::from("90"), false),
            ("node:x IN ['linux', 'macos']", Value::from("macos"), true),
            ("node:x IN ['a,b']", Value::from("a,b"), true),
            ("node:x IN ['linux']", Value::from("windows"), false),
            ("node:x NOT IN ['linux']", Value::from("windows"), true),
            ("node:x NOT IN ['linux']", Value::from("linux"), false),
            ("node:x IS SET", Value::from(false), true),
            ("node:x NOT SET", Value::from(false), false),
        ] {
            assert_eq!(holds(condition, Some(value.clone())), expected, "{condition} for {value:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_condition() {
        for text in [
            "",
            "os == 'linux'",
            "node:os = 'linux'",
            "node:os == linux",
            "node:os == 'linux",
            "node:os IN 'linux'",
            "node:os == \"linux\"",
            "node:os like 'x'",
            "node:os > true",
            "node:os == NaN",
            "node:os ISSET",
            "node: == 'a'",
            "node:os == 'a' && node:x",
            "node:os in ['a']",
        ] {
            assert_eq!(Condition::parse(text), None, "{text}");
        }
    }
}
