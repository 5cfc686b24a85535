//! `sallyport verify`: whether a recording is what this gateway wrote.

use sallyport_replay::verify::verify;

use super::{Ended, Out, Site, recordings};
use crate::state::{Folder, Keys};

/// Prove a recording, or say which byte of which segment is wrong, missing or cut.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The session's id, or its beginning
    id: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let stored = recordings::find(&args.id, site)?;
    let (config, state) = site.find().await?;
    let key = Keys::read(&Folder::find(&config.state.folder)?)?.recording.verifying_key();
    let checkpoint = state.checkpoint(stored.id).await?;
    let report = verify(&stored.folder, &key, checkpoint.as_ref())?;
    if args.json {
        out.json(&report)?;
    } else {
        out.line(report.to_string().trim_end())?;
    }
    Ok(if report.ok { Ended::Yes } else { Ended::No })
}
