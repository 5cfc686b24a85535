//! The gateway's last words to every channel of a connection.

use tokio::sync::watch;

/// What every channel is told when the connection ends, once something is.
#[derive(Debug, Clone)]
pub(in crate::ssh) struct Farewell(watch::Sender<Option<Words>>);

/// The last words.
#[derive(Debug, Clone)]
pub(super) struct Words {
    /// For whoever reads what comes on a channel.
    pub(super) sentence: String,
    /// For what runs at the target.
    pub(super) programs: Programs,
}

/// What becomes of programs without a terminal, which do not notice that their channel has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ssh) enum Programs {
    /// They are to end: what let them run does not hold any more.
    End,
    /// They are left as they would be behind any connection that is lost.
    Leave,
}

impl Default for Farewell {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Farewell {
    /// Ends every channel with `sentence`.
    pub(in crate::ssh) fn say(&self, sentence: &str, programs: Programs) {
        self.0.send_replace(Some(Words { sentence: sentence.to_owned(), programs }));
    }

    /// Resolves with the words.
    pub(super) async fn said(&self) -> Words {
        let mut words = self.0.subscribe();
        let said = words.wait_for(Option::is_some).await;
        let nothing = Words { sentence: String::new(), programs: Programs::Leave };
        said.ok().and_then(|words| words.clone()).unwrap_or(nothing)
    }
}
