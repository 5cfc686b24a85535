//! References to secrets, and reading them.
//!
//! A configuration never holds a secret itself, only where to find it: `env:NAME`, `file:PATH` or `exec:PROGRAM ARGUMENTS`.
//! This module owns what such a reference means, and what is refused: a file that others on the machine can read is as good
//! as published. It keeps nothing: every read goes to the source, so that a rotated secret is picked up at the next session.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// A variable of the gateway's environment.
    Env(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// A program and its arguments, split at spaces; its standard output is the secret. No shell reads the line.
    Exec(String),
}

/// A secret's text, without the line ending it may have had; overwritten when dropped, and hidden from debug output.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The reference is not of a kind we know.
    #[error(
        "a secret is written as a reference: \"env:NAME\", \"file:PATH\" or \"exec:PROGRAM ARGUMENTS\"; never the secret itself"
    )]
    NotAReference,
    /// The environment has no such variable.
    #[error("the environment variable {0} is not set: set it for the gateway, or change the reference env:{0}")]
    Unset(String),
    /// The file could not be read.
    #[error("the secret file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the secret file {path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else, who can change it, and read it, whenever they like.
    #[error("the secret file {path} belongs to another user (uid {owner}): run `chown $(id -u) {path}` as root")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The program failed, was not there, or took too long.
    #[error("the program of exec:{command} gave no secret: {reason}")]
    Program {
        /// The program and its arguments.
        command: String,
        /// What happened.
        reason: String,
    },
    /// There was nothing in it, or not text.
    #[error("the secret {0} is empty or is not text of at most {LIMIT} bytes")]
    NotText(SecretRef),
}

impl SecretRef {
    /// Makes a relative file path one below `base`, the folder of the file that the reference was written in.
    #[must_use]
    pub fn below(self, base: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(base.join(path)),
            other => other,
        }
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// When it cannot be had, or is kept where others can read it.
    pub async fn read(&self) -> Result<Secret, SecretError> {
        let bytes = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Unset(name.clone()))?.into_bytes(),
            Self::File(path) => read_private(path)?.to_vec(),
            Self::Exec(command) => output(command).await?,
        };
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() as u64 <= LIMIT);
        let text = text.map(|text| text.strip_suffix('\n').unwrap_or(text)).map(|t| t.strip_suffix('\r').unwrap_or(t));
        match text {
            Some(text) if !text.is_empty() => Ok(Secret(Zeroizing::new(text.to_owned()))),
            _ => Err(SecretError::NotText(self.clone())),
        }
    }

    /// Finds out at start what would otherwise fail at the first session. A program is looked up, but not run: it may
    /// cost money or wake a person.
    ///
    /// # Errors
    /// As [`SecretRef::read`].
    pub async fn check(&self) -> Result<(), SecretError> {
        match self {
            Self::Exec(command) => {
                let program = command.split_whitespace().next().unwrap_or_default();
                match is_on_path(program) {
                    true => Ok(()),
                    false => Err(failed(command, "there is no such program")),
                }
            }
            _ => self.read().await.map(drop),
        }
    }
}

impl Secret {
    /// A password that nobody can guess: 256 bits in base64.
    #[must_use]
    pub(crate) fn random() -> Self {
        let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
        Self(Zeroizing::new(data_encoding::BASE64URL_NOPAD.encode(bytes.as_slice())))
    }

    /// The text itself: for the one place that hands it on.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Reads a file that must be ours or root's, and nobody else's to read.
///
/// # Errors
/// When it cannot be read, belongs to somebody else, or others can read it.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that nobody can swap it between the question and the reading.
    let metadata = file.metadata().map_err(unreadable)?;
    refuse_others(path, &metadata, nix::unistd::geteuid().as_raw())?;
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, LIMIT + 1), &mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Refuses a file that somebody else than `us` and root owns or can read.
fn refuse_others(path: &Path, metadata: &std::fs::Metadata, us: u32) -> Result<(), SecretError> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner != us && owner != 0 {
        return Err(SecretError::Foreign { path: path.to_owned(), owner });
    }
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

async fn output(command: &str) -> Result<Vec<u8>, SecretError> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut child = tokio::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(command, e))?;
    let stdout = child.stdout.take().ok_or_else(|| failed(command, "it has no output"))?;
    let finished = tokio::time::timeout(PATIENCE, async {
        let mut bytes = Vec::new();
        stdout.take(LIMIT + 1).read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>((bytes, child.wait().await?))
    });
    match finished.await {
        Err(_) => Err(failed(command, format_args!("it took longer than {} seconds", PATIENCE.as_secs()))),
        Ok(Err(e)) => Err(failed(command, e)),
        Ok(Ok((_, status))) if !status.success() => Err(failed(command, format_args!("it ended with {status}"))),
        Ok(Ok((bytes, _))) => Ok(bytes),
    }
}

fn failed(command: &str, reason: impl fmt::Display) -> SecretError {
    SecretError::Program { command: command.to_owned(), reason: reason.to_string() }
}

fn is_on_path(program: &str) -> bool {
    let executable = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    if program.contains('/') {
        return executable(Path::new(program));
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| executable(&folder.join(program))))
}

impl FromStr for SecretRef {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        match text.split_once(':').map(|(kind, rest)| (kind, rest.trim())) {
            Some((_, "")) | None => Err(SecretError::NotAReference),
            Some(("env", name)) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) => Ok(Self::File(PathBuf::from(path))),
            Some(("exec", command)) => Ok(Self::Exec(command.to_owned())),
            Some(_) => Err(SecretError::NotAReference),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Exec(command) => write!(f, "exec:{command}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The longest secret, in bytes: an RSA key of 16,384 bits in PEM takes 13 kB.
const LIMIT: u64 = 64 * 1024;

/// How long a program may take to print a secret.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(mode: u32, content: &[u8]) -> (tempfile::TempDir, SecretRef) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, SecretRef::File(path))
    }

    #[test]
    fn reads_references_and_nothing_else() {
        for text in ["env:PASSWORD", "file:id_ed25519", "exec:pass show web1"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
        for text in ["hunter2", "", "env:", "file: ", "vault:x", ":x"] {
            let error = text.parse::<SecretRef>().unwrap_err().to_string();
            assert!(error.contains("env:NAME"), "{text:?}: {error}");
        }
    }

    #[tokio::test]
    async fn reads_a_private_file_without_its_line_end() {
        let (_folder, secret) = file(0o600, b"hunter2\n");
        let secret = secret.read().await.unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[tokio::test]
    async fn refuses_a_file_that_others_can_read() {
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let (_folder, secret) = file(mode, b"hunter2");
            let error = secret.read().await.unwrap_err().to_string();
            assert!(error.contains("chmod 600") && !error.contains("hunter2"), "{mode:o}: {error}");
        }
    }

    #[test]
    fn refuses_a_file_of_somebody_else() {
        let (folder, _) = file(0o600, b"hunter2");
        let path = folder.path().join("secret");
        let metadata = path.metadata().unwrap();
        let us = nix::unistd::geteuid().as_raw();
        refuse_others(&path, &metadata, us).unwrap();
        if us == 0 {
            refuse_others(&path, &metadata, 1000).unwrap();
            std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
            let error = read_private(&path).unwrap_err().to_string();
            assert!(error.contains("uid 1234") && error.contains("chown"), "{error}");
        } else {
            assert!(matches!(refuse_others(&path, &metadata, us + 1), Err(SecretError::Foreign { .. })));
        }
    }

    #[tokio::test]
    async fn says_what_is_missing() {
        let missing = SecretRef::File("/nowhere/key".into());
        assert!(missing.check().await.unwrap_err().to_string().contains("/nowhere/key"));
        let unset = SecretRef::Env("SALLYPORT_TEST_IS_NEVER_SET".into());
        assert!(unset.check().await.unwrap_err().to_string().contains("SALLYPORT_TEST_IS_NEVER_SET is not set"));
        let gone = SecretRef::Exec("/nowhere/program x".into());
        assert!(gone.check().await.unwrap_err().to_string().contains("no such program"));
        for content in [b"".as_slice(), b"\n", b"\xff\xfe"] {
            let (_folder, secret) = file(0o600, content);
            assert!(matches!(secret.read().await, Err(SecretError::NotText(_))), "{content:?}");
        }
    }

    #[tokio::test]
    async fn runs_a_program_without_a_shell() {
        let printed = SecretRef::Exec("echo $HOME;".into());
        printed.check().await.unwrap();
        assert_eq!(printed.read().await.unwrap().expose(), "$HOME;");
        let failing = SecretRef::Exec("false".into()).read().await.unwrap_err().to_string();
        assert!(failing.contains("exit status: 1"), "{failing}");
    }
}
