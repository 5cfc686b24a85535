//! `sallyport sessions`: find them again, show one, watch it, end some.

use sallyport_recorder::SessionId;
use sallyport_replay::reel::Reel;
use sallyport_replay::show::Summary;

use super::which::Which;
use super::{BadInput, Ended, Out, Site, expiry, watch};
use crate::admin;
use crate::state::{SessionFilter, SessionRow};

/// The words after `sallyport sessions`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List sessions, the latest first
    Ls(Ls),
    /// Show everything about one session
    Show {
        /// The session's id, or its beginning
        id: String,
        /// As JSON, with what its recording knows as `details`
        #[arg(long)]
        json: bool,
    },
    /// Watch a session that is going on
    Watch(watch::Args),
    /// End sessions that are going on; their callers are told
    Kill(Kill),
}

/// One session, for programs: what the list of sessions says, and what its recording does.
#[derive(Debug, serde::Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    session: &'a SessionRow,
    details: Option<Summary>,
}

/// Which sessions to end, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    /// The sessions' ids, or their beginnings
    #[arg(required = true)]
    ids: Vec<String>,
    /// What their callers read, and the recording keeps
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What came of ending a session, for programs.
#[derive(Debug, serde::Serialize)]
struct KillReport {
    id: SessionId,
    /// `ended`, `told` or `over`
    result: &'static str,
}

/// Which sessions.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    #[command(flatten)]
    which: Which,
    /// Sessions that ended so: completed, denied, client, target, revoked, expired, killed, recording, shutdown, failed,
    /// interrupted; or live
    #[arg(long)]
    outcome: Option<String>,
    /// How many; 0 for all
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: Command, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    match command {
        Command::Ls(args) => list(args, site, out).await,
        Command::Show { id, json } => show(&id, json, site, out).await,
        Command::Watch(args) => watch::run(args, site, out).await,
        Command::Kill(args) => kill(args, site, out).await,
    }
}

async fn list(args: Ls, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (_, state) = site.find().await?;
    let now = site.clock.now();
    if let Some(outcome) = args.outcome.as_deref().filter(|outcome| !OUTCOMES.contains(outcome)) {
        return Err(BadInput(format!("{outcome:?} is no outcome: one of {}", OUTCOMES.join(", "))).into());
    }
    let filter = SessionFilter {
        since: args.which.since(now)?,
        until: args.which.until(now)?,
        caller: args.which.caller,
        target: args.which.target,
        outcome: args.outcome,
        limit: Some(args.limit).filter(|limit| *limit > 0),
    };
    let sessions = state.sessions(&filter).await?;
    if args.json {
        out.json(&sessions)?;
        return Ok(Ended::Yes);
    }
    let row = |session: &SessionRow| {
        [
            session.id.to_string(),
            expiry::shown(session.started),
            session.ended.map_or_else(String::new, |ended| expiry::lasted(session.started, ended)),
            session.caller.clone(),
            session.target.clone(),
            session.account.clone().unwrap_or_default(),
            session.outcome.clone().unwrap_or_else(|| "live".to_owned()),
        ]
    };
    out.table(["ID", "STARTED", "LASTED", "CALLER", "TARGET", "AS", "OUTCOME"], sessions.iter().map(row))?;
    Ok(Ended::Yes)
}

async fn show(id: &str, json: bool, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (_, state) = site.find().await?;
    let session = state.session(id).await?;
    // A recording that cannot be read is for `verify` to explain; what the state knows is shown all the same.
    let reel = session.recording.as_ref().and_then(|folder| Reel::open(folder).ok());
    let details = reel.as_ref().map(Summary::of);
    if json {
        out.json(&Whole { session: &session, details })?;
        return Ok(Ended::Yes);
    }
    let ended = match (session.ended, &session.outcome) {
        (Some(ended), Some(outcome)) => {
            format!("{ended} ({outcome}, after {})", expiry::lasted(session.started, ended))
        }
        _ => "still going on".to_owned(),
    };
    let nobody = if session.ended.is_some() { "none was permitted" } else { "none yet" };
    let recording = session.recording.as_ref().map(|folder| folder.display().to_string());
    let lines = [
        ("session", session.id.to_string()),
        ("caller", format!("{} on {} ({})", session.caller, session.device, session.source)),
        ("target", session.target),
        ("account", session.account.unwrap_or_else(|| nobody.to_owned())),
        ("rule", session.rule.unwrap_or_else(|| "none".to_owned())),
        ("policy", session.policy),
        ("started", session.started.to_string()),
        ("ended", ended),
        ("reason", session.reason.unwrap_or_default()),
        ("recording", recording.unwrap_or_else(|| "none".to_owned())),
    ];
    for (name, value) in lines {
        out.line(format!("{name:<10} {value}").trim_end())?;
    }
    if let Some(details) = details {
        out.line(details.to_string().trim_end())?;
    }
    Ok(Ended::Yes)
}

async fn kill(args: Kill, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let (config, state) = site.find().await?;
    // A mistake in one id ends none of them.
    let mut ids = Vec::new();
    for prefix in &args.ids {
        let id = state.session(prefix).await?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let how = admin::Kill { reason: args.reason };
    let (mut reports, mut all) = (Vec::new(), true);
    for id in ids {
        let killed = admin::tell_kill(&config.state.folder, &id.to_string(), &how).await?;
        let (result, said) = match killed {
            Some(killed) if killed.found && killed.ended => ("ended", format!("session {id} was ended")),
            Some(killed) if killed.found => ("told", format!("session {id} was told to end, and takes its time")),
            Some(_) => ("over", format!("session {id} is over already")),
            None => ("over", format!("session {id} is over: no gateway is running on this state folder")),
        };
        all &= result != "over";
        match args.json {
            true => reports.push(KillReport { id, result }),
            false => out.line(&said)?,
        }
    }
    if args.json {
        out.json(&reports)?;
    }
    Ok(if all { Ended::Yes } else { Ended::No })
}

/// Every word that a session's end is listed under, and the one for those without an end.
const OUTCOMES: [&str; 12] = [
    "completed",
    "denied",
    "client",
    "target",
    "revoked",
    "expired",
    "killed",
    "recording",
    "shutdown",
    "failed",
    "interrupted",
    "live",
];
