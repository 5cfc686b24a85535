//! `sallyport init`: a configuration, a policy and keys to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Ended, Out, Site};
use crate::config::{Config, DEFAULT_FILE, own_name};
use crate::state::{Folder, Keys, State};

/// Begin: write sallyport.toml, a policy, and the gateway's keys. What is there already is left alone.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The domain of the tailnet's names
    #[arg(long, default_value = "corp.internal")]
    domain: String,

    /// What devices dial, host:port [default: this machine's name, port 51820]
    #[arg(long)]
    endpoint: Option<String>,
}

pub(super) async fn run(args: Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let path = site.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let endpoint = args.endpoint.unwrap_or_else(|| format!("{}:51820", own_name()));
    let text = configuration(&args.domain, &endpoint);
    // A mistake in what was given must not be left lying in a file.
    let base = path.parent().unwrap_or(Path::new(""));
    Config::parse(&text, "the new configuration", base, site.state.as_deref())?;
    write(&path, &text, out)?;
    let config = Config::load(&path, site.state.as_deref())?;
    write(&config.policy, sallyport_policies::Policy::starter(), out)?;
    let folder = Folder::open(&config.state.folder)?;
    Keys::open(&folder)?;
    State::open(&config).await?.close().await;
    out.line(&format!(
        "{} holds the gateway's keys and state: keep it private, and back it up",
        folder.path().display()
    ))?;
    out.line(&next_steps(&path, &config))?;
    Ok(Ended::Yes)
}

fn write(path: &Path, text: &str, out: &mut Out) -> anyhow::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).with_context(|| format!("{} could not be written", path.display()))?;
            out.line(&format!("{} was written", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            out.line(&format!("{} is there already and was left alone", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("{} could not be written", path.display())),
    }
}

fn configuration(domain: &str, endpoint: &str) -> String {
    let (domain, endpoint) = (toml::Value::from(domain), toml::Value::from(endpoint));
    format!(
        "\
# Everything has a default. Secrets are written as references: \"env:NAME\", \"file:PATH\" or \"exec:PROGRAM ARGUMENTS\".

[tailnet]
domain   = {domain}    # web1 is web1.{plain}
listen   = \"0.0.0.0:51820\"    # WireGuard, UDP
endpoint = {endpoint}    # what devices dial

[policy]
file = \"policy.hujson\"

# [dns]
# forward = [\"10.0.0.2\"]    # resolvers for other names; without any they are refused

# [[target]]
# name = \"web1\"
# tags = [\"tag:prod\"]
# ssh  = {{ address = \"10.0.3.7:22\", host_key = \"ssh-ed25519 AAAA…\", login = \"certificate\" }}
",
        plain = domain.as_str().unwrap_or_default(),
    )
}

fn next_steps(path: &Path, config: &Config) -> String {
    let with = if path == Path::new(DEFAULT_FILE) { String::new() } else { format!(" --config {}", path.display()) };
    format!(
        "
Next:
  1. say who may reach what:   edit {policy}, then `sallyport{with} policy check`
  2. register a machine:       `sallyport{with} target add web1 --ssh HOST:22 --scan --tag tag:prod`
                               and there, as root, let the gateway in: `sallyport{with} target ca`
  3. start the gateway:        `sallyport{with} up`
  4. enrol your device:        `sallyport{with} device add --user you@example.com > wg0.conf`, or with --qr for a phone
  5. bring the tunnel up there, and: ssh ACCOUNT@web1",
        policy = config.policy.display(),
    )
}
