//! Everything that a login may do, right by right, each with the rules that give it: what `explain` prints.

use std::time::Duration;

use crate::rules::{Rules, Subject};
use crate::{ExecRule, Location, SshCapability, SshGrant, Target, duration};

/// One right of an SSH session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// `shell`, `exec`, `sftp download`, `sftp upload`, `subsystems`, `localForward`, `remoteForward`, `agent`, `x11`, `env`,
    /// and the limits `maxDuration`, `idleTimeout` and `recording`.
    pub name: &'static str,
    /// What of it is given, and by which rule. Nothing given is denied; a limit that nobody sets is none.
    pub given: Vec<(String, Location)>,
    /// What a value of `sallyport.dev/cap/ssh` would have to say to give it; limits need not be given.
    pub missing: Option<&'static str>,
}

impl Rules {
    /// The rights of `grant`, all of them in one order, those that it lacks among them.
    pub(crate) fn ssh_rights(&self, subject: Subject<'_>, target: &Target, grant: &SshGrant) -> Vec<Right> {
        let account = Some(grant.account.as_str());
        let applying = || self.capabilities.iter().filter(|rule| rule.applies(subject, target, account));
        let mut sources: Vec<(&Location, SshCapability)> =
            applying().map(|rule| (&rule.location, rule.capability.clone())).collect();
        if sources.is_empty() {
            sources.push((&grant.ssh_rule, SshCapability::default()));
        }
        let mut rights: Vec<Right> = KINDS
            .iter()
            .map(|kind| {
                let given =
                    sources.iter().flat_map(|(at, of)| (kind.of)(of).into_iter().map(|what| (what, (*at).clone())));
                Right { name: kind.name, given: given.collect(), missing: kind.missing }
            })
            .collect();
        let rule = self.ssh.iter().find(|rule| rule.location == grant.ssh_rule);
        let accepted = rule.into_iter().flat_map(|rule| rule.accept_env.iter().cloned());
        if let Some(env) = rights.iter_mut().find(|right| right.name == "env") {
            env.given.splice(0..0, accepted.map(|name| (name, grant.ssh_rule.clone())));
        }
        let said = applying().filter(|rule| rule.recording == Some(grant.recording)).map(|rule| &rule.location);
        let by = said.chain([&grant.ssh_rule]).next().cloned();
        let given = by.map(|by| (grant.recording.as_str().to_owned(), by)).into_iter().collect();
        rights.push(Right { name: "recording", given, missing: None });
        rights
    }
}

/// A kind of right: its name, what of it a capability gives, and how a capability would give it.
struct Kind {
    name: &'static str,
    of: fn(&SshCapability) -> Vec<String>,
    missing: Option<&'static str>,
}

fn switch(given: bool) -> Vec<String> {
    given.then(|| "yes".to_owned()).into_iter().collect()
}

fn exec(rule: &ExecRule) -> Vec<String> {
    match rule {
        ExecRule::None => Vec::new(),
        ExecRule::Any => vec!["any command".to_owned()],
        ExecRule::Patterns(patterns) => patterns.clone(),
    }
}

/// Several add up to the shortest.
fn limit(time: Option<Duration>) -> Vec<String> {
    time.map(duration::said).into_iter().collect()
}

const KINDS: [Kind; 12] = [
    Kind { name: "shell", of: |of| switch(of.shell), missing: Some("\"shell\": {}") },
    Kind { name: "exec", of: |of| exec(&of.exec), missing: Some("\"exec\": {} or \"exec\": { \"commands\": […] }") },
    Kind {
        name: "sftp download",
        of: |of| switch(of.sftp.download),
        missing: Some("\"sftp\": { \"download\": true }"),
    },
    Kind { name: "sftp upload", of: |of| switch(of.sftp.upload), missing: Some("\"sftp\": { \"upload\": true }") },
    Kind { name: "subsystems", of: |of| of.subsystems.clone(), missing: Some("\"subsystems\": [\"NAME\"]") },
    Kind {
        name: "localForward",
        of: |of| of.local_forward.clone(),
        missing: Some("\"localForward\": [\"HOST:PORT\"]"),
    },
    Kind {
        name: "remoteForward",
        of: |of| of.remote_forward.clone(),
        missing: Some("\"remoteForward\": [\"HOST:PORT\"]"),
    },
    Kind { name: "agent", of: |of| switch(of.agent), missing: Some("\"agent\": {}") },
    Kind { name: "x11", of: |of| switch(of.x11), missing: Some("\"x11\": {}") },
    Kind {
        name: "env",
        of: |of| of.env.clone(),
        missing: Some("\"env\": [\"NAME\"], or \"acceptEnv\" in the ssh rule"),
    },
    Kind { name: "maxDuration", of: |of| limit(of.max_duration), missing: None },
    Kind { name: "idleTimeout", of: |of| limit(of.idle_timeout), missing: None },
];
