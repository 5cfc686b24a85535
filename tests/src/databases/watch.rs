//! `sallyport sessions watch` on a database session: each statement as it is over, and an end that both sides hear of.

use super::Stand;
use crate::live::{live, outcome, watch};
use e2e::Talk;

#[test]
fn a_database_session_is_watched_statement_by_statement_and_ended() {
    let stand = Stand::new();
    let mut command = stand.client("psql");
    command.env("PGAPPNAME", "the books").args(["-X", "-At"]);
    let mut psql = Talk::start(command);
    psql.say("SELECT 'before', 40 + 1;");
    psql.expect("before|41");
    let id = live(&stand.world)[0].clone();
    let lines = Talk::start(stand.world.command(&["sessions", "watch", &id]));
    let mut json = Talk::start(stand.world.command(&["sessions", "watch", &id, "--json"]));
    let screen = watch(&stand.world, &[&id]);
    // Whoever joins late sees what was, and then what comes.
    lines.expect("the books is in orders as dba");
    lines.expect("SELECT 'before', 40 + 1; → SELECT 1, 1 row");
    json.expect("40 + 1");
    screen.wait_for("SELECT 'before', 40 + 1;");
    psql.say("SELECT n FROM generate_series(1, 3) n;");
    lines.expect("SELECT n FROM generate_series(1, 3) n; → SELECT 3, 3 rows");
    json.expect("\"tag\":\"SELECT 3\"");
    screen.wait_for("SELECT 3, 3 rows");
    psql.say("SELECT 1 / 0;");
    lines.expect("SELECT 1 / 0; → ERROR 22012: division by zero");
    json.expect("22012");
    psql.say("SET ROLE analyst; INSERT INTO nowhere VALUES (1);");
    lines.expect("ERROR 42P01");
    psql.say("SELECT pg_sleep(600);");
    e2e::wait_until("it runs", || {
        stand.orders.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600);'") == "1"
    });
    let _killed = stand.world.sallyport(&["sessions", "kill", &id, "--reason", "enough"]).ok();
    lines.expect("SELECT pg_sleep(600); → NOT FINISHED");
    lines.expect("ended: killed");
    screen.wait_for("ended with 0");
    assert_eq!(json.end(), 0);
    let heard = json.heard();
    let events = heard.lines().filter(|line| line.starts_with('{'));
    assert!(events.clone().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{heard}");
    assert_eq!(events.filter(|line| line.contains("\"type\":\"end\"")).count(), 1, "{heard}");
    psql.expect("an operator ended this session: enough");
    let (outcome, reason) = outcome(&stand.world, &id);
    assert!(outcome == "killed" && reason.contains("enough"), "{outcome}: {reason}");
}
