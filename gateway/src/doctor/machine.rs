//! The machine: the gateway's process, the data plane, the clock, the disks.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::sys::statvfs::statvfs;
use sallyport_replay::show::counted;
use sallyport_tailnet::{self as tailnet, BackendKind, PrivateKey, Tailnet};
use tokio::task::spawn_blocking;

use super::{Finding, Patient};
use crate::addresses::{Plan, random_prefix6};
use crate::config::Backend;

/// Whether a gateway runs, and is of this version.
pub(super) fn gateway(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(status) = &patient.gateway else {
        let said = "no gateway is running on this state folder";
        return vec![Finding::warning("gateway", said, "start it with `sallyport up`")];
    };
    let here = env!("CARGO_PKG_VERSION");
    let what = format!("version {} runs since {:.0} (process {})", status.version, status.started, status.pid);
    let counts = format!("{}, {}", counted(status.devices, "device"), counted(status.sessions, "session"));
    match status.version == here {
        true => vec![Finding::ok("gateway", format!("{what}; {counts}"))],
        false => {
            let remedy = format!("restart it to have version {here}, which is installed");
            vec![Finding::warning("gateway", what, remedy)]
        }
    }
}

/// Makes a data plane of each kind for a moment.
pub(super) async fn data_plane(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(status) = &patient.gateway {
        findings.push(Finding::ok("data plane", format!("the gateway uses: {}", status.backend)));
    }
    let wanted = match patient.config.tailnet.backend {
        Backend::Tun => Some(BackendKind::Tun),
        Backend::Packet => Some(BackendKind::Packet),
        Backend::Userspace => Some(BackendKind::Userspace),
        Backend::Auto => None,
    };
    let (mut failed, mut works) = (Vec::new(), None);
    for kind in KINDS.into_iter().filter(|kind| wanted.is_none_or(|wanted| wanted == *kind)) {
        match try_out(patient, kind).await {
            Ok(()) => {
                works = Some(kind);
                break;
            }
            Err(error) => failed.push((kind, error)),
        }
    }
    let worse = works.is_some();
    findings.extend(failed.into_iter().map(|(kind, error)| {
        let said = format!("{kind} cannot be had: {error}");
        match worse {
            true => Finding::warning("data plane", said, "it works without, slower; what is in the way is named above"),
            false => Finding::problem("data plane", said, "change what is named above, or run the gateway as root"),
        }
    }));
    findings.extend(works.map(|kind| Finding::ok("data plane", format!("{kind}: could be made"))));
    findings
}

async fn try_out(patient: &Patient<'_>, kind: BackendKind) -> Result<(), String> {
    let plan = match &patient.stored {
        Some((state, _)) => state.plan(),
        None => Plan::new(patient.config.tailnet.prefix4, random_prefix6()),
    };
    let config = tailnet::Config {
        private_key: PrivateKey::generate(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        gateway: plan.gateway(),
        prefix: plan.prefix(),
        service: plan.services(),
        ports: vec![22],
        mtu: patient.config.tailnet.mtu,
        backend: Some(kind),
    };
    // Gone again with what it gives.
    Tailnet::start(config, Vec::new()).await.map(drop).map_err(|error| error.to_string())
}

/// Whether the clock is believable: it has not gone back, and runs evenly.
pub(super) async fn clock(patient: &Patient<'_>) -> Vec<Finding> {
    let (before, steady) = (patient.clock.now(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let (now, passed) = (patient.clock.now(), steady.elapsed());
    let mut findings = Vec::new();
    let drift = now.duration_since(before).abs_diff(passed);
    if drift > DRIFT {
        let said =
            format!("the clock moved by {} ms while {} ms passed", (passed + drift).as_millis(), passed.as_millis());
        findings.push(Finding::warning("clock", said, "something sets it: let one time service slew it, not step it"));
    }
    if let Some((state, _)) = &patient.stored
        && let Ok(Some(newest)) = state.newest_time().await
        && newest > now.saturating_add(SignedDuration::from_mins(1)).unwrap_or(now)
    {
        let back = newest.duration_since(now);
        let said = format!("the clock says {now:.0}, and the state knows of {newest:.0}: it has gone back by {back:#}");
        findings.push(Finding::problem("clock", said, REMEDY));
    }
    if now < Timestamp::from_second(BUILT_AFTER).unwrap_or(now) {
        findings.push(Finding::problem("clock", format!("the clock says {now:.0}, which is long past"), REMEDY));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("clock", format!("it is {now:.0}, and the clock runs evenly")));
    }
    findings
}

trait AbsDiff {
    fn abs_diff(&self, other: Duration) -> Duration;
}

impl AbsDiff for SignedDuration {
    fn abs_diff(&self, other: Duration) -> Duration {
        let other = SignedDuration::try_from(other).unwrap_or_default();
        self.checked_sub(other).unwrap_or_default().unsigned_abs()
    }
}

/// Room, files and speed where recordings and the state lie.
pub(super) async fn disk(patient: &Patient<'_>) -> Vec<Finding> {
    let state = patient.config.state.folder.clone();
    let recordings = patient.config.state.recordings.clone();
    let both = spawn_blocking(move || {
        let (recordings_name, state_name) =
            (format!("recordings in {}", recordings.display()), format!("state in {}", state.display()));
        let mut findings = room(&recordings_name, &nearest(&recordings));
        // On one file system there is one room.
        if device(&nearest(&recordings)) != device(&nearest(&state)) {
            findings.extend(room(&state_name, &nearest(&state)));
        }
        let made =
            [(recordings_name, recordings), (state_name, state)].into_iter().filter(|(_, folder)| folder.is_dir());
        findings.extend(made.map(|(name, folder)| speed(&name, &folder)));
        findings
    });
    both.await.unwrap_or_default()
}

/// Before the first start there is no folder; where it will be made is what counts.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|path| path.is_dir());
    there.filter(|path| *path != Path::new("")).map_or_else(|| ".".into(), Path::to_owned)
}

fn device(folder: &Path) -> Option<u64> {
    folder.metadata().ok().map(|metadata| metadata.dev())
}

fn room(name: &str, folder: &Path) -> Vec<Finding> {
    let disk = match statvfs(folder) {
        Ok(disk) => disk,
        Err(error) => {
            let said = format!("{name}: the file system cannot be asked: {error}");
            return vec![Finding::problem("disk", said, "look whether it is mounted")];
        }
    };
    // Some file systems say that they are endless.
    let size = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    let (free, all) = (size(disk.blocks_available()), size(disk.blocks()));
    let percent = |part: u64, whole: u64| part.saturating_mul(100).checked_div(whole).unwrap_or(100);
    let said = format!("{name}: {} free ({} %)", sallyport_replay::show::bytes(free), percent(free, all));
    let remedy =
        "make room, or move it with [state] in sallyport.toml: sessions that must be recorded end on a full disk";
    let mut findings = vec![match free {
        0..LITTLE => Finding::problem("disk", said, remedy),
        _ if percent(free, all) < 5 || free < SOME => Finding::warning("disk", said, remedy),
        _ => Finding::ok("disk", said),
    }];
    // Some file systems count no inodes.
    let (inodes, of) = (disk.files_available(), disk.files());
    if of > 0 && percent(inodes, of) < 5 {
        let said = format!("{name}: {inodes} files can be made still ({} %)", percent(inodes, of));
        let level = if inodes < 1_000 { Finding::problem } else { Finding::warning };
        findings.push(level("disk", said, "remove small files there, or move it: each session makes a handful"));
    }
    findings
}

/// Writes as a recording does, and waits for the disk.
fn speed(name: &str, folder: &Path) -> Finding {
    let mut times = Vec::new();
    for _ in 0..WRITES {
        let started = Instant::now();
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            std::io::Write::write_all(&mut file, &[0; 64 * 1024])?;
            file.as_file().sync_data()
        });
        if let Err(error) = written {
            let said = format!("{name}: nothing can be written: {error}");
            return Finding::problem(
                "disk",
                said,
                "it has to belong to whoever runs the gateway, and be mounted writable",
            );
        }
        times.push(started.elapsed());
    }
    times.sort();
    let median = times.get(WRITES / 2).copied().unwrap_or_default();
    let said = format!("{name}: written, and safe on the disk after {} ms", median.as_millis().max(1));
    match median {
        _ if median > Duration::from_millis(400) => Finding::warning(
            "disk",
            said,
            "that is slow: recordings are promised to be safe within a second; use another disk, or look who else writes",
        ),
        _ => Finding::ok("disk", said),
    }
}

/// How often it is tried.
const WRITES: usize = 3;
/// Less room than this is none, in bytes.
const LITTLE: u64 = 64 << 20;
/// Less room than this is little, in bytes.
const SOME: u64 = 1 << 30;
/// The kinds that are tried, best first.
const KINDS: [BackendKind; 3] = [BackendKind::Tun, BackendKind::Packet, BackendKind::Userspace];
const REMEDY: &str = "set the clock and keep it by NTP: targets refuse certificates whose time is not theirs";
/// How long the clock is watched.
const WATCHED: Duration = Duration::from_millis(500);
/// How far it may be off after that: a busy machine wakes late, and both clocks see that.
const DRIFT: Duration = Duration::from_millis(50);
/// 2026-01-01, before which no version of this program was made.
const BUILT_AFTER: i64 = 1_767_225_600;
