//! Notices that are owed to applications, and those that could not be delivered.

use std::fmt;

use control::{AppId, CallId, ChainId, OperationId, ScenarioId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The place of a notice in the outbox: grows with every notice, in the order of commits, and is never used again. The
/// order of the notices of one call is the order of their ids (CALL-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NoticeId(pub i64);

impl NoticeId {
    /// Before every notice.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A notification as it is written down with the turn that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingNotice {
    pub call: CallId,
    pub app: AppId,
    pub tenant: TenantId,
    /// Where it goes, byte for byte as the client wrote it.
    pub callback: String,
    pub scenario: ScenarioId,
    pub chain: ChainId,
    /// The JSON that is posted.
    pub body: String,
    /// Waits until the notice that settles this operation, of whatever call, was answered or given up (INV-16).
    pub after: Option<OperationId>,
    /// The operation whose end this notice tells.
    pub settles: Option<OperationId>,
    /// A whole roster: the next whole roster of the same call may take its place while it was not sent yet.
    pub full_roster: bool,
    /// The last notice of its call (CALL-2).
    pub ends_call: bool,
}

/// A notice in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingNotice {
    pub id: NoticeId,
    /// `X-Microsoft-Skype-Original-Message-ID`: the same over all redeliveries.
    pub message_id: Uuid,
    pub created: Timestamp,
    pub notice: OutgoingNotice,
}

/// What became of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Delivered,
    /// A newer whole roster went out in its place.
    Superseded,
    /// Given up: it becomes a dead letter. `status` is the last HTTP status, if there was any answer.
    Dead {
        status: Option<u16>,
        reason: String,
        attempts: u32,
    },
}

/// A notice that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// That of the notice when it was first given up; it keeps it however often it is put back.
    pub id: NoticeId,
    pub message_id: Uuid,
    pub created: Timestamp,
    /// When it was last given up, and why.
    pub died: Timestamp,
    pub status: Option<u16>,
    pub reason: String,
    /// All tries, those after it was put back too.
    pub attempts: u32,
    pub fate: Fate,
    /// How often it was put back.
    pub replays: u32,
    pub notice: OutgoingNotice,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits for somebody to put it back.
    GivenUp,
    /// It is in the outbox, since then.
    PutBack(Timestamp),
    /// It was put back, and delivered then.
    Delivered(Timestamp),
}
