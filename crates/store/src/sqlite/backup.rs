//! A backup: everything a server needs, in one file, taken while it runs; and the way back.
//!
//! The file is an SQLite database: a copy of ours as it was at one moment, and two more tables that hold the files that lie
//! beside it (the certificate authority) and what the backup is. A checksum over all rows is made when it is taken, so
//! that not only a broken page but a flipped bit is found before anything is restored from it.
//!
//! ```text
//!   convoke.db  --- pages as of one moment ---> .FILE.partial  --- checked, synced ---> FILE
//!   ca*.pem     --- rows of backup_files ------^
//! ```

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use control::Timestamp;
use rusqlite::backup::{Backup as Copying, StepResult};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::check::{self, Depth};
use super::partial::{Existing, Partial, sync_folder, with_end};
use super::schema::{self, Found};
use super::{DATABASE, LOCK, RESTORING, lock};
use crate::StoreError;
use crate::limits::BACKUP_PAGES;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot {doing} {}: {error}", path.display())]
    File { doing: &'static str, path: PathBuf, error: io::Error },
    #[error("there is no database in {}", .0.display())]
    Nothing(PathBuf),
    #[error("{} exists already: name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    #[error("another backup to {} is under way", .0.display())]
    UnderWay(PathBuf),
    #[error("the backup could not be written: {0}. What was there is as it was")]
    NotWritten(String),
    #[error("{} is not a backup of convoke: {why}", path.display())]
    NotABackup { path: PathBuf, why: String },
    #[error("{} is damaged: {why}. Nothing was restored; use an older backup", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} is not empty: name another directory, or move aside what convoke keeps there with --force", .0.display())]
    NotEmpty(PathBuf),
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub made: Timestamp,
    /// The version of convoke that made it.
    pub by: String,
    /// The newest version of the schema that it has.
    pub schema: String,
    /// The files that lie beside the database.
    pub files: Vec<String>,
    /// The size of the backup.
    pub bytes: u64,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub backup: Backup,
    /// Where what was there before is.
    pub aside: Option<PathBuf>,
}

/// Takes a backup of a data directory, whether a server runs on it or not. Everything that was committed before the call
/// is in it. `beside` names the files to take along; those that do not exist are left out.
///
/// `file` appears once all is checked and on disk; until then, and if it fails, what had its name is as it was.
pub fn back_up(
    directory: &Path,
    file: &Path,
    beside: &[&str],
    by: &str,
    made: Timestamp,
    existing: Existing,
) -> Result<Backup, BackupError> {
    if existing == Existing::Refuse && file.exists() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let database = directory.join(DATABASE);
    if schema::inspect(&database)? == Found::Nothing {
        return Err(BackupError::Nothing(directory.to_owned()));
    }
    let partial = Partial::create(partial_name(file)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => BackupError::UnderWay(file.to_owned()),
        _ => BackupError::File { doing: "write", path: file.to_owned(), error },
    })?;
    copy(&schema::connect_to_read(&database)?, partial.path()).map_err(not_written)?;
    let path = partial.path().to_owned();
    let connection = Connection::open(&path).map_err(|error| not_written(error.into()))?;
    check::sound(&connection, &database, Depth::Everything)?;
    let files = beside.iter().filter_map(|name| read_beside(directory, name).transpose()).collect::<Result<_, _>>()?;
    describe(&connection, made, by, files).map_err(not_written)?;
    drop(connection);
    partial.publish(file, existing).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => BackupError::File { doing: "write", path: file.to_owned(), error },
    })?;
    Ok(read_back(file)?.0)
}

/// What a backup holds, after all of it was read and found sound.
pub fn inspect_backup(file: &Path) -> Result<Backup, BackupError> {
    let (backup, connection) = read_back(file)?;
    let damaged = |why: String| BackupError::Damaged { path: file.to_owned(), why };
    check::sound(&connection, file, Depth::Everything).map_err(|error| match error {
        StoreError::Damaged { why, .. } => damaged(why),
        error => error.into(),
    })?;
    let noted: String = connection
        .query_row("SELECT checksum FROM backup", [], |row| row.get(0))
        .map_err(|error| damaged(error.to_string()))?;
    if checksum(&connection)? != noted {
        return Err(damaged("its rows are not those that were written".to_owned()));
    }
    Ok(backup)
}

/// Makes a data directory of a backup, which is checked first. With [`Existing::Replace`], what convoke keeps there is moved
/// aside; `derived` names files that were made from what is replaced, and are moved along. Never while a server runs
/// there.
pub fn restore(file: &Path, directory: &Path, derived: &[&str], existing: Existing) -> Result<Restored, BackupError> {
    let backup = inspect_backup(file)?;
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::File { doing, path, error }
    };
    fs::create_dir_all(directory).map_err(failed("make", directory))?;
    let entries = fs::read_dir(directory).map_err(failed("read", directory))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed("read", directory))?.file_name().to_string_lossy().into_owned());
    }
    // What a restore that was cut short has left is no reason to stop; nor is what a fresh file system holds.
    names.retain(|name| name != LOCK && name != "lost+found" && !name.ends_with(RESTORING));
    if existing == Existing::Refuse && !names.is_empty() {
        return Err(BackupError::NotEmpty(directory.to_owned()));
    }
    let _lock = lock(directory)?;

    // Everything is made ready under other names…
    let database = directory.join(DATABASE);
    let stage = |name: &str| {
        let path = with_end(&directory.join(name), RESTORING);
        Partial::create(path.clone()).map_err(failed("write", &path))
    };
    let staged_database = stage(DATABASE)?;
    let source = schema::connect_to_read(file)?;
    copy(&source, staged_database.path())?;
    {
        let connection = Connection::open(staged_database.path()).map_err(StoreError::from)?;
        connection
            .execute_batch("DROP TABLE backup_files; DROP TABLE backup; PRAGMA journal_mode = WAL")
            .map_err(StoreError::from)?;
        check::sound(&connection, staged_database.path(), Depth::Everything)?;
    }
    let mut staged_files = Vec::new();
    for beside in beside_of(&source)? {
        let staged = stage(&beside.name)?;
        let path = staged.path().to_owned();
        fs::write(&path, &beside.content).map_err(failed("write", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(beside.mode)).map_err(failed("write", &path))?;
        staged_files.push((beside.name, staged));
    }

    // …what was there goes aside…
    let database_files = ["", "-wal", "-shm"].map(|end| format!("{DATABASE}{end}"));
    let of_ours = database_files
        .iter()
        .map(String::as_str)
        .chain(backup.files.iter().map(String::as_str))
        .chain(derived.iter().copied())
        .filter(|name| directory.join(name).exists())
        .collect::<Vec<_>>();
    let aside = if of_ours.is_empty() { None } else { Some(move_aside(directory, &of_ours)?) };

    // …and the new takes its place, the database last: until then the directory is not served.
    for (name, staged) in staged_files {
        let path = directory.join(name);
        staged.publish(&path, Existing::Replace).map_err(failed("write", &path))?;
    }
    staged_database.publish(&database, Existing::Replace).map_err(failed("write", &database))?;
    Ok(Restored { backup, aside })
}

/// Copies a database, as it is at this moment, over the file at `to`. The copy is one file without side files.
///
/// A transaction is open meanwhile: it keeps what the copy sees as it was, so that those who go on writing, in this process
/// or another, neither wait for it nor make it begin again.
pub(super) fn copy(from: &Connection, to: &Path) -> Result<(), StoreError> {
    let transaction = from.unchecked_transaction()?;
    transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    let mut copy = Connection::open(to)?;
    // It is synced as a whole before it gets its name, and worth nothing before.
    copy.pragma_update(None, "synchronous", "OFF")?;
    {
        let copying = Copying::new(&transaction, &mut copy)?;
        loop {
            match copying.step(BACKUP_PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                // Nobody else has the copy open, and the transaction holds the original.
                StepResult::Busy | StepResult::Locked => {
                    return Err(StoreError::Failed("the database is locked".to_owned()));
                }
                other => return Err(StoreError::Failed(format!("the copy stopped: {other:?}"))),
            }
        }
    }
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}

/// Hidden, and in the same folder, so that it can be renamed.
fn partial_name(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.partial"))
}

/// A file that lies beside the database.
struct Beside {
    name: String,
    mode: u32,
    content: Vec<u8>,
}

fn read_beside(directory: &Path, name: &str) -> Result<Option<Beside>, BackupError> {
    let path = directory.join(name);
    let read = fs::metadata(&path).and_then(|found| Ok((found.permissions().mode(), fs::read(&path)?)));
    match read {
        Ok((mode, content)) => Ok(Some(Beside { name: name.to_owned(), mode: mode & 0o777, content })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::File { doing: "read", path, error }),
    }
}

/// Adds what makes a copy a backup.
fn describe(copy: &Connection, made: Timestamp, by: &str, files: Vec<Beside>) -> Result<(), StoreError> {
    let transaction = copy.unchecked_transaction()?;
    transaction.execute_batch(
        "CREATE TABLE backup_files (name TEXT NOT NULL PRIMARY KEY, mode INTEGER NOT NULL, content BLOB NOT NULL) STRICT;
         CREATE TABLE backup (
             one INTEGER PRIMARY KEY CHECK (one = 1), made INTEGER NOT NULL, by TEXT NOT NULL, checksum TEXT NOT NULL
         ) STRICT;",
    )?;
    for file in files {
        transaction.execute("INSERT INTO backup_files VALUES (?1, ?2, ?3)", (file.name, file.mode, file.content))?;
    }
    let checksum = checksum(&transaction)?;
    transaction.execute("INSERT INTO backup VALUES (1, ?1, ?2, ?3)", (made.0, by, checksum))?;
    transaction.commit()?;
    Ok(())
}

/// What a backup says of itself.
fn read_back(file: &Path) -> Result<(Backup, Connection), BackupError> {
    let bytes =
        fs::metadata(file).map_err(|error| BackupError::File { doing: "read", path: file.to_owned(), error })?.len();
    let connection = schema::connect_to_read(file)?;
    let not_a_backup = |why: &str| BackupError::NotABackup { path: file.to_owned(), why: why.to_owned() };
    let applied = schema::known(&connection, file).map_err(|error| match error {
        StoreError::Damaged { why, path } => BackupError::Damaged { path, why },
        error => error.into(),
    })?;
    let told = |error: rusqlite::Error| BackupError::Damaged { path: file.to_owned(), why: error.to_string() };
    let described = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'backup'", [], |_| Ok(()))
        .optional()
        .map_err(told)?;
    if described.is_none() {
        return Err(not_a_backup("make one with `convoke backup`"));
    }
    let (made, by) =
        connection.query_row("SELECT made, by FROM backup", [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(told)?;
    let files = {
        let mut statement = connection.prepare("SELECT name FROM backup_files ORDER BY name").map_err(told)?;
        let names = statement.query_map([], |row| row.get(0)).map_err(told)?;
        names.collect::<Result<Vec<String>, _>>().map_err(told)?
    };
    // A name is a name in the data directory, and no way out of it.
    if files.iter().any(|name| name.contains(['/', '\\']) || name.starts_with('.') || name.starts_with(DATABASE)) {
        return Err(not_a_backup("it names files that are not ours"));
    }
    let backup = Backup { made: Timestamp(made), by, schema: schema::name(applied).to_owned(), files, bytes };
    Ok((backup, connection))
}

fn beside_of(backup: &Connection) -> Result<Vec<Beside>, StoreError> {
    let mut statement = backup.prepare("SELECT name, mode, content FROM backup_files ORDER BY name")?;
    let files = statement.query_map([], |row| {
        Ok(Beside { name: row.get(0)?, mode: row.get::<_, u32>(1)? & 0o777, content: row.get(2)? })
    })?;
    Ok(files.collect::<Result<_, _>>()?)
}

/// Of all rows of all tables but the one it is noted in: the sum of their digests, so that their order does not matter.
fn checksum(db: &Connection) -> Result<String, StoreError> {
    let tables: Vec<String> = {
        let mut statement = db.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'backup' AND name NOT LIKE 'sqlite_stat%'",
        )?;
        let names = statement.query_map([], |row| row.get(0))?;
        names.collect::<Result<_, _>>()?
    };
    let mut sum = [0_u64; 4];
    for table in tables {
        let mut statement = db.prepare(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut digest = Sha256::new();
            let mut add = |kind: u8, bytes: &[u8]| {
                digest.update([kind]);
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            };
            add(b't', table.as_bytes());
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => add(b'n', &[]),
                    ValueRef::Integer(number) => add(b'i', &number.to_le_bytes()),
                    ValueRef::Real(number) => add(b'r', &number.to_le_bytes()),
                    ValueRef::Text(text) => add(b's', text),
                    ValueRef::Blob(bytes) => add(b'b', bytes),
                }
            }
            for (part, bytes) in sum.iter_mut().zip(digest.finalize().chunks_exact(8)) {
                let mut word = [0; 8];
                word.copy_from_slice(bytes);
                *part = part.wrapping_add(u64::from_le_bytes(word));
            }
        }
    }
    let [first, second, third, fourth] = sum;
    Ok(format!("{first:016x}{second:016x}{third:016x}{fourth:016x}"))
}

/// Moves files into a new folder beside them, the database first: without it nothing is served.
fn move_aside(directory: &Path, names: &[&str]) -> Result<PathBuf, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::File { doing: "move aside", path, error }
    };
    let mut number = 1;
    let aside = loop {
        let aside = directory.join(format!("before-restore-{number}"));
        match fs::create_dir(&aside) {
            Ok(()) => break aside,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed(&aside)(error)),
        }
    };
    fs::set_permissions(&aside, Permissions::from_mode(0o700)).map_err(failed(&aside))?;
    for name in names {
        let path = directory.join(name);
        fs::rename(&path, aside.join(name)).map_err(failed(&path))?;
    }
    File::open(&aside).and_then(|folder| folder.sync_all()).map_err(failed(&aside))?;
    sync_folder(&aside).map_err(failed(&aside))?;
    Ok(aside)
}

fn not_written(error: StoreError) -> BackupError {
    match error {
        StoreError::Failed(why) => BackupError::NotWritten(why),
        error => error.into(),
    }
}
