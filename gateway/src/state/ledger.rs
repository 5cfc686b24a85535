//! Keeps the changes that many sessions make at a time, together: one commit, and one wait for the disk, for all that have
//! come meanwhile.
//!
//! SQLite has one writer, and each of its commits waits for the disk. Sessions that begin and end at the same time would
//! wait for one another; so one task writes for all of them, and whoever has asked is answered after the commit.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::StateError;

/// A change, with its values.
pub(super) type Note = Query<'static, Sqlite, SqliteArguments>;

/// Where changes are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Ledger(mpsc::Sender<Entry>);

/// A change, and who waits for it.
struct Entry {
    note: Note,
    kept: oneshot::Sender<Kept>,
}

/// Whether a change was kept.
type Kept = Result<(), sqlx::Error>;

impl Ledger {
    /// Writes to `pool` in a task that ends with the last clone.
    pub(super) fn start(pool: SqlitePool) -> Self {
        let (sender, entries) = mpsc::channel(WAITING_MAX);
        tokio::spawn(keep_books(pool, entries));
        Self(sender)
    }

    /// Keeps one change, and waits until it is durable. Where the caller gives up, it may be kept all the same.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn keep(&self, note: Note) -> Result<(), StateError> {
        let (kept, answer) = oneshot::channel();
        if self.0.send(Entry { note, kept }).await.is_err() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        Ok(answer.await.unwrap_or(Err(sqlx::Error::PoolClosed))?)
    }
}

/// Writes down what comes, all that has come at a time.
async fn keep_books(pool: SqlitePool, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut done = Vec::with_capacity(batch.len());
        let written = write(&pool, batch.drain(..), &mut done).await;
        for (kept, result) in done {
            let result = match &written {
                Ok(()) => result,
                // One failure is all of theirs; the error itself cannot be copied.
                Err(error) => Err(sqlx::Error::Protocol(error.to_string())),
            };
            // Somebody who has given up does not want to know.
            let _ = kept.send(result);
        }
    }
}

/// The changes in one transaction. One that fails by itself takes no other with it.
async fn write(
    pool: &SqlitePool,
    batch: impl Iterator<Item = Entry>,
    done: &mut Vec<(oneshot::Sender<Kept>, Kept)>,
) -> Result<(), sqlx::Error> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await;
    for Entry { note, kept } in batch {
        let result = match &mut change {
            Ok(change) => note.execute(&mut **change).await.map(drop),
            Err(_) => Ok(()),
        };
        done.push((kept, result));
    }
    change?.commit().await
}

/// Changes that wait to be written; whoever comes then waits for a place.
const WAITING_MAX: usize = 256;
/// Changes in one commit.
const BATCH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[tokio::test]
    async fn a_change_that_fails_takes_no_other_with_it() {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE things (name TEXT PRIMARY KEY)").execute(&pool).await.unwrap();
        let ledger = Ledger::start(pool.clone());
        let keep = |name: &str| {
            let (ledger, name) = (ledger.clone(), name.to_owned());
            async move { ledger.keep(sqlx::query("INSERT INTO things VALUES (?1)").bind(name)).await }
        };
        let (first, second, again, third) = tokio::join!(keep("a"), keep("b"), keep("a"), keep("c"));
        assert!(first.is_ok() && second.is_ok() && third.is_ok(), "{first:?} {second:?} {third:?}");
        assert!(again.unwrap_err().to_string().contains("UNIQUE"));
        let kept: Vec<String> =
            sqlx::query_scalar("SELECT name FROM things ORDER BY name").fetch_all(&pool).await.unwrap();
        assert_eq!(kept, ["a", "b", "c"]);

        pool.close().await;
        assert!(keep("d").await.is_err(), "a closed database has kept something");
    }
}
