//! What the gateway knows at one moment: the policy, the devices, the targets. Immutable, and replaced whole.
//!
//! Everyone who decides reads the newest world when it decides, so that a decision is never made on a stale one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use sallyport_policies::Policy;

use crate::identity::Directory;
use crate::target::Target;

/// One revision of everything that decisions depend on.
#[derive(Debug)]
pub struct World {
    /// Counts up with every change, so that a session can say which world it was last judged by.
    pub revision: u64,
    /// Who may reach what.
    pub policy: Arc<Policy>,
    /// Whose key is it.
    pub directory: Directory,
    targets: HashMap<IpAddr, Arc<Target>>,
    domain: String,
}

impl World {
    /// Indexes `targets` by their tailnet addresses.
    pub fn new(revision: u64, policy: Arc<Policy>, directory: Directory, targets: Vec<Target>) -> Self {
        let targets = targets
            .into_iter()
            .map(Arc::new)
            .flat_map(|target| target.addresses.clone().into_iter().map(move |address| (address, Arc::clone(&target))))
            .collect();
        Self { revision, policy, directory, targets, domain: String::new() }
    }

    /// The same world, with its names below `domain`.
    #[must_use]
    pub fn named(self, domain: &str) -> Self {
        Self { domain: domain.trim_matches('.').to_ascii_lowercase(), ..self }
    }

    /// Every target, once for each of its addresses.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// The target that a caller means by `host`: its name, its name below the domain, or one of its addresses here.
    pub fn target_named(&self, host: &str) -> Option<&Arc<Target>> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if let Ok(address) = host.parse() {
            return self.target_at(address);
        }
        let below = || host.strip_suffix(&self.domain)?.strip_suffix('.').filter(|_| !self.domain.is_empty());
        let name = below().unwrap_or(&host);
        self.targets.values().find(|target| target.name.eq_ignore_ascii_case(name))
    }

    /// The target that answers at `address`.
    pub fn target_at(&self, address: IpAddr) -> Option<&Arc<Target>> {
        self.targets.get(&address)
    }
}
