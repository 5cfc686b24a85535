//! How fast a command's output is recorded, and at how much processor time: `cargo run --release --example speed`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example may unwrap and print")]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use sallyport_recorder::{Caller, End, Header, Outcome, OutputStream, PolicyStamp, SessionId, Signer, Store, Target};

const CHUNK: usize = 32_000;
const TOTAL: usize = 1 << 30;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let log: Vec<u8> = (0..400_000_u32)
        .flat_map(|line| {
            let noise = line.wrapping_mul(2_654_435_761);
            format!("2026-01-02T03:04:05 web1 app[{line}]: GET /items/{noise:x} 200 {}us\n", noise % 9973).into_bytes()
        })
        .collect();
    let mut state = 1_u64;
    let noise = (0..4 << 20).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let [byte, ..] = state.to_be_bytes();
        byte
    });
    let samples = [("zeros", vec![0; 4 << 20]), ("log", log), ("noise", noise.collect::<Vec<u8>>())];
    for (name, sample) in samples {
        runtime.block_on(run(name, Bytes::from(sample)));
    }
}

async fn run(name: &str, sample: Bytes) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("recordings")).unwrap();
    let signer = Arc::new(Signer::new(ed25519_dalek::SigningKey::from_bytes(&[7; 32])));
    let started = "2026-01-02T03:04:05Z".parse().unwrap();
    let header = Header {
        id: SessionId::new(started),
        protocol: "ssh".into(),
        caller: Caller::default(),
        target: Target::default(),
        policy: PolicyStamp::default(),
        gateway: "gateway".into(),
        started,
    };
    let began = Instant::now();
    let cpu = processor_seconds();
    let recording = store.create(header, signer).await.unwrap();
    let opened = began.elapsed();
    let output = recording.output(0, OutputStream::Stdout).await.unwrap();
    let mut sent = 0;
    while sent < TOTAL {
        for start in (0..sample.len()).step_by(CHUNK) {
            let chunk = sample.slice(start..(start + CHUNK).min(sample.len()));
            output.output(&chunk).await.unwrap();
            sent += chunk.len();
        }
    }
    let queued = began.elapsed().as_secs_f64();
    let end = End { outcome: Outcome::Completed, reason: "done".into(), at: started };
    let sealed = recording.close(end).await.unwrap();
    let gb = sent as f64 / 1e9;
    println!(
        "{name}: {:.0} MB/s, {:.2} cpu s/GB, stored {:.1} %, opened in {:.2} ms, closed in {:.0} ms",
        gb * 1e3 / queued,
        (processor_seconds() - cpu) / gb,
        sealed.bytes as f64 / sent as f64 * 100.0,
        opened.as_secs_f64() * 1e3,
        (began.elapsed().as_secs_f64() - queued) * 1e3,
    );
}

/// User and system time of this process.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
