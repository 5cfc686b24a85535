//! The dialler: the only code that opens a connection to a target.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::failure::{Failure, Stage};
use crate::target::Address;

/// Opens a connection to `address` of the target named `target`, to clean up there what sessions have left behind.
///
/// INVARIANT: nothing of any caller's is sent on it, and nothing is made by it; it needs no permit, because what it takes
/// back was made under one.
///
/// # Errors
/// [`Failure::Target`] when the target is not there.
pub(crate) async fn dial_to_clean_up(target: &str, address: &Address) -> Result<TcpStream, Failure> {
    dial(target, &address.to_string()).await
}

/// Opens a connection to `address` of the target named `target`, to learn whether it lets the gateway in
/// (`sallyport doctor`).
///
/// INVARIANT: nothing of any caller's is sent on it, and nothing is changed by it.
///
/// # Errors
/// [`Failure::Target`] when the target is not there.
pub(crate) async fn dial_to_probe(target: &str, address: &Address) -> Result<TcpStream, Failure> {
    dial(target, &address.to_string()).await
}

/// Opens a transport connection to `address` (`host:port`), on behalf of the target named `target`.
pub(super) async fn dial(target: &str, address: &str) -> Result<TcpStream, Failure> {
    let resolved = match timeout(RESOLVE_DEADLINE, lookup_host(address)).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(Failure::target(target, Stage::Resolve, format!("{address}: {error}"))),
        Err(_) => return Err(Failure::target(target, Stage::Resolve, format!("{address}: no answer in time"))),
    };
    let connecting = async {
        let mut failed = None;
        for address in resolved {
            #[expect(clippy::disallowed_methods, reason = "this is the dialler")]
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.map_or_else(|| format!("{address} has no address"), |error| format!("{address}: {error}")))
    };
    let stream = match timeout(DIAL_DEADLINE, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(detail)) => return Err(Failure::target(target, Stage::Dial, detail)),
        Err(_) => return Err(Failure::target(target, Stage::Dial, format!("{address} did not answer in time"))),
    };
    stream.set_nodelay(true).map_err(|error| Failure::target(target, Stage::Dial, error))?;
    Ok(stream)
}

/// How long a name may take to resolve.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a target may take to accept; its addresses are tried in turn within it.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
