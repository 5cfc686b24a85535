use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sallyport_recorder::{Checkpoint, Hash, SessionId};
use sallyport_tailnet::{PresharedKey, PrivateKey};

use super::*;
use crate::config;
use crate::identity::Owner;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

struct World {
    place: tempfile::TempDir,
    config: Config,
    state: State,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let config = configured(place.path(), "");
    let state = State::open(&config).await.unwrap();
    World { place, config, state }
}

fn configured(base: &Path, text: &str) -> Config {
    Config::parse(text, "sallyport.toml", base, None).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn device(name: Option<&str>, owner: Owner) -> NewDevice {
    NewDevice {
        name: name.map(|name| name.parse().unwrap()),
        owner,
        key: PrivateKey::generate().public(),
        preshared: PresharedKey::generate(),
        expires: None,
    }
}

fn alice() -> Owner {
    Owner::User("alice@example.com".into())
}

fn target(name: &str) -> config::Target {
    config::Target {
        name: name.parse().unwrap(),
        tags: vec!["tag:prod".parse().unwrap()],
        services: serde_json::from_value(serde_json::json!({ "ssh": { "address": "10.0.3.7:22", "host_key": KEY } }))
            .unwrap(),
    }
}

#[tokio::test]
async fn devices_come_back_as_they_were_enrolled() {
    let World { place, config, state } = world().await;
    let mut new = device(Some("laptop"), alice());
    new.expires = Some(at(500));
    let enrolled = state.add_device(new, at(1)).await.unwrap();
    let ci = state.add_device(device(None, Owner::Tags(vec!["tag:ci".into()])), at(2)).await.unwrap();
    state.device_seen(&enrolled.device.key, Some("192.0.2.1:9".parse().unwrap()), Some(at(3))).await.unwrap();
    state.device_seen(&enrolled.device.key, None, None).await.unwrap();
    state.close().await;
    let state = State::open(&config).await.unwrap();
    let devices = state.devices().await.unwrap();
    assert_eq!(devices.iter().map(|d| d.device.name.as_str()).collect::<Vec<_>>(), ["ci", "laptop"]);
    assert_eq!(devices[1].device, enrolled.device);
    assert_eq!(devices[1].preshared.expose(), enrolled.preshared.expose());
    assert_eq!(devices[1].endpoint.unwrap().to_string(), "192.0.2.1:9");
    assert_eq!((devices[1].handshake, devices[1].created), (Some(at(3)), at(1)));
    assert!(devices[1].has_expired(at(500)) && !devices[1].has_expired(at(499)));
    assert_eq!(devices[0].device.addresses, ci.device.addresses, "the random prefix is kept");
    assert_eq!(devices[0].peer().addresses, ci.device.addresses);
    drop(place);
}

#[tokio::test]
async fn a_target_of_an_earlier_version_is_reached_over_ssh_still() {
    let place = tempfile::tempdir().unwrap();
    let config = configured(place.path(), "");
    Folder::open(&config.state.folder).unwrap();
    folder::create_private(&config.state.database).unwrap();
    let earlier = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&config.state.database)).await.unwrap();
    sqlx::migrate!().run_to(1, &earlier).await.unwrap();
    let ssh = serde_json::json!({ "address": "10.0.3.7:22", "host_key": KEY, "login": "certificate" }).to_string();
    let row = sqlx::query("INSERT INTO targets (name, tags, ssh, added) VALUES ('web1', '[]', ?1, 0)").bind(ssh);
    row.execute(&earlier).await.unwrap();
    earlier.close().await;
    let state = State::open(&config).await.unwrap();
    let known = state.targets(&[], at(1)).await.unwrap().remove(0);
    assert_eq!(known.target.services, target("web1").services);
}

#[tokio::test]
async fn names_and_keys_are_taken_once() {
    let World { state, place: _place, .. } = world().await;
    let first = state.add_device(device(None, alice()), at(0)).await.unwrap();
    assert_eq!(first.device.name, "alice");
    assert_eq!(state.add_device(device(None, alice()), at(0)).await.unwrap().device.name, "alice-2");
    let error = state.add_device(device(Some("alice"), alice()), at(0)).await.unwrap_err().to_string();
    assert!(error.contains("--name"), "{error}");
    let same_key = NewDevice { key: first.device.key, ..device(Some("other"), alice()) };
    let error = state.add_device(same_key, at(0)).await.unwrap_err().to_string();
    assert!(error.contains("alice has this key"), "{error}");
    assert_eq!(state.devices().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_removed_device_is_gone_and_its_address_rests() {
    let World { state, place: _place, .. } = world().await;
    let first = state.add_device(device(Some("a"), alice()), at(0)).await.unwrap();
    state.remove_device("a", at(1)).await.unwrap();
    assert!(state.devices().await.unwrap().is_empty());
    assert!(state.remove_device("a", at(1)).await.is_err() && state.device("a").await.is_err());
    assert!(state.expire_device("a", None).await.is_err());
    let again = NewDevice { key: first.device.key, ..device(Some("a"), alice()) };
    let again = state.add_device(again, at(2)).await.unwrap();
    assert_ne!(again.device.addresses, first.device.addresses);
    assert_ne!(again.device.id, first.device.id);
}

#[tokio::test]
async fn devices_that_are_enrolled_at_once_never_share_an_address() {
    let World { state, config, place: _place } = world().await;
    let other = State::open(&config).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let state = if n % 2 == 0 { state.clone() } else { other.clone() };
            tokio::spawn(
                async move { state.add_device(device(None, alice()), at(0)).await.unwrap().device.addresses[0] },
            )
        })
        .collect();
    let mut addresses = std::collections::HashSet::new();
    for task in tasks {
        assert!(addresses.insert(task.await.unwrap()));
    }
}

#[tokio::test]
async fn targets_keep_their_addresses_wherever_they_are_described() {
    let World { state, config, place: _place } = world().await;
    state.add_target(&target("web2"), &config.targets, at(0)).await.unwrap();
    let written = [target("web1")];
    let known = state.targets(&written, at(0)).await.unwrap();
    assert_eq!(
        known.iter().map(|k| (k.target.name.as_str(), k.in_file)).collect::<Vec<_>>(),
        [("web1", true), ("web2", false)]
    );
    let services = state.plan().services();
    for known in &known {
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = known.target.addresses.as_slice() else { panic!() };
        assert!(services.0.contains(v4) && services.1.contains(v6));
    }
    state.add_target(&target("a"), &written, at(1)).await.unwrap();
    let later = state.targets(&written, at(2)).await.unwrap();
    assert_eq!(later[1].target, known[0].target);
    assert_eq!(later[2].target, known[1].target);
    state.remove_target("web2", &written, at(3)).await.unwrap();
    state.add_target(&target("web2"), &written, at(4)).await.unwrap();
    let back = state.targets(&written, at(5)).await.unwrap();
    assert_ne!(back[2].target.addresses, known[1].target.addresses, "a removed target's address rests");
}

#[tokio::test]
async fn looking_with_another_configuration_releases_no_address() {
    let World { state, place: _place, .. } = world().await;
    let both = [target("web1"), target("web2")];
    let known = state.targets(&both, at(0)).await.unwrap();
    state.targets(&both[..1], at(1)).await.unwrap();
    assert_eq!(state.targets(&both, at(2)).await.unwrap()[1].target, known[1].target);
    state.release_gone(&known[..1], at(3)).await.unwrap();
    assert_ne!(state.targets(&both, at(4)).await.unwrap()[1].target.addresses, known[1].target.addresses);
}

#[tokio::test]
async fn a_target_is_described_in_one_place() {
    let World { state, place: _place, .. } = world().await;
    let written = [target("web1")];
    assert!(state.add_target(&target("web1"), &written, at(0)).await.is_err());
    state.add_target(&target("web1"), &[], at(0)).await.unwrap();
    assert!(state.add_target(&target("web1"), &[], at(0)).await.is_err());
    let error = state.targets(&written, at(0)).await.unwrap_err().to_string();
    assert!(error.contains("both in sallyport.toml and in the database"), "{error}");
    assert!(state.remove_target("web1", &written, at(0)).await.unwrap_err().to_string().contains("sallyport.toml"));
    assert!(state.remove_target("web9", &written, at(0)).await.is_err());
}

fn opened(second: i64, caller: &str, target: &str) -> Opened {
    Opened {
        id: SessionId::new(at(second)),
        protocol: "ssh".into(),
        caller: caller.into(),
        device: "laptop".into(),
        device_id: Some(1),
        source: "100.64.0.2:5".into(),
        target: target.into(),
        policy: "abc".into(),
        recording: Some("/rec".into()),
        started: at(second),
    }
}

#[tokio::test]
async fn sessions_are_found_by_what_is_asked() {
    let World { state, place: _place, .. } = world().await;
    let sessions = [
        opened(10, "alice@example.com", "web1"),
        opened(20, "bob@example.com", "web1"),
        opened(30, "tag:ci,tag:build", "db1"),
    ];
    for session in &sessions {
        state.session_opened(session).await.unwrap();
    }
    let asked = Some(("ubuntu".to_owned(), Some("ssh[0]".to_owned())));
    state.session_ended(sessions[0].id, at(15), ("completed", "done"), asked).await.unwrap();
    state.session_ended(sessions[0].id, at(16), ("failed", "twice"), None).await.unwrap();
    let all = SessionFilter::default();
    for (name, filter, expected) in [
        ("all", all.clone(), vec![2, 1, 0]),
        ("caller", SessionFilter { caller: Some("bob@example.com".into()), ..all.clone() }, vec![1]),
        ("tag", SessionFilter { caller: Some("tag:build".into()), ..all.clone() }, vec![2]),
        ("part of a tag", SessionFilter { caller: Some("tag:b".into()), ..all.clone() }, vec![]),
        ("target", SessionFilter { target: Some("web1".into()), ..all.clone() }, vec![1, 0]),
        ("since", SessionFilter { since: Some(at(20)), ..all.clone() }, vec![2, 1]),
        ("until", SessionFilter { until: Some(at(20)), ..all.clone() }, vec![0]),
        ("outcome", SessionFilter { outcome: Some("completed".into()), ..all.clone() }, vec![0]),
        ("live", SessionFilter { outcome: Some("live".into()), ..all.clone() }, vec![2, 1]),
        ("limit", SessionFilter { limit: Some(1), ..all.clone() }, vec![2]),
        ("quote", SessionFilter { caller: Some("' OR 1=1 --".into()), ..all.clone() }, vec![]),
    ] {
        let found: Vec<_> = state.sessions(&filter).await.unwrap().iter().map(|row| row.id).collect();
        assert_eq!(found, expected.into_iter().map(|n: usize| sessions[n].id).collect::<Vec<_>>(), "{name}");
    }
    let first = state.session(&sessions[0].id.to_string()).await.unwrap();
    assert_eq!(
        (first.outcome.as_deref(), first.account.as_deref(), first.ended),
        (Some("completed"), Some("ubuntu"), Some(at(15)))
    );
    assert_eq!(state.end_interrupted_sessions(at(40)).await.unwrap(), 2);
    assert_eq!(state.session(&sessions[1].id.to_string()).await.unwrap().outcome.as_deref(), Some("interrupted"));
}

#[tokio::test]
async fn a_session_is_found_by_the_beginning_of_its_id() {
    let World { state, place: _place, .. } = world().await;
    let (one, other) = (opened(10, "a", "t"), opened(2_000_000_000, "a", "t"));
    state.session_opened(&one).await.unwrap();
    state.session_opened(&other).await.unwrap();
    assert_eq!(state.session(&one.id.to_string()[..10]).await.unwrap().id, one.id);
    assert_eq!(state.session(&other.id.to_string().to_uppercase()).await.unwrap().id, other.id);
    for (prefix, sentence) in [("0", "several"), ("ff", "no session"), ("", "no session"), ("%", "no session")] {
        let error = state.session(prefix).await.unwrap_err().to_string();
        assert!(error.contains(sentence), "{prefix:?}: {error}");
    }
}

#[tokio::test]
async fn an_older_checkpoint_never_takes_a_newer_ones_place() {
    let World { state, place: _place, .. } = world().await;
    let id = SessionId::new(at(1));
    assert_eq!(state.checkpoint(id).await.unwrap(), None);
    let head = |segments| Checkpoint { segments, hash: Hash::of(&[b"x"]), at: at(9) };
    for segments in [1, 3, 2] {
        state.keep_checkpoint(id, &head(segments)).await.unwrap();
    }
    assert_eq!(state.checkpoint(id).await.unwrap(), Some(head(3)));
}

#[tokio::test]
async fn only_the_newest_flows_are_kept() {
    let World { state, place: _place, .. } = world().await;
    let flow = |second: i64| Flow {
        device: if second % 2 == 0 { "even" } else { "odd" }.into(),
        protocol: "tcp".into(),
        source: "100.64.0.2:5".into(),
        destination: "100.64.128.0:22".into(),
        started: at(second),
        ended: at(second + 1),
        rx_bytes: u64::MAX,
        tx_bytes: 2,
        rx_packets: 3,
        tx_packets: 4,
        session: None,
        denied: Some("no".into()),
    };
    let flows: Vec<Flow> = (0..2500).map(flow).collect();
    state.add_flows(&flows, 1000).await.unwrap();
    state.add_flows(&[], 1000).await.unwrap();
    let kept = state.flows(None, 5000).await.unwrap();
    assert_eq!((kept.len(), kept[0].started, kept[999].started), (1000, at(2499), at(1500)));
    assert_eq!(kept[0], Flow { rx_bytes: i64::MAX.unsigned_abs(), ..flow(2499) });
    assert_eq!(state.flows(Some("even"), 3).await.unwrap()[0].started, at(2498));
}

#[tokio::test]
async fn the_last_accepted_policy_is_kept() {
    let World { state, place: _place, .. } = world().await;
    assert_eq!(state.last_policy().await.unwrap(), None);
    state.keep_policy("a", "one", at(1)).await.unwrap();
    state.keep_policy("b", "two", at(2)).await.unwrap();
    assert_eq!(state.last_policy().await.unwrap().unwrap().text, "two");
    state.keep_policy("a", "one", at(3)).await.unwrap();
    assert_eq!(state.last_policy().await.unwrap().unwrap().text, "one");
}

#[tokio::test]
async fn a_prefix_that_does_not_fit_the_state_is_refused() {
    let World { state, place, .. } = world().await;
    state.add_device(device(Some("laptop"), alice()), at(0)).await.unwrap();
    state.close().await;
    let moved = configured(place.path(), "[tailnet]\nprefix4 = \"10.9.0.0/16\"");
    let error = State::open(&moved).await.unwrap_err().to_string();
    assert!(error.contains("100.64.0.2") && error.contains("10.9.0.0/16"), "{error}");
}

#[tokio::test]
async fn a_new_state_is_its_owners_alone() {
    let World { state, config, place: _place } = world().await;
    state.close().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&config.state.folder), mode(&config.state.database)), (0o700, 0o600));
}

#[tokio::test]
async fn an_open_database_and_one_of_another_user_are_refused() {
    let World { state, config, place: _place } = world().await;
    state.close().await;
    let database = &config.state.database;
    let chmod = |mode| std::fs::set_permissions(database, std::fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o640);
    let error = State::open(&config).await.unwrap_err().to_string();
    assert!(error.contains("mode 640") && error.contains("chmod 600"), "{error}");
    chmod(0o600);
    let log = database.with_extension("db-wal");
    std::fs::write(&log, "").unwrap();
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = State::open(&config).await.unwrap_err().to_string();
    assert!(error.contains("-wal") && error.contains("chmod 600"), "{error}");
    std::fs::remove_file(&log).unwrap();
    State::open(&config).await.unwrap().close().await;
    // Only root can give a file away.
    if std::os::unix::fs::chown(database, Some(65_534), None).is_ok() {
        let error = State::open(&config).await.unwrap_err().to_string();
        assert!(error.contains("belongs to another user"), "{error}");
    }
}

#[tokio::test]
async fn an_open_folder_and_open_keys_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state");
    let folder = Folder::open(&path).unwrap();
    let keys = Keys::open(&folder).unwrap();
    let again = Keys::open(&folder).unwrap();
    assert_eq!(keys.wireguard.public(), again.wireguard.public());
    assert_eq!(keys.user_ca.public_key(), again.user_ca.public_key());
    assert_eq!(keys.recording.to_bytes(), again.recording.to_bytes());
    assert_ne!(keys.user_ca.public_key(), keys.host_ca.public_key());
    let chmod = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for name in ["wireguard", "ssh_user_ca", "ssh_host_ca", "ssh_host_ed25519", "recording.pem"] {
        let file = path.join("keys").join(name);
        chmod(&file, 0o640);
        let error = Keys::open(&folder).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(name), "{error}");
        std::fs::write(&file, "nonsense").unwrap();
        chmod(&file, 0o600);
        let error = Keys::open(&folder).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("backup"), "{error}");
        std::fs::remove_file(&file).unwrap();
        Keys::open(&folder).unwrap();
    }
    std::fs::remove_file(path.join("keys/recording.pem")).unwrap();
    let error = Keys::read(&folder).unwrap_err().to_string();
    assert!(error.contains("recording.pem is not there") && error.contains("sallyport init"), "{error}");
    assert!(!path.join("keys/recording.pem").exists(), "whoever only looks makes nothing");
    chmod(&path, 0o750);
    assert!(Folder::open(&path).unwrap_err().to_string().contains("chmod 700"));
}

#[tokio::test]
async fn one_gateway_has_the_folder_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(&place.path().join("state")).unwrap();
    let lock = folder.lock().unwrap();
    let error = folder.lock().unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(lock);
    folder.lock().unwrap();
}
