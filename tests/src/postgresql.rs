//! A throw-away stock PostgreSQL: a cluster of its own, run by its account, nothing of ours on it.

use crate::{Namespace, Process, run, wait_until};
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    address: SocketAddr,
    programs: PathBuf,
    server: Option<Process>,
}

impl Postgres {
    /// Starts a server of the machine's newest version on `address` inside `namespace`, with its files in `folder`. `extra`
    /// is more of postgresql.conf.
    #[must_use]
    pub fn start(namespace: &Namespace, folder: &Path, address: SocketAddr, extra: &str) -> Self {
        Self::start_version(&newest_programs(), namespace, folder, address, extra)
    }

    /// Starts a server whose programs lie in `programs`, where every account can read them.
    #[must_use]
    pub fn start_version(
        programs: &Path,
        namespace: &Namespace,
        folder: &Path,
        address: SocketAddr,
        extra: &str,
    ) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        own(folder);
        initdb(programs, folder);
        let mut server = Self { folder: folder.to_owned(), address, programs: programs.to_owned(), server: None };
        let config = format!(
            "listen_addresses = '{}'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\nwal_level = logical\n\
             max_prepared_transactions = 10\nmax_connections = 200\nlog_connections = on\nlog_line_prefix = '%u '\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\n{extra}\n",
            address.ip(),
            address.port(),
            folder.display(),
        );
        append(&folder.join("data/postgresql.conf"), &config);
        server.allow("trust");
        server.resume(namespace);
        server
    }

    /// Lets every role in over TCP by this method of pg_hba.conf alone; the superuser's own socket is always open.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn allow(&self, method: &str) {
        let lines = format!("local all all trust\nhost all all all {method}\nhost replication all all {method}\n");
        std::fs::write(self.folder.join("data/pg_hba.conf"), lines).unwrap();
        if let Some(server) = &self.server {
            server.signal(Signal::SIGHUP);
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its files lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs SQL as the superuser on the server's own socket, and gives what came back without decoration.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// The same in another database.
    #[track_caller]
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new("psql");
        command.args(["-X", "-At", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command.arg("-h").arg(&self.folder).arg("-p").arg(self.address.port().to_string());
        let text = run(command, sql.as_bytes()).ok();
        text.trim_end().to_owned()
    }

    /// Stops it: SIGTERM waits for sessions, SIGINT ends them, SIGQUIT crashes it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self, signal: Signal) {
        let mut server = self.server.take().expect("the server runs");
        server.signal(signal);
        server.wait();
    }

    /// Starts it again.
    pub fn resume(&mut self, namespace: &Namespace) {
        let mut command = namespace.command("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(self.programs.join("postgres"));
        command.arg("-D").arg(self.folder.join("data")).current_dir("/");
        let server = Process::spawn(command, &self.folder.join("log"));
        let from = self.log().len();
        wait_until("PostgreSQL accepts connections", || {
            self.log().get(from..).is_some_and(|log| log.contains("ready to accept connections"))
        });
        self.server = Some(server);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.is_some() {
            // Its processes and its shared memory go with it.
            self.stop(Signal::SIGQUIT);
        }
    }
}

/// The folder of the newest server programs that Debian's packages brought.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn newest_programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed").flatten();
    let newest = versions.max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or_default());
    newest.expect("a version of it").path().join("bin")
}

fn initdb(programs: &Path, folder: &Path) {
    let mut initdb = Command::new("setpriv");
    initdb.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(programs.join("initdb"));
    initdb.arg("-D").arg(folder.join("data")).args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]);
    initdb.args(["--locale=C", "--no-instructions"]).current_dir("/");
    let _made = run(initdb, b"").ok();
}

fn own(folder: &Path) {
    let mut chown = Command::new("chown");
    chown.args(["postgres:postgres"]).arg(folder);
    let _done = run(chown, b"").ok();
}

fn append(file: &Path, text: &str) {
    use std::io::Write as _;
    std::fs::File::options().append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}
