//! How far a session has come, and what its caller may do by the newest policy.

use std::sync::Arc;

use tokio::sync::watch;

use super::Session;
use crate::access::{Given, SshPermit};

/// How far a session has come.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// The caller may open a transport; the account is not known yet.
    Approaching,
    /// The account that the caller asked for last is not for them.
    Refused { account: String },
    /// The caller is in, with this.
    Permitted(Given),
}

/// What a session's caller may do over SSH, by the newest policy at any time.
#[derive(Debug, Clone)]
pub struct SshPermits(watch::Receiver<Standing>);

impl SshPermits {
    /// The permit that holds now.
    ///
    /// # Errors
    /// That there is none, as a sentence for the caller.
    pub fn now(&self) -> Result<Arc<SshPermit>, String> {
        match &*self.0.borrow() {
            Standing::Permitted(Given::Ssh(permit)) => Ok(Arc::clone(permit)),
            _ => Err("no account is permitted here".to_owned()),
        }
    }

    /// Waits until another permit holds than when this was made, or since the last wait. Cancel-safe.
    pub async fn renewed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Session {
    /// What its caller may do over SSH from now on.
    pub fn ssh_permits(&self) -> SshPermits {
        SshPermits(self.standing.subscribe())
    }
}
