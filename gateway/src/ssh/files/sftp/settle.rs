//! The target's answers: what became of each request.

use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::{Direction, Event, FileResult};

use super::wire::{self, Answer};
use super::{Book, Change, File, Greeting, Pending};
use crate::ssh::files::cutter::{Fate, Packets};
use crate::ssh::files::{Broken, Passed};

/// The target's direction.
pub(super) struct Answers<'a>(pub(super) &'a mut Book);

impl Packets for Answers<'_> {
    fn head(&self, begun: &[u8]) -> Result<usize, Broken> {
        wire::answer_head(begun)
    }

    /// Ours go between two of the target's, and after its version.
    fn between(&mut self) -> Option<Bytes> {
        if self.0.greeting == Greeting::Done { self.0.answers.pop_front() } else { None }
    }

    fn judge(&mut self, head: &[u8], left: usize, passed: &mut Passed) -> Result<Fate, Broken> {
        let book = &mut *self.0;
        match book.greeting {
            Greeting::Done => {}
            Greeting::Nothing => return Err(Broken::target("it speaks before it was asked")),
            Greeting::Asked => {
                return match wire::hello(head) {
                    Some((wire::VERSION_REPLY, version, _)) if version <= wire::VERSION => {
                        book.greeting = Greeting::Done;
                        Ok(Fate::Pass)
                    }
                    Some((wire::VERSION_REPLY, version, _)) => {
                        Err(Broken::target(format_args!("it speaks version {version} where 3 was asked for")))
                    }
                    _ => Err(Broken::target("it does not begin with a version")),
                };
            }
        }
        let Some((id, answer)) = Answer::read(head) else {
            return Err(Broken::target("an answer that cannot be read"));
        };
        let Some(pending) = book.recall(id) else {
            return Err(Broken::target(format_args!("an answer to a request {id} that was not made")));
        };
        book.reading = None;
        if let Answer::Data { size } = answer
            && usize::try_from(size) != Ok(left)
        {
            return Err(Broken::target("content that is not as long as it says"));
        }
        book.settle(pending, answer, passed)?;
        Ok(Fate::Pass)
    }
}

impl Book {
    fn settle(&mut self, pending: Pending, answer: Answer<'_>, passed: &mut Passed) -> Result<(), Broken> {
        match (pending, answer) {
            (Pending::Open { path, direction, .. }, Answer::Handle(handle)) => {
                return self.opened(File::new(path, handle, Some(direction), self.now), passed);
            }
            (Pending::OpenFolder { path }, Answer::Handle(handle)) => {
                return self.opened(File::new(path, handle, None, self.now), passed);
            }
            (Pending::Open { path, detail, .. }, Answer::Status { code, message }) => {
                let why = failure(code, &message).unwrap_or_else(|| "the target gave no handle".to_owned());
                passed.events.push(Change::new("open", path, detail).event(self.channel, FileResult::Failed, why));
            }
            (Pending::Close(serial), Answer::Status { code, message }) => {
                self.fail(serial, failure(code, &message));
                passed.events.extend(self.close(serial));
            }
            (Pending::Read(serial), Answer::Data { size }) => {
                self.reading = Some(serial);
                if let Some(file) = self.files.get_mut(&serial) {
                    file.read += u64::from(size);
                }
            }
            (Pending::Read(serial), Answer::Status { code, message }) => self.fail(serial, failure(code, &message)),
            (Pending::Write { file: serial, size }, Answer::Status { code, message }) => {
                if let Some(file) = self.files.get_mut(&serial) {
                    file.under_way = file.under_way.saturating_sub(u64::from(size));
                    file.written += if code == wire::OK { u64::from(size) } else { 0 };
                }
                self.fail(serial, failure(code, &message));
            }
            (Pending::Change(change), Answer::Status { code, message }) => {
                let failure = failure(code, &message);
                let result = if failure.is_some() { FileResult::Failed } else { FileResult::Ok };
                passed.events.push(change.event(self.channel, result, failure.unwrap_or_default()));
            }
            // An extension that we do not know may answer in its own way.
            (Pending::Change(change), Answer::Other) if change.action == UNKNOWN => {
                passed.events.push(change.event(self.channel, FileResult::Ok, String::new()));
            }
            (Pending::Look | Pending::List | Pending::OpenFolder { .. }, Answer::Status { code, message }) => {
                self.looks.failed += u64::from(failure(code, &message).is_some());
            }
            (Pending::Look | Pending::List, Answer::Other) => {}
            _ => return Err(Broken::target("an answer of another kind than its request")),
        }
        Ok(())
    }

    /// A handle was given. One that is being closed may be given again before its closing is answered.
    fn opened(&mut self, file: File, passed: &mut Passed) -> Result<(), Broken> {
        if let Some(earlier) = self.handles.get(&file.handle).copied() {
            if !self.files.get(&earlier).is_some_and(|file| file.closing) {
                return Err(Broken::target("one handle for two files"));
            }
            passed.events.extend(self.close(earlier));
        }
        self.opened += 1;
        self.handles.insert(file.handle.clone(), self.opened);
        self.files.insert(self.opened, file);
        Ok(())
    }

    /// Forgets a file; its event.
    fn close(&mut self, serial: u64) -> Option<Event> {
        let file = self.files.remove(&serial)?;
        self.handles.remove(&file.handle);
        self.closed(file, FileResult::Ok)
    }

    /// The first failure of a file is the one that is written down.
    fn fail(&mut self, serial: u64, failure: Option<String>) {
        if let (Some(file), Some(failure)) = (self.files.get_mut(&serial), failure) {
            file.failure.get_or_insert(failure);
        }
    }
}

impl File {
    fn new(path: String, handle: &[u8], direction: Option<Direction>, began: Duration) -> Self {
        Self {
            path,
            handle: handle.into(),
            direction,
            began,
            read: 0,
            written: 0,
            under_way: 0,
            failure: None,
            closing: false,
        }
    }
}

/// What a status says went wrong; the end of a file or folder is nothing wrong.
fn failure(code: u32, message: &str) -> Option<String> {
    let name = match code {
        wire::OK | wire::EOF => return None,
        code => NAMES.iter().find(|(known, _)| *known == code).map_or("failure", |(_, name)| name),
    };
    let said = message.trim();
    match said.is_empty() || said.eq_ignore_ascii_case(name) {
        true => Some(format!("{name} ({code})")),
        false => Some(format!("{name} ({code}): {said}")),
    }
}

/// Section 7 of the draft.
const NAMES: [(u32, &str); 7] = [
    (2, "no such file"),
    (3, "permission denied"),
    (4, "failure"),
    (5, "bad message"),
    (6, "no connection"),
    (7, "connection lost"),
    (8, "operation unsupported"),
];

/// The action of a request that we do not know.
pub(super) const UNKNOWN: &str = "unknown";
