//! How far one gets with a server, for `sallyport doctor`: whether it lets the gateway in, as a role and as the admin that makes
//! roles. No statement is run but two: what time it is there, and one of the admin's about itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::leg::next_message;
use super::reach;
use super::roles::Admin;
use super::wire::{HEADER, ProtocolVersion, Startup, backend, frontend, message};
use crate::clock::Clock;
use crate::credentials::PostgresVault;
use crate::failure::{Failure, Stage};
use crate::session::dial_to_probe;
use crate::target::Target;

/// What is known of a server that let the gateway in.
pub(crate) struct Entered {
    /// The fingerprint of its certificate, empty without TLS.
    pub(crate) fingerprint: String,
    /// By how much its clock is ahead of ours, if it has said.
    pub(crate) ahead: Option<SignedDuration>,
}

/// Goes as far as being let in as `role`, asks for the time, and leaves.
///
/// # Errors
/// The stage that failed, and how.
pub(crate) async fn enter(
    target: &Target,
    vault: &PostgresVault,
    role: &str,
    database: &str,
    clock: &Clock,
) -> Result<Entered, Failure> {
    let credential = vault.trial(target, role).await?;
    let parameters = [("user", role), ("database", database), ("application_name", "sallyport doctor")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let startup = Startup::new(ProtocolVersion::V3_0, parameters);
    let stream = dial_to_probe(&target.name, &target.postgres()?.address).await?;
    let entered = reach::enter(stream, target, vault, role, &credential, &startup).await;
    let mut entered = entered.map_err(|fault| fault.failure)?;
    let ahead = timeout(ANSWER, ahead_of(&mut entered, clock)).await.ok().flatten();
    let goodbye = async {
        entered.leg.write_all(&message(frontend::TERMINATE, &[])).await?;
        entered.leg.shutdown().await
    };
    // It has answered what was asked; how it takes the farewell does not matter.
    let _ = timeout(GOODBYE, goodbye).await;
    Ok(Entered { fingerprint: entered.fingerprint, ahead })
}

/// By how much the server's clock is ahead of `clock`: half of the way there and back is where its answer was made.
async fn ahead_of(entered: &mut reach::Target, clock: &Clock) -> Option<SignedDuration> {
    let asked = clock.now();
    entered.leg.write_all(&message(frontend::QUERY, WHAT_TIME)).await.ok()?;
    entered.leg.flush().await.ok()?;
    let mut theirs = None;
    loop {
        let (tag, message) = next_message(&mut entered.leg, &mut entered.inbox, LONGEST_ANSWER).await.ok()?;
        match tag {
            // One column: a count, its length, its text.
            backend::DATA_ROW => theirs = message.get(HEADER + 2 + 4..).and_then(milliseconds),
            backend::READY => break,
            _ => {}
        }
    }
    let half = clock.now().duration_since(asked) / 2;
    theirs?.duration_since(asked.checked_add(half).ok()?).into()
}

fn milliseconds(text: &[u8]) -> Option<Timestamp> {
    Timestamp::from_millisecond(std::str::from_utf8(text).ok()?.parse().ok()?).ok()
}

/// Goes as far as being let in as the admin; says whether it may make roles.
///
/// # Errors
/// The stage that failed, and how.
pub(crate) async fn administer(target: &Target, vault: &PostgresVault) -> Result<bool, Failure> {
    let admin = Admin::login(dial_to_probe(&target.name, &target.postgres()?.address).await?, target, vault).await?;
    let failed = |detail: String| Failure::target(&target.name, Stage::AdminLogin, detail);
    let asked = timeout(ANSWER, admin.client.query_one(MAY_MAKE_ROLES, &[])).await;
    let row = asked.map_err(|_| failed("it did not answer in time".to_owned()))?;
    row.and_then(|row| row.try_get(0)).map_err(|error| failed(error.to_string()))
}

const MAY_MAKE_ROLES: &str =
    "SELECT rolcreaterole OR rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user";
const WHAT_TIME: &[u8] =
    b"SELECT pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8\0";
/// The longest message of the answer, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long the server may take to hear that the gateway leaves.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
