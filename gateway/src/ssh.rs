//! The SSH broker: to the client it is the target, to the target it is a client.
//!
//! Two whole SSH connections (RFC 4253) meet here, and everything that RFC 4254 sends over one of them is judged, written
//! down and sent on over the other: [`greet`] lets the client in, [`reach`] gets to the target meanwhile, [`relay`] carries
//! one channel, [`observe`] says what is recorded, [`authorize`] alone decides, and [`refuse`] alone tells the client why not.
//! What nobody knows is refused by its name.

mod algorithms;
mod answers;
mod authorize;
mod files;
mod greet;
mod host;
mod login;
mod observe;
mod opening;
pub(crate) mod probe;
mod reach;
mod record;
mod refuse;
mod relay;
mod window;
mod wire;

use std::sync::Arc;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::access::SshPermit;
use crate::failure::{Ending, Failure};
use crate::session::Session;

use opening::Places;
use relay::Programs;

pub use crate::credentials::Vault;
pub use authorize::{Kind, Scope};
#[cfg(fuzzing)]
pub(crate) use files::fuzzing;
pub use greet::Greeting;
pub use refuse::decline;

/// Carries one client's connection to its target, until both are done or the gateway ends the session.
///
/// # Errors
/// What broke it, for the session's record; the client was told already.
pub async fn serve(greeting: Greeting, session: Arc<Session>, vault: Arc<Vault>) -> Result<(), Failure> {
    // Whatever way this function is left, both connections are cut when it is.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    let places = Places::new();
    let reaching = tokio::spawn(reach::reach(Arc::clone(&session), Arc::clone(&vault), places.clone(), cut.clone()));
    let reaching = AbortOnDropHandle::new(reaching);

    let client = greet::greet(greeting, &session, &vault, places, cut).await?;
    let permit = client.permitted().await?;
    let entered = enter(reaching, &permit, &session, &vault);
    let target = tokio::select! {
        target = entered => target,
        ending = session.ended() => Err(Failure::Denied(ending.to_string())),
        () = client.gone() => return Ok(()),
    };
    let target = match target {
        Ok(target) => target,
        Err(failure) => return Err(client.dismiss(failure, &session).await),
    };
    carry(&client, target, &session).await
}

/// How a connection that was carried came to its end.
enum End {
    /// The client has gone.
    Gone,
    /// The gateway ended the session.
    Ended(Ending),
    /// Something failed that the whole session has to end for.
    Failed(Failure),
}

/// Carries what is opened and asked on the connection, and says goodbye to both ends of it.
async fn carry(client: &greet::Client, target: reach::Target, session: &Arc<Session>) -> Result<(), Failure> {
    let channels = TaskTracker::new();
    let farewell = relay::Farewell::default();
    let relays = relay::Relays::new(Arc::clone(session), client.handle(), target, farewell.clone());
    let end = until_over(client, &relays, session, &channels).await;
    let told = match &end {
        End::Gone => None,
        End::Ended(ending) => Some((ending.to_string(), programs_after(ending))),
        End::Failed(failure) => Some((failure.told(session.id()), Programs::End)),
    };
    if let Some((sentence, programs)) = &told {
        farewell.say(sentence, *programs);
    }
    channels.close();
    if timeout(relay::LINGER, channels.wait()).await.is_err() {
        // A target that is slow to close its end must not keep what was cut off from being written down.
        farewell.say("the client has gone", Programs::Leave);
        let _ = timeout(relay::LINGER, channels.wait()).await;
    }
    relays.leave().await;
    if let Some((sentence, _)) = &told {
        client.disconnect(sentence).await;
    }
    match end {
        End::Gone | End::Ended(_) => Ok(()),
        End::Failed(failure) => Err(failure),
    }
}

/// Has every channel carried by a task among `channels`, and every request answered in its turn, until the connection has
/// come to its end.
async fn until_over(client: &greet::Client, relays: &relay::Relays, session: &Session, channels: &TaskTracker) -> End {
    let mut permits = session.ssh_permits();
    let answering = async {
        while let Some(asking) = client.asking().await {
            relays.answer(asking).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(answering);
    loop {
        tokio::select! {
            Some(opening) = client.opening() => {
                channels.spawn(relays.carry(opening));
            }
            Some(opening) = relays.opening() => {
                channels.spawn(relays.carry_back(opening));
            }
            () = &mut answering => {}
            () = permits.renewed() => {
                channels.spawn(relays.judge_listeners());
            }
            ending = session.ended() => return End::Ended(ending),
            failure = relays.failed() => return End::Failed(failure),
            () = client.gone() => return End::Gone,
        }
    }
}

/// What becomes of programs at the target when the gateway ends their session: a gateway that goes down takes no right away.
fn programs_after(ending: &Ending) -> Programs {
    match ending {
        Ending::Shutdown => Programs::Leave,
        _ => Programs::End,
    }
}

/// Logs in to the target that is being reached, as the account of `permit`.
async fn enter(
    reaching: AbortOnDropHandle<Result<reach::Reached, Failure>>,
    permit: &SshPermit,
    session: &Session,
    vault: &Vault,
) -> Result<reach::Target, Failure> {
    let credential = vault.credential(permit, session.id()).await?;
    let reached = reaching.await.map_err(|error| Failure::Ours(format!("reaching the target: {error}")))??;
    reached.enter(permit, credential, session).await
}

/// OpenSSH's question whether the other end is there (its PROTOCOL, section 2.1 and sshd's ClientAliveInterval).
const KEEPALIVE_REQUEST: &str = "keepalive@openssh.com";
/// OpenSSH's promise to open no more session channels (its PROTOCOL, section 2.2).
const NO_MORE_SESSIONS: &str = "no-more-sessions@openssh.com";
