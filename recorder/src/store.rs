//! The folder of all recordings, `ROOT/YYYY-MM-DD/ID/`: creates them and finds them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{sync::watch, task::spawn_blocking, time::Instant};

use crate::{
    Event, Header, RecorderError, Recording, SessionId, Signer, drive::Driver, folder, pack::Packer, queue::Queue,
    unsynced::Today, writer::Writer,
};

/// Where recordings lie. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    root: PathBuf,
    packer: Arc<Packer>,
    today: Arc<Today>,
}

/// A recording that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The session's name.
    pub id: SessionId,
    /// Its folder.
    pub folder: PathBuf,
}

/// No one recording answers to a prefix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// None does.
    #[error("no recording's name begins with {0:?}: `sallyport sessions ls` shows the names")]
    None(String),
    /// Several do.
    #[error("{count} recordings' names begin with {prefix:?}: give more of the name")]
    Several {
        /// What was looked for.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// The folder cannot be read.
    #[error("the recordings in {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Store {
    /// Opens the store, and makes its folder (0700) if there is none.
    ///
    /// # Errors
    /// When the folder cannot be made or is not a folder.
    pub fn open(root: &Path) -> Result<Self, RecorderError> {
        if !root.is_dir() {
            let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
            let made = parent.map_or(Ok(()), fs::create_dir_all).and_then(|()| folder::make(root));
            made.map_err(|error| RecorderError::disk(root, error))?;
        }
        Ok(Self { root: root.to_owned(), packer: Arc::default(), today: Arc::default() })
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The compressors that its recordings share.
    pub(crate) fn packer(&self) -> Arc<Packer> {
        Arc::clone(&self.packer)
    }

    /// Where the recording with this header lies.
    #[must_use]
    pub fn folder(&self, header: &Header) -> PathBuf {
        folder::path_of(&self.root, header)
    }

    /// Opens a recording: its folder and manifest exist when this returns. Times in it count from now.
    ///
    /// # Errors
    /// When the disk refuses, or there is a recording of this session already.
    pub async fn create(&self, header: Header, signer: Arc<Signer>) -> Result<Recording, RecorderError> {
        let (root, packer, today) = (self.root.clone(), Arc::clone(&self.packer), Arc::clone(&self.today));
        let (id, started) = (header.id, header.started);
        let start = Event::Start {
            protocol: header.protocol.clone(),
            caller: header.caller.name(),
            target: header.target.name.clone(),
        };
        let writer = spawn_blocking(move || {
            let new = folder::create(&root, &today, &header)?;
            Writer::new(new, header, signer, packer)
        });
        let writer = writer.await.map_err(|_panicked| RecorderError::Stopped)??;
        let queue = Arc::new(Queue::new(Instant::now()));
        let (checkpoints, watch) = watch::channel(None);
        tokio::spawn(Driver { queue: Arc::clone(&queue), checkpoints, started }.run(writer));
        let recording = Recording::new(id, queue, watch);
        recording.event(start).await?;
        Ok(recording)
    }

    /// Every recording, the oldest first. Folders that are not named like one are passed over.
    ///
    /// # Errors
    /// When the store's folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<Stored>> {
        let mut found = vec![];
        for day in fs::read_dir(&self.root)? {
            let day = day?;
            let dated = day.file_name().to_str().is_some_and(|name| name.parse::<jiff::civil::Date>().is_ok());
            if !dated || !day.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(day.path())? {
                let entry = entry?;
                let id = entry.file_name().to_str().and_then(|name| name.parse::<SessionId>().ok());
                if let Some(id) = id
                    && entry.file_type()?.is_dir()
                {
                    found.push(Stored { id, folder: entry.path() });
                }
            }
        }
        found.sort_by_key(|stored| stored.id);
        Ok(found)
    }

    /// The one recording whose name begins with `prefix`.
    ///
    /// # Errors
    /// When none or several do, or the store cannot be read.
    pub fn find(&self, prefix: &str) -> Result<Stored, FindError> {
        let all = self.list().map_err(|source| FindError::Unreadable { path: self.root.clone(), source })?;
        let mut matches = all.into_iter().filter(|stored| stored.id.to_string().starts_with(prefix));
        match (matches.next(), matches.count()) {
            (None, _) => Err(FindError::None(prefix.to_owned())),
            (Some(stored), 0) => Ok(stored),
            (Some(_), others) => Err(FindError::Several { prefix: prefix.to_owned(), count: others + 1 }),
        }
    }
}
