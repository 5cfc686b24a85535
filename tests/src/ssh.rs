//! What a caller does with SSH, with OpenSSH's own client against OpenSSH's own server.

use e2e::{Setup, Shared, Terminal, World, run, settle};
use std::path::Path;
use std::process::Command;

#[test]
fn exit_codes_signals_and_both_streams_come_back_as_they_are() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let done = alice.ssh(&["ubuntu@web1", "echo out; echo err >&2; exit 37"]);
    assert_eq!((done.code, done.text().as_str()), (37, "out\n"));
    assert_eq!(done.stderr, "err\n");
    let killed = alice.ssh(&["ubuntu@web1", "kill -TERM $$"]);
    assert_eq!(killed.code, 255, "OpenSSH reports a signal as 255: {}", killed.stderr);
    assert_eq!(alice.ssh_with(&["ubuntu@web1", "cat"], b"in\0\xff").stdout, b"in\0\xff");
}

#[test]
fn an_interactive_shell_has_a_terminal_that_follows_the_window() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.arg("ubuntu@web1");
    let terminal = Terminal::new(world.folder(), &command);
    terminal.wait_for("$");
    terminal.enter("echo $(whoami) on $(tty | cut -c1-9), $(stty size)");
    terminal.wait_for("ubuntu on /dev/pts/, 24 80");
    terminal.resize(132, 43);
    terminal.enter("stty size");
    terminal.wait_for("43 132");
    // The shell hands the terminal to a program before that begins: from then on an interrupt is the program's.
    terminal.enter("sh -c 'echo $((6 * 7)); exec sleep 7654321'");
    terminal.wait_for("42");
    terminal.press("C-c");
    terminal.enter("echo interrupted: $?");
    terminal.wait_for("interrupted: 130");
    terminal.enter("stty -a | grep -o ' erase = [^;]*'");
    terminal.wait_for("erase = ^");
    terminal.enter("exit");
}

#[test]
fn environment_passes_by_the_rules_list_alone() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.env("LC_PAPER", "de_DE").env("SECRET", "no").env("LC_ALL", "C");
    command.args(["-o", "SendEnv=LC_PAPER SECRET", "ubuntu@web1", "echo ${LC_PAPER-unset} ${SECRET-unset}"]);
    assert_eq!(run(command, b"").ok(), "de_DE unset\n");
}

#[test]
fn files_travel_whole_by_scp_and_sftp() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let (here, back) = (alice.folder().join("big"), alice.folder().join("back"));
    let bytes: Vec<u8> =
        (0..20_000_000_u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    std::fs::write(&here, &bytes).unwrap();
    let scp = |from: &str, to: &str, legacy: &[&str]| {
        let mut command = alice.client("scp");
        command.args(legacy).args(["-q", from, to]);
        let _quiet = run(command, b"").ok();
    };
    for (name, legacy) in [("scp", &[][..]), ("scp -O", &["-O"][..])] {
        scp(here.to_str().unwrap(), "ubuntu@web1:there", legacy);
        scp("ubuntu@web1:there", back.to_str().unwrap(), legacy);
        assert!(std::fs::read(&back).unwrap() == bytes, "{name}");
    }
    let mut sftp = alice.client("sftp");
    sftp.args(["-q", "-b", "-", "ubuntu@web1"]);
    let batch = format!("rename there again\nls -l\nget again {}\nrm again\nbye\n", back.display());
    std::fs::remove_file(&back).unwrap();
    let listing = run(sftp, batch.as_bytes()).ok();
    assert!(listing.contains("20000000") && listing.contains("again"), "{listing}");
    assert!(std::fs::read(&back).unwrap() == bytes);
}

#[test]
fn rekeying_in_the_middle_of_a_transfer_loses_nothing() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let bytes = vec![b'r'; 24_000_000];
    let sum = run(Command::new("cksum"), &bytes).ok();
    let rekey = ["-o", "RekeyLimit=1M", "-v"];
    let up = alice.ssh_with(&[&rekey[..], &["ubuntu@web1", "cksum"]].concat(), &bytes);
    assert_eq!(up.text(), sum, "upload");
    let exchanges = up.stderr.matches("SSH2_MSG_NEWKEYS sent").count();
    assert!(exchanges > 5, "keys were exchanged {exchanges} times");
    let down = alice.ssh(&[&rekey[..], &["ubuntu@web1", "head -c 24000000 /dev/zero | tr '\\0' r"]].concat());
    assert!(down.stdout == bytes, "download");
}

#[test]
fn a_client_that_carries_much_is_led_to_aes_unless_it_does_not_want_it() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let bytes = vec![b'a'; 24_000_000];
    let sum = run(Command::new("cksum"), &bytes).ok();
    let ciphers = |options: &[&str], input: &[u8]| -> Vec<String> {
        let talk = alice.ssh_with(&[&["-vv"], options, &["ubuntu@web1", "cksum"]].concat(), input);
        assert_eq!(talk.text() == sum, input.len() == bytes.len(), "{options:?}");
        let lines = talk.stderr.lines().filter(|line| line.contains("kex: server->client cipher:"));
        lines.filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned)).collect()
    };
    let (chacha, gcm) = ("chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com");
    assert_eq!(ciphers(&["-c", &format!("{chacha},{gcm}")], &bytes), [chacha, gcm]);
    assert_eq!(ciphers(&["-c", &format!("{chacha},{gcm}")], b"little"), [chacha]);
    assert_eq!(ciphers(&["-c", &format!("{gcm},{chacha}")], &bytes), [gcm]);
    assert_eq!(ciphers(&["-c", chacha], &bytes), [chacha]);
    // As it comes.
    let usual = ciphers(&[], &bytes);
    assert!(usual.len() == 2 && usual.last().is_some_and(|cipher| cipher.contains("-gcm@")), "{usual:?}");
}

#[test]
fn what_nobody_knows_is_refused_as_the_protocol_says_and_the_connection_lives() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut python = alice.command("/usr/bin/python3");
    python.arg("-c").arg(UNKNOWN);
    assert_eq!(run(python, b"").ok(), "channel: 3\nglobal request: None\nlives\n");
}

/// Paramiko, asking for what no client asks for (RFC 4254, sections 4 and 5.1).
const UNKNOWN: &str = r#"
import paramiko
transport = paramiko.Transport(("web1", 22))
transport.start_client(timeout=30)
transport.auth_none("ubuntu")
try:
    transport.open_channel("nothing@example.com", timeout=30)
except paramiko.ChannelException as refusal:
    print("channel:", refusal.code)
print("global request:", transport.global_request("nothing@example.com", wait=True))
session = transport.open_session(timeout=30)
session.exec_command("echo lives")
print(session.makefile().read().decode().strip())
transport.close()
"#;

#[test]
fn hundreds_of_commands_over_one_connection_each_bring_their_own_exit_code() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut shared = Shared::open(&alice);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (alice, shared) = (&alice, &shared);
            scope.spawn(move || {
                for round in 0..75 {
                    let code = (worker * 75 + round) % 255;
                    let mut command = alice.command("ssh");
                    shared.over(&mut command);
                    command.arg(format!("echo {code}; exit {code}"));
                    let done = run(command, b"");
                    assert_eq!((done.code, done.text()), (code, format!("{code}\n")), "round {round}: {}", done.stderr);
                }
            });
        }
    });
    assert_eq!(shared.master.end(), 0);
    let sessions = world.sallyport(&["sessions", "ls", "--json"]).ok();
    let sessions: Vec<serde_json::Value> = serde_json::from_str(&sessions).unwrap();
    assert_eq!(sessions.len(), 1, "one connection is one session");
    // What came last is on the disk once it is sealed.
    world.wait_for_every_end();
    let recorded = world.sallyport(&["export", sessions[0]["id"].as_str().unwrap(), "--format", "jsonl"]).ok();
    for round in 0..300 {
        let code = round % 255;
        for event in [format!("\"command\":\"echo {code}; exit {code}\""), format!("\"text\":\"{code}\\n\"")] {
            let times = if round % 255 < 45 { 2 } else { 1 };
            assert_eq!(recorded.matches(&event).count(), times, "{event}");
        }
    }
}

#[test]
fn a_stalled_channel_does_not_hold_up_its_neighbours() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut shared = Shared::open(&alice);
    let over = |arguments: &[&str]| {
        let mut command = alice.command("ssh");
        shared.over(&mut command);
        command.args(arguments);
        command
    };
    // Nobody reads what this one prints: its windows fill up and stay full.
    let mut stalled = over(&["cat /dev/zero"]);
    stalled.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut stalled = stalled.spawn().unwrap();
    for round in 0..20 {
        assert_eq!(run(over(&["echo", &round.to_string()]), b"").ok(), format!("{round}\n"));
    }
    stalled.kill().unwrap();
    stalled.wait().unwrap();
    assert_eq!(shared.master.end(), 0);
}

#[test]
fn a_consumer_that_stops_reading_costs_no_memory() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo warm"]).ok(), "warm\n");
    let mut command = alice.client("ssh");
    command.args(["ubuntu@web1", "head -c 400000000 /dev/zero; echo >&2 all sent"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut stalled = command.spawn().unwrap();
    // Wait until nothing moves any more: the gateway's receive counter on the target's leg stands still.
    let settled = settle(|| world.gateway().resident_kb());
    assert!(settled < 120_000, "{settled} kB resident with one stalled download");
    let mut rest = stalled.stdout.take().unwrap();
    let whole = std::io::copy(&mut rest, &mut std::io::sink()).unwrap();
    assert_eq!(whole, 400_000_000, "and nothing was lost");
    assert!(stalled.wait().unwrap().success());
    let after = world.gateway().resident_kb();
    assert!(after < 120_000, "{after} kB resident afterwards");
}

#[test]
fn forwarding_of_any_kind_is_refused_by_name() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    // -L: the listener is the client's own; the refusal comes when something connects through it.
    let local = alice.talk(&["-N", "-L", "7001:127.0.0.1:22", "ubuntu@web1"]);
    e2e::wait_until("the refusal was printed", || {
        let knock = || std::net::TcpStream::connect("127.0.0.1:7001").map(drop);
        let _refused = alice.namespace().enter(knock).join().unwrap();
        local.heard().contains("open failed")
    });
    assert!(local.heard().contains("forward"), "{}", local.heard());

    let remote = alice.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "7002:127.0.0.1:22", "ubuntu@web1", "echo in"]);
    assert!(remote.failed().contains("forwarding failed"));

    let mut dynamic = alice.client("ssh");
    dynamic.args(["-W", "127.0.0.1:22", "ubuntu@web1"]);
    let said = run(dynamic, b"").failed();
    assert!(said.contains("forward"), "{said}");

    // A refused agent and X11 leave the session itself alone.
    let agent = start_agent(alice.folder());
    let mut forwarded = alice.client("ssh");
    forwarded.env("SSH_AUTH_SOCK", &agent.socket).args(["-A", "ubuntu@web1", "echo ${SSH_AUTH_SOCK-none}"]);
    assert_eq!(run(forwarded, b"").ok(), "none\n");
    let events = world.sallyport(&["sessions", "ls", "--json"]).ok();
    assert!(!events.is_empty());
    assert!(!world.web1.log().contains("agent"), "the request never reached the target");
}

#[test]
fn one_line_of_known_hosts_answers_every_question_and_no_key_is_asked_for() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    // StrictHostKeyChecking=yes and BatchMode=yes are the client's options: any question would be a failure.
    let said = alice.ssh(&["-v", "ubuntu@web1", "true"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("Server host certificate"), "{}", said.stderr);
    assert!(said.stderr.contains("Authenticated to web1") && said.stderr.contains("using \"none\""), "{}", said.stderr);
    std::fs::write(alice.folder().join("known_hosts"), "").unwrap();
    assert_ne!(alice.ssh(&["ubuntu@web1", "true"]).code, 0, "without that line the host is unknown");
}

#[test]
fn strict_key_exchange_and_no_compression_on_both_legs() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let said = alice.ssh(&["-vvv", "-C", "ubuntu@web1", "true"]).stderr;
    assert!(said.contains("kex-strict-s-v00@openssh.com"), "{said}");
    assert!(said.contains("compression: none"), "{said}");
    let first = said
        .lines()
        .skip_while(|line| !line.contains("peer server KEXINIT"))
        .find(|line| line.contains("KEX algorithms"));
    assert!(first.unwrap().contains("KEX algorithms: mlkem768x25519-sha256"), "{first:?}");
}

#[test]
fn the_account_is_logged_in_by_a_short_certificate_that_names_the_caller() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "true"]).code, 0);
    let log = world.web1.log();
    assert!(log.contains("Accepted publickey for ubuntu"), "{log}");
    let line = log.lines().find(|line| line.contains("Accepted certificate ID") || line.contains(" ID ")).unwrap();
    assert!(line.contains("alice@example.com"), "{line}");
}

#[test]
fn a_private_key_or_a_password_by_reference_logs_in_as_well() {
    let key = tempfile::tempdir().unwrap();
    let file = key.path().join("login");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file);
    let _made = run(keygen, b"").ok();
    let world = World::start(Setup { login: format!("{{ key = \"file:{}\" }}", file.display()), ..Setup::default() });
    let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    std::fs::write(world.folder().join("web1/authorized_keys"), public).unwrap();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "id -un"]).ok(), "ubuntu\n");
    assert!(!world.web1.log().contains("Accepted certificate"));
}

struct Agent {
    socket: std::path::PathBuf,
    _process: e2e::Process,
}

fn start_agent(folder: &Path) -> Agent {
    let socket = folder.join("agent");
    let mut command = Command::new("ssh-agent");
    command.arg("-D").arg("-a").arg(&socket);
    let process = e2e::Process::spawn(command, &folder.join("agent.log"));
    e2e::wait_until("the agent answers", || socket.exists());
    Agent { socket, _process: process }
}
