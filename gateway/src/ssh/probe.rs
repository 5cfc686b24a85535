//! How far one gets with a target, for `sallyport doctor`: its host key, and whether it lets the gateway in. No channel is
//! opened and nothing runs there; a certificate that is shown could run nothing either. And what its clock says: which of
//! several certificates it accepts, each valid for another time, tells that.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{Disconnect, Preferred};
use tokio::time::timeout;

use super::host::{Fault, Host, fingerprint};
use super::login::{present, turned_away};
use super::{Vault, algorithms};
use crate::credentials::Window;
use crate::failure::{Failure, Stage};
use crate::session::dial_to_probe;
use crate::target::{Login, SshTarget, Target};

/// A target, and what the gateway proves itself with there.
pub(crate) struct Probe<'a> {
    /// The target.
    pub(crate) target: &'a Target,
    /// How it is reached over SSH.
    pub(crate) service: &'a SshTarget,
    /// Makes what it is shown.
    pub(crate) vault: &'a Vault,
}

impl Probe<'_> {
    /// Goes as far as the target's proof of who it is; gives the fingerprint of its host key.
    ///
    /// # Errors
    /// The stage that failed, and how.
    pub(crate) async fn reach(&self) -> Result<String, Failure> {
        let (handle, seen) = self.connect().await?;
        leave(&handle).await;
        Ok(seen)
    }

    /// Goes as far as being let in as `account`, and leaves; says what that tells of the target's clock.
    ///
    /// # Errors
    /// The stage that failed, and how.
    pub(crate) async fn enter(&self, account: &str) -> Result<TheirClock, Failure> {
        let fits = |window| self.try_out(account, window);
        let refused = || self.failed(Stage::Login, turned_away(self.target, &self.service.login, account));
        if self.service.login != Login::Certificate {
            return if fits(Window::USUAL).await? { Ok(TheirClock::Untold) } else { Err(refused()) };
        }
        if fits(NEAR).await? {
            return Ok(TheirClock::Agrees);
        }
        // One more try alone where it is not the time: sshd holds failures against whoever makes them (PerSourcePenalties).
        if !fits(DAYS).await? {
            return Err(refused());
        }
        let side = if fits(BEHIND).await? { Side::Behind } else { Side::Ahead };
        Ok(match fits(Window::USUAL).await? {
            true => TheirClock::Off(side),
            false => TheirClock::Wrong(side),
        })
    }

    /// Whether the target lets `account` in by its login, or by a certificate that holds in `window`.
    async fn try_out(&self, account: &str, window: Window) -> Result<bool, Failure> {
        let failed = |detail| self.failed(Stage::Login, detail);
        let (mut handle, _) = self.connect().await?;
        // Made when it is shown: a slow way there must not look like a clock.
        let credential = self.vault.trial(&self.service.login, account, window).await.map_err(failed)?;
        let answer = timeout(PATIENCE, present(&mut handle, account, credential)).await;
        leave(&handle).await;
        match answer {
            Ok(Ok(entered)) => Ok(entered),
            // sshd hangs up on who has used up its attempts (MaxAuthTries).
            Ok(Err(russh::Error::Disconnect | russh::Error::HUP)) => Ok(false),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it did not answer in time".to_owned())),
        }
    }

    async fn connect(&self) -> Result<(Handle<Watch>, String), Failure> {
        let Self { target, service, vault } = *self;
        let stream = dial_to_probe(&target.name, &service.address).await?;
        let seen = Arc::new(Mutex::new(None));
        let watch = Watch { host: Host::of(target, service), now: vault.now(), seen: Arc::clone(&seen) };
        let preferred: Preferred = algorithms::for_target(&service.host);
        let config = Arc::new(client::Config { preferred, ..client::Config::default() });
        match timeout(PATIENCE, client::connect_stream(config, stream, watch)).await {
            Ok(Ok(handle)) => Ok((handle, seen.lock().take().unwrap_or_default())),
            Ok(Err(Fault::HostKey(detail))) => Err(self.failed(Stage::HostKey, detail)),
            Ok(Err(Fault::Protocol(error))) => Err(self.failed(Stage::Protocol, error.to_string())),
            Err(_) => Err(self.failed(Stage::Protocol, "it did not finish its key exchange in time".to_owned())),
        }
    }

    fn failed(&self, stage: Stage, detail: String) -> Failure {
        Failure::target(&self.target.name, stage, detail)
    }
}

/// What a target's clock says, as far as the certificates tell that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TheirClock {
    /// Nothing was shown that holds for a time.
    Untold,
    /// It is within [`CLOSE`] of this machine's.
    Agrees,
    /// It is further off, and the certificates of sessions are accepted.
    Off(Side),
    /// It is so far off that they are not: more than a minute behind, or five minutes ahead.
    Wrong(Side),
}

/// Which way a clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Theirs is behind ours.
    Behind,
    /// Theirs is ahead of ours.
    Ahead,
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
/// How close a clock has to be for nothing to be said about it, in seconds.
pub(crate) const CLOSE: u8 = 5;
/// Holds for a clock that is as close as that.
const NEAR: Window = Window { from: -(CLOSE as i64), to: CLOSE as i64 };
/// A day each way: whoever is further off has no clock at all.
const DAYS: Window = Window { from: -86_400, to: 86_400 };
/// Holds for one that is behind alone.
const BEHIND: Window = Window { from: DAYS.from, to: 0 };
