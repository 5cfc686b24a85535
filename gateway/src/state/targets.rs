//! Registered targets: those of `sallyport.toml` and those of `sallyport target add`, with their virtual addresses.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::Row;

use super::{State, StateError, json, parsed};
use crate::addresses::Half;
use crate::config;
use crate::target::Target;

/// A target and where it was described.
#[derive(Clone, Debug)]
pub struct Known {
    /// The target.
    pub target: Target,
    /// Whether `sallyport.toml` describes it; otherwise it is in the database.
    pub in_file: bool,
}

impl State {
    /// Every target, by name: those `written` in the configuration and those added since. Each gets its addresses at the
    /// first call that sees it, and keeps them.
    ///
    /// # Errors
    /// When a name is both in the file and in the database, or there is no address left.
    pub async fn targets(&self, written: &[config::Target], now: Timestamp) -> Result<Vec<Known>, StateError> {
        let mut change = self.begin().await?;
        let mut described: Vec<(config::Target, bool)> = written.iter().map(|target| (target.clone(), true)).collect();
        for row in sqlx::query("SELECT name, tags, services FROM targets").fetch_all(&mut *change).await? {
            let name: config::Name = parsed(&row, "name")?;
            if written.iter().any(|target| target.name == name) {
                return Err(StateError::Refused(format!(
                    "the target {name} is both in sallyport.toml and in the database: take it out of the file, or run `sallyport target rm {name}`"
                )));
            }
            let (tags, services) = (json(&row, "tags")?, json(&row, "services")?);
            described.push((config::Target { name, tags, services }, false));
        }
        described.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let mut known = Vec::with_capacity(described.len());
        for (target, in_file) in described {
            let address = self.give_address(&mut change, Half::Services, &holder(target.name.as_str()), now).await?;
            let target = Target {
                name: target.name.into(),
                tags: target.tags.into_iter().map(String::from).collect(),
                addresses: self.plan.both(address),
                services: target.services,
            };
            known.push(Known { target, in_file });
        }
        change.commit().await?;
        Ok(known)
    }

    /// Releases the addresses of targets that are not among `known`, for the gateway, which knows all of them. A command may
    /// have been given another configuration, and only looks.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_gone(&self, known: &[Known], now: Timestamp) -> Result<(), StateError> {
        let names: HashSet<String> = known.iter().map(|known| holder(&known.target.name)).collect();
        let mut change = self.begin().await?;
        let held = sqlx::query("SELECT holder FROM addresses WHERE released IS NULL AND holder LIKE 'target:%'");
        for row in held.fetch_all(&mut *change).await? {
            let holder: String = row.try_get("holder")?;
            if !names.contains(&holder) {
                release(&mut change, &holder, now).await?;
            }
        }
        Ok(change.commit().await?)
    }

    /// Adds a target to the database.
    ///
    /// # Errors
    /// When there is one of this name, there or among those `written` in the configuration.
    pub async fn add_target(
        &self,
        target: &config::Target,
        written: &[config::Target],
        now: Timestamp,
    ) -> Result<(), StateError> {
        let name = &target.name;
        let taken = || {
            StateError::Refused(format!(
                "there is a target named {name} already: `sallyport target rm {name}`, or choose another name"
            ))
        };
        if written.iter().any(|written| written.name == *name) {
            return Err(taken());
        }
        let services = serde_json::to_string(&target.services);
        let services = services.map_err(|e| StateError::Database(sqlx::Error::Encode(Box::new(e))))?;
        let added = sqlx::query("INSERT OR IGNORE INTO targets (name, tags, services, added) VALUES (?1, ?2, ?3, ?4)")
            .bind(name.as_str())
            .bind(serde_json::json!(target.tags).to_string())
            .bind(services)
            .bind(now.as_millisecond())
            .execute(&self.pool)
            .await?;
        if added.rows_affected() == 0 { Err(taken()) } else { Ok(()) }
    }

    /// Removes a target from the database. Its address rests before another can have it.
    ///
    /// # Errors
    /// When it is not in the database.
    pub async fn remove_target(
        &self,
        name: &str,
        written: &[config::Target],
        now: Timestamp,
    ) -> Result<(), StateError> {
        if written.iter().any(|target| target.name.as_str() == name) {
            return Err(StateError::Refused(format!(
                "{name} is in sallyport.toml: take its [[target]] out of the file"
            )));
        }
        let mut change = self.begin().await?;
        let removed = sqlx::query("DELETE FROM targets WHERE name = ?1").bind(name).execute(&mut *change).await?;
        if removed.rows_affected() == 0 {
            return Err(StateError::Refused(format!(
                "there is no target named {name:?}: `sallyport target ls` shows them"
            )));
        }
        release(&mut change, &holder(name), now).await?;
        Ok(change.commit().await?)
    }
}

async fn release(
    change: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    holder: &str,
    now: Timestamp,
) -> Result<(), StateError> {
    sqlx::query("UPDATE addresses SET released = ?2 WHERE holder = ?1 AND released IS NULL")
        .bind(holder)
        .bind(now.as_millisecond())
        .execute(&mut **change)
        .await?;
    Ok(())
}

fn holder(name: &str) -> String {
    format!("target:{name}")
}
