//! `sallyport policy explain`: everything that a caller may do on a target, each right with its rule, and what is missing.

use sallyport_policies::sql::{Judgement, judge};
use sallyport_policies::{
    Caller, Decision, Denial, Inventory, Location, Policy, Port, PostgresGrant, Right, SshAction, SshGrant, Target,
};
use serde_json::{Value, json};

use super::{BadInput, Ended, Explain, Out, caller};
use crate::config::Config;
use crate::postgres;
use crate::state::{Folder, Keys, StateError};

/// What the policy says.
enum Answer {
    Denied(Denial),
    /// A port is open, and these accounts may be asked for, each with what it may do.
    Open {
        port: Port,
        network: Location,
        accounts: Vec<String>,
        logins: Vec<Login>,
    },
    Login(Login),
    /// A role, and what it is called where it is made for the caller.
    Database(PostgresGrant, Option<String>),
    /// The login is open, but this statement is not: why, by which rules, and what to do.
    Statement {
        message: String,
        detail: String,
        hint: String,
    },
}

/// An account, and what may be done as it.
struct Login {
    /// As the rules write it.
    account: String,
    grant: SshGrant,
    rights: Vec<Right>,
}

pub(super) fn explain(
    question: &Explain,
    policy: &Policy,
    inventory: &Inventory,
    (config, out): (&Config, &mut Out),
) -> anyhow::Result<Ended> {
    let caller = caller(&question.caller, inventory)?;
    let target = inventory.targets.iter().find(|target| target.name == question.target).ok_or_else(|| {
        BadInput(format!("there is no target named {:?}: `sallyport target ls` shows them", question.target))
    })?;
    let mut answer = answer(question, policy, &caller, target)?;
    if let Answer::Database(grant, made) = &mut answer {
        *made = made_role(grant, &caller, config)?;
    }
    let ended = if answer.allows() { Ended::Yes } else { Ended::No };
    match question.json {
        true => out.json(&described(&answer, &caller, target))?,
        false => told(&answer, &caller, target).iter().try_for_each(|line| out.line(line))?,
    }
    Ok(ended)
}

impl Answer {
    fn allows(&self) -> bool {
        !matches!(self, Self::Denied(_) | Self::Statement { .. })
    }
}

fn answer(question: &Explain, policy: &Policy, caller: &Caller, target: &Target) -> Result<Answer, BadInput> {
    let of_database = question.database.is_some() || question.statement.is_some();
    let asked = (of_database, question.port.map(Port::tcp));
    Ok(match (&question.account, asked) {
        (Some(role), (_, Some(Port::POSTGRES)) | (true, None)) => {
            // As libpq has it: the database is called as the role, unless said otherwise.
            let database = question.database.as_ref().unwrap_or(role);
            match policy.postgres(caller, target, role, database) {
                Decision::Allow(grant) => database_answer(grant, question.statement.as_deref()),
                Decision::Deny(denial) => Answer::Denied(denial),
            }
        }
        (Some(account), (false, None | Some(Port::SSH))) => match policy.ssh(caller, target, account) {
            Decision::Allow(grant) => Answer::Login(login(policy, caller, target, account.clone(), grant)),
            Decision::Deny(denial) => Answer::Denied(denial),
        },
        (Some(_), _) => {
            let message = "--as is about SSH on port 22, or with --database about PostgreSQL on port 5432";
            return Err(BadInput(message.to_owned()));
        }
        (None, (true, _)) => return Err(BadInput("--database needs the role: --as ROLE".to_owned())),
        (None, (false, port)) => {
            let port = port.unwrap_or(Port::SSH);
            match policy.approach(caller, target, port) {
                Decision::Allow(approach) => {
                    let logins = if port == Port::SSH { logins(policy, caller, target) } else { Vec::new() };
                    let accounts = accounts(policy, caller, target, port);
                    Answer::Open { port, network: approach.network_rule, accounts, logins }
                }
                Decision::Deny(denial) => Answer::Denied(denial),
            }
        }
    })
}

fn database_answer(grant: PostgresGrant, statement: Option<&str>) -> Answer {
    match statement.map(|sql| judge(&grant.capability, sql)) {
        Some(Judgement::Refused(refusal)) => Answer::Statement {
            detail: refusal.detail(&grant.capability_rules),
            message: refusal.message.to_string(),
            hint: refusal.hint.to_string(),
        },
        _ => Answer::Database(grant, None),
    }
}

/// What the role is called that a user gets there, where one is made and there is a gateway to make it. Each tagged device has
/// one of its own.
fn made_role(grant: &PostgresGrant, caller: &Caller, config: &Config) -> anyhow::Result<Option<String>> {
    let groups = &grant.capability.member_of;
    let Some(user) = caller.user.as_deref().filter(|_| !groups.is_empty()) else { return Ok(None) };
    match Folder::find(&config.state.folder).and_then(|folder| Keys::read(&folder)) {
        Ok(keys) => Ok(Some(postgres::made_role(&keys, user, groups))),
        Err(StateError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whom the caller may become there, as the rules write it.
fn accounts(policy: &Policy, caller: &Caller, target: &Target, port: Port) -> Vec<String> {
    match port {
        Port::SSH => vec![policy.ssh_accounts(caller, target).join(", ")],
        Port::POSTGRES => {
            let roles = policy.postgres_roles(caller, target).into_iter();
            roles.map(|(role, databases)| format!("{role} in {}", databases.join(", "))).collect()
        }
        _ => Vec::new(),
    }
}

/// What may be done as each account. For those that the rules do not name, one stands for all.
fn logins(policy: &Policy, caller: &Caller, target: &Target) -> Vec<Login> {
    let written = policy.ssh_accounts(caller, target).into_iter();
    let own = caller.user.as_deref().and_then(|user| user.split_once('@')).map(|(local, _)| local);
    let found = written.filter_map(|written| {
        let account = match written.as_str() {
            "autogroup:nonroot" => ANY_ORDINARY,
            pattern if pattern.starts_with("localpart:") => own?,
            name => name,
        };
        let grant = policy.ssh(caller, target, account).into_result().ok()?;
        Some(login(policy, caller, target, written, grant))
    });
    found.collect()
}

fn login(policy: &Policy, caller: &Caller, target: &Target, account: String, grant: SshGrant) -> Login {
    let rights = policy.ssh_rights(caller, target, &grant);
    Login { account, grant, rights }
}

/// The answer for a person.
fn told(answer: &Answer, caller: &Caller, target: &Target) -> Vec<String> {
    let mut lines = Vec::new();
    match answer {
        Answer::Denied(denial) => {
            lines.push(format!("no: {}", denial.sentence));
            lines.extend(denial.considered.iter().map(|one| format!("  {}: {}", one.location, one.why_not)));
        }
        Answer::Statement { message, detail, hint } => {
            lines.push(format!("no: {message}"));
            lines.push(format!("  detail:  {detail}"));
            lines.push(format!("  hint:    {hint}"));
        }
        Answer::Open { port, network, accounts, logins } => {
            lines.push(format!("yes: {caller} may reach {} on port {}", target.name, port.number));
            lines.push(format!("  network: {network}"));
            lines.extend(accounts.iter().map(|accounts| format!("  as:      {accounts}")));
            for login in logins {
                lines.push(format!("as {}", login.account));
                lines.extend(about(login));
            }
        }
        Answer::Login(login) => {
            lines.push(format!("yes: {caller} may log in to {} as {}", target.name, login.account));
            lines.push(format!("  network: {}", login.grant.network_rule));
            lines.extend(about(login));
        }
        Answer::Database(grant, made) => {
            lines.push(format!("yes: {caller} may log in to {} as {} in {}", target.name, grant.role, grant.database));
            lines.extend(made.iter().map(|role| format!("  becomes: {role}")));
            lines.push(format!("  network: {}", grant.network_rule));
            lines.extend(grant.capability_rules.iter().map(|rule| format!("  rights:  {rule}")));
            lines.extend(grant.capability.facts().into_iter().map(|fact| format!("  {fact}")));
        }
    }
    lines
}

fn about(login: &Login) -> Vec<String> {
    let mut lines = vec![format!("  ssh:     {}", login.grant.ssh_rule)];
    if let SshAction::Check { period } = login.grant.action {
        lines.push(format!("  after a login no older than {} s", period.as_secs()));
    }
    for Right { name, given, missing } in &login.rights {
        lines.extend(given.iter().map(|(what, by)| format!("  {name:<14} {what}, by {by}")));
        match missing {
            Some(missing) if given.is_empty() => lines.push(format!("  {name:<14} no: missing {missing}")),
            None if given.is_empty() => lines.push(format!("  {name:<14} no limit")),
            _ => {}
        }
    }
    lines
}

/// The answer for a program.
fn described(answer: &Answer, caller: &Caller, target: &Target) -> Value {
    let whole = match answer {
        Answer::Denied(denial) => {
            let considered = denial.considered.iter();
            let considered = considered.map(|one| json!({ "rule": place(&one.location), "why_not": one.why_not }));
            json!({ "sentence": denial.sentence, "considered": considered.collect::<Vec<_>>() })
        }
        Answer::Open { port, network, accounts, logins } => {
            let logins: Vec<Value> = logins.iter().map(described_login).collect();
            json!({ "port": port.number, "network": place(network), "accounts": accounts, "logins": logins })
        }
        Answer::Statement { message, detail, hint } => {
            json!({ "sentence": message, "detail": detail, "hint": hint })
        }
        Answer::Login(login) => described_login(login),
        Answer::Database(grant, made) => json!({
            "role": grant.role,
            "made_role": made,
            "database": grant.database,
            "network": place(&grant.network_rule),
            "rules": grant.capability_rules.iter().map(place).collect::<Vec<_>>(),
            "facts": grant.capability.facts(),
        }),
    };
    let mut all = json!({
        "allowed": answer.allows(),
        "caller": caller.to_string(),
        "target": target.name,
    });
    if let (Value::Object(all), Value::Object(whole)) = (&mut all, whole) {
        all.extend(whole);
    }
    all
}

fn described_login(login: &Login) -> Value {
    let rights = login.rights.iter().map(|right| {
        let given = right.given.iter().map(|(what, by)| json!({ "what": what, "rule": place(by) }));
        let missing = right.missing.filter(|_| right.given.is_empty());
        json!({ "name": right.name, "given": given.collect::<Vec<_>>(), "missing": missing })
    });
    let check = match login.grant.action {
        SshAction::Accept => None,
        SshAction::Check { period } => Some(period.as_secs()),
    };
    json!({
        "account": login.account,
        "network": place(&login.grant.network_rule),
        "ssh": place(&login.grant.ssh_rule),
        "check_seconds": check,
        "rights": rights.collect::<Vec<_>>(),
    })
}

fn place(location: &Location) -> Value {
    json!({ "rule": location.rule, "line": location.line, "column": location.column })
}

/// Stands for every account that `autogroup:nonroot` allows and no rule names.
const ANY_ORDINARY: &str = "any-ordinary-account";
