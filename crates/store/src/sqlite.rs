//! The store in one SQLite file: one thread writes, a few read, and a commit is on disk when it is answered.

mod directory;
mod log;
mod meetings;
mod outbox;
mod rows;
mod schema;
mod threads;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use async_trait::async_trait;
use control::{AppId, CallId, ConferenceId, TenantId, Timestamp, UserId};
use rusqlite::Connection;

use crate::{
    Binding, Change, Commit, Committed, DeadLetter, Directory, DirectoryKey, DirectorySet, Loaded, Meeting, MeetingKey,
    NoticeId, Obtained, PendingNotice, Purpose, Settled, SigningKey, Store, StoreError,
};
use threads::{Readers, Writer};

/// How a data directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the server: nobody else may serve from the same directory.
    Serve,
    /// By a command of the operator, whether a server runs or not.
    Command,
}

/// A data directory's database, `convoke.db`.
#[derive(Debug)]
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
    /// Held as long as the server runs.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens the database in `directory`, which must exist, and brings its schema up to date.
    pub fn open(directory: &Path, access: Access) -> Result<Self, StoreError> {
        let lock = match access {
            Access::Serve => Some(lock(directory)?),
            Access::Command => None,
        };
        let path = directory.join("convoke.db");
        reserve(&path)?;
        let mut connection = schema::connect(&path)?;
        schema::migrate(&mut connection, &path)?;
        outbox::forget_dead(&connection, wall_clock())?;
        let readers = match access {
            Access::Serve => READERS,
            Access::Command => 1,
        };
        let readers = (0..readers).map(|_| schema::connect(&path)).collect::<Result<_, _>>()?;
        Ok(Self { writer: Writer::start(connection)?, readers: Readers::start(readers)?, _lock: lock })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(work).await
    }
}

/// Enough for the API's look-ups, which take microseconds each.
const READERS: usize = 3;

/// Taken beside the database and not on it, so that commands can work while the server runs.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("serve.lock");
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Keys lie in it: only its owner may read it. SQLite gives its side files the same rights.
fn reserve(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(path);
    opened.map(drop).map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))
}

fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let turn = log::Turn::new(commit)?;
        self.write(move |db| turn.write(db)).await
    }

    async fn load(&self, conference: ConferenceId) -> Result<Option<Loaded>, StoreError> {
        let found = self.read(move |db| log::read(db, conference)).await?;
        found.map(|written| written.replay(conference)).transpose()
    }

    async fn live_conferences(&self) -> Result<Vec<ConferenceId>, StoreError> {
        self.read(log::live).await
    }

    async fn conference_of(&self, call: CallId) -> Result<Option<ConferenceId>, StoreError> {
        self.read(move |db| log::conference_of(db, call)).await
    }

    async fn pending(&self, after: NoticeId, limit: usize) -> Result<Vec<PendingNotice>, StoreError> {
        self.read(move |db| outbox::pending(db, after, limit)).await
    }

    async fn settle(&self, at: Timestamp, settled: Vec<(NoticeId, Settled)>) -> Result<(), StoreError> {
        self.writer.run_patiently(move |db| outbox::settle(db, at, &settled)).await
    }

    async fn dead_letters(&self, app: Option<AppId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |db| outbox::dead_letters(db, app, limit)).await
    }

    async fn revive(&self, at: Timestamp, dead: Vec<NoticeId>) -> Result<usize, StoreError> {
        self.write(move |db| outbox::revive(db, at, &dead)).await
    }

    async fn directory_version(&self) -> Result<i64, StoreError> {
        self.read(directory::version).await
    }

    async fn directory(&self) -> Result<Directory, StoreError> {
        self.read(|db| Ok(Directory::new(directory::version(db)?, directory::read(db)?))).await
    }

    async fn apply(&self, set: DirectorySet, prune: bool) -> Result<Vec<Change>, StoreError> {
        self.write(move |db| directory::apply(db, set, prune)).await
    }

    async fn delete(&self, key: DirectoryKey) -> Result<bool, StoreError> {
        self.write(move |db| directory::delete(db, &key)).await
    }

    async fn create_meeting(&self, meeting: Meeting) -> Result<(), StoreError> {
        self.write(move |db| meetings::create(db, &meeting)).await
    }

    async fn create_or_get_meeting(&self, meeting: Meeting) -> Result<Obtained, StoreError> {
        self.write(move |db| meetings::create_or_get(db, meeting)).await
    }

    async fn update_meeting(&self, meeting: Meeting) -> Result<bool, StoreError> {
        self.write(move |db| meetings::update(db, &meeting)).await
    }

    async fn delete_meeting(&self, id: ConferenceId) -> Result<bool, StoreError> {
        self.write(move |db| meetings::delete(db, id)).await
    }

    async fn meeting(&self, key: MeetingKey) -> Result<Option<Meeting>, StoreError> {
        self.read(move |db| meetings::find(db, &key)).await
    }

    async fn meetings_of(
        &self,
        tenant: TenantId,
        organizer: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Meeting>, StoreError> {
        self.read(move |db| meetings::of(db, tenant, organizer, limit)).await
    }

    async fn put_bindings(&self, bindings: Vec<Binding>) -> Result<(), StoreError> {
        self.write(move |db| rows::put_bindings(db, &bindings)).await
    }

    async fn remove_bindings(&self, gone: Vec<(String, String)>) -> Result<(), StoreError> {
        self.write(move |db| rows::remove_bindings(db, &gone)).await
    }

    async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        self.read(rows::bindings).await
    }

    async fn keys(&self, purpose: Purpose) -> Result<Vec<SigningKey>, StoreError> {
        self.read(move |db| rows::keys(db, purpose)).await
    }

    async fn add_key(&self, key: SigningKey) -> Result<(), StoreError> {
        self.write(move |db| rows::add_key(db, &key)).await
    }

    async fn retire_key(&self, kid: &str, at: Timestamp) -> Result<bool, StoreError> {
        let kid = kid.to_owned();
        self.write(move |db| rows::retire_key(db, &kid, at)).await
    }

    async fn forget_keys(&self, before: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| rows::forget_keys(db, before)).await
    }

    async fn secret(&self, name: &str) -> Result<[u8; 32], StoreError> {
        let name = name.to_owned();
        self.write(move |db| rows::secret(db, &name)).await
    }
}
