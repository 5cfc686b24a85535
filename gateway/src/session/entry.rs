//! What is written of a session before it begins: its row in the list of sessions, and the header of its recording. A
//! connection that was refused has a row too, and nothing else.

use std::path::PathBuf;

use jiff::Timestamp;
use sallyport_recorder::{self as recorder, Outcome, SessionId};
use tracing::warn;

use super::Runner;
use crate::access::{Approach, Refusal};
use crate::identity::Origin;
use crate::state::Opened;
use crate::target::Protocol;

impl Runner {
    /// Lists a connection that was refused before it became a session.
    pub async fn refused(&self, protocol: Protocol, origin: &Origin, refusal: &Refusal) {
        let now = self.access.clock().now();
        let id = SessionId::new(now);
        let Some(caller) = &refusal.caller else { return };
        let row = Opened {
            id,
            protocol: protocol.as_str().to_owned(),
            caller: caller.device().owner.to_string(),
            device: caller.device().name.clone(),
            device_id: Some(caller.device().id),
            source: caller.source().to_string(),
            target: refusal
                .target
                .as_ref()
                .map_or_else(|| origin.destination().ip().to_string(), |target| target.name.clone()),
            policy: self.access.revision(),
            recording: None,
            started: now,
        };
        let why = refusal.failure.to_string();
        // Handed in one after the other, and kept together.
        let (opened, ended) = tokio::join!(
            self.state.session_opened(&row),
            self.state.session_ended(id, now, (Outcome::Denied.as_str(), &why), None)
        );
        if let Err(error) = opened.and(ended) {
            warn!(%error, "a refused connection could not be listed");
        }
    }
}

/// The row of a session on `approach` that begins, with its recording in `folder`.
pub(super) fn row(approach: &Approach, header: &recorder::Header, folder: PathBuf) -> Opened {
    Opened {
        id: header.id,
        protocol: header.protocol.clone(),
        caller: approach.caller().device().owner.to_string(),
        device: header.caller.device.clone(),
        device_id: Some(approach.caller().device().id),
        source: header.caller.address.clone(),
        target: header.target.name.clone(),
        policy: header.policy.revision.clone(),
        recording: Some(folder),
        started: header.started,
    }
}

/// What the recording of a session on `approach` begins with.
pub(super) fn header(approach: &Approach, id: SessionId, started: Timestamp, gateway: &str) -> recorder::Header {
    let device = approach.caller().device();
    recorder::Header {
        id,
        protocol: approach.protocol().as_str().to_owned(),
        caller: recorder::Caller {
            user: device.owner.user().map(str::to_owned),
            tags: device.owner.tags().to_vec(),
            device: device.name.clone(),
            key: device.key.to_string(),
            address: approach.caller().source().to_string(),
        },
        target: recorder::Target { name: approach.target().name.clone(), address: approach.address().to_string() },
        policy: recorder::PolicyStamp {
            revision: approach.revision().to_owned(),
            rules: vec![approach.network_rule().to_owned()],
        },
        gateway: gateway.to_owned(),
        started,
    }
}
