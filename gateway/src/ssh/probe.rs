//! How far one gets with a target, for `sallyport doctor`: its host key, and whether it lets the gateway in. No channel is
//! opened and nothing runs there; the certificate that is shown could run nothing either.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Disconnect, Preferred};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::host::{Host, fingerprint};
use super::{Vault, algorithms};
use crate::credentials::Credential;
use crate::failure::{Failure, Stage};
use crate::target::{SshTarget, Target};

/// Goes as far as the target's proof of who it is; gives the fingerprint of its host key.
///
/// # Errors
/// The stage that failed, and how.
pub(crate) async fn reach(target: &Target, service: &SshTarget, vault: &Vault) -> Result<String, Failure> {
    let (handle, seen) = connect(target, service, vault).await?;
    leave(&handle).await;
    Ok(seen)
}

/// Goes as far as being let in as `account`, and leaves.
///
/// # Errors
/// The stage that failed, and how.
pub(crate) async fn enter(target: &Target, service: &SshTarget, vault: &Vault, account: &str) -> Result<(), Failure> {
    let failed = |detail: String| Failure::target(&target.name, Stage::Login, detail);
    let credential = vault.trial(&service.login, account).await.map_err(failed)?;
    let (mut handle, _) = connect(target, service, vault).await?;
    let kind = credential.kind();
    let answer = async {
        match credential {
            Credential::Certificate(key, certificate) => {
                handle.authenticate_openssh_cert(account, key, *certificate).await
            }
            Credential::Key(key) => {
                let hash = handle.best_supported_rsa_hash().await.ok().flatten().flatten();
                handle.authenticate_publickey(account, PrivateKeyWithHashAlg::new(key, hash)).await
            }
            Credential::Password(_) => Err(russh::Error::NotAuthenticated),
        }
    };
    let answer = timeout(PATIENCE, answer).await;
    leave(&handle).await;
    match answer {
        Ok(Ok(answer)) if answer.success() => Ok(()),
        Ok(Ok(_)) => Err(failed(format!("{} did not accept the gateway's {kind} for {account}", target.name))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it did not answer in time".to_owned())),
    }
}

async fn connect(target: &Target, service: &SshTarget, vault: &Vault) -> Result<(Handle<Watch>, String), Failure> {
    let failed = |stage, detail: String| Failure::target(&target.name, stage, detail);
    let address = service.address.to_string();
    match timeout(PATIENCE, lookup_host(&address)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(failed(Stage::Resolve, format!("{address}: {error}"))),
        Err(_) => return Err(failed(Stage::Resolve, format!("{address}: no answer in time"))),
    }
    let seen = Arc::new(Mutex::new(None));
    let watch = Watch { host: Host::of(target, service), now: vault.now(), seen: Arc::clone(&seen) };
    let preferred: Preferred = algorithms::for_target(&service.host);
    let config = Arc::new(client::Config { preferred, ..client::Config::default() });
    let connecting = client::connect(config, (service.address.host.as_str(), service.address.port), watch);
    match timeout(PATIENCE, connecting).await {
        Ok(Ok(handle)) => Ok((handle, seen.lock().take().unwrap_or_default())),
        Ok(Err(Fault::HostKey(detail))) => Err(failed(Stage::HostKey, detail)),
        Ok(Err(Fault::Protocol(russh::Error::IO(error)))) => Err(failed(Stage::Dial, format!("{address}: {error}"))),
        Ok(Err(Fault::Protocol(error))) => Err(failed(Stage::Protocol, error.to_string())),
        Err(_) => Err(failed(Stage::Dial, format!("{address} did not answer in time"))),
    }
}

async fn leave(handle: &Handle<Watch>) {
    let _ = timeout(PATIENCE, handle.disconnect(Disconnect::ByApplication, "", "en")).await;
}

/// Checks the host's proof.
struct Watch {
    host: Host,
    now: u64,
    seen: Arc<Mutex<Option<String>>>,
}

/// What ends the connection early.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// The protocol, or the transport.
    #[error("{0}")]
    Protocol(#[from] russh::Error),
    /// It is not the host that was registered.
    #[error("{0}")]
    HostKey(String),
}

impl client::Handler for Watch {
    type Error = Fault;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        self.host.check(shown, self.now).map_err(Fault::HostKey)?;
        *self.seen.lock() = Some(format!("host key {}", fingerprint(&shown.public_key())));
        Ok(true)
    }
}

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(10);
