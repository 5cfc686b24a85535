//! The client's requests: which go on, which are answered here, and what is remembered of each.

use sallyport_recorder::{Direction, Event};

use super::settle::UNKNOWN;
use super::wire::{self, Request};
use super::{Book, Change, Greeting, MAX_OPEN, Pending};
use crate::ssh::authorize::FileUse;
use crate::ssh::files::cutter::{Fate, Packets};
use crate::ssh::files::{Broken, MAX_PATH, Passed, text};

/// The client's direction.
pub(super) struct Requests<'a>(pub(super) &'a mut Book);

/// A request that is answered here: the status code, and why.
struct Refusal(u32, String);

impl Packets for Requests<'_> {
    fn head(&self, begun: &[u8]) -> Result<usize, Broken> {
        wire::request_head(begun)
    }

    fn ready(&self) -> bool {
        !self.0.is_full()
    }

    fn judge(&mut self, head: &[u8], left: usize, passed: &mut Passed) -> Result<Fate, Broken> {
        let book = &mut *self.0;
        if book.greeting == Greeting::Nothing {
            return match wire::hello(head) {
                Some((wire::INIT, version, rest)) => {
                    book.greeting = Greeting::Asked;
                    Ok(Fate::Replace(wire::init(version, rest)))
                }
                _ => Err(Broken::client("it does not begin with a version")),
            };
        }
        let Some((id, request)) = Request::read(head) else { return Err(Broken::client("a request that ends early")) };
        if head.get(4) == Some(&wire::INIT) {
            return Err(Broken::client("a second version"));
        }
        if book.pending.contains_key(&id) {
            return Err(Broken::client(format_args!("two requests of the number {id} at once")));
        }
        book.writing = None;
        if let Request::Write { size, .. } = request
            && usize::try_from(size) != Ok(left)
        {
            return Err(Broken::client("a request to write that is not as long as it says"));
        }
        match book.admit(&request) {
            Ok(pending) => {
                book.begin(&pending);
                book.remember(id, pending);
                Ok(Fate::Pass)
            }
            Err(Refusal(code, why)) => {
                book.answers.push_back(wire::status(id, code, &why));
                book.note_refusal(&request, code, why, passed);
                Ok(Fate::Drop)
            }
        }
    }
}

impl Book {
    /// Holds a request against the rule and against what is open.
    fn admit(&self, request: &Request<'_>) -> Result<Pending, Refusal> {
        if let Err(why) = self.rule.judge(usage(request)) {
            return Err(Refusal(wire::PERMISSION_DENIED, why));
        }
        let path = |path: &[u8]| match path.len() <= MAX_PATH {
            true => Ok(text(path)),
            false => Err(Refusal(wire::FAILURE, format!("a path of more than {MAX_PATH} bytes is not passed on"))),
        };
        let change = |action, path: String| Pending::Change(Change::new(action, path, String::new()));
        Ok(match request {
            Request::Open { path: name, flags } => {
                self.room()?;
                Pending::Open { path: path(name)?, direction: direction(*flags), detail: detail(*flags) }
            }
            Request::OpenFolder { path: name } => {
                self.room()?;
                Pending::OpenFolder { path: path(name)? }
            }
            Request::Close { handle } => match self.open(handle)? {
                serial if self.files.get(&serial).is_some_and(|file| file.closing) => return Err(no_handle()),
                serial => Pending::Close(serial),
            },
            Request::Read { handle } => Pending::Read(self.open(handle)?),
            Request::Write { handle, size } => Pending::Write { file: self.open(handle)?, size: *size },
            Request::ReadFolder { handle } => {
                self.open(handle)?;
                Pending::List
            }
            Request::Remove { path: name } => change("remove", path(name)?),
            Request::RemoveFolder { path: name } => change("rmdir", path(name)?),
            Request::MakeFolder { path: name, attributes } => {
                Pending::Change(Change::new("mkdir", path(name)?, attributes.describe()))
            }
            Request::Rename { from, to } => {
                Pending::Change(Change { to: path(to)?, ..Change::new("rename", path(from)?, "") })
            }
            Request::Link { from, to } => {
                Pending::Change(Change { to: path(to)?, ..Change::new("link", path(from)?, "") })
            }
            Request::Symlink { path: name, to } => {
                Pending::Change(Change { to: path(to)?, ..Change::new("symlink", path(name)?, "") })
            }
            Request::Attributes { path: name, attributes } => {
                Pending::Change(Change::new("attributes", path(name)?, attributes.describe()))
            }
            Request::HandleAttributes { handle, attributes } => {
                Pending::Change(Change::new("attributes", self.path(handle)?, attributes.describe()))
            }
            Request::Sync { handle } => change("sync", self.path(handle)?),
            Request::Copy { from, to, size } => {
                let size = if *size == 0 { "to the end".to_owned() } else { format!("{size} bytes") };
                Pending::Change(Change { to: self.path(to)?, ..Change::new("copy", self.path(from)?, size) })
            }
            Request::Unknown { name } => change(UNKNOWN, name.clone()),
            Request::Look { .. } => Pending::Look,
        })
    }

    /// Takes note of a request that goes on.
    fn begin(&mut self, pending: &Pending) {
        match pending {
            Pending::Write { file, size } => {
                self.writing = Some(*file);
                if let Some(file) = self.files.get_mut(file) {
                    file.under_way += u64::from(*size);
                }
            }
            Pending::Close(file) => {
                if let Some(file) = self.files.get_mut(file) {
                    file.closing = true;
                }
            }
            Pending::Look => self.looks.questions += 1,
            Pending::OpenFolder { .. } => self.looks.folders += 1,
            Pending::Open { .. } | Pending::Read(_) | Pending::Change(_) | Pending::List => {}
        }
    }

    fn note_refusal(&mut self, request: &Request<'_>, code: u32, why: String, passed: &mut Passed) {
        // A handle that is not there, as after a race of the client's own, is an ordinary answer.
        if code != wire::PERMISSION_DENIED {
            return;
        }
        let told = match usage(request) {
            FileUse::Download => self.told.first_mut(),
            _ => self.told.last_mut(),
        };
        if let Some(told) = told.filter(|told| !**told) {
            *told = true;
            passed.told = Some(why.clone());
        }
        let what = format!("sftp {}", self.described(request));
        passed.events.push(Event::Refused { channel: Some(self.channel), what, why });
    }

    /// A request for people.
    fn described(&self, request: &Request<'_>) -> String {
        let name = |path: &[u8]| text(path.get(..MAX_PATH).unwrap_or(path));
        let of = |handle: &[u8]| self.path(handle).unwrap_or_else(|_| "a file that is not open".to_owned());
        match request {
            Request::Open { path, flags } => format!("open {} ({})", name(path), detail(*flags)),
            Request::Read { handle } => format!("read {}", of(handle)),
            Request::Write { handle, .. } => format!("write {}", of(handle)),
            Request::Remove { path } => format!("remove {}", name(path)),
            Request::RemoveFolder { path } => format!("rmdir {}", name(path)),
            Request::MakeFolder { path, .. } => format!("mkdir {}", name(path)),
            Request::Rename { from, to } => format!("rename {} to {}", name(from), name(to)),
            Request::Link { from, to } => format!("link {} to {}", name(from), name(to)),
            Request::Symlink { path, to } => format!("symlink {} to {}", name(path), name(to)),
            Request::Attributes { path, attributes } => {
                format!("attributes {} ({})", name(path), attributes.describe())
            }
            Request::HandleAttributes { handle, attributes } => {
                format!("attributes {} ({})", of(handle), attributes.describe())
            }
            Request::Sync { handle } => format!("sync {}", of(handle)),
            Request::Copy { from, to, .. } => format!("copy {} to {}", of(from), of(to)),
            Request::Unknown { name } => name.clone(),
            Request::Close { .. } | Request::OpenFolder { .. } | Request::ReadFolder { .. } | Request::Look { .. } => {
                "look".to_owned()
            }
        }
    }

    fn room(&self) -> Result<(), Refusal> {
        match self.files.len() + self.opening < MAX_OPEN {
            true => Ok(()),
            false => Err(Refusal(wire::FAILURE, format!("more than {MAX_OPEN} files are open"))),
        }
    }

    fn open(&self, handle: &[u8]) -> Result<u64, Refusal> {
        self.handles.get(handle).copied().ok_or_else(no_handle)
    }

    fn path(&self, handle: &[u8]) -> Result<String, Refusal> {
        let serial = self.open(handle)?;
        self.files.get(&serial).map(|file| file.path.clone()).ok_or_else(no_handle)
    }
}

fn no_handle() -> Refusal {
    Refusal(wire::FAILURE, "that file is not open".to_owned())
}

/// What a request does with files, as a rule sees it.
fn usage(request: &Request<'_>) -> FileUse {
    match request {
        Request::Open { flags, .. } => match direction(*flags) {
            Direction::Download => FileUse::Download,
            Direction::Upload => FileUse::Upload,
            Direction::Both => FileUse::Both,
        },
        Request::Read { .. } => FileUse::Download,
        Request::Write { .. }
        | Request::Remove { .. }
        | Request::RemoveFolder { .. }
        | Request::MakeFolder { .. }
        | Request::Rename { .. }
        | Request::Link { .. }
        | Request::Symlink { .. }
        | Request::Attributes { .. }
        | Request::HandleAttributes { .. }
        | Request::Sync { .. } => FileUse::Upload,
        // A copy puts one file's content where another's was; what we do not know could do anything.
        Request::Copy { .. } | Request::Unknown { .. } => FileUse::Both,
        Request::Close { .. } | Request::OpenFolder { .. } | Request::ReadFolder { .. } | Request::Look { .. } => {
            FileUse::Look
        }
    }
}

/// sshd opens for reading whatever does not ask to write; creating, appending and truncating change a file by themselves.
fn direction(flags: u32) -> Direction {
    let reads = flags & wire::FLAG_READ != 0 || flags & wire::FLAG_WRITE == 0;
    let changes = flags & !wire::FLAG_READ != 0;
    match (reads, changes) {
        (true, true) => Direction::Both,
        (false, true) => Direction::Upload,
        (_, false) => Direction::Download,
    }
}

fn detail(flags: u32) -> &'static str {
    match direction(flags) {
        Direction::Download => "read",
        Direction::Upload => "write",
        Direction::Both => "read, write",
    }
}
