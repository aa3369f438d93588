//! Whether a database is sound, and how large it is: what `convoke doctor` asks.

use std::path::Path;

use rusqlite::Connection;

use super::DATABASE;
use super::partial::with_end;
use super::schema::{self, Found};
use crate::StoreError;
use crate::limits::DAMAGES_MAX;

/// How closely a database is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The structure of every page.
    Structure,
    /// Also that indexes and tables agree, and that what refers to something refers to something that is there.
    Everything,
}

/// What was found out about the database of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The newest version of the schema that it has.
    pub schema: &'static str,
    /// Whether the next start has nothing to bring up to date.
    pub current: bool,
    /// What is wrong, at most ten of them; empty: it is sound.
    pub damages: Vec<String>,
    /// The size of the file, of what in it holds nothing, and of the write-ahead log.
    pub bytes: u64,
    pub free_bytes: u64,
    pub log_bytes: u64,
    /// Conferences that have not closed, notices that are owed, dead letters that were given up.
    pub conferences: u64,
    pub owed: u64,
    pub given_up: u64,
}

/// Looks at the database of a data directory without changing it, whether a server runs or not. `None`: there is none yet.
/// Takes a second or so per GiB.
pub fn examine(directory: &Path) -> Result<Option<Examined>, StoreError> {
    let path = directory.join(DATABASE);
    let current = match schema::inspect(&path)? {
        Found::Nothing => return Ok(None),
        Found::Older(_) => false,
        Found::Current => true,
    };
    let connection = schema::connect_to_read(&path)?;
    // One picture of it, while others go on writing.
    let transaction = connection.unchecked_transaction()?;
    let number = |sql: &str| -> Result<u64, StoreError> {
        let number: i64 =
            transaction.query_row(sql, [], |row| row.get(0)).map_err(|error| schema::told(&path, &error))?;
        Ok(u64::try_from(number).unwrap_or(0))
    };
    let damages = damages(&transaction, &path, Depth::Everything)?;
    let page_size = number("PRAGMA page_size")?;
    Ok(Some(Examined {
        schema: schema::name(schema::known(&transaction, &path)?),
        current,
        bytes: number("PRAGMA page_count")? * page_size,
        free_bytes: number("PRAGMA freelist_count")? * page_size,
        log_bytes: std::fs::metadata(with_end(&path, "-wal")).map_or(0, |log| log.len()),
        conferences: number("SELECT count(*) FROM conferences")?,
        owed: number("SELECT count(*) FROM outbox")?,
        given_up: number(if current {
            "SELECT count(*) FROM dead_letters WHERE fate = 0"
        } else {
            "SELECT count(*) FROM dead_letters"
        })?,
        damages,
    }))
}

/// Fails if a database is damaged.
pub(super) fn sound(connection: &Connection, path: &Path, depth: Depth) -> Result<(), StoreError> {
    match damages(connection, path, depth)?.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(StoreError::Damaged { path: path.to_owned(), why: format!("it is damaged: {first}") }),
    }
}

fn damages(connection: &Connection, path: &Path, depth: Depth) -> Result<Vec<String>, StoreError> {
    let pragma = match depth {
        Depth::Structure => "quick_check",
        Depth::Everything => "integrity_check",
    };
    let told = |error: rusqlite::Error| schema::told(path, &error);
    let mut damages: Vec<String> = Vec::new();
    {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}({DAMAGES_MAX})")).map_err(told)?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0)).map_err(told)?;
        for line in lines {
            match line {
                Ok(line) if line == "ok" => {}
                Ok(line) => damages.extend(line.lines().map(str::to_owned)),
                // So damaged that the check itself cannot go on.
                Err(error) => damages.push(error.to_string()),
            }
        }
    }
    if depth == Depth::Everything && damages.is_empty() {
        let mut statement = connection.prepare("PRAGMA foreign_key_check").map_err(told)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(told)?;
        for table in rows {
            damages.push(format!("a row of {} refers to nothing", table.map_err(told)?));
        }
    }
    damages.truncate(DAMAGES_MAX);
    Ok(damages)
}
