//! What is wrong here, and what to do about it: the checks behind `sallyport doctor`.
//!
//! Every check looks at the thing itself (it writes a file, binds the port, makes the namespace, reaches the target) and
//! changes nothing. They run side by side, each with a deadline. No secret is in what they say.

mod clocks;
mod databases;
mod machine;
mod network;
mod policy;
mod state;
mod targets;
mod udp;

use std::pin::Pin;
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use crate::admin::{self, Status};
use crate::clock::Clock;
use crate::config::Config;
use crate::serve::Stored;
use crate::state::State;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub area: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in a sentence.
    pub said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// It works, and may not for long, or not as well as it could.
    Warning,
    /// Something does not work.
    Problem,
}

impl Finding {
    fn ok(area: &'static str, said: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, said: said.into(), remedy: None }
    }

    fn warning(area: &'static str, said: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, level: Level::Warning, said: said.into(), remedy: Some(remedy.into()) }
    }

    fn problem(area: &'static str, said: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, level: Level::Problem, said: said.into(), remedy: Some(remedy.into()) }
    }
}

/// What the checks look at.
struct Patient<'a> {
    config: &'a Config,
    clock: &'a Clock,
    /// The running gateway.
    gateway: Option<Status>,
    /// What is stored, where it can be read.
    stored: Option<(State, Stored)>,
}

/// Runs every check.
pub async fn examine(config: &Config, clock: &Clock) -> Vec<Finding> {
    let (gateway, mut findings) = running(config).await;
    let (stored, about_state) = state::open(config, clock).await;
    let patient = Patient { config, clock, gateway, stored };
    findings.extend(machine::gateway(&patient));
    let checks: Vec<(&'static str, Check<'_>)> = vec![
        ("data plane", Box::pin(machine::data_plane(&patient))),
        ("endpoint", Box::pin(network::endpoint(&patient))),
        ("dns", Box::pin(network::dns(&patient))),
        ("clock", Box::pin(machine::clock(&patient))),
        ("disk", Box::pin(machine::disk(&patient))),
        ("database", Box::pin(state::database(&patient, about_state))),
        ("keys", Box::pin(state::keys(&patient))),
        ("policy", Box::pin(policy::policy(&patient))),
        ("targets", Box::pin(targets::targets(&patient))),
    ];
    let done = checks.into_iter().map(|(area, check)| async move {
        timeout(DEADLINE, check).await.unwrap_or_else(|_| {
            let said = format!("this check took longer than {} seconds and was given up", DEADLINE.as_secs());
            vec![Finding::problem(area, said, "look for what hangs there: a disk, a name server, a firewall")]
        })
    });
    findings.extend(join_all(done).await.into_iter().flatten());
    findings
}

type Check<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// The gateway that runs on the state folder, if one does and answers.
async fn running(config: &Config) -> (Option<Status>, Vec<Finding>) {
    let asked = timeout(PATIENCE, admin::ask_status(&config.state.folder)).await;
    let silent = |why: String| {
        let remedy = "look at its log; if it hangs, stop it (SIGTERM) and start it again";
        (None, vec![Finding::problem("gateway", why, remedy)])
    };
    match asked {
        Ok(Ok(status)) => (status, Vec::new()),
        Ok(Err(error)) => silent(error.to_string()),
        Err(_) => silent(format!("the gateway does not answer within {} seconds", PATIENCE.as_secs())),
    }
}

/// How long one check may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
