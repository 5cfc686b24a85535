//! psql, and what of libpq it shows: encryption, several hosts, settings, encodings, COPY, cursors, large objects, Ctrl-C.

use super::Stand;
use e2e::{Talk, run, wait_until};

#[test]
fn psql_connects_with_no_password_as_the_role_that_it_names() {
    let stand = Stand::new();
    let said = stand.psql(&["-c", "SELECT current_user, session_user, current_database()"]).ok();
    assert_eq!(said, "dba|dba|orders\n");
    let several = stand.psql(&["-c", "SELECT 1; SELECT 2", "-c", "SELECT 3"]).ok();
    assert_eq!(several, "1\n2\n3\n");
    let failed = stand.psql(&["-v", "VERBOSITY=verbose", "-c", "SELECT 1/0"]);
    assert!(failed.stderr.contains("ERROR:  22012: division by zero"), "{}", failed.stderr);
    let mut unnamed = stand.alice.command("psql");
    unnamed.args(["-X", "-At", "-c", "SELECT 1", "host=orders user=nobody dbname=orders"]);
    let said = run(unnamed, b"").failed();
    assert!(said.contains("FATAL") && said.contains("nobody") && said.contains("group:sre"), "{said}");
}

#[test]
fn every_sslmode_connects_and_verify_full_trusts_the_gateway_s_own_authority() {
    let stand = Stand::new();
    let authority = stand.authority();
    let encrypted = "SELECT 1";
    for host in ["orders", "orders.corp.internal"] {
        for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            for gss in ["disable", "prefer"] {
                let place = format!("host={host} sslmode={mode} gssencmode={gss} sslrootcert={}", authority.display());
                let mut command = stand.client("psql");
                command.args(["-X", "-At", "-c", encrypted, "-c", r"\conninfo", &place]);
                let said = run(command, b"").ok();
                assert!(said.starts_with("1\n"), "{place}: {said}");
                let in_tls = said.contains("SSL connection");
                assert_eq!(in_tls, !["disable", "allow"].contains(&mode), "{place}: {said}");
            }
        }
    }
    let other = stand.psql(&["-c", "SELECT 1", "sslmode=verify-full sslrootcert=/etc/ssl/certs/ca-certificates.crt"]);
    assert!(other.failed().contains("certificate verify failed"), "another authority is not ours");
}

#[test]
fn a_string_of_several_hosts_reaches_the_one_that_is_up() {
    let stand = Stand::new();
    for place in [
        "host=127.0.0.1,orders port=1,5432",
        "host=nowhere.corp.internal,orders",
        "host=orders,127.0.0.1 target_session_attrs=read-write",
        "postgresql://127.0.0.1:1,orders:5432/orders?target_session_attrs=primary",
    ] {
        assert_eq!(stand.psql(&["-c", "SELECT current_database()", place]).ok(), "orders\n", "{place}");
    }
    let said = stand.psql(&["-c", "SELECT 1", "host=orders target_session_attrs=standby"]).failed();
    assert!(said.contains("standby"), "{said}");
}

#[test]
fn settings_of_the_start_up_reach_the_server_and_encodings_come_through() {
    let stand = Stand::new();
    let mut command = stand.client("psql");
    command.env("PGOPTIONS", "-c geqo=off -c search_path=\"a\\ b\",public --statement-timeout=12345");
    command.env("PGAPPNAME", "the books").env("PGTZ", "Asia/Tokyo").env("PGDATESTYLE", "German");
    command.args(["-X", "-At", "-c", "SHOW geqo", "-c", "SHOW search_path", "-c", "SHOW statement_timeout"]);
    command.args(["-c", "SHOW application_name", "-c", "SHOW timezone", "-c", "SHOW datestyle"]);
    let said = run(command, b"").ok();
    assert_eq!(said, "off\n\"a b\",public\n12345ms\nthe books\nAsia/Tokyo\nGerman, DMY\n");
    for (encoding, bytes) in [
        ("LATIN1", &b"\xe4\xf6"[..]),
        ("UTF8", "äö".as_bytes()),
        ("WIN1252", &b"\xe4\xf6"[..]),
        ("EUC_JP", &b"\xc6\xfc\xcb\xdc"[..]),
        ("SJIS", &b"\x93\xfa\x96\x7b"[..]),
        ("GB18030", &b"\xc8\xd5\xb1\xbe"[..]),
    ] {
        let mut command = stand.client("psql");
        command.env("PGCLIENTENCODING", encoding).args(["-X", "-At", "-q"]);
        let script = [b"SELECT '", bytes, b"', char_length('", bytes, b"'); SELECT nix."].concat();
        let done = run(command, &[&script[..], bytes, b"\n;\n"].concat());
        let expected = [bytes, b"|2\n"].concat();
        assert_eq!(done.stdout, expected, "{encoding}: {}", done.stderr);
    }
}

#[test]
fn copy_cursors_watch_and_large_objects_work_from_psql() {
    let stand = Stand::new();
    let folder = stand.alice.folder();
    let lines: String = (0..50_000).map(|n| format!("{n}\tname {n}\n")).collect();
    std::fs::write(folder.join("in"), &lines).unwrap();
    let at = folder.display();
    let script = format!(
        "CREATE TABLE copied (id int, name text);\n\\copy copied FROM '{at}/in'\n\
         \\copy (SELECT * FROM copied ORDER BY id) TO '{at}/out'\n\
         \\copy copied TO '{at}/binary' WITH (FORMAT binary)\nTRUNCATE copied;\n\\copy copied FROM '{at}/binary' WITH (FORMAT binary)\n\
         SELECT count(*), sum(id) FROM copied;\nCOPY copied FROM STDIN;\n7\tseven\n\\.\nSELECT count(*) FROM copied;\n\
         COPY copied FROM STDIN;\nnot a number\tx\n\\.\nSELECT 'after', count(*) FROM copied;\n"
    );
    let done = stand.script(&[], &script);
    assert_eq!(done.text(), "50000|1249975000\n50001\nafter|50001\n", "{}", done.stderr);
    assert!(done.stderr.contains("invalid input syntax for type integer"), "{}", done.stderr);
    assert_eq!(std::fs::read_to_string(folder.join("out")).unwrap(), lines);
    // A cursor under the hood: DECLARE, FETCH by a thousand, CLOSE.
    let said = stand.script(&["-v", "FETCH_COUNT=1000"], "SELECT id FROM copied ORDER BY id LIMIT 20000;\n").ok();
    assert_eq!(said.lines().count(), 20_000);
    let mut watch = stand.client("psql");
    watch.args(["-X", "-At"]);
    let mut watch = Talk::start(watch);
    watch.say("SELECT 'seen' || 'again' \\watch 0.2");
    wait_until("the query was run thrice", || watch.heard().matches("seenagain").count() >= 3);
    drop(watch);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    std::fs::write(folder.join("object"), &bytes).unwrap();
    let script = format!("\\lo_import '{at}/object'\n\\lo_export :LASTOID '{at}/object.out'\n\\lo_unlink :LASTOID\n");
    let _done = stand.script(&[], &script).ok();
    assert_eq!(std::fs::read(folder.join("object.out")).unwrap(), bytes);
}

#[test]
fn listen_hears_what_another_session_notifies() {
    let stand = Stand::new();
    let mut listener = stand.client("psql");
    listener.args(["-X", "-At"]);
    let mut listener = Talk::start(listener);
    listener.say("LISTEN news; SELECT 'listening';");
    listener.expect("listening");
    let _done = stand.psql(&["-c", "NOTIFY news, 'the payload'"]).ok();
    // psql looks for notifications after a statement.
    wait_until("the notification came", || {
        listener.say("SELECT 1;");
        listener.heard().contains("the payload")
    });
    assert_eq!(listener.end(), 0);
}

#[test]
fn control_c_cancels_the_statement_that_runs_and_no_other_session_s() {
    let stand = Stand::new();
    let start = |name: &str| {
        let mut command = stand.client("psql");
        command.env("PGAPPNAME", name).args(["-X", "-At", "-c", "SELECT pg_sleep(300)"]);
        Talk::start(command)
    };
    let (mut mine, other) = (start("mine"), start("other"));
    let running = |name: &str| {
        let count =
            format!("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = '{name}'");
        stand.orders.sql(&count) == "1"
    };
    wait_until("both run", || running("mine") && running("other"));
    let _signalled = nix::sys::signal::kill(nix::unistd::Pid::from_raw(mine.id()), nix::sys::signal::SIGINT);
    mine.expect("canceling statement due to user request");
    assert!(running("other"), "another session was cancelled: {}", other.heard());
    let _code = mine.end();
}
