//! `psql -h orders` from a stock machine on the tailnet, to a PostgreSQL that runs nothing of ours.

use e2e::{Finished, Process, Setup, World, run, wait_until};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

#[test]
fn psql_reaches_a_database_by_its_name_with_any_sslmode() {
    let Some(stage) = Stage::new() else { return };
    let alice = stage.world.caller("alice@example.com", "laptop");
    let root = stage.world.folder().join("root.crt");
    std::fs::write(&root, certificate(&stage.world.sallyport(&["ls"]).ok())).unwrap();
    for (host, mode) in [
        ("orders", "disable"),
        ("orders", "prefer"),
        ("orders", "verify-full"),
        ("orders.corp.internal", "verify-full"),
    ] {
        let url = format!("host={host} user=analyst dbname=postgres sslmode={mode} sslrootcert={}", root.display());
        let said = stage.psql(&alice, &url, "SELECT current_user || ' over ' || 6 * 7").ok();
        assert_eq!(said, "analyst over 42\n", "{host} {mode}");
    }
    let denied = stage.psql(&alice, "host=orders user=postgres dbname=postgres", "SELECT 1").failed();
    assert!(
        denied.contains("FATAL:") && denied.contains("alice@example.com may not log in to orders as postgres"),
        "{denied}"
    );
    let bob = stage.world.caller("bob@example.com", "desk");
    let denied = stage.psql(&bob, "host=orders user=analyst dbname=postgres", "SELECT 1").failed();
    assert!(denied.contains("FATAL:") && denied.contains("bob@example.com"), "{denied}");
    let listed = stage.world.sallyport(&["sessions", "ls", "--json"]).ok();
    assert!(listed.contains("\"postgres\"") && listed.contains("\"analyst\""), "{listed}");
}

#[test]
fn a_recording_of_a_session_that_the_gateways_end_cut_off_is_sealed_at_the_next_start() {
    let Some(mut stage) = Stage::new() else { return };
    let alice = stage.world.caller("alice@example.com", "laptop");
    let url = "host=orders user=analyst dbname=postgres sslmode=disable";
    let mut sleeper = stage.client(&alice, "psql");
    sleeper.args(["-X", "-d", url, "-c", "BEGIN", "-c", "SELECT 'before the end'", "-c", "SELECT pg_sleep(600)"]);
    let _sleeper = Process::spawn(sleeper, &stage.world.folder().join("sleeper.log"));
    wait_until("the statement runs", || {
        stage.direct("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(600)'") == "1\n"
    });
    stage.world.stop(Signal::SIGKILL);
    stage.world.up();
    let listed = stage.world.sallyport(&["sessions", "ls", "--json"]).ok();
    assert!(listed.contains("\"interrupted\""), "{listed}");
    let id: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let verified = stage.world.sallyport(&["verify", id[0]["id"].as_str().unwrap()]).ok();
    assert!(verified.starts_with("intact"), "{verified}");
    assert_eq!(stage.psql(&alice, url, "SELECT 'again'").ok(), "again\n");
}

/// A world with a PostgreSQL server in it, called `orders`.
struct Stage {
    // The server is stopped before its folder goes.
    _server: Process,
    world: World,
    programs: PathBuf,
}

impl Stage {
    fn new() -> Option<Self> {
        let Some(programs) = programs() else {
            e2e::skip("PostgreSQL's server is not here");
            return None;
        };
        let targets = format!(
            "[[target]]\nname = \"orders\"\ntags = [\"tag:db\"]\npostgres = {{ address = \"127.0.0.1:{PORT}\", tls = \"disable\", login = \"trust\" }}\n"
        );
        let world = World::start(Setup { policy: POLICY.to_owned(), targets, ..Setup::default() });
        let data = world.folder().join("orders");
        std::fs::create_dir(&data).unwrap();
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        let as_nobody = |program: &str| {
            let mut command = world.hosts().command("setpriv");
            command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
            command.arg(programs.join(program)).arg("-D").arg(&data).current_dir("/");
            command
        };
        let mut initdb = as_nobody("initdb");
        initdb.args(["--no-sync", "-U", "postgres", "-A", "trust", "--locale", "C.UTF-8"]);
        let _made = run(initdb, b"").ok();
        let mut server = as_nobody("postgres");
        server.args([
            "-p",
            PORT,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
        ]);
        let server = Process::spawn(server, &world.folder().join("orders.log"));
        let stage = Self { _server: server, world, programs };
        wait_until("the server answers", || stage.ask("SELECT 1").code == 0);
        let _made = stage.direct("CREATE ROLE analyst LOGIN");
        Some(stage)
    }

    /// One of PostgreSQL's clients on a caller's machine.
    fn client(&self, caller: &e2e::Caller, program: &str) -> Command {
        let mut command = caller.namespace().command(self.programs.join(program));
        command.env("PGCONNECT_TIMEOUT", "60").env("HOME", caller.folder());
        command
    }

    fn psql(&self, caller: &e2e::Caller, url: &str, statement: &str) -> Finished {
        let mut psql = self.client(caller, "psql");
        psql.args(["-X", "-q", "-A", "-t", "-d", url, "-c", statement]);
        run(psql, b"")
    }

    /// Asks the server past the gateway.
    fn ask(&self, statement: &str) -> Finished {
        let mut psql = self.world.hosts().command(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", PORT, "-U", "postgres", "-c", statement]);
        run(psql, b"")
    }

    fn direct(&self, statement: &str) -> String {
        self.ask(statement).ok()
    }
}

/// The certificate that `sallyport ls` prints.
fn certificate(printed: &str) -> String {
    let lines = printed.lines().skip_while(|line| !line.contains("BEGIN CERTIFICATE"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The newest of PostgreSQL's versions here.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .max()
}

const PORT: &str = "15432";
const NOBODY: u32 = 65_534;

const POLICY: &str = r#"{
  "groups":    { "group:data": ["alice@example.com"] },
  "tagOwners": { "tag:prod": ["group:data"], "tag:db": ["group:data"] },
  "grants":    [ { "src": ["group:data"], "dst": ["tag:db"], "ip": ["tcp:5432"],
                   "app": { "sallyport.dev/cap/postgres": [{ "roles": ["analyst"], "databases": ["postgres"], "statements": ["read"] }] } },
                 { "src": ["bob@example.com"], "dst": ["tag:db"], "ip": ["tcp:5432"] } ],
}
"#;
