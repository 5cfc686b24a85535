//! What the policy says about statements, results and settings.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Stand;
use super::stand::{failed, ok, run};

async fn stand() -> Stand {
    let stand = Stand::new().await;
    stand
        .cluster
        .sql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 5000); GRANT ALL ON t TO PUBLIC");
    stand
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_statement_never_reaches_the_server_and_the_session_lives() {
    let stand = stand().await;
    let url = stand.url("reader", "");
    let output = run(stand.psql(&url, &["DELETE FROM t", "SELECT count(*) FROM t", "SELECT 1; DELETE FROM t"])).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("ERROR:").count(), 2, "{said}");
    assert!(said.contains("DETAIL:  the policy's grants[0]") && said.contains("HINT:"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "5000\n", "a text is refused whole");
    stand.recorded("\"type\":\"statement_refused\"").await;
    let logged = std::fs::read_to_string(stand.path("cluster.log")).unwrap();
    assert!(!logged.contains("DELETE"), "{logged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_behaves_as_after_an_error_of_the_servers_own() {
    let stand = stand().await;
    let statements = ["BEGIN", "DELETE FROM t", "SELECT 1", "COMMIT", "SELECT 2"];
    let output = run(stand.psql(&stand.url("reader", ""), &statements)).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("current transaction is aborted"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_passed_over_from_a_refused_statement_to_its_sync() {
    let stand = stand().await;
    let mut client = session(&stand, "reader").await;
    let pipeline =
        [run_by_execute("SELECT 1"), run_by_execute("DELETE FROM t"), run_by_execute("SELECT 2"), sync()].concat();
    client.write_all(&[pipeline, run_by_execute("SELECT 3"), sync()].concat()).await.unwrap();
    assert_eq!(
        answers(&mut client).await,
        "12DCEZ",
        "the first is answered, the second refused, the third passed over"
    );
    assert_eq!(answers(&mut client).await, "12DCZ");
    // Refused in front of something that is under way, and answered behind it.
    let simple =
        [query("SELECT pg_catalog.count(*) FROM t a, t b"), query("DELETE FROM t"), query("SELECT 4")].concat();
    client.write_all(&simple).await.unwrap();
    assert_eq!(answers(&mut client).await, "TDCZ");
    assert_eq!(answers(&mut client).await, "EZ");
    assert_eq!(answers(&mut client).await, "TDCZ");
    assert_eq!(stand.cluster.sql("SELECT count(*) FROM t"), "5000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_may_only_read_cannot_undo_that() {
    let stand = stand().await;
    let url = stand.url("reader", "");
    assert_eq!(ok(stand.psql(&url, &["SHOW transaction_read_only"])).await, "on");
    for undoing in [
        "SET default_transaction_read_only = off",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "RESET transaction_read_only",
        "BEGIN READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "SET ROLE analyst",
    ] {
        let said = failed(stand.psql(&url, &[undoing])).await;
        assert!(said.contains("ERROR:") && said.contains("the policy's grants[0]"), "{undoing}: {said}");
    }
    for options in
        ["-c default_transaction_read_only=off", "-c role=analyst", "--session-authorization=analyst", "-d 5"]
    {
        let url = stand.url("reader", &format!("options='{options}'"));
        let output = run(stand.psql(&url, &["SHOW transaction_read_only"])).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("not allowed") || said.contains("only settings"), "{options}: {said}");
    }
    // What the rule forbids in words, the server forbids in deed.
    stand.cluster.sql("CREATE FUNCTION sneaky() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING n'");
    stand.cluster.sql("CREATE VIEW harmless AS SELECT sneaky(); GRANT ALL ON harmless TO PUBLIC");
    let said = failed(stand.psql(&url, &["SELECT * FROM harmless"])).await;
    assert!(said.contains("read-only transaction"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_too_large_is_stopped_and_the_session_lives() {
    let stand = stand().await;
    let url = stand.url("reader", "");
    assert_eq!(ok(stand.psql(&url, &["SELECT n FROM t LIMIT 1000"])).await.lines().count(), 1000);
    // Longer than it takes to stop it: one that is over before ends the session.
    let large = "SELECT a.n FROM t a, t b, t c";
    let output = run(stand.psql(&url, &[large, "SELECT 'alive'"])).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the result is larger than the policy allows: at most 1000 rows"), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with("alive\n") && printed.lines().count() <= 1001, "{}", printed.lines().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_read_only_any_more_ends_whether_its_client_leaves_or_not() {
    let stand = stand().await;
    let undo = "SELECT set_config('default_transaction_read_only', 'off', false)";
    stand.cluster.sql(&format!("CREATE FUNCTION undo() RETURNS text LANGUAGE sql AS $$ {undo} $$"));
    stand.cluster.sql("CREATE VIEW undoing AS SELECT undo(); GRANT ALL ON undoing TO PUBLIC");
    let mut client = session(&stand, "reader").await;
    client.write_all(&query("SELECT * FROM undoing")).await.unwrap();
    let mut said = Vec::new();
    let reading = client.read_to_end(&mut said);
    tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.expect("it does not end").unwrap();
    assert!(String::from_utf8_lossy(&said).contains("this session may only read"), "{}", said.escape_ascii());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_hidden_behind_an_endless_name() {
    let stand = stand().await;
    stand.cluster.sql("CREATE FUNCTION unknown_one() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    let mut client = session(&stand, "reader").await;
    let padded = format!("SELECT 1{}, unknown_one()", " ".repeat(300_000));
    for (name, text) in [
        ("x".repeat(700_000), "SELECT unknown_one()".to_owned()),
        ("x".repeat(400_000), padded.clone()),
        ("x".repeat(1_001), "SELECT unknown_one()".to_owned()),
        (String::new(), padded.clone()),
        ("x".repeat(1_000), padded),
    ] {
        let parse = message(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        client.write_all(&[parse, bind, message(b'E', &[0; 5]), sync()].concat()).await.unwrap();
        assert_eq!(answers(&mut client).await, "EZ", "{} {}", name.len(), text.len());
    }
    // Where everything is allowed, it would not be recorded.
    let mut client = session(&stand, "analyst").await;
    let parse = message(b'P', format!("{}\0SELECT 1\0\0\0", "x".repeat(70_000)).as_bytes());
    client.write_all(&[parse, sync()].concat()).await.unwrap();
    assert_eq!(answers(&mut client).await, "EZ");
    stand.recorded("the name of a prepared statement or portal is longer").await;
}

/// A session that is ready.
pub(crate) async fn session(stand: &Stand, role: &str) -> TcpStream {
    let mut client = stand.connect().await;
    let startup = format!("\0\x03\0\0user\0{role}\0database\0postgres\0\0");
    let length = u32::try_from(4 + startup.len()).unwrap();
    client.write_all(&[&length.to_be_bytes(), startup.as_bytes()].concat()).await.unwrap();
    answers(&mut client).await;
    client
}

/// The tags of the messages up to the next ReadyForQuery.
pub(crate) async fn answers(client: &mut TcpStream) -> String {
    let mut tags = String::new();
    loop {
        let mut header = [0; 5];
        let reading = client.read_exact(&mut header);
        tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.expect("no answer").unwrap();
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        client.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        tags.push(char::from(header[0]));
        if header[0] == b'Z' {
            return tags;
        }
    }
}

pub(crate) fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
    sallyport::postgres::wire::message(tag, payload)
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub(crate) fn run_by_execute(text: &str) -> Vec<u8> {
    let parse = message(b'P', format!("\0{text}\0\0\0").as_bytes());
    [parse, message(b'B', &[0; 8]), message(b'E', &[0; 5])].concat()
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}
