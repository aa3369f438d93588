//! What conferences say to one another when a person moves between them: durable, sent until acknowledged, taken once.
//!
//! ```text
//! target                                source
//!   | InvitationSent ---- Borrow ------>  |
//!   |                                     | LegLent (still heard in the source)
//!   | <---------------- Lent ----------   |      or Refused
//!   | LegTaken, ParticipantJoined         |
//!   | ------------------ Taken -------->  | LegGiven, ParticipantLeft
//! ```
//!
//! Only the target decides: its commit of `ParticipantJoined` is the hand-over. A source that hears nothing asks
//! (`Inquire`), and a target that knows of no hand-over answers `Never`.

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::identity::Who;
use crate::ids::{AppId, CallId, LegId, OperationId, ParticipantId, TenantId};
use crate::leg::{Snapshot, Target};
use crate::vocabulary::LegNews;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Lend the leg of this person for this invitation.
    Borrow {
        invitation: ParticipantId,
        app: AppId,
        tenant: TenantId,
        who: Who,
        from: Borrowed,
    },
    Lent {
        invitation: ParticipantId,
        leg: LegId,
        target: Target,
        snapshot: Snapshot,
        epoch: u32,
    },
    Refused {
        invitation: ParticipantId,
        cause: Cause,
    },
    /// The hand-over is written down. `operation` must be told to its application before the source's end is.
    Taken {
        leg: LegId,
        operation: Option<OperationId>,
    },
    Never {
        leg: LegId,
    },
    /// What became of the leg lent for this invitation?
    Inquire {
        invitation: ParticipantId,
        leg: LegId,
    },
    /// News of a leg that the source has lent or given away.
    Passed {
        leg: LegId,
        invitation: ParticipantId,
        news: LegNews,
    },
}

/// Whom the target wants, as the client named them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Borrowed {
    /// The far party of this peer-to-peer call, which ends with the hand-over (INV-15).
    PeerOf(CallId),
    /// This participant of a group call or meeting, in which the application's own call stays up (INV-21).
    Participant(CallId, ParticipantId),
}
