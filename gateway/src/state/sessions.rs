//! The list of sessions: who was where, when, as whom, and how it ended. The recordings are in the store.

use std::path::PathBuf;

use jiff::Timestamp;
use sallyport_recorder::SessionId;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use super::{State, StateError, instant, moment, parsed};

/// A session that begins.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its id.
    pub id: SessionId,
    /// `ssh` or `postgres`
    pub protocol: String,
    /// The user, or the tags with commas between them.
    pub caller: String,
    /// The device's name.
    pub device: String,
    /// The device's number.
    pub device_id: Option<i64>,
    /// The caller's address on the tailnet.
    pub source: String,
    /// The target's name.
    pub target: String,
    /// The policy's revision.
    pub policy: String,
    /// The recording's folder.
    pub recording: Option<PathBuf>,
    /// When.
    pub started: Timestamp,
}

/// A session as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// `ssh` or `postgres`
    pub protocol: String,
    /// The user, or the tags with commas between them.
    pub caller: String,
    /// The device's name.
    pub device: String,
    /// The caller's address on the tailnet.
    pub source: String,
    /// The target's name.
    pub target: String,
    /// Who the caller was there, once that was permitted.
    pub account: Option<String>,
    /// The rule that permitted it.
    pub rule: Option<String>,
    /// The policy's revision.
    pub policy: String,
    /// The recording's folder.
    pub recording: Option<PathBuf>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it goes on.
    pub ended: Option<Timestamp>,
    /// How it ended, in one word.
    pub outcome: Option<String>,
    /// Why, in a sentence.
    pub reason: Option<String>,
}

/// Which sessions to list. What is unset leaves everything in.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Of this caller: the whole user, or one of the tags.
    pub caller: Option<String>,
    /// To this target.
    pub target: Option<String>,
    /// Begun at this time or later.
    pub since: Option<Timestamp>,
    /// Begun before this time.
    pub until: Option<Timestamp>,
    /// With this outcome; `live` for those that go on.
    pub outcome: Option<String>,
    /// At most so many, the latest ones.
    pub limit: Option<u32>,
}

impl State {
    /// Lists a session that begins.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session_opened(&self, session: &Opened) -> Result<(), StateError> {
        let session = session.clone();
        let note = sqlx::query(
            "INSERT INTO sessions (id, protocol, caller, device, device_id, source, target, policy, recording, started)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(session.id.to_string())
        .bind(session.protocol)
        .bind(session.caller)
        .bind(session.device)
        .bind(session.device_id)
        .bind(session.source)
        .bind(session.target)
        .bind(session.policy)
        .bind(session.recording.as_ref().map(|folder| folder.to_string_lossy().into_owned()))
        .bind(session.started.as_millisecond());
        self.ledger.keep(note).await
    }

    /// Notes as which account a session goes on, with the rule that permitted it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session_goes_on(
        &self,
        id: SessionId,
        (account, rule): (String, Option<String>),
    ) -> Result<(), StateError> {
        let note = sqlx::query("UPDATE sessions SET account = ?2, rule = ?3 WHERE id = ?1 AND ended IS NULL");
        self.ledger.keep(note.bind(id.to_string()).bind(account).bind(rule)).await
    }

    /// Notes how a session ended, and as which account it was: the one that it had `asked` for last, with the rule that
    /// permitted it, if one did. One that has ended stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session_ended(
        &self,
        id: SessionId,
        at: Timestamp,
        (outcome, reason): (&str, &str),
        asked: Option<(String, Option<String>)>,
    ) -> Result<(), StateError> {
        let (account, rule) = asked.unzip();
        let note = sqlx::query(
            "UPDATE sessions SET ended = ?2, outcome = ?3, reason = ?4, account = ?5, rule = ?6
             WHERE id = ?1 AND ended IS NULL",
        )
        .bind(id.to_string())
        .bind(at.as_millisecond())
        .bind(outcome.to_owned())
        .bind(reason.to_owned())
        .bind(account)
        .bind(rule.flatten());
        self.ledger.keep(note).await
    }

    /// At the gateway's start, when no session goes on: ends those that a crash left open. Says how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_interrupted_sessions(&self, at: Timestamp) -> Result<u64, StateError> {
        let ended = sqlx::query(
            "UPDATE sessions SET ended = ?1, outcome = 'interrupted', reason = 'the gateway stopped without a word' WHERE ended IS NULL",
        );
        Ok(ended.bind(at.as_millisecond()).execute(&self.pool).await?.rows_affected())
    }

    /// The sessions that pass `filter`, the latest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, StateError> {
        let mut query = QueryBuilder::new("SELECT * FROM sessions WHERE 1 = 1");
        if let Some(caller) = &filter.caller {
            match caller.starts_with("tag:") {
                // The list of tags is short; what is asked for stands between commas.
                true => query.push(" AND instr(',' || caller || ',', ',' || ").push_bind(caller).push(" || ',') > 0"),
                false => query.push(" AND caller = ").push_bind(caller),
            };
        }
        if let Some(target) = &filter.target {
            query.push(" AND target = ").push_bind(target);
        }
        if let Some(since) = filter.since {
            query.push(" AND started >= ").push_bind(since.as_millisecond());
        }
        if let Some(until) = filter.until {
            query.push(" AND started < ").push_bind(until.as_millisecond());
        }
        match filter.outcome.as_deref() {
            Some("live") => query.push(" AND outcome IS NULL"),
            Some(outcome) => query.push(" AND outcome = ").push_bind(outcome.to_owned()),
            None => &mut query,
        };
        query.push(" ORDER BY started DESC, id DESC LIMIT ").push_bind(filter.limit.map_or(-1, i64::from));
        query.build().fetch_all(&self.pool).await?.iter().map(session).collect()
    }

    /// The one session whose id begins with `prefix`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn session(&self, prefix: &str) -> Result<SessionRow, StateError> {
        let prefix = prefix.to_ascii_lowercase();
        let plain = !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        let none = || {
            StateError::Refused(format!("no session's id begins with {prefix:?}: `sallyport sessions ls` shows them"))
        };
        plain.then_some(()).ok_or_else(none)?;
        // '~' comes after every character of an id.
        let found = sqlx::query("SELECT * FROM sessions WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 2");
        let rows = found.bind(&prefix).fetch_all(&self.pool).await?;
        match rows.as_slice() {
            [row] => session(row),
            [] => Err(none()),
            _ => Err(StateError::Refused(format!("several sessions' ids begin with {prefix:?}: give more of it"))),
        }
    }
}

fn session(row: &SqliteRow) -> Result<SessionRow, StateError> {
    Ok(SessionRow {
        id: parsed(row, "id")?,
        protocol: row.try_get("protocol")?,
        caller: row.try_get("caller")?,
        device: row.try_get("device")?,
        source: row.try_get("source")?,
        target: row.try_get("target")?,
        account: row.try_get("account")?,
        rule: row.try_get("rule")?,
        policy: row.try_get("policy")?,
        recording: row.try_get::<Option<String>, _>("recording")?.map(PathBuf::from),
        started: moment(row, "started")?,
        ended: instant(row.try_get("ended")?),
        outcome: row.try_get("outcome")?,
        reason: row.try_get("reason")?,
    })
}
