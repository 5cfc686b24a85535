//! The `sallyport` command.

use std::process::ExitCode;

use sallyport_tailnet::{caller, netns};

fn main() -> ExitCode {
    // The data plane starts this executable once more to make its namespace, which only a process without threads can;
    // the caller's side, to hold its tunnel.
    match std::env::args_os().nth(1) {
        Some(word) if word == netns::SUBCOMMAND => netns::helper_main(),
        Some(word) if word == caller::SUBCOMMAND => caller::tunnel_main(),
        _ => sallyport::cli::main(),
    }
}
