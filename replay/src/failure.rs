//! What can go wrong in showing a recording.

/// Why a recording could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be read.
    #[error("cannot read the recording: {0}")]
    Recording(String),
    /// A terminal of the recording could not be rebuilt.
    #[error("cannot show a terminal of the recording: {0}")]
    Terminal(String),
    /// The viewer's terminal or the output file failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}
