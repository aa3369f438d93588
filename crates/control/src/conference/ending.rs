//! People leave, are removed, or hang up; calls end, and with them what they were waiting for.

use super::Conference;
use crate::call::{Call, CallState};
use crate::cause::Cause;
use crate::identity::Identity;
use crate::ids::{LegId, OperationId, ParticipantId, Timestamp};
use crate::leg::LegState;
use crate::limits::{HANG_UP_WITHIN, KEEP_ALIVE_WITHIN, TERMINATE_WITHIN};
use crate::operation::{Arrival, Invitation, Purpose};
use crate::roster::Presence;
use crate::vocabulary::{Effect, Event, LegAction, Outcome, Refusal};

impl Conference {
    /// Hangs up a participant, or withdraws an invitation (INV-29).
    pub(super) fn remove(&self, now: Timestamp, call: &Call, id: ParticipantId) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        if let Some(invitation) = self.invitations.get(&id) {
            self.withdraw(now, id, invitation, &Cause::Cancelled, &mut outcome);
            return Ok(outcome);
        }
        let participant = self.roster.get(id).ok_or(Refusal::NoSuchParticipant)?;
        if call.facts.me == id {
            return Err(Refusal::Myself);
        }
        if self.is_organizer(&participant.identity) {
            return Err(Refusal::Organizer);
        }
        match participant.presence {
            Presence::App(theirs) => {
                if let Some(theirs) = self.call(theirs) {
                    self.end_call(now, theirs, &Cause::Removed, None, &mut outcome);
                }
            }
            Presence::Leg(leg) => {
                if matches!(self.legs.get(&leg).map(|leg| &leg.state), Some(LegState::Lent { .. })) {
                    return Err(Refusal::Busy);
                }
                self.hang_up_leg(now, leg, &Cause::Removed, &mut outcome);
                let cause = if self.is_peer_to_peer() { Cause::HungUpByApp } else { Cause::Removed };
                self.leave(now, id, &cause, &mut outcome);
            }
        }
        Ok(outcome)
    }

    pub(super) fn keep_alive(now: Timestamp, call: &Call) -> Outcome {
        if call.is_established() {
            let keep_alive_by = now + KEEP_ALIVE_WITHIN;
            return Outcome::default().record(Event::KeptAlive { call: call.id, keep_alive_by });
        }
        Outcome::default()
    }

    /// The application deletes its call. In a group it alone goes; a peer-to-peer call waits for the phone to confirm.
    pub(super) fn hang_up(&self, now: Timestamp, call: &Call) -> Outcome {
        let mut outcome = Outcome::default();
        if matches!(call.state, CallState::Terminating { .. }) {
            return outcome;
        }
        let cause = Cause::HungUpByApp;
        let give_up_at = now + TERMINATE_WITHIN;
        outcome.events.push(Event::CallTerminating { call: call.id, cause: cause.clone(), give_up_at });
        if !self.is_peer_to_peer() {
            self.end_call(now, call, &cause, None, &mut outcome);
            return outcome;
        }
        self.stop_waiting_for(now, call, &cause, &mut outcome);
        for (id, leg, person) in self.roster.people() {
            if matches!(self.legs.get(&leg).map(|leg| &leg.state), Some(LegState::Connected { .. })) {
                self.hang_up_leg(now, leg, &cause, &mut outcome);
                outcome.events.push(Event::ParticipantLeft {
                    participant: id,
                    identity: person.identity.clone(),
                    cause: cause.clone(),
                });
            }
        }
        outcome
    }

    /// Somebody's leg is gone or going: off the roster, and the end of a peer-to-peer call.
    pub(super) fn leave(&self, now: Timestamp, id: ParticipantId, cause: &Cause, outcome: &mut Outcome) {
        self.left(id, cause, outcome);
        if self.is_peer_to_peer()
            && let Some(call) = self.calls().next()
        {
            let cause = match &call.state {
                CallState::Terminating { cause, .. } => cause,
                CallState::Establishing { .. } | CallState::Established { .. } | CallState::Terminated { .. } => cause,
            };
            self.end_call(now, call, cause, None, outcome);
        }
    }

    pub(super) fn left(&self, id: ParticipantId, cause: &Cause, outcome: &mut Outcome) {
        if let Some(participant) = self.roster.get(id) {
            let identity = participant.identity.clone();
            outcome.events.push(Event::ParticipantLeft { participant: id, identity, cause: cause.clone() });
        }
    }

    /// Running operations fail first, then the call is over (OP-4).
    pub(super) fn end_call(
        &self,
        now: Timestamp,
        call: &Call,
        cause: &Cause,
        because: Option<OperationId>,
        outcome: &mut Outcome,
    ) {
        self.stop_waiting_for(now, call, cause, outcome);
        outcome.events.push(Event::CallTerminated { call: call.id, cause: cause.clone(), because });
    }

    fn stop_waiting_for(&self, now: Timestamp, call: &Call, cause: &Cause, outcome: &mut Outcome) {
        for (id, invitation) in &self.invitations {
            let waits = match invitation.purpose {
                Purpose::Call(theirs) => theirs == call.id,
                Purpose::Operation(operation) => {
                    self.operations.get(&operation).is_some_and(|operation| operation.call == call.id)
                }
            };
            let failed_already = outcome
                .events
                .iter()
                .any(|event| matches!(event, Event::InvitationFailed { participant, .. } if participant == id));
            if waits && !failed_already {
                self.withdraw(now, *id, invitation, &Cause::Cancelled, outcome);
            }
        }
        for (id, operation) in &self.operations {
            if operation.call == call.id && operation.is_running() {
                let because = Some(cause.clone());
                outcome.events.push(Event::OperationFailed { operation: *id, at: now, because });
            }
        }
    }

    pub(super) fn withdraw(
        &self,
        now: Timestamp,
        id: ParticipantId,
        invitation: &Invitation,
        cause: &Cause,
        outcome: &mut Outcome,
    ) {
        let (purpose, cause) = (invitation.purpose, cause.clone());
        outcome.events.push(Event::InvitationFailed { participant: id, purpose, cause: cause.clone() });
        match invitation.arrival {
            Arrival::Dialed(leg) => self.hang_up_leg(now, leg, &cause, outcome),
            // A leg that is lent later is answered with «never».
            Arrival::Borrowed { .. } => {}
        }
    }

    /// BYE or CANCEL, whatever fits; the leg is kept until the switch says that it is gone.
    pub(super) fn hang_up_leg(&self, now: Timestamp, id: LegId, cause: &Cause, outcome: &mut Outcome) {
        let Some(leg) = self.legs.get(&id) else { return };
        let give_up_at = now + HANG_UP_WITHIN;
        outcome.events.push(Event::LegEnding { leg: id, cause: cause.clone(), give_up_at });
        outcome.effects.push(Effect::Leg(
            id,
            LegAction::HangUp {
                cause: cause.clone(),
                snapshot: leg.snapshot().cloned(),
                target: Some(leg.target.clone()),
            },
        ));
    }

    fn is_organizer(&self, identity: &Identity) -> bool {
        let Some(super::Opened { kind: super::Kind::Meeting(meeting), .. }) = &self.opened else { return false };
        meeting.organizer.as_ref().is_some_and(|organizer| organizer.who == identity.who)
    }
}
