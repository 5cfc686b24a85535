//! A whole gateway's middle in one process: the memory tailnet, a policy, a recording on disk, and brokers made for the case.

#[path = "../../tests/middle/mod.rs"]
mod middle;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sallyport_recorder::{Event, SessionId};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Session, run};
use crate::access::{Approach, Refusal};
use crate::clock::Clock;
use crate::failure::{Ending, Failure, Stage};
use crate::identity::{Device, Owner};
use crate::state::SessionRow;
use crate::target::Target;
use middle::{Calls, Middle, world};

const POLICY: &str = r#"{
    "tagOwners": { "tag:prod": ["alice@example.com"] },
    "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"] }],
    "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["ubuntu"] }],
}"#;
const NOTHING: &str = "{}";
const TARGET: &str = r#"
    [[target]]
    name = "web1"
    tags = ["tag:prod"]
    ssh  = { address = "127.0.0.1:1", host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ" }
"#;

/// A middle that can be called, and the folder that it lives in.
struct Stand {
    middle: Middle,
    calls: Calls,
    folder: TempDir,
}

impl Stand {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (middle, calls) = Middle::new(folder.path(), POLICY, TARGET, Clock::from_fn(now)).await;
        Self { middle, calls, folder }
    }

    fn change(&self, revision: u64, policy: &str, devices: &[&Device], targets: &[&Target]) {
        self.middle.world.send_replace(world(revision, policy, devices, targets));
    }

    async fn approach(&mut self) -> Result<Approach, Refusal> {
        self.approach_port(22).await
    }

    async fn approach_port(&mut self, port: u16) -> Result<Approach, Refusal> {
        let Middle { runner, device, target, .. } = &self.middle;
        let to = (target.addresses[0], port).into();
        let origin = self.calls.origin(device.key, device.addresses[0], to).await;
        runner.access.approach(&origin)
    }

    /// Runs a session whose broker is `broker`, and gives the row that it leaves.
    async fn run<B, F>(&mut self, broker: B) -> SessionRow
    where
        B: FnOnce(Arc<Session>) -> F,
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let approach = self.approach().await.unwrap();
        let id = SessionId::new(now());
        run(&self.middle.runner, approach, id, broker).await;
        self.middle.runner.state.session(&id.to_string()).await.unwrap()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn outcome(row: &SessionRow) -> (&str, &str) {
    (row.outcome.as_deref().unwrap_or("-"), row.reason.as_deref().unwrap_or("-"))
}

#[tokio::test]
async fn denies_whoever_is_not_enrolled_expired_or_not_at_its_own_address() {
    let mut stand = Stand::new().await;
    let device = stand.middle.device.clone();
    let origin =
        stand.calls.origin(device.key, device.addresses[0], (stand.middle.target.addresses[0], 22).into()).await;
    let expired = Device { expires: Some(now()), ..device.clone() };
    let elsewhere = Device { addresses: vec!["100.64.0.3".parse().unwrap()], ..device.clone() };
    let cases: [(&str, &[&Device], &str); 4] = [
        ("removed", &[], "not enrolled"),
        ("expired", &[&expired], "expired"),
        ("another address", &[&elsewhere], "not an address"),
        ("as enrolled", &[&device], "allowed"),
    ];
    for (name, devices, expected) in cases {
        stand.change(2, POLICY, devices, &[&stand.middle.target]);
        let told = match stand.middle.runner.access.approach(&origin) {
            Ok(_) => "allowed".to_owned(),
            Err(refusal) => refusal.failure.to_string(),
        };
        assert!(told.contains(expected), "{name}: {told}");
    }
}

#[tokio::test]
async fn denies_a_target_that_no_rule_names() {
    let mut stand = Stand::new().await;
    stand.change(2, NOTHING, &[&stand.middle.device], &[&stand.middle.target]);
    let refusal = stand.approach().await.unwrap_err();
    assert!(matches!(refusal.failure, Failure::Denied(_)));
    assert!(refusal.caller.is_some() && refusal.target.is_some());
}

#[tokio::test]
async fn denies_a_protocol_that_the_target_does_not_speak() {
    let mut stand = Stand::new().await;
    let database = r#""tcp:1-65535"], "app": { "sallyport.dev/cap/postgres": [{ "roles": ["ubuntu"], "databases": ["orders"], "statements": ["any"] }] }"#;
    let open = POLICY.replace(r#""tcp:22"]"#, database);
    stand.change(2, &open, &[&stand.middle.device], &[&stand.middle.target]);
    for (port, sentence) in [(5432, "web1 is not reached over Postgres"), (80, "nothing is brokered on port 80")] {
        let refusal = stand.approach_port(port).await.unwrap_err();
        assert!(matches!(&refusal.failure, Failure::Denied(told) if told.contains(sentence)), "{refusal:?}");
    }
    assert!(stand.approach().await.is_ok());
}

#[tokio::test]
async fn an_approach_for_one_protocol_gives_no_permit_for_another() {
    let mut stand = Stand::new().await;
    let row =
        stand.run(|session| async move { session.authorize_postgres("ubuntu", "orders").map(|_permit| ()) }).await;
    assert_eq!(outcome(&row).0, "failed");
    assert_eq!(row.rule, None);
}

#[tokio::test]
async fn a_denied_account_leaves_the_earlier_permit_behind() {
    let mut stand = Stand::new().await;
    let row = stand
        .run(|session| async move {
            assert_eq!(session.authorize_ssh("ubuntu")?.account(), "ubuntu");
            session.authorize_ssh("root").map(|_permit| ())
        })
        .await;
    assert_eq!(outcome(&row).0, "denied");
    assert_eq!((row.account.as_deref(), row.rule), (Some("root"), None));
}

#[tokio::test]
async fn an_account_of_endless_length_is_denied_and_not_kept_whole() {
    let mut stand = Stand::new().await;
    let row = stand.run(|session| async move { session.authorize_ssh(&"ä".repeat(100_000)).map(|_permit| ()) }).await;
    assert_eq!(outcome(&row), ("denied", "no account has a name of more than 256 characters"));
    assert_eq!(row.account, Some("ä".repeat(256)));
}

#[tokio::test]
async fn a_client_forges_no_line_of_the_log_by_what_it_asks_for() {
    let mut stand = Stand::new().await;
    let why = "the setting a\n2027-01-15T08:00:00Z  INFO session ended\u{1b}[2K is not allowed";
    let row = stand.run(move |_| async move { Err(Failure::Denied(why.to_owned())) }).await;
    let (outcome, reason) = outcome(&row);
    assert!(
        outcome == "denied" && reason.contains("session ended") && !reason.chars().any(char::is_control),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_permitted_session_is_recorded_and_listed() {
    let mut stand = Stand::new().await;
    let row = stand
        .run(|session| async move {
            let permit = session.authorize_ssh("ubuntu")?;
            assert!(permit.rule().starts_with("ssh[0]"), "{}", permit.rule());
            session.record(Event::Shell { channel: 0 }).await
        })
        .await;
    assert_eq!(outcome(&row).0, "completed");
    assert_eq!(row.account.as_deref(), Some("ubuntu"));
    assert!(row.recording.unwrap().join("manifest.json").exists());
    assert!(stand.middle.runner.state.checkpoint(row.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_that_goes_on_is_listed_with_its_account() {
    let mut stand = Stand::new().await;
    let state = stand.middle.runner.state.clone();
    let row = stand
        .run(|session| async move {
            let permit = session.authorize_ssh("ubuntu")?;
            let listed = async {
                loop {
                    let row = state.session(&session.id().to_string()).await.unwrap();
                    if row.account.is_some() {
                        return row;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let row = tokio::time::timeout(Duration::from_secs(20), listed).await.expect("it was never listed");
            assert_eq!((row.account.as_deref(), row.rule.as_deref()), (Some("ubuntu"), Some(permit.rule())));
            assert_eq!(row.ended, None);
            Ok(())
        })
        .await;
    assert_eq!(outcome(&row).0, "completed");
}

#[tokio::test]
async fn every_change_that_forbids_a_live_session_ends_it() {
    let mut stand = Stand::new().await;
    let (device, target) = (stand.middle.device.clone(), stand.middle.target.clone());
    let renamed = Device { owner: Owner::User("bob@example.com".into()), ..device.clone() };
    let moved = Target { tags: vec![], ..target.clone() };
    let unrecorded = POLICY.replace(
        r#""ip": ["tcp:22"]"#,
        r#""ip": ["tcp:22"], "app": { "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {}, "sftp": { "download": true, "upload": true }, "recording": "off" }] }"#,
    );
    let cases: [(&str, &str, &[&Device], &[&Target]); 6] = [
        ("another recording rule", &unrecorded, &[&device], &[&target]),
        ("policy", NOTHING, &[&device], &[&target]),
        ("device removed", POLICY, &[], &[&target]),
        ("another owner", POLICY, &[&renamed], &[&target]),
        ("target removed", POLICY, &[&device], &[]),
        ("target changed", POLICY, &[&device], &[&moved]),
    ];
    for (at, (name, policy, devices, targets)) in (1..).zip(cases) {
        stand.change(at * 10, POLICY, &[&device], &[&target]);
        let (up, is_up) = oneshot::channel();
        let approach = stand.approach().await.unwrap();
        let (runner, id) = (Arc::clone(&stand.middle.runner), SessionId::new(now()));
        let running = tokio::spawn(async move {
            run(&runner, approach, id, |session| async move {
                let _permit = session.authorize_ssh("ubuntu")?;
                let _ = up.send(());
                let ending = session.ended().await;
                Err(Failure::Denied(ending.to_string()))
            })
            .await;
        });
        is_up.await.unwrap();
        stand.change(at * 10 + 1, policy, devices, targets);
        assert!(stand.middle.runner.live.settled(at * 10 + 1, Duration::from_secs(10)).await, "{name}");
        running.await.unwrap();
        let row = stand.middle.runner.state.session(&id.to_string()).await.unwrap();
        assert_eq!(outcome(&row).0, "revoked", "{name}");
    }
}

#[tokio::test]
async fn a_session_whose_connection_breaks_as_its_right_is_withdrawn_ends_for_want_of_the_right() {
    let mut stand = Stand::new().await;
    let (device, target) = (stand.middle.device.clone(), stand.middle.target.clone());
    // More than once: two reasons that come at a time might be taken in either order.
    for at in (10..30).step_by(2) {
        stand.change(at, POLICY, &[&device], &[&target]);
        let (up, is_up) = oneshot::channel();
        let (cut, is_cut) = oneshot::channel::<()>();
        let approach = stand.approach().await.unwrap();
        let (runner, id) = (Arc::clone(&stand.middle.runner), SessionId::new(now()));
        let running = tokio::spawn(async move {
            run(&runner, approach, id, |session| async move {
                let _permit = session.authorize_ssh("ubuntu")?;
                let _ = up.send(());
                let _ = is_cut.await;
                Ok(())
            })
            .await;
        });
        is_up.await.unwrap();
        let _ = cut.send(());
        stand.change(at + 1, POLICY, &[], &[&target]);
        running.await.unwrap();
        let row = stand.middle.runner.state.session(&id.to_string()).await.unwrap();
        assert_eq!(outcome(&row).0, "revoked");
    }
}

#[tokio::test]
async fn a_change_that_takes_rights_leaves_the_session_with_the_rest_at_once() {
    let mut stand = Stand::new().await;
    let narrowed = POLICY
        .replace(r#""ip": ["tcp:22"]"#, r#""ip": ["tcp:22"], "app": { "sallyport.dev/cap/ssh": [{ "shell": {} }] }"#);
    let (up, is_up) = oneshot::channel();
    let approach = stand.approach().await.unwrap();
    let (runner, id) = (Arc::clone(&stand.middle.runner), SessionId::new(now()));
    let running = tokio::spawn(async move {
        run(&runner, approach, id, |session| async move {
            let first = session.authorize_ssh("ubuntu")?;
            assert_eq!(first.capability().exec, sallyport_policies::ExecRule::Any);
            let mut permits = session.ssh_permits();
            let _ = up.send(());
            permits.renewed().await;
            let permit = permits.now().map_err(Failure::Denied)?;
            assert_eq!((permit.account(), permit.capability().shell), ("ubuntu", true));
            assert_eq!(permit.capability().exec, sallyport_policies::ExecRule::None);
            assert_eq!(permit.recording(), first.recording());
            Ok(())
        })
        .await;
    });
    is_up.await.unwrap();
    stand.change(2, &narrowed, &[&stand.middle.device], &[&stand.middle.target]);
    running.await.unwrap();
    let row = stand.middle.runner.state.session(&id.to_string()).await.unwrap();
    assert_eq!(outcome(&row).0, "completed", "{row:?}");
}

#[tokio::test]
async fn a_session_ends_at_the_limits_of_its_permit() {
    let limited = |limit: &str| {
        POLICY.replace(
            r#""ip": ["tcp:22"]"#,
            &format!(r#""ip": ["tcp:22"], "app": {{ "sallyport.dev/cap/ssh": [{{ "shell": {{}}, {limit} }}] }}"#),
        )
    };
    for (limit, reason) in [(r#""maxDuration": "1s""#, "may last 1s"), (r#""idleTimeout": "1s""#, "idle for 1s")] {
        let mut stand = Stand::new().await;
        stand.change(2, &limited(limit), &[&stand.middle.device], &[&stand.middle.target]);
        let row = stand
            .run(|session| async move {
                let _permit = session.authorize_ssh("ubuntu")?;
                Err(Failure::Denied(session.ended().await.to_string()))
            })
            .await;
        assert_eq!(outcome(&row).0, "expired", "{limit}");
        assert!(outcome(&row).1.contains(reason), "{row:?}");
    }
}

#[tokio::test]
async fn a_change_that_still_allows_a_session_leaves_it_alone() {
    let more = POLICY.replace(
        r#""users": ["ubuntu"]"#,
        r#""users": ["ubuntu", "root"], "acceptEnv": ["LC_*"], "enforceRecorder": false"#,
    );
    let moved = POLICY.replace(r#""ssh": ["#, "\n\n\"ssh\": [");
    for policy in [POLICY, &more, &moved] {
        leaves_alone(policy).await;
    }
}

/// A session goes on when `policy` takes the place of the usual one.
async fn leaves_alone(policy: &str) {
    let mut stand = Stand::new().await;
    let (up, is_up) = oneshot::channel();
    let (finish, finished) = oneshot::channel::<()>();
    let approach = stand.approach().await.unwrap();
    let (runner, id) = (Arc::clone(&stand.middle.runner), SessionId::new(now()));
    let running = tokio::spawn(async move {
        run(&runner, approach, id, |session| async move {
            let _permit = session.authorize_ssh("ubuntu")?;
            let _ = up.send(());
            tokio::select! {
                ending = session.ended() => Err(Failure::Ours(ending.to_string())),
                _ = finished => Ok(()),
            }
        })
        .await;
    });
    is_up.await.unwrap();
    stand.change(2, policy, &[&stand.middle.device], &[&stand.middle.target]);
    assert!(stand.middle.runner.live.settled(2, Duration::from_secs(10)).await);
    let _ = finish.send(());
    running.await.unwrap();
    let row = stand.middle.runner.state.session(&id.to_string()).await.unwrap();
    assert_eq!(outcome(&row).0, "completed", "{policy}");
}

#[tokio::test]
async fn a_required_recording_that_cannot_be_opened_dials_nobody_and_permits_nothing() {
    let mut stand = Stand::new().await;
    std::fs::remove_dir_all(stand.folder.path().join("recordings")).unwrap();
    std::fs::write(stand.folder.path().join("recordings"), "in the way").unwrap();
    let row = stand
        .run(|session| async move {
            assert!(matches!(session.dial().await, Err(Failure::Recording(_))));
            session.authorize_ssh("ubuntu").map(|_permit| ())
        })
        .await;
    assert_eq!(outcome(&row).0, "recording");
}

#[tokio::test]
async fn a_target_that_is_down_is_named_with_its_stage() {
    let mut stand = Stand::new().await;
    let row = stand.run(|session| async move { session.dial().await.map(|_stream| ()) }).await;
    assert_eq!(outcome(&row).0, "target");
    assert!(outcome(&row).1.contains(&format!("web1: {} failed", Stage::Dial)), "{row:?}");
}

#[tokio::test]
async fn a_panic_ends_its_own_session_alone() {
    let mut stand = Stand::new().await;
    let row = stand.run(|_session| async move { panic!("a bug in a broker") }).await;
    assert_eq!(outcome(&row).0, "failed");
    assert!(outcome(&row).1.contains("not all of it is recorded"), "{row:?}");
    assert_eq!(stand.middle.runner.live.count(), 0);
    let row = stand.run(|_session| async move { Ok(()) }).await;
    assert_eq!(outcome(&row).0, "completed");
}

#[tokio::test]
async fn a_broker_that_does_not_say_goodbye_is_stopped() {
    let mut stand = Stand::new().await;
    let live = stand.middle.runner.live.clone();
    let row = stand
        .run(|session| async move {
            live.end(session.id(), Ending::killed(Some("a lost\x1b laptop")));
            std::future::pending().await
        })
        .await;
    assert_eq!(outcome(&row), ("killed", "an operator ended this session: a lost\u{fffd} laptop"));
}
