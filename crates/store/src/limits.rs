//! The store's bounds on upkeep, each with its reason.

use std::time::Duration;

/// Rows that one step of a sweep deletes of each kind: a few milliseconds of the writer's time, which turns wait for.
pub const SWEEP_ROWS: usize = 100;

/// Pages that one step of a sweep gives back to the file system: a quarter of a MiB.
pub(crate) const RECLAIM_PAGES: u64 = 64;

/// Free pages that stay in the file, so that a burst finds room without growing it again: 4 MiB.
pub(crate) const FREE_PAGES_KEPT: u64 = 1024;

/// An expired registration is looked at for that long yet, by people; nobody is rung by it.
pub(crate) const EXPIRED_KEPT_FOR: Duration = Duration::from_mins(10);

/// Up to that size a database is checked whenever a server starts, which takes some hundredths of a second. A larger one
/// is checked by `convoke doctor`, before a migration, and in every backup.
pub(crate) const CHECKED_AT_START_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a check tells of a damaged database: the first few say it all.
pub(crate) const DAMAGES_MAX: usize = 10;

/// Pages copied in one step of a backup: 4 MiB.
pub(crate) const BACKUP_PAGES: i32 = 1024;

/// Another process that brings the schema up to date is waited for that long.
pub(crate) const MIGRATED_WITHIN: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to that after a burst.
pub(crate) const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
