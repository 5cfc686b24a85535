//! How far one gets with a server, for `sallyport doctor`: whether it lets the gateway in, as a role and as the admin that makes
//! roles. No statement is run but one of the admin's, about itself.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reach;
use super::roles::Admin;
use super::wire::{ProtocolVersion, Startup, frontend, message};
use crate::credentials::PostgresVault;
use crate::failure::{Failure, Stage};
use crate::session::dial_to_probe;
use crate::target::Target;

/// Goes as far as being let in as `role`, and leaves; gives the fingerprint of the server's certificate, empty without TLS.
///
/// # Errors
/// The stage that failed, and how.
pub(crate) async fn enter(
    target: &Target,
    vault: &PostgresVault,
    role: &str,
    database: &str,
) -> Result<String, Failure> {
    let credential = vault.trial(target, role).await?;
    let parameters = [("user", role), ("database", database), ("application_name", "sallyport doctor")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let startup = Startup::new(ProtocolVersion::V3_0, parameters);
    let stream = dial_to_probe(target).await?;
    let entered = reach::enter(stream, target, vault, role, &credential, &startup).await;
    let mut entered = entered.map_err(|fault| fault.failure)?;
    let goodbye = async {
        entered.leg.write_all(&message(frontend::TERMINATE, &[])).await?;
        entered.leg.shutdown().await
    };
    // It has answered what was asked; how it takes the farewell does not matter.
    let _ = timeout(GOODBYE, goodbye).await;
    Ok(entered.fingerprint)
}

/// Goes as far as being let in as the admin; says whether it may make roles.
///
/// # Errors
/// The stage that failed, and how.
pub(crate) async fn administer(target: &Target, vault: &PostgresVault) -> Result<bool, Failure> {
    let admin = Admin::login(dial_to_probe(target).await?, target, vault).await?;
    let failed = |detail: String| Failure::target(&target.name, Stage::AdminLogin, detail);
    let asked = timeout(ANSWER, admin.client.query_one(MAY_MAKE_ROLES, &[])).await;
    let row = asked.map_err(|_| failed("it did not answer in time".to_owned()))?;
    row.and_then(|row| row.try_get(0)).map_err(|error| failed(error.to_string()))
}

const MAY_MAKE_ROLES: &str =
    "SELECT rolcreaterole OR rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user";
/// How long the server may take to hear that the gateway leaves.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
