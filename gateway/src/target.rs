//! What can be reached: a target's name, its addresses on the tailnet, and how each protocol gets to the real thing.
//!
//! Plain data, made from `sallyport.toml` and from `sallyport target add`. Secrets are references, resolved when a
//! credential is issued.

use std::net::IpAddr;

use crate::secrets::SecretRef;

/// A registered target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name; with the tailnet's domain, its DNS name.
    pub name: String,
    /// Its tags, such as `tag:prod`.
    pub tags: Vec<String>,
    /// Its virtual addresses on the tailnet, stable for as long as it is registered.
    pub addresses: Vec<IpAddr>,
    /// How to reach it by SSH.
    pub ssh: Option<SshTarget>,
}

/// The SSH side of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct SshTarget {
    /// `host:port` on the gateway's own network.
    pub address: String,
    /// What proves that the host is the one that was registered.
    pub host_key: HostKey,
    /// How the gateway logs in.
    pub login: SshLogin,
}

/// What an SSH host must prove.
#[derive(Debug, Clone, PartialEq)]
pub enum HostKey {
    /// One of these public keys, as `ssh-ed25519 AAAA…`.
    Pinned(Vec<String>),
    /// A host certificate by one of these CAs, for one of its names.
    Authority(Vec<String>),
}

/// How the gateway logs in to an SSH host.
#[derive(Debug, Clone, PartialEq)]
pub enum SshLogin {
    /// A user certificate minted for the session from the gateway's SSH CA.
    Certificate,
    /// A private key.
    Key(SecretRef),
    /// A password.
    Password(SecretRef),
}
