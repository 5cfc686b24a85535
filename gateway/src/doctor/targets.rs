//! The targets: their secrets, and each protocol that they speak, as far as one gets without doing anything there.

use futures::future::join_all;
use sallyport_policies::Policy;
use tokio::sync::Semaphore;

use super::clocks::{agreement, by_certificates};
use super::databases::over_postgres;
use super::{Finding, Patient};
use crate::access::{object, subject};
use crate::credentials::PostgresVault;
use crate::failure::{Failure, Stage};
use crate::secrets::SecretRef;
use crate::serve::policy as file;
use crate::ssh::probe::TheirClock;
use crate::state::{Folder, Keys};
use crate::target::{Login, SshTarget, Target};
use crate::{ssh, ssh::Vault};

/// Reaches every target over everything that it speaks.
pub(super) async fn targets(patient: &Patient<'_>) -> Vec<Finding> {
    let Some((_, stored)) = &patient.stored else { return Vec::new() };
    if stored.targets.is_empty() {
        return vec![Finding::warning(
            "targets",
            "no target is registered",
            "add one: `sallyport target add NAME --ssh HOST --scan`",
        )];
    }
    let inventory = stored.inventory();
    let policy = file::examine(&patient.config.policy, &inventory).await.ok().map(|(policy, _)| policy);
    let keys = keys(patient);
    let (domain, clock) = (&patient.config.tailnet.domain, patient.clock);
    let vault = keys.as_ref().map(|keys| Vault::new(keys, domain, clock.clone()));
    let databases = keys.as_ref().map(|keys| PostgresVault::new(keys, domain, clock.clone()));
    let places = Semaphore::new(AT_ONCE);
    let checks = stored.targets.iter().map(|known| async {
        let _place = places.acquire().await;
        let target = &known.target;
        let mut findings = Vec::new();
        // One arm a protocol.
        if let Some(service) = &target.services.ssh {
            let accounts = policy.as_ref().map(|policy| accounts(patient, policy, target)).unwrap_or_default();
            findings.extend(over_ssh(target, service, vault.as_ref(), &accounts).await);
        }
        if let Some(service) = &target.services.postgres {
            findings.extend(over_postgres(patient, policy.as_ref(), (target, service), databases.as_ref()).await);
        }
        findings
    });
    join_all(checks).await.into_iter().flatten().collect()
}

/// The gateway's keys, where there are some: none are made for a check.
fn keys(patient: &Patient<'_>) -> Option<Keys> {
    Keys::read(&Folder::find(&patient.config.state.folder).ok()?).ok()
}

/// The accounts by name that the policy gives somebody on a target.
fn accounts(patient: &Patient<'_>, policy: &Policy, target: &Target) -> Vec<String> {
    let devices = patient.stored.iter().flat_map(|(_, stored)| &stored.devices);
    let given = devices.flat_map(|enrolled| policy.ssh_accounts(&subject(&enrolled.device), &object(target)));
    // What is written with a colon stands for accounts that only a caller's own name makes.
    let mut named: Vec<String> = given.filter(|account| !account.contains(':')).collect();
    named.sort();
    named.dedup();
    named.truncate(ACCOUNTS);
    named
}

async fn over_ssh(target: &Target, service: &SshTarget, vault: Option<&Vault>, accounts: &[String]) -> Vec<Finding> {
    let name = &target.name;
    let mut findings = secrets(target, service.login.secret()).await;
    let Some(vault) = vault.filter(|_| findings.is_empty()) else { return findings };
    let probe = ssh::probe::Probe { target, service, vault };
    let shown = match probe.reach().await {
        Ok(shown) => shown,
        Err(failure) => {
            findings.push(Finding::problem("targets", failure.to_string(), remedy(&failure)));
            return findings;
        }
    };
    let reached = format!("{name} is reached at {}, {shown}", service.address);
    if accounts.is_empty() {
        findings
            .push(Finding::ok("targets", format!("{reached}; the policy names no account there that could be tried")));
        return findings;
    }
    let tried = accounts.iter().map(|account| probe.enter(account));
    let tried = join_all(tried).await;
    let (mut welcome, mut refused, mut clock) = (Vec::new(), Vec::new(), TheirClock::Untold);
    for (account, result) in accounts.iter().zip(tried) {
        match result {
            Ok(told) => {
                clock = told;
                welcome.extend((!matches!(told, TheirClock::Wrong(_))).then_some(account.as_str()));
            }
            Err(failure) => refused.push((account, failure)),
        }
    }
    let reached = match welcome.is_empty() {
        false => format!("{reached}; it lets the gateway in as {}{}", welcome.join(", "), agreement(clock)),
        true => reached,
    };
    findings.push(Finding::ok("targets", reached));
    findings.extend(by_certificates(name, clock));
    for (account, failure) in refused {
        let level = if welcome.is_empty() { Finding::problem } else { Finding::warning };
        findings.push(level("targets", failure.to_string(), refusal_remedy(account, &service.login)));
    }
    findings
}

fn refusal_remedy(account: &str, login: &Login) -> String {
    let what = match login {
        Login::Certificate => "sshd to trust the line of `sallyport target ca`",
        Login::Key(_) => "the key of the target's login to stand in its authorized_keys",
        Login::Password(_) => "the password of the target's login to be its own, and sshd to take passwords",
    };
    format!("if {account} is to be used there: the account has to exist, and {what} (its log says why it refused)")
}

/// What is wrong with the secrets that a login names. They are read, and forgotten.
pub(super) async fn secrets<'a>(target: &Target, secrets: impl IntoIterator<Item = &'a SecretRef>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for secret in secrets {
        if let Err(error) = secret.check().await {
            let remedy = "the gateway reads it at each login: give it one that is there, and its user's alone";
            findings.push(Finding::problem("targets", format!("{}: {error}", target.name), remedy));
        }
    }
    findings
}

fn remedy(failure: &Failure) -> &'static str {
    match failure {
        Failure::Target { stage: Stage::Resolve, .. } => {
            "correct the name, or this machine's resolver (/etc/resolv.conf)"
        }
        Failure::Target { stage: Stage::Dial, .. } => {
            "see whether its sshd runs and listens there, and what filters the way"
        }
        Failure::Target { stage: Stage::HostKey, .. } => {
            "ask whoever keeps it whether it was installed anew; if not, somebody is in between"
        }
        _ => "see what answers there, and its log",
    }
}

/// Targets that are reached at the same time.
const AT_ONCE: usize = 16;
/// Accounts that are tried on a target.
const ACCOUNTS: usize = 3;
