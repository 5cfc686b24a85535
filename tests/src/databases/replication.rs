//! Replication connections: a base backup that starts, the WAL as it is written, and logical changes.

use super::Stand;
use e2e::{Process, Talk, run, wait_until};

#[test]
fn a_base_backup_taken_through_the_gateway_is_whole() {
    let stand = Stand::new();
    let _made =
        stand.orders.sql_in("orders", "CREATE TABLE kept AS SELECT n, md5(n::text) FROM generate_series(1, 10000) n");
    let folder = stand.alice.folder().join("backup");
    let mut backup = stand.client("pg_basebackup");
    backup.args(["-X", "stream", "-c", "fast", "-D"]).arg(&folder);
    let _taken = run(backup, b"").ok();
    let mut verify = stand.client(e2e::newest_programs().join("pg_verifybackup").to_str().unwrap());
    verify.arg(&folder);
    assert!(run(verify, b"").ok().contains("backup successfully verified"));
}

#[test]
fn pg_receivewal_follows_the_log_as_it_is_written() {
    let stand = Stand::new();
    let folder = stand.alice.folder().join("wal");
    std::fs::create_dir(&folder).unwrap();
    let mut receive = stand.client("pg_receivewal");
    receive.args(["--synchronous", "-v", "-D"]).arg(&folder);
    let log = stand.alice.folder().join("receivewal.log");
    let receive = Process::spawn(receive, &log);
    wait_until("it streams", || receive.printed().contains("starting log streaming"));
    let _written =
        stand.orders.sql_in("orders", "CREATE TABLE t AS SELECT generate_series(1, 100000) n; SELECT pg_switch_wal()");
    wait_until("a whole segment has arrived", || {
        std::fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .any(|file| !file.file_name().to_string_lossy().ends_with("partial"))
    });
}

#[test]
fn pg_recvlogical_hears_each_change() {
    let stand = Stand::new();
    let slot = |action: &str| {
        let mut command = stand.client("pg_recvlogical");
        command.args(["-d", "orders", "--slot", "changes", action]);
        if action == "--start" {
            command.args(["-f", "-", "-o", "include-xids=0"]);
        } else if action == "--create-slot" {
            command.args(["-P", "test_decoding"]);
        }
        command
    };
    let _made = run(slot("--create-slot"), b"").ok();
    let following = Talk::start(slot("--start"));
    let _made = stand.orders.sql_in("orders", "CREATE TABLE t (id int PRIMARY KEY, name text)");
    for number in 0..3 {
        let _done = stand.orders.sql_in("orders", &format!("INSERT INTO t VALUES ({number}, 'name {number}')"));
        following.expect(&format!("table public.t: INSERT: id[integer]:{number} name[text]:'name {number}'"));
    }
    let _signalled = nix::sys::signal::kill(nix::unistd::Pid::from_raw(following.id()), nix::sys::signal::SIGINT);
    drop(following);
    wait_until("the slot is free", || {
        stand.orders.sql("SELECT active FROM pg_replication_slots WHERE slot_name = 'changes'") == "f"
    });
    let _dropped = run(slot("--drop-slot"), b"").ok();
}

#[test]
fn replication_connections_run_its_commands() {
    let stand = Stand::new();
    let said = stand.psql(&["-c", "IDENTIFY_SYSTEM", "dbname=orders replication=database"]).ok();
    assert!(said.contains("|orders"), "{said}");
    let said = stand.psql(&["-c", "SHOW server_version", "replication=true"]).ok();
    assert_eq!(said.trim(), stand.orders.sql("SHOW server_version"));
}

#[test]
fn physical_replication_is_of_the_database_that_pg_hba_conf_calls_so() {
    let stand = Stand::with(&super::POLICY.replace(r#""databases": ["*"]"#, r#""databases": ["orders"]"#), "");
    let said = stand.psql(&["-c", "IDENTIFY_SYSTEM", "dbname=orders replication=database"]).ok();
    assert!(said.contains("|orders"), "{said}");
    let denied = stand.psql(&["-c", "IDENTIFY_SYSTEM", "dbname=orders replication=true"]).failed();
    assert!(denied.contains("may not use the database replication of orders as dba"), "{denied}");
}

#[test]
fn a_standby_follows_through_the_gateway() {
    let stand = Stand::new();
    // Where the server's account may look.
    let folder = stand.world.folder().join("standby");
    let mut backup = stand.client("pg_basebackup");
    backup.args(["-R", "-X", "stream", "-c", "fast", "-D"]).arg(&folder);
    let _taken = run(backup, b"").ok();
    let mut own = std::process::Command::new("chown");
    own.args(["-R", "postgres:postgres"]).arg(&folder);
    let _owned = run(own, b"").ok();
    let mut standby = stand.alice.command("setpriv");
    standby.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    standby.arg(e2e::newest_programs().join("postgres")).arg("-D").arg(&folder).current_dir("/");
    standby.args(["-c", "listen_addresses=127.0.0.1", "-c", "port=6000"]);
    let mut standby = Process::spawn(standby, &stand.alice.folder().join("standby.log"));
    let ask = |sql: &str| {
        let mut psql = stand.alice.command("psql");
        psql.args(["-X", "-At", "-h", "127.0.0.1", "-p", "6000", "-U", "dba", "-d", "orders", "-c", sql]);
        psql.env("PGPASSWORD", super::PASSWORD).env("PGSSLMODE", "disable");
        run(psql, b"")
    };
    wait_until("the standby answers", || ask("SELECT pg_is_in_recovery()").stdout == b"t\n");
    let _made = stand.orders.sql_in("orders", "CREATE TABLE told AS SELECT generate_series(1, 1000) n");
    wait_until("it has what was written after the backup", || ask("SELECT count(*) FROM told").stdout == b"1000\n");
    standby.signal(nix::sys::signal::SIGQUIT);
    standby.wait();
}
