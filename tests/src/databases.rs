//! Databases: stock PostgreSQL behind the gateway, and every kind of client before it.

mod bad_days;
mod drivers;
mod psql;
mod replication;
mod roles;
mod rules;
mod tools;
mod versions;
mod watch;

use e2e::{Caller, Finished, Postgres, Setup, World, run};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A gateway with the PostgreSQL server `orders` behind it, and alice before it.
struct Stand {
    alice: Caller,
    orders: Postgres,
    world: World,
}

impl Stand {
    /// Alice may do everything as `dba` and read as `analyst`; the gateway knows their password, she does not.
    fn new() -> Self {
        Self::with(POLICY, "")
    }

    /// With another policy, and with more of postgresql.conf.
    fn with(policy: &str, extra: &str) -> Self {
        let (mut world, orders) = Self::build(policy, extra);
        world.up();
        let alice = world.caller("alice@example.com", "laptop");
        Self { alice, orders, world }
    }

    /// The world and the server, before the gateway is started.
    fn build(policy: &str, extra: &str) -> (World, Postgres) {
        let setup = Setup { policy: policy.to_owned(), targets: TARGET.to_owned(), ..Setup::default() };
        let world = World::build(setup);
        write_secret(&world.operator().join("orders.password"), PASSWORD);
        let orders = Postgres::start(world.hosts(), &world.folder().join("orders"), ORDERS.parse().unwrap(), extra);
        prepare(&orders);
        (world, orders)
    }

    /// The file in which alice keeps the authority of her targets' certificates, as `ls` prints it.
    fn authority(&self) -> PathBuf {
        let printed = self.world.sallyport(&["ls"]).ok();
        let lines = printed.lines().skip_while(|line| !line.contains("BEGIN CERTIFICATE"));
        let file = self.alice.folder().join("authority.pem");
        std::fs::write(&file, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        file
    }

    /// A libpq program on alice's machine that is told where to go, and nothing else.
    fn client(&self, program: &str) -> Command {
        aimed(self.alice.command(program), "dba")
    }

    /// Runs `psql -X -At` with these arguments.
    #[track_caller]
    fn psql(&self, arguments: &[&str]) -> Finished {
        let mut command = self.client("psql");
        command.args(["-X", "-At"]).args(arguments);
        run(command, b"")
    }

    /// Runs `psql` with this script on its standard input.
    #[track_caller]
    fn script(&self, arguments: &[&str], script: &str) -> Finished {
        let mut command = self.client("psql");
        command.args(["-X", "-At", "-q"]).args(arguments);
        run(command, script.as_bytes())
    }
}

/// The roles, their database, and a password on every login over the network.
fn prepare(orders: &Postgres) {
    let _made = orders.sql(&format!(
        "CREATE ROLE dba SUPERUSER LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE analyst LOGIN PASSWORD '{PASSWORD}';"
    ));
    let _made = orders.sql("CREATE DATABASE orders OWNER dba");
    orders.allow("scram-sha-256");
}

fn aimed(mut command: Command, role: &str) -> Command {
    command.env("PGHOST", "orders").env("PGUSER", role).env("PGDATABASE", "orders").env("PGCONNECT_TIMEOUT", "60");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn write_secret(file: &Path, secret: &str) {
    std::fs::write(file, secret).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A file of `tests/peers`.
fn peer(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(file)
}

/// The folder in the build folder where peers are kept that no Debian package brings.
fn fetched() -> PathBuf {
    // The binary of the tests lies in `target/debug/deps`. A build folder that was made before cargo first ran has no
    // CACHEDIR.TAG to know it by.
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(3).expect("a build folder").join("peers")
}

const ORDERS: &str = "127.0.0.5:5432";
const PASSWORD: &str = "correct horse battery";
const TARGET: &str = r#"
[[target]]
name = "orders"
tags = ["tag:prod"]
postgres = { address = "127.0.0.5:5432", tls = "disable", login = { password = "file:orders.password" } }
"#;
const POLICY: &str = r#"{
  "groups":    { "group:sre": ["alice@example.com"], "group:staff": ["alice@example.com", "bob@example.com"] },
  "tagOwners": { "tag:prod": ["group:sre"] },
  "grants": [
    { "src": ["group:staff"], "dst": ["tag:prod"], "ip": ["tcp:5432"] },
    { "src": ["group:sre"], "dst": ["tag:prod"], "app": { "sallyport.dev/cap/postgres": [
      { "roles": ["dba"], "databases": ["*"], "statements": ["any"], "functions": { "allow": ["*"] }, "replication": {} },
    ] } },
    { "src": ["group:sre"], "dst": ["tag:prod"], "app": { "sallyport.dev/cap/postgres": [
      { "roles": ["analyst"], "databases": ["orders"], "statements": ["read"] },
    ] } },
  ],
}
"#;
