//! `sallyport proxy`: standard input and output, joined to a port inside the tailnet. Made for ssh's ProxyCommand.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context as _;
use socket2::Socket;

use super::BadInput;
use super::caller::join;

/// What `proxy` is given.
#[derive(Debug, clap::Args)]
#[command(after_help = ENDINGS)]
pub(super) struct Args {
    /// Where to connect, as web1:22
    #[arg(value_name = "HOST:PORT")]
    to: String,
}

/// Carries bytes until the far side has said everything.
///
/// # Errors
/// When there is no tunnel, the name is not known, or nobody answers.
pub(super) fn run(args: &Args, file: Option<PathBuf>) -> anyhow::Result<()> {
    let (host, port) =
        split(&args.to).ok_or_else(|| BadInput(format!("{}: expected HOST:PORT, as web1:22", args.to)))?;
    let connection = join(file)?.connect(host, port)?;
    carry(connection.stream()).context("the connection broke")
}

fn split(to: &str) -> Option<(&str, u16)> {
    let (host, port) = to.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

/// Each direction ends by itself, and tells the other side; the far side's end is the end of all.
fn carry(stream: &Socket) -> io::Result<()> {
    // Not io::Stdout, which waits for whole lines.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let sending = stream.try_clone()?;
    std::thread::spawn(move || {
        // A far side that has gone shows on the other direction too, and there it ends the command.
        let _ = copy(&input, &sending);
        let _ = sending.shutdown(Shutdown::Write);
    });
    copy(stream, &output)
}

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

const ENDINGS: &str = "\
For ssh: `ssh -o ProxyCommand='sallyport proxy %h:%p' web1`, or the same as a line in ~/.ssh/config.
It works where namespaces are denied, too: TCP then runs in the process that holds the tunnel.
The device's file is --config, $SALLYPORT_DEVICE or ~/.config/sallyport/device.conf.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_names_and_addresses_from_ports() {
        for (text, expected) in [
            ("web1:22", Some(("web1", 22))),
            ("[fd00::1]:22", Some(("fd00::1", 22))),
            ("web1", None),
            (":22", None),
            ("web1:ssh", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
