//! `sallyport replay`: a session as it went, in a player; where there is no terminal, as plain text.

use std::io::{self, BufWriter, IsTerminal};
use std::time::Duration;

use sallyport_replay::export;
use sallyport_replay::player::{self, Options};

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
}

pub(super) fn run(args: &Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let reel = recordings::open(&args.id, site)?;
    if !io::stdout().is_terminal() {
        export::plain(&reel, &mut BufWriter::new(out.results())).map_err(told)?;
        return Ok(Ended::Yes);
    }
    let options = Options { speed: args.speed, idle_limit: args.idle_limit };
    player::run(&reel, options, &reel.title()).map_err(told)?.obey()?;
    Ok(Ended::Yes)
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
