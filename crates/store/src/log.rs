//! The log of a conference: what one turn adds to it, and what it adds up to.

use control::{Conference, ConferenceId, Event, Timestamp};

use crate::outbox::{NoticeId, OutgoingNotice};

/// A conference is replayed from a snapshot and fewer than that many events, give or take a turn.
pub const SNAPSHOT_EVERY: u64 = 256;

/// One turn of one conference.
#[derive(Clone, Debug)]
pub struct Commit {
    pub conference: ConferenceId,
    /// How many events the log holds before this turn. The commit is refused as [`crate::StoreError::Diverged`] if that
    /// is not so.
    pub position: u64,
    pub at: Timestamp,
    /// At least one. `CallPlaced` puts a call into the index; `Closed` removes the log and the calls.
    pub events: Vec<Event>,
    /// In the order they must be delivered in.
    pub notices: Vec<OutgoingNotice>,
    /// The conference after this turn, whenever [`wants_snapshot`] says so.
    pub snapshot: Option<Box<Conference>>,
}

/// Whether a turn that takes the log from `before` to `after` events should carry a snapshot.
pub fn wants_snapshot(before: u64, after: u64) -> bool {
    before / SNAPSHOT_EVERY != after / SNAPSHOT_EVERY
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many events the log holds after the turn.
    pub position: u64,
    /// The ids given to the notices, in their order.
    pub notices: Vec<NoticeId>,
}

/// A conference rebuilt from its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub conference: Conference,
    /// How many events its log holds.
    pub position: u64,
}
