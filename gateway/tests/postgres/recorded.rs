//! What stock clients did, held against what the recording says that they did.

use serde_json::Value;

use tokio::io::AsyncWriteExt;

use super::Stand;
use super::rules::{answers, message, query, run_by_execute, session, sync};
use super::stand::{failed, ok};

/// Statements of the recordings as they stand there, once one of them holds `last`.
async fn statements(stand: &Stand, last: &str) -> Vec<Value> {
    stand.recorded(last).await;
    let timelines = stand.timelines().await;
    let events = timelines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["type"] == "statement").collect()
}

/// Text and tag or SQLSTATE of each.
fn told(statements: &[Value]) -> Vec<String> {
    let result = |one: &Value| one["tag"].as_str().or(one["error"]["sqlstate"].as_str()).unwrap_or("-").to_owned();
    statements.iter().map(|one| format!("{} → {}", one["sql"]["text"].as_str().unwrap(), result(one))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn psqls_statements_are_recorded_with_their_results() {
    let stand = Stand::new().await;
    let script = stand.path("script.sql");
    let text = "CREATE TABLE t (a int, b text);\nINSERT INTO t SELECT n, 'x' FROM generate_series(1, 10) n;\n\
                SELECT 1\\; SELECT 2\\; SELECT nothing;\nBEGIN;\nDECLARE c CURSOR FOR SELECT * FROM t;\nFETCH 4 FROM c;\nCOMMIT;\n\
                COPY t FROM STDIN;\n11\ty\n12\tz\n\\.\nCOPY t TO STDOUT;\n\
                CREATE ROLE eve PASSWORD 's3cret';\nDO $$ BEGIN RAISE NOTICE 'hello'; END $$;\nSELECT b FROM t WHERE a = 1 /* last */;\n";
    std::fs::write(&script, text).unwrap();
    stand.cluster.sql("ALTER ROLE analyst SUPERUSER");
    ok(stand.psql(&stand.url("analyst", ""), &[&format!("\\i {script}")])).await;
    let found = statements(&stand, "/* last */").await;
    assert_eq!(
        told(&found),
        [
            "CREATE TABLE t (a int, b text); → CREATE TABLE",
            "INSERT INTO t SELECT n, 'x' FROM generate_series(1, 10) n; → INSERT 0 10",
            "SELECT 1 → SELECT 1",
            "SELECT 2 → SELECT 1",
            "SELECT nothing → 42703",
            "BEGIN; → BEGIN",
            "DECLARE c CURSOR FOR SELECT * FROM t; → DECLARE CURSOR",
            "FETCH 4 FROM c; → FETCH 4",
            "COMMIT; → COMMIT",
            "COPY t FROM STDIN; → COPY 2",
            "COPY t TO STDOUT; → COPY 12",
            "CREATE ROLE eve PASSWORD '***'; → CREATE ROLE",
            "DO $$ BEGIN RAISE NOTICE 'hello'; END $$; → DO",
            "SELECT b FROM t WHERE a = 1 /* last */; → SELECT 1",
        ]
    );
    let state = |at: usize| found[at]["transaction"].as_str().unwrap();
    assert_eq!((state(4), state(5), state(7), state(8)), ("idle", "open", "open", "idle"));
    assert_eq!((found[7]["rows"].as_u64(), found[13]["rows"].as_u64()), (Some(4), Some(1)));
    // Older versions of psql send the line that ends the data, too.
    assert!(matches!(found[9]["copy"]["bytes_in"].as_u64(), Some(10 | 13)), "{}", found[9]);
    assert!(found[10]["copy"]["messages_out"].as_u64() == Some(12), "{}", found[10]);
    let timelines = stand.timelines().await;
    assert!(timelines.contains("\"type\":\"notice\"") && timelines.contains("hello"));
    assert!(!timelines.contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_statements_in_a_burst_are_all_in_the_recording() {
    let stand = Stand::new().await;
    let script = stand.path("burst.sql");
    let pipeline = "SELECT :client_id + 1;\n".repeat(1_000);
    std::fs::write(&script, format!("\\startpipeline\n{pipeline}\\endpipeline\n")).unwrap();
    let mut bench = stand.client("pgbench");
    bench.args(["-n", "-M", "prepared", "-c", "1", "-t", "100", "-f", &script, &stand.url("analyst", "")]);
    let said = ok(bench).await;
    assert!(said.contains("number of transactions actually processed: 100/100"), "{said}");
    ok(stand.psql(&stand.url("analyst", ""), &["SELECT 'afterwards'"])).await;
    stand.recorded("afterwards").await;
    stand.recorded("both sides were done").await;
    let found = statements(&stand, "afterwards").await;
    let burst = found.iter().filter(|one| one["statement"].is_string() && one["tag"] == "SELECT 1").count();
    assert_eq!(burst, 100_000);
    let first = found.iter().find(|one| one["statement"].is_string()).unwrap();
    assert_eq!((first["parameters"][0]["value"].as_str(), first["by"].as_str()), (Some("0"), Some("execute")));
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopgs_pipelines_and_binary_values_are_recorded() {
    let stand = Stand::new().await;
    let python = format!(
        "
import datetime, decimal, uuid, psycopg
with psycopg.connect({:?}, autocommit=True) as c:
    c.execute('SELECT %b::int8, %b::text, %b::bool', (7, 'né', True))
    c.execute('SELECT %s::text', (None,))
    with c.pipeline():
        for n in range(100):
            c.execute('SELECT %s::int + 1', (n,))
    try:
        with c.pipeline():
            c.execute('SELECT 1 AS before')
            c.execute('SELECT 1 / %s::int', (0,))
            c.execute('SELECT 1 AS behind')
    except psycopg.errors.DivisionByZero: pass
    with c.cursor().copy('COPY (SELECT 1) TO STDOUT') as copy:
        list(copy)
    c.execute('SELECT %b::numeric, %b::timestamptz, %b::uuid, %b::date', (
        decimal.Decimal('-12.34'), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        uuid.UUID(int=1), datetime.date(2026, 1, 2)))
    c.execute('SELECT 1 AS last')
",
        stand.url("analyst", "")
    );
    let mut psycopg = tokio::process::Command::new("/usr/bin/python3");
    psycopg.args(["-c", &python]).kill_on_drop(true);
    ok(psycopg).await;
    let found = statements(&stand, "AS last").await;
    let told = told(&found);
    let values = |at: usize| -> Vec<String> {
        let parameters = found[at]["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().map(|one| one["value"].as_str().unwrap_or("NULL").to_owned()).collect()
    };
    let at =
        |text: &str| told.iter().position(|one| one.starts_with(text)).unwrap_or_else(|| panic!("{text}: {told:?}"));
    assert_eq!(values(at("SELECT $1::int8")), ["7", "né", "true"]);
    assert_eq!(values(at("SELECT $1::text")), ["NULL"]);
    let piped: Vec<usize> = (0..told.len()).filter(|n| told[*n].starts_with("SELECT $1::int + 1 → SELECT 1")).collect();
    assert_eq!(piped.len(), 100);
    assert!(piped.iter().enumerate().all(|(n, at)| values(*at) == [n.to_string()]));
    assert!(told.contains(&"SELECT 1 AS before → SELECT 1".to_owned()));
    assert!(told.contains(&"SELECT 1 / $1::int → 22012".to_owned()), "{told:?}");
    assert!(!told.iter().any(|one| one.contains("AS behind")), "the server never ran it");
    assert!(told.contains(&"COPY (SELECT 1) TO STDOUT → COPY 1".to_owned()));
    let typed = values(at("SELECT $1::numeric"));
    assert_eq!(typed, ["-12.34", "2026-01-02T03:04:05Z", "00000000-0000-0000-0000-000000000001", "2026-01-02"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncpgs_statements_are_recorded_with_typed_values() {
    let stand = Stand::new().await;
    let python = format!(
        "
import asyncio, asyncpg
async def main():
    c = await asyncpg.connect(host='127.0.0.1', port={}, user='analyst', database='postgres', ssl=False)
    await c.fetch('SELECT n FROM generate_series(1, $1::int) n WHERE n = ANY($2::int[])', 10, [2, 3])
    await c.executemany('SELECT $1::float8, $2::text', [(0.5, 'a'), (1.5, 'b')])
    async with c.transaction():
        async for _ in c.cursor('SELECT n FROM generate_series(1, 120) n', prefetch=50): pass
    await c.execute('SELECT 1 AS last')
    await c.close()
asyncio.run(main())
",
        stand.port
    );
    let mut asyncpg = tokio::process::Command::new("/usr/bin/python3");
    asyncpg.args(["-c", &python]).kill_on_drop(true);
    ok(asyncpg).await;
    let found = statements(&stand, "AS last").await;
    let of = |text: &str| -> Vec<&Value> {
        found.iter().filter(|one| one["sql"]["text"].as_str().unwrap().starts_with(text)).collect()
    };
    let series = of("SELECT n FROM generate_series(1, $1::int)");
    assert_eq!((series.len(), series[0]["rows"].as_u64()), (1, Some(2)));
    assert_eq!(series[0]["parameters"][1]["value"].as_str(), Some("{2,3}"));
    assert_eq!(series[0]["parameters"][0]["type"].as_str(), Some("int4"));
    let many = of("SELECT $1::float8");
    let values: Vec<_> = many.iter().map(|one| one["parameters"][0]["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["0.5", "1.5"]);
    let fetched = of("SELECT n FROM generate_series(1, 120)");
    let rows: Vec<_> = fetched.iter().map(|one| one["rows"].as_u64().unwrap_or(0)).collect();
    assert_eq!(rows.iter().sum::<u64>(), 120, "{rows:?}");
    assert!(fetched[0]["suspended"] == true, "{}", fetched[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_many_megabytes_is_cut_in_the_recording() {
    let stand = Stand::new().await;
    let script = stand.path("long.sql");
    std::fs::write(&script, format!("SELECT length('{}');\n", "x".repeat(3 << 20))).unwrap();
    assert_eq!(ok(stand.psql(&stand.url("analyst", ""), &[&format!("\\i {script}")])).await, (3 << 20).to_string());
    let found = statements(&stand, "SELECT length").await;
    assert!(found[0]["sql"]["text"].as_str().unwrap().len() <= 16 << 10);
    assert!(found[0]["sql"]["length"].is_u64(), "{}", found[0]["sql"]["length"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_copied_data_that_fails_is_recorded() {
    let stand = Stand::new().await;
    stand.cluster.sql("CREATE TABLE n (n int); GRANT ALL ON n TO PUBLIC");
    for late in [false, true] {
        let mut client = session(&stand, "analyst").await;
        let (copy, bad) = (run_by_execute("COPY n FROM STDIN"), message(b'd', b"none\n"));
        let behind = [query("SELECT 'simple'"), run_by_execute("SELECT 'extended'"), sync()].concat();
        if late {
            client.write_all(&[copy, message(b'H', &[])].concat()).await.unwrap();
            // The gateway has seen that the server takes data.
            let mut taken = [0; 5 + 5 + 5 + 5];
            tokio::io::AsyncReadExt::read_exact(&mut client, &mut taken).await.unwrap();
            client.write_all(&[bad, sync(), behind].concat()).await.unwrap();
        } else {
            client.write_all(&[copy, bad, sync(), behind].concat()).await.unwrap();
        }
        let tags = [answers(&mut client).await, answers(&mut client).await, answers(&mut client).await];
        assert!(tags[0].ends_with("EZ"), "{tags:?}");
        assert_eq!(tags[1..], ["TDCZ", "12DCZ"]);
    }
    ok(stand.psql(&stand.url("analyst", ""), &["SELECT 'last'"])).await;
    let told = told(&statements(&stand, "'last'").await);
    for text in ["SELECT 'simple' → SELECT 1", "SELECT 'extended' → SELECT 1"] {
        assert_eq!(told.iter().filter(|one| *one == text).count(), 2, "{told:?}");
    }
    assert!(!stand.timelines().await.contains("\"type\":\"gap\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sql_runs_of_the_protocols_and_the_other_way_round_is_recorded() {
    let stand = Stand::new().await;
    let mut client = session(&stand, "analyst").await;
    let parse = message(b'P', b"s\0SELECT 'by execute'\0\0\0");
    client.write_all(&[parse, sync(), query("EXECUTE s")].concat()).await.unwrap();
    assert_eq!((answers(&mut client).await, answers(&mut client).await), ("1Z".into(), "TDCZ".into()));
    client.write_all(&query("DEALLOCATE s; PREPARE s AS SELECT 'by bind'")).await.unwrap();
    assert_eq!(answers(&mut client).await, "CCZ");
    let run = [message(b'B', b"\0s\0\0\0\0\0\0\0"), message(b'E', &[0; 5]), sync()].concat();
    client.write_all(&run).await.unwrap();
    assert_eq!(answers(&mut client).await, "2DCZ");
    client.write_all(&query("SELECT 'last'")).await.unwrap();
    answers(&mut client).await;
    let told = told(&statements(&stand, "'last'").await);
    assert!(told.contains(&"SELECT 'by execute' → -".to_owned()), "{told:?}");
    assert!(told.contains(&"PREPARE s AS SELECT 'by bind' → SELECT 1".to_owned()), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_when_its_server_goes_is_recorded() {
    let mut stand = Stand::new().await;
    let sleeper = tokio::spawn(failed(stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"])));
    while stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stand.cluster.restart();
    sleeper.await.unwrap();
    let found = statements(&stand, "57P01").await;
    assert_eq!(told(&found), ["SELECT pg_sleep(600) → 57P01"]);
}
