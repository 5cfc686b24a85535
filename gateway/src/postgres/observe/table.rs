//! A table of named things that a client makes, bounded in number and size. What does not fit is forgotten: a statement that
//! is run later by such a name is recorded with its name alone.

use std::collections::HashMap;

/// Named things and the bytes that each takes.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<String, (T, usize)>,
    bytes: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

impl<T> Table<T> {
    pub(super) fn insert(&mut self, name: String, value: T, bytes: usize) {
        self.remove(&name);
        let bytes = bytes.saturating_add(name.len()).saturating_add(ENTRY);
        if self.bytes.saturating_add(bytes) <= BYTES_MAX {
            self.bytes = self.bytes.saturating_add(bytes);
            self.entries.insert(name, (value, bytes));
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.entries.get(name).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.entries.get_mut(name).map(|(value, _)| value)
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some((_, bytes)) = self.entries.remove(name) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn clear(&mut self) {
        if !self.entries.is_empty() {
            *self = Self::default();
        }
    }
}

/// Of one table, in bytes.
const BYTES_MAX: usize = 8 << 20;

/// What an entry takes besides its name and text, roughly.
const ENTRY: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_does_not_fit_and_takes_more_when_there_is_room_again() {
        let mut table = Table::default();
        for number in 0..200 {
            table.insert(number.to_string(), number, 64 << 10);
        }
        assert!(table.bytes <= BYTES_MAX && table.get("0") == Some(&0) && table.get("199").is_none());
        table.remove("0");
        table.insert("new".into(), 7, 64 << 10);
        assert_eq!(table.get("new"), Some(&7));
        table.clear();
        assert_eq!((table.bytes, table.entries.len()), (0, 0));
    }
}
