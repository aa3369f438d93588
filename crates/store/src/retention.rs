//! How long is kept what nobody needs for a call any more.
//!
//! Most things need no such rule: the log of a conference goes in the transaction that closes it, and a notice in the one
//! that notes its delivery. Bounds are needed for what waits for somebody: dead letters for the operator, meetings for
//! whoever has their link, registrations for a phone that never comes back.

use std::time::Duration;

/// What the operator wants kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Dead letters, counted from when they were given up or, later, put back or delivered (OQ-9).
    pub dead_letters: Duration,
    /// The newest that many.
    pub dead_letters_max: u64,
    /// Meetings, counted from their end or, later, from when they were last held.
    pub meetings: Duration,
}

/// What one step of a sweep did, and what the database is like after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Deleted because of their age.
    pub dead_letters: usize,
    /// Deleted because there were too many.
    pub dead_letters_crowded_out: usize,
    pub meetings: usize,
    pub registrations: usize,
    /// Given back to the file system.
    pub reclaimed_bytes: u64,
    /// Whether there is more to do.
    pub more: bool,
    /// The size of the database without its write-ahead log.
    pub bytes: u64,
    /// Of that, what holds nothing.
    pub free_bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            dead_letters: Duration::from_hours(7 * 24),
            dead_letters_max: 100_000,
            meetings: Duration::from_hours(60 * 24),
        }
    }
}
