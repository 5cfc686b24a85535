//! scp's old protocol, which is rcp's: one side sends records (`C`, `D`, `E`, `T`) and content, the other answers each with a
//! byte, 0 for yes, 1 or 2 and a line for no (OpenSSH's scp.c, `source` and `sink`; there is no other specification).
//!
//! Which way files go is decided by the command line that starts the far end ([`Command`]), and by nothing in the stream. A
//! record goes on only when the one before was answered: a sender that does not wait, as some do, waits here, since an answer
//! changes what the bytes after it are.

mod command;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::{Direction, Event, FileResult};

pub(in crate::ssh) use command::Command;

use super::{Broken, MAX_MESSAGE, Passed, micros, text};
use wire::{Line, Record};

/// One run of scp's far end.
#[derive(Debug)]
pub(in crate::ssh) struct Scp {
    channel: u32,
    command: Command,
    now: Duration,
    /// The sender's place.
    place: Place,
    /// A line of the sender's, as far as it has come.
    record: Line,
    /// An answer's line, as far as it has come.
    answer: Line,
    /// What is to be answered.
    owed: Option<Owed>,
    folders: Vec<String>,
    file: Option<File>,
    /// Whether the sender waits for an answer here.
    stalled: bool,
    /// Whether no answer will come any more.
    silent: bool,
}

/// What the sender's next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A record, or an error.
    Record,
    /// Content.
    Content(u64),
    /// The byte after it that says whether all of it could be read; an error's line where it is not 0.
    Trailer,
}

/// What an answer is about.
#[derive(Debug, PartialEq, Eq)]
enum Owed {
    /// The receiver is ready.
    Ready,
    /// A record that needs nothing more.
    Times,
    File {
        name: String,
        size: u64,
    },
    Folder(String),
    Up,
    /// The content.
    Content,
}

#[derive(Debug)]
struct File {
    name: String,
    size: u64,
    passed: u64,
    began: Duration,
    failure: Option<String>,
}

impl Scp {
    pub(super) fn new(channel: u32, command: Command) -> Self {
        Self {
            channel,
            command,
            now: Duration::ZERO,
            place: Place::Record,
            record: Line::default(),
            answer: Line::default(),
            owed: Some(Owed::Ready),
            folders: Vec::new(),
            file: None,
            stalled: false,
            silent: false,
        }
    }

    pub(super) fn client_sent(&mut self, now: Duration, chunk: &mut Bytes) -> Passed {
        self.now = now;
        let mut passed = Passed::default();
        let taken =
            if self.command.uploads() { self.sent(chunk, &mut passed) } else { self.answered(chunk, &mut passed) };
        passed.broken = taken.map_err(Broken::client).err();
        passed
    }

    pub(super) fn target_sent(&mut self, now: Duration, chunk: &mut Bytes) -> Passed {
        self.now = now;
        let mut passed = Passed::default();
        let taken =
            if self.command.uploads() { self.answered(chunk, &mut passed) } else { self.sent(chunk, &mut passed) };
        passed.broken = taken.map_err(Broken::target).err();
        passed
    }

    /// Without a client there are no more answers: what a sender holds back for them goes nowhere.
    pub(super) fn client_ended(&mut self) {
        self.silent = !self.command.uploads();
    }

    pub(super) fn finish(&mut self, now: Duration) -> Vec<Event> {
        self.now = now;
        let announced = match self.owed.take() {
            Some(Owed::File { name, size }) => Some(File { name, size, passed: 0, began: now, failure: None }),
            Some(Owed::Folder(name)) => return vec![self.folder(name, FileResult::CutOff, CUT_OFF.to_owned())],
            _ => None,
        };
        self.file.take().or(announced).map(|file| self.closed(file, FileResult::CutOff)).into_iter().collect()
    }

    /// Bytes of the side that sends files.
    fn sent(&mut self, chunk: &mut Bytes, passed: &mut Passed) -> Result<(), String> {
        let mut taken = 0;
        while let Some(rest) = chunk.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += match self.place {
                Place::Content(left) => self.content(left, rest.len()),
                _ if self.owed.is_some() => break,
                Place::Trailer => self.trailer(rest)?,
                Place::Record => self.record(rest, passed)?,
            };
        }
        if taken > 0 {
            passed.pieces.push(chunk.split_to(taken));
        }
        if self.silent {
            chunk.clear();
        }
        self.stalled = !chunk.is_empty();
        Ok(())
    }

    fn content(&mut self, left: u64, there: usize) -> usize {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let left = left - size as u64;
        self.place = if left == 0 { Place::Trailer } else { Place::Content(left) };
        if let Some(file) = &mut self.file {
            file.passed += size as u64;
        }
        size
    }

    /// The byte after the content; where it is not 0 the content could not be read, and a line says why. Either is answered.
    fn trailer(&mut self, rest: &[u8]) -> Result<usize, String> {
        let taken = match (self.record.is_empty(), rest.first()) {
            (true, Some(0)) => 1,
            (true, Some(1 | 2)) | (false, _) => {
                let (taken, line) = self.record.take(rest)?;
                let Some(line) = line else { return Ok(taken) };
                if let Some(file) = &mut self.file {
                    file.failure.get_or_insert(message(&line));
                }
                taken
            }
            _ => return Err("content is longer than was announced".to_owned()),
        };
        (self.place, self.owed) = (Place::Record, Some(Owed::Content));
        Ok(taken)
    }

    fn record(&mut self, rest: &[u8], passed: &mut Passed) -> Result<usize, String> {
        let (taken, line) = self.record.take(rest)?;
        let Some(line) = line else { return Ok(taken) };
        self.owed = match Record::read(&line)? {
            Record::File { name, size } => Some(Owed::File { name: text(name), size }),
            Record::Folder { name } => {
                if self.folders.len() >= MAX_DEPTH {
                    return Err(format!("folders in folders, {MAX_DEPTH} deep"));
                }
                Some(Owed::Folder(text(name)))
            }
            Record::Up => {
                self.folders.pop().ok_or("it leaves a folder that it did not enter")?;
                Some(Owed::Up)
            }
            Record::Times => Some(Owed::Times),
            // The sender could not read a file, and goes on with the next.
            Record::Error(said) => {
                passed.events.push(self.failed(message(said)));
                None
            }
        };
        Ok(taken)
    }

    /// Bytes of the side that receives files.
    fn answered(&mut self, chunk: &mut Bytes, passed: &mut Passed) -> Result<(), String> {
        let mut taken = 0;
        while let Some(rest) = chunk.get(taken..).filter(|rest| !rest.is_empty()) {
            // Errors of a sink may come at any time, and it ends after them; anything else answers something.
            if self.answer.is_empty() && rest.first() == Some(&0) {
                if let Some(owed) = self.owed.take() {
                    self.accepted(owed, passed);
                }
                taken += 1;
                continue;
            }
            let (more, line) = self.answer.take(rest)?;
            taken += more;
            let Some(line) = line else { continue };
            match line.first() {
                Some(1 | 2) => self.refused(message(&line), passed),
                _ => return Err("an answer that is none".to_owned()),
            }
        }
        passed.pieces.push(std::mem::take(chunk));
        passed.wake = self.stalled && self.owed.is_none();
        Ok(())
    }

    fn accepted(&mut self, owed: Owed, passed: &mut Passed) {
        match owed {
            Owed::File { name, size } => {
                self.place = if size == 0 { Place::Trailer } else { Place::Content(size) };
                self.file = Some(File { name, size, passed: 0, began: self.now, failure: None });
            }
            Owed::Folder(name) => {
                passed.events.push(self.folder(name.clone(), FileResult::Ok, String::new()));
                self.folders.push(name);
            }
            Owed::Content => {
                let file = self.file.take();
                passed.events.extend(file.map(|file| self.closed(file, FileResult::Ok)));
            }
            Owed::Ready | Owed::Times | Owed::Up => {}
        }
    }

    /// The receiver said no: to a file, whose content is not sent then, to a folder, or to something that is no file's.
    fn refused(&mut self, why: String, passed: &mut Passed) {
        match self.owed.take() {
            Some(Owed::File { name, size }) => {
                let file = File { name, size, passed: 0, began: self.now, failure: Some(why) };
                passed.events.push(self.closed(file, FileResult::Failed));
            }
            Some(Owed::Folder(name)) => {
                passed.events.push(self.folder(name.clone(), FileResult::Failed, why));
            }
            Some(Owed::Content) => {
                if let Some(mut file) = self.file.take() {
                    file.failure.get_or_insert(why);
                    passed.events.push(self.closed(file, FileResult::Failed));
                }
            }
            Some(Owed::Ready | Owed::Times | Owed::Up) | None => {
                if let Some(file) = &mut self.file {
                    file.failure.get_or_insert(why);
                } else {
                    passed.events.push(self.failed(why));
                }
            }
        }
    }

    /// What one end says of files that were never announced.
    fn failed(&self, why: String) -> Event {
        Event::FileChange {
            channel: self.channel,
            action: "open".to_owned(),
            path: self.command.path(),
            to: String::new(),
            detail: self.command.verb().to_owned(),
            result: FileResult::Failed,
            why,
        }
    }

    fn folder(&self, name: String, result: FileResult, why: String) -> Event {
        let action = if self.command.uploads() { "mkdir" } else { "list" };
        Event::FileChange {
            channel: self.channel,
            action: action.to_owned(),
            path: self.command.path(),
            to: String::new(),
            detail: self.below(&name),
            result,
            why,
        }
    }

    fn closed(&self, file: File, result: FileResult) -> Event {
        let result = match (result, &file.failure) {
            (FileResult::Ok, Some(_)) => FileResult::Failed,
            (result, _) => result,
        };
        let up = self.command.uploads();
        let confirmed = result == FileResult::Ok;
        let cut = (result == FileResult::CutOff).then(|| CUT_OFF.to_owned());
        Event::File {
            channel: self.channel,
            path: self.command.path(),
            name: self.below(&file.name),
            direction: if up { Direction::Upload } else { Direction::Download },
            read: if up { 0 } else { file.passed },
            written: if up && confirmed { file.passed } else { 0 },
            unconfirmed: if up && !confirmed { file.passed } else { 0 },
            size: Some(file.size),
            took_us: micros(self.now.saturating_sub(file.began)),
            result,
            why: file.failure.or(cut).unwrap_or_default(),
        }
    }

    /// A name with the folders that it is in.
    fn below(&self, name: &str) -> String {
        self.folders.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("/")
    }
}

/// The text of an error, without its first byte and its line's end.
fn message(line: &[u8]) -> String {
    let said = line.get(1..).unwrap_or_default();
    let said = said.strip_suffix(b"\n").unwrap_or(said);
    text(said.get(..MAX_MESSAGE).unwrap_or(said)).trim().to_owned()
}

const CUT_OFF: &str = "the channel ended before the file was closed";
/// Folders in each other that are followed.
const MAX_DEPTH: usize = 256;
