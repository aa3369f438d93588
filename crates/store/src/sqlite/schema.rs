//! Connections, and the schema's versions: ordered, forward only, each remembered with a checksum of its text.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;

/// All versions of the schema. What has been released is never edited: the checksum would say so.
const MIGRATIONS: &[(&str, &str)] = &[("0001_first", include_str!("migrations/0001_first.sql"))];

/// Another process may be writing a directory file of thousands of users meanwhile.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// In pages of 4 KiB. Larger than SQLite's own default, so that a burst of calls does not wait for a checkpoint.
const CHECKPOINT_EVERY_PAGES: u32 = 4000;

pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY_FOR)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A file that is no database says so at the first pragma that reads it.
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(|error| StoreError::Schema { path: path.to_owned(), why: format!("cannot be opened: {error}") })?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_EVERY_PAGES)?;
    Ok(connection)
}

/// Applies the versions that are missing, in one transaction; several processes may try at once.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let refused = |why: String| StoreError::Schema { path: path.to_owned(), why };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))?;
    let known: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'", [], |row| row.get(0))?;
    if tables > 0 && known == 0 {
        return Err(refused("this is not a convoke database".to_owned()));
    }
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    let applied: Vec<(String, String)> = {
        let mut statement = transaction.prepare("SELECT name, checksum FROM migrations ORDER BY number")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    if applied.len() > MIGRATIONS.len() {
        let newest = &applied[applied.len() - 1].0;
        return Err(refused(format!(
            "its schema is {newest}, which this version of convoke does not know: use the version that made it"
        )));
    }
    for ((name, sum), (ours, text)) in applied.iter().zip(MIGRATIONS) {
        if name != ours || *sum != checksum(text) {
            return Err(refused(format!("its schema {name} is not the one that this version of convoke knows")));
        }
    }
    for (number, (name, text)) in MIGRATIONS.iter().enumerate().skip(applied.len()) {
        transaction.execute_batch(text)?;
        transaction.execute(
            "INSERT INTO migrations VALUES (?1, ?2, ?3, unixepoch())",
            (number as i64 + 1, name, checksum(text)),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// FNV-1a: it finds a slip of an editor, which is all it is for.
fn checksum(text: &str) -> String {
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(prepare: &str) -> Result<(), StoreError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("convoke.db");
        let mut connection = connect(&path).unwrap();
        connection.execute_batch(prepare).unwrap();
        migrate(&mut connection, &path)?;
        migrate(&mut connection, &path)
    }

    #[test]
    fn a_database_is_migrated_once() {
        assert_eq!(opened(""), Ok(()));
    }

    #[test]
    fn a_strange_database_is_refused_with_a_reason() {
        let why = |prepare: &str| opened(prepare).unwrap_err().to_string();
        assert!(why("CREATE TABLE cats (name)").ends_with("this is not a convoke database"));
        let table = "CREATE TABLE migrations (number INTEGER PRIMARY KEY, name, checksum, applied_at);";
        let first = MIGRATIONS[0].0;
        assert!(
            why(&format!("{table} INSERT INTO migrations VALUES (1, '{first}', 'edited', 0)")).contains("is not the")
        );
        let sum = checksum(MIGRATIONS[0].1);
        let newer = format!("INSERT INTO migrations VALUES (1, '{first}', '{sum}', 0), (99, '0099_later', '', 0)");
        assert!(why(&format!("{table} {newer}")).contains("use the version that made it"));
    }
}
