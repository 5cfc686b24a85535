//! A policy that takes something away from people who are using it: that ends, with its reason, and what it still gives does
//! not.

use tokio::process::{ChildStdin, ChildStdout};

use super::channels::{FORWARDING, connect, echo, free_port};
use super::*;

impl Stand {
    /// Puts another policy in place.
    fn narrow(&self, revision: u64, policy: &str) {
        let Middle { world: worlds, device, target, .. } = &self.middle;
        worlds.send_replace(world(revision, policy, &[device], &[target]));
    }
}

/// [`FORWARDING`] without these parts of it.
fn without(parts: &[&str]) -> String {
    parts.iter().fold(FORWARDING.to_owned(), |policy, part| {
        assert!(policy.contains(part), "{part}");
        policy.replace(part, "")
    })
}

const SHELL: &str = r#""shell": {}, "exec": {}, "#;
const AGENT: &str = r#""agent": {}, "#;
const LOCAL: &str = r#""localForward": ["localhost:*", "127.0.0.1:*", "/tmp/*/*.sock"], "#;
const REMOTE: &str = r#""remoteForward": ["localhost:*", "/tmp/*/*.sock"],"#;

/// A client that is talked with; what it prints, its errors among it, comes in one stream.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    heard: String,
}

impl Client {
    fn start(stand: &Stand, program: &str, arguments: &[&str]) -> Self {
        let quoted = arguments.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(" ");
        let line = format!("exec {program} -F {} {quoted} 2>&1", stand.path("ssh_config"));
        let mut command = Command::new("sh");
        command.args(["-c", &line]).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, stdout, heard: String::new() }
    }

    async fn say(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads until `wanted` was printed since the last time.
    async fn expect(&mut self, wanted: &str) {
        let reading = async {
            let mut piece = [0; 4096];
            while !self.heard.contains(wanted) {
                let read = self.stdout.read(&mut piece).await.unwrap();
                assert!(read > 0, "{wanted} was not printed; this was: {}", self.heard);
                self.heard.push_str(&text(&piece[..read]));
            }
        };
        if timeout(Duration::from_secs(60), reading).await.is_err() {
            panic!("{wanted} was not printed; this was: {}", self.heard);
        }
        self.heard.clear();
    }

    /// Its exit code, once it has ended by itself, and nobody holds its output any more.
    async fn left(mut self) -> Option<i32> {
        let ending = async {
            let code = self.child.wait().await.unwrap().code();
            self.stdout.read_to_end(&mut Vec::new()).await.unwrap();
            code
        };
        timeout(Duration::from_secs(60), ending).await.expect("it goes on")
    }

    /// Its exit code, once its input and it have ended.
    async fn code(self) -> Option<i32> {
        let Self { mut child, stdin, mut stdout, .. } = self;
        drop(stdin);
        let ending = async {
            stdout.read_to_end(&mut Vec::new()).await.unwrap();
            child.wait().await.unwrap().code()
        };
        timeout(Duration::from_secs(60), ending).await.expect("it goes on")
    }
}

/// Ends when the other end does.
async fn ended(mut stream: TcpStream) {
    let rest = timeout(Duration::from_secs(60), stream.read(&mut [0; 64])).await.expect("it goes on");
    assert!(!matches!(rest, Ok(1..)));
}

async fn talk_once(stream: &mut TcpStream) {
    stream.write_all(b"there and back").await.unwrap();
    stream.read_exact(&mut [0; 14]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_forward_that_is_taken_away_ends_and_the_shell_beside_it_lives() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (far, near) = (echo().await, free_port().await);
    let forward = format!("{near}:localhost:{far}");
    let mut shell = Client::start(&stand, "ssh", &["-tt", "-L", &forward, "web1"]);
    shell.say("echo re''ady").await;
    shell.expect("ready").await;
    let mut open = connect(near).await;
    talk_once(&mut open).await;
    stand.narrow(2, &without(&[LOCAL]));
    ended(open).await;
    shell.expect(&format!("access was withdrawn: local forwarding to localhost:{far} on web1 as root")).await;
    shell.say("echo st''ill here").await;
    shell.expect("still here").await;
    ended(connect(near).await).await;
    shell.expect("open failed: administratively prohibited: access was withdrawn: local forwarding to").await;
    stand.recorded(&format!(r#""type":"forward_refused","kind":"local","address":"localhost:{far}""#)).await;
    stand.recorded(r#""type":"forward_closed","channel":1,"sent":14,"received":14"#).await;
    assert_eq!(stand.middle.runner.live.count(), 1);
    shell.say("exit 4").await;
    assert_eq!(shell.code().await, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_forward_that_is_taken_away_ends_and_the_command_beside_it_lives() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (near, far) = (echo().await, free_port().await);
    let forward = format!("{far}:localhost:{near}");
    let mut command = Client::start(&stand, "ssh", &["-R", &forward, "web1", "echo ready; cat"]);
    command.expect("ready").await;
    let mut open = connect(far).await;
    talk_once(&mut open).await;
    stand.narrow(2, &without(&[REMOTE]));
    ended(open).await;
    stand.recorded(&format!(r#""type":"listener_closed","kind":"remote","address":"localhost:{far}""#)).await;
    #[expect(clippy::disallowed_methods, reason = "asks whether the target still listens")]
    let after = TcpStream::connect(("127.0.0.1", far)).await;
    assert!(after.is_err(), "the target still listens");
    command.say("still here").await;
    command.expect("still here").await;
    assert_eq!(command.code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_is_taken_away_ends_and_file_transfer_beside_it_lives_as_far_as_it_may() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (_master, socket) = stand.master().await;
    let mut shell = Client::start(&stand, "ssh", &["-tt", "-S", &socket, "web1"]);
    shell.say("echo re''ady").await;
    shell.expect("ready").await;
    let mut sftp = Client::start(&stand, "sftp", &["-o", &format!("ControlPath={socket}"), "web1"]);
    sftp.say("ls -d /etc").await;
    sftp.expect("/etc").await;

    stand.narrow(2, &without(&[SHELL]));
    shell.expect("access was withdrawn: a shell on web1 as root is not allowed: ssh[0]").await;
    assert_eq!(shell.left().await, Some(255));
    stand.recorded(r#""type":"refused","channel":0,"what":"shell""#).await;
    sftp.say("ls -d /usr").await;
    sftp.expect("/usr").await;
    let refused = stand.run("ssh", &["-S", &socket, "web1", "id"]).await;
    assert_eq!(refused.status.code(), Some(255));
    stand.recorded(r#""what":"exec id","why":"this command on web1 as root is not allowed"#).await;

    // What could be uploaded through it may not be any more.
    stand.narrow(3, &FORWARDING.replace(r#""upload": true"#, r#""upload": false"#));
    sftp.expect("access was withdrawn: uploading or changing files on web1 as root is not allowed").await;
    let _code = sftp.code().await;
    let again = stand.run("ssh", &["-S", &socket, "web1", "exit 5"]).await;
    assert_eq!(again.status.code(), Some(5), "the connection lives on");
    assert_eq!(stand.middle.runner.live.count(), 1);

    stand.narrow(4, &FORWARDING.replace(r#""users": ["root"]"#, r#""users": ["ubuntu"]"#));
    assert!(stand.middle.runner.live.empty(Duration::from_secs(30)).await, "without the account nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_taken_away_on_a_shared_connection_leaves_by_itself() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (_master, socket) = stand.master().await;
    let rounds: u64 = std::env::var("SALLYPORT_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut clients = Vec::new();
        for arguments in [&["-tt"][..], &["-T"], &["-tt", "echo ready; cat"], &["-T", "echo ready; cat"]] {
            let [options, command @ ..] = arguments else { unreachable!() };
            let mut all = vec![*options, "-S", &socket, "web1"];
            all.extend(command);
            let mut client = Client::start(&stand, "ssh", &all);
            if command.is_empty() {
                client.say("echo re''ady").await;
            }
            client.expect("ready").await;
            clients.push((arguments, client));
        }
        stand.narrow(2 * round + 2, &without(&[SHELL]));
        for (arguments, mut client) in clients {
            client.expect("access was withdrawn: ").await;
            assert_eq!(client.left().await, Some(255), "{arguments:?} in round {round}");
        }
        stand.narrow(2 * round + 3, FORWARDING);
        assert!(stand.middle.runner.live.settled(2 * round + 3, Duration::from_secs(30)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_only_shell_is_taken_away_leaves_by_itself() {
    let stand = Stand::with_policy(FORWARDING).await;
    let mut shell = Client::start(&stand, "ssh", &["-tt", "web1"]);
    shell.say("echo re''ady").await;
    shell.expect("ready").await;
    stand.narrow(2, &without(&[SHELL]));
    shell.expect("access was withdrawn: a shell on web1 as root is not allowed: ssh[0]").await;
    assert_eq!(shell.left().await, Some(255));
    assert!(stand.middle.runner.live.empty(Duration::from_secs(30)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_without_a_terminal_that_is_taken_away_is_told_of_where_its_user_looks() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (far, near) = (echo().await, free_port().await);
    let forward = format!("{near}:localhost:{far}");
    let mut tunnel = Client::start(&stand, "ssh", &["-v", "-N", "-L", &forward, "web1"]);
    let mut open = connect(near).await;
    talk_once(&mut open).await;
    stand.narrow(2, &without(&[LOCAL]));
    ended(open).await;
    let why = format!("access was withdrawn: local forwarding to localhost:{far} on web1 as root is not allowed");
    // At once where the client shows messages, and with the next connection in any case.
    tunnel.expect(&format!("Remote: {why}")).await;
    ended(connect(near).await).await;
    tunnel.expect(&format!("open failed: administratively prohibited: {why}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_taken_away_is_out_of_reach_at_once() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (socket, _agent) = stand.agent().await;
    let command = "ask() { ssh-add -l >&- 2>&- && echo reached || echo out of reach; }; ask; read go; ask";
    let program = format!("env SSH_AUTH_SOCK={socket} ssh");
    let mut client = Client::start(&stand, &program, &["-A", "web1", command]);
    client.expect("reached").await;
    stand.recorded(r#""type":"forward_closed","channel":1"#).await;
    stand.narrow(2, &without(&[AGENT]));
    assert!(stand.middle.runner.live.settled(2, Duration::from_secs(30)).await);
    client.say("go").await;
    client.expect("out of reach").await;
    stand.recorded(r#""type":"forward_refused","kind":"agent""#).await;
    assert_eq!(client.code().await, Some(0));
}
