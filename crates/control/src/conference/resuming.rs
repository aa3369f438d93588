//! The process died, and another one goes on; or it stops for good.
//!
//! Nobody is told of a restart: calls, rosters, operations and deadlines are what the log says. Only legs must be taken
//! up again, and until the switch has said what became of one, its state holds a deadline.

use super::Conference;
use crate::cause::Cause;
use crate::ids::{LegId, Timestamp};
use crate::leg::{Leg, LegState};
use crate::limits::RESUME_WITHIN;
use crate::message::Message;
use crate::vocabulary::{Effect, Event, LegAction, LegNews, Outcome};

impl Conference {
    /// Every leg is taken up where the log has it, and mixed as before.
    pub(super) fn restarted(&self, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.is_open() {
            return outcome;
        }
        for (id, leg) in &self.legs {
            match &leg.state {
                LegState::Dialing => {
                    // One that has rung for long enough is withdrawn in a moment, not rung again.
                    let rings = self.invitations.get(&leg.participant).is_some_and(|invited| invited.until > now);
                    if rings {
                        outcome.effects.push(Effect::Leg(*id, LegAction::DialAgain(leg.target.clone())));
                    }
                }
                LegState::Connected { snapshot } | LegState::Lent { snapshot, .. } => {
                    outcome.events.push(Event::LegInterrupted { leg: *id, resume_by: now + RESUME_WITHIN });
                    let (snapshot, target) = (snapshot.clone(), leg.target.clone());
                    outcome.effects.push(Effect::Leg(*id, LegAction::Resume { snapshot, target }));
                }
                LegState::Ending { .. } => {}
            }
            outcome.effects.extend(hang_up_again(leg).map(|action| Effect::Leg(*id, action)));
        }
        let plan = self.mix_plan();
        if !plan.ports.is_empty() {
            outcome.effects.push(Effect::Mix(plan));
        }
        outcome
    }

    /// The server stops, or cannot go on with this conference: operations fail, calls end, and every phone gets its BYE or
    /// CANCEL.
    pub(super) fn all_ends(&self, now: Timestamp, cause: &Cause) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.is_open() {
            return outcome;
        }
        for call in self.calls() {
            self.end_call(now, call, cause, None, &mut outcome);
        }
        for (id, leg, person) in self.roster.people() {
            self.hang_up_leg(now, leg, cause, &mut outcome);
            outcome.events.push(Event::ParticipantLeft {
                participant: id,
                identity: person.identity.clone(),
                cause: cause.clone(),
            });
        }
        for (id, leg) in &self.legs {
            outcome.effects.extend(hang_up_again(leg).map(|action| Effect::Leg(*id, action)));
        }
        outcome
    }

    /// The switch never said what became of it: hung up, and whoever was on it has left.
    pub(super) fn not_resumed(&self, now: Timestamp, id: LegId, leg: &Leg, outcome: &mut Outcome) {
        let cause = Cause::NoSignalling;
        if let LegState::Lent { to, invitation, .. } = &leg.state {
            let passed = Message::Passed { leg: id, invitation: *invitation, news: LegNews::HungUp(cause.clone()) };
            self.tell(*to, passed, outcome);
        }
        self.hang_up_leg(now, id, &cause, outcome);
        self.leave(now, leg.participant, &cause, outcome);
    }
}

/// What the earlier process did or was about to do, for a leg that is ending.
fn hang_up_again(leg: &Leg) -> Option<LegAction> {
    let LegState::Ending { cause, snapshot, .. } = &leg.state else { return None };
    let (cause, snapshot) = (cause.clone(), snapshot.clone());
    Some(LegAction::HangUp { cause, snapshot, target: Some(leg.target.clone()) })
}
