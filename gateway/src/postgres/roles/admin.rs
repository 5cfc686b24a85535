//! The gateway's own connection to a server, as the login that makes roles there.
//!
//! It logs in as every session does (`reach`): same TLS, same checks, same care with passwords. Only then tokio-postgres
//! takes over, on a stream that tells it again what the server has said.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::super::leg::TargetLeg;
use super::super::reach;
use super::super::wire::{CancelKey, ProtocolVersion, Startup};
use crate::credentials::PostgresVault;
use crate::failure::{Failure, Stage, harmless};
use crate::target::Target;

/// A connection as the admin; leaving the scope closes it.
pub(in super::super) struct Admin {
    pub(in super::super) client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Admin {
    /// Logs in on `stream` as the admin of `target`.
    ///
    /// # Errors
    /// The stage that failed, and how, for the operator.
    pub(in super::super) async fn login(
        stream: TcpStream,
        target: &Target,
        vault: &PostgresVault,
    ) -> Result<Self, Failure> {
        let failed = |detail: String| Failure::target(&target.name, Stage::AdminLogin, detail);
        let Some(admin) = &target.postgres()?.admin else {
            return Err(failed("no admin is configured there that could make roles".to_owned()));
        };
        let parameters = [
            ("user", admin.user.as_str()),
            ("database", admin.database.as_str()),
            ("application_name", "sallyport"),
            ("client_encoding", "UTF8"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let startup = Startup::new(ProtocolVersion::of(PROTOCOL), parameters);
        let credential = vault.admin(&target.name, admin).await?;
        let entered = reach::enter(stream, target, vault, &admin.user, &credential, &startup).await;
        let entered = entered.map_err(|fault| match fault.failure {
            Failure::Target { detail, stage: Stage::Login, .. } => failed(detail),
            other => other,
        })?;
        let key = entered.key.clone().unwrap_or(CancelKey { process: 0, secret: vec![0; 4] });
        let mut said = BytesMut::from(entered.welcome.bytes(&key).as_slice());
        said.extend_from_slice(&entered.inbox);
        let stream = LoggedIn { leg: entered.leg, said, startup: None };
        let mut config = tokio_postgres::Config::new();
        config.user(&admin.user).ssl_mode(tokio_postgres::config::SslMode::Disable);
        let begun = timeout(DEADLINE, config.connect_raw(stream, NoTls)).await;
        let (client, connection) =
            begun.map_err(|_| failed("it did not answer in time".to_owned()))?.map_err(|error| failed(told(&error)))?;
        let driver = tokio::spawn(async move {
            // Whoever asks hears of an error, too.
            let _ = connection.await;
        });
        let admin = Self { client, driver };
        let settled = timeout(DEADLINE, admin.client.batch_execute(SETTINGS)).await;
        settled.map_err(|_| failed("it did not answer in time".to_owned()))?.map_err(|error| failed(told(&error)))?;
        Ok(admin)
    }
}

/// What the server said, or what is wrong with the connection. No statement's text is in it, and so no verifier.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => harmless(&format!("{}: {}", said.severity(), said.message())),
        None => error.to_string(),
    }
}

/// A stream on which somebody has logged in already: the start-up packet goes nowhere, and the answers to it come again.
struct LoggedIn {
    leg: TargetLeg,
    said: BytesMut,
    /// Bytes of the start-up packet that are still to come; none before its length has come.
    startup: Option<usize>,
}

impl AsyncRead for LoggedIn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.said.has_remaining() {
            let piece = this.said.split_to(this.said.len().min(buf.remaining()));
            buf.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.leg).poll_read(cx, buf)
    }
}

impl AsyncWrite for LoggedIn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let left = match (this.startup, buf.first_chunk::<4>()) {
            (Some(left), _) => left,
            (None, Some(&length)) => usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX),
            (None, None) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        };
        let swallowed = left.min(buf.len());
        this.startup = Some(left - swallowed);
        match swallowed {
            0 => Pin::new(&mut this.leg).poll_write(cx, buf),
            _ => Poll::Ready(Ok(swallowed)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().leg).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().leg).poll_shutdown(cx)
    }
}

/// Whatever the admin's own settings are: names mean the server's own objects, nothing waits for long, and nobody inherits
/// what is made.
const SETTINGS: &str = "SET search_path = pg_catalog; SET lock_timeout = '5s'; SET statement_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '30s'; SET default_transaction_read_only = off; \
     SET default_transaction_isolation = 'read committed'; SET standard_conforming_strings = on; SET DateStyle = ISO";
/// Version 3.0, which tokio-postgres speaks.
const PROTOCOL: u32 = 3 << 16;
/// How long the server may take to answer a word.
const DEADLINE: Duration = Duration::from_secs(10);
