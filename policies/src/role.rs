//! The `roles` and `databases` of a capability for PostgreSQL: who a caller may become, and where.

use crate::{account, pattern};

/// One entry of `roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// This role and no other, letter by letter.
    Exactly(String),
    /// Roles of this form, but none that stock systems and hosting services keep for themselves.
    Pattern(String),
    /// `localpart:*@example.com`: the part of the caller's login name before the `@`, for callers of this domain.
    LocalPart {
        /// The domain, without the `@`.
        domain: String,
    },
    /// The caller's own login name, whole or the part before the `@`.
    Own,
}

impl Role {
    /// Reads an entry of `roles`, or says what is expected instead.
    pub(crate) fn parse(text: &str) -> Result<Role, &'static str> {
        if let Some(pattern) = text.strip_prefix("localpart:") {
            let domain = pattern.strip_prefix("*@").filter(|domain| account::is_domain(domain));
            return domain
                .map(|domain| Role::LocalPart { domain: domain.to_owned() })
                .ok_or("\"localpart:*@\" and a domain, such as \"localpart:*@example.com\"");
        }
        let bare: String = text.chars().filter(|c| !matches!(c, '*' | '?')).collect();
        if text.len() > MAX_NAME || !bare.is_empty() && !is_possible(&bare) {
            return Err("a role's name, with \"*\" and \"?\" as wildcards, or \"localpart:*@example.com\"");
        }
        Ok(if bare.len() == text.len() { Role::Exactly(text.to_owned()) } else { Role::Pattern(text.to_owned()) })
    }

    /// Whether `user` may become `role` by this entry.
    ///
    /// INVARIANT: never true of a role whose name is not possible; [`Role::parse`] lets no such name in.
    pub(crate) fn allows(&self, user: Option<&str>, role: &str) -> bool {
        match self {
            Role::Exactly(name) => name == role,
            Role::Pattern(pattern) => is_ordinary(role) && pattern::matches(pattern, role),
            Role::Own => user.is_some_and(|user| {
                let local = user.split_once('@').map(|(local, _)| local);
                is_ordinary(role) && (user == role || local == Some(role))
            }),
            Role::LocalPart { domain } => user
                .and_then(|user| user.split_once('@'))
                .is_some_and(|(local, of)| of.eq_ignore_ascii_case(domain) && local == role && is_ordinary(role)),
        }
    }
}

/// Whether any rule may give this role at all: a name that a log and a certificate's subject read alike.
pub(crate) fn is_possible(role: &str) -> bool {
    role.len() <= MAX_NAME && account::is_possible(role)
}

/// Whether a database may be called this.
pub(crate) fn is_database(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Whether this role surely is none that a stock server or a hosting service keeps for its superuser or for itself. A rule
/// may still name such a role exactly.
fn is_ordinary(role: &str) -> bool {
    is_possible(role) && !role.starts_with("pg_") && !SUPERUSERS.iter().any(|name| role.eq_ignore_ascii_case(name))
}

/// `initdb`'s own, and those of Amazon RDS, Google Cloud SQL and AlloyDB, Azure, Heroku-like services and DigitalOcean.
const SUPERUSERS: [&str; 14] = [
    "postgres",
    "root",
    "rdsadmin",
    "rds_superuser",
    "rds_replication",
    "cloudsqladmin",
    "cloudsqlsuperuser",
    "alloydbadmin",
    "alloydbsuperuser",
    "azuresu",
    "azure_superuser",
    "azure_pg_admin",
    "supabase_admin",
    "doadmin",
];

/// In bytes: `NAMEDATALEN` less one. The server would cut a longer name, and so take it for another.
const MAX_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_allow_just_the_roles_they_name() {
        let alice = Some("alice@example.com");
        for (entry, user, role, expected) in [
            ("analyst", alice, "analyst", true),
            ("analyst", alice, "Analyst", false),
            ("analyst", alice, "analyst2", false),
            ("postgres", alice, "postgres", true),
            ("app_*", alice, "app_read", true),
            ("app_*", alice, "myapp_read", false),
            ("*", alice, "analyst", true),
            ("*", alice, "postgres", false),
            ("*", alice, "POSTGRES", false),
            ("*", alice, "pg_read_all_data", false),
            ("*", alice, "rdsadmin", false),
            ("*", alice, "a\0b", false),
            ("*", alice, "", false),
            ("localpart:*@example.com", alice, "alice", true),
            ("localpart:*@example.com", alice, "bob", false),
            ("localpart:*@example.org", alice, "alice", false),
            ("localpart:*@example.com", Some("postgres@example.com"), "postgres", false),
            ("localpart:*@example.com", None, "alice", false),
        ] {
            assert_eq!(Role::parse(entry).unwrap().allows(user, role), expected, "{entry}: {user:?} as {role:?}");
        }
        assert!(!Role::Pattern("*".into()).allows(alice, &"a".repeat(64)), "the server would cut it");
    }

    #[test]
    fn refuses_entries_that_are_no_role() {
        for text in ["a b", "a\nb", "-x", "group:sre", "localpart:alice@example.com", "localpart:*@", &"a".repeat(64)] {
            assert!(Role::parse(text).is_err(), "{text:?}");
        }
    }
}
