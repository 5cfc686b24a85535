//! Everything between a client's socket and the server's, and a door on loopback.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sallyport::clock::Clock;
use sallyport::credentials::PostgresVault;
use sallyport::postgres::{self, Asked, Broker, Greeting};
use sallyport::session;
use sallyport::state::{Folder, Keys};
use sallyport_recorder::SessionId;
use sallyport_tailnet::Stream;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, program};
use super::middle::{Calls, Middle};

pub(crate) const POLICY: &str = r#"{
    "tagOwners": { "tag:prod": ["alice@example.com"] },
    "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:5432"], "app": { "sallyport.dev/cap/postgres": [
        { "roles": ["analyst", "scrammed", "hashed", "open", "certified", "bound"], "databases": ["postgres", "replication"], "statements": ["any"], "replication": {} },
        { "roles": ["reader"], "databases": ["postgres"], "statements": ["read"], "maxRows": 1000 },
    ] } }],
}"#;

pub(crate) struct Stand {
    // It is stopped before its folder goes.
    pub(crate) cluster: Cluster,
    pub(crate) folder: TempDir,
    pub(crate) middle: Middle,
    pub(crate) port: u16,
}

impl Stand {
    /// In front of a server that is reached without TLS, and trusts the gateway.
    pub(crate) async fn new() -> Self {
        Self::with(POLICY, r#"tls = "disable", login = "trust""#).await
    }

    /// In front of a server that is reached as `how` says.
    pub(crate) async fn with(policy: &str, how: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
        let keys = Keys::open(&Folder::open(&at.join("state")).unwrap()).unwrap();
        std::fs::write(at.join("password"), "hunter2\n").unwrap();
        std::fs::set_permissions(at.join("password"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(at.join("root.crt"), keys.tls_ca.pem()).unwrap();
        let cluster = Cluster::new(at, keys.database_ca.pem());
        let target = format!(
            "[[target]]\nname = \"orders\"\ntags = [\"tag:prod\"]\npostgres = {{ address = \"127.0.0.1:{}\", {how} }}\n",
            cluster.port
        );
        let (middle, calls) = Middle::new(at, policy, &target, Clock::system()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Arc::new(Broker::new(
            PostgresVault::new(&keys, "corp.internal", Clock::system()),
            middle.runner.state.roles(),
            Clock::system(),
        ));
        let (sweeping, target) = (Arc::clone(&broker), Arc::new(middle.target.clone()));
        tokio::spawn(async move { sweeping.sweep(|name| (name == target.name).then(|| Arc::clone(&target))).await });
        tokio::spawn(serve(listener, Arc::new(broker_of(&middle, broker)), calls));
        Self { folder, cluster, middle, port }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A bare connection to the gateway.
    #[expect(clippy::disallowed_methods, reason = "a client is no gateway")]
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// A connection string to the gateway, as `user`.
    pub(crate) fn url(&self, user: &str, more: &str) -> String {
        format!("host=orders hostaddr=127.0.0.1 port={} user={user} dbname=postgres sslmode=disable {more}", self.port)
    }

    /// `psql` with this connection string, and each of `statements` in its turn.
    pub(crate) fn psql(&self, url: &str, statements: &[&str]) -> Command {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-A", "-t", "-d", url]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        psql
    }

    /// One of PostgreSQL's clients.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = Command::from(program(name));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs statements as `analyst` and gives what they print.
    pub(crate) async fn ask(&self, statements: &[&str]) -> String {
        ok(self.psql(&self.url("analyst", ""), statements)).await
    }

    /// The timelines of all recordings, as text.
    pub(crate) async fn timelines(&self) -> String {
        let find = format!("find {} -name timeline.jsonl.zst | sort | xargs -r zstd -dcq", self.path("recordings"));
        let output = Command::new("sh").args(["-c", &find]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the timelines hold `text`: they are durable within a second, not before the client has left.
    pub(crate) async fn recorded(&self, text: &str) {
        let waiting = async {
            while !self.timelines().await.contains(text) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(Duration::from_secs(60), waiting).await.is_err() {
            panic!("{text} is not in {}", self.timelines().await);
        }
    }
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command) -> Output {
    timeout(Duration::from_secs(120), command.output()).await.expect("it hung").unwrap()
}

/// Runs a command that has to succeed, and gives what it prints.
pub(crate) async fn ok(command: Command) -> String {
    let described = format!("{command:?}");
    let output = run(command).await;
    assert!(output.status.success(), "{described}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Runs a command that has to fail, and gives what it complains of.
pub(crate) async fn failed(command: Command) -> String {
    let described = format!("{command:?}");
    let output = run(command).await;
    assert!(!output.status.success(), "{described}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// What is at hand behind the door.
struct Behind {
    runner: Arc<session::Runner>,
    broker: Arc<Broker>,
    device: sallyport::identity::Device,
    target: sallyport::target::Target,
}

fn broker_of(middle: &Middle, broker: Arc<Broker>) -> Behind {
    Behind { runner: Arc::clone(&middle.runner), broker, device: middle.device.clone(), target: middle.target.clone() }
}

/// Takes each connection as if it had come through the tailnet from the middle's device.
async fn serve(listener: TcpListener, behind: Arc<Behind>, mut calls: Calls) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let to = (behind.target.addresses[0], 5432).into();
        let origin = calls.origin(behind.device.key, behind.device.addresses[0], to).await;
        let behind = Arc::clone(&behind);
        tokio::spawn(async move {
            let Ok(greeting) = Greeting::read(Stream::Tcp(stream)).await else { return };
            let decision = behind.runner.access.approach(&origin);
            let Ok(asked) = behind.broker.asked(greeting, Some(&behind.target)).await else { return };
            match (decision, asked) {
                (Ok(approach), Asked::Session(client)) => {
                    let id = SessionId::new(Clock::system().now());
                    let broker = Arc::clone(&behind.broker);
                    session::run(&behind.runner, approach, id, |session| postgres::serve(client, session, broker))
                        .await;
                }
                (Ok(_), Asked::Cancel(canceller)) => {
                    behind.broker.cancels().deliver(behind.device.key, canceller).await;
                }
                (Err(refusal), asked) => postgres::decline(asked, &refusal.failure).await,
            }
        });
    }
}
