//! The decision about a database session: which capabilities are for this caller, role and database, and what they add up to.

use super::split;
use crate::denial;
use crate::rules::{Mismatch, PostgresRule, Rules, Subject};
use crate::traffic::Port;
use crate::{
    Approach, Considered, Decision, Denial, Location, Missing, PostgresCapability, PostgresGrant, RecordingRule, Target,
};

impl Rules {
    /// Whether some capability could be for this caller at this target, once the network rule is there.
    pub(super) fn postgres_approach(
        &self,
        subject: Subject<'_>,
        target: &Target,
        network_rule: Location,
    ) -> Decision<Approach> {
        let mut strictest = None;
        let mut found = false;
        for rule in self.postgres_rules(subject, target, None) {
            // One that says nothing leaves its roles to the default, unless another is for them too: the strictest counts.
            strictest = strictest.max(Some(rule.recording.unwrap_or(RecordingRule::Required)));
            found = true;
        }
        if !found {
            return Decision::Deny(self.postgres_denial(subject, target, None));
        }
        Decision::Allow(Approach { network_rule, recording: strictest.unwrap_or(RecordingRule::Required) })
    }

    pub(crate) fn postgres(
        &self,
        subject: Subject<'_>,
        target: &Target,
        role: &str,
        database: &str,
    ) -> Decision<PostgresGrant> {
        let network = match self.network(subject, target, Port::POSTGRES) {
            Ok(rule) => rule,
            Err(denial) => return Decision::Deny(denial),
        };
        let mut capability = PostgresCapability::nothing();
        let mut recording = None;
        let mut capability_rules: Vec<Location> = Vec::new();
        let rules: Vec<_> = self.postgres_rules(subject, target, Some((role, database))).collect();
        let made = rules.iter().any(|rule| !rule.capability.member_of.is_empty());
        for rule in rules {
            // INVARIANT: what a role of the server's may do is no right of one that is made with other groups.
            match made && rule.capability.member_of.is_empty() {
                true => capability.limit(&rule.capability),
                false => capability.add(&rule.capability),
            }
            recording = recording.max(rule.recording);
            if capability_rules.last() != Some(&rule.location) {
                capability_rules.push(rule.location.clone());
            }
        }
        if capability_rules.is_empty() {
            return Decision::Deny(self.postgres_denial(subject, target, Some((role, database))));
        }
        Decision::Allow(PostgresGrant {
            role: role.to_owned(),
            database: database.to_owned(),
            network_rule: network.location.clone(),
            capability_rules,
            recording: recording.unwrap_or(RecordingRule::Required),
            capability,
        })
    }

    /// The roles that the caller may ask for, each with its databases, as the rules write them.
    pub(crate) fn postgres_roles(&self, subject: Subject<'_>, target: &Target) -> Vec<(String, Vec<String>)> {
        let mut roles: Vec<(String, Vec<String>)> = Vec::new();
        if self.network(subject, target, Port::POSTGRES).is_err() {
            return roles;
        }
        for rule in self.postgres_rules(subject, target, None) {
            for (role, _) in &rule.roles {
                let at = roles.iter().position(|(known, _)| known == role).unwrap_or_else(|| {
                    roles.push((role.clone(), Vec::new()));
                    roles.len() - 1
                });
                let Some((_, databases)) = roles.get_mut(at) else { continue };
                databases
                    .extend(rule.databases.iter().filter(|one| !databases.contains(one)).cloned().collect::<Vec<_>>());
            }
        }
        roles
    }

    fn postgres_rules<'a>(
        &'a self,
        subject: Subject<'a>,
        target: &'a Target,
        wanted: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a PostgresRule> {
        let (role, database) = wanted.unzip();
        self.postgres.iter().filter(move |rule| rule.mismatch(subject, target, role, database).is_none())
    }

    fn postgres_denial(&self, subject: Subject<'_>, target: &Target, wanted: Option<(&str, &str)>) -> Denial {
        let (role, database) = wanted.unzip();
        let looked_at = self.postgres.iter().map(|rule| {
            let mismatch = rule.mismatch(subject, target, role, database);
            let why_not = denial::postgres_why(rule, mismatch.as_ref(), subject, target, wanted);
            (mismatch, Considered { location: rule.location.clone(), why_not })
        });
        let (posture, considered) = split(looked_at);
        let (caller, owners) = (subject.caller, self.owners(target));
        let roles = self.postgres_roles(subject, target);
        let databases: Vec<&str> = self
            .postgres
            .iter()
            .filter(|rule| rule.mismatch(subject, target, role, database) == Some(Mismatch::Database))
            .flat_map(|rule| rule.databases.iter().map(String::as_str))
            .collect();
        let (missing, sentence) = match (posture, wanted) {
            (Some(why), _) => (Missing::Posture, denial::posture_sentence(caller, target, &why, &owners)),
            (None, Some((role, database))) if !databases.is_empty() => {
                (Missing::Database, denial::database_sentence(caller, target, (role, database), &databases, &owners))
            }
            (None, Some((role, _))) if !roles.is_empty() => {
                let names: Vec<&str> = roles.iter().map(|(name, _)| name.as_str()).collect();
                (Missing::Role, denial::role_sentence(caller, target, role, &names, &owners))
            }
            (None, _) => (Missing::PostgresCapability, denial::postgres_sentence(caller, target, wanted, &owners)),
        };
        Denial { sentence, missing, considered }
    }
}
