//! The caller's side against a gateway's data plane, both on this machine: names, connections, identity, exit status, and
//! several users of one device. As the user who runs the tests and, where that is root, as an ordinary user too.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test without a harness, where clippy does not see one"
)]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use sallyport_tailnet::{caller, netns};

mod gateway;
mod rules;
#[path = "../../../../tests/src/skip.rs"]
mod skip;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(netns::SUBCOMMAND) => return netns::helper_main(),
        Some(caller::SUBCOMMAND) => return caller::tunnel_main(),
        Some("shell") => return shell(Path::new(&arguments[1]), &arguments[2..]),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let filter = arguments.first().map_or("", String::as_str);
    let mut failed = rules::run_all(filter);
    if nix::unistd::Uid::effective().is_root() && std::env::var_os("SECOND_RUN").is_none() {
        println!("the same as an ordinary user:");
        failed |= !as_ordinary_user(filter);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What `sallyport shell` does.
fn shell(file: &Path, command: &[String]) -> ExitCode {
    if let Err(error) = caller::join(file).and_then(caller::Membership::enter) {
        eprintln!("{error}");
        return ExitCode::from(125);
    }
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    panic!("{}: {error}", command[0]);
}

/// Runs this whole program again as `nobody`, from a place where `nobody` may read it.
fn as_ordinary_user(filter: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("caller-test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut second = Command::new(copy);
    second.arg(filter).env("SECOND_RUN", "1").current_dir("/").gid(65534).uid(65534);
    second.status().unwrap().success()
}
