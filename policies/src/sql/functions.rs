//! Which built-in functions change nothing, and which act like a statement.
//!
//! `harmless.txt` holds the names of PostgreSQL's functions (to version 18) that are immutable or stable, less those that
//! run SQL given as text, and those volatile ones that change no more than the session and read no files: from
//! `SELECT proname FROM pg_proc`, looked through by hand. Everything else has to be named by a rule. So have those built-in
//! ones that nobody calls, and whose names a database's own functions may well have: `system`, `popen`.

use std::collections::HashSet;
use std::sync::LazyLock;

/// What calling a function comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing is changed.
    Harmless,
    /// It acts like this statement.
    As(&'static str),
    /// Not known to be harmless: of a schema that is not PostgreSQL's own, of an extension, or built in and powerful.
    Unknown,
}

/// The class of a function; without a schema it is taken for a built-in one of that name, if there is one.
pub(super) fn class(schema: Option<&str>, name: &str) -> Class {
    match schema {
        None | Some("pg_catalog") => {}
        Some("information_schema") => return Class::Harmless,
        Some(_) => return Class::Unknown,
    }
    if HARMLESS.contains(name) {
        return Class::Harmless;
    }
    let statement = STATEMENTS.iter().find(|(known, _)| *known == name);
    statement.map_or(Class::Unknown, |(_, statement)| Class::As(statement))
}

/// The name of a large-object function by its OID in `pg_proc.dat`, which has been the same in all versions. libpq calls
/// these by number.
pub fn large_object(oid: u32) -> Option<&'static str> {
    LARGE_OBJECTS.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

/// Whether a built-in function reaches beyond the database, or runs what it is given.
pub(super) fn is_powerful(schema: Option<&str>, name: &str) -> bool {
    matches!(schema, None | Some("pg_catalog"))
        && POWERFUL.iter().any(|known| known.strip_suffix('*').map_or(*known == name, |front| name.starts_with(front)))
}

/// By name, or with a `*` by the front of the name.
const POWERFUL: [&str; 24] = [
    "binary_upgrade_*",
    "cursor_to_xml*",
    "dblink*",
    "lo_export",
    "lo_import",
    "pg_backup_*",
    "pg_cancel_backend",
    "pg_copy_*",
    "pg_create_*",
    "pg_drop_replication_slot",
    "pg_logical_*",
    "pg_log_backend_memory_contexts",
    "pg_ls_*",
    "pg_promote",
    "pg_read_*",
    "pg_reload_conf",
    "pg_replication_*",
    "pg_rotate_logfile*",
    "pg_stat_file",
    "pg_switch_wal",
    "pg_terminate_backend",
    "pg_wal_replay_*",
    "query_to_xml*",
    "set_config",
];

static HARMLESS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("harmless.txt").split_whitespace().collect());

/// Functions that act like a statement, by the name that a rule has for it.
const STATEMENTS: [(&str, &str); 19] = [
    ("nextval", "nextval"),
    ("setval", "nextval"),
    ("lo_creat", "large object"),
    ("lo_create", "large object"),
    ("lo_from_bytea", "large object"),
    ("lo_put", "large object"),
    ("lo_truncate", "large object"),
    ("lo_truncate64", "large object"),
    ("lo_unlink", "large object"),
    ("lowrite", "large object"),
    ("pg_notify", "notify"),
    ("pg_advisory_lock", "lock"),
    ("pg_advisory_lock_shared", "lock"),
    ("pg_advisory_xact_lock", "lock"),
    ("pg_advisory_xact_lock_shared", "lock"),
    ("pg_try_advisory_lock", "lock"),
    ("pg_try_advisory_lock_shared", "lock"),
    ("pg_try_advisory_xact_lock", "lock"),
    ("pg_try_advisory_xact_lock_shared", "lock"),
];

const LARGE_OBJECTS: [(u32, &str); 20] = [
    (764, "lo_import"),
    (765, "lo_export"),
    (952, "lo_open"),
    (953, "lo_close"),
    (954, "loread"),
    (955, "lowrite"),
    (956, "lo_lseek"),
    (957, "lo_creat"),
    (958, "lo_tell"),
    (964, "lo_unlink"),
    (715, "lo_create"),
    (1004, "lo_truncate"),
    (767, "lo_import"),
    (3170, "lo_lseek64"),
    (3171, "lo_tell64"),
    (3172, "lo_truncate64"),
    (3457, "lo_from_bytea"),
    (3458, "lo_get"),
    (3459, "lo_get"),
    (3460, "lo_put"),
];
