//! Database servers, for [`super::targets`]: each as the roles that the policy gives, and as the admin that makes roles.

use std::pin::pin;

use futures::stream::{self, StreamExt};
use sallyport_policies::{Decision, Policy};

use super::clocks::by_statement;
use super::targets::secrets;
use super::{Finding, Patient};
use crate::access::{object, subject};
use crate::clock::Clock;
use crate::credentials::PostgresVault;
use crate::failure::{Failure, Stage};
use crate::postgres::probe::{self, Entered};
use crate::target::{PostgresLogin, PostgresTarget, Target};

/// What the policy gives on one server.
#[derive(Debug, Default)]
struct Given {
    /// Roles that the server has, each with a database.
    roles: Vec<(String, String)>,
    /// How many more there are.
    untried: usize,
    /// Whether somebody gets a role that is made for it.
    made: bool,
}

/// Logs in to one server as whoever is let in there.
pub(super) async fn over_postgres(
    patient: &Patient<'_>,
    policy: Option<&Policy>,
    (target, service): (&Target, &PostgresTarget),
    vault: Option<&PostgresVault>,
) -> Vec<Finding> {
    let mut findings = secrets(target, service.secrets()).await;
    let Some(vault) = vault.filter(|_| findings.is_empty()) else { return findings };
    let given = policy.map(|policy| given(patient, policy, target, service)).unwrap_or_default();
    let Tried { welcome, server, refused } = logins(target, vault, given.roles, patient.clock).await;
    if let Some(server) = server {
        let shown = match server.fingerprint.as_str() {
            "" => "without TLS".to_owned(),
            fingerprint => format!("certificate {fingerprint}"),
        };
        let (name, roles) = (&target.name, welcome.join(", "));
        let told = server.ahead.map_or(Ok(String::new()), |ahead| by_statement(name, ahead));
        let (agrees, off) = told.map_or_else(|off| (String::new(), Some(off)), |agrees| (agrees, None));
        let more = match given.untried {
            0 => String::new(),
            untried => format!(" ({untried} more were not tried)"),
        };
        let said = format!(
            "{name} is reached at {}, {shown}; it lets the gateway in as {roles}{more}{agrees}",
            service.address
        );
        findings.push(Finding::ok("targets", said));
        findings.extend(off);
    }
    for failure in refused {
        let level = if welcome.is_empty() { Finding::problem } else { Finding::warning };
        findings.push(level("targets", failure.to_string(), remedy(&failure, service)));
        if !matches!(failure, Failure::Target { stage: Stage::Login, .. }) {
            return findings;
        }
    }
    findings.extend(administered(target, service, vault, given.made).await);
    if findings.is_empty() {
        let said = format!("{}: the policy names no role and database there that could be tried", target.name);
        findings.push(Finding::ok("targets", said));
    }
    findings
}

/// What came of logging in.
#[derive(Default)]
struct Tried {
    /// The roles that were let in.
    welcome: Vec<String>,
    /// What is known of the server that let them in.
    server: Option<Entered>,
    refused: Vec<Failure>,
}

/// Logs in as each of `roles`, until something fails that does not depend on the role.
async fn logins(target: &Target, vault: &PostgresVault, roles: Vec<(String, String)>, clock: &Clock) -> Tried {
    let enter = |(role, database): (String, String)| async move {
        let entered = probe::enter(target, vault, &role, &database, clock).await;
        (role, entered)
    };
    let mut entered = pin!(stream::iter(roles).map(enter).buffered(AT_ONCE));
    let mut tried = Tried::default();
    while let Some((role, result)) = entered.next().await {
        match result {
            Ok(server) => {
                tried.server = Some(server);
                tried.welcome.push(role);
            }
            Err(failure) => {
                let depends = matches!(failure, Failure::Target { stage: Stage::Login, .. });
                tried.refused.push(failure);
                if !depends {
                    break;
                }
            }
        }
    }
    tried
}

/// The roles and databases by name that the policy gives somebody on a server.
fn given(patient: &Patient<'_>, policy: &Policy, target: &Target, service: &PostgresTarget) -> Given {
    let mut given = Given::default();
    let (server, usual) = (object(target), service.database.as_deref().unwrap_or("postgres"));
    for enrolled in patient.stored.iter().flat_map(|(_, stored)| &stored.devices) {
        let caller = subject(&enrolled.device);
        let own = caller.user.as_deref().and_then(|user| user.split_once('@')).map_or("", |(local, _)| local);
        for (written, databases) in policy.postgres_roles(&caller, &server) {
            // What is written with a colon, or in words, stands for the caller's own name.
            let role = if written.contains([':', ' ']) { own } else { written.as_str() };
            let named = databases.iter().find(|database| !is_pattern(database));
            let database = named.map_or(usual, String::as_str);
            match policy.postgres(&caller, &server, role, database) {
                Decision::Allow(grant) if !grant.capability.member_of.is_empty() => given.made = true,
                Decision::Allow(_) if !is_pattern(role) => given.roles.push((role.to_owned(), database.to_owned())),
                _ => {}
            }
        }
    }
    given.roles.sort();
    given.roles.dedup_by(|one, other| one.0 == other.0);
    given.untried = given.roles.len().saturating_sub(ROLES);
    given.roles.truncate(ROLES);
    given
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Whether the admin is let in, and may make roles.
async fn administered(target: &Target, service: &PostgresTarget, vault: &PostgresVault, made: bool) -> Option<Finding> {
    let name = &target.name;
    let Some(admin) = &service.admin else {
        let said = format!("{name}: the policy has roles made there (memberOf), and the gateway has no admin login");
        let remedy =
            "give the target an admin: postgres = { …, admin = { user = \"sallyport_admin\", password = \"env:…\" } }";
        return made.then(|| Finding::problem("targets", said, remedy));
    };
    let user = &admin.user;
    Some(match probe::administer(target, vault).await {
        Ok(true) => Finding::ok("targets", format!("{name} lets the gateway in as {user}, which may make roles")),
        Ok(false) => {
            let said = format!("{name}: {user} may not make roles");
            Finding::problem("targets", said, format!("as a superuser there: ALTER ROLE {user} CREATEROLE"))
        }
        Err(failure) => {
            let remedy = match &failure {
                Failure::Target { stage: Stage::AdminLogin, .. } => format!(
                    "the role {user} has to exist there with LOGIN and CREATEROLE, with a line in pg_hba.conf for the \
                     gateway's address; the server's log says why it refused"
                ),
                failure => remedy(failure, service).to_owned(),
            };
            Finding::problem("targets", failure.to_string(), remedy)
        }
    })
}

fn remedy(failure: &Failure, service: &PostgresTarget) -> &'static str {
    match failure {
        Failure::Target { stage: Stage::Resolve, .. } => {
            "correct the name, or this machine's resolver (/etc/resolv.conf)"
        }
        Failure::Target { stage: Stage::Dial, .. } => {
            "see whether PostgreSQL runs and listens there (listen_addresses, port), and what filters the way"
        }
        Failure::Target { stage: Stage::Tls, .. } => {
            "compare the server's certificate (ssl_cert_file) with the target's address and `ca`; `ssl = off` there wants \
             tls = \"disable\" here; if nothing was changed, somebody is in between"
        }
        Failure::Target { stage: Stage::Login, .. } if service.login == PostgresLogin::Certificate => {
            "the role has to exist there, ssl_ca_file to hold what `sallyport target ca --database` prints, and pg_hba.conf to \
             have a line with `cert` for the gateway's address (the server's log says why it refused)"
        }
        Failure::Target { stage: Stage::Login, .. } => {
            "the role and the database have to exist there, and pg_hba.conf to let the gateway's address in by this login (the \
             server's log says why it refused)"
        }
        _ => "see what answers there, and its log",
    }
}

/// Roles that are tried on a server, and how many of them at the same time: it counts logins that fail.
const ROLES: usize = 16;
const AT_ONCE: usize = 4;
