//! Everyone who hears one another, and every call that steers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod answering;
mod applying;
mod ending;
mod inviting;
mod moving;
mod placing;
mod resuming;
mod settling;
mod waiting;

use crate::call::Call;
use crate::cause::Cause;
use crate::identity::Principal;
use crate::ids::{AppId, CallId, ConferenceId, LegId, OperationId, ParticipantId, TenantId, Timestamp};
use crate::leg::Leg;
use crate::message::Message;
use crate::notice::changes_roster;
use crate::operation::{Invitation, Operation};
use crate::roster::Roster;
use crate::vocabulary::{Command, Effect, Event, Input, Meeting, MixPlan, MixPort, Outcome, Refusal, Signal};

/// The unit of ownership: one writer, one mixer, one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conference {
    id: ConferenceId,
    /// `None` until it opens.
    opened: Option<Opened>,
    /// Everybody has gone. A meeting's conference may open again, from nothing.
    closed: bool,
    calls: BTreeMap<CallId, Call>,
    legs: BTreeMap<LegId, Leg>,
    roster: Roster,
    invitations: BTreeMap<ParticipantId, Invitation>,
    operations: BTreeMap<OperationId, Operation>,
    /// Since when only applications are left.
    deserted: Option<Timestamp>,
    /// Legs given away, whose late news is passed on: to whom, and for which invitation.
    given: BTreeMap<LegId, (ConferenceId, ParticipantId)>,
    outgoing: BTreeMap<u64, (ConferenceId, Message)>,
    last_number: u64,
    taken: BTreeMap<ConferenceId, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub at: Timestamp,
    pub tenant: TenantId,
    pub kind: Kind,
    /// The application that created it (INV-18).
    pub created_by: AppId,
}

/// What Graph tells apart: only a group has a roster to report, only a meeting an organizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    PeerToPeer,
    /// `chat_shown`: an escalated call has a `chatInfo` on the wire, a group made by POST has none (OQ-7).
    Group {
        thread: String,
        chat_shown: bool,
    },
    Meeting(Meeting),
}

impl Conference {
    /// Blank: the first `Place` or `Join` opens it.
    pub fn new(id: ConferenceId) -> Self {
        Self {
            id,
            opened: None,
            closed: false,
            calls: BTreeMap::new(),
            legs: BTreeMap::new(),
            roster: Roster::default(),
            invitations: BTreeMap::new(),
            operations: BTreeMap::new(),
            deserted: None,
            given: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            last_number: 0,
            taken: BTreeMap::new(),
        }
    }

    /// Decides what an input means, and makes it so. A refused input changes nothing.
    pub fn handle(&mut self, now: Timestamp, input: &Input) -> Result<Outcome, Refusal> {
        let heard_before = self.mix_plan();
        let mut outcome = self.decide(now, input)?;
        outcome.events.iter().for_each(|event| self.apply(event));
        if outcome.events.is_empty() {
            return Ok(outcome);
        }
        loop {
            let more = self.settle(now);
            if more.events.is_empty() {
                break;
            }
            more.events.iter().for_each(|event| self.apply(event));
            outcome.events.extend(more.events);
            outcome.effects.extend(more.effects);
        }
        for told in self.deltas_owed(&outcome.events) {
            self.apply(&told);
            outcome.events.push(told);
        }
        let heard = self.mix_plan();
        if heard != heard_before {
            outcome.effects.push(Effect::Mix(heard));
        }
        Ok(outcome)
    }

    pub fn id(&self) -> ConferenceId {
        self.id
    }

    /// `None` before it opens; what it was, after it has closed.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    pub fn is_open(&self) -> bool {
        self.opened.is_some() && !self.closed
    }

    pub fn is_peer_to_peer(&self) -> bool {
        matches!(self.opened, Some(Opened { kind: Kind::PeerToPeer, .. }))
    }

    /// A call that has not ended; an ended one is unknown (CALL-7).
    pub fn call(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id).filter(|call| !call.is_over())
    }

    /// Any call, also one that ended in the last turn: for telling its application so.
    pub fn call_or_ended(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id)
    }

    /// The calls that have not ended.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().filter(|call| !call.is_over())
    }

    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    pub fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.get(&id)
    }

    pub fn legs(&self) -> impl Iterator<Item = (LegId, &Leg)> {
        self.legs.iter().map(|(id, leg)| (*id, leg))
    }

    /// Those who ring or are on their way from another conference.
    pub fn invitations(&self) -> impl Iterator<Item = (ParticipantId, &Invitation)> {
        self.invitations.iter().map(|(id, invitation)| (*id, invitation))
    }

    /// Any operation still remembered; the API shows an ended one for `OPERATION_VISIBLE_FOR`.
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(&id)
    }

    pub fn operations(&self) -> impl Iterator<Item = (OperationId, &Operation)> {
        self.operations.iter().map(|(id, operation)| (*id, operation))
    }

    /// Messages that were not acknowledged yet, in the order they must be sent in.
    pub fn outgoing(&self) -> impl Iterator<Item = (u64, ConferenceId, &Message)> {
        self.outgoing.iter().map(|(number, (to, message))| (*number, *to, message))
    }

    /// Who hears whom follows from the roster; nobody sets it.
    pub fn mix_plan(&self) -> MixPlan {
        let ports = self.roster.people().filter_map(|(_, leg, _)| {
            let connected = self.legs.get(&leg).filter(|leg| leg.is_heard())?;
            Some(MixPort { leg, epoch: connected.epoch, speaks: true, hears: true })
        });
        MixPlan { ports: ports.collect() }
    }
}

impl Conference {
    /// `&self`: deciding cannot change anything, and the compiler knows it.
    fn decide(&self, now: Timestamp, input: &Input) -> Result<Outcome, Refusal> {
        match input {
            Input::Command(by, command) => self.obey(now, by, command),
            Input::Signal(signal) => Ok(self.heed(now, signal)),
        }
    }

    fn obey(&self, now: Timestamp, by: &Principal, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Place { call, facts, targets, ring_for } => Ok(self.place(now, *call, facts, targets, *ring_for)),
            Command::Join { call, facts, meeting } => self.join(now, *call, facts, meeting),
            Command::Invite { call, invite } => self.invite(now, self.own(by, *call)?, invite),
            Command::Remove { call, participant } => self.remove(now, self.own(by, *call)?, *participant),
            Command::KeepAlive { call } => Ok(Self::keep_alive(now, self.own(by, *call)?)),
            Command::HangUp { call } => Ok(self.hang_up(now, self.own(by, *call)?)),
        }
    }

    fn heed(&self, now: Timestamp, signal: &Signal) -> Outcome {
        match signal {
            Signal::Leg(leg, news) => self.leg_news(now, *leg, news),
            Signal::Told { from, number, message } => self.told(now, *from, *number, message),
            Signal::Acknowledged { by, number } => self.acknowledged(*by, *number),
            Signal::Undeliverable { to, number } => self.undeliverable(*to, *number),
            Signal::Restarted => self.restarted(now),
            Signal::Stopping => self.all_ends(now, &Cause::ServiceRestarted),
            Signal::Fell => self.all_ends(now, &Cause::Internal),
            Signal::Time => self.time_passed(now),
        }
    }

    /// A live call of this application. Anyone else's does not exist (CALL-8).
    fn own(&self, by: &Principal, id: CallId) -> Result<&Call, Refusal> {
        self.call(id)
            .filter(|call| call.facts.app == by.app && call.facts.tenant == by.tenant)
            .ok_or(Refusal::NoSuchCall)
    }

    /// The calls that are told of the roster: established ones, except in a peer-to-peer conference (ROS-7).
    pub(crate) fn calls_with_roster(&self) -> impl Iterator<Item = &Call> {
        self.calls().filter(|call| call.is_established() && !self.is_peer_to_peer())
    }

    fn deltas_owed(&self, events: &[Event]) -> Vec<Event> {
        if !changes_roster(events) {
            return Vec::new();
        }
        let owed = self.calls_with_roster().filter(|call| call.facts.delta_roster);
        owed.map(|call| Event::DeltaTold { call: call.id }).collect()
    }
}
