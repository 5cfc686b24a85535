//! What the gateway proves itself with around a database: to callers as the server that they called, to servers as a role.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ServerConfig};
use sallyport_recorder::SessionId;
use sha2::{Digest, Sha256};

use super::roots::Roots;
use super::salted::{Salted, SaltedByTarget};
use crate::access::PostgresPermit;
use crate::authority::{Authority, Certified, Validity};
use crate::clock::Clock;
use crate::failure::{Failure, Stage};
use crate::secrets::{Secret, SecretRef};
use crate::state::Keys;
use crate::target::{PostgresAdmin, PostgresLogin, PostgresTarget, Target};

/// Holds the gateway's authorities for databases. Nobody else certifies with them.
pub struct PostgresVault {
    tls_ca: Arc<Authority>,
    database_ca: Arc<Authority>,
    domain: String,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    roots: Roots,
    salted: SaltedByTarget,
    shown: Mutex<HashMap<String, Shown>>,
}

/// What callers of one target are shown, for a day.
struct Shown {
    addresses: Vec<IpAddr>,
    until: u64,
    config: Arc<ServerConfig>,
}

/// How the gateway logs in to a database server, once.
#[derive(Debug)]
pub enum PostgresCredential {
    /// A certificate of the gateway's database authority, and the key that it is for.
    Certificate(Certified),
    /// A password.
    Password(Secret),
    /// One that was drawn for this login alone.
    Drawn(Secret),
    /// Nothing.
    Trust,
}

impl PostgresCredential {
    /// Its kind, for the recording.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Password(_) | Self::Drawn(_) => "password",
            Self::Trust => "trust",
        }
    }
}

impl PostgresVault {
    /// A vault of the gateway's `keys`; names of targets are also valid below `domain`.
    pub fn new(keys: &Keys, domain: &str, clock: Clock) -> Self {
        Self {
            tls_ca: Arc::clone(&keys.tls_ca),
            database_ca: Arc::clone(&keys.database_ca),
            domain: domain.to_owned(),
            clock,
            provider: Arc::new(aws_lc_rs::default_provider()),
            roots: Roots::default(),
            salted: SaltedByTarget::default(),
            shown: Mutex::default(),
        }
    }

    /// The TLS of `target` towards its callers: a certificate for its names with and without the domain, and its addresses.
    ///
    /// # Errors
    /// [`Failure::Ours`] when none can be made.
    pub fn serving(&self, target: &Target) -> Result<Arc<ServerConfig>, Failure> {
        let now = self.now();
        if let Some(shown) = self.shown.lock().get(&target.name)
            && shown.until > now
            && shown.addresses == target.addresses
        {
            return Ok(Arc::clone(&shown.config));
        }
        let wrong = |error: &dyn fmt::Display| Failure::Ours(format!("server certificate: {error}"));
        let names = [target.name.clone(), format!("{}.{}", target.name, self.domain)];
        let validity = Validity { from: now.saturating_sub(SKEW), to: now + 2 * SHOWN };
        let certified = self.tls_ca.server(&names, &target.addresses, validity).map_err(|error| wrong(&error))?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let config = config.with_safe_default_protocol_versions().map_err(|error| wrong(&error))?.with_no_client_auth();
        let mut config = config.with_single_cert(certified.chain, certified.key).map_err(|error| wrong(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = Arc::new(config);
        let shown = Shown { addresses: target.addresses.clone(), until: now + SHOWN, config: Arc::clone(&config) };
        self.shown.lock().insert(target.name.clone(), shown);
        Ok(config)
    }

    /// The credential that `permit` gives for `session`.
    ///
    /// # Errors
    /// [`Failure::Target`] when there is none for the role, [`Failure::Ours`] when the secret cannot be had.
    pub async fn credential(&self, permit: &PostgresPermit, session: SessionId) -> Result<PostgresCredential, Failure> {
        self.of_role(permit.target(), permit.account(), &format!("session {session}")).await
    }

    /// What `sallyport doctor` proves itself with, to learn whether `role` is let in.
    ///
    /// # Errors
    /// As for a session.
    pub(crate) async fn trial(&self, target: &Target, role: &str) -> Result<PostgresCredential, Failure> {
        self.of_role(target, role, "sallyport doctor").await
    }

    async fn of_role(&self, target: &Target, role: &str, of: &str) -> Result<PostgresCredential, Failure> {
        let none = |detail: String| Failure::target(&target.name, Stage::Login, detail);
        match &target.postgres()?.login {
            PostgresLogin::Trust => Ok(PostgresCredential::Trust),
            PostgresLogin::Certificate => self.certificate(role, of),
            PostgresLogin::Password(secret) => password(&target.name, secret).await,
            PostgresLogin::Passwords(secrets) => match secrets.get(role) {
                Some(secret) => password(&target.name, secret).await,
                None => Err(none(format!("the gateway has no password of the role {role}"))),
            },
        }
    }

    /// A certificate for the role that was made for the caller of `permit`.
    ///
    /// # Errors
    /// [`Failure::Ours`] when none can be made.
    pub(crate) fn minted(&self, permit: &PostgresPermit, role: &str) -> Result<PostgresCredential, Failure> {
        self.certificate(role, &format!("a role of {}", permit.caller()))
    }

    /// What the login that makes roles on `target` proves itself with. It is the gateway's own, and no caller's.
    ///
    /// # Errors
    /// [`Failure::Ours`] when it cannot be had.
    pub(crate) async fn admin(&self, target: &str, admin: &PostgresAdmin) -> Result<PostgresCredential, Failure> {
        match &admin.password {
            Some(secret) => password(target, secret).await,
            None => self.certificate(&admin.user, &format!("the admin of {target}")),
        }
    }

    /// What SCRAM has made of the passwords of `target`, for a login by `credential`. What is made of one that was drawn for it
    /// is of no use afterwards, and goes with the login.
    ///
    /// # Errors
    /// As [`Target::postgres`].
    pub(crate) fn salted(&self, target: &Target, credential: &PostgresCredential) -> Result<Arc<Salted>, Failure> {
        match credential {
            PostgresCredential::Drawn(_) => Ok(Arc::default()),
            _ => Ok(self.salted.of(&target.name, target.postgres()?)),
        }
    }

    /// Drops what is kept of targets that are gone, or are described otherwise now; `target` finds them by their names.
    pub(crate) fn forget(&self, target: impl Fn(&str) -> Option<Arc<Target>>) {
        self.salted.forget(target);
    }

    /// What tells this gateway from every other one.
    pub(crate) fn identity(&self) -> String {
        identity(&self.database_ca)
    }

    fn certificate(&self, role: &str, of: &str) -> Result<PostgresCredential, Failure> {
        let validity = Validity { from: self.now().saturating_sub(SKEW_OF_SERVERS), to: self.now() + LIFETIME };
        let certified = self.database_ca.client(role, validity);
        let wrong = |error| Failure::Ours(format!("client certificate of {of}: {error}"));
        certified.map(PostgresCredential::Certificate).map_err(wrong)
    }

    /// The TLS towards `server`, with a certificate of the gateway's own where it logs in by one; `None` without TLS.
    ///
    /// # Errors
    /// Why there can be none, for the operator.
    pub fn calling(
        &self,
        server: &PostgresTarget,
        own: Option<&Certified>,
    ) -> Result<Option<Arc<ClientConfig>>, String> {
        let Some(verifier) = self.roots.verifier(server, &self.provider)? else {
            return match own {
                Some(_) => Err("a certificate cannot be shown without TLS: change tls = \"disable\"".to_owned()),
                None => Ok(None),
            };
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let config = config.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match own {
            Some(own) => config
                .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
                .map_err(|error| error.to_string())?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Some(Arc::new(config)))
    }

    /// Seconds since 1970.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or_default()
    }
}

/// What tells the gateway of this database authority from every other one.
pub(crate) fn identity(database_ca: &Authority) -> String {
    let digest = Sha256::digest(database_ca.pem());
    data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or_default())
}

async fn password(target: &str, secret: &SecretRef) -> Result<PostgresCredential, Failure> {
    // Where a secret lies is the operator's to read, in the log, and not the caller's.
    let read = secret.read().await;
    read.map(PostgresCredential::Password)
        .map_err(|error| Failure::Ours(format!("the gateway's credential for {target}: {error}")))
}

impl fmt::Debug for PostgresVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresVault").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// The protocol's name inside TLS (libpq's `sslnegotiation=direct`).
pub(crate) const ALPN: &[u8] = b"postgresql";
/// How far a caller's clock may be behind, in seconds.
const SKEW: u64 = 24 * 60 * 60;
/// How long a server certificate is shown, in seconds; it holds as long again, for clocks ahead.
const SHOWN: u64 = 24 * 60 * 60;
/// How far a server's clock may be behind, in seconds.
const SKEW_OF_SERVERS: u64 = 60;
/// How long a client certificate holds, in seconds: it is used at once, and once.
const LIFETIME: u64 = 5 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Folder;
    use crate::target::Services;

    #[test]
    fn nothing_is_kept_of_a_password_that_was_drawn_for_one_login() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(&Folder::open(&folder.path().join("state")).unwrap()).unwrap();
        let vault = PostgresVault::new(&keys, "corp.internal", Clock::system());
        let server = toml::from_str("address = \"orders:5432\"\nlogin = \"trust\"").unwrap();
        let services = Services { ssh: None, postgres: Some(server) };
        let target = Target { name: "orders".into(), tags: Vec::new(), addresses: Vec::new(), services };
        let salted = |credential: fn(Secret) -> PostgresCredential| {
            vault.salted(&target, &credential(Secret::random())).unwrap()
        };
        let kept = salted(PostgresCredential::Password);
        assert!(Arc::ptr_eq(&kept, &salted(PostgresCredential::Password)));
        let drawn = Arc::downgrade(&salted(PostgresCredential::Drawn));
        assert!(drawn.upgrade().is_none());
    }
}
