//! The store in one SQLite file: one thread writes, a few read, and a commit is on disk when it is answered.

mod backup;
mod check;
mod directory;
mod log;
mod meetings;
mod outbox;
mod partial;
mod rows;
mod schema;
mod sweep;
mod threads;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use control::{AppId, CallId, ConferenceId, TenantId, Timestamp, UserId};
use rusqlite::{Connection, ErrorCode};

use crate::limits::{CHECKED_AT_START_MAX_BYTES, MIGRATED_WITHIN};
use crate::{
    Binding, Change, Commit, Committed, DeadLetter, Directory, DirectoryKey, DirectorySet, Keep, Loaded, Meeting,
    MeetingKey, NoticeId, Obtained, PendingNotice, Purpose, Settled, SigningKey, Store, StoreError, Swept,
};
use schema::Found;
use threads::{Readers, Writer};

pub use backup::{Backup, BackupError, Restored, back_up, inspect_backup, restore};
pub use check::{Examined, examine};
pub use partial::Existing;

/// The database's name in the data directory.
pub const DATABASE: &str = "convoke.db";

/// Held by the server, and by whoever changes the whole database.
const LOCK: &str = "serve.lock";

/// The end of the names under which a restore makes everything ready.
const RESTORING: &str = ".restoring";

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
    /// Closed before the writer: SQLite writes its log back when the last connection closes, unless two do so at once.
    readers: Readers,
    writer: Writer,
    /// Held as long as the server runs.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens the database in `directory`, which must exist, and brings its schema up to date, of which a copy is kept.
    ///
    /// What is damaged, newer or not ours is refused and left as it is.
    pub fn open(directory: &Path, access: Access) -> Result<Self, StoreError> {
        let lock = match access {
            Access::Serve => Some(lock(directory)?),
            Access::Command => None,
        };
        let path = directory.join(DATABASE);
        bring_up_to_date(directory, &path, access)?;
        let connection = schema::connect(&path)?;
        if std::fs::metadata(&path).is_ok_and(|found| found.len() <= CHECKED_AT_START_MAX_BYTES) {
            check::sound(&connection, &path, check::Depth::Structure)?;
        }
        if access == Access::Serve
            && let Err(error) = schema::make_shrinkable(&connection)
        {
            tracing::warn!(%error, "the database cannot be made to shrink; the next start tries again");
        }
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

/// Makes the database, or migrates it. Only who may serve migrates, so that no running server is left with a schema that
/// it does not know.
fn bring_up_to_date(directory: &Path, path: &Path, access: Access) -> Result<(), StoreError> {
    let until = Instant::now() + MIGRATED_WITHIN;
    loop {
        let from = match schema::inspect(path)? {
            Found::Current => return Ok(()),
            Found::Nothing if directory.join(format!("{DATABASE}{RESTORING}")).exists() => {
                return Err(StoreError::Schema {
                    path: path.to_owned(),
                    why: "a restore was cut short: do it again with `convoke restore … --force`".to_owned(),
                });
            }
            Found::Nothing => return schema::create(path),
            Found::Older(from) => from,
        };
        let held = match access {
            Access::Serve => None,
            Access::Command => match lock(directory) {
                Ok(lock) => Some(lock),
                Err(StoreError::InUse { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Err(StoreError::InUse { .. }) => {
                    return Err(StoreError::Schema {
                        path: path.to_owned(),
                        why: format!(
                            "its schema is {}, and an older convoke serves it: stop that one first, or use its commands",
                            schema::name(from)
                        ),
                    });
                }
                Err(error) => return Err(error),
            },
        };
        let copy = schema::migrate(path, from)?;
        drop(held);
        if let Some(copy) = copy {
            tracing::info!(from = schema::name(from), copy = %copy.display(), "the database is brought up to date");
        }
    }
}

/// Taken beside the database and not on it, so that commands can work while the server runs.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Failed(format!("{error}: it is damaged; see `convoke doctor`"))
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[async_trait]
impl Store for Sqlite {
    fn behind(&self) -> Duration {
        self.writer.behind()
    }

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

    async fn dead_letter(&self, id: NoticeId) -> Result<Option<DeadLetter>, StoreError> {
        self.read(move |db| outbox::dead_letter(db, id)).await
    }

    async fn given_up(&self, app: Option<AppId>, after: NoticeId, limit: usize) -> Result<Vec<NoticeId>, StoreError> {
        self.read(move |db| outbox::given_up(db, app, after, limit)).await
    }

    async fn revive(&self, at: Timestamp, dead: Vec<NoticeId>) -> Result<usize, StoreError> {
        self.write(move |db| outbox::revive(db, at, dead)).await
    }

    async fn sweep(&self, now: Timestamp, keep: Keep) -> Result<Swept, StoreError> {
        self.writer.run_patiently(move |db| sweep::step(db, now, &keep)).await
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

    async fn next_process(&self, now: Timestamp) -> Result<u32, StoreError> {
        self.write(move |db| rows::next_process(db, now)).await
    }
}
