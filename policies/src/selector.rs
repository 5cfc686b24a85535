//! The `src` and `dst` of a rule, resolved against the definitions that they name.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::address::AddressSet;
use crate::{Caller, Target};

/// An entry of `src`.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) written: String,
    pub(crate) who: Who,
}

#[derive(Debug, Clone)]
pub(crate) enum Who {
    Anyone,
    User(String),
    Domain(String),
    Group(Arc<BTreeSet<String>>),
    Tag(String),
    Member,
    Tagged,
    Addresses(Arc<AddressSet>),
    /// Accepted for Tailscale's sake; nobody is that here.
    Nobody,
}

impl Source {
    pub(crate) fn covers(&self, caller: &Caller) -> bool {
        match &self.who {
            Who::Anyone => true,
            Who::User(name) => caller.user() == Some(name),
            Who::Domain(domain) => caller
                .user()
                .and_then(|user| user.split_once('@'))
                .is_some_and(|(_, of)| of.eq_ignore_ascii_case(domain)),
            Who::Group(members) => caller.user().is_some_and(|user| members.contains(user)),
            Who::Tag(tag) => caller.tags.contains(tag),
            Who::Member => caller.user().is_some(),
            Who::Tagged => !caller.tags.is_empty(),
            Who::Addresses(set) => caller.addresses.iter().any(|address| set.contains(*address)),
            Who::Nobody => false,
        }
    }
}

/// An entry of `dst`.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) written: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Anything,
    Target(String),
    Tag(String),
    Tagged,
    Addresses(Arc<AddressSet>),
    /// Accepted for Tailscale's sake; no target is that here.
    Nothing,
}

impl Destination {
    pub(crate) fn covers(&self, target: &Target) -> bool {
        match &self.what {
            What::Anything => true,
            What::Target(name) => target.name == *name,
            What::Tag(tag) => target.tags.contains(tag),
            What::Tagged => !target.tags.is_empty(),
            What::Addresses(set) => target.addresses.iter().any(|address| set.contains(*address)),
            What::Nothing => false,
        }
    }
}

/// The entries as they were written, for people.
pub(crate) fn list<'a>(entries: impl IntoIterator<Item = &'a str>) -> String {
    let entries: Vec<&str> = entries.into_iter().collect();
    match entries.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}
