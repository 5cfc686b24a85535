use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::state::{Folder, Keys};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// A gateway's folder with keys, a database, a policy and one target that nobody answers at.
struct Ward {
    folder: tempfile::TempDir,
    config: Config,
}

impl Ward {
    async fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[tailnet]\nlisten = \"127.0.0.1:0\"\nendpoint = \"127.0.0.1:51820\"\n{more}\n[[target]]\nname = \"web1\"\n\
             ssh = {{ address = \"127.0.0.1:1\", host_key = \"{KEY}\" }}\n"
        );
        let config = Config::parse(&text, "sallyport.toml", folder.path(), None).unwrap();
        Keys::open(&Folder::open(&config.state.folder).unwrap()).unwrap();
        let state = State::open(&config).await.unwrap();
        std::fs::write(&config.policy, "{}").unwrap();
        state.close().await;
        Self { folder, config }
    }

    /// What the checks of an area find.
    async fn findings(&self, area: &str) -> Vec<Finding> {
        let clock = Clock::system();
        let (stored, about_state) = state::open(&self.config, &clock).await;
        let patient = Patient { config: &self.config, clock: &clock, gateway: None, stored };
        match area {
            "database" => state::database(&patient, about_state).await,
            "keys" => state::keys(&patient).await,
            "policy" => policy::policy(&patient).await,
            "targets" => targets::targets(&patient).await,
            "disk" => machine::disk(&patient).await,
            "clock" => machine::clock(&patient).await,
            "endpoint" => network::endpoint(&patient).await,
            "dns" => network::dns(&patient).await,
            _ => machine::gateway(&patient),
        }
    }

    async fn worst(&self, area: &str) -> (Level, String) {
        let findings = self.findings(area).await;
        let text = serde_json::to_string(&findings).unwrap();
        (findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok), text)
    }
}

#[tokio::test]
async fn a_sound_gateway_has_no_problem() {
    let ward = Ward::new("").await;
    for area in ["database", "keys", "policy", "dns"] {
        let (worst, text) = ward.worst(area).await;
        assert_eq!(worst, Level::Ok, "{area}: {text}");
    }
    // How full this machine's disk is, is its own affair.
    let (_, text) = ward.worst("disk").await;
    assert!(text.contains("written, and safe on the disk"), "{text}");
    assert_eq!(ward.worst("gateway").await.0, Level::Warning, "none is running");
    let (worst, text) = ward.worst("endpoint").await;
    assert!(worst == Level::Warning && text.contains("loopback") && text.contains("device add"), "{text}");
}

#[tokio::test]
async fn keys_that_others_can_read_or_that_are_gone_are_problems() {
    let ward = Ward::new("").await;
    let keys = ward.config.state.folder.join("keys");
    std::fs::set_permissions(keys.join("wireguard"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::remove_file(keys.join("ssh_user_ca")).unwrap();
    let (worst, text) = ward.worst("keys").await;
    assert_eq!(worst, Level::Problem);
    assert!(text.contains("chmod 600") && text.contains("ssh_user_ca is missing"), "{text}");
    assert!(!keys.join("ssh_user_ca").exists(), "a check makes nothing");
}

#[tokio::test]
async fn every_mistake_of_the_policy_and_a_refused_edit_are_told() {
    let ward = Ward::new("").await;
    std::fs::write(&ward.config.policy, "{ \"grant\": [],\n  \"shh\": [] }").unwrap();
    let state = State::open(&ward.config).await.unwrap();
    let now = Clock::system().now();
    state.keep_refused_policy(&["policy.hujson:9:9: an earlier mistake".to_owned()], now).await.unwrap();
    let (worst, text) = ward.worst("policy").await;
    assert_eq!(worst, Level::Problem);
    for place in [":1:3: ", ":2:3: ", "policy.hujson:9:9: an earlier mistake"] {
        assert!(text.contains(place), "{place}: {text}");
    }
    std::fs::remove_file(&ward.config.policy).unwrap();
    assert!(ward.worst("policy").await.1.contains("cannot be read"));
    std::fs::write(&ward.config.policy, r#"{ "grants": [{ "src": ["*"], "dst": ["web9"], "ip": ["*"] }] }"#).unwrap();
    state.forget_refused_policy().await.unwrap();
    let (worst, text) = ward.worst("policy").await;
    assert!(worst == Level::Warning && text.contains("web9"), "{text}");
}

#[tokio::test]
async fn a_target_that_is_down_and_a_secret_that_is_open_are_named() {
    let ward = Ward::new("").await;
    let (worst, text) = ward.worst("targets").await;
    assert!(worst == Level::Problem && text.contains("web1: dial failed"), "{text}");
    let secret = ward.folder.path().join("id");
    std::fs::write(&secret, "very secret words").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let more = format!(
        "[[target]]\nname = \"web2\"\nssh = {{ address = \"127.0.0.1:1\", host_key = \"{KEY}\", login = {{ key = \"file:{}\" }} }}",
        secret.display()
    );
    let ward = Ward::new(&more).await;
    let (_, text) = ward.worst("targets").await;
    assert!(text.contains("web2") && text.contains("chmod 600") && !text.contains("very secret"), "{text}");
}

#[tokio::test]
async fn a_damaged_database_and_a_clock_that_went_back_are_problems() {
    let ward = Ward::new("").await;
    let state = State::open(&ward.config).await.unwrap();
    let tomorrow = Clock::system().now() + jiff::SignedDuration::from_hours(24);
    state.keep_policy("r", "{}", tomorrow).await.unwrap();
    let (worst, text) = ward.worst("clock").await;
    assert!(worst == Level::Problem && text.contains("gone back"), "{text}");
    state.close().await;
    std::fs::write(&ward.config.state.database, "this is no database").unwrap();
    let (worst, text) = ward.worst("database").await;
    assert!(worst == Level::Problem && text.contains("backup"), "{text}");
}

#[tokio::test]
async fn resolvers_are_asked_and_a_taken_port_is_told() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let more = format!("[dns]\nforward = [\"{}\"]", silent.local_addr().unwrap());
    let mut ward = Ward::new(&more).await;
    let (worst, text) = ward.worst("dns").await;
    assert!(worst == Level::Problem && text.contains("does not answer"), "{text}");
    ward.config.tailnet.listen = silent.local_addr().unwrap();
    let (worst, text) = ward.worst("endpoint").await;
    assert!(worst == Level::Problem && text.contains("cannot be had"), "{text}");
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_a_problem() {
    let mut ward = Ward::new("").await;
    // Nobody can make a file there, root included.
    ward.config.state.recordings = "/proc".into();
    let (worst, text) = ward.worst("disk").await;
    assert!(worst == Level::Problem && text.contains("nothing can be written"), "{text}");
}
