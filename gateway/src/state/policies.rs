//! Policies that were accepted: the last good one serves when the file has become wrong.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{State, StateError, json, moment};

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

/// The last edit of the policy file that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPolicy {
    /// When it was first seen.
    pub at: Timestamp,
    /// Its mistakes, a line each, with file, line and column where they have a place.
    pub problems: Vec<String>,
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

    /// Keeps the mistakes of an edit that was refused now, in the place of those before; of the same ones, the first time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_refused_policy(&self, problems: &[String], now: Timestamp) -> Result<(), StateError> {
        let cut = |problem: &String| problem.chars().take(LONGEST_PROBLEM).collect();
        let problems: Vec<String> = problems.iter().take(MOST_PROBLEMS).map(cut).collect();
        if self.refused_policy().await?.is_some_and(|kept| kept.problems == problems) {
            return Ok(());
        }
        let value = serde_json::to_string(&RefusedPolicy { at: now, problems });
        let value = value.map_err(|e| StateError::Database(sqlx::Error::Encode(Box::new(e))))?;
        sqlx::query("INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)")
            .bind(REFUSED)
            .bind(value)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets the refused edit: what stands in the file is accepted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_refused_policy(&self) -> Result<(), StateError> {
        sqlx::query("DELETE FROM settings WHERE name = ?1").bind(REFUSED).execute(&self.pool).await?;
        Ok(())
    }

    /// The edit that was refused, for as long as none was accepted after it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refused_policy(&self) -> Result<Option<RefusedPolicy>, StateError> {
        let kept = sqlx::query("SELECT value FROM settings WHERE name = ?1").bind(REFUSED);
        kept.fetch_optional(&self.pool).await?.map(|row| json(&row, "value")).transpose()
    }
}

/// The setting that holds the refused edit.
const REFUSED: &str = "refused_policy";
/// Mistakes of a refused edit that are kept.
const MOST_PROBLEMS: usize = 100;
/// Characters of each that are kept.
const LONGEST_PROBLEM: usize = 1_000;
