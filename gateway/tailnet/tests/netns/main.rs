//! The private namespace on real kernels: two namespaces, a gateway's and a caller's, with their devices joined by a pump in
//! the place of the tunnel. Each rule is tried for each kind of device, as the user who runs the tests and, where that is
//! root, as an ordinary user too. What this machine does not permit is reported as skipped, by name.

use std::process::{Command, ExitCode};

use sallyport_tailnet::netns::{self, DeviceKind};

mod pump;
mod rules;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(netns::SUBCOMMAND) => return netns::helper_main(),
        // `cargo test -- --list` and the like ask harnesses for this.
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let mut failed = rules::run_all();
    if nix::unistd::Uid::effective().is_root() && std::env::var_os("SECOND_RUN").is_none() {
        println!("the same as an ordinary user:");
        failed |= !as_ordinary_user();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs this whole program again as `nobody`, from a place where `nobody` may read it.
fn as_ordinary_user() -> bool {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("netns-test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status = Command::new(copy).env("SECOND_RUN", "1").current_dir("/").gid(65534).uid(65534).status().unwrap();
    status.success()
}

/// Every kind of device.
const KINDS: [DeviceKind; 2] = [DeviceKind::Tun, DeviceKind::Packet];
