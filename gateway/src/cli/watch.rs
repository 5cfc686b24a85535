//! `sallyport sessions watch`: a session that is going on, as its caller sees it. The operator's alone: it takes the
//! recordings and the control socket, which nobody else can open.

use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sallyport_replay::live::{self, Left, Live, Word};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::recordings::told;
use super::{Ended, Out, Site};
use crate::admin::{self, Watched};
use crate::state::SessionRow;

/// Watch a session that is going on.
#[derive(Debug, clap::Args)]
#[command(after_help = KEYS)]
pub(super) struct Args {
    /// The session's id, or its beginning
    id: String,
    /// Look at this terminal [default: the newest one that is live]
    #[arg(long, value_name = "N")]
    terminal: Option<u32>,
    /// Everything that is recorded as JSON lines, from the session's start on
    #[arg(long, conflicts_with = "terminal")]
    json: bool,
}

pub(super) async fn run(args: Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (config, state) = site.find().await?;
    let session = state.session(&args.id).await?;
    state.close().await;
    let folder = config.state.folder;
    let word = match admin::ask_watch(&folder, &session.id.to_string()).await? {
        None => {
            out.note("no gateway is running on this state folder, so no session is going on")?;
            return Ok(Ended::No);
        }
        Some(Watched { live: false, .. }) => return over(&session, out),
        Some(Watched { live: true, unseen }) => Word::On(unseen),
    };
    let recording = session.recording.as_ref().filter(|folder| folder.exists());
    let Some(recording) = recording else {
        let why = if let Word::On(Some(why)) = &word { why } else { "it has no recording" };
        out.note(&format!("session {} goes on, and there is nothing to see of it: {why}", session.id))?;
        return Ok(Ended::No);
    };
    if let Word::On(Some(why)) = &word {
        out.note(&format!("not all of this session can be seen: {why}"))?;
    }
    let word = Arc::new(Mutex::new(word));
    let _asking = AbortOnDropHandle::new(tokio::spawn(ask(folder, session.id.to_string(), Arc::clone(&word))));
    // The view waits for files and keys, while the runtime's other threads go on asking.
    let left = tokio::task::block_in_place(|| look(&args, recording, out, || word.lock().clone()))?;
    farewell(left, &session, out)
}

fn look(args: &Args, recording: &Path, out: &mut Out, word: impl Fn() -> Word) -> anyhow::Result<Left> {
    let live = if args.json { Live::whole(recording) } else { Live::open(recording) };
    let mut live = live.map_err(told)?;
    let left = match (args.json, io::stdout().is_terminal()) {
        (true, _) => live::json(&mut live, &mut BufWriter::new(out.results()), word),
        (false, true) => live::run(&mut live, args.terminal, word),
        (false, false) => live::text(&mut live, &mut BufWriter::new(out.results()), word),
    };
    left.map_err(told)
}

/// Goes on telling the gateway that somebody looks, and `word` what it says.
async fn ask(folder: PathBuf, session: String, word: Arc<Mutex<Word>>) {
    loop {
        sleep(ASK).await;
        let heard = match admin::ask_watch(&folder, &session).await {
            Ok(Some(Watched { live: true, unseen })) => Word::On(unseen),
            Ok(Some(Watched { live: false, .. }) | None) => Word::Over,
            // It is there and busy; what comes is seen a little later.
            Err(_) => continue,
        };
        *word.lock() = heard;
    }
}

fn over(session: &SessionRow, out: &mut Out) -> anyhow::Result<Ended> {
    let outcome = session.outcome.as_deref().unwrap_or("not known yet");
    out.note(&format!("session {0} is over ({outcome}): `sallyport replay {0}` plays it", session.id))?;
    Ok(Ended::No)
}

fn farewell(left: Left, session: &SessionRow, out: &mut Out) -> anyhow::Result<Ended> {
    let id = session.id;
    match left {
        Left::Ended(end) => {
            out.note(&format!("session {id} ended: {}: {}", end.outcome.as_str(), end.reason))?;
            Ok(Ended::Yes)
        }
        Left::Lost => {
            out.note(&format!("session {id} is over, and its recording has no end: its gateway stopped, or its disk"))?;
            Ok(Ended::No)
        }
        Left::Viewer(ended) => {
            out.note(&format!("you left; session {id} goes on"))?;
            ended.obey()?;
            Ok(Ended::Yes)
        }
    }
}

/// How often the gateway is told that somebody still looks; it forgets after five seconds.
const ASK: Duration = Duration::from_secs(1);

const KEYS: &str = "\
Keys: Tab next terminal, or the events and the output of commands · q, Ctrl-C leave; the session goes on

Where standard output is no terminal, events, the output of commands and what scrolls off terminals come as lines.";
