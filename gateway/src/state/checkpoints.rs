//! Heads of recordings' chains, kept apart from the recordings, so that cutting off a tail shows.

use jiff::Timestamp;
use sallyport_recorder::{Checkpoint, SessionId};

use super::{State, StateError, counter, moment, parsed, signed};

impl State {
    /// Keeps the newest head of a session's chain; an older one never takes its place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_checkpoint(&self, session: SessionId, head: &Checkpoint) -> Result<(), StateError> {
        let note = sqlx::query(
            "INSERT INTO checkpoints (session, segments, hash, at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (session) DO UPDATE SET segments = excluded.segments, hash = excluded.hash, at = excluded.at
             WHERE excluded.segments >= segments",
        )
        .bind(session.to_string())
        .bind(signed(head.segments))
        .bind(head.hash.to_string())
        .bind(Timestamp::as_millisecond(head.at));
        self.ledger.keep(note).await
    }

    /// The newest head that was kept for a session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn checkpoint(&self, session: SessionId) -> Result<Option<Checkpoint>, StateError> {
        let kept = sqlx::query("SELECT * FROM checkpoints WHERE session = ?1").bind(session.to_string());
        let Some(row) = kept.fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(Checkpoint {
            segments: counter(&row, "segments")?,
            hash: parsed(&row, "hash")?,
            at: moment(&row, "at")?,
        }))
    }
}
