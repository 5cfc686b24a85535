//! PostgreSQL's own tools: pgbench in all of its protocols, pg_dump and a parallel pg_restore.

use super::Stand;
use e2e::run;

#[test]
fn pgbench_runs_in_every_protocol_with_eight_clients() {
    let stand = Stand::new();
    let mut fill = stand.client("pgbench");
    fill.args(["-i", "-s", "1", "-q"]);
    let _filled = run(fill, b"").ok();
    for protocol in ["simple", "extended", "prepared"] {
        let mut command = stand.client("pgbench");
        command.args(["-n", "-M", protocol, "-c", "8", "-j", "2", "-t", "50"]);
        let said = run(command, b"").ok();
        assert!(said.contains("number of transactions actually processed: 400/400"), "{protocol}: {said}");
        assert!(said.contains("number of failed transactions: 0"), "{protocol}: {said}");
    }
    let mut pipelined = stand.client("pgbench");
    let script = stand.alice.folder().join("pipeline.sql");
    std::fs::write(&script, "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT 3;\n\\endpipeline\n").unwrap();
    pipelined.args(["-n", "-M", "extended", "-c", "4", "-t", "50", "-f"]).arg(script);
    assert!(run(pipelined, b"").ok().contains("actually processed: 200/200"));
    // Every connection anew.
    let mut reconnecting = stand.client("pgbench");
    reconnecting.args(["-n", "-S", "-C", "-c", "8", "-t", "10"]);
    assert!(run(reconnecting, b"").ok().contains("actually processed: 80/80"));
    let sums = "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)";
    assert_eq!(stand.orders.sql_in("orders", sums), "t", "what was written arrived whole");
}

#[test]
fn a_dump_restored_by_four_jobs_has_the_same_content() {
    let stand = Stand::new();
    let _made = stand.orders.sql_in("orders", CONTENT);
    let _made = stand.orders.sql("CREATE DATABASE again OWNER dba");
    let folder = stand.alice.folder().join("dump");
    let mut dump = stand.client("pg_dump");
    dump.args(["-F", "d", "-j", "4", "-f"]).arg(&folder);
    let _dumped = run(dump, b"").ok();
    let mut restore = stand.client("pg_restore");
    restore.args(["-j", "4", "-d", "again", "--exit-on-error"]).arg(&folder);
    let _restored = run(restore, b"").ok();
    let plain = |database: &str| {
        let mut command = stand.client("pg_dump");
        command.args(["--inserts", "-d", database]);
        let text = run(command, b"").ok();
        // A newer pg_dump writes a random word around its script.
        text.lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (before, after) = (plain("orders"), plain("again"));
    assert!(before.lines().count() > 5000, "{before}");
    assert!(before == after, "the restored database differs");
}

const CONTENT: &str = r"
CREATE SCHEMA books;
CREATE TYPE books.state AS ENUM ('new', 'paid');
CREATE TABLE books.customers (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE books.orders (id bigserial PRIMARY KEY, customer int REFERENCES books.customers, state books.state, note text, body bytea);
INSERT INTO books.customers (name) SELECT 'customer ' || n FROM generate_series(1, 1000) n;
INSERT INTO books.orders (customer, state, note, body)
  SELECT 1 + n % 1000, CASE n % 2 WHEN 0 THEN 'new' ELSE 'paid' END::books.state, E'tab\there \\ ' || n, decode(md5(n::text), 'hex')
  FROM generate_series(1, 4000) n;
CREATE INDEX ON books.orders (customer);
CREATE VIEW books.paid AS SELECT * FROM books.orders WHERE state = 'paid';
CREATE FUNCTION books.total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM books.orders';
SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'));
COMMENT ON TABLE books.orders IS 'it''s all here';
";
