//! A listener on loopback whose connections are taken as if each had come through the tailnet from the middle's device.

use std::sync::Arc;

use sallyport::clock::Clock;
use sallyport::identity::Device;
use sallyport::session::{self, Runner};
use sallyport::ssh::{self, Vault};
use sallyport::target::Target;
use sallyport::workers::Workers;
use sallyport_recorder::SessionId;
use sallyport_tailnet::Stream;
use tokio::net::TcpListener;

use super::middle::{Calls, Middle};

/// What is at hand behind the door.
pub(crate) struct Door {
    runner: Arc<Runner>,
    vault: Arc<Vault>,
    device: Device,
    target: Target,
    calls: Calls,
    workers: Workers,
}

impl Door {
    /// For the sessions of `middle`, which may still change the world afterwards.
    pub(crate) fn new(middle: &Middle, calls: Calls, vault: Vault) -> Self {
        Self {
            runner: Arc::clone(&middle.runner),
            vault: Arc::new(vault),
            device: middle.device.clone(),
            target: middle.target.clone(),
            calls,
            workers: Workers::start().unwrap(),
        }
    }

    /// Accepts for as long as the task lives.
    pub(crate) async fn serve(mut self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let source = self.device.addresses[0];
            let origin = self.calls.origin(self.device.key, source, (self.target.addresses[0], 22).into()).await;
            let (runner, vault) = (Arc::clone(&self.runner), Arc::clone(&self.vault));
            let carry = move |stream: Stream| async move {
                let Ok(greeting) = ssh::Greeting::read(stream).await else { return };
                match runner.access.approach(&origin) {
                    Ok(approach) => {
                        let id = SessionId::new(Clock::system().now());
                        session::run(&runner, approach, id, |session| ssh::serve(greeting, session, vault)).await;
                    }
                    Err(refusal) => ssh::decline(greeting, &vault, refusal.target.as_deref(), &refusal.failure).await,
                }
            };
            self.workers.carry(Stream::Tcp(stream), carry).unwrap();
        }
    }
}
