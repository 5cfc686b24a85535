//! The gateway's last words to every channel of a connection.

use tokio::sync::watch;

/// What every channel is told when the connection ends, once something is.
#[derive(Debug, Clone)]
pub(in crate::ssh) struct Farewell(watch::Sender<Option<String>>);

impl Default for Farewell {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Farewell {
    /// Ends every channel with `sentence`.
    pub(in crate::ssh) fn say(&self, sentence: &str) {
        self.0.send_replace(Some(sentence.to_owned()));
    }

    /// Resolves with the sentence.
    pub(super) async fn said(&self) -> String {
        let mut words = self.0.subscribe();
        let said = words.wait_for(Option::is_some).await;
        said.ok().and_then(|sentence| sentence.clone()).unwrap_or_default()
    }
}
