//! The state: the database, and the gateway's keys.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::geteuid;
use sallyport_replay::show::{bytes, counted};

use super::{Finding, Patient};
use crate::clock::Clock;
use crate::config::Config;
use crate::serve::Stored;
use crate::state::State;

/// Opens the database if there is one, and reads what the other checks go by. A failure is a finding.
pub(super) async fn open(config: &Config, clock: &Clock) -> (Option<(State, Stored)>, Vec<Finding>) {
    let database = &config.state.database;
    if !database.exists() {
        let said = format!("there is no database at {} yet", database.display());
        return (None, vec![Finding::warning("database", said, "make one with `sallyport init`")]);
    }
    let opened = async {
        let state = State::open(config).await?;
        let stored = Stored::read(config, &state, clock).await?;
        anyhow::Ok((state, stored))
    };
    match opened.await {
        Ok(opened) => (Some(opened), Vec::new()),
        Err(error) => {
            let remedy = "run this as the gateway's user; if the database is damaged, put it back from a backup";
            (None, vec![Finding::problem("database", format!("{error:#}"), remedy)])
        }
    }
}

/// Whether the database is whole.
pub(super) async fn database(patient: &Patient<'_>, mut findings: Vec<Finding>) -> Vec<Finding> {
    let Some((state, stored)) = &patient.stored else { return findings };
    let size = std::fs::metadata(&patient.config.state.database).map_or(0, |metadata| metadata.len());
    let size = bytes(size);
    findings.push(match state.health().await {
        Ok(health) if health.damage.is_empty() => Finding::ok(
            "database",
            format!(
                "whole, {size}, version {}; {}, {}",
                health.version,
                counted(stored.devices.len(), "device"),
                counted(stored.targets.len(), "target")
            ),
        ),
        Ok(health) => Finding::problem(
            "database",
            format!("it is damaged: {}", health.damage.join("; ")),
            "stop the gateway, keep a copy of the state folder, and put the database back from a backup",
        ),
        Err(error) => Finding::problem("database", error.to_string(), "look at the disk, and at who else has it open"),
    });
    findings
}

/// Whether the state folder and the keys in it are there, and the gateway's alone.
pub(super) async fn keys(patient: &Patient<'_>) -> Vec<Finding> {
    let folder = &patient.config.state.folder;
    let keys = folder.join("keys");
    if !keys.exists() {
        let said = format!("there are no keys in {} yet", keys.display());
        return vec![Finding::warning("keys", said, "make them with `sallyport init`")];
    }
    let mut findings = Vec::new();
    findings.extend(exposed(folder, "700"));
    findings.extend(exposed(&keys, "700"));
    let mut files = 0;
    for entry in std::fs::read_dir(&keys).into_iter().flatten().flatten() {
        files += 1;
        findings.extend(exposed(&entry.path(), "600"));
    }
    for name in LASTING.into_iter().filter(|name| !keys.join(name).exists()) {
        let said = format!("{} is missing", keys.join(name).display());
        let remedy =
            "put it back from a backup: a new one is made at the next start, and who trusts the old one has to be told";
        findings.push(Finding::problem("keys", said, remedy));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok("keys", format!("{} in {}, the gateway's alone", counted(files, "key"), keys.display())));
    }
    findings
}

/// What is wrong with who may read something.
fn exposed(path: &Path, wanted: &str) -> Option<Finding> {
    let shown = path.display();
    let metadata: Metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            return Some(Finding::problem("keys", format!("{shown}: {error}"), "run this as the gateway's user"));
        }
    };
    if metadata.mode() & 0o077 != 0 {
        let said = format!("{shown} is open to others (mode {:03o})", metadata.mode() & 0o777);
        return Some(Finding::problem("keys", said, format!("run `chmod {wanted} {shown}`")));
    }
    let (owner, me) = (metadata.uid(), geteuid().as_raw());
    (owner != me).then(|| {
        let said = format!("{shown} belongs to user {owner}, and this is user {me}");
        Finding::warning("keys", said, "run gateway and commands as one user, or `chown` what is in the state folder")
    })
}

/// Keys that others have been told of.
const LASTING: [&str; 4] = ["wireguard", "ssh_user_ca", "ssh_host_ca", "recording.pem"];
