//! A database session, replayed as a timeline, summed up and exported.

#![expect(clippy::unwrap_used, reason = "a test may fail")]
#![expect(dead_code, reason = "not every test makes terminals")]

mod made;

use std::time::Duration;

use made::{Made, record};
use sallyport_recorder::{DatabaseError, DatabaseSession, Event, Parameter, Sql, Statement};
use sallyport_replay::export::{Format, export, plain};
use sallyport_replay::player::{Action, Options, Player, Seek, View};
use sallyport_replay::show::Summary;

fn ran(text: &str, tag: &str, rows: u64) -> Event {
    let sql = Sql { text: text.into(), ..Sql::default() };
    let ran = Statement { sql, tag: tag.into(), rows, bytes: rows * 10, duration_us: 1_500, ..Statement::default() };
    Event::Statement(Box::new(ran))
}

async fn session() -> Made {
    let error =
        DatabaseError { severity: "ERROR".into(), sqlstate: "42P01".into(), message: "no\n\u{1b}[2J; DROP".into() };
    let failed = Statement {
        sql: Sql { text: "SELECT *\nFROM nowhere".into(), ..Sql::default() },
        error: Some(error),
        ..Statement::default()
    };
    let cut = Statement {
        sql: Sql { text: "INSERT INTO t VALUES (1".into(), length: Some(1 << 30), sha256: Some("ab".into()) },
        tag: "INSERT 0 9".into(),
        ..Statement::default()
    };
    let bound = Statement {
        sql: Sql { text: "DELETE FROM t WHERE a = $1 -- all;\n".into(), ..Sql::default() },
        parameters: vec![Parameter { kind: "text".into(), value: Some("x\n; DROP TABLE t".into()), bytes: None }],
        tag: "DELETE 1".into(),
        ..Statement::default()
    };
    let begun = DatabaseSession {
        role: "analyst".into(),
        database: "orders".into(),
        application_name: "psql".into(),
        ..DatabaseSession::default()
    };
    record(async |recording| {
        for event in [
            Event::DatabaseSession(Box::new(begun)),
            ran("SELECT 1", "SELECT 1", 1),
            Event::Statement(Box::new(failed)),
            Event::StatementRefused {
                sql: Sql { text: "DROP TABLE t".into(), ..Sql::default() },
                why: "the policy does not allow drop table here".into(),
                hint: String::new(),
            },
            Event::Statement(Box::new(cut)),
            Event::Statement(Box::new(bound)),
        ] {
            recording.event(event).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_database_session_is_a_timeline() {
    let made = session().await;
    let reel = made.reel();
    let mut written = Vec::new();
    plain(&reel, &mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    for line in [
        "psql is in orders as analyst",
        "SELECT 1 → SELECT 1, 1 row (10 B), 1.5 ms",
        "SELECT * FROM nowhere → ERROR 42P01: no\\n\\e[2J; DROP, 0.0 ms",
        "REFUSED DROP TABLE t: the policy does not allow drop table here",
        "INSERT INTO t VALUES (1 … → INSERT 0 9, 0.0 ms",
    ] {
        assert!(written.contains(&format!("  {line}\n")), "{line}\n{written}");
    }
    let mut player = Player::new(&reel, Options::default(), Duration::ZERO).unwrap();
    player.act(Action::Seek(Seek::End)).unwrap();
    assert_eq!(player.view(), View::Timeline);
    assert_eq!(player.stage().timeline().count(), written.lines().count());
}

#[tokio::test]
async fn a_summary_counts_statements_and_lists_what_was_refused() {
    let summary = Summary::of(&session().await.reel());
    let database = summary.database.as_ref().unwrap();
    assert_eq!((database.statements, database.failed, database.refused, database.rows), (4, 1, 1, 1));
    let text = summary.to_string();
    assert!(text.contains("orders as analyst by psql · 4 statements, 1 failed, 1 refused · 1 row, 10 B"), "{text}");
    assert!(text.contains("incident") && text.contains("REFUSED DROP TABLE t"), "{text}");
}

#[tokio::test]
async fn exported_sql_runs_again_what_ran_and_nothing_else() {
    let mut out = Vec::new();
    export(&session().await.reel(), Format::Sql, None, &mut out).unwrap();
    let sql = String::from_utf8(out).unwrap();
    let runs: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
    assert_eq!(runs, ["SELECT 1", ";", "DELETE FROM t WHERE a = $1 -- all", ";"], "{sql}");
    assert!(
        sql.contains("--   $1 = \"x\\\\n; DROP TABLE t\" (text)")
            || sql.contains("--   $1 = \"x\\n; DROP TABLE t\" (text)"),
        "{sql}"
    );
    assert!(sql.contains("-- … 1073741824 bytes in all, SHA-256 ab"), "{sql}");
    assert!(!sql.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{sql:?}");
}

#[tokio::test]
async fn json_lines_hold_every_field() {
    let mut out = Vec::new();
    export(&session().await.reel(), Format::JsonLines, None, &mut out).unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statement = lines.iter().find(|line| line["type"] == "statement").unwrap();
    assert_eq!((statement["sql"]["text"].as_str(), statement["rows"].as_u64()), (Some("SELECT 1"), Some(1)));
    assert!(statement["time"].is_string() && statement["duration_us"] == 1_500);
}
