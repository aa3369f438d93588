//! What each application is told of a turn, and in which order. Graph's JSON for it is the API's business.

use crate::cause::Cause;
use crate::conference::Conference;
use crate::ids::{CallId, OperationId};
use crate::vocabulary::Event;

/// One notification of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub call: CallId,
    pub news: News,
    /// The operation of any call whose terminal notification must be answered or given up before this one is sent.
    pub after: Option<OperationId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// `updated` on the call.
    State(Shown),
    /// `updated` on the call: the audio became active or inactive.
    Audio { active: bool, held: bool },
    /// `updated` on the call: it has a chat from here on (INV-31).
    Chat,
    /// `deleted` on the operation: it is over (INV-26).
    Operation(OperationId),
    /// `updated` on the participants: as seen by this call, whole or the changed entries of `delta`.
    Roster { delta: Option<Delta> },
    /// `deleted` on the call: the last of its notices (CALL-2).
    Terminated(Cause),
}

/// The states that are told by an `updated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Establishing,
    /// Beta only (OQ-23).
    Ringing,
    Established,
    Terminating,
}

/// What changed in the roster since the last delta (ROS-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub sequence: u64,
    /// The first delta carries everybody.
    pub first: bool,
    pub changed: Vec<crate::ids::ParticipantId>,
    pub removed: Vec<(crate::ids::ParticipantId, crate::identity::Identity, Cause)>,
}

/// The notices of a turn, for every call of the conference, in the order they must be delivered in.
///
/// States come from the events, not from the conference after them; `conference` is the one after the turn.
pub fn notices(_conference: &Conference, _events: &[Event]) -> Vec<Notice> {
    Vec::new()
}
