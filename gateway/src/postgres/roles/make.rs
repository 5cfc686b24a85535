//! Making a role, or enabling one that was made before: in one transaction, in just its groups, able to log in for a moment.

use tokio_postgres::{Client, Transaction};

use super::admin::told;
use super::name::{PREFIX, literal, quoted};

/// The role that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    /// Each once.
    pub(super) groups: &'a [String],
    /// The comment by which the gateway knows its own roles again.
    pub(super) mark: &'a str,
    /// What the server has to know of the password; none where the role shows a certificate.
    pub(super) verifier: Option<&'a str>,
}

/// Why there is no role.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMade {
    /// Something is not as it has to be for it; a clause for the caller and the operator.
    #[error("{0}")]
    Unfit(String),
    /// The server did not do it.
    #[error("{}", told(.0))]
    Server(#[from] tokio_postgres::Error),
}

/// Makes it, or leaves everything as it was.
///
/// # Errors
/// Why it is not there now.
pub(super) async fn make(client: &mut Client, wanted: &Wanted<'_>) -> Result<(), NotMade> {
    let change = client.transaction().await?;
    lock(&change, wanted.name).await?;
    check_groups(&change, wanted.groups).await?;
    let login = login(&change, wanted).await?;
    let name = quoted(wanted.name);
    match Found::look(&change, wanted.name).await? {
        Some(found) => {
            found.check(wanted)?;
            for group in found.groups.iter().filter(|group| !wanted.groups.contains(group)) {
                change.batch_execute(&format!("REVOKE {} FROM {name}", quoted(group))).await?;
            }
            change.batch_execute(&format!("ALTER ROLE {name} {login}")).await?;
        }
        None => {
            let made =
                format!("CREATE ROLE {name} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS {login}");
            change.batch_execute(&made).await?;
            change.batch_execute(&format!("COMMENT ON ROLE {name} IS {}", literal(wanted.mark))).await?;
        }
    }
    for group in wanted.groups {
        let granted = change.batch_execute(&format!("GRANT {} TO {name}", quoted(group))).await;
        granted.map_err(|error| match error.as_db_error() {
            Some(said) => NotMade::Unfit(format!("the gateway may not give its group {group} ({})", said.message())),
            None => error.into(),
        })?;
    }
    // INVARIANT: a session's role is in the groups that its permit names, and in no other.
    match Found::look(&change, wanted.name).await? {
        Some(found) if found.groups == wanted.groups => Ok(change.commit().await?),
        Some(found) => Err(NotMade::Unfit(format!("its groups would be {}", found.groups.join(", ")))),
        None => Err(NotMade::Unfit("it is not there after it was made".to_owned())),
    }
}

/// Takes the means to log in away again; whoever has done so stays.
pub(super) async fn disarm(client: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", quoted(name))).await
}

/// Waits for whatever else is done about this role: a transaction of a gateway that has crashed may still be on its way.
pub(super) async fn lock(change: &Transaction<'_>, name: &str) -> Result<(), tokio_postgres::Error> {
    change.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&name]).await.map(drop)
}

/// The options of a role that may log in, for as long as that takes.
async fn login(change: &Transaction<'_>, wanted: &Wanted<'_>) -> Result<String, NotMade> {
    let until: String = change.query_one(UNTIL, &[]).await?.try_get(0)?;
    let password = match wanted.verifier {
        Some(verifier) => format!("PASSWORD {}", literal(verifier)),
        None => "PASSWORD NULL".to_owned(),
    };
    Ok(format!("INHERIT LOGIN CONNECTION LIMIT {CONNECTIONS} {password} VALID UNTIL {}", literal(&until)))
}

/// Are these groups that somebody may be in who is not the server's master?
async fn check_groups(change: &Transaction<'_>, groups: &[String]) -> Result<(), NotMade> {
    let rows = change.query(REACHED, &[&groups]).await?;
    let mut there = Vec::new();
    for row in &rows {
        let (group, reached, power): (String, String, Option<String>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if reached.starts_with(PREFIX) {
            return Err(NotMade::Unfit(format!(
                "its group {group} leads to the role {reached}, which is some session's"
            )));
        }
        match power {
            Some(power) if group == reached => {
                return Err(NotMade::Unfit(format!("its group {group} has {power}, which no session is given")));
            }
            Some(power) => {
                let through =
                    format!("its group {group} leads to {reached}, which has {power}, which no session is given");
                return Err(NotMade::Unfit(through));
            }
            None => there.push(group),
        }
    }
    match groups.iter().find(|group| !there.contains(group)) {
        Some(missing) => Err(NotMade::Unfit(format!("its group {missing} does not exist there"))),
        None => Ok(()),
    }
}

/// A role as it is on the server.
pub(super) struct Found {
    pub(super) oid: u32,
    /// The comment on it.
    pub(super) mark: String,
    powerful: bool,
    /// What it is a member of, in order.
    pub(super) groups: Vec<String>,
}

impl Found {
    pub(super) async fn look(change: &Transaction<'_>, name: &str) -> Result<Option<Self>, tokio_postgres::Error> {
        let Some(row) = change.query_opt(ROLE, &[&name]).await? else { return Ok(None) };
        let oid: u32 = row.try_get(0)?;
        let mut groups: Vec<String> = Vec::new();
        for row in change.query(GROUPS, &[&oid]).await? {
            groups.push(row.try_get(0)?);
        }
        groups.sort();
        groups.dedup();
        Ok(Some(Self { oid, mark: row.try_get(1)?, powerful: row.try_get(2)?, groups }))
    }

    fn check(&self, wanted: &Wanted<'_>) -> Result<(), NotMade> {
        match self {
            found if found.mark != wanted.mark => {
                Err(NotMade::Unfit(format!("a role {} is there that this gateway has not made", wanted.name)))
            }
            found if found.powerful => {
                Err(NotMade::Unfit(format!("somebody has given the role {} more than groups", wanted.name)))
            }
            _ => Ok(()),
        }
    }
}

/// How many sessions a role may have.
const CONNECTIONS: u32 = 100;

/// When a password is of no use any more, by the server's own clock.
const UNTIL: &str =
    "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '2 minutes', 'YYYY-MM-DD HH24:MI:SS') || '+00'";

const ROLE: &str = "SELECT oid, coalesce(shobj_description(oid, 'pg_authid'), ''), \
     rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = $1::text";

const GROUPS: &str =
    "SELECT DISTINCT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = $1";

/// Everything that members of the groups can become with SET ROLE, and what is too much of it.
const REACHED: &str = "WITH RECURSIVE reached (grp, oid) AS ( \
       SELECT rolname::text, oid FROM pg_roles WHERE rolname::text = ANY ($1) \
       UNION SELECT reached.grp, m.roleid FROM reached JOIN pg_auth_members m ON m.member = reached.oid) \
     SELECT grp, rolname::text, CASE WHEN rolsuper THEN 'SUPERUSER' WHEN rolcreaterole THEN 'CREATEROLE' \
       WHEN rolreplication THEN 'REPLICATION' WHEN rolbypassrls THEN 'BYPASSRLS' \
       WHEN rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files') THEN 'the server''s files' END \
     FROM reached JOIN pg_roles USING (oid) ORDER BY 3 NULLS LAST, 1, 2";
