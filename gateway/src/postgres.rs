//! The Postgres broker: so far the bytes of its protocol.

pub mod wire;
