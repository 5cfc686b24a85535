//! What can be reached: a target as its operator described it, with its addresses on the tailnet.

use std::fmt;
use std::net::IpAddr;

pub use crate::config::{
    Address, CaFile, HostIdentity, Login, PostgresAdmin, PostgresLogin, PostgresTarget, Services, SshTarget, TlsMode,
};
use crate::failure::Failure;

/// A registered target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name; with the tailnet's domain, its DNS name.
    pub name: String,
    /// Its tags, such as `tag:prod`.
    pub tags: Vec<String>,
    /// Its virtual addresses on the tailnet, stable for as long as it is registered.
    pub addresses: Vec<IpAddr>,
    /// How it is reached.
    pub services: Services,
}

/// What is spoken with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 4253.
    Ssh,
    /// PostgreSQL's, version 3.
    Postgres,
}

impl Target {
    /// How it is reached over SSH.
    ///
    /// # Errors
    /// [`Failure::Denied`] when it is not.
    pub fn ssh(&self) -> Result<&SshTarget, Failure> {
        self.services.ssh.as_ref().ok_or_else(|| self.lacks(Protocol::Ssh))
    }

    /// How it is reached as a Postgres server.
    ///
    /// # Errors
    /// [`Failure::Denied`] when it is not.
    pub fn postgres(&self) -> Result<&PostgresTarget, Failure> {
        self.services.postgres.as_ref().ok_or_else(|| self.lacks(Protocol::Postgres))
    }

    /// Where it is dialled for `protocol`.
    ///
    /// # Errors
    /// [`Failure::Denied`] when it does not speak that.
    pub fn address(&self, protocol: Protocol) -> Result<&Address, Failure> {
        match protocol {
            Protocol::Ssh => self.ssh().map(|ssh| &ssh.address),
            Protocol::Postgres => self.postgres().map(|postgres| &postgres.address),
        }
    }

    /// What it speaks.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.into_iter().filter(|protocol| self.address(*protocol).is_ok())
    }

    fn lacks(&self, protocol: Protocol) -> Failure {
        Failure::Denied(format!("{} is not reached over {protocol}: see 'sallyport ls'", self.name))
    }
}

impl Protocol {
    /// All that the gateway speaks.
    pub const ALL: [Self; 2] = [Self::Ssh, Self::Postgres];

    /// The protocol of a port on the tailnet.
    pub fn of_port(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.port() == port)
    }

    /// The port on the tailnet: the protocol's own (RFC 4253, section 4.1; IANA's service names).
    pub fn port(self) -> u16 {
        match self {
            Self::Ssh => 22,
            Self::Postgres => crate::config::POSTGRES_PORT,
        }
    }

    /// The word in lists and recordings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Postgres => "postgres",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh => "SSH",
            Self::Postgres => "Postgres",
        })
    }
}
