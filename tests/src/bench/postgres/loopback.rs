//! One PostgreSQL, one gateway and one pgbouncer on the loopback of a namespace.

use e2e::{Namespace, Postgres, Process, wait_until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How a client gets to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Through,
    /// Through a relay that only copies.
    Relayed,
    Pgbouncer,
}

/// A stock server, and what stands before it.
pub(super) struct Loopback {
    // Dropped in this order: what stands before the server, the server, then the machine that all of it runs on.
    gateway: Process,
    relay: Process,
    pgbouncer: Option<Process>,
    server: Postgres,
    machine: Namespace,
    folder: TempDir,
}

impl Loopback {
    /// With everything recorded, and the server trusting whoever comes from loopback.
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sallyport-bench-").tempdir().unwrap();
        let at = folder.path();
        std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let machine = Namespace::new();
        let extra = "max_connections = 1200\nshared_buffers = 512MB\nlog_connections = off\nmax_wal_size = 4GB";
        let server = Postgres::start(&machine, &at.join("server"), ([127, 0, 0, 1], SERVER).into(), extra);
        let target = format!(
            "[[target]]\nname = \"orders\"\ntags = [\"tag:prod\"]\n\
             postgres = {{ address = \"{}\", tls = \"disable\", login = \"trust\" }}\n",
            server.address()
        );
        std::fs::write(at.join("target.toml"), target).unwrap();
        std::fs::write(at.join("policy"), POLICY).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve-postgres").arg(at).arg(GATEWAY.to_string());
        let gateway = machine.within(|| Process::spawn(command, &at.join("gateway.log")));
        wait_until("the gateway listens", || gateway.printed().contains("listening"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve-relay").arg(RELAY.to_string()).arg(SERVER.to_string());
        let relay = machine.within(|| Process::spawn(command, &at.join("relay.log")));
        let pgbouncer = e2e::has_peer("pgbouncer").then(|| start_pgbouncer(&machine, at));
        let loopback = Self { gateway, relay, pgbouncer, server, machine, folder };
        wait_until("every way leads there", || {
            loopback.ways().into_iter().all(|way| loopback.within(|| Connection::open(way).is_ok()))
        });
        loopback
    }

    /// Every way that there is here, pgbouncer's last.
    pub(super) fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::Direct, Way::Through, Way::Relayed];
        ways.extend(self.pgbouncer.as_ref().map(|_| Way::Pgbouncer));
        ways
    }

    pub(super) fn gateway(&self) -> &Process {
        &self.gateway
    }

    /// The process that stands on this way before the server.
    pub(super) fn before(&self, way: Way) -> Option<&Process> {
        match way {
            Way::Direct => None,
            Way::Through => Some(&self.gateway),
            Way::Relayed => Some(&self.relay),
            Way::Pgbouncer => self.pgbouncer.as_ref(),
        }
    }

    pub(super) fn server(&self) -> &Postgres {
        &self.server
    }

    /// A client of libpq on this way; to be run inside.
    pub(super) fn client(&self, program: &str, way: Way) -> Command {
        let mut command = Command::new(program);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port(way).to_string()).env("PGUSER", "postgres");
        command.env("PGDATABASE", "postgres").env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
        command.stdin(Stdio::null());
        command
    }

    /// Does `work` where the clients have their loopback.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.machine.within(work)
    }

    /// Where recordings are.
    pub(super) fn recordings(&self) -> std::path::PathBuf {
        self.folder.path().join("recordings")
    }
}

/// A session that does nothing by itself; closed when dropped.
pub(super) struct Connection(TcpStream);

impl Connection {
    /// Starts up, and waits until the server is ready; to be called inside.
    pub(super) fn open(way: Way) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port(way)))?;
        stream.write_all(b"\x00\x00\x00\x29\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0")?;
        let mut connection = Self(stream);
        connection.until_ready()?;
        Ok(connection)
    }

    /// Runs one statement and throws away what comes back; gives how many bytes that were.
    pub(super) fn run(&mut self, statement: &str) -> std::io::Result<u64> {
        let length = u32::try_from(statement.len() + 5).unwrap();
        self.0.write_all(&[&b"Q"[..], &length.to_be_bytes(), statement.as_bytes(), b"\0"].concat())?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> std::io::Result<u64> {
        let mut total = 0;
        loop {
            let mut header = [0; 5];
            self.0.read_exact(&mut header)?;
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let payload = u64::from(length) - 4;
            total += std::io::copy(&mut (&mut self.0).take(payload), &mut std::io::sink())?;
            match header[0] {
                b'Z' => return Ok(total),
                b'E' => return Err(std::io::Error::other("the server refused")),
                _ => {}
            }
        }
    }
}

fn start_pgbouncer(machine: &Namespace, at: &Path) -> Process {
    let users = at.join("users.txt");
    std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={SERVER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {PGBOUNCER}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\nmax_client_conn = 2000\n\
         default_pool_size = 600\nlog_connections = 0\nlog_disconnections = 0\n",
        users.display()
    );
    std::fs::write(at.join("pgbouncer.ini"), settings).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "pgbouncer"]).arg(at.join("pgbouncer.ini"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    machine.within(|| Process::spawn(command, &at.join("pgbouncer.log")))
}

fn port(way: Way) -> u16 {
    match way {
        Way::Direct => SERVER,
        Way::Through => GATEWAY,
        Way::Relayed => RELAY,
        Way::Pgbouncer => PGBOUNCER,
    }
}

const SERVER: u16 = 5432;
const GATEWAY: u16 = 5433;
const RELAY: u16 = 5434;
const PGBOUNCER: u16 = 6432;
const POLICY: &str = r#"{
  "tagOwners": { "tag:prod": ["alice@example.com"] },
  "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:5432"], "app": { "sallyport.dev/cap/postgres": [
    { "roles": ["postgres"], "databases": ["*"], "statements": ["any"], "functions": { "allow": ["*"] } }] } }],
}"#;
