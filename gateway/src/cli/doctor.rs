//! `sallyport doctor`: what is wrong here, and what to do about it.

use sallyport_replay::show::counted;

use super::{Ended, Out, Site};
use crate::doctor::{self, Level};

/// Say what is wrong here, and what to do about it. Nothing is changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, site: &Site, out: &mut Out) -> anyhow::Result<Ended> {
    let config = site.config()?;
    let findings = doctor::examine(&config, &site.clock).await;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if args.json {
        out.json(&findings)?;
    } else {
        let mut last = "";
        for finding in &findings {
            let area = if finding.area == last { "" } else { finding.area };
            last = finding.area;
            let mark = match finding.level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Problem => "PROBLEM",
            };
            out.line(&format!("{area:<11} {mark:<8} {}", finding.said))?;
            if let Some(remedy) = &finding.remedy {
                out.line(&format!("{:<20} → {remedy}", ""))?;
            }
        }
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        out.line(&match (problems, warnings) {
            (0, 0) => "\nAll is well.".to_owned(),
            _ => format!("\n{}, {}", counted(problems, "problem"), counted(warnings, "warning")),
        })?;
    }
    Ok(if worst == Level::Problem { Ended::No } else { Ended::Yes })
}
