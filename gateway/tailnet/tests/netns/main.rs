//! The private namespace on real kernels: two namespaces, a gateway's and a caller's, with their devices joined by a pump in
//! the place of the tunnel. Each rule is tried for each kind of device, as the user who runs the tests and, where that is
//! root, as an ordinary user too. What this machine does not permit is reported as skipped, by name.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test without a harness, where clippy does not see one"
)]

use std::process::{Command, ExitCode};

use sallyport_tailnet::netns::{self, DeviceKind};

mod pump;
mod rules;
#[path = "../../../../tests/src/skip.rs"]
mod skip;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        netns::SUBCOMMAND => return netns::helper_main(),
        // `cargo test -- --list` and the like ask harnesses for this.
        "--list" => return ExitCode::SUCCESS,
        _ => {}
    }
    let mut failed = rules::run_all(&argument);
    if nix::unistd::Uid::effective().is_root() && std::env::var_os("SECOND_RUN").is_none() {
        println!("the same as an ordinary user:");
        failed |= !as_ordinary_user(&argument);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs this whole program again as `nobody`, from a place where `nobody` may read it.
fn as_ordinary_user(filter: &str) -> bool {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("netns-test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status =
        Command::new(copy).arg(filter).env("SECOND_RUN", "1").current_dir("/").gid(65534).uid(65534).status().unwrap();
    status.success()
}

/// Every kind of device.
const KINDS: [DeviceKind; 2] = [DeviceKind::Tun, DeviceKind::Packet];
