//! Targets and clients on a bad day.

use std::time::Duration;

use sallyport::postgres::wire::{ErrorFields, HEADER, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Stand;
use super::middle::world;
use super::rules::{query, session};
use super::stand::{failed, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_down_or_full_is_named_with_its_stage() {
    let mut stand = Stand::new().await;
    stand.cluster.sql("ALTER ROLE analyst CONNECTION LIMIT 0");
    let said = failed(stand.psql(&stand.url("analyst", ""), &["SELECT 1"])).await;
    assert!(said.contains("orders could not be reached: login failed: FATAL: too many connections"), "{said}");
    stand.cluster.stop();
    let said = failed(stand.psql(&stand.url("analyst", ""), &["SELECT 1"])).await;
    assert!(said.contains("orders could not be reached: dial failed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_restarts_in_mid_query_says_so_and_comes_back() {
    let mut stand = Stand::new().await;
    let sleeper = stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"]);
    let sleeper = tokio::spawn(failed(sleeper));
    while stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stand.cluster.restart();
    let said = sleeper.await.unwrap();
    assert!(said.contains("terminating connection due to administrator command"), "{said}");
    assert_eq!(stand.ask(&["SELECT 1"]).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_a_start_reach_nobody() {
    let stand = Stand::new().await;
    for (name, bytes) in [
        ("HTTP", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("a huge length", b"\x7f\xff\xff\xff\0\x03\0\0"),
        ("TLS that is none", b"\x16\x03\x01\x00\x05hello"),
        ("a request for TLS with something behind it", b"\0\0\0\x08\x04\xd2\x16\x2fuser\0analyst\0\0"),
        ("no user", b"\0\0\0\x09\0\x03\0\0\0"),
        ("a cancellation of nobody", b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02"),
    ] {
        let mut client = stand.connect().await;
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), client.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{name}: it is left waiting");
        assert!(!answer.windows(5).any(|window| window == b"R\0\0\0\x08"), "{name}: it was let in");
    }
    let mut silent = stand.connect().await;
    silent.write_all(b"\0\0\0\x30\0\x03\0\0user\0").await.unwrap();
    assert_eq!(stand.ask(&["SELECT 1"]).await, "1", "nobody waits for it");
    let rows = stand.middle.runner.state.sessions(&Default::default()).await.unwrap();
    assert_eq!(rows.len(), 2, "what asked for no session left none: {rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_in_the_clear_is_not_taken_for_something_inside_tls() {
    let stand = Stand::new().await;
    let mut client = stand.connect().await;
    let startup = b"\0\x03\0\0user\0analyst\0database\0postgres\0\0";
    let length = u32::try_from(4 + startup.len()).unwrap().to_be_bytes();
    let early = [sallyport::postgres::wire::tls_request(), [&length[..], startup].concat()].concat();
    client.write_all(&early).await.unwrap();
    let mut said = Vec::new();
    let reading = client.read_to_end(&mut said);
    // An alert, and the end: or the end alone, where the rest was not read.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.expect("it goes on");
    assert_eq!(said.first(), Some(&b'S'));
    assert!(!said.windows(4).any(|part| part == b"utf8" || part == b"UTF8"), "{}", said.escape_ascii());
    assert_eq!(stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'analyst'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_an_operator_ends_hears_why() {
    let stand = Stand::new().await;
    let sleeper = tokio::spawn(failed(stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"])));
    while stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stand.middle.runner.live.end_all(&sallyport::failure::Ending::killed(None));
    let said = sleeper.await.unwrap();
    assert!(said.contains("terminating connection: an operator ended this session"), "{said}");
    stopped(&stand).await;
    assert_eq!(ok(stand.psql(&stand.url("analyst", ""), &["SELECT 2"])).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_in_mid_statement_leaves_nothing_running() {
    let stand = Stand::new().await;
    let mut sleeper = stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"]).spawn().unwrap();
    while stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sleeper.kill().await.unwrap();
    stopped(&stand).await;
    stand.recorded("\"unfinished\":true").await;
    assert_eq!(outcome(&stand).await, "completed", "a client that is gone is nobody's fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_fails_ends_its_session_between_two_answers_and_says_why() {
    let stand = Stand::new().await;
    let mut client = session(&stand, "analyst").await;
    std::fs::remove_dir_all(stand.path("recordings")).unwrap();
    let (mut reader, mut writer) = client.split();
    let asking = async {
        while writer.write_all(&query("SELECT 'carried'")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut said = Vec::new();
    tokio::select! {
        () = asking => {}
        read = tokio::time::timeout(Duration::from_secs(60), reader.read_to_end(&mut said)) => {
            read.expect("it goes on").unwrap();
        }
    }
    reader.read_to_end(&mut said).await.unwrap();
    let mut last = &[][..];
    let mut rest = said.as_slice();
    while let Some(header) = Header::read(rest).unwrap() {
        (last, rest) = rest.split_at(HEADER + header.payload());
    }
    assert!(rest.is_empty() && last.first() == Some(&b'E'), "{}", last.escape_ascii());
    let error = ErrorFields::read(&last[HEADER..]);
    assert!(error.severity == "FATAL" && error.message.contains("its recording cannot be written"), "{error:?}");
    while stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'analyst'") != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(outcome(&stand).await, "recording");
}

/// How the session ended that began last, once its row is closed, which it is after its recording.
async fn outcome(stand: &Stand) -> String {
    loop {
        let mut rows = stand.middle.runner.state.sessions(&Default::default()).await.unwrap();
        match rows.remove(0).outcome {
            Some(outcome) => break outcome,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Waits until the server runs no statement of a session's any more; it would for ten minutes by itself.
async fn stopped(stand: &Stand) {
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'";
    let stopped = async {
        while stand.cluster.sql(running) != "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), stopped).await.expect("it runs on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_withdraws_the_role_ends_the_session() {
    let stand = Stand::new().await;
    let sleeper = tokio::spawn(failed(stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"])));
    while stand.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let policy = super::stand::POLICY.replace("\"analyst\", ", "");
    stand.middle.world.send_replace(world(2, &policy, &[&stand.middle.device], &[&stand.middle.target]));
    let said = sleeper.await.unwrap();
    assert!(said.contains("terminating connection: access was withdrawn"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longest_duration_and_an_idle_time_end_the_session_and_say_so() {
    for (limit, words) in [(r#""maxDuration": "2s""#, "may last 2s"), (r#""idleTimeout": "2s""#, "idle for")] {
        let policy = super::stand::POLICY.replace(r#""replication": {}"#, &format!(r#""replication": {{}}, {limit}"#));
        let stand = Stand::with(&policy, r#"tls = "disable", login = "trust""#).await;
        let said = failed(stand.psql(&stand.url("analyst", ""), &["SELECT pg_sleep(600)"])).await;
        assert!(said.contains("terminating connection") && said.contains(words), "{limit}: {said}");
        stopped(&stand).await;
    }
}
