//! Who may: denials that say what is missing, the same decision explained, mistakes that are refused.

use e2e::{POLICY, Setup, Shared, Terminal, World, wait_until};
use nix::sys::signal::Signal;

#[test]
fn a_caller_without_the_account_reads_one_clear_sentence() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let refused = alice.ssh(&["root@web1", "id"]);
    assert_eq!((refused.code, refused.text().as_str()), (255, ""));
    let sentence = "alice@example.com may not log in to web1 as root";
    assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
    assert!(refused.stderr.contains("ubuntu"), "it names what is allowed: {}", refused.stderr);
    assert!(!world.web1.log().contains("root"), "the target never heard of it");
    let explained = world.sallyport(&["policy", "explain", "alice@example.com", "web1", "--as", "root"]);
    assert_ne!(explained.code, 0);
    assert!((explained.text() + &explained.stderr).contains(sentence));
}

#[test]
fn a_caller_without_an_ssh_rule_gets_in_as_nobody() {
    let world = World::new();
    let bob = world.caller("bob@example.com", "phone");
    for account in ["ubuntu", "root", "bob"] {
        let refused = bob.ssh(&[&format!("{account}@web1"), "id"]);
        assert_eq!(refused.code, 255);
        assert!(refused.stderr.contains("bob@example.com may not"), "{}", refused.stderr);
    }
    assert!(!world.web1.log().contains("Accepted"), "{}", world.web1.log());
}

#[test]
fn without_a_network_rule_no_byte_reaches_the_target() {
    let world = World::new();
    let eve = world.caller("eve@example.com", "stranger");
    let refused = eve.ssh(&["-o", "ConnectTimeout=10", "ubuntu@web1", "id"]);
    assert_eq!((refused.code, refused.text().as_str()), (255, ""));
    assert!(!world.web1.log().contains("Connection from"), "{}", world.web1.log());
}

#[test]
fn a_program_without_a_terminal_ends_at_the_target_with_what_let_it_run() {
    let with = |app: &str| POLICY.replace(r#""ip": ["tcp:22"]"#, &format!(r#""ip": ["tcp:22"], "app": {app}"#));
    let wide = with(r#"{ "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {} }] }"#);
    let narrow = with(r#"{ "sallyport.dev/cap/ssh": [{ "shell": {} }] }"#);
    let world = World::start(Setup { policy: wide.clone(), ..Setup::default() });
    let alice = world.caller("alice@example.com", "laptop");
    let withdrawn = "access was withdrawn: this command on web1 as ubuntu is not allowed";
    for (command, program, killed) in [
        ("echo up; exec sleep 1234561", "sleep 1234561", false),
        // As nohup starts it.
        ("trap '' HUP; echo up; sleep 1234562", "sleep 1234562", false),
        ("echo up; sleep 1234563", "sleep 1234563", true),
    ] {
        let mut talk = alice.talk(&["ubuntu@web1", command]);
        talk.expect("up");
        let said = if killed {
            let live = world.sallyport(&["sessions", "ls", "--outcome", "live", "--json"]).ok();
            let live: Vec<serde_json::Value> = serde_json::from_str(&live).unwrap();
            let _ended = world.sallyport(&["sessions", "kill", live[0]["id"].as_str().unwrap()]).ok();
            "an operator ended this session"
        } else {
            world.write_policy(&narrow);
            withdrawn
        };
        assert_eq!(talk.end(), 255, "{command}");
        assert!(talk.heard().contains(said), "{command}: {}", talk.heard());
        wait_until("the program has ended", || !world.web1.runs(program));
        world.write_policy(&wide);
        wait_until("the wide policy holds again", || alice.ssh(&["ubuntu@web1", "true"]).code == 0);
    }
}

#[test]
fn a_withdrawn_shell_leaves_its_terminal_at_once_on_a_shared_connection_too() {
    let with = |app: &str| POLICY.replace(r#""ip": ["tcp:22"]"#, &format!(r#""ip": ["tcp:22"], "app": {app}"#));
    let wide = with(r#"{ "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {} }] }"#);
    let narrow = with(r#"{ "sallyport.dev/cap/ssh": [{ "exec": {} }] }"#);
    let world = World::start(Setup { policy: wide, ..Setup::default() });
    let alice = world.caller("alice@example.com", "laptop");
    let mut shared = Shared::open(&alice);
    let mut shell = alice.command("sh");
    shell.args(["-c", "\"$@\"; echo left with $?; sleep 60", "sh", "ssh"]);
    shared.over(&mut shell);
    let terminal = Terminal::new(world.folder(), &shell);
    terminal.wait_for("$");
    terminal.enter("echo rea''dy");
    terminal.wait_for("ready");
    world.write_policy(&narrow);
    terminal.wait_for("access was withdrawn: a shell on web1 as ubuntu is not allowed");
    terminal.wait_for("left with 255");
    shared.master.say("still here");
    shared.master.expect("still here");
    assert_eq!(shared.master.end(), 0);
}

#[test]
fn explain_names_the_rule_and_the_line_that_allow() {
    let world = World::new();
    let said = world.sallyport(&["policy", "explain", "alice@example.com", "web1", "--as", "ubuntu"]).ok();
    let rule = POLICY.lines().position(|line| line.contains("\"action\"")).unwrap() + 1;
    assert!(said.contains(&format!("ssh[0] (line {rule},")), "{said}");
}

#[test]
fn an_edit_holds_at_once_however_it_is_made_and_ends_what_it_no_longer_allows() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let policy = world.operator().join("policy.hujson");
    let allowing = |account: &str| POLICY.replace("\"users\": [\"ubuntu\"]", &format!("\"users\": [\"{account}\"]"));
    let mut now = "ubuntu";
    let mut edit = |name: &str, next: &'static str, edit: &dyn Fn(&str)| {
        let mut talk = alice.talk(&[&format!("{now}@web1"), "echo up; sleep 2345678"]);
        talk.expect("up");
        edit(&allowing(next));
        assert_eq!(talk.end(), 255, "{name}: {}", talk.heard());
        let told = format!("alice@example.com may not log in to web1 as {now}");
        assert!(talk.heard().contains(&told), "{name}: {}", talk.heard());
        wait_until("what ran has ended at the target too", || !world.web1.runs("sleep 2345678"));
        assert_eq!(alice.ssh(&[&format!("{next}@web1"), "id -un"]).ok(), format!("{next}\n"), "{name}");
        now = next;
    };
    edit("written in place", "deploy", &|text| std::fs::write(&policy, text).unwrap());
    edit("renamed over, as editors do", "ubuntu", &|text| {
        let draft = policy.with_extension("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &policy).unwrap();
    });
    let data = world.operator().join("..data");
    let version = |name: &str, text: &str| {
        let folder = world.operator().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("policy.hujson"), text).unwrap();
        let next = world.operator().join("..data_tmp");
        std::os::unix::fs::symlink(name, &next).unwrap();
        std::fs::rename(&next, &data).unwrap();
    };
    edit("a link in its place", "deploy", &|text| {
        version("..1", text);
        let link = policy.with_extension("link");
        std::os::unix::fs::symlink("..data/policy.hujson", &link).unwrap();
        std::fs::rename(&link, &policy).unwrap();
    });
    edit("the link swapped, as a ConfigMap does", "ubuntu", &|text| version("..2", text));
}

#[test]
fn an_edit_that_gives_more_leaves_live_sessions_alone() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&["ubuntu@web1", "echo up; while read line; do echo got $line; done"]);
    talk.expect("up");
    world.write_policy(&POLICY.replace("\"users\": [\"ubuntu\"]", "\"users\": [\"ubuntu\", \"deploy\"]"));
    wait_until("the edit holds", || alice.ssh(&["deploy@web1", "true"]).code == 0);
    talk.say("this");
    talk.expect("got this");
    assert_eq!(talk.end(), 0);
}

#[test]
fn an_edit_that_is_wrong_is_refused_whole_and_the_last_good_one_stays_across_a_restart() {
    let mut world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let well = |alice: &e2e::Caller| assert_eq!(alice.ssh(&["ubuntu@web1", "id -un"]).ok(), "ubuntu\n");
    let failing = POLICY.replace(
        "\"ssh\": [",
        "\"sshTests\": [{ \"src\": \"alice@example.com\", \"dst\": [\"web1\"], \"accept\": [\"root\"] }],\n\"ssh\": [",
    );
    let policy = world.operator().join("policy.hujson");
    let path = policy.display().to_string();
    let cases: [(&str, Edit<'_>, Vec<String>); 4] = [
        (
            "two mistakes",
            &|| std::fs::write(&policy, "{ \"grant\": [],\n  \"shh\": [] }").unwrap(),
            vec![format!("{path}:1:3: "), format!("{path}:2:3: ")],
        ),
        (
            "a test that fails",
            &|| std::fs::write(&policy, &failing).unwrap(),
            vec![format!("{path}:5:"), "root".into()],
        ),
        ("cut short", &|| std::fs::write(&policy, &POLICY[..200]).unwrap(), vec![format!("{path}:")]),
        ("gone", &|| std::fs::remove_file(&policy).unwrap(), vec![format!("{path} cannot be read")]),
    ];
    for (name, edit, told) in cases {
        let before = world.gateway().printed().len();
        edit();
        let logged = |text: &str| world.gateway().printed()[before..].contains(text);
        wait_until(&format!("{name}: the operator reads why"), || {
            told.iter().all(|text| logged(text)) && logged("the last good one stays")
        });
        well(&alice);
        world.stop(Signal::SIGTERM);
        world.up();
        assert!(told.iter().all(|text| world.gateway().printed().contains(text)), "{name}, after a restart");
        well(&alice);
    }
    world.write_policy(&POLICY.replace("\"users\": [\"ubuntu\"]", "\"users\": [\"deploy\"]"));
    wait_until("one that is right holds again", || alice.ssh(&["deploy@web1", "true"]).code == 0);
}

/// Something done to the policy file.
type Edit<'a> = &'a dyn Fn();

#[test]
fn a_signal_has_the_policy_read_as_well() {
    let world = World::new();
    let before = world.gateway().printed().len();
    world.gateway().signal(Signal::SIGHUP);
    wait_until("it was read", || world.gateway().printed()[before..].contains("the change holds"));
}

#[test]
fn each_kind_of_mistake_is_refused_with_its_place() {
    let world = World::build(Setup::default());
    let cases = [
        ("not HuJSON", "{ \"grants\": [ }", "policy.hujson:1:"),
        ("a misspelt section", "{ \"grant\": [] }", "grants"),
        (
            "a misspelt key of a rule",
            r#"{ "ssh": [ { "action": "accept", "source": ["*"], "dst": ["*"], "users": ["u"] } ] }"#,
            "src",
        ),
        (
            "a group that is not there",
            r#"{ "grants": [ { "src": ["group:nobody"], "dst": ["*"], "ip": ["*"] } ] }"#,
            "group:nobody",
        ),
        (
            "a tag without an owner",
            r#"{ "grants": [ { "src": ["*"], "dst": ["tag:lost"], "ip": ["*"] } ] }"#,
            "tag:lost",
        ),
        (
            "an action that is none",
            r#"{ "ssh": [ { "action": "allow", "src": ["*"], "dst": ["*"], "users": ["u"] } ] }"#,
            "accept",
        ),
        ("a port that is none", r#"{ "grants": [ { "src": ["*"], "dst": ["*"], "ip": ["tcp:99999"] } ] }"#, "99999"),
        ("the wrong type", r#"{ "grants": {} }"#, "policy.hujson:1:"),
        (
            "a test of its own that fails",
            r#"{ "groups": {"group:g": ["alice@example.com"]}, "sshTests": [ { "src": "alice@example.com", "dst": ["web1"], "accept": ["root"] } ] }"#,
            "root",
        ),
    ];
    for (name, policy, expected) in cases {
        world.write_policy(policy);
        let said = world.sallyport(&["policy", "check"]).failed();
        assert!(said.contains(expected), "{name}: {said}");
        assert!(said.contains("policy.hujson:"), "{name}: no place in {said}");
        let said = world.up_fails();
        assert!(said.contains(expected), "{name}, at start: {said}");
    }
    world.write_policy("{ \"grant\": [],\n  \"shh\": [] }");
    let both = world.sallyport(&["policy", "check"]).failed();
    assert!(both.contains("policy.hujson:1:") && both.contains("policy.hujson:2:"), "all at once: {both}");
}
