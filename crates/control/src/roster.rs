//! Who is in a conference. The sequence moves with every change, because nothing else can change the roster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::ids::{CallId, LegId, ParticipantId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    participants: BTreeMap<ParticipantId, Participant>,
    sequence: u64,
    last_source: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    pub identity: Identity,
    pub presence: Presence,
    /// Kept out of everybody's roster but its own (ROS-6).
    pub hidden: bool,
    /// The audio stream's `sourceId`: unique in the conference, stable for the stream's life (ROS-5).
    pub source: u32,
    /// The roster's sequence when this entry last changed (ROS-4).
    pub since: u64,
}

/// How a participant takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Over a leg.
    Leg(LegId),
    /// An application, through its call.
    App(CallId),
}

impl Roster {
    /// Grows by one with every change.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn get(&self, id: ParticipantId) -> Option<&Participant> {
        self.participants.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ParticipantId, &Participant)> {
        self.participants.iter().map(|(id, participant)| (*id, participant))
    }

    /// Those whom `me` may see: everyone who is not hidden, and `me`.
    pub fn seen_by(&self, me: ParticipantId) -> impl Iterator<Item = (ParticipantId, &Participant)> {
        self.iter().filter(move |(id, participant)| !participant.hidden || *id == me)
    }

    /// People: everyone who is not an application's call.
    pub fn people(&self) -> impl Iterator<Item = (ParticipantId, LegId, &Participant)> {
        self.iter().filter_map(|(id, participant)| match participant.presence {
            Presence::Leg(leg) => Some((id, leg, participant)),
            Presence::App(_) => None,
        })
    }

    pub fn by_leg(&self, leg: LegId) -> Option<ParticipantId> {
        self.people().find(|(_, theirs, _)| *theirs == leg).map(|(id, ..)| id)
    }

    pub(crate) fn join(&mut self, id: ParticipantId, identity: Identity, presence: Presence, hidden: bool) {
        self.sequence += 1;
        self.last_source += 1;
        let (source, since) = (self.last_source, self.sequence);
        self.participants.insert(id, Participant { identity, presence, hidden, source, since });
    }

    pub(crate) fn leave(&mut self, id: ParticipantId) {
        if self.participants.remove(&id).is_some() {
            self.sequence += 1;
        }
    }

    pub(crate) fn hide(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get_mut(&id) else { return };
        self.sequence += 1;
        participant.hidden = true;
        participant.since = self.sequence;
    }
}
