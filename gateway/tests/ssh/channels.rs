//! Everything that OpenSSH's client forwards, through the broker, between real peers: each thing arrives, and each is written
//! down.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;

use super::*;

/// Everything that can be forwarded, besides what an ssh rule gives by itself.
pub(super) const FORWARDING: &str = r#"{
    "tagOwners": { "tag:prod": ["alice@example.com"] },
    "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"], "app": { "sallyport.dev/cap/ssh": [{
        "shell": {}, "exec": {}, "sftp": { "download": true, "upload": true }, "agent": {}, "x11": {},
        "localForward": ["localhost:*", "127.0.0.1:*", "/tmp/*/*.sock"], "remoteForward": ["localhost:*", "/tmp/*/*.sock"],
    }] } }],
    "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["root"] }],
}"#;

/// Sends back what it gets, and ends when that does.
pub(super) async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    port
}

/// The same at the path of a socket.
fn echo_at(path: &str) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
}

pub(super) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Connects to what a client or a target listens on, once it does.
pub(super) async fn connect(port: u16) -> TcpStream {
    for _ in 0..600 {
        #[expect(clippy::disallowed_methods, reason = "is the program behind a forward")]
        if let Ok(stream) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await {
            return stream;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing listens on {port}");
}

/// Sends `bytes`, ends its half, and reads to the end.
async fn through(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    let talking = async {
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let sending = async {
            to.write_all(bytes).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(sending, from.read_to_end(&mut back));
        read.unwrap();
    };
    timeout(Duration::from_secs(120), talking).await.expect("the forward hung");
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn local_forwards_reach_what_the_target_dials() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (far, near, dynamic) = (echo().await, free_port().await, free_port().await);
    let (socket, to_socket) = (stand.path("far.sock"), free_port().await);
    echo_at(&socket);
    let forwards = [
        format!("{near}:localhost:{far}"),
        format!("{to_socket}:{socket}"),
        format!("{}:localhost:{far}", stand.path("near")),
    ];
    let mut arguments = vec!["-N", "-D"];
    let dynamic_text = dynamic.to_string();
    arguments.push(&dynamic_text);
    forwards.iter().for_each(|forward| arguments.extend(["-L", forward]));
    arguments.push("web1");
    let _client = stand.client("ssh", &arguments).spawn().unwrap();

    let bytes = noise(6 << 20);
    assert!(through(connect(near).await, &bytes).await == bytes, "ssh -L");
    assert!(through(connect(to_socket).await, &bytes).await == bytes, "ssh -L to a socket");
    let from_socket = tokio::net::UnixStream::connect(stand.path("near")).await.unwrap();
    assert!(through(from_socket, &bytes).await == bytes, "ssh -L from a socket");
    let mut socks = connect(dynamic).await;
    let [high, low] = far.to_be_bytes();
    socks.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low]).await.unwrap();
    let mut answer = [0; 12];
    socks.read_exact(&mut answer).await.unwrap();
    assert!(through(socks, b"by socks").await == b"by socks", "ssh -D");
    let piped = stand.feed(&["-W", &format!("localhost:{far}"), "web1"], bytes.clone()).await;
    assert!(piped.stdout == bytes, "ssh -W: {}", text(&piped.stderr));

    stand.recorded(&format!(r#""type":"forward_opened","channel":0,"kind":"local","address":"localhost:{far}""#)).await;
    stand.recorded(r#""sent":6291456,"received":6291456,"lasted_ms""#).await;
    stand.recorded(&format!(r#""kind":"stream-local","address":"{socket}""#)).await;
    stand.recorded(&format!(r#""kind":"local","address":"127.0.0.1:{far}""#)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_that_the_target_cannot_open_says_why() {
    let stand = Stand::with_policy(FORWARDING).await;
    let nobody = free_port().await;
    let output = stand.run("ssh", &["-W", &format!("localhost:{nobody}"), "web1"]).await;
    assert!(text(&output.stderr).contains("web1: Connection refused"), "{}", text(&output.stderr));
    let output = stand.run("ssh", &["-W", "elsewhere:80", "web1"]).await;
    assert!(text(&output.stderr).contains("local forwarding to elsewhere:80 on web1"), "{}", text(&output.stderr));
    stand.recorded(r#""kind":"local","address":"elsewhere:80""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_forwards_come_from_where_the_target_listens() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (near, bytes) = (echo().await, noise(6 << 20));
    let (port, socket) = (format!("0:localhost:{near}"), format!("{}:localhost:{near}", stand.path("far.sock")));
    let arguments = ["-N", "-oExitOnForwardFailure=yes", "-R", &port, "-R", &socket, "web1"];
    let mut client = stand.client("ssh", &arguments).spawn().unwrap();
    let mut said = BufReader::new(client.stderr.take().unwrap()).lines();
    let line = timeout(Duration::from_secs(60), said.next_line()).await.expect("no port").unwrap().unwrap();
    let far = line.strip_prefix("Allocated port ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(through(connect(far).await, &bytes).await == bytes, "ssh -R");
    for _ in 0..600 {
        if Path::new(&stand.path("far.sock")).exists() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let from_socket = tokio::net::UnixStream::connect(stand.path("far.sock")).await.unwrap();
    assert!(through(from_socket, &bytes).await == bytes, "ssh -R of a socket");
    stand.recorded(&format!(r#""type":"listener_opened","kind":"remote","address":"localhost:{far}""#)).await;
    stand.recorded(&format!(r#""kind":"remote","address":"localhost:{far}","originator":"127.0.0.1:"#)).await;
    stand.recorded(r#""sent":6291456,"received":6291456,"lasted_ms""#).await;
    client.kill().await.unwrap();
    stand.recorded(&format!(r#""type":"listener_closed","kind":"remote","address":"localhost:{far}""#)).await;

    let refused =
        stand.run("ssh", &["-oExitOnForwardFailure=yes", "-R", "0.0.0.0:0:localhost:1", "web1", "true"]).await;
    assert!(!refused.status.success());
    stand.recorded(r#""type":"forward_refused","kind":"remote","address":"0.0.0.0:0""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_come_and_go_on_a_shared_connection() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (_master, socket) = stand.master().await;
    let (near, far) = (echo().await, free_port().await);
    let forward = format!("{far}:localhost:{near}");
    let asked = stand.run("ssh", &["-S", &socket, "-O", "forward", "-R", &forward, "web1"]).await;
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    assert_eq!(through(connect(far).await, b"there").await, b"there");
    let cancelled = stand.run("ssh", &["-S", &socket, "-O", "cancel", "-R", &forward, "web1"]).await;
    assert!(cancelled.status.success(), "{}", text(&cancelled.stderr));
    stand.recorded(r#""type":"listener_closed","kind":"remote""#).await;
    #[expect(clippy::disallowed_methods, reason = "asks whether the target still listens")]
    let after = TcpStream::connect(("127.0.0.1", far)).await;
    assert!(after.is_err(), "the target still listens");
    let again = stand.run("ssh", &["-S", &socket, "web1", "exit 5"]).await;
    assert_eq!(again.status.code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_forward_holds_nobody_up() {
    let stand = Stand::with_policy(FORWARDING).await;
    // Accepts, and reads nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near, to_deaf) = (echo().await, free_port().await, free_port().await);
    let (one, other) =
        (format!("{near}:localhost:{far}"), format!("{to_deaf}:localhost:{}", deaf.local_addr().unwrap().port()));
    let socket = stand.path("master");
    let arguments = ["-M", "-N", "-S", &socket, "-L", &one, "-L", &other, "web1"];
    let _client = stand.client("ssh", &arguments).spawn().unwrap();
    let mut stalled = connect(to_deaf).await;
    let stalling = tokio::spawn(async move {
        let bytes = noise(1 << 20);
        while stalled.write_all(&bytes).await.is_ok() {}
    });
    let bytes = noise(8 << 20);
    for _ in 0..3 {
        assert!(through(connect(near).await, &bytes).await == bytes);
        assert_eq!(stand.run("ssh", &["-S", &socket, "web1", "exit 3"]).await.status.code(), Some(3));
    }
    stalling.abort();
}

impl Stand {
    /// An agent of the caller's with one key, `of-alice`; its socket, and its process.
    pub(super) async fn agent(&self) -> (String, Child) {
        let (socket, key) = (self.path("agent"), self.path("agent_key"));
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a", &socket]).stdout(Stdio::null()).kill_on_drop(true);
        let agent = command.spawn().unwrap();
        let made = Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-C", "of-alice", "-f", &key]).status();
        assert!(made.await.unwrap().success());
        for _ in 0..200 {
            if Path::new(&socket).exists() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let added = Command::new("ssh-add").args(["-q", &key]).env("SSH_AUTH_SOCK", &socket).status().await.unwrap();
        assert!(added.success());
        (socket, agent)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_uses_the_agent_while_it_may() {
    let stand = Stand::with_policy(FORWARDING).await;
    let (socket, _agent) = stand.agent().await;
    let mut client = stand.client("ssh", &["-A", "web1", "ssh-add -l"]);
    let output =
        timeout(Duration::from_secs(60), client.env("SSH_AUTH_SOCK", &socket).output()).await.unwrap().unwrap();
    assert!(text(&output.stdout).contains("of-alice"), "{}", text(&output.stderr));
    stand.recorded(r#""type":"agent_forwarding","channel":0"#).await;
    stand.recorded(r#""type":"forward_opened","channel":1,"kind":"agent""#).await;
    // Each use has an end, with its bytes: the question of `ssh-add -l` is five bytes long.
    stand.recorded(r#""type":"forward_closed","channel":1,"sent":"#).await;
    stand.recorded(r#","received":5,"lasted_ms""#).await;

    let denied = Stand::new().await;
    let mut client = denied.client("ssh", &["-A", "web1", "echo [$SSH_AUTH_SOCK]"]);
    let output =
        timeout(Duration::from_secs(60), client.env("SSH_AUTH_SOCK", &socket).output()).await.unwrap().unwrap();
    assert_eq!(text(&output.stdout), "[]\n");
    denied.recorded(r#""type":"forward_refused","kind":"agent""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_uses_the_display_while_it_may() {
    let stand = Stand::with_policy(FORWARDING).await;
    // A display that says a word to whoever comes with the right cookie: OpenSSH's client checks it first.
    let (display, listener) = display().await;
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 48];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(b"display").await.unwrap();
        hello
    });
    let program = "import os,socket,subprocess\n\
         number=int(os.environ['DISPLAY'].split(':')[1].split('.')[0])\n\
         cookie=bytes.fromhex(subprocess.check_output(['xauth','list',os.environ['DISPLAY']]).split()[-1].decode())\n\
         s=socket.create_connection(('localhost',6000+number))\n\
         s.sendall(b'l\\0\\x0b\\0\\0\\0\\x12\\0\\x10\\0\\0\\0MIT-MAGIC-COOKIE-1\\0\\0'+cookie)\n\
         print(s.recv(7).decode())\n";
    let command = format!("python3 -c \"{program}\"");
    let mut client = stand.client("ssh", &["-Y", "web1", &command]);
    let output = client.env("DISPLAY", format!("127.0.0.1:{display}")).output();
    let output = timeout(Duration::from_secs(60), output).await.expect("it hung").unwrap();
    assert_eq!(text(&output.stdout), "display\n", "{}", text(&output.stderr));
    assert_eq!(served.await.unwrap()[..2], *b"l\0");
    stand.recorded(r#""type":"x11_forwarding","channel":0,"single":false,"protocol":"MIT-MAGIC-COOKIE-1""#).await;
    stand.recorded(r#""type":"forward_opened","channel":1,"kind":"x11","address":"","originator":"127.0.0.1:"#).await;
    // The hello and its cookie came from the target, the word went to it.
    stand.recorded(r#""type":"forward_closed","channel":1,"sent":7,"received":48,"lasted_ms""#).await;
}

/// The number of a display that no other listens for.
async fn display() -> (u16, TcpListener) {
    for number in 200..400 {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", 6000 + number)).await {
            return (number, listener);
        }
    }
    panic!("no free display");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_works_through_one_dynamic_forward_and_many_channels() {
    // As VS Code's Remote-SSH connects: one shell that is fed a script, and its server behind `ssh -D`.
    let stand = Stand::with_policy(FORWARDING).await;
    let (far, dynamic) = (echo().await, free_port().await.to_string());
    let mut client =
        stand.client("ssh", &["-T", "-D", &dynamic, "web1", "bash"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut script = client.stdin.take().unwrap();
    script.write_all(b"echo ready\n").await.unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap().unwrap(), "ready");
    let bytes = noise(1 << 20);
    let channels = (0..24).map(|_| async {
        let mut socks = connect(dynamic.parse().unwrap()).await;
        let [high, low] = far.to_be_bytes();
        socks.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low]).await.unwrap();
        socks.read_exact(&mut [0; 12]).await.unwrap();
        assert!(through(socks, &bytes).await == bytes);
    });
    futures::future::join_all(channels).await;
    script.write_all(b"exit 6\n").await.unwrap();
    let output = timeout(Duration::from_secs(60), client.wait()).await.unwrap().unwrap();
    assert_eq!(output.code(), Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn either_end_of_a_forward_may_end_first() {
    let stand = Stand::with_policy(FORWARDING).await;
    // Says its piece, ends its half, and counts what comes afterwards.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = listener.local_addr().unwrap().port();
    let (counted, mut counts) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            counted.send(rest.len()).await.unwrap();
        }
    });
    let near = free_port().await;
    let forward = format!("{near}:localhost:{far}");
    let _client = stand.client("ssh", &["-N", "-L", &forward, "web1"]).spawn().unwrap();
    let mut stream = connect(near).await;
    let mut said = Vec::new();
    timeout(Duration::from_secs(60), stream.read_to_end(&mut said)).await.expect("no end came").unwrap();
    assert_eq!(said, b"bye");
    stream.write_all(&noise(3 << 20)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(Duration::from_secs(60), counts.recv()).await.expect("it did not arrive"), Some(3 << 20));

    // One that goes away at once leaves nothing hanging.
    drop(connect(near).await);
    assert_eq!(timeout(Duration::from_secs(60), counts.recv()).await.expect("it was not closed"), Some(0));
    stand.recorded(r#""sent":3145728,"received":3"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_and_git_work_over_it() {
    let stand = Stand::new().await;
    let ssh = format!("ssh -F {}", stand.path("ssh_config"));
    let (from, to) = (stand.path("from"), stand.path("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(format!("{from}/file"), noise(3 << 20)).unwrap();
    let rsync = Command::new("rsync").args(["-a", "-e", &ssh, &from, &format!("web1:{to}")]).output();
    let rsync = timeout(Duration::from_secs(120), rsync).await.expect("rsync hung").unwrap();
    assert!(rsync.status.success(), "{}", text(&rsync.stderr));
    assert!(std::fs::read(format!("{to}/from/file")).unwrap() == std::fs::read(format!("{from}/file")).unwrap());

    let git = async |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=alice", "-c", "user.email=alice@example.com", "-c", "init.defaultBranch=main"]);
        command.args(arguments).env("GIT_SSH_COMMAND", &ssh).env("HOME", stand.path(""));
        let done = timeout(Duration::from_secs(120), command.output()).await.expect("git hung").unwrap();
        assert!(done.status.success(), "git {arguments:?}: {}", text(&done.stderr));
    };
    let (bare, clone) = (stand.path("repo.git"), stand.path("clone"));
    git(&["init", "--quiet", "--bare", &bare]).await;
    git(&["init", "--quiet", &from]).await;
    git(&["-C", &from, "add", "file"]).await;
    git(&["-C", &from, "commit", "--quiet", "-m", "one"]).await;
    git(&["-C", &from, "push", "--quiet", &format!("web1:{bare}"), "main"]).await;
    git(&["clone", "--quiet", &format!("web1:{bare}"), &clone]).await;
    assert!(std::fs::read(format!("{clone}/file")).unwrap().len() == 3 << 20);
    stand.recorded("git-receive-pack").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_connection_is_kept_by_both_ends() {
    // The stand's sshd asks every second too, and gives up after three silences.
    let stand = Stand::new().await;
    let arguments = ["-oServerAliveInterval=1", "-oServerAliveCountMax=2", "web1", "sleep 6; exit 4"];
    assert_eq!(stand.run("ssh", &arguments).await.status.code(), Some(4));
    let socket = stand.path("background");
    let behind = ["-f", "-N", "-M", "-S", &socket, "-oServerAliveInterval=1", "web1"];
    let mut started = stand.client("ssh", &behind);
    let started = started.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(timeout(Duration::from_secs(60), started).await.expect("ssh -f did not return").unwrap().success());
    sleep(Duration::from_secs(4)).await;
    assert_eq!(stand.run("ssh", &["-S", &socket, "web1", "exit 5"]).await.status.code(), Some(5));
    assert!(stand.run("ssh", &["-S", &socket, "-O", "exit", "web1"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn ansible_with_its_defaults_reaches_twenty_hosts_at_once() {
    let stand = Stand::new().await;
    let hosts: String = (1..=20).map(|number| format!("host{number},")).collect();
    let common = format!("-F {}", stand.path("ssh_config"));
    let copy = format!("content=hello dest={}", stand.path("copied"));
    for (module, arguments) in [("ping", ""), ("copy", &copy)] {
        let mut ansible = Command::new("ansible");
        ansible.args(["-i", &hosts, "all", "-f", "20", "--ssh-common-args", &common, "-m", module, "-a", arguments]);
        ansible.env("HOME", stand.path("")).env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_HOST_KEY_CHECKING", "True");
        let done = timeout(Duration::from_secs(300), ansible.output()).await.expect("ansible hung").unwrap();
        let said = text(&done.stdout);
        assert!(done.status.success(), "{module}: {said}{}", text(&done.stderr));
        assert_eq!(
            said.lines().filter(|line| line.contains("SUCCESS") || line.contains("CHANGED")).count(),
            20,
            "{said}"
        );
    }
    assert_eq!(std::fs::read(stand.path("copied")).unwrap(), b"hello");
}
