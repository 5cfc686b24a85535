//! Sallyport against real peers: one binary, a module for each part of the story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod tunnel;
