//! Bad days: servers that are down, full, restarted or not who they say; clients that stall, flood or talk nonsense; a
//! gateway that is killed or cannot record.

use super::{ORDERS, PASSWORD, POLICY, Stand, TARGET, prepare, write_secret};
use e2e::{Postgres, Process, Setup, Talk, World, run, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_server_that_is_down_is_named_and_comes_back_without_the_gateway_being_touched() {
    let mut stand = Stand::new();
    let mut running = stand.client("psql");
    running.args(["-X", "-At", "-c", "SELECT pg_sleep(300)"]);
    let mut running = Talk::start(running);
    wait_until("the statement runs", || {
        stand
            .orders
            .sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'")
            == "1"
    });
    // Restarted under it: the server's own farewell comes through.
    stand.orders.stop(Signal::SIGINT);
    running.expect("terminating connection due to administrator command");
    assert_eq!(running.end(), 2);
    let said = stand.psql(&["-c", "SELECT 1"]).failed();
    assert!(said.contains("FATAL") && said.contains("orders") && said.contains("refused"), "{said}");
    stand.orders.resume(stand.world.hosts());
    assert_eq!(stand.psql(&["-c", "SELECT 1"]).ok(), "1\n");
}

#[test]
fn a_server_that_crashes_in_mid_statement_ends_that_session_with_a_reason() {
    let stand = Stand::new();
    let mut running = stand.client("psql");
    running.args(["-X", "-At", "-c", "SELECT 'pid ' || pg_backend_pid()", "-c", "SELECT pg_sleep(300)"]);
    let mut running = Talk::start(running);
    running.expect("pid ");
    wait_until("the statement runs", || {
        stand
            .orders
            .sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'")
            == "1"
    });
    let pid = running.heard().trim().rsplit(' ').next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_ne!(running.end(), 0);
    wait_until("the server has recovered", || stand.psql(&["-c", "SELECT 1"]).code == 0);
}

#[test]
fn a_server_with_no_connection_left_says_so_in_its_own_words() {
    let stand = Stand::with(POLICY, "max_connections = 5\nsuperuser_reserved_connections = 4\nmax_wal_senders = 0");
    let one = |role: &str| {
        let mut command = super::aimed(stand.alice.command("psql"), role);
        command.args(["-X", "-At", "-v", "VERBOSITY=verbose"]);
        command
    };
    let mut first = Talk::start(one("analyst"));
    first.say("SELECT 'in';");
    first.expect("in");
    let mut second = one("analyst");
    second.args(["-c", "SELECT 1"]);
    let said = run(second, b"").failed();
    assert!(said.contains("remaining connection slots are reserved"), "{said}");
    drop(first);
    wait_until("the slot is free again", || {
        let mut third = one("analyst");
        third.args(["-c", "SELECT 'in again'"]);
        run(third, b"").text() == "in again\n"
    });
}

#[test]
fn a_wrong_credential_is_the_gateway_s_trouble_and_no_secret_is_told() {
    let stand = Stand::new();
    let _changed = stand.orders.sql("ALTER ROLE dba PASSWORD 'changed since'");
    let said = stand.psql(&["-c", "SELECT 1"]).failed();
    assert!(said.contains("FATAL") && said.contains("orders"), "{said}");
    let log = stand.world.gateway().printed();
    for text in [&said, &log] {
        assert!(!text.contains(PASSWORD) && !text.contains("changed since"), "{text}");
    }
    // The caller's own idea of a password changes nothing.
    let mut command = stand.client("psql");
    command.env("PGPASSWORD", "changed since").args(["-X", "-c", "SELECT 1"]);
    assert_ne!(run(command, b"").code, 0);
}

#[test]
fn a_server_whose_certificate_has_expired_or_is_another_host_s_is_not_logged_in_to() {
    let certificates = tempfile::tempdir().unwrap();
    for (case, mode, names, year, word) in [
        ("expired", "verify-full", "db.internal", 2020, "expired"),
        ("of another host", "verify-full", "other.internal", 4000, "db.internal"),
        ("good", "verify-full", "db.internal", 4000, ""),
        ("expired whatever its host", "verify-ca", "other.internal", 2020, "expired"),
        ("of any host of the authority", "verify-ca", "other.internal", 4000, ""),
    ] {
        let folder = certificates.path().join(case.replace(' ', "-"));
        std::fs::create_dir(&folder).unwrap();
        certify(&folder, names, year);
        let target = TARGET.replace("127.0.0.5:5432", "db.internal:5432").replace(
            "tls = \"disable\"",
            &format!("tls = \"{mode}\", ca = \"file:{}\"", folder.join("ca.pem").display()),
        );
        let mut world = World::build(Setup { policy: POLICY.to_owned(), targets: target, ..Setup::default() });
        write_secret(&world.operator().join("orders.password"), PASSWORD);
        world.hosts().lay_over_etc("hosts", "127.0.0.1 localhost\n127.0.0.5 db.internal\n");
        let orders = with_tls(&world, &folder);
        prepare(&orders);
        world.up();
        let alice = world.caller("alice@example.com", "laptop");
        let mut command = super::aimed(alice.command("psql"), "dba");
        command.args(["-X", "-At", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]);
        let done = run(command, b"");
        if word.is_empty() {
            assert_eq!(done.ok(), "t\n", "{case}: the leg to the server is encrypted");
        } else {
            let said = done.failed();
            assert!(said.contains("orders") && said.to_lowercase().contains(word), "{case}: {said}");
            assert!(!orders.log().contains("connection authorized: user=dba"), "{case}");
        }
    }
}

/// A server that insists on TLS with the certificate in `folder`.
fn with_tls(world: &World, folder: &Path) -> Postgres {
    let at = world.folder().join("orders");
    std::fs::create_dir_all(&at).unwrap();
    for file in ["server.pem", "server.key"] {
        std::fs::copy(folder.join(file), at.join(file)).unwrap();
    }
    let mut own = std::process::Command::new("chown");
    own.arg("postgres").arg(at.join("server.key"));
    let _owned = run(own, b"").ok();
    write_mode(&at.join("server.key"));
    let extra = format!("ssl = on\nssl_cert_file = '{0}/server.pem'\nssl_key_file = '{0}/server.key'", at.display());
    Postgres::start(world.hosts(), &at, ORDERS.parse().unwrap(), &extra)
}

fn write_mode(file: &Path) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// An authority and a server's certificate of it, good until `year`, in PEM.
fn certify(folder: &Path, name: &str, year: i32) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut server = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    (server.not_before, server.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(year, 1, 1));
    let certificate = server.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

#[test]
fn garbage_and_start_ups_that_never_end_cost_that_connection_alone() {
    let stand = Stand::new();
    let address = stand.alice.resolve("orders");
    let noise: [(&str, Vec<u8>); 8] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n".to_vec()),
        ("zeros", vec![0; 70_000]),
        ("a start-up of two gigabytes", b"\x7f\xff\xff\xff\x00\x03\x00\x00".to_vec()),
        ("a start-up of no length", b"\x00\x00\x00\x03\x00\x03\x00\x00".to_vec()),
        ("a parameter without an end", startup(b"user\0dba\0database\0orders")),
        ("an old protocol", b"\x00\x00\x00\x08\x00\x02\x00\x00".to_vec()),
        ("TLS asked for twice", b"\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x08\x04\xd2\x16\x2f".to_vec()),
        ("half a start-up, and silence", b"\x00\x00\x00\x40\x00\x03\x00\x00user".to_vec()),
    ];
    for (name, bytes) in noise {
        assert!(hangs_up(&stand, address, bytes), "{name}: the gateway did not hang up by itself");
    }
    for (name, bytes) in [
        ("a message of no length", &b"Q\x00\x00\x00\x00"[..]),
        ("a message of two gigabytes", b"Q\x7f\xff\xff\xffSELECT"),
        ("an unknown message of a gigabyte", b"\xa5\x3f\xff\xff\xff"),
        ("a bind that counts more than it holds", b"B\x00\x00\x00\x0c\x00\x00\x7f\xff\x7f\xff\x00\x00"),
    ] {
        let session = [&startup(b"user\0dba\0database\0orders\0\0")[..], bytes].concat();
        assert!(hangs_up(&stand, address, session), "{name}: the gateway did not hang up by itself");
    }
    assert_eq!(stand.psql(&["-c", "SELECT 'well'"]).ok(), "well\n");
}

/// A start-up packet of protocol 3.0.
fn startup(parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(parameters.len() + 8).unwrap();
    [&length.to_be_bytes()[..], b"\x00\x03\x00\x00", parameters].concat()
}

/// Whether the gateway, or the server behind it, closes a connection on which these bytes came; half a message may also wait.
fn hangs_up(stand: &Stand, address: IpAddr, bytes: Vec<u8>) -> bool {
    let closed = stand.alice.namespace().enter(move || {
        let mut connection = TcpStream::connect((address, 5432)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        let _hung_up = connection.write_all(&bytes);
        let _hung_up = connection.shutdown(std::net::Shutdown::Write);
        match connection.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
    closed.join().unwrap()
}

#[test]
fn five_hundred_silent_connections_hold_no_session_up() {
    let stand = Stand::new();
    let mut working = stand.client("psql");
    working.args(["-X", "-At"]);
    let mut working = Talk::start(working);
    working.say("SELECT 'u' || 'p';");
    working.expect("up");
    let address = stand.alice.resolve("orders");
    let silent = move || (0..500).map(|_| TcpStream::connect((address, 5432)).unwrap()).collect::<Vec<_>>();
    let silent = stand.alice.namespace().enter(silent).join().unwrap();
    working.say("SELECT 'st' || 'ill';");
    working.expect("still");
    let fresh = stand.psql(&["-c", "SELECT 'fresh'"]);
    assert!(fresh.took < Duration::from_secs(10), "{:?}", fresh.took);
    assert_eq!(fresh.ok(), "fresh\n");
    drop(silent);
    assert_eq!(working.end(), 0);
}

#[test]
fn a_gateway_killed_in_mid_transaction_rolls_back_and_its_recording_has_what_was_run() {
    let mut stand = Stand::new();
    let _made = stand.orders.sql_in("orders", "CREATE TABLE paid (id int); GRANT ALL ON paid TO public");
    let mut working = stand.client("psql");
    working.args(["-X", "-At"]);
    let mut working = Talk::start(working);
    working.say("BEGIN; INSERT INTO paid VALUES (4711); SELECT 'inser' || 'ted';");
    working.expect("inserted");
    // A statement is on the disk within a second (recorder/FORMAT.md).
    std::thread::sleep(Duration::from_millis(1500));
    stand.world.stop(Signal::SIGKILL);
    let _code = working.end();
    wait_until("the server has rolled back", || {
        stand.orders.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'dba'") == "0"
    });
    assert_eq!(stand.orders.sql_in("orders", "SELECT count(*) FROM paid"), "0");
    stand.world.up();
    let listed = stand.world.sallyport(&["sessions", "ls", "--json"]).ok();
    let sessions: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    let session = sessions.iter().find(|session| session["outcome"] == "interrupted").expect("an interrupted session");
    let id = session["id"].as_str().unwrap();
    let lines = stand.world.sallyport(&["export", id, "--format", "jsonl"]).ok();
    assert!(lines.contains("INSERT INTO paid VALUES (4711)"), "{lines}");
    let _whole_to_the_cut = stand.world.sallyport(&["verify", id]).ok();
    assert_eq!(stand.psql(&["-c", "SELECT count(*) FROM paid"]).ok(), "0\n");
}

#[test]
fn a_row_of_a_quarter_gigabyte_passes_in_flat_memory() {
    let stand = Stand::new();
    let mut command = stand.client("psql");
    command.args(["-X", "-At", "-o", "/dev/null", "-c", "SELECT repeat('x', 256 * 1024 * 1024)"]);
    let (before, most) = weighed(&stand, || {
        let _done = run(command, b"").ok();
    });
    assert!(most < before + 40_000, "{before} kB before, {most} kB with the row");
}

#[test]
fn a_client_that_stops_reading_stops_the_server_and_costs_no_memory() {
    let stand = Stand::new();
    let mut command = stand.client("psql");
    command.args([
        "-X",
        "-q",
        "-o",
        "/dev/null",
        "-c",
        "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 150000)) TO STDOUT",
    ]);
    let reading = Process::spawn(command, &stand.alice.folder().join("stalled.log"));
    let before = stand.world.gateway().resident_kb();
    wait_until("it copies", || waits(&stand, "active"));
    reading.signal(Signal::SIGSTOP);
    // The server waits for its client to read: wait_event ClientWrite.
    wait_until("the server waits", || {
        stand.orders.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'") == "1"
    });
    let grown = stand.world.gateway().resident_kb().saturating_sub(before);
    assert!(grown < 30_000, "grown by {grown} kB");
    assert_eq!(stand.psql(&["-c", "SELECT 'well'"]).ok(), "well\n");
    reading.signal(Signal::SIGCONT);
    wait_until("it goes on to its end", || !waits(&stand, "active"));
}

fn waits(stand: &Stand, state: &str) -> bool {
    let count =
        format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT repeat%' AND state = '{state}'");
    stand.orders.sql(&count) == "1"
}

/// Does `work`, and gives the gateway's memory before and at its most, in kB.
fn weighed(stand: &Stand, work: impl FnOnce() + Send) -> (u64, u64) {
    let gateway = stand.world.gateway();
    let before = gateway.resident_kb();
    let most = std::sync::atomic::AtomicU64::new(before);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _before = most.fetch_max(gateway.resident_kb(), std::sync::atomic::Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        work();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    (before, most.into_inner())
}

#[test]
fn a_denied_role_database_or_caller_learns_why_in_postgres_s_own_form() {
    let stand = Stand::new();
    for (role, database, words) in [
        ("postgres", "orders", "may not log in to orders as postgres"),
        ("analyst", "postgres", "postgres"),
        ("nobody", "orders", "may not log in to orders as nobody"),
    ] {
        let mut command = super::aimed(stand.alice.command("psql"), role);
        command.args(["-X", "-c", "SELECT 1", database]);
        let said = run(command, b"").failed();
        assert!(said.contains("FATAL:") && said.contains(words), "{role} in {database}: {said}");
        assert!(said.contains("DETAIL:") && said.contains("HINT:  Ask group:sre."), "{said}");
        // libpq does not tell the SQLSTATE of a refused connection; asyncpg does.
        if super::drivers::has_module("asyncpg") {
            let mut command = super::aimed(stand.alice.command(super::drivers::PYTHON), role);
            command.arg(super::peer("refused_client.py")).arg(database);
            assert_eq!(run(command, b"").ok(), "28000\n", "{role} in {database}");
        }
    }
    let bob = stand.world.caller("bob@example.com", "bobs-laptop");
    let mut command = super::aimed(bob.command("psql"), "dba");
    command.args(["-X", "-c", "SELECT 1"]);
    let said = run(command, b"").failed();
    assert!(said.contains("bob@example.com") && said.contains("HINT"), "{said}");
}

#[test]
fn a_refused_statement_leaves_the_session_alive_and_its_transaction_as_postgres_would() {
    let stand = Stand::new();
    let mut command = super::aimed(stand.alice.command("psql"), "analyst");
    command.args(["-X", "-At", "-q", "-v", "VERBOSITY=verbose"]);
    let script = "CREATE TABLE t (id int);\nSELECT 'alive';\nBEGIN;\nSELECT 1;\nDROP TABLE t;\nSELECT 2;\nROLLBACK;\nSELECT 3;\n";
    let done = run(command, script.as_bytes());
    assert_eq!(done.text(), "alive\n1\n3\n", "{}", done.stderr);
    assert_eq!(done.stderr.matches("ERROR:  42501").count(), 2, "{}", done.stderr);
    assert!(done.stderr.contains("DETAIL:") && done.stderr.contains("HINT:"), "{}", done.stderr);
    assert!(done.stderr.contains("25P02"), "the statement after the refused one: {}", done.stderr);
    assert!(!stand.orders.log().contains("DROP TABLE"), "nothing of it reached the server");
}

#[test]
fn a_full_disk_ends_the_session_and_lets_no_new_one_in() {
    let disk = tempfile::tempdir().unwrap();
    let _mounted = SmallDisk::mount(disk.path());
    let setup = Setup {
        policy: POLICY.to_owned(),
        targets: TARGET.to_owned(),
        recordings: disk.path().display().to_string(),
        ..Setup::default()
    };
    let mut world = World::build(setup);
    write_secret(&world.operator().join("orders.password"), PASSWORD);
    let orders = Postgres::start(world.hosts(), &world.folder().join("orders"), ORDERS.parse().unwrap(), "");
    prepare(&orders);
    world.up();
    let alice = world.caller("alice@example.com", "laptop");
    let stand = Stand { alice, orders, world };
    // Statements that do not compress, until the disk is full.
    let noise = || (0..2000).map(|_| format!("SELECT length('{}');\n", word())).collect::<String>();
    let started = Instant::now();
    let said = loop {
        let done = stand.script(&["-o", "/dev/null"], &noise());
        if done.code != 0 {
            break done.stderr;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the disk does not fill");
    };
    assert!(said.contains("recording"), "{said}");
    let refused = stand.psql(&["-c", "SELECT 'in'"]);
    assert!(refused.code != 0 && refused.text().is_empty(), "no session without a recording: {}", refused.stderr);
}

/// A few hundred hexadecimal digits that never were before.
fn word() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    (0..40_u32).map(|n| format!("{:016x}", RandomState::new().hash_one(n))).collect()
}

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(at);
        let _mounted = run(mount, b"").ok();
        Self(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _gone_already = std::process::Command::new("umount").arg("-l").arg(self.0).output();
    }
}
