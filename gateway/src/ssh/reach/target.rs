//! A target that let the gateway in: what is opened and asked there, each with the permit for it.

use std::sync::Arc;

use russh::client::{Handle, Msg};
use russh::{Channel, ChannelType, Disconnect};
use sallyport_policies::Endpoint;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use super::{Reached, Seen, Watch};
use crate::failure::{Failure, Stage};
use crate::ssh::authorize::ChannelPermit;
use crate::ssh::opening::Opening;

/// A target that let the gateway in as one account.
pub(in crate::ssh) struct Target {
    handle: Handle<Watch>,
    name: String,
    seen: Arc<Seen>,
    openings: Mutex<mpsc::Receiver<Opening<Msg>>>,
    gone: CancellationToken,
}

impl Target {
    pub(super) fn new(reached: Reached) -> Self {
        let Reached { handle, target, seen, openings, gone } = reached;
        Self { handle, name: target, seen, openings: Mutex::new(openings), gone }
    }

    /// Opens a channel as the client asked for it.
    pub(in crate::ssh) async fn open(
        &self,
        _permit: ChannelPermit,
        typ: &ChannelType,
    ) -> Result<Channel<Msg>, russh::Error> {
        match typ {
            ChannelType::Session => self.handle.channel_open_session().await,
            ChannelType::DirectTcpip(to) => {
                let (host, port) = (to.host_to_connect.as_str(), to.port_to_connect);
                let (from, from_port) = (to.originator_address.as_str(), to.originator_port);
                self.handle.channel_open_direct_tcpip(host, port, from, from_port).await
            }
            ChannelType::DirectStreamLocal(to) => {
                self.handle.channel_open_direct_streamlocal(to.socket_path.as_str()).await
            }
            _ => Err(russh::Error::Inconsistent),
        }
    }

    /// Has it listen; gives the port where that was left to it.
    pub(in crate::ssh) async fn listen(&self, _permit: ChannelPermit, at: Endpoint<'_>) -> Result<u32, russh::Error> {
        match at {
            Endpoint::Tcp { host, port } => self.handle.tcpip_forward(host, port).await,
            Endpoint::Unix { path } => self.handle.streamlocal_forward(path).await.map(|()| 0),
        }
    }

    /// Has it listen no longer.
    pub(in crate::ssh) async fn unlisten(&self, _permit: ChannelPermit, at: Endpoint<'_>) -> Result<(), russh::Error> {
        match at {
            Endpoint::Tcp { host, port } => self.handle.cancel_tcpip_forward(host, port).await,
            Endpoint::Unix { path } => self.handle.cancel_streamlocal_forward(path).await,
        }
    }

    /// The next channel that it wants.
    pub(in crate::ssh) async fn opening(&self) -> Option<Opening<Msg>> {
        self.openings.lock().await.recv().await
    }

    /// The failure that the target is to blame for when a channel breaks off.
    pub(in crate::ssh) fn broke_off(&self) -> Failure {
        let detail = self.seen.fault().unwrap_or_else(|| "the connection broke off".to_owned());
        Failure::target(&self.name, Stage::Protocol, detail)
    }

    /// Resolves when the connection is over.
    pub(in crate::ssh) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Says goodbye.
    pub(in crate::ssh) async fn leave(&self) {
        let said = self.handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = timeout(Duration::from_millis(500), said).await;
    }
}
