//! The manifest of a recording: what is known when it is opened, what is known when it is sealed, and the signature over
//! both. It owns the canonical form that is signed; writing it to disk is the store's.

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{End, Outcome, SessionId, hash::Hash};

/// Who is being recorded, where, under which policy: what is known before the first byte flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The session's name.
    pub id: SessionId,
    /// `ssh`
    pub protocol: String,
    /// Who calls.
    pub caller: Caller,
    /// Who is called.
    pub target: Target,
    /// What allowed it.
    pub policy: PolicyStamp,
    /// The gateway's name.
    pub gateway: String,
    /// When the session began; every time in the recording counts from here.
    pub started: jiff::Timestamp,
}

/// The caller, as the recording names them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// The user; absent for a tagged machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The tags of a tagged machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The device's name.
    pub device: String,
    /// The device's WireGuard key, base64.
    pub key: String,
    /// The device's address on the tailnet.
    pub address: String,
}

impl Caller {
    /// The user, or the tags joined by commas.
    #[must_use]
    pub fn name(&self) -> String {
        self.user.clone().unwrap_or_else(|| self.tags.join(","))
    }
}

/// The target, as the recording names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its address, with port.
    pub address: String,
}

/// The policy's revision and the rules in it that let the caller approach the target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStamp {
    /// Revision of the policy file.
    pub revision: String,
    /// Rules, as `ssh[2]` with line and column.
    pub rules: Vec<String>,
}

/// The end of the chain: how many segments, and the link of the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// How many segments the chain has.
    pub segments: u64,
    /// The link of the last one; with no segment yet, the chain's root.
    pub hash: Hash,
}

/// The head of the chain once everything before it was on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How many segments are on disk.
    pub segments: u64,
    /// The link of the last one.
    pub hash: Hash,
    /// When that was.
    pub at: jiff::Timestamp,
}

/// Whether a recording is still being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being written, or left behind by a gateway that died.
    Open,
    /// Finished and signed.
    Sealed,
    /// Left behind by a gateway that died, cut to what was whole, then signed.
    Interrupted,
}

/// One stream file, as the seal lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamTotal {
    /// Name of the file.
    pub file: String,
    /// Segments in it.
    pub segments: u64,
    /// Its size.
    pub bytes: u64,
    /// Size of what it decompresses to.
    pub content: u64,
}

/// What is known when a recording is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// How, why and when the session ended.
    pub end: End,
    /// From the start to the end, in milliseconds.
    pub duration_ms: u64,
    /// Every stream file.
    pub streams: Vec<StreamTotal>,
    /// The end of the chain.
    pub head: Head,
}

/// The manifest: `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Whether it is finished.
    pub state: State,
    /// What was known at the start.
    pub header: Header,
    /// What was known at the end; absent while `state` is `open`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The gateway's signature; absent while `state` is `open`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Ed25519 over the canonical manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The public key, 64 hex digits.
    pub key: String,
    /// The signature, base64.
    pub value: String,
}

/// The gateway's key for sealing recordings. `Debug` shows the public half only.
pub struct Signer {
    key: SigningKey,
}

impl Signer {
    /// Signs with this key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self { key }
    }

    /// The half that verifies.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&HEXLOWER.encode(self.public_key().as_bytes())).finish()
    }
}

impl Manifest {
    /// The manifest of a recording that begins.
    #[must_use]
    pub fn open(header: Header) -> Self {
        Self { version: VERSION, state: State::Open, header, seal: None, signature: None }
    }

    /// The same, finished and signed.
    ///
    /// # Errors
    /// When the manifest cannot be written as JSON, which no value of these types causes.
    pub fn sealed(self, seal: Seal, signer: &Signer) -> Result<Self, serde_json::Error> {
        let state = match seal.end.outcome {
            Outcome::Interrupted => State::Interrupted,
            _ => State::Sealed,
        };
        let mut manifest = Self { state, seal: Some(seal), signature: None, ..self };
        let value = signer.key.sign(&manifest.canonical()?).to_bytes();
        let key = HEXLOWER.encode(signer.public_key().as_bytes());
        manifest.signature = Some(Signature { key, value: BASE64.encode(&value) });
        Ok(manifest)
    }

    /// What is signed: a line that names the purpose, then the manifest without its signature as compact JSON with the
    /// fields in the order of FORMAT.md. Unknown fields are refused on reading, so nothing stands in a file unsigned.
    fn canonical(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = SIGNED_AS.to_vec();
        serde_json::to_writer(&mut bytes, &Self { signature: None, ..self.clone() })?;
        Ok(bytes)
    }

    /// Whether the signature was made over this manifest by `key`, whatever key the manifest itself names.
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let Some(signature) = &self.signature else { return false };
        let Ok(value) = BASE64.decode(signature.value.as_bytes()) else { return false };
        let Ok(value) = ed25519_dalek::Signature::from_slice(&value) else { return false };
        let Ok(bytes) = self.canonical() else { return false };
        key.verify_strict(&bytes, &value).is_ok()
    }
}

impl Header {
    /// What the first segment is linked to: whoever changes the header breaks the chain.
    ///
    /// # Errors
    /// When the header cannot be written as JSON, which no value of these types causes.
    pub fn root(&self) -> Result<Hash, serde_json::Error> {
        Ok(Hash::of(&[CHAINED_AS, &serde_json::to_vec(self)?]))
    }
}

/// Name of the manifest in a recording's folder.
pub const MANIFEST: &str = "manifest.json";
/// Version of the format that this crate writes; FORMAT.md describes it.
pub const VERSION: u32 = 1;
/// Said before the canonical manifest when it is signed, so that the signature can mean nothing else.
const SIGNED_AS: &[u8] = b"sallyport recording manifest v1\n";
/// Said before the header when the chain's first link is made.
const CHAINED_AS: &[u8] = b"sallyport recording chain v1\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::header;

    fn seal() -> Seal {
        let header = header();
        Seal {
            end: End { outcome: Outcome::Completed, reason: "done".into(), at: header.started },
            duration_ms: 5,
            streams: vec![],
            head: Head { segments: 0, hash: header.root().unwrap() },
        }
    }

    fn signer(seed: u8) -> Signer {
        Signer::new(SigningKey::from_bytes(&[seed; 32]))
    }

    #[test]
    fn a_signature_holds_after_the_manifest_was_read_back() {
        let manifest = Manifest::open(header()).sealed(seal(), &signer(1)).unwrap();
        let read: Manifest = serde_json::from_str(&serde_json::to_string_pretty(&manifest).unwrap()).unwrap();
        assert!(read.is_signed_by(&signer(1).public_key()));
        assert!(!read.is_signed_by(&signer(2).public_key()), "another key");
    }

    #[test]
    fn a_changed_or_added_field_breaks_the_signature() {
        let manifest = Manifest::open(header()).sealed(seal(), &signer(1)).unwrap();
        let mut other = manifest.clone();
        other.header.caller.user = Some("bob@example.com".into());
        assert!(!other.is_signed_by(&signer(1).public_key()));
        let text = serde_json::to_string(&manifest).unwrap().replacen('{', r#"{"note":"all is well","#, 1);
        assert!(serde_json::from_str::<Manifest>(&text).is_err());
    }

    #[test]
    fn an_open_manifest_is_signed_by_nobody() {
        assert!(!Manifest::open(header()).is_signed_by(&signer(1).public_key()));
    }
}
