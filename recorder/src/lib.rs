//! Sallyport's recordings: events, formats, hash chain, segments, storage.
//!
//! A session leaves one folder: a manifest, a timeline of [`Event`]s, an asciicast for each terminal, and the bytes that
//! commands wrote. Stock tools read the content: `zstd -dc terminal-0.cast.zst | asciinema play -`. FORMAT.md describes
//! every byte.
//!
//! Writing: [`Store::create`] gives a [`Recording`]. Nothing is ever dropped: a full queue makes the session wait, and a
//! failure is returned by every later call and by [`Recording::failure`].
//! After a crash: [`Store::recover`]. Reading: [`read::RecordingReader`], which trusts nothing, and [`follow::Follow`], which
//! reads along while it is written. Proof: [`verify()`].

// Tests in here record what the tests outside do, which know this crate by its name.
#[cfg(test)]
extern crate self as sallyport_recorder;
#[cfg(test)]
#[path = "../tests/support/made.rs"]
#[allow(unreachable_pub, reason = "the tests outside see it")]
mod made;

mod appender;
mod blocks;
mod cast;
mod content;
mod cursor;
mod database;
mod drive;
mod error;
mod event;
mod folder;
pub mod follow;
mod hash;
mod id;
mod locate;
mod manifest;
mod pack;
mod queue;
pub mod read;
mod recording;
mod recover;
pub mod scan;
pub mod segment;
mod store;
mod unsynced;
pub mod verify;
mod viewing;
mod writer;

pub use cast::{CastHeader, TerminalHeader};
pub use database::{
    Copied, DatabaseError, DatabaseSession, FunctionCall, Parameter, RunBy, Sql, Statement, Transaction,
};
pub use error::RecorderError;
pub use event::{Direction, End, Event, FileResult, Outcome};
pub use hash::{Hash, NotAHash};
pub use id::{NotASessionId, SessionId};
pub use manifest::{
    Caller, Checkpoint, Head, Header, MANIFEST, Manifest, PolicyStamp, Seal, Signature, Signer, State, StreamTotal,
    Target, VERSION,
};
pub use queue::QUEUE_BYTES;
pub use recording::{MAX_EVENT, Output, OutputStream, Recording, Sealed, Terminal};
pub use recover::{RecoverError, Recovered, Recovery};
pub use segment::StreamId;
pub use store::{FindError, Store, Stored};
pub use verify::{Problem, ProblemKind, Verification, verify};
pub use viewing::{FLUSH_AFTER, Viewing};
