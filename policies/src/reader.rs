//! Walks a parsed text and collects what is wrong with it, so that all mistakes are told at once.

use jsonc_parser::ast::{Object, ObjectPropName, StringLit, Value};
use jsonc_parser::common::{Range, Ranged};

use crate::Location;
use crate::error::{Errors, Note, PolicyError};

pub(crate) struct Reader<'t> {
    text: &'t str,
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
    errors: Vec<PolicyError>,
    notes: Vec<Note>,
}

/// A key and its value.
pub(crate) struct Entry<'v> {
    pub(crate) name: &'v str,
    pub(crate) at: Range,
    pub(crate) value: &'v Value<'v>,
}

/// An object whose keys are all known.
pub(crate) struct Fields<'v> {
    pub(crate) at: Range,
    entries: Vec<Entry<'v>>,
}

impl<'v> Fields<'v> {
    pub(crate) fn get(&self, name: &str) -> Option<&'v Value<'v>> {
        self.entry(name).map(|entry| entry.value)
    }

    /// The value of `name`, or that of the older name of the same thing; both at once are an error.
    pub(crate) fn either(&self, reader: &mut Reader<'_>, name: &str, legacy: &str) -> Option<&'v Value<'v>> {
        if let (Some(_), Some(old)) = (self.entry(name), self.entry(legacy)) {
            let message = format!("{legacy:?} stands beside {name:?}, of which it is the older name");
            reader.error(old.at, message, format!("{name:?} alone"));
        }
        self.get(name).or_else(|| self.get(legacy))
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry<'v>> {
        self.entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Reader { text, lines, errors: Vec::new(), notes: Vec::new() }
    }

    /// The notes, or every error in the order of the text.
    pub(crate) fn finish(mut self) -> Result<Vec<Note>, Errors> {
        if self.errors.is_empty() {
            self.notes.sort_by_key(|note| (note.line, note.column));
            return Ok(self.notes);
        }
        let full = self.errors.len() >= MAX_ERRORS;
        self.errors.sort_by_key(|error| (error.line, error.column));
        if let Some(last) = self.errors.last().filter(|_| full).cloned() {
            let (message, expected) =
                ("there may be more mistakes than these".to_owned(), "these to be mended first".to_owned());
            self.errors.push(PolicyError { message, expected, ..last });
        }
        Err(Errors(self.errors))
    }

    pub(crate) fn error(&mut self, at: Range, message: impl Into<String>, expected: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            let (line, column) = self.position(at);
            self.errors.push(PolicyError { line, column, message: message.into(), expected: expected.into() });
        }
    }

    pub(crate) fn note(&mut self, at: Range, message: impl Into<String>) {
        if self.notes.len() < MAX_ERRORS {
            let (line, column) = self.position(at);
            self.notes.push(Note { line, column, message: message.into() });
        }
    }

    pub(crate) fn location(&self, at: Range, rule: String) -> Location {
        let (line, column) = self.position(at);
        Location { line, column, rule }
    }

    fn position(&self, at: Range) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= at.start);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or(0);
        let column = self.text.get(start..at.start).map_or(0, |before| before.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The entries of an object, each key once.
    pub(crate) fn entries<'v>(&mut self, value: &'v Value<'v>, expected: &str) -> Vec<Entry<'v>> {
        self.object(value, expected).map(|object| self.unique(object, str::to_owned)).unwrap_or_default()
    }

    /// The entries of an object; of keys that `same` makes equal, the first.
    fn unique<'v>(&mut self, object: &'v Object<'v>, same: fn(&str) -> String) -> Vec<Entry<'v>> {
        let mut seen = std::collections::BTreeMap::new();
        let mut entries = Vec::with_capacity(object.properties.len().min(MAX_ENTRIES));
        for property in &object.properties {
            let (name, at) = match &property.name {
                ObjectPropName::String(lit) => (lit.value.as_ref(), lit.range),
                ObjectPropName::Word(word) => (word.value, word.range),
            };
            match seen.insert(same(name), at) {
                Some(first) => {
                    let (line, _) = self.position(first);
                    let message = format!("the key {} stands here a second time", quote(name));
                    self.error(at, message, format!("it once; the first is on line {line}"));
                }
                None => entries.push(Entry { name, at, value: &property.value }),
            }
        }
        self.bound(entries, object.range, "keys")
    }

    /// The entries of an object that may have `known` keys only, in any capitals, as Tailscale reads them.
    pub(crate) fn fields<'v>(&mut self, value: &'v Value<'v>, what: &str, known: &[&str]) -> Option<Fields<'v>> {
        let object = self.object(value, &format!("{what}, an object: {{ … }}"))?;
        let mut entries = self.unique(object, str::to_ascii_lowercase);
        entries.retain(|entry| {
            let fits = known.iter().any(|name| name.eq_ignore_ascii_case(entry.name));
            if !fits {
                self.unknown(entry.at, &format!("there is no key {} in {what}", quote(entry.name)), entry.name, known);
            }
            fits
        });
        Some(Fields { at: value.range(), entries })
    }

    /// An error about a name that is not one of `known`, with the nearest of them.
    pub(crate) fn unknown(&mut self, at: Range, message: &str, found: &str, known: &[&str]) {
        if self.errors.len() >= MAX_ERRORS {
            return; // looking for the nearest name is the dearest part of an error
        }
        let nearest = known
            .iter()
            .filter(|_| found.len() <= MAX_GUESS)
            .map(|name| (strsim::damerau_levenshtein(&found.to_lowercase(), &name.to_lowercase()), *name))
            .filter(|(distance, name)| *distance <= (name.len() / 5).max(1))
            .min();
        match nearest {
            Some((_, name)) => self.error(at, format!("{message} (did you mean {}?)", quote(name)), one_of(known)),
            None => self.error(at, message, one_of(known)),
        }
    }

    pub(crate) fn array<'v>(&mut self, value: &'v Value<'v>, expected: &str) -> Vec<&'v Value<'v>> {
        match value {
            Value::Array(array) => self.bound(array.elements.iter().collect(), array.range, "entries"),
            other => {
                self.mismatch(other, expected);
                Vec::new()
            }
        }
    }

    /// A list of strings that are not empty.
    pub(crate) fn strings<'v>(&mut self, value: &'v Value<'v>, expected: &str) -> Vec<&'v StringLit<'v>> {
        let elements = self.array(value, expected);
        elements.into_iter().filter_map(|element| self.string(element, expected)).collect()
    }

    pub(crate) fn string<'v>(&mut self, value: &'v Value<'v>, expected: &str) -> Option<&'v StringLit<'v>> {
        match value {
            Value::StringLit(lit) if !lit.value.is_empty() && lit.value.len() <= MAX_STRING => return Some(lit),
            Value::StringLit(lit) if lit.value.is_empty() => self.error(lit.range, "found an empty string", expected),
            Value::StringLit(lit) => {
                self.error(lit.range, "found a very long string", format!("at most {MAX_STRING} bytes"));
            }
            other => self.mismatch(other, expected),
        }
        None
    }

    pub(crate) fn boolean(&mut self, value: &Value<'_>, expected: &str) -> Option<bool> {
        match value {
            Value::BooleanLit(lit) => Some(lit.value),
            other => {
                self.mismatch(other, expected);
                None
            }
        }
    }

    fn object<'v>(&mut self, value: &'v Value<'v>, expected: &str) -> Option<&'v Object<'v>> {
        match value {
            Value::Object(object) => Some(object),
            other => {
                self.mismatch(other, expected);
                None
            }
        }
    }

    pub(crate) fn mismatch(&mut self, value: &Value<'_>, expected: &str) {
        let found = match value {
            Value::StringLit(lit) => format!("found the string {}", quote(&lit.value)),
            Value::NumberLit(lit) => {
                format!("found the number {}", lit.value.chars().take(MAX_GUESS).collect::<String>())
            }
            Value::BooleanLit(lit) => format!("found {}", lit.value),
            Value::Object(_) => "found an object".to_owned(),
            Value::Array(_) => "found a list".to_owned(),
            Value::NullKeyword(_) => "found null".to_owned(),
        };
        self.error(value.range(), found, expected);
    }

    fn bound<T>(&mut self, mut entries: Vec<T>, at: Range, what: &str) -> Vec<T> {
        if entries.len() > MAX_ENTRIES {
            self.error(at, format!("found {} {what}", entries.len()), format!("at most {MAX_ENTRIES}"));
            entries.truncate(MAX_ENTRIES);
        }
        entries
    }
}

/// A text from the policy for use in a sentence: in quotes, escaped, and cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(MAX_GUESS).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

fn one_of(known: &[&str]) -> String {
    let mut quoted: Vec<String> = known.iter().take(MAX_LISTED).map(|name| format!("{name:?}")).collect();
    if known.len() > MAX_LISTED {
        quoted.push("…".to_owned());
    }
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        many => format!("one of {}", many.join(", ")),
    }
}

/// Nobody reads more at once.
const MAX_ERRORS: usize = 200;

/// In one list or object.
const MAX_ENTRIES: usize = 5_000;

/// Of one string, in bytes.
const MAX_STRING: usize = 4_096;

/// More names than these help nobody in a message.
pub(crate) const MAX_LISTED: usize = 13;

/// Longer names are cut in messages, and no nearest name is looked for; in characters.
const MAX_GUESS: usize = 64;
