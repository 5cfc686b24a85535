//! `sallyport replay`: a session as it went, in a player; where there is no terminal, as plain text.

use std::io::{self, BufWriter, IsTerminal};
use std::time::Duration;

use sallyport_replay::player::{self, Options};
use sallyport_replay::{clock, export};

use super::recordings::{self, told};
use super::{BadInput, Ended, Out, Site};

/// Play a session.
#[derive(Debug, clap::Args)]
#[command(after_help = KEYS)]
pub(super) struct Args {
    /// The session's id, or its beginning
    id: String,
    /// How many times faster than it happened
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Cut pauses that are longer than so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_limit: Option<Duration>,
    /// Begin at this moment, standing still: 1:02:03, 0:07.250 or 83 seconds, as `search` prints it
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    at: Option<Duration>,
}

pub(super) fn run(args: &Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let reel = recordings::open(&args.id, site)?;
    if !io::stdout().is_terminal() {
        let mut out = BufWriter::new(out.results());
        match args.at {
            Some(at) => export::at(&reel, at, &mut out),
            None => export::plain(&reel, &mut out),
        }
        .map_err(told)?;
        return Ok(Ended::Yes);
    }
    let options = Options { speed: args.speed, idle_limit: args.idle_limit, at: args.at };
    player::run(&reel, options, &reel.title()).map_err(told)?.obey()?;
    Ok(Ended::Yes)
}

/// Plays the session `id` from a moment on.
pub(super) fn from(id: &str, at: Duration, site: &Site) -> anyhow::Result<()> {
    let reel = recordings::open(id, site)?;
    let options = Options { at: Some(at), ..Options::default() };
    player::run(&reel, options, &reel.title()).map_err(told)?.obey()?;
    Ok(())
}

fn moment(text: &str) -> Result<Duration, BadInput> {
    let wrong = || BadInput("expected a moment of the session, as 1:02:03, 0:07.250 or 83".to_owned());
    clock::read(text).ok_or_else(wrong)
}

fn speed(text: &str) -> Result<f64, BadInput> {
    let speed = text.trim_end_matches(['x', '×']).parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| BadInput("expected a number above 0, as 2 or 0.5".to_owned()))
}

fn seconds(text: &str) -> Result<Duration, BadInput> {
    let seconds = text.trim_end_matches('s').parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| BadInput("expected seconds, as 2 or 0.5".to_owned()))
}

const KEYS: &str = "\
Keys: space pause · . step · ← → 5 s · shift with ← →, PgUp, PgDn 60 s · 0 to 9 tenths · [ ] events
      + - speed · Tab next terminal, or the timeline · ? help · q quit";
