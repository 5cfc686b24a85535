//! `sallyport up`: the gateway, in the foreground, with its log on standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{BadInput, Ended, Site};
use crate::serve;

/// Run the gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How the log is written; what is in it follows SALLYPORT_LOG, such as debug or sallyport=debug,info
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

/// The forms of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    /// Lines for people
    Text,
    /// A JSON object a line
    Json,
}

pub(super) async fn run(args: Args, site: &Site) -> anyhow::Result<Ended> {
    let config = site.config()?;
    let directives = std::env::var("SALLYPORT_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&directives).map_err(|e| {
        BadInput(format!("SALLYPORT_LOG={directives:?} is no filter, such as debug or sallyport=debug,info: {e}"))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match args.log {
        Log::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Log::Json => log.json().try_init(),
    };
    installed.map_err(|e| anyhow::anyhow!("the log could not be set up: {e}"))?;
    serve::run(config).await?;
    Ok(Ended::Yes)
}
