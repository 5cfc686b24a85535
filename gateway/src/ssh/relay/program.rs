//! The program that runs on a channel, as its byte streams show it: the seam where they are observed.
//!
//! Both pumps hand every piece of a program's streams to this file before it goes any further, and send on what they get
//! back. Whoever reads a protocol inside the streams does it here: a piece may come back shorter, or empty, where a part
//! of it is not to pass.

use bytes::Bytes;

use crate::failure::Failure;
use crate::session::Session;
use crate::ssh::record::Reel;

/// What runs on one channel.
pub(super) struct Program {
    reel: Reel,
}

impl Program {
    /// A program whose output goes to `reel`.
    pub(super) fn new(reel: Reel) -> Self {
        Self { reel }
    }

    /// A piece of what the client sends to the program's input; gives what goes on to the target.
    pub(super) async fn stdin(&self, _session: &Session, piece: Bytes) -> Result<Bytes, Failure> {
        Ok(piece)
    }

    /// A piece of the program's output, recorded before anybody sees it; gives what goes on to the client.
    pub(super) async fn stdout(&self, session: &Session, piece: Bytes) -> Result<Bytes, Failure> {
        self.reel.stdout(session, &piece).await?;
        Ok(piece)
    }

    /// The same for its errors.
    pub(super) async fn stderr(&self, session: &Session, piece: Bytes) -> Result<Bytes, Failure> {
        self.reel.stderr(session, &piece).await?;
        Ok(piece)
    }

    /// The terminal that it runs in has a new size.
    pub(super) async fn resize(&self, session: &Session, width: u16, height: u16) -> Result<(), Failure> {
        self.reel.resize(session, width, height).await
    }
}
