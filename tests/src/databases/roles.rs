//! Roles made just in time, by the gateway as it is run, on servers of several generations.

use super::versions::{copied, server};
use super::{ORDERS, PASSWORD, POLICY, Stand, TARGET, prepare, write_secret};
use e2e::{Postgres, Process, Setup, World, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;

#[test]
fn a_role_that_a_killed_gateway_has_left_is_swept_up_at_its_next_start() {
    killed(None);
}

#[test]
fn so_it_is_on_postgresql_16() {
    let Some(programs) = server("16.14.0-beta.17") else { return };
    killed(Some(&programs));
}

#[test]
fn so_it_is_on_postgresql_18() {
    let Some(programs) = server("18.4.0-beta.17") else { return };
    killed(Some(&programs));
}

fn killed(programs: Option<&Path>) {
    let mut stand = stand(programs);
    let who = "SELECT current_user, pg_has_role('readers', 'member'), count(*) FROM kept";
    let said = stand.psql(&["-c", who, PLACE]).ok();
    assert!(said.starts_with("sallyport:alice@example.com:") && said.trim().ends_with("|t|1"), "{said}");
    wait_until("the role goes with its session", || made(&stand) == "0");
    let mut sleeper = stand.client("psql");
    sleeper.args(["-X", "-c", "SELECT pg_sleep(600)", PLACE]);
    let _sleeper = Process::spawn(sleeper, &stand.world.folder().join("sleeper.log"));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    wait_until("the statement runs", || stand.orders.sql(running) == "1");
    assert_eq!(made(&stand), "1");
    stand.world.stop(Signal::SIGKILL);
    assert_eq!(made(&stand), "1", "nobody was there to take it back");
    stand.world.up();
    wait_until("it is swept up", || made(&stand) == "0");
    assert_eq!(stand.orders.sql(running), "0", "and what it ran with it");
    let said = stand.psql(&["-c", who, PLACE]).ok();
    assert!(said.starts_with("sallyport:alice@example.com:"), "{said}");
}

#[test]
fn the_doctor_logs_in_as_roles_and_as_the_admin_and_tells_what_to_mend() {
    let stand = stand(None);
    let targets = || {
        let said = stand.world.sallyport(&["doctor", "--json"]).text();
        let findings: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
        let of_targets = findings.iter().filter(|finding| finding["said"].to_string().contains("orders"));
        of_targets.map(|finding| finding.to_string() + "\n").collect::<String>()
    };
    let said = targets();
    assert!(said.contains("it lets the gateway in as analyst, dba"), "{said}");
    assert!(said.contains("its clock is within 5 seconds of this one"), "{said}");
    assert!(said.contains("lets the gateway in as making, which may make roles"), "{said}");
    if e2e::has_peer("faketime") {
        let said = stand.world.sallyport_at("+30s", &["doctor", "--json"]).text();
        assert!(said.contains("the clock of orders is") && said.contains("seconds behind this one"), "{said}");
    }
    let _done = stand.orders.sql("ALTER ROLE making NOCREATEROLE; ALTER ROLE analyst PASSWORD 'another'");
    let said = targets();
    assert!(said.contains("ALTER ROLE making CREATEROLE"), "{said}");
    assert!(said.contains("login failed") && said.contains("pg_hba.conf"), "{said}");
    let _done = stand.orders.sql("ALTER ROLE making PASSWORD 'another'");
    let said = targets();
    assert!(said.contains("admin login failed") && !said.contains(PASSWORD), "{said}");

    let names: Vec<_> = (10..30).map(|number| format!("clerk{number}")).collect();
    let made: String = names.iter().map(|name| format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}';")).collect();
    let _made = stand.orders.sql(&made);
    stand.world.write_policy(&POLICY.replace(MARK, &format!(r#"{{ "roles": ["{}"],"#, names.join(r#"", ""#))));
    let said = targets();
    let all = names[..16].join(", ");
    assert!(said.contains(&format!("it lets the gateway in as {all} (5 more were not tried)")), "{said}");
}

/// A stand whose gateway makes roles.
fn stand(programs: Option<&Path>) -> Stand {
    let admin = r#", admin = { user = "making", password = "file:orders.password" } }"#;
    let setup = Setup {
        policy: POLICY.replace(MARK, RULE),
        targets: TARGET.trim_end().trim_end_matches('}').to_owned() + admin,
        ..Setup::default()
    };
    let mut world = World::build(setup);
    write_secret(&world.operator().join("orders.password"), PASSWORD);
    let (folder, address) = (world.folder().join("orders"), ORDERS.parse().unwrap());
    let orders = match programs {
        Some(programs) => Postgres::start_version(&copied(&world, programs), world.hosts(), &folder, address, ""),
        None => Postgres::start(world.hosts(), &folder, address, ""),
    };
    prepare(&orders);
    let _made = orders.sql(&format!(
        "CREATE ROLE making LOGIN CREATEROLE PASSWORD '{PASSWORD}'; GRANT pg_signal_backend TO making;
         CREATE ROLE readers; GRANT readers TO making WITH ADMIN OPTION"
    ));
    let _made = orders.sql_in("orders", "CREATE TABLE kept AS SELECT 1 AS n; GRANT SELECT ON kept TO readers");
    world.up();
    let alice = world.caller("alice@example.com", "laptop");
    Stand { alice, orders, world }
}

/// How many roles there are that the gateway has made.
fn made(stand: &Stand) -> String {
    stand.orders.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sallyport:%'")
}

const PLACE: &str = "host=orders user=alice dbname=orders sslmode=disable";
const MARK: &str = r#"{ "roles": ["analyst"],"#;
const RULE: &str = r#"{ "databases": ["orders"], "statements": ["any"], "memberOf": ["readers"] },
      { "roles": ["analyst"],"#;
