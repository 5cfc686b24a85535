//! Whose key is it: from an arrival on the tailnet to the caller behind it.
//!
//! WireGuard has proved the key before a byte arrives here; this module finds the device that was enrolled with it and
//! its owner. It owns no decision about targets: that is `access`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use sallyport_policies::Value;
use sallyport_tailnet::{Arrival, InnerEnds, PublicKey};

use crate::failure::Failure;

/// Where a connection came from and where it wants to go, as the data plane proved it.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    device: PublicKey,
    source: SocketAddr,
    destination: SocketAddr,
}

impl From<&Arrival> for Origin {
    fn from(arrival: &Arrival) -> Self {
        Self { device: arrival.device, source: arrival.source, destination: arrival.destination }
    }
}

impl Origin {
    /// The key that the device is known by.
    pub fn device(&self) -> PublicKey {
        self.device
    }

    /// All of it, for the record of a connection inside another one.
    pub(crate) fn ends(&self) -> InnerEnds {
        InnerEnds { device: self.device, source: self.source, destination: self.destination }
    }

    /// The address and port that the device called.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }
}

/// An enrolled device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// The device's number in the database.
    pub id: i64,
    /// Its name, for people.
    pub name: String,
    /// Its WireGuard public key.
    pub key: PublicKey,
    /// Who answers for it.
    pub owner: Owner,
    /// Its tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// When its owner has to enrol it again.
    pub expires: Option<Timestamp>,
    /// Its posture: attribute name to value.
    pub attributes: BTreeMap<String, Value>,
}

/// Who answers for a device: a person, or, for a machine, its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A user's login, such as `alice@example.com`.
    User(String),
    /// Tags such as `tag:ci`.
    Tags(Vec<String>),
}

impl Owner {
    /// The user's login, where a person answers for the device.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::User(login) => Some(login),
            Self::Tags(_) => None,
        }
    }

    /// The tags, where it answers for itself; none otherwise.
    pub fn tags(&self) -> &[String] {
        match self {
            Self::User(_) => &[],
            Self::Tags(tags) => tags,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(login) => f.write_str(login),
            Self::Tags(tags) => f.write_str(&tags.join(",")),
        }
    }
}

/// A device at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Caller {
    device: Arc<Device>,
    source: SocketAddr,
}

impl Caller {
    /// The device that calls.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same device, calling `destination` inside a connection that has proved it.
    pub(crate) fn calling(&self, destination: SocketAddr) -> Origin {
        Origin { device: self.device.key, source: self.source, destination }
    }

    /// Its address and port inside the tailnet.
    pub fn source(&self) -> SocketAddr {
        self.source
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.device.owner, self.device.name)
    }
}

/// The enrolled devices by key, as they stand at one moment.
#[derive(Debug, Default)]
pub struct Directory {
    by_key: HashMap<PublicKey, Arc<Device>>,
}

impl Directory {
    /// Indexes `devices`.
    pub fn new(devices: impl IntoIterator<Item = Device>) -> Self {
        Self { by_key: devices.into_iter().map(|device| (device.key, Arc::new(device))).collect() }
    }

    /// The caller behind a connection.
    ///
    /// # Errors
    /// [`Failure::Denied`] when the key is not enrolled, has expired by `now`, or used an address that is not its own.
    pub fn identify(&self, origin: &Origin, now: Timestamp) -> Result<Caller, Failure> {
        let device = self.current(&origin.device, now)?;
        // INVARIANT: the data plane binds source addresses to keys by allowed-IPs; this holds even if it did not.
        if !device.addresses.contains(&origin.source.ip()) {
            return Err(Failure::Denied(format!("{} is not an address of {}", origin.source.ip(), device.name)));
        }
        Ok(Caller { device, source: origin.source })
    }

    /// The enrolled, unexpired device with `key`.
    ///
    /// # Errors
    /// [`Failure::Denied`] as for [`Directory::identify`].
    pub fn current(&self, key: &PublicKey, now: Timestamp) -> Result<Arc<Device>, Failure> {
        let device = self.by_key.get(key).ok_or_else(|| {
            Failure::Denied(
                "this device is not enrolled, or was removed: ask an operator for 'sallyport device add'".into(),
            )
        })?;
        match device.expires {
            Some(expires) if expires <= now => Err(Failure::Denied(format!(
                "the key of {} expired at {expires}: ask an operator to enrol it again",
                device.name
            ))),
            _ => Ok(Arc::clone(device)),
        }
    }

    /// When the enrolled device with `key` expires, or did; `None` where it never does.
    pub fn expiry(&self, key: &PublicKey) -> Option<Timestamp> {
        self.by_key.get(key)?.expires
    }

    /// All devices, in no order.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.by_key.values()
    }
}
