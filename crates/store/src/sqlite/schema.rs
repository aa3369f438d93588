//! Connections, and the schema's versions: ordered, forward only, each remembered with a checksum of its text.
//!
//! Whatever is found is looked at through a connection that cannot write. Only what is known to be ours, of this version
//! or an older one, and undamaged, is opened for writing. A database is made, and one of an older version copied, under
//! another name first: whoever dies halfway leaves what was there before.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::check;
use super::partial::{Existing, Partial, with_end};
use crate::StoreError;
use crate::limits::WAL_BYTES_MAX;

/// All versions of the schema. What has been released is never edited: the checksum would say so.
///
/// The next one is a file and a line here, and a file of rows of the version before it in `tests/schemas`: the test there
/// fails without it.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_first", include_str!("migrations/0001_first.sql")),
    ("0002_retention", include_str!("migrations/0002_retention.sql")),
    ("0003_processes", include_str!("migrations/0003_processes.sql")),
];

/// `cnvk`: tells our files from those of others.
const APPLICATION_ID: i32 = 0x636e_766b;

/// Another process may be writing a directory file of thousands of users meanwhile.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// In pages of 4 KiB. Larger than SQLite's own default, so that a burst of calls does not wait for a checkpoint.
const CHECKPOINT_EVERY_PAGES: u32 = 4000;

/// Pages can be given back to the file system in small steps.
const INCREMENTAL: i64 = 2;

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// One of ours, of an earlier version: it has that many of the migrations.
    Older(usize),
    Current,
}

/// A connection for reading and writing, to what [`inspect`] found good.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| told(path, &error))?;
    connection.busy_timeout(BUSY_FOR)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| told(path, &error))?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_EVERY_PAGES)?;
    Ok(connection)
}

/// A connection that changes nothing, to whatever is there.
pub(super) fn connect_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| told(path, &error))?;
    connection.busy_timeout(BUSY_FOR)?;
    Ok(connection)
}

/// Finds out what is there, and refuses what must not be touched.
pub(super) fn inspect(path: &Path) -> Result<Found, StoreError> {
    let damaged = |why: &str| StoreError::Damaged { path: path.to_owned(), why: why.to_owned() };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let log = std::fs::metadata(with_end(path, "-wal"));
            return if log.is_ok_and(|log| log.len() > 0) {
                Err(damaged("it is missing, though its write-ahead log (-wal) is there"))
            } else {
                Ok(Found::Nothing)
            };
        }
        Err(error) => return Err(StoreError::Failed(format!("{}: {error}", path.display()))),
        Ok(found) if found.len() == 0 => return Err(damaged("it is empty: it was cut short")),
        Ok(_) => {}
    }
    let connection = connect_to_read(path)?;
    let applied = known(&connection, path)?;
    Ok(if applied == MIGRATIONS.len() { Found::Current } else { Found::Older(applied) })
}

/// How many of our migrations a database has.
pub(super) fn known(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let refused = |why: String| StoreError::Schema { path: path.to_owned(), why };
    let newer = |what: String| {
        refused(format!(
            "{what}, which this version of convoke does not know: use the version that made it. Nothing was changed"
        ))
    };
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let tables =
        number("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").map_err(|error| told(path, &error))?;
    let told = |error: rusqlite::Error| told(path, &error);
    let application = number("PRAGMA application_id").map_err(told)?;
    let version = number("PRAGMA user_version").map_err(told)?;
    let ours = number("SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'").map_err(told)? > 0;
    if (tables > 0 && !ours) || ![0, i64::from(APPLICATION_ID)].contains(&application) {
        return Err(refused("this is not a convoke database. Nothing was changed".to_owned()));
    }
    if version > MIGRATIONS.len() as i64 {
        return Err(newer(format!("its schema is number {version}")));
    }
    if !ours {
        return Ok(0);
    }
    let applied: Vec<(String, String)> = {
        let mut statement =
            connection.prepare("SELECT name, checksum FROM migrations ORDER BY number").map_err(told)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(told)?;
        rows.collect::<Result<_, _>>().map_err(told)?
    };
    if applied.len() > MIGRATIONS.len() {
        return Err(newer(format!("its schema is {}", applied[applied.len() - 1].0)));
    }
    for ((name, sum), (ours, text)) in applied.iter().zip(MIGRATIONS) {
        if name != ours || *sum != checksum(text) {
            return Err(refused(format!(
                "its schema {name} is not the one that this version of convoke knows. Nothing was changed"
            )));
        }
    }
    Ok(applied.len())
}

/// The name of the newest of so many versions.
pub(super) fn name(applied: usize) -> &'static str {
    applied.checked_sub(1).and_then(|last| MIGRATIONS.get(last)).map_or("nothing", |(name, _)| name)
}

/// Makes a database. Nothing has its name before it is whole; who else makes it at the same moment does no harm.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let end = format!(".new-{}", super::outbox::fresh_message_id()?.simple());
    let partial = Partial::create(with_end(path, &end)).map_err(failed)?;
    {
        let mut connection = Connection::open(partial.path())?;
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction()?;
        apply(&transaction, 0)?;
        transaction.commit()?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
    }
    match partial.publish(path, Existing::Refuse) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Brings an older database up to date in one transaction, after a copy of it was made. Nobody else may serve from it
/// meanwhile. Answers where the copy is.
pub(super) fn migrate(path: &Path, from: usize) -> Result<Option<PathBuf>, StoreError> {
    let mut connection = connect(path)?;
    check::sound(&connection, path, check::Depth::Everything)?;
    let copy = if from == 0 { None } else { Some(keep_copy(&connection, path, from)?) };
    // A version may make a table anew that others refer to; what refers to what is looked at afterwards.
    connection.pragma_update(None, "foreign_keys", false)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let migrated = known(&transaction, path)
        .and_then(|applied| apply(&transaction, applied))
        .and_then(|()| check::sound(&transaction, path, check::Depth::Everything));
    let committed = migrated.and_then(|()| Ok(transaction.commit()?));
    committed.map_err(|error| StoreError::Schema {
        path: path.to_owned(),
        why: format!(
            "cannot be brought from {} to {}: {error}. It is as it was: go on with the version of convoke that made it",
            name(from),
            name(MIGRATIONS.len()),
        ),
    })?;
    // Not worth failing for: without it the file only does not shrink, and the next start tries again.
    if let Err(error) = make_shrinkable(&connection) {
        tracing::warn!(%error, "the database cannot be made to shrink");
    }
    Ok(copy)
}

fn apply(transaction: &Transaction<'_>, from: usize) -> Result<(), StoreError> {
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    for (number, (name, text)) in MIGRATIONS.iter().enumerate().skip(from) {
        transaction.execute_batch(text)?;
        transaction.execute(
            "INSERT INTO migrations VALUES (?1, ?2, ?3, unixepoch())",
            (number as i64 + 1, name, checksum(text)),
        )?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(())
}

/// `convoke.db.before-0002_retention`: the database as it was, which the version that made it can use. One of an attempt
/// that failed is replaced.
fn keep_copy(connection: &Connection, path: &Path, from: usize) -> Result<PathBuf, StoreError> {
    let kept = with_end(path, &format!(".before-{}", name(from + 1)));
    let failed = |error: io::Error| StoreError::Failed(format!("no copy can be kept: {}: {error}", kept.display()));
    let partial = Partial::create(with_end(&kept, ".partial")).map_err(failed)?;
    super::backup::copy(connection, partial.path())?;
    partial.publish(&kept, Existing::Replace).map_err(failed)?;
    Ok(kept)
}

/// Rewrites a database whose file cannot shrink.
pub(super) fn make_shrinkable(connection: &Connection) -> Result<(), StoreError> {
    let mode: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if mode != INCREMENTAL {
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        connection.execute_batch("VACUUM")?;
    }
    Ok(())
}

/// An error that names the file it is about.
pub(super) fn told(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.to_owned(), why: format!("it is damaged: {error}") }
        }
        _ => StoreError::Failed(format!("{}: {error}", path.display())),
    }
}

/// FNV-1a: it finds a slip of an editor, which is all it is for.
fn checksum(text: &str) -> String {
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}
