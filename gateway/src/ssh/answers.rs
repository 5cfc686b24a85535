//! Keeps answers in the order of their requests (RFC 4254, section 5.4: they carry no number).
//!
//! Some requests are answered by the target and some by us; ours must not overtake one that the target still owes.

use std::collections::VecDeque;

use russh::{ChannelWriteHalf, server};
use tokio::sync::Mutex;

/// The answers that a client waits for on one channel.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<VecDeque<Owed>>);

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// The target.
    Target,
    /// We do, with a refusal.
    Refusal,
}

type ToClient = ChannelWriteHalf<server::Msg>;

impl Answers {
    /// A request that wants a reply was passed on to the target.
    pub(super) async fn passed_on(&self) {
        self.0.lock().await.push_back(Owed::Target);
    }

    /// A request that wants a reply was refused by us.
    pub(super) async fn refused(&self, client: &ToClient) -> Result<(), russh::Error> {
        let mut owed = self.0.lock().await;
        match owed.is_empty() {
            // Sent under the lock, so that no later answer overtakes it.
            true => client.reply(false).await,
            false => {
                owed.push_back(Owed::Refusal);
                Ok(())
            }
        }
    }

    /// The target answered; an answer that nobody waits for is dropped.
    pub(super) async fn answered(&self, client: &ToClient, success: bool) -> Result<(), russh::Error> {
        let mut owed = self.0.lock().await;
        if owed.pop_front().is_some() {
            client.reply(success).await?;
        }
        while owed.front() == Some(&Owed::Refusal) {
            owed.pop_front();
            client.reply(false).await?;
        }
        Ok(())
    }
}
