//! Drivers: psycopg, asyncpg, JDBC, node-postgres and tokio-postgres, each with what its users lean on.

use super::{Stand, fetched, peer};
use e2e::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

#[test]
fn psycopg_runs_pipelines_copy_cursors_notifications_and_cancels() {
    if has_module("psycopg") {
        let stand = Stand::new();
        let mut command = stand.client(PYTHON);
        command.arg(peer("psycopg_client.py"));
        assert_eq!(run(command, b"").ok(), "ok\n");
    }
}

#[test]
fn asyncpg_runs_prepared_statements_binary_values_copy_and_a_pool() {
    if has_module("asyncpg") {
        let stand = Stand::new();
        let mut command = stand.client(PYTHON);
        command.arg(peer("asyncpg_client.py"));
        assert_eq!(run(command, b"").ok(), "ok\n");
    }
}

#[test]
fn jdbc_runs_batches_streams_large_objects_and_what_dbeaver_asks_at_its_start() {
    let jar = Path::new("/usr/share/java/postgresql.jar");
    if !jar.exists() {
        return e2e::skip("libpostgresql-jdbc-java");
    }
    if !e2e::has_peer("javac") {
        return;
    }
    let stand = Stand::new();
    let classes = stand.world.folder().join("classes");
    let mut compile = Command::new("javac");
    compile.args(["-encoding", "UTF-8", "-cp"]).arg(jar).arg("-d").arg(&classes).arg(peer("jdbc/Client.java"));
    let _compiled = run(compile, b"").ok();
    let mut client = stand.client("java");
    client.arg("-cp").arg(format!("{}:{}", jar.display(), classes.display()));
    client.args(["Client", "orders", "5432", "orders", "dba", "require"]);
    assert_eq!(run(client, b"").ok(), "ok\n");
}

#[test]
fn node_postgres_runs_parametrised_queries_cursors_streams_and_pools() {
    let Some(modules) = npm("node-postgres", NODE_POSTGRES) else { return };
    let stand = Stand::new();
    let mut command = stand.client("node");
    command.env("NODE_PATH", modules).args(["--no-deprecation"]).arg(peer("node_client.js"));
    assert_eq!(run(command, b"").ok(), "ok\n");
}

#[test]
fn tokio_postgres_pipelines_five_thousand_queries_on_one_connection() {
    let stand = Stand::new();
    let address = stand.alice.resolve("orders");
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pipeline(address));
    };
    stand.alice.namespace().enter(work).join().unwrap();
}

async fn pipeline(address: std::net::IpAddr) {
    let place = format!("host={address} user=dba dbname=orders sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&place, tokio_postgres::NoTls).await.unwrap();
    let _driving = tokio::spawn(connection);
    let statement = client.prepare("SELECT $1::int8 * 2").await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    let client = std::sync::Arc::new(client);
    for number in 0..5000_i64 {
        let (client, statement) = (client.clone(), statement.clone());
        asked.spawn(
            async move { client.query_one(&statement, &[&number]).await.unwrap().get::<_, i64>(0) - number * 2 },
        );
    }
    while let Some(difference) = asked.join_next().await {
        assert_eq!(difference.unwrap(), 0);
    }
    let refused = client.query_one("SELECT 1 / $1::int4", &[&0_i32]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::DIVISION_BY_ZERO));
    let token = client.cancel_token();
    let cancelled = tokio::join!(client.simple_query("SELECT pg_sleep(300)"), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(cancelled.0.unwrap_err().code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED));
}

/// Whether Debian's Python has this module.
pub(super) fn has_module(module: &str) -> bool {
    let found = Command::new(PYTHON).args(["-W", "ignore", "-c", &format!("import {module}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        e2e::skip(&format!("python3-{module}"));
    }
    found
}

/// Has npm bring these packages, or finds them brought, and gives the folder of modules.
pub(super) fn npm(name: &str, packages: &[&str]) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _fetching = ONE_AT_A_TIME.lock();
    let folder = fetched().join(name);
    let (modules, brought) = (folder.join("node_modules"), folder.join("brought"));
    if std::fs::read_to_string(&brought).is_ok_and(|earlier| earlier == packages.join(" ")) {
        return Some(modules);
    }
    if !e2e::has_peer("npm") {
        return None;
    }
    std::fs::create_dir_all(&folder).unwrap();
    let mut install = Command::new("npm");
    install.args(["install", "--no-save", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).args(packages);
    install.current_dir(&folder);
    let done = run(install, b"");
    if done.code != 0 {
        e2e::skip(&format!("{name}: npm said {}", done.stderr.lines().next().unwrap_or_default()));
        return None;
    }
    std::fs::write(brought, packages.join(" ")).unwrap();
    Some(modules)
}

/// Debian's own, which has Debian's modules.
pub(super) const PYTHON: &str = "/usr/bin/python3";
const NODE_POSTGRES: &[&str] = &["pg@8.23.1", "pg-cursor@2.22.0", "pg-query-stream@4.17.0", "pg-copy-streams@7.0.0"];
