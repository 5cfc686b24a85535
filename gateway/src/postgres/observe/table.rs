//! A table of named things that a client makes, bounded in number and size. What does not fit is given back, and so is what has
//! a name that is no ASCII: the server may take two of those for one, by the encodings of both sides.

use std::collections::HashMap;

/// Named things and the bytes that each takes.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<String, (T, usize)>,
    /// What has the empty name: most clients make nothing else.
    unnamed: Option<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), unnamed: None, bytes: 0 }
    }
}

impl<T> Table<T> {
    /// Puts something in, in the place of what had that name.
    ///
    /// # Errors
    /// The name and the value, where they are not kept.
    pub(super) fn insert(&mut self, name: String, value: T, bytes: usize) -> Result<(), (String, T)> {
        let _replaced = self.remove(&name);
        let bytes = bytes.saturating_add(name.len()).saturating_add(ENTRY);
        if self.bytes.saturating_add(bytes) > BYTES_MAX || !name.is_ascii() {
            return Err((name, value));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        match name.is_empty() {
            true => self.unnamed = Some((value, bytes)),
            false => _ = self.entries.insert(name, (value, bytes)),
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        let entry = if name.is_empty() { self.unnamed.as_ref() } else { self.entries.get(name) };
        entry.map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let entry = if name.is_empty() { self.unnamed.as_mut() } else { self.entries.get_mut(name) };
        entry.map(|(value, _)| value)
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        let entry = if name.is_empty() { self.unnamed.take() } else { self.entries.remove(name) };
        let (value, bytes) = entry?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(value)
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (String, T)> + use<T> {
        let Self { entries, unnamed, .. } = std::mem::take(self);
        let unnamed = unnamed.map(|entry| (String::new(), entry));
        unnamed.into_iter().chain(entries).map(|(name, (value, _))| (name, value))
    }

    pub(super) fn clear(&mut self) {
        (self.unnamed, self.bytes) = (None, 0);
        if !self.entries.is_empty() {
            self.entries = HashMap::new();
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
    fn gives_back_what_does_not_fit_and_takes_more_when_there_is_room_again() {
        let mut table = Table::default();
        for number in 0..200 {
            let kept = table.insert(number.to_string(), number, 64 << 10);
            assert!(kept.is_ok() || kept == Err((number.to_string(), number)) && number > 100);
        }
        assert!(table.bytes <= BYTES_MAX && table.get("0") == Some(&0) && table.get("199").is_none());
        assert_eq!(table.remove("0"), Some(0));
        assert_eq!(table.insert("é".into(), 7, 1), Err(("é".to_owned(), 7)));
        assert_eq!(table.insert("new".into(), 7, 64 << 10), Ok(()));
        assert_eq!(table.get("new"), Some(&7));
        let before = table.bytes;
        assert_eq!((table.insert(String::new(), 8, 10), table.insert(String::new(), 9, 20)), (Ok(()), Ok(())));
        assert_eq!((table.get(""), table.bytes), (Some(&9), before + 20 + ENTRY));
        assert_eq!((table.remove(""), table.remove(""), table.bytes), (Some(9), None, before));
        assert_eq!(table.insert(String::new(), 10, 0), Ok(()));
        table.clear();
        assert_eq!((table.bytes, table.entries.len(), table.get("")), (0, 0, None));
    }
}
