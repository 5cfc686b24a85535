//! Policies that were accepted: the last good one serves when the file has become wrong.

use jiff::Timestamp;
use sqlx::Row;

use super::{State, StateError, moment};

/// A policy that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPolicy {
    /// Its revision.
    pub revision: String,
    /// Its text.
    pub text: String,
    /// When it was last accepted.
    pub accepted: Timestamp,
}

impl State {
    /// Keeps a policy that was accepted now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_policy(&self, revision: &str, text: &str, now: Timestamp) -> Result<(), StateError> {
        sqlx::query(
            "INSERT INTO policies (revision, text, accepted) VALUES (?1, ?2, ?3)
             ON CONFLICT (revision) DO UPDATE SET accepted = excluded.accepted",
        )
        .bind(revision)
        .bind(text)
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The policy that was accepted last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_policy(&self) -> Result<Option<KeptPolicy>, StateError> {
        let last = sqlx::query("SELECT * FROM policies ORDER BY accepted DESC LIMIT 1");
        let Some(row) = last.fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(KeptPolicy {
            revision: row.try_get("revision")?,
            text: row.try_get("text")?,
            accepted: moment(&row, "accepted")?,
        }))
    }
}
