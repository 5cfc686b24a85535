//! Taking a role back: nobody is logged in as it any more, and it is dropped, or disabled where it owns something.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::admin::told;
use super::make::{Found, disarm, lock};
use super::name::quoted;

/// What became of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is gone.
    Dropped,
    /// It owns something, or was given something, and so it stays, in no group and unable to log in.
    Disabled(String),
    /// It was not there.
    Absent,
    /// A role of this name is there that the gateway has not made.
    Foreign,
    /// Other sessions of the same caller have it.
    InUse,
}

/// Why a role is still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCleaned {
    #[error("{}", told(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("sessions of it do not end")]
    Busy,
    #[error("it could not be taken out of its groups {0}")]
    Groups(String),
}

/// Takes the role away from everybody, and from the server where it can be.
///
/// # Errors
/// Why it is there still; whatever was done stays done.
pub(super) async fn clean(client: &mut Client, name: &str, mark: &str) -> Result<Fate, NotCleaned> {
    let change = client.transaction().await?;
    lock(&change, name).await?;
    let Some(found) = Found::look(&change, name).await? else { return Ok(Fate::Absent) };
    if found.mark != mark {
        return Ok(Fate::Foreign);
    }
    change.batch_execute(&format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", quoted(name))).await?;
    change.commit().await?;
    end_sessions(client, found.oid).await?;
    match client.batch_execute(&format!("DROP ROLE {}", quoted(name))).await {
        Ok(()) => Ok(Fate::Dropped),
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            let owned = error.as_db_error().and_then(|said| said.detail()).unwrap_or_default();
            disable(client, name).await?;
            Ok(Fate::Disabled(owned.lines().next().unwrap_or_default().to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends the one session of the role that has this process number, if it is there still.
pub(super) async fn end_session(client: &Client, name: &str, process: u32) -> Result<(), tokio_postgres::Error> {
    let process = i32::try_from(process).unwrap_or_default();
    client.execute(END_ONE, &[&process, &name]).await.map(drop)
}

/// Ends every session of a role: those that are about to end get a moment for it.
async fn end_sessions(client: &Client, oid: u32) -> Result<(), NotCleaned> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let left: i64 =
            client.query_one("SELECT count(*) FROM pg_stat_activity WHERE usesysid = $1", &[&oid]).await?.try_get(0)?;
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > GRACE {
            client
                .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = $1", &[&oid])
                .await?;
        }
        sleep(PAUSE).await;
    }
    Err(NotCleaned::Busy)
}

/// Leaves the role with what it owns, and with nothing else: no group, no member, no way in.
async fn disable(client: &mut Client, name: &str) -> Result<(), NotCleaned> {
    let change = client.transaction().await?;
    lock(&change, name).await?;
    let Some(found) = Found::look(&change, name).await? else { return Ok(()) };
    for group in &found.groups {
        change.batch_execute(&format!("REVOKE {} FROM {}", quoted(group), quoted(name))).await?;
    }
    for row in change.query(MEMBERS, &[&found.oid]).await? {
        let member: String = row.try_get(0)?;
        change.batch_execute(&format!("REVOKE {} FROM {}", quoted(name), quoted(&member))).await?;
    }
    let left = Found::look(&change, name).await?.map(|found| found.groups).unwrap_or_default();
    change.commit().await?;
    disarm(client, name).await?;
    match left.is_empty() {
        true => Ok(()),
        false => Err(NotCleaned::Groups(left.join(", "))),
    }
}

/// How long sessions may take to end by themselves.
const GRACE: Duration = Duration::from_millis(300);
/// How long they may take once they were told to.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

const END_ONE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND usename = $2::text";

/// Whoever was made a member of the role; its maker is one by itself from PostgreSQL 16 on.
const MEMBERS: &str = "SELECT DISTINCT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member \
     WHERE m.roleid = $1 AND r.rolname <> current_user";
