//! The decision: the one function that the gateway, `explain` and the policy's own tests ask.
//!
//! Deny by default. ACLs and grants add up; SSH wants a rule of `ssh` besides the one that opens its port, PostgreSQL a
//! capability.

mod postgres;

use crate::denial;
use crate::rules::{Device, Mismatch, NetworkRule, Rules, SshRule, Subject};
use crate::traffic::Port;
use crate::{
    Approach, Caller, Considered, Decision, Denial, Location, Missing, RecordingRule, SshCapability, SshGrant, Target,
};

impl Rules {
    pub(crate) fn approach(&self, subject: Subject<'_>, target: &Target, port: Port) -> Decision<Approach> {
        let rule = match self.network(subject, target, port) {
            Ok(rule) => rule,
            Err(denial) => return Decision::Deny(denial),
        };
        if port == Port::POSTGRES {
            return self.postgres_approach(subject, target, rule.location.clone());
        }
        if port != Port::SSH {
            let network_rule = rule.location.clone();
            return Decision::Allow(Approach { network_rule, recording: RecordingRule::Required });
        }
        let possible: Vec<&SshRule> =
            self.ssh.iter().filter(|rule| rule.mismatch(subject, target, None).is_none()).collect();
        if possible.is_empty() {
            return Decision::Deny(self.ssh_denial(subject, target, None));
        }
        let recording = self.strictest_recording(subject, target, &possible);
        Decision::Allow(Approach { network_rule: rule.location.clone(), recording })
    }

    pub(crate) fn ssh(&self, subject: Subject<'_>, target: &Target, account: &str) -> Decision<SshGrant> {
        let network = match self.network(subject, target, Port::SSH) {
            Ok(rule) => rule,
            Err(denial) => return Decision::Deny(denial),
        };
        let rule = self.ssh.iter().find(|rule| rule.mismatch(subject, target, Some(account)).is_none());
        let Some(rule) = rule else {
            return Decision::Deny(self.ssh_denial(subject, target, Some(account)));
        };
        let (capability, said, capability_rules) = self.capability(subject, target, account);
        let mut accept_env = rule.accept_env.clone();
        accept_env.extend_from_slice(&capability.env);
        Decision::Allow(SshGrant {
            account: account.to_owned(),
            network_rule: network.location.clone(),
            ssh_rule: rule.location.clone(),
            capability_rules,
            action: rule.action,
            accept_env,
            recording: said.unwrap_or(rule.recording),
            capability,
        })
    }

    /// The accounts that the caller may ask for, as the rules write them.
    pub(crate) fn ssh_accounts(&self, subject: Subject<'_>, target: &Target) -> Vec<String> {
        if self.network(subject, target, Port::SSH).is_err() {
            return Vec::new();
        }
        let mut accounts: Vec<String> = Vec::new();
        for rule in self.ssh.iter().filter(|rule| rule.mismatch(subject, target, None).is_none()) {
            for (written, _) in &rule.accounts {
                if !accounts.contains(written) {
                    accounts.push(written.clone());
                }
            }
        }
        accounts
    }

    /// The network rule alone, whatever the port.
    pub(crate) fn network(&self, subject: Subject<'_>, target: &Target, port: Port) -> Result<&NetworkRule, Denial> {
        let found = self.network.iter().find(|rule| rule.mismatch(subject, target, port).is_none());
        found.ok_or_else(|| self.network_denial(subject, target, port))
    }

    /// What the capabilities that apply add up to, and what they say about recording, the strictest of it. With none,
    /// the default holds.
    fn capability(
        &self,
        subject: Subject<'_>,
        target: &Target,
        account: &str,
    ) -> (SshCapability, Option<RecordingRule>, Vec<Location>) {
        let mut sum = SshCapability::nothing();
        let mut recording = None;
        let mut locations = Vec::new();
        for rule in self.capabilities.iter().filter(|rule| rule.applies(subject, target, Some(account))) {
            sum.add(&rule.capability);
            recording = recording.max(rule.recording);
            if locations.last() != Some(&rule.location) {
                locations.push(rule.location.clone());
            }
        }
        let capability = if locations.is_empty() { SshCapability::default() } else { sum };
        (capability, recording, locations)
    }

    /// The strictest that [`Rules::ssh`] could say for any account. What a capability for every account says takes the
    /// rules' place; one for some accounts leaves the others to the rules.
    fn strictest_recording(&self, subject: Subject<'_>, target: &Target, possible: &[&SshRule]) -> RecordingRule {
        let mut strictest = None;
        let mut said_for_all = false;
        for rule in self.capabilities.iter().filter(|rule| rule.applies(subject, target, None)) {
            strictest = strictest.max(rule.recording);
            said_for_all |= rule.accounts.is_empty() && rule.recording.is_some();
        }
        if !said_for_all {
            strictest = strictest.max(possible.iter().map(|rule| rule.recording).max());
        }
        strictest.unwrap_or(RecordingRule::Required)
    }

    fn network_denial(&self, subject: Subject<'_>, target: &Target, port: Port) -> Denial {
        let looked_at = self.network.iter().map(|rule| {
            let mismatch = rule.mismatch(subject, target, port);
            let why_not = denial::network_why(rule, mismatch.as_ref(), subject, target, port);
            (mismatch, Considered { location: rule.location.clone(), why_not })
        });
        let (posture, considered) = split(looked_at);
        let owners = self.owners(target);
        match posture {
            Some(why) => {
                let sentence = denial::posture_sentence(subject.caller, target, &why, &owners);
                Denial { sentence, missing: Missing::Posture, considered }
            }
            None => {
                let sentence = denial::network_sentence(subject.caller, target, port, &owners);
                Denial { sentence, missing: Missing::NetworkRule, considered }
            }
        }
    }

    fn ssh_denial(&self, subject: Subject<'_>, target: &Target, account: Option<&str>) -> Denial {
        let looked_at = self.ssh.iter().map(|rule| {
            let mismatch = rule.mismatch(subject, target, account);
            let why_not = denial::ssh_why(rule, mismatch.as_ref(), subject, target, account);
            (mismatch, Considered { location: rule.location.clone(), why_not })
        });
        let (posture, considered) = split(looked_at);
        let (caller, owners) = (subject.caller, self.owners(target));
        let accounts = self.ssh_accounts(subject, target);
        let (missing, sentence) = match (posture, account) {
            (Some(why), _) => (Missing::Posture, denial::posture_sentence(caller, target, &why, &owners)),
            (None, Some(account)) if !accounts.is_empty() => {
                (Missing::Account, denial::account_sentence(caller, target, account, &accounts, &owners))
            }
            (None, _) => (Missing::SshRule, denial::ssh_sentence(caller, target, account, &owners)),
        };
        Denial { sentence, missing, considered }
    }

    /// Who owns the target's tags, and so may be asked.
    fn owners(&self, target: &Target) -> Vec<&str> {
        let mut owners: Vec<&str> = Vec::new();
        for owner in target.tags.iter().filter_map(|tag| self.tag_owners.get(tag)).flatten() {
            if !owners.contains(&owner.as_str()) {
                owners.push(owner);
            }
        }
        owners
    }
}

/// The first posture that alone kept a rule from applying, and everything that was considered.
fn split(looked_at: impl Iterator<Item = (Option<Mismatch>, Considered)>) -> (Option<String>, Vec<Considered>) {
    let mut posture = None;
    let mut considered = Vec::new();
    for (mismatch, one) in looked_at {
        if let (Some(Mismatch::Posture(why)), None) = (mismatch, &posture) {
            posture = Some(why);
        }
        considered.push(one);
    }
    (posture, considered)
}

impl<'a> Subject<'a> {
    /// A caller with the device as it is.
    pub(crate) fn of(caller: &'a Caller) -> Self {
        Subject { caller, device: Device::AsReported }
    }
}
