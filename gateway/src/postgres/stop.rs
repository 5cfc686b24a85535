//! Has a session's server stop what runs: because the client asks for it, because a result has grown too large, or because the
//! session ends.

use std::time::Duration;

use sallyport_recorder::Event;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use super::cancel::Wish;
use super::reach;
use super::watch::Watch;
use super::wire::CancelKey;
use crate::credentials::PostgresVault;
use crate::failure::Ending;
use crate::session::Session;

/// Stops what runs on one session's connection, each time on a connection of its own.
pub(super) struct Stopper<'a> {
    pub(super) session: &'a Session,
    pub(super) vault: &'a PostgresVault,
    /// What the server has given for it, if it has.
    pub(super) key: Option<CancelKey>,
}

impl Stopper<'_> {
    /// Passes the client's cancellations on, one after the other.
    pub(super) async fn as_wished(&self, mut wishes: mpsc::Receiver<Wish>) -> Ending {
        while let Some(done) = wishes.recv().await {
            let _ = self.session.record(Event::DatabaseCancel).await;
            self.stop().await;
            let _ = done.send(());
        }
        std::future::pending().await
    }

    /// Stops each statement that has brought back too much.
    pub(super) async fn as_limited(&self, watch: &Watch) -> Ending {
        loop {
            watch.to_be_stopped().await;
            self.stop().await;
        }
    }

    /// Stops what a session that is over has left running.
    pub(super) async fn at_the_end(&self) {
        let _ = timeout(STOPPING, self.stop()).await;
    }

    async fn stop(&self) {
        let Some(key) = &self.key else { return };
        if let Err(failure) = reach::cancel(self.session, self.vault, key).await {
            debug!(session = %self.session.id(), %failure, "a cancellation was not passed on");
        }
    }
}

/// How long the end of a session may wait for its statement to be stopped: less than the broker is given for its farewell.
const STOPPING: Duration = Duration::from_secs(2);
