//! Whether a recording is what the gateway wrote, as a report for a person or a program.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use ed25519_dalek::VerifyingKey;
use sallyport_recorder::Checkpoint;
use sallyport_recorder::read::ReadError;
use sallyport_recorder::verify::Problem;
use serde::Serialize;

use crate::{Failure, harmless, show};

/// What a verification found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether all is well.
    pub ok: bool,
    /// What is wrong: which byte of which segment of which file.
    pub problems: Vec<Problem>,
    /// Segments that were looked at.
    pub segments: u64,
    /// Bytes that were looked at.
    pub bytes: u64,
    /// Whether the gateway's own note of the chain's head was there to compare with.
    pub checkpoint: bool,
}

/// Verifies the recording in `folder` against the gateway's key and its last note of the chain, if there is one.
///
/// # Errors
/// When there is nothing to verify: the folder cannot be read.
pub fn verify(folder: &Path, key: &VerifyingKey, checkpoint: Option<&Checkpoint>) -> Result<Report, Failure> {
    std::fs::read_dir(folder).map_err(|source| ReadError::Unreadable { path: folder.to_owned(), source })?;
    let found = sallyport_recorder::verify::verify(folder, key, checkpoint);
    Ok(Report {
        ok: found.is_ok(),
        problems: found.problems,
        segments: found.segments,
        bytes: found.bytes,
        checkpoint: checkpoint.is_some(),
    })
}

/// For a person, harmless: file names may come from whoever tampered.
impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}", harmless::line(&problem.to_string()))?;
        }
        let verdict = match self.problems.len() {
            0 => "intact, and signed by this gateway".to_owned(),
            count => show::counted(count, "problem"),
        };
        writeln!(f, "{verdict}: {}, {} checked", show::counted(self.segments, "segment"), show::bytes(self.bytes))?;
        if !self.checkpoint {
            writeln!(f, "the gateway noted no head of this chain, so it was checked against its seal alone")?;
        }
        Ok(())
    }
}
