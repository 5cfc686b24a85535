//! `sallyport policy`: check, test, explain. The answers come from the very functions that the gateway asks.

mod explain;

use anyhow::Context as _;
use sallyport_policies::{self as policies, Inventory, Parsed, Policy};

use super::{BadInput, Ended, Out, Site, announce};
use crate::config::Config;
use crate::serve::Stored;
use crate::state::{State, StateError};

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
    /// As JSON
    #[arg(long)]
    json: bool,
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
        Command::Explain(question) => explain::explain(&question, &policy, &inventory, (&config, out)),
    }
}

/// The policy of the file; `None` after its mistakes have been told.
pub(super) fn read(config: &Config, out: &mut Out) -> anyhow::Result<Option<Parsed>> {
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
    let state = match State::find(config).await {
        Ok(state) => state,
        Err(StateError::Absent { .. }) => {
            let targets = config.targets.iter().map(|target| policies::Target {
                name: target.name.to_string(),
                tags: target.tags.iter().map(ToString::to_string).collect(),
                addresses: Vec::new(),
            });
            return Ok(Inventory { devices: Vec::new(), targets: targets.collect() });
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Stored::read(config, &state, &site.clock).await?.inventory())
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
