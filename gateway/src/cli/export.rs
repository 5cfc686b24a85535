//! `sallyport export`: a session for other programs.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use sallyport_replay::export::{Format, export};

use super::recordings::{self, told};
use super::{Ended, Out, Site};

/// Write a session as an asciicast, as text, as SQL, or as JSON lines.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The session's id, or its beginning
    id: String,
    /// cast (for asciinema), text (what stood on the terminal), sql (what was run on a database), or jsonl (everything, with
    /// absolute times)
    #[arg(long, default_value = "text", value_parser = format)]
    format: Format,
    /// This terminal only, where the session had several
    #[arg(long, value_name = "N")]
    terminal: Option<u32>,
    /// Into this file, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let reel = recordings::open(&args.id, site)?;
    let Some(path) = &args.output else {
        export(&reel, args.format, args.terminal, &mut BufWriter::new(out.results())).map_err(told)?;
        return Ok(Ended::Yes);
    };
    // A session may show secrets: its export is its owner's alone.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    export(&reel, args.format, args.terminal, &mut BufWriter::new(file)).map_err(told)?;
    Ok(Ended::Yes)
}

fn format(text: &str) -> Result<Format, &'static str> {
    match text {
        "cast" => Ok(Format::Cast),
        "text" => Ok(Format::Text),
        "jsonl" => Ok(Format::JsonLines),
        "sql" => Ok(Format::Sql),
        _ => Err("expected cast, text, sql or jsonl"),
    }
}
