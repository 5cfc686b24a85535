//! Much data at once: COPY of a gigabyte, and one row of a gigabyte.

use super::loopback::Connection;
use super::{Loopback, Measured, Way, in_turn};
use crate::Figure;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// `COPY … TO STDOUT` of 1 GB with psql.
pub(crate) fn copy_out() -> Vec<Figure> {
    let loopback = Loopback::new();
    let _made = loopback.server().sql(&format!(
        "CREATE UNLOGGED TABLE bulk (line text); ALTER TABLE bulk ALTER line SET STORAGE PLAIN; \
         INSERT INTO bulk SELECT repeat(md5(n::text), 31) FROM generate_series(1, {ROWS}) n; VACUUM bulk"
    ));
    let once = |way| {
        let mut command = loopback.client("psql", way);
        command.args(["-X", "-q", "-c", "COPY bulk TO STDOUT"]).stdout(Stdio::null());
        let begun = Instant::now();
        let status = loopback.within(|| command.status().unwrap());
        assert!(status.success(), "{status}; the gateway: {}", loopback.gateway().printed());
        f64::from(ROWS) * 993.0 / 1e6 / begun.elapsed().as_secs_f64()
    };
    let medians = in_turn(&loopback, COPIES, once);
    let name = "COPY out of 1 GB".to_owned();
    Measured { name, unit: "MB/s", goal: "ratio >= 0.90", rounds: COPIES, medians }.figures()
}

/// What a row of 1 GB makes the gateway's memory grow by.
pub(crate) fn giant_row() -> Vec<Figure> {
    let loopback = Loopback::new();
    let mut connection = loopback.within(|| Connection::open(Way::Through).unwrap());
    let before = loopback.gateway().resident_kb();
    let (most, done) = (AtomicU64::new(before), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _before = most.fetch_max(loopback.gateway().resident_kb(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let bytes = connection.run("SELECT repeat('x', 1000000000)").unwrap();
        assert!(bytes > 1_000_000_000, "{bytes}");
        done.store(true, Ordering::Relaxed);
    });
    let ours = f64::from(u32::try_from(most.into_inner().saturating_sub(before)).unwrap()) / 1024.0;
    let name = "memory, a row of 1 GB".to_owned();
    vec![Figure { name, unit: "MB", direct: None, ours, goal: "<= 8", runs: 1 }]
}

/// Rows of 993 bytes as COPY writes them.
const ROWS: u32 = 1_007_000;
/// How often each way is measured.
const COPIES: usize = 3;
