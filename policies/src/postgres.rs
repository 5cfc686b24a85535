//! What a caller may do inside a database session: the capability `sallyport.dev/cap/postgres`.
//!
//! It stands in the `app` of a grant. PostgreSQL has no section of its own as `ssh` has: a network rule opens the port, and
//! a capability that names both the role and the database lets the caller in. What is missing denies.
//! ```jsonc
//! "app": { "sallyport.dev/cap/postgres": [{
//!   "roles": ["analyst", "app_*"],           // who to become; also "localpart:*@example.com", the caller's own name
//!   "databases": ["orders", "orders_*"],     // where
//!   "statements": ["read", "copy", "set"],   // kinds, and statements by name; see below
//!   "functions": { "allow": ["st_*", "app.total"], "deny": ["pg_sleep"] },
//!   "readOnly": true,                        // the session stays read-only, whatever it says
//!   "maxRows": 10000, "maxBytes": "100MB",   // of one statement's result
//!   "maxDuration": "8h", "idleTimeout": "30m",
//!   "parameters": "hide",                    // values bound to statements: "record" or "hide"
//!   "replication": {},                       // replication connections; see below
//!   "memberOf": ["readers"],                 // the session gets a role of its own, made for it, in these groups
//!   "recording": "required",                 // "required", "bestEffort" or "off"
//! }] }
//! ```
//! **Statements.** A kind stands for many, as pgaudit sorts them: `read` (SELECT, VALUES, TABLE, SHOW, EXPLAIN, cursors),
//! `write` (INSERT, UPDATE, DELETE, MERGE, TRUNCATE, row locks, sequences), `ddl` (CREATE, ALTER, DROP, COMMENT, REFRESH,
//! REINDEX …), `role` (GRANT, REVOKE and whatever makes roles). Everything else, and any statement by itself, has its name in
//! small letters: `insert`, `create index`, `copy`, `call`, `do`, `vacuum`, `listen`, `set`, `lock` …; [`StatementRule::NAMES`]
//! lists them. `any` is everything, what cannot be judged included. A statement that only carries another one (EXPLAIN ANALYZE,
//! PREPARE, DECLARE) needs what that one needs. Beginning and ending transactions, cursors and prepared statements, and
//! settings that only change how things look, need no leave.
//!
//! Several that apply add up: rights are united, and of limits the strictest holds (a function that one denies is denied, and
//! one `readOnly` or `"parameters": "hide"` is enough).
//!
//! **Replication.** A logical replication connection is of its database as any other. A physical one (pg_basebackup,
//! pg_receivewal, a standby) is of the whole server: as in pg_hba.conf, the rule has to name the database `replication` for it.
//!
//! **Roles made just in time.** With `memberOf` the caller becomes no role that the server has, but one that the gateway makes
//! for it, in just these groups; the name that the client gives only chooses the rules. `roles` may be left out then: the
//! caller's own name does, with its domain or without. What such a role may do comes from rules with `memberOf` alone: one
//! without it that covers the same name adds its limits and none of its rights.

use std::time::Duration;

use crate::{StatementRule, duration, pattern};

/// What one database session may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresCapability {
    /// Which statements.
    pub statements: StatementRule,
    /// Which functions, besides those that are known to change nothing.
    pub functions: FunctionRule,
    /// Whether the rule wants the session read-only. See [`PostgresCapability::is_read_only`].
    pub read_only: bool,
    /// Most rows of one statement's result.
    pub max_rows: Option<u64>,
    /// Most bytes of one statement's result, as they go over the wire.
    pub max_bytes: Option<u64>,
    /// The longest that a session may last.
    pub max_duration: Option<Duration>,
    /// The longest that a session may stay silent.
    pub idle_timeout: Option<Duration>,
    /// What becomes of bound values in the recording.
    pub parameters: ParameterRule,
    /// Replication connections, and the commands on them.
    pub replication: bool,
    /// Groups of the role that is made for the session; none where the caller becomes a role that the server has.
    pub member_of: Vec<String>,
}

impl PostgresCapability {
    /// No right at all: where capabilities begin to add up.
    pub fn nothing() -> Self {
        PostgresCapability {
            statements: StatementRule::default(),
            functions: FunctionRule::default(),
            read_only: false,
            max_rows: None,
            max_bytes: None,
            max_duration: None,
            idle_timeout: None,
            parameters: ParameterRule::Record,
            replication: false,
            member_of: Vec::new(),
        }
    }

    /// Adds another capability's rights, and keeps the stricter of the limits.
    pub(crate) fn add(&mut self, other: &PostgresCapability) {
        self.statements.any |= other.statements.any;
        unite(&mut self.statements.kinds, &other.statements.kinds);
        unite(&mut self.statements.names, &other.statements.names);
        unite(&mut self.functions.allow, &other.functions.allow);
        self.replication |= other.replication;
        unite(&mut self.member_of, &other.member_of);
        self.limit(other);
    }

    /// Keeps the stricter of the limits, and none of the other's rights.
    pub(crate) fn limit(&mut self, other: &PostgresCapability) {
        unite(&mut self.functions.deny, &other.functions.deny);
        self.read_only |= other.read_only;
        self.max_rows = stricter(self.max_rows, other.max_rows);
        self.max_bytes = stricter(self.max_bytes, other.max_bytes);
        self.max_duration = stricter(self.max_duration, other.max_duration);
        self.idle_timeout = stricter(self.idle_timeout, other.idle_timeout);
        self.parameters = self.parameters.max(other.parameters);
    }

    /// Whether every right of `held` is among these and no limit is stricter, so that whoever holds it may go on. Lists are
    /// compared as they are written: a pattern that was put in other words counts as taken away.
    pub fn covers(&self, held: &PostgresCapability) -> bool {
        // Taken apart by name, so that a new right cannot be forgotten here.
        let PostgresCapability {
            statements,
            functions,
            read_only: _,
            max_rows,
            max_bytes,
            max_duration,
            idle_timeout,
            parameters,
            replication,
            member_of,
        } = held;
        let among = |held: &[String], now: &[String]| held.iter().all(|one| now.contains(one));
        self.statements.covers(statements)
            && among(&functions.allow, &self.functions.allow)
            && among(&self.functions.deny, &functions.deny)
            && (held.is_read_only() || !self.is_read_only())
            && stricter(self.max_rows, *max_rows) == *max_rows
            && stricter(self.max_bytes, *max_bytes) == *max_bytes
            && stricter(self.max_duration, *max_duration) == *max_duration
            && stricter(self.idle_timeout, *idle_timeout) == *idle_timeout
            && self.parameters <= *parameters
            && (self.replication || !replication)
            // A role of the server's, and one that is made, are two things.
            && self.member_of.is_empty() == member_of.is_empty()
            && among(member_of, &self.member_of)
    }

    /// Whether the broker has to have the server keep the session read-only (`default_transaction_read_only`): the rule wants
    /// it, or allows nothing that writes. The server sees through views, rules and functions, which a look at a statement
    /// cannot.
    pub fn is_read_only(&self) -> bool {
        self.read_only || !self.statements.may_write()
    }

    /// What it comes to, a line a fact, for `explain`.
    pub fn facts(&self) -> Vec<String> {
        let mut facts = vec![format!("may run {}", self.statements)];
        let mut fact = |name: &str, value: Option<String>| facts.extend(value.map(|value| format!("{name} {value}")));
        let listed = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
        fact("may call", listed(&self.functions.allow));
        fact("may not call", listed(&self.functions.deny));
        fact("is", self.is_read_only().then(|| "read-only".to_owned()));
        fact("rows at most", self.max_rows.map(|count| count.to_string()));
        fact("bytes at most", self.max_bytes.map(|count| count.to_string()));
        fact("lasts at most", self.max_duration.map(duration::said));
        fact("idle at most", self.idle_timeout.map(duration::said));
        fact("parameters are", (self.parameters == ParameterRule::Hide).then(|| "not recorded".to_owned()));
        fact("may", self.replication.then(|| "replicate".to_owned()));
        fact("has a role made for the session, member of", listed(&self.member_of));
        facts
    }

    /// Whether no statement has to be looked at: everything is allowed, and no limit depends on what a statement is.
    pub fn allows_everything(&self) -> bool {
        self.statements.any && !self.read_only && self.functions.deny.is_empty()
    }
}

/// Which functions may be called, besides those that are known to change nothing. A pattern may have `*` and `?`; with a
/// schema it covers the call that names that schema, without one the call without a schema or with `pg_catalog`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionRule {
    /// These as well.
    pub allow: Vec<String>,
    /// Never these, whatever else allows them; without a schema, in whatever schema they are.
    pub deny: Vec<String>,
}

impl FunctionRule {
    /// Whether a rule allows this call, its name in small letters as PostgreSQL folds it.
    pub fn allows(&self, schema: Option<&str>, name: &str) -> bool {
        let plain = matches!(schema, None | Some("pg_catalog"));
        self.allow.iter().any(|pattern| match pattern.rsplit_once('.') {
            Some((of, bare)) => {
                schema.is_some_and(|schema| pattern::matches(of, schema)) && pattern::matches(bare, name)
            }
            None => plain && pattern::matches(pattern, name),
        })
    }

    /// Whether a rule denies this call. A call without a schema may be to any schema's.
    pub fn denies(&self, schema: Option<&str>, name: &str) -> bool {
        self.deny.iter().any(|pattern| match pattern.rsplit_once('.') {
            Some((of, bare)) => {
                pattern::matches(bare, name) && schema.is_none_or(|schema| pattern::matches(of, schema))
            }
            None => pattern::matches(pattern, name),
        })
    }
}

/// What becomes of bound values in the recording, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParameterRule {
    /// They are recorded.
    Record,
    /// Only how many there were and how long each was.
    Hide,
}

fn unite<T: Clone + PartialEq>(mine: &mut Vec<T>, theirs: &[T]) {
    for one in theirs {
        if !mine.contains(one) {
            mine.push(one.clone());
        }
    }
}

/// The stricter of two limits, of which none is none.
pub(crate) fn stricter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StatementKind::{Read, Write};
    use crate::statements::tests::statements;

    #[test]
    fn a_session_that_may_write_nothing_is_read_only() {
        for (rule, expected) in [
            (statements(&[Read], &["copy", "set", "listen"]), true),
            (statements(&[Read], &["insert"]), false),
            (statements(&[Read, Write], &[]), false),
            (statements(&[], &["vacuum"]), false),
            (StatementRule { any: true, ..StatementRule::default() }, false),
        ] {
            let capability = PostgresCapability { statements: rule.clone(), ..PostgresCapability::nothing() };
            assert_eq!(capability.is_read_only(), expected, "{rule:?}");
        }
    }

    #[test]
    fn functions_are_named_with_or_without_their_schema() {
        let rule = FunctionRule {
            allow: vec!["st_*".into(), "app.total".into()],
            deny: vec!["pg_sleep".into(), "app.secret".into()],
        };
        for (schema, name, allowed, denied) in [
            (None, "st_area", true, false),
            (Some("pg_catalog"), "st_area", true, false),
            (Some("evil"), "st_area", false, false),
            (Some("app"), "total", true, false),
            (None, "total", false, false),
            (Some("any"), "pg_sleep", false, true),
            (None, "secret", false, true),
            (Some("other"), "secret", false, false),
        ] {
            assert_eq!((rule.allows(schema, name), rule.denies(schema, name)), (allowed, denied), "{schema:?}.{name}");
        }
    }
}
