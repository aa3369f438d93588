//! What can go wrong with a store, by what the caller can do about it.

use std::path::PathBuf;

use control::ConferenceId;
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// More is asked of the store than it can write: come back later.
    #[error("the store has too much to write")]
    Overloaded,
    /// The disk is full, the file cannot be written, the database refuses.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The writer has ended: the store is being closed.
    #[error("the store is closed")]
    Closed,
    /// The log has grown past what the caller believed; what it believed is wrong.
    #[error("the log of conference {0} is not where it was thought to be")]
    Diverged(ConferenceId),
    /// A log that does not read. It is left as it is.
    #[error("the log of conference {conference} cannot be read: {why}")]
    Unreadable { conference: ConferenceId, why: String },
    /// A row that does not read.
    #[error("{what} in the database cannot be read: {why}")]
    Corrupt { what: String, why: String },
    /// Something must be unique and is not, or is still needed by something else. A sentence for the operator.
    #[error("{0}")]
    Taken(String),
    /// The database was made by a newer version, or by something else.
    #[error("{}: {why}", path.display())]
    Schema { path: PathBuf, why: String },
    /// The file is not what SQLite wrote. Nothing was written to it.
    #[error("{}: {why}. Nothing was changed: keep a copy of it, and restore a backup with `convoke restore`", path.display())]
    Damaged { path: PathBuf, why: String },
    /// Another server uses the same data directory.
    #[error("{} is in use by another convoke server", path.display())]
    InUse { path: PathBuf },
}
