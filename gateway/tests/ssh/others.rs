//! Implementations other than OpenSSH, where they do what OpenSSH never does: AsyncSSH while keys are exchanged, Paramiko with
//! requests of its own.

use russh::server::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use super::skip::skip;
use super::*;

/// Debian's own, which has the modules.
const PYTHON: &str = "/usr/bin/python3";

/// Whether Python has a module; where it has not, its absence goes to the list that `make test` ends with.
async fn has(module: &str) -> bool {
    let asked = Command::new(PYTHON).args(["-W", "ignore", "-c", &format!("import {module}")]).output().await;
    let found = asked.is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("python3-{module}"));
    }
    found
}

impl Stand {
    /// Runs a Python client against this stand: the port is its first argument.
    async fn python(&self, script: &str, arguments: &[&str]) -> String {
        let mut python = Command::new(PYTHON);
        python.args(["-W", "ignore", "-c", script, &self.port.to_string()]).args(arguments).kill_on_drop(true);
        let done = timeout(Duration::from_secs(120), python.output()).await.expect("it hung").unwrap();
        assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }
}

/// AsyncSSH sends data on between its KEXINIT and its NEWKEYS, whoever began. It takes no key exchange to be over before
/// both ways were carried whole.
const REKEYING: &str = r#"
import asyncio, os, sys, asyncssh

async def main(port, begins):
    options = {"username": "root", "known_hosts": None, "client_keys": None, "agent_path": None, "config": None}
    if begins == "client":
        options["rekey_bytes"] = 1 << 20
    else:
        # The gateway leads whoever calls itself so from the first cipher to the second.
        options["client_version"] = "OpenSSH_of_another_name"
        options["encryption_algs"] = ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"]
    data = os.urandom(24 << 20)
    async with asyncssh.connect("127.0.0.1", int(port), **options) as connection:
        done = await connection.run("cat", input=data, encoding=None)
        assert done.exit_status == 0 and done.stdout == data, (done.exit_status, len(done.stdout))
        print(connection.get_extra_info("send_cipher"))

asyncio.run(main(*sys.argv[1:]))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn asyncssh_keeps_its_connection_whoever_exchanges_keys_anew() {
    if !has("asyncssh").await {
        return;
    }
    let stand = Stand::new().await;
    let _whole = stand.python(REKEYING, &["client"]).await;
    let cipher = stand.python(REKEYING, &["server"]).await;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("aes") {
        assert_eq!(cipher, "aes256-gcm@openssh.com\n", "the gateway began no exchange");
    }
}

/// A target whose every command is `cat`; it begins an exchange of keys with each megabyte that it sends.
const REKEYING_TARGET: &str = r#"
import asyncio, sys, asyncssh

class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False

async def cat(process):
    while data := await process.stdin.read(65536):
        process.stdout.write(data)
        await process.stdout.drain()
    process.exit(0)

async def main(key):
    server = await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[key], process_factory=cat,
                                          encoding=None, rekey_bytes=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_sends_on_while_keys_are_exchanged_is_listened_to() {
    if !has("asyncssh").await {
        return;
    }
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key");
    let made = Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key).status();
    assert!(made.await.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let mut target = Command::new(PYTHON);
    target.args(["-W", "ignore", "-c", REKEYING_TARGET]).arg(&key).stdout(Stdio::piped()).kill_on_drop(true);
    let mut target = target.spawn().unwrap();
    let mut said = BufReader::new(target.stdout.take().unwrap()).lines();
    let port = timeout(Duration::from_secs(60), said.next_line()).await.expect("no port").unwrap().unwrap();
    let stand = Stand::build(POLICY, Some(public.trim()), Some(port.parse().unwrap())).await;
    let bytes = noise(24 << 20);
    let echoed = stand.feed(&["web1", "cat"], bytes.clone()).await;
    assert!(echoed.stdout == bytes, "{} bytes came back: {}", echoed.stdout.len(), text(&echoed.stderr));
    assert_eq!(echoed.status.code(), Some(0));
}

/// A break of a second and a half, with and without a terminal: prints how it was answered.
const BREAK: &str = r#"
import sys, paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

transport = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
transport.start_client(timeout=30)
transport.auth_none("root")
for terminal in (True, False):
    channel = transport.open_session(timeout=30)
    if terminal:
        channel.get_pty()
    channel.exec_command("cat")
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("break")
    message.add_boolean(True)
    message.add_int(1500)
    channel._event_pending()
    transport._send_user_message(message)
    try:
        channel._wait_for_event()
        print("success")
    except paramiko.SSHException:
        print("failure")
transport.close()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_break_reaches_the_target_and_is_answered_as_it_answers() {
    if !has("paramiko").await {
        return;
    }
    let stand = Stand::new().await;
    // sshd has no line to break where there is no terminal.
    assert_eq!(stand.python(BREAK, &[]).await, "success\nfailure\n");
    stand.recorded(r#""type":"break","channel":0,"length_ms":1500"#).await;
    stand.recorded(r#""type":"break","channel":1,"length_ms":1500"#).await;
}

/// Runs what sshd gives no terminal any more, since something runs on the channel already; tells what it hears.
async fn listen(mut channel: Channel<Msg>, heard: mpsc::Sender<String>) {
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Exec { .. } => heard.send("runs".to_owned()).await.unwrap(),
            ChannelMsg::RequestPty { .. } => heard.send("asks for a terminal".to_owned()).await.unwrap(),
            ChannelMsg::Signal { signal } => heard.send(format!("{signal:?}")).await.unwrap(),
            _ => {}
        }
    }
}

/// A command, and a terminal for it that nobody has any use for.
const LATE_TERMINAL: &str = r#"
import sys, paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

transport = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
transport.start_client(timeout=30)
transport.auth_none("root")
channel = transport.open_session(timeout=30)
for name, rest in (("exec", ["sleep 1000"]), ("pty-req", ["xterm", 80, 24, 0, 0, ""])):
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(name)
    message.add_boolean(False)
    for part in rest:
        message.add_string(part) if isinstance(part, str) else message.add_int(part)
    transport._send_user_message(message)
while not channel.closed:
    channel.recv(100)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_asked_for_behind_a_command_does_not_save_it() {
    if !has("paramiko").await {
        return;
    }
    let (signals, mut signalled) = mpsc::channel(8);
    let stand = hostile::stand(move |channel, _| listen(channel, signals.clone())).await;
    let client = stand.python(LATE_TERMINAL, &[]);
    let withdrawing = async {
        let mut heard = Vec::new();
        while heard.len() < 4 {
            heard.push(timeout(Duration::from_secs(60), signalled.recv()).await.expect("nothing is heard").unwrap());
            if heard.len() == 2 {
                let narrow = channels::FORWARDING.replace(r#""exec": {}, "#, "");
                stand.middle.world.send_replace(world(2, &narrow, &[&stand.middle.device], &[&stand.middle.target]));
            }
        }
        heard
    };
    let (_, heard) = tokio::join!(client, withdrawing);
    assert_eq!(heard, ["runs", "asks for a terminal", "HUP", "TERM"]);
}

/// Ways to send what no key exchange has room for: each prints that the gateway has hung up, or that it has not.
const DISORDER: &str = r#"
import os, socket, struct, sys, time, paramiko
from paramiko.common import MSG_KEXINIT, cMSG_CHANNEL_WINDOW_ADJUST, cMSG_KEXINIT, cMSG_USERAUTH_REQUEST

PORT = int(sys.argv[1])

def stalled():
    """A connection with an exchange of keys begun that never ends, and a channel of it."""
    transport = paramiko.Transport(("127.0.0.1", PORT))
    transport.start_client(timeout=30)
    transport.auth_none("root")
    channel = transport.open_session(timeout=30)
    transport._handler_table = {**transport._handler_table, MSG_KEXINIT: lambda self, message: None}
    transport._send_kex_init()
    return transport, channel

def send(transport, kind, *numbers):
    message = paramiko.Message()
    message.add_byte(kind)
    for number in numbers:
        message.add_int(number)
    transport._send_message(message)

def told(what, gone):
    print(what, "hung up" if gone else "goes on")

def ended(transport):
    deadline = time.monotonic() + 60
    while transport.is_active() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not transport.is_active()

transport, channel = stalled()
send(transport, cMSG_USERAUTH_REQUEST)
told("authentication:", ended(transport))

transport, channel = stalled()
try:
    for _ in range(40000):
        send(transport, cMSG_CHANNEL_WINDOW_ADJUST, channel.remote_chanid, 0)
except (EOFError, OSError, paramiko.SSHException):
    pass
told("flood:", ended(transport))

def packet(payload):
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)

def names(*lists):
    return b"".join(struct.pack(">I", len(text)) + text for text in lists)

first = socket.create_connection(("127.0.0.1", PORT))
first.sendall(b"SSH-2.0-first\r\n")
offer = names(b"curve25519-sha256,kex-strict-c-v00@openssh.com", b"ssh-ed25519", *[b"aes256-gcm@openssh.com"] * 2,
              *[b"hmac-sha2-256"] * 2, *[b"none"] * 2, b"", b"")
first.sendall(packet(cMSG_KEXINIT + os.urandom(16) + offer + bytes(5)))
first.sendall(packet(cMSG_CHANNEL_WINDOW_ADJUST + struct.pack(">II", 0, 0)))
first.settimeout(20)
try:
    while first.recv(65536):
        pass
    told("before the first keys:", True)
except ConnectionError:
    told("before the first keys:", True)
except TimeoutError:
    told("before the first keys:", False)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_exchange_leaves_room_for_the_connection_protocol_alone_and_not_without_end() {
    if !has("paramiko").await {
        return;
    }
    let stand = Stand::new().await;
    let said = stand.python(DISORDER, &[]).await;
    assert_eq!(said, "authentication: hung up\nflood: hung up\nbefore the first keys: hung up\n");
}
