//! Roles made just in time: what callers become, what they are there, and what is left of it.

use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::sleep;

use sallyport::failure::Ending;
use sallyport::identity::Owner;
use sallyport::state::SessionFilter;

use super::Stand;
use super::middle::world;
use super::stand::{failed, ok};

const POLICY: &str = r#"{
    "tagOwners": { "tag:prod": ["alice@example.com"] },
    "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:5432"], "app": { "sallyport.dev/cap/postgres": [
        { "databases": ["postgres"], "statements": ["any"], "memberOf": ["readers"] },
        { "roles": ["both"], "databases": ["postgres"], "statements": ["any"], "memberOf": ["writers", "readers"] },
        { "roles": ["writer"], "databases": ["postgres"], "statements": ["any"], "memberOf": ["writers"] },
        { "roles": ["missing"], "databases": ["postgres"], "statements": ["any"], "memberOf": ["readers", "nobody"] },
        { "roles": ["master"], "databases": ["postgres"], "statements": ["any"], "memberOf": ["masters"] },
        { "roles": ["hidden"], "databases": ["postgres"], "statements": ["any"], "memberOf": ["indirect"] },
        { "roles": ["analyst"], "databases": ["postgres"], "statements": ["any"] },
    ] } }],
}"#;

const HOW: &str = r#"tls = "verify-full", ca = "file:server_ca.pem", login = "trust", admin = { user = "making", password = "file:password" }"#;

const GROUPS: &str = "
CREATE ROLE making LOGIN CREATEROLE PASSWORD 'hunter2';
GRANT pg_signal_backend TO making;
CREATE ROLE readers; CREATE ROLE writers; CREATE ROLE masters SUPERUSER; CREATE ROLE indirect; GRANT masters TO indirect;
GRANT readers, writers, indirect TO making WITH ADMIN OPTION;
CREATE TABLE t (n int); INSERT INTO t VALUES (7);
GRANT SELECT ON t TO readers; GRANT INSERT ON t TO writers;
";

async fn stand() -> Stand {
    stand_of(HOW).await
}

async fn stand_of(how: &str) -> Stand {
    let stand = Stand::with(POLICY, how).await;
    stand.cluster.sql(GROUPS);
    stand
}

/// The roles that were made and are there, each with its groups.
fn made(stand: &Stand) -> Vec<String> {
    let listed = stand.cluster.sql(
        "SELECT r.rolname || ' in ' || coalesce(string_agg(g.rolname, ',' ORDER BY g.rolname), '-') || CASE WHEN r.rolcanlogin THEN '!' ELSE '' END
         FROM pg_roles r LEFT JOIN pg_auth_members m ON m.member = r.oid LEFT JOIN pg_roles g ON g.oid = m.roleid
         WHERE r.rolname LIKE 'sallyport:%' GROUP BY r.rolname, r.rolcanlogin ORDER BY 1",
    );
    listed.lines().map(str::to_owned).collect()
}

/// Waits for `condition`, which has to come true.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain until {what}");
}

/// Waits until nothing is left, on the server and in the ledger.
async fn gone(stand: &Stand) {
    until("the roles are gone", || made(stand).is_empty()).await;
    struck(stand).await;
}

async fn struck(stand: &Stand) {
    let ledger = stand.middle.runner.state.roles();
    while !ledger.noted().await.unwrap().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// A session that goes on until it is dropped.
async fn sleeper(stand: &Stand, user: &str, mark: &str) -> Child {
    let mut psql: Command = stand.psql(&stand.url(user, ""), &[&format!("SELECT pg_sleep(600) /* {mark} */")]);
    let child = psql.spawn().unwrap();
    let running =
        format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%/* {mark} */' AND state = 'active'");
    until("it sleeps", || stand.cluster.sql(&running) == "1").await;
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_becomes_a_role_of_its_own_in_just_its_groups_and_it_goes_with_the_session() {
    let stand = stand().await;
    let who = "SELECT current_user, session_user, rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
               pg_has_role('readers', 'member'), pg_has_role('writers', 'member') FROM pg_roles WHERE rolname = current_user";
    let said = ok(stand.psql(&stand.url("alice", ""), &[who, "SELECT n FROM t"])).await;
    let (line, row) = said.split_once('\n').unwrap();
    let fields: Vec<&str> = line.split('|').collect();
    assert!(fields[0].starts_with("sallyport:alice@example.com:") && fields[0] == fields[1], "{line}");
    assert_eq!((&fields[2..], row), (&["f", "f", "t", "f"][..], "7"));
    let denied = failed(stand.psql(&stand.url("alice@example.com", ""), &["INSERT INTO t VALUES (8)"])).await;
    assert!(denied.contains("permission denied for table t"), "{denied}");
    ok(stand.psql(&stand.url("both", ""), &["INSERT INTO t VALUES (8)"])).await;
    gone(&stand).await;
    stand.recorded("\"type\":\"role_made\"").await;
    stand.recorded("\"type\":\"role_ended\"").await;
    let timelines = stand.timelines().await;
    assert!(
        timelines.contains("\"groups\":[\"readers\"]") && timelines.contains("\"fate\":\"dropped\""),
        "{timelines}"
    );
    assert!(timelines.contains("\"login\":\"password\"") && !timelines.contains("SCRAM"), "{timelines}");
    let logged = std::fs::read_to_string(stand.path("cluster.log")).unwrap();
    assert!(!logged.contains("terminating connection"), "sessions that end by themselves are left to: {logged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_the_same_groups_share_a_role_and_others_do_not() {
    let stand = stand().await;
    let mut first = sleeper(&stand, "alice", "one").await;
    let mut second = sleeper(&stand, "alice", "two").await;
    let mut third = sleeper(&stand, "both", "three").await;
    let there = made(&stand);
    assert_eq!(there.len(), 2, "{there:?}");
    assert!(there.iter().any(|one| one.ends_with(" in readers")), "{there:?}");
    assert!(there.iter().any(|one| one.ends_with(" in readers,writers")), "nobody may log in any more: {there:?}");
    let filter = SessionFilter { outcome: Some("live".to_owned()), ..SessionFilter::default() };
    let live = stand.middle.runner.state.sessions(&filter).await.unwrap();
    assert!(stand.middle.runner.live.end(live.last().unwrap().id, Ending::killed(None)));
    first.wait().await.unwrap();
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600) /* one */'";
    until("what the first one ran is stopped", || stand.cluster.sql(left) == "0").await;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600) /* two */' AND state = 'active'";
    assert_eq!((made(&stand), stand.cluster.sql(left).as_str()), (there, "1"));
    stand.middle.runner.live.end_all(&Ending::Shutdown);
    second.wait().await.unwrap();
    third.wait().await.unwrap();
    gone(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_owns_something_is_disabled_and_is_the_same_the_next_time() {
    let stand = stand().await;
    ok(stand.psql(&stand.url("alice", ""), &["CREATE TABLE hers AS SELECT 1 AS n"])).await;
    until("it is in no group", || made(&stand).iter().all(|one| one.ends_with(" in -"))).await;
    struck(&stand).await;
    assert_eq!(made(&stand).len(), 1);
    stand.recorded("\"fate\":\"disabled: owner of table public.hers\"").await;
    let denied = failed(stand.psql(&stand.url("both", ""), &["SELECT n FROM hers"])).await;
    assert!(denied.contains("permission denied for table hers"), "other groups, another role: {denied}");
    until("the other role is gone again", || made(&stand).len() == 1).await;
    // Whoever was given more meanwhile has it no longer.
    stand.cluster.sql("DO $$ BEGIN EXECUTE format('GRANT writers TO %I GRANTED BY making', (SELECT rolname FROM pg_roles WHERE rolname LIKE 'sallyport:%')); END $$");
    ok(stand.psql(&stand.url("alice", ""), &["SELECT n FROM t", "DROP TABLE hers"])).await;
    gone(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_do_not_exist_or_give_too_much_are_refused_by_name() {
    let stand = stand().await;
    for (user, why) in [
        ("missing", "its group nobody does not exist there"),
        ("master", "its group masters has SUPERUSER"),
        ("hidden", "its group indirect leads to masters, which has SUPERUSER"),
    ] {
        let said = failed(stand.psql(&stand.url(user, ""), &["SELECT 1"])).await;
        assert!(said.contains("orders makes no role for alice@example.com") && said.contains(why), "{said}");
    }
    assert!(made(&stand).is_empty());
    assert_eq!(ok(stand.psql(&stand.url("analyst", ""), &["SELECT current_user"])).await, "analyst");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_the_same_name_that_somebody_else_made_is_not_taken() {
    let stand = stand().await;
    let name = ok(stand.psql(&stand.url("alice", ""), &["SELECT current_user"])).await;
    gone(&stand).await;
    stand.cluster.sql(&format!("CREATE ROLE \"{name}\" LOGIN"));
    let said = failed(stand.psql(&stand.url("alice", ""), &["SELECT 1"])).await;
    assert!(said.contains("that this gateway has not made"), "{said}");
    struck(&stand).await;
    assert_eq!(made(&stand), [format!("{name} in -!")], "it is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_that_cannot_log_in_or_make_roles_denies_and_tells_no_secret() {
    let stand = stand().await;
    stand.cluster.sql("ALTER ROLE making PASSWORD 'another'");
    let said = failed(stand.psql(&stand.url("alice", ""), &["SELECT 1"])).await;
    assert!(
        said.contains("makes no role for alice@example.com") && said.contains("admin login there failed"),
        "{said}"
    );
    assert!(!said.contains("hunter2") && !said.contains("making"), "{said}");
    stand.cluster.sql("ALTER ROLE making PASSWORD 'hunter2' NOCREATEROLE");
    let said = failed(stand.psql(&stand.url("alice", ""), &["SELECT 1"])).await;
    assert!(said.contains("permission denied to create role"), "{said}");
    stand.cluster.sql("ALTER ROLE making CREATEROLE");
    ok(stand.psql(&stand.url("alice", ""), &["SELECT 1"])).await;
    gone(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_that_went_away_keeps_is_swept_up_when_it_is_back() {
    let mut stand = stand().await;
    let mut sleeping = sleeper(&stand, "alice", "one").await;
    assert_eq!(made(&stand).len(), 1);
    stand.cluster.restart();
    sleeping.wait().await.unwrap();
    gone(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_at_once_all_get_their_role() {
    let stand = stand().await;
    let mut bench = stand.client("pgbench");
    let script = stand.path("one.sql");
    std::fs::write(&script, "SELECT n FROM t;\n").unwrap();
    bench.args(["-n", "-C", "-c", "8", "-j", "2", "-t", "5", "-f", &script, &stand.url("alice", "")]);
    let said = ok(bench).await;
    assert!(said.contains("number of transactions actually processed: 40/40"), "{said}");
    gone(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_and_a_role_with_no_password_show_certificates() {
    let how = HOW.replace(r#", password = "file:password""#, "").replace("making", "minting");
    let stand = stand_of(&how.replace(r#"login = "trust""#, r#"login = "certificate""#)).await;
    stand.cluster.sql(
        "CREATE ROLE minting LOGIN CREATEROLE; GRANT pg_signal_backend TO minting; GRANT writers TO minting WITH ADMIN OPTION",
    );
    let said = ok(stand.psql(&stand.url("writer", ""), &["SELECT current_user", "INSERT INTO t VALUES (9)"])).await;
    assert!(said.starts_with("sallyport:alice@example.com:"), "{said}");
    stand.recorded("\"login\":\"certificate\"").await;
    gone(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_hostile_names_get_roles_and_nothing_else() {
    let stand = stand().await;
    let policy = POLICY.replace(r#""src": ["alice@example.com"]"#, r#""src": ["*"]"#);
    let long = format!("{}@example.com", "x".repeat(120));
    let names = ["o'brien\"; DROP TABLE t; --@example.com", "\u{fc}n\u{ef}c\\\u{f6}d\u{e9}$$@example.com", &long];
    for (revision, name) in (2..).zip(names) {
        let mut device = stand.middle.device.clone();
        device.owner = Owner::User(name.to_owned());
        stand.middle.world.send_replace(world(revision, &policy, &[&device], &[&stand.middle.target]));
        let said = ok(stand.psql(&stand.url("both", ""), &["SELECT current_user", "SELECT n FROM t"])).await;
        let (role, row) = said.split_once('\n').unwrap();
        assert!(role.starts_with("sallyport:") && role.len() <= 63 && role.is_ascii(), "{name}: {role}");
        assert!(!role.contains(['\'', '"', ';', '\\', '$']), "{name}: {role}");
        assert_eq!(row, "7", "{name}");
        gone(&stand).await;
    }
}
