//! The policy file: read, parsed, and its own tests run, before it holds.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use sallyport_policies::{Inventory, Policy};
use tracing::{error, info};

use crate::clock::Clock;
use crate::state::State;

/// The largest policy file.
const MAX_BYTES: u64 = 4 << 20;

/// The policy in `path`, kept in `state` as the last good one.
///
/// # Errors
/// Every mistake in it, or every test of its own that it fails.
pub(super) async fn read(path: &Path, state: &State, inventory: &Inventory, clock: &Clock) -> anyhow::Result<Policy> {
    let name = path.display().to_string();
    let size = tokio::fs::metadata(path)
        .await
        .with_context(|| format!("{name} cannot be read; 'sallyport init' writes one"))?
        .len();
    if size > MAX_BYTES {
        bail!("{name} is {size} bytes long, and {MAX_BYTES} is the most");
    }
    let text = tokio::fs::read_to_string(path).await.with_context(|| format!("{name} cannot be read"))?;
    let policy = accept(&text, &name, inventory)?;
    state.keep_policy(policy.revision(), &text, clock.now()).await.context("the policy could not be kept")?;
    Ok(policy)
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
    let problem = match read(path, state, inventory, clock).await {
        Ok(policy) => return Ok(policy),
        Err(problem) => problem,
    };
    let Some(kept) = state.last_policy().await.context("the last good policy could not be read")? else {
        return Err(problem);
    };
    error!("the policy was not accepted: {problem:#}");
    info!(revision = kept.revision, accepted = %kept.accepted, "the last good policy holds");
    accept(&kept.text, "the last good policy", inventory).context("the last good policy is not accepted any more")
}

fn accept(text: &str, name: &str, inventory: &Inventory) -> anyhow::Result<Policy> {
    let parsed = Policy::parse(text).map_err(|errors| anyhow!("{}", errors.display(name)))?;
    for note in &parsed.notes {
        info!("{name}: {note}");
    }
    let failures = parsed.policy.run_tests(inventory);
    if !failures.is_empty() {
        let list: Vec<String> = failures.iter().map(|failure| format!("{name}: {failure}")).collect();
        bail!("its own tests fail:\n{}", list.join("\n"));
    }
    Ok(parsed.policy)
}
