//! The broker between PostgreSQL's own clients and a PostgreSQL server, on loopback: a policy, a recording on disk, and real
//! peers.
//!
//! Needs PostgreSQL's server and clients, and root, because the server runs as another user.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bad_days;
mod clients;
mod cluster;
mod logins;
#[path = "../middle/mod.rs"]
mod middle;
mod recorded;
mod roles;
mod rules;
mod stand;

use stand::Stand;
