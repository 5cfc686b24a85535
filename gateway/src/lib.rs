//! Sallyport.

pub mod config;
pub mod secrets;
