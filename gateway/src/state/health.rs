//! Whether the database is whole, for `sallyport doctor`.

use jiff::Timestamp;
use sqlx::Row;

use super::{State, StateError, instant};

/// What the database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The version of its tables.
    pub version: i64,
    /// What is damaged; empty when nothing is.
    pub damage: Vec<String>,
}

impl State {
    /// Has the database check itself, which reads all of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn health(&self) -> Result<Health, StateError> {
        let found = sqlx::query("PRAGMA quick_check(10)").fetch_all(&self.pool).await?;
        let said: Vec<String> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let version = sqlx::query("SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations WHERE success");
        let version = version.fetch_one(&self.pool).await?.try_get("version")?;
        Ok(Health { version, damage: said.into_iter().filter(|line| line != "ok").collect() })
    }

    /// The newest time that was ever written down.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_time(&self) -> Result<Option<Timestamp>, StateError> {
        let newest = sqlx::query(
            "SELECT max(at) AS at FROM (SELECT max(started) AS at FROM sessions UNION ALL SELECT max(accepted) FROM policies
             UNION ALL SELECT max(created) FROM devices UNION ALL SELECT max(added) FROM targets)",
        );
        Ok(instant(newest.fetch_one(&self.pool).await?.try_get("at")?))
    }
}
