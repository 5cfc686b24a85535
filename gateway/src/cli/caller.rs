//! The device's own commands: `shell` and `proxy`. Both join the device's tunnel; `shell` moves into its namespace.
//!
//! A process moves into a user namespace only while it has a single thread, so both run before there is a runtime.

use std::path::PathBuf;

use nix::unistd::{Uid, User};
use sallyport_tailnet::caller::{self, CallerError, Membership};

/// Joins the tunnel of the device's file.
pub(super) fn join(file: Option<PathBuf>) -> Result<Membership, CallerError> {
    caller::join(&file.unwrap_or_else(device_file))
}

/// The device's file where none is named: `$SALLYPORT_DEVICE`, or sallyport/device.conf in the folder for configuration.
fn device_file() -> PathBuf {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(path) = std::env::var_os("SALLYPORT_DEVICE").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let home = || named("HOME").or_else(|| person().map(|user| user.dir)).unwrap_or_else(|| "/".into());
    named("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config")).join("sallyport/device.conf")
}

/// Who runs this, as the system knows them.
pub(super) fn person() -> Option<User> {
    User::from_uid(Uid::current()).ok().flatten()
}
