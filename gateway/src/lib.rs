//! Sallyport: a gateway that brokers and records SSH and Postgres over WireGuard.

// Tests in here share their stand with the tests outside, which know this crate by its name.
#[cfg(test)]
extern crate self as sallyport;

pub mod access;
pub mod addresses;
pub mod admin;
pub mod authority;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod dns;
pub mod doctor;
pub mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod identity;
mod places;
pub mod postgres;
pub mod secrets;
pub mod serve;
pub mod session;
pub mod ssh;
pub mod state;
pub mod target;
pub mod wgquick;
mod whole;
pub mod workers;
pub mod world;
