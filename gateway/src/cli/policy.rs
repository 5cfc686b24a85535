//! `sallyport policy`: check, test, explain. The answers come from the very functions that the gateway asks.

use anyhow::Context as _;
use sallyport_policies::sql::{Judgement, judge};
use sallyport_policies::{self as policies, Decision, Inventory, Parsed, Policy, Port, PostgresGrant, SshAction};

use super::{BadInput, Ended, Out, Site, announce};
use crate::access::{object, subject};
use crate::config::Config;
use crate::state::State;

/// The words after `sallyport policy`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check the policy file, run its tests, and have a running gateway take it
    Check,
    /// Run the policy's own tests
    Test,
    /// Say whether a caller may reach a target, by which rule, or what is missing
    Explain(Explain),
}

/// Who, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// A user (alice@example.com), a tag (tag:ci) or the name of a device
    caller: String,
    /// The target's name
    target: String,
    /// The account there; without one, those that may be asked for are listed
    #[arg(long = "as", value_name = "ACCOUNT")]
    account: Option<String>,
    /// The database, which makes it a question about PostgreSQL; the account is a role then
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// A statement that would be run there
    #[arg(long, value_name = "SQL", requires = "account")]
    statement: Option<String>,
    /// The TCP port [default: 22, or 5432 with --database]
    #[arg(long)]
    port: Option<u16>,
}

pub(super) async fn run(command: Command, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let config = site.config()?;
    let Some(Parsed { policy, notes }) = read(&config, out)? else { return Ok(Ended::No) };
    let name = config.policy.display();
    let inventory = inventory(&config, site).await?;
    match command {
        Command::Check => {
            for note in notes {
                out.note(&format!("{name}:{note}"))?;
            }
            if !passes(&policy, &inventory, &config, out)? {
                return Ok(Ended::No);
            }
            out.line(&format!("{name} is valid and its tests hold: revision {}", policy.revision()))?;
            announce(&config, out).await?;
            Ok(Ended::Yes)
        }
        Command::Test => {
            let passed = passes(&policy, &inventory, &config, out)?;
            if passed {
                out.line(&format!("{name}: all tests hold"))?;
            }
            Ok(if passed { Ended::Yes } else { Ended::No })
        }
        Command::Explain(question) => explain(&question, &policy, &inventory, out),
    }
}

/// The policy of the file; `None` after its mistakes have been told.
fn read(config: &Config, out: &mut Out) -> anyhow::Result<Option<Parsed>> {
    let path = &config.policy;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read (`sallyport init` writes one)", path.display()))?;
    match Policy::parse(&text) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(errors) => {
            out.note(errors.display(&path.display().to_string()).trim_end())?;
            Ok(None)
        }
    }
}

fn passes(policy: &Policy, inventory: &Inventory, config: &Config, out: &mut Out) -> anyhow::Result<bool> {
    let failures = policy.run_tests(inventory);
    for failure in &failures {
        out.note(&format!("{}:{failure}", config.policy.display()))?;
    }
    Ok(failures.is_empty())
}

/// What is enrolled and registered. Where there is no state yet, a policy is checked by the configuration alone.
async fn inventory(config: &Config, site: &Site) -> anyhow::Result<Inventory> {
    if !config.state.database.exists() {
        let targets = config.targets.iter().map(|target| policies::Target {
            name: target.name.to_string(),
            tags: target.tags.iter().map(ToString::to_string).collect(),
            addresses: Vec::new(),
        });
        return Ok(Inventory { devices: Vec::new(), targets: targets.collect() });
    }
    let state = State::open(config).await?;
    let targets = state.targets(&config.targets, site.clock.now()).await?;
    let devices = state.devices().await?;
    Ok(Inventory {
        devices: devices.iter().map(|enrolled| subject(&enrolled.device)).collect(),
        targets: targets.iter().map(|known| object(&known.target)).collect(),
    })
}

fn explain(question: &Explain, policy: &Policy, inventory: &Inventory, out: &mut Out) -> anyhow::Result<Ended> {
    let caller = caller(&question.caller, inventory)?;
    let target = inventory.targets.iter().find(|target| target.name == question.target).ok_or_else(|| {
        BadInput(format!("there is no target named {:?}: `sallyport target ls` shows them", question.target))
    })?;
    let of_database = question.database.is_some() || question.statement.is_some();
    let asked = (of_database, question.port.map(Port::tcp));
    let denial = match (&question.account, asked) {
        (Some(role), (_, Some(Port::POSTGRES)) | (true, None)) => {
            // As libpq has it: the database is called as the role, unless said otherwise.
            let database = question.database.as_ref().unwrap_or(role);
            match policy.postgres(&caller, target, role, database) {
                Decision::Allow(grant) => return told(&caller, target, &grant, question.statement.as_deref(), out),
                Decision::Deny(denial) => denial,
            }
        }
        (Some(account), (false, None | Some(Port::SSH))) => match policy.ssh(&caller, target, account) {
            Decision::Allow(grant) => {
                out.line(&format!("yes: {caller} may log in to {} as {}", target.name, grant.account))?;
                out.line(&format!("  network: {}", grant.network_rule))?;
                out.line(&format!("  ssh:     {}", grant.ssh_rule))?;
                for rule in &grant.capability_rules {
                    out.line(&format!("  rights:  {rule}"))?;
                }
                for fact in grant.capability.facts(&grant.accept_env) {
                    out.line(&format!("  {fact}"))?;
                }
                if let SshAction::Check { period } = grant.action {
                    out.line(&format!("  after a login no older than {} s", period.as_secs()))?;
                }
                return Ok(Ended::Yes);
            }
            Decision::Deny(denial) => denial,
        },
        (Some(_), _) => {
            let message = "--as is about SSH on port 22, or with --database about PostgreSQL on port 5432";
            return Err(BadInput(message.to_owned()).into());
        }
        (None, (true, _)) => return Err(BadInput("--database needs the role: --as ROLE".to_owned()).into()),
        (None, (false, port)) => {
            let port = port.unwrap_or(Port::SSH);
            match policy.approach(&caller, target, port) {
                Decision::Allow(approach) => {
                    out.line(&format!("yes: {caller} may reach {} on port {}", target.name, port.number))?;
                    out.line(&format!("  network: {}", approach.network_rule))?;
                    for accounts in accounts(policy, &caller, target, port) {
                        out.line(&format!("  as:      {accounts}"))?;
                    }
                    return Ok(Ended::Yes);
                }
                Decision::Deny(denial) => denial,
            }
        }
    };
    out.line(&format!("no: {}", denial.sentence))?;
    for considered in &denial.considered {
        out.line(&format!("  {}: {}", considered.location, considered.why_not))?;
    }
    Ok(Ended::No)
}

/// Whom the caller may become there, as the rules write it.
fn accounts(policy: &Policy, caller: &policies::Caller, target: &policies::Target, port: Port) -> Vec<String> {
    match port {
        Port::SSH => vec![policy.ssh_accounts(caller, target).join(", ")],
        Port::POSTGRES => {
            let roles = policy.postgres_roles(caller, target).into_iter();
            roles.map(|(role, databases)| format!("{role} in {}", databases.join(", "))).collect()
        }
        _ => Vec::new(),
    }
}

/// What a database session may do, and by which rules.
fn told(
    caller: &policies::Caller,
    target: &policies::Target,
    grant: &PostgresGrant,
    statement: Option<&str>,
    out: &mut Out,
) -> anyhow::Result<Ended> {
    if let Some(Judgement::Refused(refusal)) = statement.map(|sql| judge(&grant.capability, sql)) {
        out.line(&format!("no: {}", refusal.message))?;
        out.line(&format!("  detail:  {}", refusal.detail(&grant.capability_rules)))?;
        out.line(&format!("  hint:    {}", refusal.hint))?;
        return Ok(Ended::No);
    }
    out.line(&format!("yes: {caller} may log in to {} as {} in {}", target.name, grant.role, grant.database))?;
    out.line(&format!("  network: {}", grant.network_rule))?;
    for rule in &grant.capability_rules {
        out.line(&format!("  rights:  {rule}"))?;
    }
    for fact in grant.capability.facts() {
        out.line(&format!("  {fact}"))?;
    }
    Ok(Ended::Yes)
}

/// The caller that is meant: an enrolled device where there is one, or else a user or tag without a device.
pub(super) fn caller(text: &str, inventory: &Inventory) -> Result<policies::Caller, BadInput> {
    let is_tag = text.starts_with("tag:");
    let of_user = |device: &&policies::Caller| device.user.as_deref() == Some(text);
    let of_tag = |device: &&policies::Caller| device.tags.iter().any(|tag| tag == text);
    let named = |device: &&policies::Caller| device.device == text;
    let devices = &inventory.devices;
    let found =
        devices.iter().find(named).or_else(|| devices.iter().find(of_user)).or_else(|| devices.iter().find(of_tag));
    match found {
        Some(device) => Ok(device.clone()),
        None if is_tag => Ok(policies::Caller { tags: vec![text.to_owned()], ..policies::Caller::default() }),
        None if text.contains('@') => {
            Ok(policies::Caller { user: Some(text.to_owned()), ..policies::Caller::default() })
        }
        None => Err(BadInput(format!(
            "{text:?} is no caller: give a user (alice@example.com), a tag (tag:ci) or the name of a device"
        ))),
    }
}
