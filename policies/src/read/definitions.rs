//! The sections that name things: `groups`, `tagOwners`, `hosts`, `ipsets` and `postures`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jsonc_parser::ast::StringLit;
use jsonc_parser::common::Range;

use crate::address::AddressSet;
use crate::posture::{Condition, Posture};
use crate::reader::{Entry, Fields, MAX_LISTED, Reader, quote};

use super::selectors::{AUTOGROUP_ROLES, is_name, is_user};

/// What rules may refer to. A definition with a mistake is kept, so that those who refer to it are not told off as well.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    pub(super) groups: BTreeMap<String, Arc<BTreeSet<String>>>,
    pub(super) tag_owners: BTreeMap<String, Vec<String>>,
    pub(super) hosts: BTreeMap<String, Arc<AddressSet>>,
    pub(super) ipsets: BTreeMap<String, Arc<AddressSet>>,
    pub(super) postures: BTreeMap<String, Arc<Posture>>,
    /// For rules without a `srcPosture` of their own.
    pub(super) default_postures: Vec<Arc<Posture>>,
}

impl Definitions {
    pub(super) fn read(reader: &mut Reader<'_>, policy: &Fields<'_>) -> Definitions {
        let mut definitions = Definitions::default();
        definitions.read_groups(reader, policy);
        definitions.read_tag_owners(reader, policy);
        definitions.read_hosts(reader, policy);
        definitions.read_ipsets(reader, policy);
        definitions.read_postures(reader, policy);
        if let Some(value) = policy.get("defaultSrcPosture") {
            definitions.default_postures = definitions.postures_named(reader, value);
        }
        definitions
    }

    fn read_groups(&mut self, reader: &mut Reader<'_>, policy: &Fields<'_>) {
        let expected = "an object of groups: { \"group:sre\": [\"alice@example.com\"] }";
        let entries = section(reader, policy, "groups", expected);
        for entry in named(reader, entries, "group:", "group:sre") {
            let mut members = BTreeSet::new();
            for member in reader.strings(entry.value, "a list of users, such as [\"alice@example.com\"]") {
                if is_user(&member.value) {
                    members.insert(member.value.to_string());
                } else if member.value.starts_with("group:") {
                    let message = format!("the group {} is a member of a group", quote(&member.value));
                    reader.error(member.range, message, "users: groups do not nest");
                } else {
                    let message = format!("{} is not a user", quote(&member.value));
                    reader.error(member.range, message, "a user, such as \"alice@example.com\"");
                }
            }
            self.groups.insert(entry.name.to_owned(), Arc::new(members));
        }
    }

    fn read_tag_owners(&mut self, reader: &mut Reader<'_>, policy: &Fields<'_>) {
        let mut owners: Vec<&StringLit<'_>> = Vec::new();
        let entries = section(reader, policy, "tagOwners", "an object of tags: { \"tag:prod\": [\"group:sre\"] }");
        for entry in named(reader, entries, "tag:", "tag:prod") {
            let list = reader.strings(entry.value, "a list of owners, such as [\"group:sre\"]");
            let written = list.iter().map(|owner| owner.value.to_string()).collect();
            owners.extend(list);
            self.tag_owners.insert(entry.name.to_owned(), written);
        }
        for owner in owners {
            let text = owner.value.as_ref();
            if text.starts_with("group:") {
                self.group(reader, text, owner.range);
            } else if text.starts_with("tag:") {
                self.tag(reader, text, owner.range);
            } else if !is_user(text) && text != "autogroup:member" && !AUTOGROUP_ROLES.contains(&text) {
                let message = format!("{} cannot own a tag", quote(text));
                reader.error(owner.range, message, "a user, a group, a tag or \"autogroup:member\"");
            }
        }
    }

    fn read_hosts(&mut self, reader: &mut Reader<'_>, policy: &Fields<'_>) {
        for entry in section(reader, policy, "hosts", "an object of addresses: { \"db1\": \"10.0.4.2\" }") {
            if !is_name(entry.name) || entry.name.parse::<std::net::IpAddr>().is_ok() {
                let message = format!("{} cannot name a host", quote(entry.name));
                reader.error(entry.at, message, "letters, digits, \"-\", \"_\" and \".\"");
            }
            let expected = "an address or a prefix, such as \"10.0.4.2\" or \"10.0.0.0/16\"";
            let found = reader.string(entry.value, expected).and_then(|lit| match AddressSet::parse(&lit.value) {
                Some(set) if !lit.value.contains('-') => Some(set),
                _ => {
                    reader.error(lit.range, format!("{} is no address", quote(&lit.value)), expected);
                    None
                }
            });
            self.hosts.insert(entry.name.to_owned(), Arc::new(found.unwrap_or_default()));
        }
    }

    /// A set may name those that stand before it in the text, which leaves no room for circles.
    fn read_ipsets(&mut self, reader: &mut Reader<'_>, policy: &Fields<'_>) {
        let (mut left, mut told) = (MAX_IPSET_WORK, false);
        let entries = section(reader, policy, "ipsets", "an object of sets: { \"ipset:prod\": [\"add 10.0.0.0/16\"] }");
        for entry in named(reader, entries, "ipset:", "ipset:prod") {
            let mut set = AddressSet::default();
            for step in reader.strings(entry.value, IPSET_EXPECTED) {
                let (adds, operand) = match step.value.split_once(' ') {
                    Some(("add", operand)) => (true, operand.trim()),
                    Some(("remove", operand)) => (false, operand.trim()),
                    _ => (true, step.value.trim()),
                };
                let Some(operand) = self.ipset_operand(reader, operand, step.range) else { continue };
                left = left.saturating_sub((set.len() + 1) * (operand.len() + 1));
                if left == 0 {
                    if !std::mem::replace(&mut told, true) {
                        reader.error(step.range, "the ipsets are too large", "fewer or simpler sets");
                    }
                } else if adds {
                    set.add(&operand);
                } else {
                    set.remove(&operand);
                }
            }
            self.ipsets.insert(entry.name.to_owned(), Arc::new(set));
        }
    }

    fn ipset_operand(&self, reader: &mut Reader<'_>, text: &str, at: Range) -> Option<Arc<AddressSet>> {
        if let Some(set) = self.ipsets.get(text).or_else(|| self.hosts.get(text.strip_prefix("host:").unwrap_or(text)))
        {
            return Some(Arc::clone(set));
        }
        let set = AddressSet::parse(text).map(Arc::new);
        if set.is_none() && text.starts_with("ipset:") {
            let message = format!("no set {} stands before this one", quote(text));
            reader.error(at, message, "a set that \"ipsets\" defines further up");
        } else if set.is_none() {
            reader.error(at, format!("{} is neither an address nor a host", quote(text)), IPSET_EXPECTED);
        }
        set
    }

    fn read_postures(&mut self, reader: &mut Reader<'_>, policy: &Fields<'_>) {
        let expected = "an object of postures: { \"posture:linux\": [\"node:os == 'linux'\"] }";
        let entries = section(reader, policy, "postures", expected);
        for entry in named(reader, entries, "posture:", "posture:linux") {
            let mut conditions = Vec::new();
            let list = reader.strings(entry.value, "a list of conditions, such as [\"node:os == 'linux'\"]");
            if list.is_empty() {
                reader.error(entry.at, "the posture asks for nothing", "at least one condition");
            }
            for lit in list {
                match Condition::parse(&lit.value) {
                    Some(condition) => conditions.push(condition),
                    None => {
                        reader.error(lit.range, format!("{} is no condition", quote(&lit.value)), CONDITION_EXPECTED)
                    }
                }
            }
            let posture = Posture { name: entry.name.to_owned(), conditions };
            self.postures.insert(entry.name.to_owned(), Arc::new(posture));
        }
    }

    /// A `srcPosture`: any one of these is enough.
    pub(super) fn postures_named(
        &self,
        reader: &mut Reader<'_>,
        value: &jsonc_parser::ast::Value<'_>,
    ) -> Vec<Arc<Posture>> {
        let list = reader.strings(value, "a list of postures, such as [\"posture:managed\"]");
        list.into_iter()
            .filter_map(|lit| {
                let found = self.postures.get(lit.value.as_ref()).cloned();
                if found.is_none() {
                    undefined(reader, lit.range, &lit.value, "postures", &self.postures);
                }
                found
            })
            .collect()
    }

    pub(super) fn group(&self, reader: &mut Reader<'_>, name: &str, at: Range) -> Option<Arc<BTreeSet<String>>> {
        let found = self.groups.get(name).cloned();
        if found.is_none() {
            undefined(reader, at, name, "groups", &self.groups);
        }
        found
    }

    pub(super) fn tag(&self, reader: &mut Reader<'_>, name: &str, at: Range) -> Option<String> {
        if self.tag_owners.contains_key(name) {
            return Some(name.to_owned());
        }
        undefined(reader, at, name, "tagOwners", &self.tag_owners);
        None
    }

    pub(super) fn ipset(&self, reader: &mut Reader<'_>, name: &str, at: Range) -> Option<Arc<AddressSet>> {
        let found = self.ipsets.get(name).cloned();
        if found.is_none() {
            undefined(reader, at, name, "ipsets", &self.ipsets);
        }
        found
    }
}

fn section<'v>(reader: &mut Reader<'_>, policy: &Fields<'v>, name: &str, expected: &str) -> Vec<Entry<'v>> {
    policy.get(name).map(|value| reader.entries(value, expected)).unwrap_or_default()
}

/// Keeps the entries whose names begin as those of their section do.
fn named<'v>(reader: &mut Reader<'_>, mut entries: Vec<Entry<'v>>, prefix: &str, example: &str) -> Vec<Entry<'v>> {
    entries.retain(|entry| {
        let fits = entry.name.strip_prefix(prefix).is_some_and(is_name);
        if !fits {
            let message = format!("{} is not a name for this section", quote(entry.name));
            reader.error(entry.at, message, format!("{prefix:?} and a name, such as {example:?}"));
        }
        fits
    });
    entries
}

/// A reference to something that its section does not define.
fn undefined<T>(reader: &mut Reader<'_>, at: Range, name: &str, section: &str, defined: &BTreeMap<String, T>) {
    let message = format!("{} is not defined in {section:?}", quote(name));
    if defined.is_empty() || defined.len() > MAX_LISTED {
        reader.error(at, message, format!("a name that {section:?} defines"));
    } else {
        let known: Vec<&str> = defined.keys().map(String::as_str).collect();
        reader.unknown(at, &message, name, &known);
    }
}

const IPSET_EXPECTED: &str = "\"add\" or \"remove\" and an address, a prefix, a range, a host or a set further up, such as \
                              \"add 10.0.0.0/16\"";

const CONDITION_EXPECTED: &str = "an attribute, an operator (==, !=, <, <=, >, >=, IN, NOT IN, IS SET, NOT SET) and a value, \
                                  such as \"node:os IN ['linux', 'macos']\" or \"custom:diskEncrypted == true\"";

/// Steps that computing all sets may take: the product of the ranges of both sides, summed.
const MAX_IPSET_WORK: usize = 20_000_000;
