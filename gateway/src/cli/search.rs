//! `sallyport search`: text in all recordings, as it stood on screens, in what commands wrote, and in events.

use std::io::{self, BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use sallyport_recorder::{Header, SessionId, Store};
use sallyport_replay::clock;
use sallyport_replay::search::{self, Filter, Found, Hit, Meant, Place, Query};

use super::which::Which;
use super::{BadInput, Ended, Out, Site, expiry, replay};

/// Find text in recordings: on terminals as it stood there, in the output of commands, and in events.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// What to look for
    text: String,
    /// Capitals and small letters are the same
    #[arg(short, long)]
    ignore_case: bool,
    /// The text is a regular expression
    #[arg(short = 'E', long)]
    regex: bool,
    #[command(flatten)]
    which: Which,
    /// How many places at the most; 0 for all
    #[arg(long, default_value_t = 200)]
    limit: usize,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

/// A find, for programs.
#[derive(serde::Serialize)]
struct Line<'a> {
    session: SessionId,
    caller: String,
    target: &'a str,
    time: Timestamp,
    at_ms: u64,
    place: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    line: &'a str,
}

pub(super) fn run(args: &Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let query = Query::new(&args.text, Meant { any_case: args.ignore_case, regex: args.regex }).map_err(BadInput)?;
    let now = site.clock.now();
    let filter = Filter {
        caller: args.which.caller.clone(),
        target: args.which.target.clone(),
        since: args.which.since(now)?,
        until: args.which.until(now)?,
    };
    let mut recordings = Store::open(&site.config()?.state.recordings)?.list()?;
    // The latest first: it is the likeliest to be asked about.
    recordings.reverse();
    let mut list = List { out, json: args.json, limit: args.limit, last: None, shown: Vec::new(), failed: None };
    search::search(recordings, &filter, &query, |found| match list.take(found) {
        Ok(flow) => flow,
        Err(error) => {
            list.failed = Some(error);
            ControlFlow::Break(())
        }
    });
    let List { failed, shown, .. } = list;
    if let Some(error) = failed {
        return Err(error);
    }
    if args.limit > 0 && shown.len() >= args.limit {
        out.note(&format!("there may be more than these {}: narrow the search, or give --limit 0", args.limit))?;
    }
    match shown.is_empty() {
        true => {
            out.note("nothing was found")?;
            Ok(Ended::No)
        }
        false if args.json => Ok(Ended::Yes),
        false => jump(&shown, site, out),
    }
}

/// What is found, as it comes.
struct List<'a> {
    out: &'a mut Out,
    json: bool,
    limit: usize,
    last: Option<SessionId>,
    shown: Vec<(SessionId, Duration)>,
    failed: Option<anyhow::Error>,
}

impl List<'_> {
    fn take(&mut self, found: Found) -> anyhow::Result<ControlFlow<()>> {
        match found {
            Found::Unreadable(session, why) => self.out.note(&format!("{session}: {why}"))?,
            Found::Hits(header, hits) => {
                for hit in hits {
                    self.show(&header, &hit)?;
                    self.shown.push((header.id, hit.at));
                    if self.limit > 0 && self.shown.len() >= self.limit {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn show(&mut self, header: &Header, hit: &Hit) -> anyhow::Result<()> {
        if self.json {
            let (place, number) = match hit.place {
                Place::Terminal(number) => ("terminal", Some(number)),
                Place::Stdout(number) => ("stdout", Some(number)),
                Place::Stderr(number) => ("stderr", Some(number)),
                Place::Event => ("event", None),
            };
            let line = Line {
                session: header.id,
                caller: header.caller.name(),
                target: &header.target.name,
                time: header.started.checked_add(hit.at).unwrap_or(header.started),
                at_ms: u64::try_from(hit.at.as_millis()).unwrap_or(u64::MAX),
                place,
                number,
                line: &hit.line,
            };
            return self.out.json_line(&line);
        }
        if self.last != Some(header.id) {
            let blank = if self.last.is_some() { "\n" } else { "" };
            let (caller, target) = (header.caller.name(), &header.target.name);
            let when = expiry::shown(header.started);
            self.out.line(&format!("{blank}{}  {when}  {caller} → {target}", header.id))?;
            self.last = Some(header.id);
        }
        let (number, at) = (self.shown.len() + 1, clock::exact(hit.at));
        self.out.line(&format!("{:>6} {at:>11}  {:<10} {}", format!("[{number}]"), hit.place.to_string(), hit.shown()))
    }
}

/// Asks a person which of the places to jump to, and plays from there.
fn jump(shown: &[(SessionId, Duration)], site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(Ended::Yes);
    }
    loop {
        out.ask("\nPlay from which of them? A number, or Enter to leave: ")?;
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 || answer.trim().is_empty() {
            return Ok(Ended::Yes);
        }
        let number = answer.trim().parse::<usize>().ok();
        let Some((id, at)) = number.and_then(|number| shown.get(number.checked_sub(1)?)) else {
            out.note(&format!("a number from 1 to {}", shown.len()))?;
            continue;
        };
        replay::from(&id.to_string(), *at, site)?;
    }
}

const HELP: &str = "\
Text on a terminal is found as it stood there: typed letter by letter, coloured, wrapped, redrawn.
`sallyport replay ID --at MOMENT` jumps to a place; so does its number, where this is a terminal.";
