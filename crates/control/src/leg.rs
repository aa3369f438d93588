//! A connection to an endpoint: dialled, talking, lent to another conference, or being hung up.

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::identity::PhoneNumber;
use crate::ids::{ConferenceId, ParticipantId, TenantId, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Whom it connects: on the roster, or still invited.
    pub participant: ParticipantId,
    pub target: Target,
    /// Grows each time the leg is handed to another conference. A mix plan never detaches a leg that a newer epoch has
    /// put elsewhere.
    pub epoch: u32,
    pub state: LegState,
    /// The process that talked to the endpoint has ended: by then the switch has taken the leg up again, or it is given
    /// up. Only a leg that is heard has it.
    #[serde(default)]
    pub resume_by: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegState {
    Dialing,
    Connected {
        snapshot: Snapshot,
    },
    /// Offered to another conference, which alone decides; still heard here until it does.
    Lent {
        snapshot: Snapshot,
        to: ConferenceId,
        invitation: ParticipantId,
        ask_at: Timestamp,
    },
    /// Told to hang up; the switch has yet to say that it is gone.
    Ending {
        cause: Cause,
        snapshot: Option<Snapshot>,
        give_up_at: Timestamp,
    },
}

/// What is needed to find a dialog again: opaque text that only the switch writes and reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(pub String);

/// Where a leg is dialled to, and as whom. Resolved from the directory before `control` sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub tenant: TenantId,
    pub destination: Destination,
    pub caller: Caller,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// A user's address of record; every registered contact rings.
    Line { username: String, domain: String },
    /// A number of the public network, through the trunks that take it.
    Number(PhoneNumber),
}

/// Whom the called endpoint sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub display_name: Option<String>,
    /// The application's number: From and P-Asserted-Identity on a trunk.
    pub number: Option<PhoneNumber>,
    /// The domain of the tenant, for From towards users.
    pub domain: String,
}

impl Leg {
    /// In the mix: connected, or lent and not yet taken.
    pub fn is_heard(&self) -> bool {
        matches!(self.state, LegState::Connected { .. } | LegState::Lent { .. })
    }

    pub fn snapshot(&self) -> Option<&Snapshot> {
        match &self.state {
            LegState::Dialing => None,
            LegState::Connected { snapshot } | LegState::Lent { snapshot, .. } => Some(snapshot),
            LegState::Ending { snapshot, .. } => snapshot.as_ref(),
        }
    }
}
