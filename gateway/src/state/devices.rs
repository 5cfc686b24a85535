//! Enrolled devices.

use std::net::SocketAddr;

use jiff::Timestamp;
use sallyport_tailnet::{Peer, PresharedKey, PublicKey};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::{State, StateError, address, instant, json, moment, parsed};
use crate::addresses::Half;
use crate::config::Name;
use crate::identity::{Device, Owner};

/// A device to enrol.
#[derive(Debug)]
pub struct NewDevice {
    /// Its name; without one, its owner's is taken, with a number where that is taken.
    pub name: Option<Name>,
    /// Who answers for it.
    pub owner: Owner,
    /// Its WireGuard key.
    pub key: PublicKey,
    /// The key that both sides mix in beside it, against recordings that are broken later.
    pub preshared: PresharedKey,
    /// When its owner has to enrol it again.
    pub expires: Option<Timestamp>,
}

/// A device as it is remembered.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// What decisions are made by.
    pub device: Device,
    /// Its preshared key.
    pub preshared: PresharedKey,
    /// When it was enrolled.
    pub created: Timestamp,
    /// Where its packets last came from.
    pub endpoint: Option<SocketAddr>,
    /// When it last proved its key.
    pub handshake: Option<Timestamp>,
}

impl Enrolled {
    /// The device as the data plane wants it.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer {
            key: self.device.key,
            preshared: Some(self.preshared.clone()),
            addresses: self.device.addresses.clone(),
            endpoint: self.endpoint,
            keepalive: None,
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.device.expires.is_some_and(|expires| expires <= now)
    }
}

impl State {
    /// Enrols a device.
    ///
    /// # Errors
    /// When its name or key is taken, or there is no address left.
    pub async fn add_device(&self, new: NewDevice, now: Timestamp) -> Result<Enrolled, StateError> {
        let mut change = self.begin().await?;
        let taken = sqlx::query("SELECT name FROM devices WHERE public_key = ?1 AND removed IS NULL");
        if let Some(row) = taken.bind(new.key.to_string()).fetch_optional(&mut *change).await? {
            let name: String = row.try_get("name")?;
            return Err(StateError::Refused(format!(
                "{name} has this key already: run `sallyport device rm {name}` first"
            )));
        }
        let name = free_name(&mut change, new.name, &new.owner).await?;
        let (user, tags) = match &new.owner {
            Owner::User(user) => (Some(user.as_str()), None),
            Owner::Tags(tags) => (None, Some(serde_json::json!(tags).to_string())),
        };
        let id = sqlx::query(
            "INSERT INTO devices (name, public_key, preshared, user, tags, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(&name)
        .bind(new.key.to_string())
        .bind(new.preshared.expose().as_str())
        .bind(user)
        .bind(tags)
        .bind(now.as_millisecond())
        .bind(new.expires.map(Timestamp::as_millisecond))
        .execute(&mut *change)
        .await?
        .last_insert_rowid();
        let address = self.give_address(&mut change, Half::Devices, &holder(id), now).await?;
        change.commit().await?;
        let device = Device {
            id,
            name,
            key: new.key,
            owner: new.owner,
            addresses: self.plan.both(address),
            expires: new.expires,
            attributes: std::collections::BTreeMap::new(),
        };
        Ok(Enrolled { device, preshared: new.preshared, created: now, endpoint: None, handshake: None })
    }

    /// Every enrolled device, the expired ones too, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn devices(&self) -> Result<Vec<Enrolled>, StateError> {
        let rows = sqlx::query(
            "SELECT d.*, a.address FROM devices d JOIN addresses a ON a.holder = 'device:' || d.id AND a.released IS NULL
             WHERE d.removed IS NULL ORDER BY d.name",
        );
        rows.fetch_all(&self.pool).await?.iter().map(|row| self.enrolled(row)).collect()
    }

    /// The device with this name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn device(&self, name: &str) -> Result<Enrolled, StateError> {
        let found = self.devices().await?.into_iter().find(|enrolled| enrolled.device.name == name);
        found.ok_or_else(|| no_device(name))
    }

    /// Removes a device for good. Its address rests before another can have it.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn remove_device(&self, name: &str, now: Timestamp) -> Result<(), StateError> {
        let mut change = self.begin().await?;
        let removed = sqlx::query("UPDATE devices SET removed = ?2 WHERE name = ?1 AND removed IS NULL RETURNING id");
        let row = removed.bind(name).bind(now.as_millisecond()).fetch_optional(&mut *change).await?;
        let id: i64 = row.ok_or_else(|| no_device(name))?.try_get("id")?;
        sqlx::query("UPDATE addresses SET released = ?2 WHERE holder = ?1 AND released IS NULL")
            .bind(holder(id))
            .bind(now.as_millisecond())
            .execute(&mut *change)
            .await?;
        Ok(change.commit().await?)
    }

    /// Sets when a device expires; `None` for never.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn expire_device(&self, name: &str, at: Option<Timestamp>) -> Result<(), StateError> {
        let changed = sqlx::query("UPDATE devices SET expires = ?2 WHERE name = ?1 AND removed IS NULL")
            .bind(name)
            .bind(at.map(Timestamp::as_millisecond))
            .execute(&self.pool)
            .await?;
        if changed.rows_affected() == 0 { Err(no_device(name)) } else { Ok(()) }
    }

    /// Remembers where a device's packets come from, so that it can be greeted after a restart.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_seen(
        &self,
        key: &PublicKey,
        endpoint: Option<SocketAddr>,
        handshake: Option<Timestamp>,
    ) -> Result<(), StateError> {
        let seen = "UPDATE devices SET endpoint = coalesce(?2, endpoint), handshake = coalesce(?3, handshake)
                    WHERE public_key = ?1 AND removed IS NULL";
        sqlx::query(seen)
            .bind(key.to_string())
            .bind(endpoint.map(|endpoint| endpoint.to_string()))
            .bind(handshake.map(Timestamp::as_millisecond))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    fn enrolled(&self, row: &SqliteRow) -> Result<Enrolled, StateError> {
        let owner = match row.try_get::<Option<String>, _>("user")? {
            Some(user) => Owner::User(user),
            None => Owner::Tags(json(row, "tags")?),
        };
        let endpoint: Option<String> = row.try_get("endpoint")?;
        Ok(Enrolled {
            device: Device {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                key: parsed(row, "public_key")?,
                owner,
                addresses: self.plan.both(address(row)?),
                expires: instant(row.try_get("expires")?),
                attributes: std::collections::BTreeMap::new(),
            },
            preshared: parsed(row, "preshared")?,
            created: moment(row, "created")?,
            endpoint: endpoint.and_then(|text| text.parse().ok()),
            handshake: instant(row.try_get("handshake")?),
        })
    }
}

/// The wished name if it is free, or else one made from the owner's.
async fn free_name(
    change: &mut Transaction<'static, Sqlite>,
    wished: Option<Name>,
    owner: &Owner,
) -> Result<String, StateError> {
    let rows = sqlx::query("SELECT name FROM devices WHERE removed IS NULL").fetch_all(&mut **change).await?;
    let taken = rows.iter().map(|row| row.try_get("name")).collect::<Result<std::collections::HashSet<String>, _>>()?;
    if let Some(name) = wished {
        return match taken.contains(name.as_str()) {
            false => Ok(name.into()),
            true => Err(StateError::Refused(format!("there is a device named {name} already: choose another --name"))),
        };
    }
    let base = base_name(owner);
    let mut name = base.clone();
    let mut number = 1_u32;
    while taken.contains(&name) {
        number += 1;
        name = format!("{base}-{number}");
    }
    Ok(name)
}

/// What a device is called after its owner: the part before the `@`, or the first tag.
fn base_name(owner: &Owner) -> String {
    let text = match owner {
        Owner::User(user) => user.split('@').next().unwrap_or_default(),
        Owner::Tags(tags) => tags.first().and_then(|tag| tag.strip_prefix("tag:")).unwrap_or_default(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().take(50).map(plain).collect();
    match text.trim_matches('-') {
        "" => "device".to_owned(),
        text => text.to_owned(),
    }
}

fn holder(id: i64) -> String {
    format!("device:{id}")
}

fn no_device(name: &str) -> StateError {
    StateError::Refused(format!("there is no device named {name:?}: `sallyport device ls` shows them"))
}
