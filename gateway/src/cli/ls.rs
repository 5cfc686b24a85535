//! `sallyport ls`: what there is to reach, and the line that ends host-key questions.

use sallyport_policies::{Inventory, Parsed, Port};

use super::{Ended, Out, Site, policy};
use crate::access::{object, subject};
use crate::state::{Folder, Keys, Known};

/// List targets, and print what ends host-key questions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what this caller may reach: a user, a tag or the name of a device
    caller: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (config, state) = site.find().await?;
    let mut targets: Vec<(Known, Option<Vec<String>>)> =
        state.targets(&config.targets, site.clock.now()).await?.into_iter().map(|known| (known, None)).collect();
    if let Some(caller) = &args.caller {
        let devices = state.devices().await?.iter().map(|enrolled| subject(&enrolled.device)).collect();
        let caller = policy::caller(caller, &Inventory { devices, targets: Vec::new() })?;
        let Some(Parsed { policy, .. }) = policy::read(&config, out)? else { return Ok(Ended::No) };
        targets.retain_mut(|(known, accounts)| {
            let target = object(&known.target);
            *accounts = Some(policy.ssh_accounts(&caller, &target));
            known
                .target
                .protocols()
                .any(|protocol| policy.approach(&caller, &target, Port::tcp(protocol.port())).is_allowed())
        });
    }
    if args.json {
        out.json(&targets.iter().map(|(known, accounts)| as_json(known, accounts.as_deref())).collect::<Vec<_>>())?;
        return Ok(Ended::Yes);
    }
    let row = |(known, accounts): &(Known, Option<Vec<String>>)| {
        let target = &known.target;
        [
            target.name.clone(),
            target.tags.join(","),
            target.addresses.first().map(ToString::to_string).unwrap_or_default(),
            accounts.as_ref().map(|accounts| accounts.join(", ")).unwrap_or_default(),
        ]
    };
    out.table(["NAME", "TAGS", "ADDRESS", if args.caller.is_some() { "AS" } else { "" }], targets.iter().map(row))?;
    let keys = Keys::read(&Folder::find(&config.state.folder)?)?;
    out.note("\nTo end host-key questions, put this line into ~/.ssh/known_hosts:")?;
    let names = targets.iter().map(|(known, _)| known.target.name.as_str());
    out.line(&known_hosts_line(&config.tailnet.domain, names, &keys.host_ca.public_key().to_openssh()?))?;
    if targets.iter().any(|(known, _)| known.target.services.postgres.is_some()) {
        out.note("\nFor sslmode=verify-full, put this into a file and name it in sslrootcert:")?;
        out.line(keys.tls_ca.pem())?;
    }
    Ok(Ended::Yes)
}

/// One line for all targets, by their whole names and by the bare ones (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
fn known_hosts_line<'a>(domain: &str, names: impl Iterator<Item = &'a str>, authority: &str) -> String {
    let patterns = std::iter::once(format!("*.{domain}")).chain(names.map(str::to_owned));
    let patterns: Vec<String> = patterns.collect();
    format!("@cert-authority {} {authority}", patterns.join(","))
}

fn as_json(known: &Known, accounts: Option<&[String]>) -> serde_json::Value {
    let target = &known.target;
    serde_json::json!({
        "name": target.name,
        "tags": target.tags,
        "addresses": target.addresses,
        "accounts": accounts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_covers_whole_and_bare_names() {
        let line = known_hosts_line("corp.internal", ["db1", "web1"].into_iter(), "ssh-ed25519 AAAA");
        assert_eq!(line, "@cert-authority *.corp.internal,db1,web1 ssh-ed25519 AAAA");
    }
}
