//! The policy file: read, parsed, and its own tests run, before it holds.
//!
//! A file that cannot be accepted is refused whole, with all its mistakes, and what held before goes on holding, across a
//! restart as well: the last text that was accepted is kept in the state.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use sallyport_policies::{Inventory, Policy};
use tokio::io::AsyncReadExt as _;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::state::State;

/// Why a policy file was not accepted: every mistake in it, a line each.
#[derive(Debug)]
pub(crate) struct Refusal(Vec<String>);

impl Refusal {
    /// The mistakes.
    pub(crate) fn problems(&self) -> &[String] {
        &self.0
    }

    fn of(problem: String) -> Self {
        Self(vec![problem])
    }

    /// Tells the operator, mistake by mistake.
    pub(super) fn log(&self, stays: &str) {
        for problem in &self.0 {
            error!("{problem}");
        }
        error!(mistakes = self.0.len(), "the policy was not accepted, and the last good one stays: revision {stays}");
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Refusal {}

/// The policy in `path`, kept in `state` as the last good one; a refusal is kept there too, for `sallyport doctor`.
///
/// # Errors
/// Every mistake in it, or every test of its own that it fails.
pub(super) async fn read(path: &Path, state: &State, inventory: &Inventory, clock: &Clock) -> Result<Policy, Refusal> {
    let now = clock.now();
    match examine(path, inventory).await {
        Ok((policy, text)) => {
            // What is accepted holds, also while the database is away: it may take rights from somebody.
            let kept = async {
                state.keep_policy(policy.revision(), &text, now).await?;
                state.forget_refused_policy().await
            };
            if let Err(error) = kept.await {
                warn!(%error, "the policy holds, but could not be kept as the last good one");
            }
            Ok(policy)
        }
        Err(refusal) => {
            if let Err(error) = state.keep_refused_policy(refusal.problems(), now).await {
                warn!(%error, "why the policy was refused could not be kept");
            }
            Err(refusal)
        }
    }
}

/// The policy in `path` and its text, if it can be accepted.
///
/// # Errors
/// Every mistake in it, or every test of its own that it fails.
pub(crate) async fn examine(path: &Path, inventory: &Inventory) -> Result<(Policy, String), Refusal> {
    let name = path.display().to_string();
    let text = text(path).await.map_err(|problem| Refusal::of(format!("{name} {problem}")))?;
    let policy = parse(&text, &name)?;
    let failures: Vec<String> = policy.run_tests(inventory).iter().map(|failure| format!("{name}:{failure}")).collect();
    if failures.is_empty() { Ok((policy, text)) } else { Err(Refusal(failures)) }
}

/// The policy at the gateway's start: the file's, or the last good one where the file cannot be accepted.
///
/// # Errors
/// The file's mistakes, when there is no last good one.
pub(super) async fn at_start(
    path: &Path,
    state: &State,
    inventory: &Inventory,
    clock: &Clock,
) -> anyhow::Result<Policy> {
    let refusal = match read(path, state, inventory, clock).await {
        Ok(policy) => return Ok(policy),
        Err(refusal) => refusal,
    };
    let Some(kept) = state.last_policy().await.context("the last good policy could not be read")? else {
        return Err(anyhow!("the policy was not accepted, and there is no earlier one:\n{refusal}"));
    };
    refusal.log(&kept.revision);
    info!(revision = kept.revision, accepted = %kept.accepted, "the last good policy holds");
    // Its tests held when it was accepted. If they do not any more, because a target has gone, it is still what held.
    let policy = parse(&kept.text, "the last good policy").context("the last good policy is not accepted any more")?;
    for failure in policy.run_tests(inventory) {
        warn!("the last good policy: {failure}");
    }
    Ok(policy)
}

fn parse(text: &str, name: &str) -> Result<Policy, Refusal> {
    let parsed = Policy::parse(text)
        .map_err(|errors| Refusal(errors.iter().map(|error| format!("{name}:{error}")).collect()))?;
    for note in &parsed.notes {
        info!("{name}:{note}");
    }
    Ok(parsed.policy)
}

/// Reads no more than a policy may hold, whatever the file's size was a moment ago.
async fn text(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}; 'sallyport init' writes one");
    // A pipe would keep us waiting for whoever writes to it.
    if !tokio::fs::metadata(path).await.map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes, which is the most"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

/// The largest policy file.
const MAX_BYTES: u64 = 4 << 20;
