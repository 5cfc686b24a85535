//! SFTP's packets as bytes: version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions (its file PROTOCOL, section 4).
//!
//! Only what the rules or the recording need is read. Where OpenSSH and the draft differ, in the order of a symlink's
//! arguments, OpenSSH's is read.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ssh::files::cutter::LENGTH;
use crate::ssh::files::{Broken, MAX_MESSAGE, text};

/// A request of the client's, after its id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
    },
    Write {
        handle: &'a [u8],
        size: u32,
    },
    OpenFolder {
        path: &'a [u8],
    },
    ReadFolder {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    MakeFolder {
        path: &'a [u8],
        attributes: Attributes,
    },
    RemoveFolder {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Attributes {
        path: &'a [u8],
        attributes: Attributes,
    },
    HandleAttributes {
        handle: &'a [u8],
        attributes: Attributes,
    },
    Symlink {
        path: &'a [u8],
        to: &'a [u8],
    },
    Link {
        from: &'a [u8],
        to: &'a [u8],
    },
    Sync {
        handle: &'a [u8],
    },
    Copy {
        from: &'a [u8],
        to: &'a [u8],
        size: u64,
    },
    /// A question that changes nothing and gives nothing of a file's content.
    Look {
        name: &'static str,
    },
    /// What we do not know: an extension by its name, or a packet type.
    Unknown {
        name: String,
    },
}

/// The attributes that a request sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    pub(super) times: bool,
    pub(super) others: bool,
}

/// An answer of the target's, after its id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Status {
        code: u32,
        message: String,
    },
    Handle(&'a [u8]),
    Data {
        size: u32,
    },
    /// Names, attributes, or an extension's own answer.
    Other,
}

impl<'a> Request<'a> {
    /// Reads the head of a packet that [`request_head`] measured: the request's id, and what it asks for.
    pub(super) fn read(head: &'a [u8]) -> Option<(u32, Self)> {
        let (kind, mut fields) = opened(head)?;
        let id = fields.u32()?;
        let request = match kind {
            OPEN => Self::Open { path: fields.string()?, flags: fields.u32()? },
            CLOSE => Self::Close { handle: fields.string()? },
            READ => Self::Read { handle: fields.string()? },
            WRITE => {
                let handle = fields.string()?;
                let _offset = fields.u64()?;
                Self::Write { handle, size: fields.u32()? }
            }
            SETSTAT => Self::Attributes { path: fields.string()?, attributes: fields.attributes()? },
            FSETSTAT => Self::HandleAttributes { handle: fields.string()?, attributes: fields.attributes()? },
            OPENDIR => Self::OpenFolder { path: fields.string()? },
            READDIR => Self::ReadFolder { handle: fields.string()? },
            REMOVE => Self::Remove { path: fields.string()? },
            MKDIR => Self::MakeFolder { path: fields.string()?, attributes: fields.attributes()? },
            RMDIR => Self::RemoveFolder { path: fields.string()? },
            RENAME => Self::Rename { from: fields.string()?, to: fields.string()? },
            SYMLINK => {
                let to = fields.string()?;
                Self::Symlink { path: fields.string()?, to }
            }
            LSTAT | FSTAT | STAT | REALPATH | READLINK => Self::Look { name: "look" },
            EXTENDED => Self::extended(fields)?,
            other => Self::Unknown { name: format!("packet type {other}") },
        };
        Some((id, request))
    }

    fn extended(mut fields: Fields<'a>) -> Option<Self> {
        Some(match fields.string()? {
            b"posix-rename@openssh.com" => Self::Rename { from: fields.string()?, to: fields.string()? },
            b"hardlink@openssh.com" => Self::Link { from: fields.string()?, to: fields.string()? },
            b"fsync@openssh.com" => Self::Sync { handle: fields.string()? },
            b"lsetstat@openssh.com" => Self::Attributes { path: fields.string()?, attributes: fields.attributes()? },
            b"copy-data" => {
                let from = fields.string()?;
                let (_offset, size) = (fields.u64()?, fields.u64()?);
                Self::Copy { from, to: fields.string()?, size }
            }
            name => match LOOKS.iter().find(|look| look.as_bytes() == name) {
                Some(name) => Self::Look { name },
                None => Self::Unknown { name: text(name.get(..MAX_MESSAGE).unwrap_or(name)) },
            },
        })
    }
}

impl<'a> Answer<'a> {
    /// Reads the head of a packet that [`answer_head`] measured.
    pub(super) fn read(head: &'a [u8]) -> Option<(u32, Self)> {
        let (kind, mut fields) = opened(head)?;
        let id = fields.u32()?;
        let answer = match kind {
            STATUS => {
                let code = fields.u32()?;
                // Servers of versions before 3 send no message.
                let message = fields.string().unwrap_or_default();
                Self::Status { code, message: text(message.get(..MAX_MESSAGE).unwrap_or(message)) }
            }
            HANDLE => Self::Handle(fields.string()?),
            DATA => Self::Data { size: fields.u32()? },
            NAME | ATTRS | EXTENDED_REPLY => Self::Other,
            _ => return None,
        };
        Some((id, answer))
    }
}

impl Attributes {
    /// What they set, for people.
    pub(super) fn describe(&self) -> String {
        let parts = [
            self.size.map(|size| format!("size {size}")),
            self.mode.map(|mode| format!("mode {:04o}", mode & 0o7777)),
            self.owner.map(|(user, group)| format!("owner {user}:{group}")),
            self.times.then(|| "times".to_owned()),
            self.others.then(|| "extended attributes".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The packets by which a connection begins: the version, and what follows it.
pub(super) fn hello(head: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (kind, mut fields) = opened(head)?;
    let version = fields.u32()?;
    Some((kind, version, fields.0))
}

/// The client's first packet as it goes on: never asking for more than version 3.
pub(super) fn init(version: u32, rest: &[u8]) -> Bytes {
    packet(INIT, |body| {
        body.put_u32(version.min(VERSION));
        body.put_slice(rest);
    })
}

/// An answer to request `id` in the target's stead.
pub(super) fn status(id: u32, code: u32, message: &str) -> Bytes {
    packet(STATUS, |body| {
        body.put_u32(id);
        body.put_u32(code);
        put_string(body, message.as_bytes());
        put_string(body, b"en");
    })
}

fn packet(kind: u8, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(kind);
    fill(&mut body);
    let mut whole = BytesMut::with_capacity(LENGTH + body.len());
    whole.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    whole.put_slice(&body);
    whole.freeze()
}

fn put_string(to: &mut BytesMut, text: &[u8]) {
    to.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    to.put_slice(text);
}

/// How many bytes of the client's packet are needed to judge it.
pub(super) fn request_head(begun: &[u8]) -> Result<usize, Broken> {
    let Some((kind, whole)) = measured(begun).map_err(Broken::client)? else { return Ok(LENGTH + 1) };
    if kind != WRITE {
        return if whole <= MAX_HELD { Ok(whole) } else { Err(Broken::client(too_long(whole))) };
    }
    let fixed = LENGTH + 1 + ID + LENGTH;
    let Some(length) = begun.get(fixed - LENGTH..fixed).and_then(<[u8]>::first_chunk) else { return Ok(fixed) };
    let handle = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if handle > MAX_HANDLE {
        return Err(Broken::client(LONG_HANDLE));
    }
    let head = fixed + handle + OFFSET + LENGTH;
    if head <= whole { Ok(head) } else { Err(Broken::client("a request to write that ends early")) }
}

/// How many bytes of the target's packet are needed to understand it.
pub(super) fn answer_head(begun: &[u8]) -> Result<usize, Broken> {
    let Some((kind, whole)) = measured(begun).map_err(Broken::target)? else { return Ok(LENGTH + 1) };
    let head = match kind {
        HANDLE if whole <= LENGTH + 1 + ID + LENGTH + MAX_HANDLE => whole,
        HANDLE => return Err(Broken::target(LONG_HANDLE)),
        VERSION_REPLY | STATUS if whole <= MAX_HELD => whole,
        VERSION_REPLY | STATUS => return Err(Broken::target(too_long(whole))),
        DATA => LENGTH + 1 + ID + LENGTH,
        _ => LENGTH + 1 + ID,
    };
    if head <= whole { Ok(head) } else { Err(Broken::target("an answer that ends early")) }
}

/// The type of a packet and its length with the length's own field, once both are there.
fn measured(begun: &[u8]) -> Result<Option<(u8, usize)>, String> {
    let Some(length) = begun.first_chunk() else { return Ok(None) };
    let whole = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).saturating_add(LENGTH);
    if whole == LENGTH || whole > MAX_PACKET {
        return Err(too_long(whole));
    }
    Ok(begun.get(LENGTH).map(|kind| (*kind, whole)))
}

fn too_long(whole: usize) -> String {
    format!("a packet of {} bytes", whole.saturating_sub(LENGTH))
}

/// The type of a packet, and its fields.
fn opened(head: &[u8]) -> Option<(u8, Fields<'_>)> {
    let (kind, fields) = head.get(LENGTH..)?.split_first()?;
    Some((*kind, Fields(fields)))
}

/// Fields of RFC 4251, section 5.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*value))
    }

    fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*value))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    /// Section 5 of the draft.
    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.u32()?;
        let mut attributes = Attributes::default();
        if flags & 1 != 0 {
            attributes.size = Some(self.u64()?);
        }
        if flags & 2 != 0 {
            attributes.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & 4 != 0 {
            attributes.mode = Some(self.u32()?);
        }
        if flags & 8 != 0 {
            let _ = (self.u32()?, self.u32()?);
            attributes.times = true;
        }
        if flags & 0x8000_0000 != 0 {
            attributes.others = true;
        }
        Some(attributes)
    }
}

/// The version that is spoken here.
pub(super) const VERSION: u32 = 3;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION_REPLY: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const FSETSTAT: u8 = 10;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const RMDIR: u8 = 15;
const REALPATH: u8 = 16;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const READLINK: u8 = 19;
const SYMLINK: u8 = 20;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED: u8 = 200;
const EXTENDED_REPLY: u8 = 201;

/// Flags of an open (section 6.3 of the draft): the first alone reads, and every other changes something.
pub(super) const FLAG_READ: u32 = 1;
pub(super) const FLAG_WRITE: u32 = 2;

/// Status codes (section 7 of the draft).
pub(super) const OK: u32 = 0;
pub(super) const EOF: u32 = 1;
pub(super) const PERMISSION_DENIED: u32 = 3;
pub(super) const FAILURE: u32 = 4;

/// Extensions that only look (OpenSSH's PROTOCOL, section 4).
const LOOKS: [&str; 6] = [
    "statvfs@openssh.com",
    "fstatvfs@openssh.com",
    "limits@openssh.com",
    "expand-path@openssh.com",
    "users-groups-by-id@openssh.com",
    "home-directory",
];

const ID: usize = 4;
const OFFSET: usize = 8;
/// Longest handle, in bytes ("MUST NOT be longer", says the draft); those of all open files are kept.
const MAX_HANDLE: usize = 256;
const LONG_HANDLE: &str = "a handle of more than 256 bytes";
/// Longest packet that is held to be judged, in bytes: OpenSSH's SFTP_MAX_MSG_LENGTH, with the length's own field.
const MAX_HELD: usize = 256 * 1024 + LENGTH;
/// Longest packet of all, in bytes: those with a file's content pass by. OpenSSH takes 256 kB, others up to 16 MB.
const MAX_PACKET: usize = 16 * 1024 * 1024 + 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(kind: u8, id: u32, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
        packet(kind, |body| {
            body.put_u32(id);
            fill(body);
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(id: u32, path: Vec<u8>, other: Vec<u8>, flags: u32, size: u64) {
            let open = request(OPEN, id, |b| { put_string(b, &path); b.put_u32(flags); b.put_u32(0) });
            prop_assert_eq!(Request::read(&open), Some((id, Request::Open { path: &path, flags })));
            let rename = request(RENAME, id, |b| { put_string(b, &path); put_string(b, &other) });
            prop_assert_eq!(Request::read(&rename), Some((id, Request::Rename { from: &path, to: &other })));
            let symlink = request(SYMLINK, id, |b| { put_string(b, &path); put_string(b, &other) });
            prop_assert_eq!(Request::read(&symlink), Some((id, Request::Symlink { path: &other, to: &path })));
            let truncate = request(SETSTAT, id, |b| { put_string(b, &path); b.put_u32(5); b.put_u64(size); b.put_u32(0o644) });
            let attributes = Attributes { size: Some(size), mode: Some(0o644), ..Attributes::default() };
            prop_assert_eq!(Request::read(&truncate), Some((id, Request::Attributes { path: &path, attributes })));
            let copy = request(EXTENDED, id, |b| {
                put_string(b, b"copy-data");
                put_string(b, &path);
                b.put_u64(7);
                b.put_u64(size);
                put_string(b, &other);
            });
            prop_assert_eq!(Request::read(&copy), Some((id, Request::Copy { from: &path, to: &other, size })));
        }

        #[test]
        fn an_answer_of_ours_reads_as_one(id: u32, code: u32, message in "[a-z ]{0,40}") {
            let bytes = status(id, code, &message);
            prop_assert_eq!(answer_head(&bytes), Ok(bytes.len()));
            prop_assert_eq!(Answer::read(&bytes), Some((id, Answer::Status { code, message })));
        }

        #[test]
        fn a_head_is_measured_the_same_from_any_beginning(kind: u8, body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = packet(kind, |to| to.put_slice(&body));
            for measure in [request_head, answer_head] {
                let Ok(all) = measure(&bytes) else { continue };
                for cut in 0..all.min(bytes.len()) {
                    let told = measure(bytes.get(..cut).unwrap_or_default());
                    prop_assert!(told.as_ref().is_ok_and(|told| cut < *told && *told <= all), "{cut} of {all}: {told:?}");
                }
            }
        }
    }

    #[test]
    fn asks_for_version_3_and_keeps_the_extensions() {
        for (asked, sent) in [(6, 3), (3, 3), (2, 2)] {
            let bytes = init(asked, b"\0\0\0\x01x\0\0\0\0");
            assert_eq!(hello(&bytes), Some((INIT, sent, &b"\0\0\0\x01x\0\0\0\0"[..])));
        }
    }
}
