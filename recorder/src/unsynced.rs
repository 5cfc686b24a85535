//! What was changed and must be synced before a crash of the machine can no longer lose it. It owns the waits for the disk:
//! those that can be shared are, and where there are several, the disk begins with all of them before the first is waited for.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::RecorderError;

/// Something that was changed.
pub(crate) struct Unsynced {
    /// Where it lies.
    pub(crate) path: PathBuf,
    what: What,
}

enum What {
    /// A file, or a folder.
    File(Arc<File>),
    /// The folder of a day, once it had so many entries.
    Day(Arc<Day>, u64),
}

impl Unsynced {
    pub(crate) fn file(path: PathBuf, file: Arc<File>) -> Self {
        Self { path, what: What::File(file) }
    }

    /// Has the disk begin: waiting for one after the other, each would begin only then.
    fn begin(&self) {
        if let What::File(file) = &self.what {
            // Of a folder, and where the system knows no such advice, nothing comes of it.
            let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }

    fn sync(&self) -> Result<(), RecorderError> {
        let synced = match &self.what {
            What::File(file) => file.sync_data(),
            What::Day(day, entries) => day.sync(*entries),
        };
        synced.map_err(|error| RecorderError::disk(&self.path, error))
    }
}

/// Waits for the disk to have all of these.
pub(crate) fn sync_all(changed: &[Unsynced]) -> Result<(), RecorderError> {
    if changed.len() > 1 {
        changed.iter().for_each(Unsynced::begin);
    }
    changed.iter().try_for_each(Unsynced::sync)
}

/// The folder of the day in which recordings are made, held open for all of them.
#[derive(Default)]
pub(crate) struct Today(Mutex<Option<Arc<Day>>>);

struct Day {
    folder: File,
    /// Entries that were made since it was opened.
    made: AtomicU64,
    /// How many of them the disk has.
    synced: Mutex<u64>,
    /// The disk has failed, which the system tells but once.
    failed: AtomicBool,
}

impl Today {
    /// Notes that a recording's folder was made in that of `day`, which is opened anew when another one has taken its place:
    /// the disk knows it by then.
    pub(crate) fn made_in(&self, day: &Path) -> io::Result<Unsynced> {
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let there = place(std::fs::metadata(day)?);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let day_held = match &*held {
            Some(held) if !held.has_failed() && place(held.folder.metadata()?) == there => Arc::clone(held),
            _ => {
                day.parent().map_or(Ok(()), |root| File::open(root)?.sync_all())?;
                let (made, synced, failed) = (AtomicU64::new(0), Mutex::new(0), AtomicBool::new(false));
                Arc::clone(held.insert(Arc::new(Day { folder: File::open(day)?, made, synced, failed })))
            }
        };
        let entries = day_held.made.fetch_add(1, Ordering::AcqRel) + 1;
        Ok(Unsynced { path: day.to_owned(), what: What::Day(day_held, entries) })
    }
}

impl Day {
    /// Waits for the disk to have the first so many entries. Whoever comes while another waits finds most of it done.
    fn sync(&self, entries: u64) -> io::Result<()> {
        self.sync_by(entries, |folder| folder.sync_data())
    }

    fn sync_by(&self, entries: u64, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_failed() {
            return Err(io::Error::other("the disk failed when the folder of the day was last written"));
        }
        if *synced < entries {
            let made = self.made.load(Ordering::Acquire);
            sync(&self.folder).inspect_err(|_| self.failed.store(true, Ordering::Release))?;
            *synced = made;
        }
        Ok(())
    }

    /// Asked without waiting for whoever waits for the disk.
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day_of(unsynced: &Unsynced) -> (Arc<Day>, u64) {
        match &unsynced.what {
            What::Day(day, entries) => (Arc::clone(day), *entries),
            What::File(_) => panic!("it is a file"),
        }
    }

    #[test]
    fn one_wait_is_for_all_that_was_made_before_it() {
        let root = tempfile::tempdir().unwrap();
        let today = Today::default();
        let [first, second] = [(); 2].map(|()| today.made_in(root.path()).unwrap());
        let (day, _) = day_of(&first);
        sync_all(&[first]).unwrap();
        assert_eq!(*day.synced.lock().unwrap(), 2);
        let third = today.made_in(root.path()).unwrap();
        sync_all(&[second]).unwrap();
        assert_eq!((day_of(&third).1, *day.synced.lock().unwrap()), (3, 2));
        sync_all(&[third]).unwrap();
        assert_eq!(*day.synced.lock().unwrap(), 3);
    }

    #[test]
    fn a_disk_that_fails_fails_all_who_wait_for_it_and_nobody_who_comes_later() {
        let root = tempfile::tempdir().unwrap();
        let today = Today::default();
        let [first, second] = [(); 2].map(|()| today.made_in(root.path()).unwrap());
        let (day, entries) = day_of(&first);
        day.sync_by(entries, |_| Err(io::Error::other("it broke"))).unwrap_err();
        assert!(sync_all(&[second]).is_err(), "the system tells a failure but once");
        let third = today.made_in(root.path()).unwrap();
        assert_eq!(day_of(&third).1, 1, "it is opened anew");
        sync_all(&[third]).unwrap();
    }

    #[test]
    fn the_folder_of_a_day_is_opened_anew_when_another_one_takes_its_place() {
        let root = tempfile::tempdir().unwrap();
        let (today, path) = (Today::default(), root.path().join("2026-01-02"));
        std::fs::create_dir(&path).unwrap();
        let (first, _) = day_of(&today.made_in(&path).unwrap());
        assert!(Arc::ptr_eq(&first, &day_of(&today.made_in(&path).unwrap()).0));
        std::fs::rename(&path, root.path().join("away")).unwrap();
        std::fs::create_dir(&path).unwrap();
        let (second, entries) = day_of(&today.made_in(&path).unwrap());
        assert_eq!((entries, second.folder.metadata().unwrap().ino()), (1, std::fs::metadata(&path).unwrap().ino()));
    }
}
