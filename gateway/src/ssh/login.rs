//! Shows a target what the gateway proves itself with, for a session and for `sallyport doctor` alike.

use russh::MethodKind;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};

use crate::credentials::Credential;
use crate::target::{Login, Target};

/// Presents `credential` for `account`; whether that is enough.
pub(super) async fn present<H: client::Handler>(
    handle: &mut Handle<H>,
    account: &str,
    credential: Credential,
) -> Result<bool, russh::Error> {
    let answer = match credential {
        Credential::Certificate(key, certificate) => {
            handle.authenticate_openssh_cert(account, key, *certificate).await?
        }
        Credential::Key(key) => {
            let hash = rsa_hash(handle, &key).await?;
            handle.authenticate_publickey(account, PrivateKeyWithHashAlg::new(key, hash)).await?
        }
        Credential::Password(secret) => match handle.authenticate_password(account, secret.expose()).await? {
            AuthResult::Failure { remaining_methods, .. }
                if remaining_methods.contains(&MethodKind::KeyboardInteractive) =>
            {
                return converse(handle, account, secret.expose()).await;
            }
            answer => answer,
        },
    };
    Ok(answer.success())
}

/// That the target turned the gateway away as `account`, in words for whoever has to mend it.
pub(super) fn turned_away(target: &Target, login: &Login, account: &str) -> String {
    format!("{} did not accept the gateway's {} for {account}", target.name, login.kind())
}

/// Answers one question with the password (RFC 4256): sshd asks that way where PAM does.
async fn converse<H: client::Handler>(
    handle: &mut Handle<H>,
    account: &str,
    password: &str,
) -> Result<bool, russh::Error> {
    use KeyboardInteractiveAuthResponse::{Failure, InfoRequest, Success};
    let mut answer = handle.authenticate_keyboard_interactive_start(account, None).await?;
    for _ in 0..QUESTIONS {
        match answer {
            Success => return Ok(true),
            Failure { .. } => return Ok(false),
            InfoRequest { prompts, .. } => {
                let responses = prompts.iter().map(|_| password.to_owned()).collect();
                answer = handle.authenticate_keyboard_interactive_respond(responses).await?;
            }
        }
    }
    Ok(false)
}

async fn rsa_hash<H: client::Handler>(handle: &Handle<H>, key: &PrivateKey) -> Result<Option<HashAlg>, russh::Error> {
    match key.algorithm().is_rsa() {
        true => Ok(handle.best_supported_rsa_hash().await?.flatten().or(Some(HashAlg::Sha256))),
        false => Ok(None),
    }
}

/// Rounds of questions that are answered with a password: the password itself, and an empty last word of PAM's.
const QUESTIONS: usize = 3;
