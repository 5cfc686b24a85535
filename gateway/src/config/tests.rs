use std::path::{Path, PathBuf};

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "sallyport.toml", Path::new("/base"), None).map_err(|error| error.to_string())
}

fn target(ssh: &str) -> String {
    format!("[[target]]\nname = \"web1\"\nssh = {ssh}\n")
}

#[test]
fn everything_has_a_default() {
    let config = parse("").unwrap();
    assert_eq!(config.tailnet.domain, "sallyport.internal");
    assert_eq!(config.tailnet.listen.to_string(), "0.0.0.0:51820");
    assert_eq!(config.tailnet.prefix4.to_string(), "100.64.0.0/16");
    assert_eq!((config.tailnet.prefix6, config.tailnet.mtu, config.tailnet.backend), (None, 1280, Backend::Auto));
    assert!(config.tailnet.endpoint().ends_with(":51820"));
    assert!(config.dns.forward.is_empty() && config.targets.is_empty());
    assert_eq!(config.state.folder, PathBuf::from("/base/state"));
    assert_eq!(config.state.database, PathBuf::from("/base/state/sallyport.db"));
    assert_eq!(config.state.recordings, PathBuf::from("/base/state/recordings"));
    assert_eq!(config.policy, PathBuf::from("/base/policy.hujson"));
}

#[test]
fn reads_the_documented_file() {
    let text = format!(
        "[tailnet]\ndomain = \"Corp.Internal.\"\nlisten = \"[::]:1234\"\nendpoint = \"gateway.example.com:51820\"
prefix4 = \"10.9.0.0/16\"\nprefix6 = \"fd00:1::/48\"\nmtu = 1420\nbackend = \"packet\"
[dns]\nforward = [\"10.0.0.2\", \"[::1]:5353\"]
[state]\nfolder = \"/var/lib/sallyport\"\ndatabase = \"sqlite:db\"\nrecordings = \"file:rec\"
[policy]\nfile = \"p.hujson\"
[[target]]\nname = \"web1\"\ntags = [\"tag:prod\"]\nssh = {{ address = \"10.0.3.7\", host_key = \"{KEY}\", login = \"certificate\" }}
[[target]]\nname = \"web2\"\nssh = {{ address = \"[fd00::1]:2222\", host_key = [\"{KEY}\"], login = {{ key = \"file:id\" }} }}
[[target]]\nname = \"web3\"\nssh = {{ address = \"web3.example.com:22\", host_ca = \"{KEY}\", login = {{ password = \"env:PW\" }} }}\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.tailnet.domain, "corp.internal");
    assert_eq!(config.tailnet.endpoint(), "gateway.example.com:51820");
    assert_eq!(config.tailnet.backend, Backend::Packet);
    assert_eq!(config.dns.forward[0].to_string(), "10.0.0.2:53");
    assert_eq!(config.state.database, PathBuf::from("/base/db"));
    let [one, two, three] = config.targets.as_slice() else { panic!("three targets") };
    let [one, two, three] = [one, two, three].map(|target| target.services.ssh.clone().unwrap());
    assert_eq!(one.address.to_string(), "10.0.3.7:22");
    assert_eq!(two.address.to_string(), "[fd00::1]:2222");
    assert_eq!(two.login, Login::Key("file:/base/id".parse().unwrap()), "relative to the file's folder");
    assert!(matches!(three.host, HostIdentity::Authority(_)));
    for target in &config.targets {
        let json = serde_json::to_string(&target.services).unwrap();
        assert_eq!(serde_json::from_str::<Services>(&json).unwrap(), target.services, "{json}");
    }
}

#[test]
fn reads_a_postgres_server_with_each_kind_of_login() {
    let text = "[[target]]
name = \"orders\"
postgres = { address = \"10.0.4.2\", ca = \"file:rds.pem\", login = { password = \"env:ORDERS_PASSWORD\" }, database = \"orders\" }
[[target]]
name = \"stock\"
postgres = { address = \"[fd00::1]:6432\", tls = \"verify-ca\", login = \"certificate\" }
[[target]]
name = \"lab\"
postgres = { address = \"lab:5432\", tls = \"disable\", login = { passwords = { analyst = \"file:analyst\" } } }
";
    let config = parse(text).unwrap();
    let servers: Vec<_> = config.targets.iter().map(|target| target.services.postgres.clone().unwrap()).collect();
    let [orders, stock, lab] = servers.as_slice() else { panic!("three targets") };
    assert_eq!((orders.address.to_string().as_str(), orders.tls), ("10.0.4.2:5432", TlsMode::VerifyFull));
    assert_eq!(orders.ca.as_ref().unwrap().path(), Path::new("/base/rds.pem"));
    assert_eq!(orders.login, PostgresLogin::Password("env:ORDERS_PASSWORD".parse().unwrap()));
    assert_eq!(orders.database.as_deref(), Some("orders"));
    assert_eq!((stock.address.to_string().as_str(), stock.tls), ("[fd00::1]:6432", TlsMode::VerifyCa));
    assert_eq!(stock.login, PostgresLogin::Certificate);
    let passwords = [("analyst".to_owned(), "file:/base/analyst".parse().unwrap())];
    assert_eq!(lab.login, PostgresLogin::Passwords(passwords.into()));
    for target in &config.targets {
        let json = serde_json::to_string(&target.services).unwrap();
        assert_eq!(serde_json::from_str::<Services>(&json).unwrap(), target.services, "{json}");
    }
}

#[test]
fn a_state_folder_of_the_command_line_goes_before_the_files() {
    let config = Config::parse("[state]\nfolder = \"a\"", "x", Path::new("/base"), Some(Path::new("/b"))).unwrap();
    assert_eq!(config.state.database, PathBuf::from("/b/sallyport.db"));
}

#[test]
fn each_kind_of_mistake_is_told_with_its_place() {
    let ssh = |rest: &str| target(&format!("{{ address = \"h:22\", {rest} }}"));
    let key = format!("host_key = \"{KEY}\"");
    let postgres = |rest: &str| format!("[[target]]\nname = \"db\"\npostgres = {{ address = \"h\", {rest} }}\n");
    let cases: [(&str, String, &str, &str); 30] = [
        ("no TOML", "[tailnet\n".into(), "sallyport.toml:1:", ""),
        ("unknown table", "[tailnett]\n".into(), "sallyport.toml:1:2: ", "unknown field `tailnett`"),
        ("unknown key", "[tailnet]\n  domian = \"x\"\n".into(), "sallyport.toml:2:3: ", "expected one of `domain`"),
        ("wrong type", "[tailnet]\nmtu = \"big\"\n".into(), "sallyport.toml:2:7: ", "invalid type"),
        ("domain", "[tailnet]\ndomain = \"a_b\"\n".into(), "sallyport.toml:2:10: ", "corp.internal"),
        ("listen", "[tailnet]\nlisten = \"51820\"\n".into(), "sallyport.toml:2:10: ", "socket address"),
        ("endpoint", "[tailnet]\nendpoint = \"gw\"\n".into(), "sallyport.toml:2:12: ", "gateway.example.com:51820"),
        ("prefix4 too small", "[tailnet]\nprefix4 = \"10.0.0.0/30\"\n".into(), "sallyport.toml:2:11: ", "/8 to /24"),
        (
            "prefix4 with host",
            "[tailnet]\nprefix4 = \"10.0.0.1/24\"\n".into(),
            "sallyport.toml:2:11: ",
            "100.64.0.0/16",
        ),
        ("prefix6", "[tailnet]\nprefix6 = \"fd00::/112\"\n".into(), "sallyport.toml:2:11: ", "at most /96"),
        ("mtu", "[tailnet]\nmtu = 576\n".into(), "sallyport.toml:2:7: ", "1280"),
        ("backend", "[tailnet]\nbackend = \"memory\"\n".into(), "sallyport.toml:2:11: ", "`auto`"),
        ("resolver", "[dns]\nforward = [\"dns.example.com\"]\n".into(), "sallyport.toml:2:11: ", "10.0.0.2:53"),
        ("database", "[state]\ndatabase = \"mysql:x\"\n".into(), "sallyport.toml:2:12: ", "sqlite:state/"),
        ("recordings", "[state]\nrecordings = \"s3://x\"\n".into(), "sallyport.toml:2:14: ", "file:state/"),
        ("name", "[[target]]\nname = \"Web_1\"\n".into(), "sallyport.toml:2:8: ", "cannot be a name"),
        (
            "no service",
            "[[target]]\nname = \"web1\"\n".into(),
            "sallyport.toml:2:8: ",
            "ssh = { … } or postgres = { … }",
        ),
        ("tag", "[[target]]\nname = \"web1\"\ntags = [\"prod\"]\n".into(), "sallyport.toml:3:8: ", "tag:prod"),
        ("address", target(&format!("{{ address = \"h:x\", {key} }}")), "sallyport.toml:3:19: ", "host:port"),
        ("no identity", ssh("login = \"certificate\""), "sallyport.toml:3:7: ", "give host_key"),
        ("two identities", ssh(&format!("{key}, host_ca = \"{KEY}\"")), "sallyport.toml:3:7: ", "not both"),
        ("host key", ssh("host_key = \"AAAA\""), "sallyport.toml:3:38: ", "as OpenSSH writes it"),
        ("no host key", ssh("host_key = []"), "sallyport.toml:3:38: ", "at least one"),
        ("login", ssh(&format!("{key}, login = \"cert\"")), "sallyport.toml:3:", "\"certificate\", { key"),
        ("no login", postgres(""), "sallyport.toml:3:12: ", "missing field `login`"),
        (
            "two logins",
            postgres("login = { password = \"env:A\", passwords = {} }"),
            "sallyport.toml:3:",
            "password or passwords",
        ),
        ("tls", postgres("login = \"trust\", tls = \"prefer\""), "sallyport.toml:3:", "`verify-full`"),
        ("ca", postgres("login = \"trust\", ca = \"rds.pem\""), "sallyport.toml:3:", "\"file:PATH\""),
        ("password in the file", postgres("login = { password = \"hunter2\" }"), "sallyport.toml:3:", "\"env:NAME\""),
        (
            "secret in the file",
            ssh(&format!("{key}, login = {{ password = \"hunter2\" }}")),
            "sallyport.toml:3:",
            "\"env:NAME\"",
        ),
    ];
    for (name, text, place, sentence) in cases {
        let error = parse(&text).expect_err(name);
        assert!(error.starts_with(place) && error.contains(sentence), "{name}: {error}");
        assert!(!error.contains("hunter2"), "{name}: {error}");
    }
}

#[test]
fn two_targets_of_one_name_are_a_mistake_at_the_second() {
    let one = target(&format!("{{ address = \"h\", host_key = \"{KEY}\" }}"));
    let error = parse(&format!("{one}{one}")).unwrap_err();
    assert!(error.starts_with("sallyport.toml:5:8: a second target is named web1"), "{error}");
}

#[test]
fn a_file_that_is_not_there_says_how_to_get_one() {
    let error = Config::load(Path::new("/nowhere/sallyport.toml"), None).unwrap_err().to_string();
    assert!(error.contains("/nowhere/sallyport.toml") && error.contains("sallyport init"), "{error}");
}

#[tokio::test]
async fn secrets_are_looked_at_when_the_gateway_starts() {
    let ssh = format!("{{ address = \"h\", host_key = \"{KEY}\", login = {{ key = \"file:missing\" }} }}");
    let error = parse(&target(&ssh)).unwrap().check_secrets().await.unwrap_err().to_string();
    assert!(error.contains("web1") && error.contains("/base/missing"), "{error}");
}
