//! Turns a caller away before there is a session: it may connect, and reads why it goes no further.

use std::time::Duration;

use russh::server::{self, Auth, VerifiedPublicKey};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::greet::{Fault, Greeting, no_methods};
use crate::credentials::Vault;
use crate::failure::Failure;
use crate::target::Target;

/// Answers `greeting` with `failure`, as the target that was called.
pub async fn decline(greeting: Greeting, vault: &Vault, target: Option<&Target>, failure: &Failure) {
    let Ok(proof) = vault.host_proof(target) else { return };
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    let sentence = match failure {
        Failure::Denied(sentence) => sentence.clone(),
        _ => "the connection was refused".to_owned(),
    };
    let declining = async {
        if let Ok(running) = greeting.begin(proof, Refuser { sentence }, cut).await {
            let _ = running.await;
        }
    };
    let _ = timeout(PATIENCE, declining).await;
}

/// Lets nobody in.
struct Refuser {
    sentence: String,
}

impl server::Handler for Refuser {
    type Error = Fault;

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, Fault> {
        Ok(no_methods())
    }

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Fault> {
        Ok(no_methods())
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Fault> {
        Ok(no_methods())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Fault> {
        Ok(Some(format!("{}\r\n", self.sentence)))
    }
}

/// How long a client that will be refused may take to ask.
const PATIENCE: Duration = Duration::from_secs(30);
