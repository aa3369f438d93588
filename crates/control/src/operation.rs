//! Long-running work that a client asked for, the people it has asked in, and how it ended.

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::identity::Identity;
use crate::ids::{CallId, ConferenceId, LegId, OperationId, ParticipantId, Timestamp};
use crate::leg::Target;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub call: CallId,
    pub client_context: Option<String>,
    pub repeat: Repeat,
    pub started: Timestamp,
    /// Everyone the client named, in its order, with how it went.
    pub invited: Vec<Invited>,
    /// One who did not come makes it fail (OQ-6).
    pub all_or_failed: bool,
    pub status: Status,
}

/// What makes a second request the same as the first (INV-33).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// A digest of the parsed body.
    pub fingerprint: String,
    pub client_request_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    pub participant: ParticipantId,
    pub identity: Identity,
    /// What the client sent of this invitee and reads back: JSON that only the API writes and reads.
    pub echo: String,
    pub fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    Pending,
    Joined,
    Missed(Cause),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Running,
    /// All, or at least one, joined (OQ-6); who did not is in `invited`.
    Completed {
        at: Timestamp,
    },
    /// Nobody joined. The call's own end has a cause that is no invitee's.
    Failed {
        at: Timestamp,
        because: Option<Cause>,
    },
}

/// Someone asked for, and not yet on the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub identity: Identity,
    pub hidden: bool,
    pub arrival: Arrival,
    /// Rings, or waits for the other conference, until then.
    pub until: Timestamp,
    pub purpose: Purpose,
}

/// How the invitee comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// Rings.
    Dialed(LegId),
    /// Is talking in another conference and is re-attached here without ringing.
    Borrowed { from: ConferenceId },
}

/// Who waits for the invitee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The call itself, whose target this is.
    Call(CallId),
    Operation(OperationId),
}

/// A person the API asks `control` to bring in, with everything a decision needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitee {
    /// Fresh.
    pub participant: ParticipantId,
    pub identity: Identity,
    pub hidden: bool,
    pub reach: Reach,
    pub echo: String,
}

/// How to bring an invitee in, as far as the directory and the other conference could say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Ring, over this fresh leg.
    Dial { leg: LegId, target: Target },
    /// Replace a peer-to-peer call of the same application: INV-13 to INV-17.
    Replace { conference: ConferenceId, call: CallId },
    /// Move from a group call or meeting of the same application: INV-18 to INV-21.
    Move { conference: ConferenceId, call: CallId, participant: ParticipantId },
    /// It is known already that it cannot be done.
    Impossible(Cause),
}

impl Operation {
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Running)
    }
}
