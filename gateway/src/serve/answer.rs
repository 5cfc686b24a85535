//! What the running gateway answers on its control socket.

use std::sync::Arc;

use jiff::Timestamp;
use sallyport_recorder::SessionId;

use super::GOODBYE;
use super::keeper::Keeper;
use crate::admin::{Killed, Request, Status, Watched};
use crate::failure::Ending;

/// Answers one request of the control socket. An asker who has gone away is no failure.
pub(super) async fn answer(request: Request, keeper: &mut Keeper, started: Timestamp) {
    match request {
        Request::Changed(reply) => {
            let _ = reply.send(keeper.refresh().await);
        }
        Request::Status(reply) => {
            let _ = reply.send(status(keeper, started));
        }
        Request::Kill(id, how, reply) => {
            let (id, live) = (id.parse::<SessionId>(), keeper.live.clone());
            // Apart, because its caller is given a moment to hear of it.
            tokio::spawn(async move {
                let found = id.clone().is_ok_and(|id| live.end(id, Ending::killed(how.reason.as_deref())));
                let ended = match id {
                    Ok(id) => live.gone(id, GOODBYE).await,
                    Err(_) => true,
                };
                let _ = reply.send(Killed { found, ended });
            });
        }
        Request::Watch(id, reply) => {
            let seen = id.parse().ok().and_then(|id| keeper.live.look(id));
            let _ = reply.send(Watched { live: seen.is_some(), unseen: seen.flatten() });
        }
    }
}

/// What the gateway says of itself.
fn status(keeper: &Keeper, started: Timestamp) -> Status {
    let world = Arc::clone(&keeper.world.borrow());
    Status {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        backend: keeper.tailnet.backend().kind.to_string(),
        listen: keeper.tailnet.local_addr().map_or_else(String::new, |address| address.to_string()),
        policy: world.policy.revision().to_owned(),
        devices: keeper.admitted.len(),
        targets: world.targets().count(),
        sessions: keeper.live.count(),
    }
}
