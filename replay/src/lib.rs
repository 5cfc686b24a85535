//! Sallyport's replay: timeline, terminal player, live view, search, export, verify.
//!
//! Recordings are hostile text: a target may have printed anything. INVARIANT: nothing of a recording reaches a viewer's
//! terminal but through the virtual terminal's cells or through [`harmless`].

pub mod clock;
pub mod database;
pub mod export;
mod failure;
pub mod harmless;
pub mod json;
pub mod live;
pub mod moment;
mod output;
pub mod player;
pub mod reel;
pub mod search;
pub mod show;
pub mod sql;
pub mod statement;
pub mod text;
pub mod timeline;
pub mod transcript;
pub mod verify;
mod window;

pub use failure::Failure;
