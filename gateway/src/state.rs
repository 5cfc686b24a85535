//! What the gateway remembers: devices, targets, addresses, sessions, flows, checkpoints, the last good policy.
//!
//! One SQLite database in a folder that only its owner can read, beside the gateway's keys. The gateway and the command
//! line open it at the same time (write-ahead log); whoever changes something tells the gateway through `admin`. No secret
//! of a target is in it, and no recording. Nothing here reads the clock: every change is handed its time.

mod checkpoints;
mod devices;
mod flows;
mod folder;
mod health;
mod keys;
mod ledger;
mod policies;
mod roles;
mod sessions;
mod targets;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};

pub use devices::{Enrolled, NewDevice};
pub use flows::Flow;
pub use folder::{Folder, Lock};
pub use health::Health;
pub use keys::Keys;
pub use policies::{KeptPolicy, RefusedPolicy};
pub use roles::{NotedRole, RoleLedger};
pub use sessions::{Opened, SessionFilter, SessionRow};
pub use targets::Known;

use ledger::Ledger;

use crate::addresses::{self, Half, Plan, Taken};
use crate::config::Config;

/// The database, open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    pool: SqlitePool,
    ledger: Ledger,
    plan: Plan,
}

/// Why something could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can look into the folder, or read a key.
    #[error("{} is open to others (mode {mode:03o}): run `chmod {wanted} {}`", path.display(), path.display())]
    Exposed {
        /// The folder or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they have to be.
        wanted: &'static str,
    },
    /// Another gateway has the folder.
    #[error(
        "another gateway is running on the state folder {} (process {pid}): stop it first, or give this one a folder of its own with --state",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other gateway, as far as it has written its id down.
        pid: String,
    },
    /// A key file does not hold what it should.
    #[error("{} is not a key of the gateway ({reason}): put the file back from a backup, or remove it to have a new key made", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The state, or a key, is asked about and was never made.
    #[error(
        "{} is not there: `sallyport init` makes the gateway's state and keys; put it back from a backup if it was lost, or \
         name the right place with --state",
        path.display()
    )]
    Absent {
        /// The folder or file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database is of a newer version, or was altered.
    #[error("the database {} cannot be brought up to date: {source}; it may be of a newer version of sallyport", path.display())]
    Migration {
        /// The database.
        path: PathBuf,
        /// What sqlx said.
        source: sqlx::migrate::MigrateError,
    },
    /// What was asked cannot be done as things are; the sentence says what to do.
    #[error("{0}")]
    Refused(String),
}

impl State {
    /// Opens the state that `config` names, and makes it if there is none.
    ///
    /// # Errors
    /// When the folder or database cannot be opened, is open to others, or does not fit the configured prefixes.
    pub async fn open(config: &Config) -> Result<Self, StateError> {
        Folder::open(&config.state.folder)?;
        let database = &config.state.database;
        folder::create_private(database)?;
        let options = SqliteConnectOptions::new()
            .filename(database)
            .journal_mode(SqliteJournalMode::Wal)
            // A removed device has to stay removed after a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
        let migrated = sqlx::migrate!().run(&pool).await;
        migrated.map_err(|source| StateError::Migration { path: database.clone(), source })?;
        let v6 = match config.tailnet.prefix6 {
            Some(prefix) => prefix,
            None => kept_prefix6(&pool).await?,
        };
        let ledger = Ledger::start(pool.connect_options()).map_err(disk(database))?;
        let state = Self { pool, ledger, plan: Plan::new(config.tailnet.prefix4, v6) };
        state.check_addresses().await?;
        Ok(state)
    }

    /// Opens the state that `config` names, for whoever only asks: none is made.
    ///
    /// # Errors
    /// [`StateError::Absent`] when there is none; otherwise as [`State::open`].
    pub async fn find(config: &Config) -> Result<Self, StateError> {
        Folder::find(&config.state.folder)?;
        match &config.state.database {
            database if !database.exists() => Err(StateError::Absent { path: database.clone() }),
            _ => Self::open(config).await,
        }
    }

    /// The plan of addresses.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Closes the database in good order; the write-ahead log is folded in.
    pub async fn close(self) {
        self.ledger.close().await;
        self.pool.close().await;
    }

    /// Begins a change that no other writer can come in between.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StateError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The address of `holder`, given out now if it has none.
    async fn give_address(
        &self,
        change: &mut Transaction<'static, Sqlite>,
        half: Half,
        holder: &str,
        now: Timestamp,
    ) -> Result<Ipv4Addr, StateError> {
        let held = sqlx::query("SELECT address FROM addresses WHERE holder = ?1 AND released IS NULL").bind(holder);
        if let Some(row) = held.fetch_optional(&mut **change).await? {
            return address(&row);
        }
        let rows = sqlx::query("SELECT address, released FROM addresses").fetch_all(&mut **change).await?;
        let taken = rows.iter().map(|row| {
            Ok::<_, StateError>(Taken { address: address(row)?, released: instant(row.try_get("released")?) })
        });
        let taken: Vec<Taken> = taken.collect::<Result<_, _>>()?;
        let next = self.plan.next(half, &taken, now).ok_or_else(|| {
            let (prefix, _) = self.plan.prefix();
            StateError::Refused(format!(
                "every address of {prefix} is taken: remove something, or give a larger prefix4"
            ))
        })?;
        sqlx::query("INSERT OR REPLACE INTO addresses (address, holder, released) VALUES (?1, ?2, NULL)")
            .bind(i64::from(next.to_bits()))
            .bind(holder)
            .execute(&mut **change)
            .await?;
        Ok(next)
    }

    /// Refuses prefixes that the addresses given out so far are not in.
    async fn check_addresses(&self) -> Result<(), StateError> {
        let rows =
            sqlx::query("SELECT address, holder FROM addresses WHERE released IS NULL").fetch_all(&self.pool).await?;
        for row in rows {
            let (address, holder): (Ipv4Addr, String) = (address(&row)?, row.try_get("holder")?);
            let half = if holder.starts_with("device:") { Half::Devices } else { Half::Services };
            if !self.plan.has(half, address) {
                let (prefix, _) = self.plan.prefix();
                return Err(StateError::Refused(format!(
                    "{holder} has the address {address}, which is not where prefix4 = \"{prefix}\" puts it: \
                     set the prefix that this state was made with, or begin with another state folder"
                )));
            }
        }
        Ok(())
    }
}

/// The random prefix of this state, drawn at its first opening.
async fn kept_prefix6(pool: &SqlitePool) -> Result<Ipv6Net, StateError> {
    sqlx::query("INSERT OR IGNORE INTO settings (name, value) VALUES ('prefix6', ?1)")
        .bind(addresses::random_prefix6().to_string())
        .execute(pool)
        .await?;
    let row = sqlx::query("SELECT value FROM settings WHERE name = 'prefix6'").fetch_one(pool).await?;
    parsed(&row, "value")
}

fn address(row: &SqliteRow) -> Result<Ipv4Addr, StateError> {
    let bits: i64 = row.try_get("address")?;
    u32::try_from(bits).map(Ipv4Addr::from_bits).map_err(|e| damaged("address", e))
}

/// A column that holds something in its textual form.
fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T, StateError>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<String, _>(column)?.parse().map_err(|e| damaged(column, e))
}

/// A column that holds JSON.
fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StateError> {
    serde_json::from_str(&row.try_get::<String, _>(column)?).map_err(|e| damaged(column, e))
}

fn damaged(column: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StateError {
    StateError::Database(sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) })
}

fn instant(milliseconds: Option<i64>) -> Option<Timestamp> {
    milliseconds.and_then(|ms| Timestamp::from_millisecond(ms).ok())
}

fn moment(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StateError> {
    Timestamp::from_millisecond(row.try_get(column)?).map_err(|e| damaged(column, e))
}

fn counter(row: &SqliteRow, column: &'static str) -> Result<u64, StateError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|e| damaged(column, e))
}

/// SQLite's integers are signed; no counter of ours comes near.
fn signed(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Disk { path, source }
}

/// How long to wait for another writer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections to the database: one writes at a time, the others read beside it.
const CONNECTIONS: u32 = 4;

#[cfg(test)]
mod tests;
