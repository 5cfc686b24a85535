//! What can go wrong in showing a recording.

/// Why a recording could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be read.
    #[error(transparent)]
    Recording(#[from] sallyport_recorder::read::ReadError),
    /// A terminal of the recording could not be rebuilt.
    #[error("cannot show a terminal of the recording: {0}")]
    Terminal(String),
    /// A cast was wanted of a session without a terminal.
    #[error("this session has no terminal, so there is no cast of it; use --format text or --format jsonl")]
    NoTerminal,
    /// It must be said which terminal.
    #[error("this session has {0} terminals; choose one with --terminal N, `sallyport sessions show` lists them")]
    SeveralTerminals(usize),
    /// There is no such terminal.
    #[error("this session has no terminal {number}; it has {have}, `sallyport sessions show` lists them")]
    UnknownTerminal {
        /// What was asked for.
        number: u32,
        /// How many there are.
        have: usize,
    },
    /// The viewer's terminal or the output file failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}
