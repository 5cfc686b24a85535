//! The `sallyport` command.

use std::process::ExitCode;

use sallyport_tailnet::netns;

fn main() -> ExitCode {
    // The data plane starts this executable once more to make its namespace, which only a process without threads can.
    if std::env::args_os().nth(1).is_some_and(|word| word == netns::SUBCOMMAND) {
        return netns::helper_main();
    }
    sallyport::cli::main()
}
