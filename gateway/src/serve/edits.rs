//! Watches the policy file, and says when it may have become another. It reads nothing of it: whoever is told does.
//!
//! Folders are watched, not the file: editors put a new file in the place of the old one, and a Kubernetes ConfigMap swaps
//! a link two steps further on. Every folder that a link on the way lies in is watched. What the system's events miss
//! (a network file system, a folder that was moved, no events to be had at all) a slow look finds.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

/// A file that is watched.
pub(super) struct Watch {
    path: PathBuf,
    /// What it looked like when it was last told about.
    told: Stamp,
    watcher: Option<RecommendedWatcher>,
    folders: HashMap<PathBuf, (u64, u64)>,
    events: mpsc::Receiver<()>,
    // Kept, so that a watcher that could not be had is silence, not an end.
    _stirred: mpsc::Sender<()>,
}

impl Watch {
    /// Watches the file at `path` from now on, whether it is there or not.
    pub(super) fn begin(path: &Path) -> Self {
        // One event that waits stands for all.
        let (stirred, events) = mpsc::channel(1);
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let sender = stirred.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event.kind)) {
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "file events cannot be had: the policy is looked at every {LOOK:?}"));
        let told = Stamp::of(&path);
        let mut watch = Self { path, told, watcher: watcher.ok(), folders: HashMap::new(), events, _stirred: stirred };
        watch.follow();
        watch
    }

    /// Tells `edited` each time that the file may have become another. Never ends while somebody listens.
    pub(super) async fn run(mut self, edited: mpsc::Sender<()>) {
        while !edited.is_closed() {
            self.stirred().await;
            // Looking asks the file system, which may take its time.
            let looked = tokio::task::spawn_blocking(move || {
                self.follow();
                let now = Stamp::of(&self.path);
                let other = now != self.told;
                self.told = now;
                (self, other)
            });
            let Ok((watch, other)) = looked.await else { return };
            self = watch;
            if other {
                debug!(file = %self.path.display(), "the policy file was touched");
                // One word that waits is enough: the file is read after it.
                let _ = edited.try_send(());
            }
        }
    }

    /// Resolves when something moved and lies still again, or it is time for a look.
    async fn stirred(&mut self) {
        let mut at = Instant::now() + LOOK;
        let mut first = None;
        loop {
            tokio::select! {
                () = sleep_until(at) => return,
                Some(()) = self.events.recv() => {
                    let now = Instant::now();
                    at = (now + QUIET).min(*first.get_or_insert(now) + LONGEST_WAIT);
                }
            }
        }
    }

    /// Watches the folders that the file is reached through now, and no others.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = HashMap::new();
        for folder in way(&self.path) {
            if let Ok(metadata) = folder.metadata() {
                wanted.insert(folder, (metadata.dev(), metadata.ino()));
            }
        }
        // A folder that was moved away and made anew has the same name and is another.
        for (folder, _) in self.folders.extract_if(|folder, place| wanted.get(folder) != Some(place)) {
            let _ = watcher.unwatch(&folder);
        }
        for (folder, place) in wanted {
            if self.folders.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder, place)),
                Err(error) => debug!(folder = %folder.display(), %error, "no events of this folder"),
            }
        }
    }
}

/// What a file looks like from outside; `None` when it cannot be seen.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<[i64; 7]>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let of = |m: Metadata| {
            let (place, size) = ((m.dev(), m.ino()), m.size());
            [
                place.0.cast_signed(),
                place.1.cast_signed(),
                size.cast_signed(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            ]
        };
        Self(path.metadata().ok().map(of))
    }
}

/// Whether an event can mean another content. Reading the file is an event too, and must not lead to the next reading.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The folders in which something decides what `path` is: the one that it is in by its name, that of each link on the way,
/// and the one that the file lies in.
fn way(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path.parent().map(Path::to_owned).into_iter().collect();
    let mut rest: Vec<PathBuf> = components(path);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(next) = rest.pop() {
        let here = at.join(&next);
        match std::fs::read_link(&here) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                folders.push(at.clone());
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(components(&target));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            _ if next == Path::new("..") => drop(at.pop()),
            _ => at = here,
        }
    }
    folders.extend(at.parent().map(Path::to_owned));
    folders.sort();
    folders.dedup();
    folders
}

/// The parts of a path, the first one last.
fn components(path: &Path) -> Vec<PathBuf> {
    let plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let parts: Vec<PathBuf> = path.components().filter(plain).map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.into_iter().rev().collect()
}

/// How long a file has to lie still before it is read: a writer truncates it first.
const QUIET: Duration = Duration::from_millis(150);
/// How long it is waited for where something moves all the time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often one looks without an event.
const LOOK: Duration = Duration::from_secs(5);
/// Links on the way to a file that are followed; the system follows as many (path_resolution(7)).
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    /// A watched file in a folder, and how its watch tells of edits.
    struct Watched {
        folder: tempfile::TempDir,
        edited: mpsc::Receiver<()>,
    }

    impl Watched {
        fn new(name: &str, prepare: impl FnOnce(&Path)) -> Self {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let (sender, edited) = mpsc::channel(1);
            tokio::spawn(Watch::begin(&folder.path().join(name)).run(sender));
            Self { folder, edited }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        async fn tells(&mut self) {
            timeout(Duration::from_secs(20), self.edited.recv()).await.expect("an edit is told").unwrap();
        }

        async fn is_silent(&mut self) {
            let told = timeout(LONGEST_WAIT + QUIET, self.edited.recv()).await;
            assert!(told.is_err(), "nothing was edited");
        }
    }

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn tells_of_edits_in_place_by_rename_and_of_a_file_that_goes_and_comes() {
        let mut watched = Watched::new("policy", |folder| write(&folder.join("policy"), "one"));
        let path = watched.path("policy");
        write(&path, "two");
        watched.tells().await;
        write(&watched.path("policy~"), "three");
        std::fs::rename(watched.path("policy~"), &path).unwrap();
        watched.tells().await;
        std::fs::remove_file(&path).unwrap();
        watched.tells().await;
        write(&path, "four");
        watched.tells().await;
        let _read = std::fs::read(&path).unwrap();
        write(&watched.path("another file"), "of no concern");
        watched.is_silent().await;
    }

    #[tokio::test]
    async fn tells_of_a_link_that_was_swapped_as_a_configmap_does() {
        let mut watched = Watched::new("policy", |folder| {
            for (version, text) in [("..1", "one"), ("..2", "two")] {
                std::fs::create_dir(folder.join(version)).unwrap();
                write(&folder.join(version).join("policy"), text);
            }
            symlink("..1", folder.join("..data")).unwrap();
            symlink("..data/policy", folder.join("policy")).unwrap();
        });
        symlink("..2", watched.path("..data_tmp")).unwrap();
        std::fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
        watched.tells().await;
        write(&watched.path("..2/policy"), "two, changed where it lies");
        watched.tells().await;
        write(&watched.path("..1/policy"), "of no concern any more");
        watched.is_silent().await;
    }

    #[tokio::test]
    async fn a_folder_that_was_put_in_the_place_of_another_is_looked_at() {
        let mut watched = Watched::new("etc/policy", |folder| {
            std::fs::create_dir(folder.join("etc")).unwrap();
            write(&folder.join("etc/policy"), "one");
        });
        std::fs::rename(watched.path("etc"), watched.path("etc.old")).unwrap();
        std::fs::create_dir(watched.path("etc")).unwrap();
        write(&watched.path("etc/policy"), "two");
        watched.tells().await;
        write(&watched.path("etc/policy"), "three");
        watched.tells().await;
    }

    #[test]
    fn links_that_lead_in_a_circle_are_followed_for_a_while_only() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(way(&folder.path().join("a")).contains(&folder.path().to_owned()));
    }
}
