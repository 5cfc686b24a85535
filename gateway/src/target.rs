//! What can be reached: a target as its operator described it, with its addresses on the tailnet.

use std::net::IpAddr;

pub use crate::config::{Address, HostIdentity, Login, SshTarget};

/// A registered target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name; with the tailnet's domain, its DNS name.
    pub name: String,
    /// Its tags, such as `tag:prod`.
    pub tags: Vec<String>,
    /// Its virtual addresses on the tailnet, stable for as long as it is registered.
    pub addresses: Vec<IpAddr>,
    /// How it is reached over SSH.
    pub ssh: SshTarget,
}
