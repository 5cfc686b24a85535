//! The commands of a replication connection (PostgreSQL, "Streaming Replication Protocol").

/// Whether the server would read this as a replication command. Its scanner for these (`repl_scanner.l`) knows the first
/// word; what begins otherwise is SQL.
pub(super) fn is_command(sql: &str) -> bool {
    let sql = sql.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    let word = sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
    COMMANDS.iter().any(|command| word.eq_ignore_ascii_case(command))
}

/// SHOW is one as well, and is judged as SQL.
const COMMANDS: [&str; 9] = [
    "ALTER_REPLICATION_SLOT",
    "BASE_BACKUP",
    "CREATE_REPLICATION_SLOT",
    "DROP_REPLICATION_SLOT",
    "IDENTIFY_SYSTEM",
    "READ_REPLICATION_SLOT",
    "START_REPLICATION",
    "TIMELINE_HISTORY",
    "UPLOAD_MANIFEST",
];
