//! The fuzzer's door to the code that reads file transfers, which the crate keeps to itself otherwise.

use crate::ssh::fuzzing;

/// Plays both directions of an SFTP channel; see `ssh/files/fuzzing.rs` for what has to hold.
pub fn sftp(input: &[u8]) {
    fuzzing::sftp(input);
}

/// Plays both directions of an scp channel.
pub fn scp(input: &[u8]) {
    fuzzing::scp(input);
}

/// Reads a command line that may be scp's.
pub fn command(line: &[u8]) {
    fuzzing::command(line);
}
