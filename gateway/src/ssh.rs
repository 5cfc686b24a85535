//! SSH, the seam: what the gateway needs of the broker.

use std::sync::Arc;

use sallyport_tailnet::Stream;

use crate::clock::Clock;
use crate::failure::Failure;
use crate::session::Session;
use crate::state::Keys;
use crate::target::Target;

/// What every SSH session needs of the gateway's keys: host key, host certificates, the user CA.
pub struct Vault;

impl Vault {
    /// Prepares the keys for the names under `domain`.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub fn new(_keys: &Keys, _domain: &str, _clock: Clock) -> anyhow::Result<Self> {
        Ok(Self)
    }
}

/// A client that has sent the beginning of an SSH identification string, and nothing was answered yet.
pub struct Greeting;

impl Greeting {
    /// Waits for the first bytes `SSH-` (RFC 4253, section 4.2), bounded in time.
    ///
    /// # Errors
    /// [`Failure::Client`] when they do not come.
    pub async fn read(_stream: Stream) -> Result<Self, Failure> {
        Err(Failure::Ours("not built in".into()))
    }
}

/// Brokers the connection behind `greeting` for `session`.
///
/// # Errors
/// Why it ended, unless both sides were done.
pub async fn serve(_greeting: Greeting, _session: Arc<Session>, _vault: Arc<Vault>) -> Result<(), Failure> {
    Ok(())
}

/// Does the handshake with a caller who was refused, says why in one sentence, and closes.
pub async fn decline(_greeting: Greeting, _vault: &Vault, _target: Option<&Target>, _why: &Failure) {}
