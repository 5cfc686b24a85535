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
fn a_standby_follows_through_the_gateway() {
    let stand = Stand::new();
    let said = stand.psql(&["-c", "IDENTIFY_SYSTEM", "dbname=orders replication=database"]).ok();
    assert!(said.contains("|orders"), "{said}");
    let said = stand.psql(&["-c", "SHOW server_version", "replication=true"]).ok();
    assert_eq!(said.trim(), stand.orders.sql("SHOW server_version"));
}
