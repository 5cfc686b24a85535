//! Sallyport against real peers: one binary, a module for each part of the story.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "these are tests: they may end at once, and they play the peers that dial"
)]

mod backends;
mod bad_days;
mod chaos;
mod databases;
mod doctor;
mod endurance;
mod forbidden;
mod forwards;
mod live;
mod memory;
mod ordinary;
mod peers;
mod policy;
mod postgres;
mod recording;
mod ssh;
mod tunnel;
