//! How the clocks of targets compare with this machine's: the certificates of sessions hold for minutes.

use jiff::SignedDuration;

use super::Finding;
use crate::ssh::probe::{CLOSE, Side, TheirClock};

/// What the sentence about a target that let the gateway in says of its clock.
pub(super) fn agreement(clock: TheirClock) -> String {
    match clock {
        TheirClock::Agrees => format!(", and its clock is within {CLOSE} seconds of this one"),
        TheirClock::Untold | TheirClock::Off(_) | TheirClock::Wrong(_) => String::new(),
    }
}

/// What is wrong with an SSH target's clock.
pub(super) fn by_certificates(name: &str, clock: TheirClock) -> Option<Finding> {
    Some(match clock {
        TheirClock::Untold | TheirClock::Agrees => return None,
        TheirClock::Off(side) => {
            let said = format!("the clock of {name} is more than {CLOSE} seconds {} this one", beside(side));
            let why = "a minute behind, or five ahead, it refuses the gateway's certificates";
            Finding::warning("clock", said, format!("{REMEDY}: {why}"))
        }
        TheirClock::Wrong(side) => {
            let far = match side {
                Side::Behind => "a minute behind",
                Side::Ahead => "five minutes ahead of",
            };
            let said = format!(
                "the clock of {name} is more than {far} this one, so that it refuses the gateway's certificates"
            );
            Finding::problem("clock", said, REMEDY)
        }
    })
}

/// What a database server's clock says beside this one; `ahead` is by how much it is.
pub(super) fn by_statement(name: &str, ahead: SignedDuration) -> Result<String, Finding> {
    let off = ahead.unsigned_abs();
    if off.as_secs() < u64::from(CLOSE) {
        return Ok(agreement(TheirClock::Agrees));
    }
    let side = if ahead.is_negative() { Side::Behind } else { Side::Ahead };
    let said = format!("the clock of {name} is {} seconds {} this one", off.as_secs(), beside(side));
    Err(Finding::warning(
        "clock",
        said,
        format!("{REMEDY}: certificates hold for minutes, and logs do not fit together"),
    ))
}

fn beside(side: Side) -> &'static str {
    match side {
        Side::Behind => "behind",
        Side::Ahead => "ahead of",
    }
}

const REMEDY: &str =
    "keep it by NTP there; where other targets are told of in the same way, this machine's clock is the wrong one";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_clock_is_told_of_by_how_far_it_is_off() {
        assert_eq!(by_certificates("web1", TheirClock::Agrees), None);
        let off = by_certificates("web1", TheirClock::Off(Side::Ahead)).unwrap();
        assert!(off.level == Level::Warning && off.said.contains("5 seconds ahead of this one"), "{off:?}");
        let wrong = by_certificates("web1", TheirClock::Wrong(Side::Behind)).unwrap();
        assert!(wrong.level == Level::Problem && wrong.said.contains("a minute behind this one"), "{wrong:?}");
        for (ahead, said) in [(4, None), (-4, None), (90, Some("90 seconds ahead of")), (-7, Some("7 seconds behind"))]
        {
            let told = by_statement("orders", SignedDuration::from_secs(ahead));
            match said {
                None => assert!(told.unwrap().contains("within 5 seconds")),
                Some(said) => assert!(told.unwrap_err().said.contains(said), "{ahead}"),
            }
        }
    }
}
