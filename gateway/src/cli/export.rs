//! `sallyport export`: a session for other programs.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sallyport_replay::export::{Format, export};

use super::recordings::{self, told};
use super::{Ended, Out, Site};
use crate::whole::Draft;

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
    let write = |out: &mut dyn Write| export(&reel, args.format, args.terminal, &mut BufWriter::new(out)).map_err(told);
    match &args.output {
        None => write(out.results())?,
        Some(path) if is_stream(path) => write(&mut opened(path).with_context(|| cannot(path))?)?,
        Some(path) => {
            // A session may show secrets: its export is its owner's alone, and takes the place of one that was.
            let mut draft = Draft::of(path).with_context(|| cannot(path))?;
            write(draft.content())?;
            draft.replace().with_context(|| cannot(path))?;
        }
    }
    Ok(Ended::Yes)
}

/// Whether this is a pipe, a device or a descriptor of a process (`/dev/stdout`), which are written to as they are.
///
/// A link in a folder of one's own is none, wherever it leads: somebody else may have laid it there.
fn is_stream(path: &Path) -> bool {
    let Ok(lies_there) = path.symlink_metadata() else { return false };
    if !lies_there.is_symlink() {
        return !lies_there.is_file();
    }
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    folder.is_some_and(|folder| folder == Path::new("/dev") || folder.starts_with("/proc"))
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).truncate(true).open(path)
}

fn cannot(path: &Path) -> String {
    format!("cannot write {}", path.display())
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
