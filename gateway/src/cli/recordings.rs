//! Finds recordings for the commands that show them.

use sallyport_recorder::{FindError, Store, Stored};
use sallyport_replay::Failure;
use sallyport_replay::reel::Reel;

use super::{BadInput, Site};

/// The recording of the session whose id begins so. It is found by its folder: recordings outlive their database.
///
/// # Errors
/// When there is none, or more than one.
pub(super) fn find(id: &str, site: &Site) -> anyhow::Result<Stored> {
    let store = Store::open(&site.config()?.state.recordings)?;
    store.find(id).map_err(|error| match error {
        FindError::None(_) | FindError::Several { .. } => BadInput(error.to_string()).into(),
        other => other.into(),
    })
}

/// The same, opened.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(super) fn open(id: &str, site: &Site) -> anyhow::Result<Reel> {
    Ok(Reel::open(&find(id, site)?.folder)?)
}

/// A failure to show a recording; one to write it out stays an error of output, which whoever closed the pipe caused.
pub(super) fn told(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Output(error) => error.into(),
        Failure::NoTerminal | Failure::SeveralTerminals(_) | Failure::UnknownTerminal { .. } => {
            BadInput(failure.to_string()).into()
        }
        other => other.into(),
    }
}
