//! Which statements may be run in a database: by kind, and each by its name. The words are those of `"statements"` in the
//! capability `sallyport.dev/cap/postgres`, which says what each stands for.

use std::fmt;

/// Which statements may be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementRule {
    /// Everything, what cannot be judged included.
    pub any: bool,
    /// Whole kinds.
    pub kinds: Vec<StatementKind>,
    /// Statements by name, each one of [`StatementRule::NAMES`].
    pub names: Vec<String>,
}

/// A kind of statements, as pgaudit sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatementKind {
    /// `read`
    Read,
    /// `write`
    Write,
    /// `ddl`
    Ddl,
    /// `role`
    Role,
}

impl StatementKind {
    /// The word in the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            StatementKind::Read => "read",
            StatementKind::Write => "write",
            StatementKind::Ddl => "ddl",
            StatementKind::Role => "role",
        }
    }
}

impl StatementRule {
    /// The names that a rule may use, and the kind that each belongs to. `create`, `alter` and `drop` stand for all objects.
    pub const NAMES: &'static [(&'static str, Option<StatementKind>)] = NAMES;

    /// Whether a statement of this name may be run.
    pub fn allows(&self, name: &str) -> bool {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        let by_kind = known.and_then(|(_, kind)| *kind).is_some_and(|kind| self.kinds.contains(&kind));
        let all_objects = known.is_some_and(|(_, kind)| *kind == Some(StatementKind::Ddl))
            && name.split_once(' ').is_some_and(|(verb, _)| self.names.iter().any(|one| one == verb));
        self.any || by_kind || all_objects || self.names.iter().any(|one| one == name)
    }

    /// Whether everything that `held` allows is allowed.
    pub(crate) fn covers(&self, held: &StatementRule) -> bool {
        self.any
            || !held.any
                && held.kinds.iter().all(|kind| self.kinds.contains(kind))
                && held.names.iter().all(|name| self.allows(name))
    }

    /// Whether anything may be run that changes more than the session.
    pub fn may_write(&self) -> bool {
        self.any
            || self.kinds.iter().any(|kind| *kind != StatementKind::Read)
            || self.names.iter().any(|name| Self::changes_data(name))
    }

    /// Whether a statement of this name changes more than the session.
    pub(crate) fn changes_data(name: &str) -> bool {
        !HARMLESS_BY_NAME.contains(&name)
    }
}

impl fmt::Display for StatementRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = self.any.then_some("any");
        let kinds = self.kinds.iter().map(|kind| kind.as_str());
        let words: Vec<&str> = any.into_iter().chain(kinds).chain(self.names.iter().map(String::as_str)).collect();
        if words.is_empty() { f.write_str("nothing") } else { f.write_str(&words.join(", ")) }
    }
}

/// Statements that a rule may allow by name and that change nothing but the session.
const HARMLESS_BY_NAME: [&str; 9] =
    ["select", "show", "explain", "set", "set role", "lock", "listen", "notify", "copy"];

use StatementKind::{Ddl, Read, Role, Write};

const NAMES: &[(&str, Option<StatementKind>)] = &[
    ("select", Some(Read)),
    ("show", Some(Read)),
    ("explain", Some(Read)),
    ("insert", Some(Write)),
    ("update", Some(Write)),
    ("delete", Some(Write)),
    ("merge", Some(Write)),
    ("truncate", Some(Write)),
    ("select for update", Some(Write)),
    ("nextval", Some(Write)),
    ("large object", Some(Write)),
    ("create", Some(Ddl)),
    ("alter", Some(Ddl)),
    ("drop", Some(Ddl)),
    ("create table", Some(Ddl)),
    ("create index", Some(Ddl)),
    ("create view", Some(Ddl)),
    ("create materialized view", Some(Ddl)),
    ("create sequence", Some(Ddl)),
    ("create schema", Some(Ddl)),
    ("create database", Some(Ddl)),
    ("create function", Some(Ddl)),
    ("create trigger", Some(Ddl)),
    ("create type", Some(Ddl)),
    ("create extension", Some(Ddl)),
    ("create policy", Some(Ddl)),
    ("create other", Some(Ddl)),
    ("alter table", Some(Ddl)),
    ("alter index", Some(Ddl)),
    ("alter view", Some(Ddl)),
    ("alter sequence", Some(Ddl)),
    ("alter database", Some(Ddl)),
    ("alter function", Some(Ddl)),
    ("alter other", Some(Ddl)),
    ("drop table", Some(Ddl)),
    ("drop index", Some(Ddl)),
    ("drop view", Some(Ddl)),
    ("drop materialized view", Some(Ddl)),
    ("drop sequence", Some(Ddl)),
    ("drop schema", Some(Ddl)),
    ("drop database", Some(Ddl)),
    ("drop function", Some(Ddl)),
    ("drop other", Some(Ddl)),
    ("comment", Some(Ddl)),
    ("reindex", Some(Ddl)),
    ("refresh", Some(Ddl)),
    ("security label", Some(Ddl)),
    ("import foreign schema", Some(Ddl)),
    ("grant", Some(Role)),
    ("revoke", Some(Role)),
    ("create role", Some(Role)),
    ("alter role", Some(Role)),
    ("drop role", Some(Role)),
    ("alter default privileges", Some(Role)),
    ("reassign owned", Some(Role)),
    ("drop owned", Some(Role)),
    ("set role", None),
    ("set", None),
    ("copy", None),
    ("copy file", None),
    ("copy program", None),
    ("call", None),
    ("do", None),
    ("vacuum", None),
    ("analyze", None),
    ("cluster", None),
    ("lock", None),
    ("listen", None),
    ("notify", None),
    ("prepare transaction", None),
    ("alter system", None),
    ("checkpoint", None),
    ("load", None),
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A rule of these kinds and names.
    pub(crate) fn statements(kinds: &[StatementKind], names: &[&str]) -> StatementRule {
        StatementRule {
            any: false,
            kinds: kinds.to_vec(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn kinds_and_names_allow_just_what_they_stand_for() {
        for (rule, name, expected) in [
            (statements(&[Read], &[]), "select", true),
            (statements(&[Read], &[]), "insert", false),
            (statements(&[Read], &[]), "copy", false),
            (statements(&[Write], &[]), "insert", true),
            (statements(&[Write], &[]), "select", false),
            (statements(&[Ddl], &[]), "create index", true),
            (statements(&[Ddl], &[]), "grant", false),
            (statements(&[], &["insert"]), "insert", true),
            (statements(&[], &["insert"]), "update", false),
            (statements(&[], &["create"]), "create table", true),
            (statements(&[], &["create"]), "create role", false),
            (statements(&[], &["create index"]), "create table", false),
            (statements(&[], &["copy"]), "copy program", false),
            (statements(&[Read, Write, Ddl, Role], &[]), "copy file", false),
            (StatementRule { any: true, ..StatementRule::default() }, "alter system", true),
        ] {
            assert_eq!(rule.allows(name), expected, "{name} by {rule:?}");
        }
    }
}
