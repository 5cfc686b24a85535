//! What stock clients do through the gateway.

use super::Stand;
use super::stand::{failed, ok, run};

#[tokio::test(flavor = "multi_thread")]
async fn psql_asks_and_is_recorded() {
    let stand = Stand::new().await;
    assert_eq!(stand.ask(&["SELECT current_user, 6 * 7"]).await, "analyst|42");
    let said = failed(stand.psql(&stand.url("analyst", ""), &["SELECT 1 / 0"])).await;
    assert!(said.contains("division by zero"), "{said}");
    stand.recorded("\"account\":\"analyst\"").await;
    stand.recorded("\"type\":\"target_connected\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_sslmode_gets_what_it_asks_for() {
    let stand = Stand::new().await;
    let root = stand.path("root.crt");
    for (mode, encrypted) in [("disable", "f"), ("allow", "f"), ("prefer", "t"), ("require", "t"), ("verify-full", "t")]
    {
        let url = format!("{} sslmode={mode} sslrootcert={root}", stand.url("analyst", ""));
        let info = ok(stand.psql(&url, &["\\conninfo"])).await;
        assert_eq!(info.contains("SSL connection"), encrypted == "t", "{mode}: {info}");
    }
    let url = format!("{} sslmode=verify-full sslrootcert={root}", stand.url("analyst", "host=stock"));
    let said = failed(stand.psql(&url, &["SELECT 1"])).await;
    assert!(said.contains("does not match host name"), "{said}");
    let url = format!("{} gssencmode=prefer", stand.url("analyst", ""));
    assert_eq!(ok(stand.psql(&url, &["SELECT 1"])).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_the_rule_and_whom_to_ask() {
    let stand = Stand::new().await;
    let said = failed(stand.psql(&stand.url("postgres", ""), &["SELECT 1"])).await;
    assert!(said.contains("FATAL:") && said.contains("alice@example.com"), "{said}");
    let said = failed(stand.psql(&stand.url("analyst", "dbname=template1"), &["SELECT 1"])).await;
    assert!(said.contains("template1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_reaches_the_right_backend() {
    let stand = Stand::new().await;
    let sleeper = stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"]).spawn().unwrap();
    let other = stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(5)", "SELECT 'unharmed'"]);
    let other = tokio::spawn(ok(other));
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)'";
    while stand.cluster.sql(active) != "1" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pid = i32::try_from(sleeper.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT).unwrap();
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(60), sleeper.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("canceling statement due to user request"), "{said}");
    assert!(other.await.unwrap().contains("unharmed"));
    assert_eq!(
        stand.middle.runner.state.sessions(&Default::default()).await.unwrap().len(),
        2,
        "no session of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_runs_in_every_mode() {
    let stand = Stand::new().await;
    let mut init = stand.client("pgbench");
    init.args(["-i", "-q", "-s", "1", &stand.url("analyst", "")]);
    ok(init).await;
    for mode in ["simple", "extended", "prepared"] {
        let mut bench = stand.client("pgbench");
        bench.args(["-n", "-M", mode, "-c", "4", "-t", "50", &stand.url("analyst", "")]);
        let said = ok(bench).await;
        assert!(said.contains("number of transactions actually processed: 200/200"), "{mode}: {said}");
    }
    let mut bench = stand.client("pgbench");
    std::fs::write(stand.path("pipeline.sql"), "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT 3;\n\\endpipeline\n")
        .unwrap();
    bench.args([
        "-n",
        "-M",
        "extended",
        "-c",
        "2",
        "-t",
        "50",
        "-f",
        &stand.path("pipeline.sql"),
        &stand.url("analyst", ""),
    ]);
    ok(bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_by_several_workers() {
    let stand = Stand::new().await;
    stand
        .ask(&[
            "CREATE TABLE t AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 20000) n",
            "CREATE INDEX ON t (n)",
        ])
        .await;
    let dump = stand.folder.path().join("cluster/dump");
    let mut dumping = stand.client("pg_dump");
    dumping.args(["-Fd", "-j", "2", "-f", &dump.display().to_string(), "-d", &stand.url("analyst", "")]);
    ok(dumping).await;
    stand.ask(&["DROP TABLE t"]).await;
    let mut restoring = stand.client("pg_restore");
    restoring.args(["-j", "3", "--no-owner", "-d", &stand.url("analyst", ""), &dump.display().to_string()]);
    ok(restoring).await;
    assert_eq!(stand.ask(&["SELECT count(*), sum(n) FROM t"]).await, "20000|200010000");
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_data_and_large_rows_go_both_ways() {
    let stand = Stand::new().await;
    let file = stand.path("data.csv");
    let lines: String = (0..200_000).map(|n| format!("{n},some text of row {n}\n")).collect();
    std::fs::write(&file, &lines).unwrap();
    stand.ask(&["CREATE TABLE copied (n int, t text)", &format!("\\copy copied FROM '{file}' CSV")]).await;
    assert_eq!(stand.ask(&["SELECT count(*) FROM copied"]).await, "200000");
    let back =
        ok(stand.psql(&stand.url("analyst", ""), &["\\copy (SELECT * FROM copied ORDER BY n) TO STDOUT CSV"])).await;
    assert_eq!(back, lines.trim_end());
    assert_eq!(stand.ask(&["SELECT length(repeat('x', 50000000))"]).await, "50000000");
    let row = run(stand.psql(&stand.url("analyst", ""), &["SELECT repeat('x', 50000000)"])).await;
    assert_eq!(row.stdout.len(), 50_000_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_and_options_pass() {
    let stand = Stand::new().await;
    let url = stand.url("analyst", "options='-c statement_timeout=77s' application_name=me");
    assert_eq!(ok(stand.psql(&url, &["SHOW statement_timeout", "SHOW application_name"])).await, "77s\nme");
    let system = ok(stand.psql(&stand.url("analyst", "replication=database"), &["IDENTIFY_SYSTEM"])).await;
    assert!(system.ends_with("|postgres"), "{system}");
    let backup = stand.folder.path().join("cluster/backup");
    let mut basebackup = stand.client("pg_basebackup");
    basebackup.args([
        "-X",
        "stream",
        "-c",
        "fast",
        "-D",
        &backup.display().to_string(),
        "-d",
        &stand.url("analyst", ""),
    ]);
    ok(basebackup).await;
    assert!(backup.join("backup_manifest").exists());
}
