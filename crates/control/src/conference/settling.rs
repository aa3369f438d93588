//! What follows from a state by itself, whatever led to it: operations that are decided, calls nobody answers any more,
//! legs nobody wants, a conference nobody is in.

use super::{Conference, Kind, Opened};
use crate::call::{Call, CallState};
use crate::cause::Cause;
use crate::ids::{CallId, OperationId, Timestamp};
use crate::leg::LegState;
use crate::operation::{Fate, Operation, Purpose};
use crate::vocabulary::{Event, Outcome};

impl Conference {
    /// The next consequence, if there is one; each makes the conference smaller or a state final, so there is an end.
    pub(super) fn settle(&self, now: Timestamp) -> Outcome {
        let rules = [Self::decided, Self::unanswered, Self::confirmed, Self::unwanted, Self::deserted, Self::empty];
        rules.into_iter().map(|rule| rule(self, now)).find(|outcome| !outcome.events.is_empty()).unwrap_or_default()
    }

    /// Everyone whom an operation asked for has come or will not (OP-1, OQ-6).
    fn decided(&self, now: Timestamp) -> Outcome {
        let over = self.operations.iter().filter(|(_, operation)| {
            operation.is_running() && operation.invited.iter().all(|invited| invited.fate != Fate::Pending)
        });
        let events = over.map(|(id, operation)| end_of(now, *id, operation)).collect();
        Outcome { events, ..Outcome::default() }
    }

    /// All targets of a call have failed.
    fn unanswered(&self, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        for call in self.calls() {
            let establishing = matches!(call.state, CallState::Establishing { .. });
            if establishing && !self.is_waited_for(call.id) && self.roster.people().next().is_none() {
                let cause = call.missed.clone().unwrap_or(Cause::NoAnswer);
                self.end_call(now, call, &cause, None, &mut outcome);
            }
        }
        outcome
    }

    /// A call that its application deleted has no leg left.
    fn confirmed(&self, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.legs.is_empty() {
            return outcome;
        }
        for call in self.calls() {
            if let CallState::Terminating { cause, .. } = &call.state {
                self.end_call(now, call, cause, None, &mut outcome);
            }
        }
        outcome
    }

    /// Nobody steers the conference any more, and nobody is left to talk to: the last one is hung up. The phone of a
    /// call that is over is hung up at once.
    fn unwanted(&self, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let steered = self.calls().any(|call| !matches!(call.state, CallState::Terminating { .. }));
        let talking = !self.is_peer_to_peer() && self.roster.people().count() > 1;
        if !self.is_open() || steered || talking {
            return outcome;
        }
        let cause = match self.calls.values().next_back().map(|call| &call.state) {
            Some(CallState::Terminating { cause, .. } | CallState::Terminated { cause }) if self.is_peer_to_peer() => {
                cause.clone()
            }
            Some(_) | None => Cause::Alone,
        };
        for (id, leg, person) in self.roster.people() {
            if matches!(self.legs.get(&leg).map(|leg| &leg.state), Some(LegState::Connected { .. })) {
                self.hang_up_leg(now, leg, &cause, &mut outcome);
                let (identity, cause) = (person.identity.clone(), cause.clone());
                outcome.events.push(Event::ParticipantLeft { participant: id, identity, cause });
            }
        }
        outcome
    }

    /// Only applications are left in an ad-hoc group, and nobody is on the way (CALL-6).
    fn deserted(&self, now: Timestamp) -> Outcome {
        let group = matches!(&self.opened, Some(Opened { kind: Kind::Group { .. }, .. }));
        let alone = self.roster.people().next().is_none() && self.invitations.is_empty();
        if group && alone && self.deserted.is_none() && self.calls().any(Call::is_established) {
            return Outcome::default().record(Event::Deserted { since: now });
        }
        Outcome::default()
    }

    /// Nobody is here, and nothing is owed to anyone.
    fn empty(&self, _now: Timestamp) -> Outcome {
        let quiet = self.calls().next().is_none()
            && self.roster.people().next().is_none()
            && self.legs.is_empty()
            && self.invitations.is_empty()
            && self.outgoing.is_empty();
        if self.is_open() && quiet {
            return Outcome::default().record(Event::Closed);
        }
        Outcome::default()
    }

    fn is_waited_for(&self, call: CallId) -> bool {
        self.invitations.values().any(|invitation| invitation.purpose == Purpose::Call(call))
    }
}

fn end_of(now: Timestamp, id: OperationId, operation: &Operation) -> Event {
    let joined = operation.invited.iter().filter(|invited| invited.fate == Fate::Joined).count();
    let enough = if operation.all_or_failed { operation.invited.len() } else { 1 };
    if joined >= enough {
        Event::OperationCompleted { operation: id, at: now }
    } else {
        Event::OperationFailed { operation: id, at: now, because: None }
    }
}
