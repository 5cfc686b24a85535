//! The broker between OpenSSH's own client and sshd, on loopback: a policy, a recording on disk, and real peers.
//!
//! Needs `ssh`, `scp`, `sftp` and `sshd`, and root, because sshd logs in as root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "ssh/channels.rs"]
mod channels;
#[path = "ssh/distance.rs"]
mod distance;
#[path = "middle/door.rs"]
mod door;
#[path = "ssh/files.rs"]
mod files;
#[path = "ssh/hostile.rs"]
mod hostile;
#[path = "ssh/limits.rs"]
mod limits;
mod middle;
#[path = "ssh/narrowed.rs"]
mod narrowed;
#[path = "ssh/others.rs"]
mod others;
#[path = "../../tests/src/skip.rs"]
mod skip;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use door::Door;
use middle::{Middle, world};
use sallyport::clock::Clock;
use sallyport::ssh::Vault;
use sallyport::state::{Folder, Keys};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const POLICY: &str = r#"{
    "tagOwners": { "tag:prod": ["alice@example.com"] },
    "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"] }],
    "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["root"], "acceptEnv": ["SALLY_*"] }],
}"#;

/// Everything between the client's socket and the target's.
struct Stand {
    folder: TempDir,
    port: u16,
    sshd: Child,
    middle: Middle,
}

impl Stand {
    async fn new() -> Self {
        Self::with_host_key(None).await
    }

    /// With another host key registered than the one that sshd has.
    async fn with_host_key(registered: Option<&str>) -> Self {
        Self::build(POLICY, registered, None).await
    }

    /// With another policy.
    async fn with_policy(policy: &str) -> Self {
        Self::build(policy, None, None).await
    }

    /// With `registered` as the host key, and what listens on the port `instead` in the place of sshd.
    async fn build(policy: &str, registered: Option<&str>, instead: Option<u16>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let keys = Keys::open(&Folder::open(&at.join("state")).unwrap()).unwrap();
        let (sshd, sshd_port) = start_sshd(at, &keys.user_ca.public_key().to_openssh().unwrap()).await;
        let host_key = std::fs::read_to_string(at.join("host_key.pub")).unwrap();
        let host_key = registered.unwrap_or(host_key.trim());
        let sshd_port = instead.unwrap_or(sshd_port);
        let target = format!(
            "[[target]]\nname = \"web1\"\ntags = [\"tag:prod\"]\nssh = {{ address = \"127.0.0.1:{sshd_port}\", host_key = \"{host_key}\" }}\n"
        );
        let (middle, calls) = Middle::new(at, policy, &target, Clock::system()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let vault = Vault::new(&keys, "corp.internal", Clock::system());
        tokio::spawn(Door::new(&middle, calls, vault).serve(listener));
        let authority = keys.host_ca.public_key().to_openssh().unwrap();
        std::fs::write(at.join("known_hosts"), format!("@cert-authority web1 {authority}\n")).unwrap();
        let client = format!(
            "Host *\nHostName 127.0.0.1\nPort {port}\nUser root\nHostKeyAlias web1\nUserKnownHostsFile {at}/known_hosts\n\
             GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nIdentityFile none\nBatchMode yes\n\
             SendEnv SALLY_A OTHER\n",
            at = at.display()
        );
        std::fs::write(at.join("ssh_config"), client).unwrap();
        Self { folder, port, sshd, middle }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `program` with this stand's configuration.
    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.path("ssh_config")).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let running = self.client(program, arguments).output();
        timeout(Duration::from_secs(120), running).await.expect("it hung").unwrap()
    }

    /// Runs with `input` on standard input, closed at its end.
    async fn feed(&self, arguments: &[&str], input: Vec<u8>) -> Output {
        let mut child = self.client("ssh", arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writing = tokio::spawn(async move { stdin.write_all(&input).await });
        let output = timeout(Duration::from_secs(120), child.wait_with_output()).await.expect("it hung").unwrap();
        let _ = writing.await;
        output
    }

    /// A ControlMaster, in the background.
    async fn master(&self) -> (Child, String) {
        let socket = self.path("master");
        let child = self.client("ssh", &["-M", "-N", "-S", &socket, "web1"]).spawn().unwrap();
        for _ in 0..200 {
            if Path::new(&socket).exists() {
                return (child, socket);
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("no master");
    }

    /// The timelines of all recordings, as text.
    async fn timelines(&self) -> String {
        let find = format!("find {} -name timeline.jsonl.zst | sort | xargs -r zstd -dcq", self.path("recordings"));
        let output = Command::new("sh").args(["-c", &find]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the timelines hold `text`: they are durable within a second, not before the client has left.
    async fn recorded(&self, text: &str) {
        let waiting = async {
            while !self.timelines().await.contains(text) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(Duration::from_secs(30), waiting).await.is_err() {
            panic!("{text} is not in {}", self.timelines().await);
        }
    }

    /// Waits until the recordings hold exactly `wanted` of what channels had on `stream`.
    async fn keeps(&self, stream: &str, wanted: &str) {
        let find = format!("find {} -name 'channel-*.{stream}.zst' | xargs -r zstd -dcq", self.path("recordings"));
        let waiting = async {
            while text(&Command::new("sh").args(["-c", &find]).output().await.unwrap().stdout) != wanted {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{stream} is not {wanted:?}"));
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.sshd.start_kill();
    }
}

async fn start_sshd(at: &Path, user_authority: &str) -> (Child, u16) {
    std::fs::create_dir_all("/run/sshd").unwrap();
    std::fs::write(at.join("ca.pub"), user_authority).unwrap();
    let keygen = Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(at.join("host_key")).status();
    assert!(keygen.await.unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let folder = at.display();
    // The folder is everybody's home too: what this machine's own shells begin with is none of the tests' business.
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nTrustedUserCAKeys {folder}/ca.pub\nPidFile none\n\
         AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
         PermitRootLogin prohibit-password\nSubsystem sftp /usr/lib/openssh/sftp-server\nAcceptEnv SALLY_A\n\
         MaxStartups 1000\nMaxSessions 200\nPrintMotd no\nPrintLastLog no\nSetEnv HOME={folder}\n\
         X11Forwarding yes\nClientAliveInterval 1\nClientAliveCountMax 3\n"
    );
    std::fs::write(at.join("sshd_config"), config).unwrap();
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-f"]).arg(at.join("sshd_config")).kill_on_drop(true).stderr(Stdio::null());
    let child = sshd.spawn().unwrap();
    for _ in 0..100 {
        #[expect(clippy::disallowed_methods, reason = "asks whether sshd listens")]
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return (child, port);
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("no sshd");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that are neither text nor compressible by accident.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(size)
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_a_command_on_whole() {
    let stand = Stand::new().await;
    let output = stand.run("ssh", &["web1", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));
    assert_eq!(output.status.code(), Some(7));

    let sorted = stand.feed(&["web1", "sort"], b"b\na\n".to_vec()).await;
    assert_eq!(text(&sorted.stdout), "a\nb\n", "the end of standard input did not reach the target");

    let bytes = noise(3 << 20);
    let echoed = stand.feed(&["web1", "cat"], bytes.clone()).await;
    assert!(echoed.stdout == bytes, "{} bytes came back", echoed.stdout.len());

    // The client closes its end as soon as both streams ended, long before the status is known.
    let late = stand.run("ssh", &["web1", "exec >&- 2>&-; sleep 3; exit 9"]).await;
    assert_eq!(late.status.code(), Some(9));

    let killed = stand.run("ssh", &["web1", "kill -TERM $$"]).await;
    assert_eq!(killed.status.code(), Some(255));
    for wanted in [r#""type":"exec""#, r#""status":7"#, r#""type":"exit_signal""#, r#""login":"certificate""#] {
        stand.recorded(wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_right_over_one_shared_connection() {
    let stand = Stand::new().await;
    let (_master, socket) = stand.master().await;
    let rounds = std::env::var("SALLYPORT_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        // OTHER is sent and refused each time: its refusal must not answer the command's request.
        let commands = (0..4).map(|lane| {
            let code = (round * 4 + lane) % 200;
            let (stand, socket) = (&stand, &socket);
            async move {
                let command = format!("exit {code}");
                let mut client = stand.client("ssh", &["-S", socket, "web1", &command]);
                let output = client.env("OTHER", "1").env("SALLY_A", "1").output().await.unwrap();
                assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
            }
        });
        futures::future::join_all(commands).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_channel_holds_nobody_up() {
    let stand = Stand::new().await;
    let (_master, socket) = stand.master().await;
    let mut unread = stand.client("ssh", &["-S", &socket, "web1", "cat /dev/zero"]).spawn().unwrap();
    let mut unheard = stand.client("ssh", &["-S", &socket, "web1", "sleep 1000"]);
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let mut unheard = unheard.stdin(zero).spawn().unwrap();
    sleep(Duration::from_secs(2)).await;
    for _ in 0..5 {
        let arguments = ["-S", &socket, "web1", "cat"];
        let beside = stand.feed(&arguments, noise(4 << 20));
        let output = timeout(Duration::from_secs(30), beside).await.expect("held up");
        assert_eq!(output.stdout.len(), 4 << 20);
    }
    unread.kill().await.unwrap();
    unheard.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_exchanged_anew_in_mid_transfer() {
    let stand = Stand::new().await;
    let bytes = noise(48 << 20);
    let echoed = stand.feed(&["-oRekeyLimit=1M", "web1", "cat"], bytes.clone()).await;
    assert!(echoed.stdout == bytes, "{} bytes came back: {}", echoed.stdout.len(), text(&echoed.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_one_and_is_recorded() {
    let stand = Stand::new().await;
    let output = stand.run("ssh", &["-tt", "web1", "tty; stty -a | grep -o iutf8; echo $TERM; exit 3"]).await;
    assert!(text(&output.stdout).contains("/dev/pts/"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
    let find = format!("find {} -name 'terminal-0.cast.zst' | xargs zstd -dcq", stand.path("recordings"));
    // The recording is durable within a second, not before the client has left.
    let recorded = async {
        while !text(&Command::new("sh").args(["-c", &find]).output().await.unwrap().stdout).contains("/dev/pts/") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), recorded).await.expect("the terminal's output is not in its recording");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways() {
    let stand = Stand::new().await;
    let bytes = noise(5 << 20);
    std::fs::write(stand.path("here"), &bytes).unwrap();
    let (here, there, back) = (stand.path("here"), format!("web1:{}", stand.path("there")), stand.path("back"));
    for protocol in ["-s", "-O"] {
        for (from, to) in [(&here, &there), (&there, &back)] {
            let output = stand.run("scp", &[protocol, from, to]).await;
            assert!(output.status.success(), "scp {protocol}: {}", text(&output.stderr));
        }
        assert!(std::fs::read(&back).unwrap() == bytes, "scp {protocol}");
        std::fs::remove_file(&back).unwrap();
    }
    stand.recorded("sftp_opened").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_passes_an_allow_list() {
    let stand = Stand::new().await;
    let mut client = stand.client("ssh", &["web1", "echo [$SALLY_A][$OTHER]"]);
    let output = client.env("SALLY_A", "yes").env("OTHER", "no").output().await.unwrap();
    assert_eq!(text(&output.stdout), "[yes][]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_caller_reads_one_sentence() {
    let stand = Stand::new().await;
    for (program, arguments) in [
        ("ssh", ["mallory@web1", "id"]),
        // One that may ask a person for a password asks for none.
        ("ssh", ["-oBatchMode=no", "mallory@web1"]),
        ("scp", ["/etc/hostname", "mallory@web1:/tmp/x"]),
        ("sftp", ["-b/dev/null", "mallory@web1"]),
    ] {
        let output = stand.run(program, &arguments).await;
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{program}");
        assert_eq!(said.matches("may not log in to web1 as mallory").count(), 1, "{program}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_are_refused_by_name() {
    let stand = Stand::new().await;
    let output = stand.run("ssh", &["-W", "localhost:22", "web1"]).await;
    assert!(text(&output.stderr).contains("local forwarding to localhost:22 on web1"), "{}", text(&output.stderr));
    let output = stand.run("ssh", &["-oExitOnForwardFailure=yes", "-R", "0:localhost:1", "web1", "true"]).await;
    assert!(!output.status.success());
    stand.recorded(r#""type":"forward_refused","kind":"local","address":"localhost:22""#).await;
    stand.recorded(r#""kind":"remote""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_refuses_loudly() {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let stand = Stand::with_host_key(Some(other)).await;
    let output = stand.run("ssh", &["web1", "id"]).await;
    let said = text(&output.stderr);
    assert!(said.contains("HAS CHANGED") && said.matches("SHA256:").count() == 2, "{said}");
    assert_eq!(text(&output.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_allowed_any_more_ends_with_its_reason() {
    let stand = Stand::new().await;
    let mut child = stand.client("ssh", &["web1", "echo ready; sleep 100"]).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let Middle { world: worlds, device, target, .. } = &stand.middle;
    worlds.send_replace(world(2, "{}", &[device], &[target]));
    let output = timeout(Duration::from_secs(10), child.wait_with_output()).await.expect("it went on").unwrap();
    assert!(text(&output.stderr).contains("access was withdrawn"), "{}", text(&output.stderr));
    let rows = stand.middle.runner.state.sessions(&Default::default()).await.unwrap();
    assert_eq!(rows.len(), 1);
}
