//! The policy: the file as it is now, what holds, and what was refused.

use sallyport_replay::show::counted;

use super::{Finding, Patient};
use crate::serve::policy as file;

/// What is wrong with the policy file, and whether it is what holds.
pub(super) async fn policy(patient: &Patient<'_>) -> Vec<Finding> {
    let path = &patient.config.policy;
    let name = path.display();
    let inventory = patient.stored.as_ref().map(|(_, stored)| stored.inventory()).unwrap_or_default();
    let mut findings = Vec::new();
    match file::examine(path, &inventory).await {
        Err(refusal) => {
            let remedy = "mend it; `sallyport policy check` reads it again, and what held before holds meanwhile";
            findings.extend(refusal.problems().iter().map(|said| Finding::problem("policy", said, remedy)));
        }
        Ok((policy, _)) => {
            let revision = policy.revision();
            findings.push(Finding::ok("policy", format!("{name} is valid and its tests hold: revision {revision}")));
            findings.extend(policy.unknown_targets(&inventory).into_iter().map(|note| {
                let remedy = "register it (`sallyport target add`), or correct the name";
                Finding::warning("policy", format!("{name}:{note}"), remedy)
            }));
            if let Some(status) = &patient.gateway
                && status.policy != revision
            {
                let said = format!("the gateway goes by revision {}, not by the file's {revision}", status.policy);
                let remedy = "its log says why; `sallyport policy check` has it read the file again";
                findings.push(Finding::problem("policy", said, remedy));
            }
        }
    }
    findings.extend(kept(patient).await);
    findings
}

/// What the state knows of policies: the last good one, and an edit that the gateway refused.
async fn kept(patient: &Patient<'_>) -> Vec<Finding> {
    let Some((state, _)) = &patient.stored else { return Vec::new() };
    let mut findings = Vec::new();
    match state.last_policy().await {
        Ok(Some(kept)) => {
            let said = format!("the last good one is revision {}, accepted {:.0}", kept.revision, kept.accepted);
            findings.push(Finding::ok("policy", said));
        }
        Ok(None) => {}
        Err(error) => findings.push(Finding::problem("policy", error.to_string(), "look at the database")),
    }
    if let Ok(Some(refused)) = state.refused_policy().await {
        let first = refused.problems.first().cloned().unwrap_or_default();
        let mistakes = counted(refused.problems.len(), "mistake");
        let said = format!("the gateway refused the edit of {:.0} ({mistakes}): {first}", refused.at);
        findings.push(Finding::problem("policy", said, "mend the file: the gateway takes it as soon as it is right"));
    }
    findings
}
