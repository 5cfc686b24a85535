//! Keeps the changes that many sessions make at a time, together: one commit, and one wait for the disk, for all that have
//! come meanwhile.
//!
//! SQLite has one writer, and each of its commits waits for the disk. Sessions that begin and end at the same time would
//! wait for one another; so one thread writes for all of them, and whoever has asked is answered after the commit. It has
//! a connection of its own: another one's commit makes a connection forget every page that it has read.

use std::sync::Arc;
use std::thread;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{Connection, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::StateError;

/// A change, with its values.
pub(super) type Note = Query<'static, Sqlite, SqliteArguments>;

/// Where changes are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Ledger(mpsc::Sender<Entry>);

/// What is handed in, and who waits for it.
enum Entry {
    /// A change.
    Note(Change),
    /// Nothing more is to be kept.
    Close(oneshot::Sender<()>),
}

/// A change, and who waits for it.
struct Change {
    note: Note,
    kept: oneshot::Sender<Kept>,
}

/// Whether a change was kept.
type Kept = Result<(), sqlx::Error>;

impl Ledger {
    /// Writes by `options` in a thread that ends with the last clone.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(options: Arc<SqliteConnectOptions>) -> std::io::Result<Self> {
        let (sender, entries) = mpsc::channel(WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let keep = move || runtime.block_on(keep_books(&options, entries));
        thread::Builder::new().name("ledger".to_owned()).spawn(keep)?;
        Ok(Self(sender))
    }

    /// Keeps one change, and waits until it is durable. Where the caller gives up, it may be kept all the same.
    ///
    /// # Errors
    /// When the database fails, or was closed.
    pub(super) async fn keep(&self, note: Note) -> Result<(), StateError> {
        let (kept, answer) = oneshot::channel();
        if self.0.send(Entry::Note(Change { note, kept })).await.is_err() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        Ok(answer.await.unwrap_or(Err(sqlx::Error::PoolClosed))?)
    }

    /// Keeps what was handed in so far, and closes the connection.
    pub(super) async fn close(&self) {
        let (closed, answer) = oneshot::channel();
        if self.0.send(Entry::Close(closed)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// Writes down what comes, all that has come at a time.
async fn keep_books(options: &SqliteConnectOptions, mut entries: mpsc::Receiver<Entry>) {
    let mut connection = None;
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (mut changes, mut closed) = (Vec::new(), None);
        for entry in batch.drain(..) {
            match entry {
                Entry::Note(change) => changes.push(change),
                Entry::Close(done) => closed = Some(done),
            }
        }
        keep_changes(options, &mut connection, changes).await;
        if let Some(closed) = closed {
            if let Some(connection) = connection.take() {
                let _ = SqliteConnection::close(connection).await;
            }
            // Whoever comes now finds nobody.
            drop(entries);
            let _ = closed.send(());
            return;
        }
    }
}

/// Writes the changes and tells each of those who wait for one.
async fn keep_changes(options: &SqliteConnectOptions, connection: &mut Option<SqliteConnection>, changes: Vec<Change>) {
    let mut done = Vec::with_capacity(changes.len());
    let written = async {
        let opened = match connection.take() {
            Some(opened) => opened,
            None => SqliteConnection::connect_with(options).await?,
        };
        // One that has failed is not used again.
        *connection = write(opened, changes, &mut done).await?;
        Ok(())
    };
    let written: Result<(), sqlx::Error> = written.await;
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

/// The changes in one transaction; a single one is one by itself. One that fails by itself takes no other with it. Gives the
/// connection back where it can be used again.
async fn write(
    mut connection: SqliteConnection,
    changes: Vec<Change>,
    done: &mut Vec<(oneshot::Sender<Kept>, Kept)>,
) -> Result<Option<SqliteConnection>, sqlx::Error> {
    if changes.len() < 2 {
        for Change { note, kept } in changes {
            done.push((kept, note.execute(&mut connection).await.map(drop)));
        }
        let failed = done.iter().any(|(_, result)| result.is_err());
        return Ok((!failed).then_some(connection));
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await;
    for Change { note, kept } in changes {
        let result = match &mut transaction {
            Ok(transaction) => note.execute(&mut **transaction).await.map(drop),
            Err(_) => Ok(()),
        };
        done.push((kept, result));
    }
    transaction?.commit().await?;
    Ok(Some(connection))
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
        let place = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(place.path().join("db")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
        sqlx::query("CREATE TABLE things (name TEXT PRIMARY KEY)").execute(&pool).await.unwrap();
        let ledger = Ledger::start(pool.connect_options()).unwrap();
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

        assert!(keep("a").await.unwrap_err().to_string().contains("UNIQUE"), "alone");
        keep("d").await.unwrap();
        ledger.close().await;
        assert!(keep("e").await.is_err(), "a closed database has kept something");
    }

    #[tokio::test]
    async fn changes_are_kept_alone_together_and_before_the_end() {
        let place = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(place.path().join("db")).create_if_missing(true);
        let ledger = Ledger::start(Arc::new(options)).unwrap();
        ledger.keep(sqlx::query("CREATE TABLE things (name TEXT PRIMARY KEY)")).await.unwrap();
        let add = |name: &'static str| sqlx::query("INSERT INTO things VALUES (?1)").bind(name);
        ledger.keep(add("alone")).await.unwrap();
        let (one, other) = tokio::join!(ledger.keep(add("with one")), ledger.keep(add("another")));
        assert!(one.is_ok() && other.is_ok());
        let late = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.keep(add("before the end")).await }
        });
        tokio::task::yield_now().await;
        ledger.close().await;
        late.await.unwrap().unwrap();
    }
}
