//! Sessions that do nothing: what each keeps of the gateway's memory.

use super::loopback::Connection;
use super::{Loopback, Way};
use crate::Figure;
use e2e::wait_until;
use std::time::Duration;

/// Recorded sessions that have said one statement and wait.
pub(crate) fn idle() -> Vec<Figure> {
    let loopback = Loopback::new();
    let open = |count: u32| -> Vec<Connection> {
        loopback.within(|| {
            let connections = (0..count).map(|_| Connection::open(Way::Through).unwrap());
            connections
                .map(|mut connection| {
                    let _bytes = connection.run("SELECT 1").unwrap();
                    connection
                })
                .collect()
        })
    };
    // The first sessions pay for what all share.
    drop(open(WARM));
    wait_until("the first sessions' recordings are sealed", || open_recordings(&loopback) == 0);
    let before = loopback.gateway().resident_kb();
    let sessions = open(SESSIONS);
    std::thread::sleep(SETTLING);
    let grown = loopback.gateway().resident_kb().saturating_sub(before);
    drop(sessions);
    let ours = f64::from(u32::try_from(grown).unwrap()) / f64::from(SESSIONS);
    let name = "memory of an idle database session, recorded".to_owned();
    vec![Figure { name, unit: "kB", direct: None, ours, goal: "<= 100", runs: 1 }]
}

/// Recordings whose manifest is not sealed yet.
fn open_recordings(loopback: &Loopback) -> usize {
    let list = |folder: &std::path::Path| {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let manifests = list(&loopback.recordings()).into_iter().flat_map(|day| list(&day));
    let open = manifests.filter(|folder| {
        let text = std::fs::read(folder.join("manifest.json")).unwrap_or_default();
        !serde_json::from_slice(&text).is_ok_and(|manifest: serde_json::Value| manifest["state"] == "sealed")
    });
    open.count()
}

/// Sessions to weigh, and those that come before them.
const SESSIONS: u32 = 1000;
const WARM: u32 = 50;
/// Nothing happens any more after this long.
const SETTLING: Duration = Duration::from_secs(3);
