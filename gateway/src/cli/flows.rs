//! `sallyport flows`: connections on the tailnet.

use super::{Ended, Out, Site, expiry};

/// The words after `sallyport flows`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List connections, the latest first
    Ls(Ls),
}

/// Which ones.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// Only those of this device
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// How many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(Command::Ls(args): Command, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (_, state) = site.find().await?;
    let key = match &args.device {
        Some(name) => Some(state.device(name).await?.device.key.to_string()),
        None => None,
    };
    let flows = state.flows(key.as_deref(), args.limit).await?;
    if args.json {
        out.json(&flows)?;
        return Ok(Ended::Yes);
    }
    let devices = state.devices().await?;
    let name = |key: &str| {
        let device = devices.iter().find(|enrolled| enrolled.device.key.to_string() == key);
        device.map_or_else(|| key.to_owned(), |enrolled| enrolled.device.name.clone())
    };
    let rows = flows.iter().map(|flow| {
        let verdict = match (&flow.session, &flow.denied) {
            (Some(session), _) => format!("session {session}"),
            (None, Some(reason)) => format!("denied: {reason}"),
            (None, None) => "nobody listens".to_owned(),
        };
        [
            expiry::shown(flow.started),
            name(&flow.device),
            format!("{} {} → {}", flow.protocol, flow.source, flow.destination),
            expiry::lasted(flow.started, flow.ended),
            flow.rx_bytes.to_string(),
            flow.tx_bytes.to_string(),
            verdict,
        ]
    });
    out.table(["STARTED", "DEVICE", "CONNECTION", "LASTED", "BYTES IN", "BYTES OUT", "VERDICT"], rows)?;
    Ok(Ended::Yes)
}
