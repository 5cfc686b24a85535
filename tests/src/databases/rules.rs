//! What a rule says of values and results, seen from stock clients and in the recording.

use super::drivers::{PYTHON, has_module};
use super::{POLICY, Stand};
use e2e::run;

/// A stand whose rule for `analyst` says this as well.
fn stand(rule: &str) -> Stand {
    let analyst = r#""roles": ["analyst"], "databases": ["orders"], "statements": ["read"]"#;
    assert!(POLICY.contains(analyst), "the rule that is to say more");
    Stand::with(&POLICY.replace(analyst, &format!(r#"{analyst}, {rule}"#)), "")
}

#[test]
fn hidden_values_stand_nowhere_in_the_recording() {
    if !has_module("psycopg") {
        return;
    }
    let stand = stand(r#""parameters": "hide""#);
    let script = r#"
import psycopg
with psycopg.connect("", autocommit=True) as conn:
    for shape in ("%s::text", "%b::text", "%t::text"):
        assert conn.execute(f"SELECT {shape}", ("card-4111",)).fetchone() == ("card-4111",), shape
    for _ in range(9):
        conn.execute("SELECT length(%s)", ("card-4111",), prepare=True)
    with conn.pipeline():
        conn.execute("SELECT %s::text AS piped", ("card-4111",))
    for wrong in ("SELECT %s::int", "SELECT (%s::text)::int"):
        try:
            conn.execute(wrong, ("card-4111",))
        except psycopg.errors.InvalidTextRepresentation as error:
            assert "card-4111" in str(error), error
        else:
            raise AssertionError(wrong)
    conn.execute("SELECT 'last'")
print("ok")
"#;
    let mut psycopg = stand.client(PYTHON);
    psycopg.env("PGUSER", "analyst").args(["-c", script]);
    assert_eq!(run(psycopg, b"").ok(), "ok\n");
    stand.world.wait_for_every_end();
    let recordings = stand.world.operator().join("state/recordings");
    let mut print = std::process::Command::new("sh");
    print.args(["-c", "find \"$0\" -name '*.zst' | xargs zstd -dcq"]).arg(recordings);
    let recorded = run(print, b"").ok();
    assert!(!recorded.contains("card-4111"), "{recorded}");
    assert_eq!(recorded.matches("\"bytes\":9").count(), 15, "{recorded}");
    assert_eq!(recorded.matches("22P02").count(), 2, "{recorded}");
    assert!(recorded.contains("SELECT 'last'"), "what is no bound value is recorded: {recorded}");
    let found = stand.world.sallyport(&["search", "card-4111"]);
    assert!(!found.text().contains("SELECT"), "{}", found.text());
}

#[test]
fn a_result_of_too_many_bytes_is_stopped_and_the_session_lives() {
    let stand = stand(r#""maxBytes": "1MB""#);
    let psql = |statements: &[&str]| {
        let mut psql = stand.client("psql");
        psql.env("PGUSER", "analyst").args(["-X", "-At"]);
        statements.iter().for_each(|statement| {
            psql.args(["-c", statement]);
        });
        run(psql, b"")
    };
    let rows = |count: u32| format!("SELECT repeat('x', 1000) FROM generate_series(1, {count})");
    let within = psql(&[&rows(900), &rows(900)]).ok();
    assert_eq!(within.lines().count(), 1800, "each statement has the limit to itself");
    let beyond = psql(&[
        "SELECT repeat('x', 1000) FROM generate_series(1, 9999) a, generate_series(1, 9999) b",
        "SELECT 'alive'",
    ]);
    let said = "ERROR:  the result is larger than the policy allows: at most 1048576 bytes";
    assert!(beyond.stderr.contains(said) && beyond.stderr.contains("grants[2]"), "{}", beyond.stderr);
    assert!(beyond.text().ends_with("alive\n") && beyond.stdout.len() <= 1_048_600, "{} bytes", beyond.stdout.len());
    // One row is over before it can be stopped: its client must not take it for all there was.
    let row = psql(&["SELECT repeat('x', 2000000)", "SELECT 'behind'"]);
    assert!(!row.text().contains("xx") && row.stderr.contains("at most 1048576 bytes"), "{}", row.stderr);
    if !has_module("psycopg") {
        return;
    }
    let script = r#"
import psycopg
with psycopg.connect("", autocommit=True) as conn:
    large = "SELECT repeat('x', 1000) FROM generate_series(1, %s) a, generate_series(1, %s) b"
    for binary in (False, True):
        try:
            conn.cursor(binary=binary).execute(large, (9999, 9999))
        except psycopg.errors.ProgramLimitExceeded as error:
            assert error.diag.message_primary.endswith("at most 1048576 bytes"), error
        else:
            raise AssertionError("it was not stopped")
        assert len(conn.execute(large, (9, 100)).fetchall()) == 900
    with conn.transaction(), conn.cursor(name="parts") as cursor:
        cursor.execute(large, (30, 100))
        assert sum(1 for _ in cursor) == 3_000, "of a cursor each part is a statement's result"
print("ok")
"#;
    let mut psycopg = stand.client(PYTHON);
    psycopg.env("PGUSER", "analyst").args(["-c", script]);
    assert_eq!(run(psycopg, b"").ok(), "ok\n");
}
