//! One application's hold on a conference, and the states it goes through.

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::identity::Identity;
use crate::ids::{AppId, CallId, ChainId, ParticipantId, ScenarioId, TenantId, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub id: CallId,
    pub facts: CallFacts,
    pub state: CallState,
    pub audio: Audio,
    /// Why the last of its targets did not come.
    pub missed: Option<Cause>,
    /// Delta rosters told so far: the sequence number of the last (ROS-3).
    pub deltas: u64,
}

/// What is known of a call from the moment it is placed, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    pub app: AppId,
    pub tenant: TenantId,
    /// The application's own entry on the roster: Graph's `myParticipantId`.
    pub me: ParticipantId,
    /// The application as others see it.
    pub identity: Identity,
    /// Where its notifications go, byte for byte as the client wrote it.
    pub callback: String,
    pub surface: Surface,
    pub scenario: ScenarioId,
    pub chain: ChainId,
    /// Only the changed entries are sent, as `deltaParticipants` (ROS-3).
    pub delta_roster: bool,
    /// Out of everybody else's roster once the call has become a group call (INV-31).
    pub hide_after_escalation: bool,
    /// What the client sent and will read back (`targets`, `mediaConfig`, `subject`, …): JSON that only the API writes
    /// and reads.
    pub echo: String,
}

/// The version of the API that the call was made through: what may be said to this application (OQ-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surface {
    V1,
    Beta,
}

/// Each state holds what is true in it, and nothing else.
///
/// Every state but the last says until when, so that no call waits for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallState {
    /// Placed; nobody has connected yet.
    Establishing {
        ringing: bool,
        give_up_at: Timestamp,
    },
    Established {
        since: Timestamp,
        held: bool,
        keep_alive_by: Timestamp,
    },
    /// The application hung up; the far end has yet to confirm.
    Terminating {
        cause: Cause,
        give_up_at: Timestamp,
    },
    Terminated {
        cause: Cause,
    },
}

/// Whether the application was told that its audio flows, which it is exactly once (contract 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audio {
    NotYet,
    /// Connected; the first packet, or this moment, makes it active.
    ActiveBy(Timestamp),
    Active,
}

impl Call {
    pub fn is_over(&self) -> bool {
        matches!(self.state, CallState::Terminated { .. })
    }

    /// Established, on hold or not: others may be invited (INV-4).
    pub fn is_established(&self) -> bool {
        matches!(self.state, CallState::Established { .. })
    }
}
