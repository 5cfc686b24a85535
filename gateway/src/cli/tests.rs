mod exports;

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use sallyport_recorder::SessionId;

use super::*;
use crate::state::Opened;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// A place where commands are run as a person would run them.
struct Desk(tempfile::TempDir);

struct Said {
    ended: anyhow::Result<Ended>,
    results: String,
    notes: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn begun() -> Self {
        let desk = Self::new();
        assert_eq!(desk.run("init --endpoint gw.example.com:51820").ended.unwrap(), Ended::Yes);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, words: &str) -> Said {
        self.run_words(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn run_words(&self, words: &[&str]) -> Said {
        let config = self.path("sallyport.toml").display().to_string();
        let words = [&["sallyport", "--config", &config], words].concat();
        let (results, notes) = (Buffer::default(), Buffer::default());
        let ended = match Cli::try_parse_from(words) {
            Ok(cli) => cli.run(&mut Out::to(results.clone(), notes.clone())),
            Err(error) => Err(BadInput(error.to_string()).into()),
        };
        let text = |buffer: Buffer| String::from_utf8(buffer.0.lock().clone()).unwrap();
        Said { ended, results: text(results), notes: text(notes) }
    }

    fn json(&self, words: &str) -> serde_json::Value {
        serde_json::from_str(&self.run(words).results).unwrap()
    }

    fn add_target(&self, name: &str) -> Said {
        self.run_words(&["target", "add", name, "--ssh", "10.0.3.7:22", "--host-key", KEY, "--tag", "tag:prod"])
    }

    /// A policy with one rule.
    fn set_policy(&self) {
        let text = r#"{
  "tagOwners": { "tag:prod": ["alice@example.com"] },
  "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"] }],
  "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["ubuntu"] }],
  "sshTests": [{ "src": "alice@example.com", "dst": ["web1"], "accept": ["ubuntu"], "deny": ["root"] }],
}"#;
        std::fs::write(self.path("policy.hujson"), text).unwrap();
    }
}

impl Said {
    fn error(self) -> (u8, String) {
        let error = self.ended.unwrap_err();
        (code(&error), format!("{error:#}"))
    }
}

#[test]
fn the_words_are_put_together_well() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn init_writes_what_the_other_commands_read_and_overwrites_nothing() {
    let desk = Desk::begun();
    let check = desk.run("policy check");
    assert_eq!(check.ended.unwrap(), Ended::Yes, "{}", check.notes);
    assert!(desk.path("state/keys/wireguard").exists());
    std::fs::write(desk.path("policy.hujson"), "mine").unwrap();
    let key = std::fs::read(desk.path("state/keys/wireguard")).unwrap();
    let again = desk.run("init");
    assert!(again.results.contains("left alone") && again.results.contains("device add"), "{}", again.results);
    assert_eq!(std::fs::read_to_string(desk.path("policy.hujson")).unwrap(), "mine");
    assert_eq!(std::fs::read(desk.path("state/keys/wireguard")).unwrap(), key);
}

#[test]
fn init_refuses_a_domain_before_it_is_written() {
    let desk = Desk::new();
    let (code, error) = desk.run("init --domain a_b").error();
    assert!(code == BAD_INPUT && error.contains("corp.internal"), "{error}");
    assert!(!desk.path("sallyport.toml").exists());
}

#[test]
fn device_add_prints_a_file_and_ls_shows_it() {
    let desk = Desk::begun();
    let said = desk.run("device add --user alice@example.com --name laptop");
    said.ended.unwrap();
    assert!(said.results.contains("\nPrivateKey = ") && said.results.contains("Endpoint = gw.example.com:51820"));
    assert!(!said.notes.contains("PrivateKey") && said.notes.contains("laptop is enrolled until"), "{}", said.notes);
    let devices = desk.json("device ls --json");
    assert_eq!(devices[0]["name"], "laptop");
    assert_eq!(devices[0]["user"], "alice@example.com");
    assert!(devices[0]["expires"].is_string());
    assert!(!devices.to_string().contains("preshared"), "no secret in a listing");
    let table = desk.run("device ls").results;
    assert!(table.starts_with("NAME") && table.contains("100.64.0.2"), "{table}");
}

#[test]
fn a_devices_own_key_is_taken_and_its_private_half_never_asked_for() {
    let desk = Desk::begun();
    let key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    let said = desk.run(&format!("device add --tag tag:ci --tag tag:build --public-key {key} --expires 2h"));
    said.ended.unwrap();
    assert!(!said.results.contains("\nPrivateKey"), "{}", said.results);
    let devices = desk.json("device ls --json");
    assert_eq!((devices[0]["public_key"].as_str(), devices[0]["name"].as_str()), (Some(key), Some("ci")));
    assert_eq!(devices[0]["tags"][1], "tag:build");
    let code = desk.run("device add --user bob@example.com --qr");
    assert!(code.results.contains('█') && !code.results.contains("PrivateKey"));
}

#[test]
fn devices_expire_and_are_removed() {
    let desk = Desk::begun();
    desk.run("device add --user alice@example.com").ended.unwrap();
    desk.run("device expire alice").ended.unwrap();
    assert!(desk.run("device ls").results.contains("expired"));
    desk.run("device expire alice --at never").ended.unwrap();
    assert!(desk.json("device ls --json")[0]["expires"].is_null());
    desk.run("device rm alice").ended.unwrap();
    assert_eq!(desk.json("device ls --json"), serde_json::json!([]));
    let (code, error) = desk.run("device rm alice").error();
    assert!(code == BAD_INPUT && error.contains("device ls"), "{error}");
}

#[test]
fn mistakes_on_the_command_line_are_told() {
    let desk = Desk::begun();
    for (words, sentence) in [
        ("device add", "--user"),
        ("device add --user alice@example.com --tag tag:ci", "cannot be used with"),
        ("device add --user alice", "alice@example.com"),
        ("device add --user a,b@example.com", "is no user"),
        ("device add --tag ci", "tag:prod"),
        ("device add --user a@b.c --name Laptop_1", "cannot be a name"),
        ("device add --user a@b.c --public-key AAAA", "--public-key"),
        ("device add --user a@b.c --expires soon", "is no time"),
        ("target add web1", "--postgres"),
        ("target add web1 --ssh h:22", "--host-key"),
        ("target add db --postgres h", "--postgres-login"),
        ("target add db --postgres h --postgres-login hunter2", "env:ORDERS_PASSWORD"),
        ("target add db --postgres h --postgres-login trust --key env:K", "--ssh"),
        ("target add db --postgres h --postgres-login trust --tls prefer", "verify-full"),
        ("target add web1 --ssh h:x --scan", "host:port"),
        ("target add web1 --ssh h --host-key AAAA", "OpenSSH"),
        ("target rm web9", "target ls"),
        ("sessions ls --outcome good", "one of completed"),
        ("sessions show zz", "sessions ls"),
        ("policy explain alice web1", "is no caller"),
        ("policy explain a@b.c web9", "target ls"),
    ] {
        let (code, error) = desk.run(words).error();
        assert!(code == BAD_INPUT && error.contains(sentence), "{words}: {error}");
    }
}

#[test]
fn targets_are_registered_listed_and_removed() {
    let desk = Desk::begun();
    let said = desk.add_target("web1");
    said.ended.unwrap();
    assert!(said.results.contains("web1.corp.internal, 100.64.128.0"), "{}", said.results);
    assert!(said.notes.contains("target ca"));
    let targets = desk.json("target ls --json");
    assert_eq!(targets[0]["ssh"]["host_key"][0], KEY);
    let authority = desk.run("target ca");
    assert!(authority.results.starts_with("ssh-ed25519 ") && authority.notes.contains("TrustedUserCAKeys"));
    let list = desk.run("ls").results;
    assert!(list.contains("@cert-authority *.corp.internal,web1 ssh-ed25519 "), "{list}");
    assert!(!list.contains(authority.results.trim()), "hosts and users have authorities of their own");
    desk.run("target rm web1").ended.unwrap();
    assert_eq!(desk.json("target ls --json"), serde_json::json!([]));
}

#[test]
fn a_target_may_be_a_host_and_a_database() {
    let desk = Desk::begun();
    let words = "target add orders --postgres 10.0.4.2 --postgres-login trust --tls require --ca file:/rds.pem --database orders";
    desk.run(words).ended.unwrap();
    let postgres = desk.json("target ls --json")[0]["postgres"].clone();
    let expected = serde_json::json!({ "address": "10.0.4.2:5432", "tls": "require", "ca": "file:/rds.pem", "login": "trust", "database": "orders" });
    assert_eq!(postgres, expected);
    let list = desk.run("target ls").results;
    assert!(list.contains("postgres 10.0.4.2:5432 (trust)"), "{list}");
    let shown = desk.run("ls");
    assert!(shown.results.contains("BEGIN CERTIFICATE") && shown.notes.contains("sslrootcert"), "{}", shown.results);
    let authority = desk.run("target ca --database");
    assert!(authority.results.contains("BEGIN CERTIFICATE") && authority.notes.contains("ssl_ca_file"));
    assert!(!shown.results.contains(authority.results.trim()), "callers and servers trust authorities of their own");
    let words = ["--ssh", "h", "--host-key", KEY, "--postgres", "h", "--postgres-login", "env:PATH"];
    desk.run_words(&[&["target", "add", "both"], &words[..]].concat()).ended.unwrap();
    let both = desk.json("target ls --json")[0].clone();
    assert_eq!((&both["ssh"]["address"], &both["postgres"]["address"]), (&"h:22".into(), &"h:5432".into()));
}

#[test]
fn a_secret_that_is_open_to_others_is_refused_when_the_target_is_added() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::begun();
    let secret = desk.path("id");
    std::fs::write(&secret, "key").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let reference = format!("file:{}", secret.display());
    let words = ["target", "add", "web1", "--ssh", "h", "--host-key", KEY, "--key", &reference];
    let (code, error) = desk.run_words(&words).error();
    assert!(code == BAD_INPUT && error.contains("chmod 600"), "{error}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.run_words(&words).ended.unwrap();
}

#[test]
fn explain_tells_a_database_session_and_what_it_may_do() {
    let desk = Desk::begun();
    desk.add_target("orders").ended.unwrap();
    let policy = r#"{ "grants": [{ "src": ["alice@example.com"], "dst": ["orders"], "ip": ["tcp:5432"], "app": {
        "sallyport.dev/cap/postgres": [{ "roles": ["analyst"], "databases": ["orders"], "statements": ["read"] }] } }] }"#;
    std::fs::write(desk.path("policy.hujson"), policy).unwrap();
    let yes = desk.run("policy explain alice@example.com orders --as analyst --database orders");
    assert_eq!(yes.ended.unwrap(), Ended::Yes);
    for line in ["as analyst in orders", "rights:  grants[0] (line 1, column 14)", "may run read", "is read-only"] {
        assert!(yes.results.contains(line), "{line}: {}", yes.results);
    }
    let words = ["policy", "explain", "alice@example.com", "orders", "--as", "analyst", "--database", "orders"];
    let read = desk.run_words(&[&words[..], &["--statement", "SELECT 1"]].concat());
    assert_eq!(read.ended.unwrap(), Ended::Yes);
    let write = desk.run_words(&[&words[..], &["--statement", "DELETE FROM t"]].concat());
    assert_eq!(write.ended.unwrap(), Ended::No);
    assert!(write.results.contains("does not allow delete") && write.results.contains("line 1"), "{}", write.results);
    let roles = desk.run("policy explain alice@example.com orders --port 5432");
    assert!(roles.results.contains("as:      analyst in orders"), "{}", roles.results);
    let no = desk.run("policy explain alice@example.com orders --as owner --database orders");
    assert_eq!(no.ended.unwrap(), Ended::No);
    assert!(no.results.contains("only analyst"), "{}", no.results);
    let (code, error) = desk.run("policy explain alice@example.com orders --database orders").error();
    assert!(code == BAD_INPUT && error.contains("--as ROLE"), "{error}");
}

#[test]
fn explain_names_the_role_that_is_made_for_a_user() {
    let desk = Desk::begun();
    desk.add_target("orders").ended.unwrap();
    let policy = r#"{ "grants": [{ "src": ["alice@example.com"], "dst": ["orders"], "ip": ["tcp:5432"], "app": {
        "sallyport.dev/cap/postgres": [{ "databases": ["orders"], "statements": ["read"], "memberOf": ["readers"] }] } }] }"#;
    std::fs::write(desk.path("policy.hujson"), policy).unwrap();
    let question = "policy explain alice@example.com orders --as alice --database orders";
    let yes = desk.run(question).results;
    assert!(yes.contains("becomes: sallyport:alice@example.com:") && yes.contains("member of readers"), "{yes}");
    let role = &desk.json(&format!("{question} --json"))["made_role"];
    assert!(yes.contains(role.as_str().unwrap()), "{role}: {yes}");
}

#[test]
fn explain_tells_what_a_session_may_do() {
    let desk = Desk::begun();
    desk.add_target("web1").ended.unwrap();
    let policy = r#"{
        "grants": [{ "src": ["alice@example.com"], "dst": ["web1"], "ip": ["tcp:22"], "app": { "sallyport.dev/cap/ssh": [{
            "exec": { "commands": ["uptime"] }, "sftp": { "download": true }, "subsystems": ["netconf"], "agent": {},
            "localForward": ["localhost:*", "/run/app/*.sock"], "remoteForward": ["localhost:8080"], "x11": {},
            "env": ["TZ"], "maxDuration": "8h", "idleTimeout": "30m" }] } }],
        "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["web1"], "users": ["ubuntu"], "acceptEnv": ["LANG"] }] }"#;
    std::fs::write(desk.path("policy.hujson"), policy).unwrap();
    let yes = desk.run("policy explain alice@example.com web1 --as ubuntu");
    assert_eq!(yes.ended.unwrap(), Ended::Yes);
    for line in [
        "exec           uptime, by grants[0]",
        "sftp download  yes, by",
        "subsystems     netconf, by",
        "localForward   localhost:*, by",
        "localForward   /run/app/*.sock, by",
        "remoteForward  localhost:8080, by",
        "agent          yes, by",
        "x11            yes, by",
        "env            LANG, by ssh[0]",
        "env            TZ, by grants[0]",
        "maxDuration    8h, by",
        "idleTimeout    30m, by",
        "shell          no",
        "sftp upload    no",
    ] {
        assert!(yes.results.contains(&format!("  {line}")), "{line}: {}", yes.results);
    }
}

#[test]
fn explain_names_the_rule_or_what_is_missing() {
    let desk = Desk::begun();
    desk.set_policy();
    desk.add_target("web1").ended.unwrap();
    desk.run("policy check").ended.unwrap();
    let yes = desk.run("policy explain alice@example.com web1 --as ubuntu");
    assert_eq!(yes.ended.unwrap(), Ended::Yes);
    assert!(yes.results.contains("ssh[0] (line 4") && yes.results.contains("grants[0] (line 3"), "{}", yes.results);
    let open = desk.run("policy explain alice@example.com web1");
    assert!(open.ended.unwrap() == Ended::Yes && open.results.contains("ubuntu"), "{}", open.results);
    for words in ["alice@example.com web1 --as root", "bob@example.com web1", "alice@example.com web1 --port 5432"] {
        let no = desk.run(&format!("policy explain {words}"));
        assert_eq!(no.ended.unwrap(), Ended::No, "{words}");
        assert!(no.results.starts_with("no: "), "{}", no.results);
    }
    assert!(desk.run("ls alice@example.com").results.contains("ubuntu"));
    assert!(desk.json("ls bob@example.com --json").as_array().unwrap().is_empty());
}

#[test]
fn explain_prints_each_right_with_its_rule_or_what_is_missing() {
    let desk = Desk::begun();
    desk.add_target("web1").ended.unwrap();
    let policy = r#"{
  "tagOwners": { "tag:prod": ["alice@example.com"] },
  "grants": [
    { "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"] },
    { "src": ["alice@example.com"], "dst": ["tag:prod"], "app": { "sallyport.dev/cap/ssh": [
      { "exec": { "commands": ["uptime"] }, "sftp": { "download": true }, "idleTimeout": "90m" }] } },
    { "src": ["alice@example.com"], "dst": ["tag:prod"], "app": { "sallyport.dev/cap/ssh": [
      { "shell": {}, "accounts": ["ubuntu"], "maxDuration": "8h" }] } } ],
  "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "acceptEnv": ["LC_*"],
            "users": ["ubuntu", "localpart:*@example.com", "autogroup:nonroot"] }],
}"#;
    std::fs::write(desk.path("policy.hujson"), policy).unwrap();
    let ubuntu = desk.run("policy explain alice@example.com web1 --as ubuntu").results;
    for line in [
        "shell          yes, by grants[2] (line 7",
        "exec           uptime, by grants[1] (line 5",
        "sftp download  yes, by grants[1]",
        "sftp upload    no: missing \"sftp\": { \"upload\": true }",
        "agent          no: missing \"agent\": {}",
        "env            LC_*, by ssh[0] (line 9",
        "maxDuration    8h, by grants[2]",
        "idleTimeout    90m, by grants[1]",
        "recording      required, by ssh[0]",
    ] {
        assert!(ubuntu.contains(line), "{line}: {ubuntu}");
    }
    let all = desk.run("policy explain alice@example.com web1").results;
    let headings: Vec<_> = all.lines().filter(|line| line.starts_with("as ")).collect();
    assert_eq!(headings, ["as ubuntu", "as localpart:*@example.com", "as autogroup:nonroot"], "{all}");
    assert_eq!(all.matches("shell          no: missing").count(), 2, "{all}");
    let json = desk.json("policy explain alice@example.com web1 --as ubuntu --json");
    let rights = json["rights"].as_array().unwrap();
    assert!(json["allowed"] == true && json["ssh"]["line"] == 9 && rights.len() == 13, "{json}");
    let upload = rights.iter().find(|right| right["name"] == "sftp upload").unwrap();
    assert!(upload["given"] == serde_json::json!([]) && upload["missing"].is_string(), "{upload}");
    let no = desk.json("policy explain alice@example.com web1 --as root --json");
    assert!(no["allowed"] == false && no["considered"][0]["rule"]["rule"] == "ssh[0]", "{no}");
}

#[test]
fn a_policy_that_is_wrong_or_fails_its_tests_is_not_accepted() {
    let desk = Desk::begun();
    std::fs::write(desk.path("policy.hujson"), "{ \"grnats\": [], \"ssh\": 7 }").unwrap();
    let wrong = desk.run("policy check");
    assert_eq!(wrong.ended.unwrap(), Ended::No);
    assert_eq!(wrong.notes.lines().filter(|line| line.contains("policy.hujson:1:")).count(), 2, "{}", wrong.notes);
    desk.set_policy();
    desk.add_target("web1").ended.unwrap();
    let text = std::fs::read_to_string(desk.path("policy.hujson")).unwrap();
    std::fs::write(desk.path("policy.hujson"), text.replace("\"deny\": [\"root\"]", "\"deny\": [\"ubuntu\"]")).unwrap();
    for words in ["policy check", "policy test"] {
        let failed = desk.run(words);
        assert_eq!(failed.ended.unwrap(), Ended::No, "{words}");
        assert!(failed.notes.contains("sshTests[0]"), "{}", failed.notes);
    }
    std::fs::remove_file(desk.path("policy.hujson")).unwrap();
    let (code, error) = desk.run("policy check").error();
    assert!(code == COULD_NOT && error.contains("sallyport init"), "{error}");
}

#[test]
fn a_policy_is_checked_without_making_a_state() {
    let desk = Desk::new();
    desk.set_policy();
    let toml = format!(
        "[[target]]\nname = \"web1\"\ntags = [\"tag:prod\"]\nssh = {{ address = \"h\", host_key = \"{KEY}\" }}\n"
    );
    std::fs::write(desk.path("sallyport.toml"), toml).unwrap();
    let check = desk.run("policy check");
    assert_eq!(check.ended.unwrap(), Ended::Yes, "{}", check.notes);
    assert!(!desk.path("state").exists());
}

#[test]
fn a_configuration_that_is_wrong_stops_every_command() {
    let desk = Desk::begun();
    std::fs::write(desk.path("sallyport.toml"), "[tailnet]\ndomian = \"x\"\n").unwrap();
    for words in ["device ls", "target ls", "ls", "sessions ls", "flows ls", "policy check"] {
        let (code, error) = desk.run(words).error();
        assert!(code == BAD_INPUT && error.contains("sallyport.toml:2:1: unknown field `domian`"), "{words}: {error}");
    }
}

#[test]
fn what_only_asks_makes_no_state() {
    let desk = Desk::new();
    std::fs::write(desk.path("sallyport.toml"), "").unwrap();
    for words in ["ls", "target ls", "device ls", "sessions ls", "sessions show x", "flows ls"] {
        let (code, error) = desk.run(words).error();
        assert!(code == COULD_NOT && error.contains("sallyport init"), "{words}: {error}");
        assert!(!desk.path("state").exists(), "{words}");
    }
    desk.add_target("web1").ended.unwrap();
    let (code, error) = desk.run("ls").error();
    assert!(code == COULD_NOT && error.contains("keys"), "{error}");
    assert!(!desk.path("state/keys").exists());
}

#[test]
fn a_session_that_is_named_twice_is_ended_once() {
    let desk = Desk::begun();
    let config = Config::load(&desk.path("sallyport.toml"), None).unwrap();
    let started: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let [one, other] = [SessionId::new(started), SessionId::new(started)];
    let opened = async {
        let state = State::open(&config).await.unwrap();
        for id in [one, other] {
            let [protocol, caller, device, target] = ["ssh", "alice@example.com", "laptop", "web1"].map(str::to_owned);
            let (source, policy) = ("100.64.0.2:50000".to_owned(), "0123456789ab".to_owned());
            let row = Opened {
                id,
                protocol,
                caller,
                device,
                device_id: None,
                source,
                target,
                policy,
                recording: None,
                started,
            };
            state.session_opened(&row).await.unwrap();
        }
        state.close().await;
    };
    tokio::runtime::Runtime::new().unwrap().block_on(opened);
    let killed = desk.json(&format!("sessions kill {one} {other} {one} --json"));
    assert_eq!(killed.as_array().unwrap().len(), 2, "{killed}");
    let shown = desk.json(&format!("sessions show {one} --json"));
    assert!(shown["caller"] == "alice@example.com" && shown["details"].is_null(), "{shown}");
}

#[test]
fn sessions_and_flows_are_listed() {
    let desk = Desk::begun();
    assert_eq!(desk.json("sessions ls --since 2h --json"), serde_json::json!([]));
    assert_eq!(desk.json("flows ls --json"), serde_json::json!([]));
    assert!(desk.run("sessions ls --caller tag:ci --outcome live --until 2027-01-31").results.starts_with("ID"));
    assert!(desk.run("flows ls").results.starts_with("STARTED"));
}
