//! A throw-away PostgreSQL server of the test's own, as an unprivileged user, on a free port of loopback.

use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sallyport::authority::{Authority, Validity};

/// A running server; stopped when dropped.
pub(crate) struct Cluster {
    data: PathBuf,
    pub(crate) port: u16,
    server: Child,
}

impl Cluster {
    /// A new one in `folder`, with TLS, that takes client certificates of `authority` (in PEM).
    pub(crate) fn new(folder: &Path, authority: &str) -> Self {
        let data = folder.join("cluster");
        std::fs::create_dir(&data).unwrap();
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut initdb = program("initdb");
        initdb
            .args(["--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-D"])
            .arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        certify(folder, &data);
        std::fs::write(data.join("clients.pem"), authority).unwrap();
        std::fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nshared_buffers = 16MB\n\
             ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'clients.pem'\n\
             wal_level = logical\nmax_wal_senders = 4\nmax_connections = 20\nlog_min_messages = warning\n"
        );
        std::fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        let mut cluster = Self { server: start(&data), data, port };
        cluster.wait();
        cluster.sql(ROLES);
        cluster
    }

    /// Runs statements on it directly, as its superuser, and gives what they print.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let done = self.psql(statements);
        assert!(done.status.success(), "{statements}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    fn psql(&self, statements: &str) -> std::process::Output {
        let mut psql = program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"]);
        psql.args(["-p", &self.port.to_string(), "-d", "postgres", "-c", statements]);
        psql.output().unwrap()
    }

    /// Stops it at once, as a crash would.
    pub(crate) fn stop(&mut self) {
        let mut ctl = program("pg_ctl");
        let _ = ctl.args(["stop", "-m", "immediate", "-s", "-D"]).arg(&self.data).status();
        let _ = self.server.wait();
    }

    /// Stops it in good order, and starts it again.
    pub(crate) fn restart(&mut self) {
        let mut ctl = program("pg_ctl");
        ctl.args(["stop", "-m", "fast", "-s", "-D"]).arg(&self.data).status().unwrap();
        let _ = self.server.wait();
        self.server = start(&self.data);
        self.wait();
    }

    fn wait(&mut self) {
        for _ in 0..600 {
            if self.psql("SELECT 1").status.success() {
                return;
            }
            assert!(self.server.try_wait().unwrap().is_none(), "the server has ended");
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server did not come up");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(data: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(data.with_extension("log")).unwrap();
    program("postgres").arg("-D").arg(data).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A program of PostgreSQL's newest version here, run as nobody.
pub(crate) fn program(name: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut versions: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|one| one.unwrap().path()).collect();
    versions.sort();
    let mut command = Command::new(versions.last().unwrap().join("bin").join(name));
    command.uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null());
    command.env("PGCONNECT_TIMEOUT", "60").env("HOME", "/nonexistent").env_remove("PGPASSWORD");
    command
}

/// The server's certificate, for its address, of an authority that only the test knows.
fn certify(folder: &Path, data: &Path) {
    let authority = Authority::read("server CA", &Authority::generate("server CA").unwrap()).unwrap();
    let address: IpAddr = "127.0.0.1".parse().unwrap();
    let names = ["db.test".to_owned()];
    let certified = authority.server(&names, &[address], Validity { from: 0, to: 4_000_000_000 }).unwrap();
    std::fs::write(folder.join("server_ca.pem"), authority.pem()).unwrap();
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der))
    };
    std::fs::write(data.join("server.crt"), pem("CERTIFICATE", &certified.chain[0])).unwrap();
    std::fs::write(data.join("server.key"), pem("PRIVATE KEY", certified.key.secret_der())).unwrap();
    for name in ["server.key", "server.crt"] {
        chown(data.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(data.join("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

const NOBODY: u32 = 65_534;

/// Each kind of login has a role of its own.
const HBA: &str = "
hostssl all         bound       127.0.0.1/32 scram-sha-256
hostssl all         certified   127.0.0.1/32 cert
hostssl all         making      127.0.0.1/32 scram-sha-256
hostssl all         minting     127.0.0.1/32 cert
host    all         +readers    127.0.0.1/32 scram-sha-256
hostssl all         +writers    127.0.0.1/32 cert
host    all         scrammed    127.0.0.1/32 scram-sha-256
host    all         hashed      127.0.0.1/32 md5
host    all         open        127.0.0.1/32 password
host    replication all         127.0.0.1/32 trust
host    all         all         127.0.0.1/32 trust
";

const ROLES: &str = "
SET password_encryption = 'md5';
CREATE ROLE hashed LOGIN PASSWORD 'hunter2';
SET password_encryption = 'scram-sha-256';
CREATE ROLE scrammed LOGIN PASSWORD 'hunter2';
CREATE ROLE bound LOGIN PASSWORD 'hunter2';
CREATE ROLE open LOGIN PASSWORD 'hunter2';
CREATE ROLE certified LOGIN;
CREATE ROLE analyst LOGIN REPLICATION;
CREATE ROLE reader LOGIN;
GRANT ALL ON SCHEMA public TO PUBLIC;
";
