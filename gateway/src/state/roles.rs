//! Roles that were made on database servers: what has to be cleaned up there, whatever becomes of the gateway meanwhile.

use jiff::Timestamp;
use sqlx::Row;

use super::{State, StateError, moment};

/// The part of the state that whoever makes roles may use.
#[derive(Clone, Debug)]
pub struct RoleLedger(State);

/// A role that may be on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedRole {
    /// The target's name.
    pub target: String,
    /// The role's.
    pub role: String,
    /// When it was last about to be made.
    pub noted: Timestamp,
}

impl State {
    /// The ledger of roles.
    #[must_use]
    pub fn roles(&self) -> RoleLedger {
        RoleLedger(self.clone())
    }
}

impl RoleLedger {
    /// Notes a role that is about to be made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note(&self, target: &str, role: &str, now: Timestamp) -> Result<(), StateError> {
        sqlx::query(
            "INSERT INTO made_roles (target, role, noted) VALUES (?1, ?2, ?3)
             ON CONFLICT (target, role) DO UPDATE SET noted = excluded.noted",
        )
        .bind(target)
        .bind(role)
        .bind(now.as_millisecond())
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    /// Strikes out a role of which nothing is left to clean up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn strike(&self, target: &str, role: &str) -> Result<(), StateError> {
        let struck = sqlx::query("DELETE FROM made_roles WHERE target = ?1 AND role = ?2").bind(target).bind(role);
        struck.execute(&self.0.pool).await?;
        Ok(())
    }

    /// Every role that is noted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn noted(&self) -> Result<Vec<NotedRole>, StateError> {
        let rows = sqlx::query("SELECT * FROM made_roles ORDER BY target, role").fetch_all(&self.0.pool).await?;
        let noted = rows.iter().map(|row| {
            Ok(NotedRole { target: row.try_get("target")?, role: row.try_get("role")?, noted: moment(row, "noted")? })
        });
        noted.collect()
    }
}
