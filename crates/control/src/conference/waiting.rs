//! Nothing waits for ever: every deadline that state holds, and what passing it means.

use super::{Conference, Kind, Opened};
use crate::call::{Audio, CallState};
use crate::cause::Cause;
use crate::ids::{LegId, Timestamp};
use crate::leg::{Leg, LegState};
use crate::limits::{ALONE_FOR, ASK_AFTER, REPEAT_WITHIN};
use crate::message::Message;
use crate::operation::{Arrival, Status};
use crate::vocabulary::{Event, Outcome};

impl Conference {
    /// Call `handle` with `Signal::Time` no later than this; after it, the deadline is a later one.
    pub fn deadline(&self) -> Option<Timestamp> {
        if !self.is_open() {
            return None;
        }
        let calls = self.calls().flat_map(|call| {
            let audio = match call.audio {
                Audio::ActiveBy(by) => Some(by),
                Audio::NotYet | Audio::Active => None,
            };
            let state = match call.state {
                CallState::Establishing { give_up_at, .. } | CallState::Terminating { give_up_at, .. } => {
                    Some(give_up_at)
                }
                CallState::Established { keep_alive_by, .. } => Some(keep_alive_by),
                CallState::Terminated { .. } => None,
            };
            [audio, state].into_iter().flatten()
        });
        let invitations = self.invitations.values().map(|invitation| invitation.until);
        let legs = self.legs.values().filter_map(leg_deadline);
        let operations = self.operations.values().filter_map(|operation| ended(&operation.status)).map(forget_at);
        let alone = self.alone_until();
        calls.chain(invitations).chain(legs).chain(operations).chain(alone).min()
    }

    pub(super) fn time_passed(&self, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        for (id, invitation) in &self.invitations {
            if invitation.until <= now {
                let cause = match invitation.arrival {
                    Arrival::Dialed(_) => Cause::NoAnswer,
                    Arrival::Borrowed { .. } => Cause::NotReplaceable,
                };
                self.withdraw(now, *id, invitation, &cause, &mut outcome);
            }
        }
        for call in self.calls() {
            if matches!(call.audio, Audio::ActiveBy(by) if by <= now) {
                outcome.events.push(Event::AudioActive { call: call.id });
            }
            match &call.state {
                CallState::Establishing { give_up_at, .. } if *give_up_at <= now => {
                    self.end_call(now, call, &Cause::NoAnswer, None, &mut outcome);
                }
                CallState::Terminating { give_up_at, cause } if *give_up_at <= now => {
                    self.end_call(now, call, cause, None, &mut outcome);
                }
                CallState::Established { keep_alive_by, .. } if *keep_alive_by <= now => {
                    self.end_call(now, call, &Cause::KeepAliveExpired, None, &mut outcome);
                }
                CallState::Established { .. } if self.alone_until().is_some_and(|until| until <= now) => {
                    self.end_call(now, call, &Cause::Alone, None, &mut outcome);
                }
                CallState::Establishing { .. }
                | CallState::Terminating { .. }
                | CallState::Established { .. }
                | CallState::Terminated { .. } => {}
            }
        }
        for (id, leg) in &self.legs {
            if leg_deadline(leg).is_some_and(|deadline| deadline <= now) {
                self.leg_overdue(now, *id, leg, &mut outcome);
            }
        }
        for (id, operation) in &self.operations {
            if ended(&operation.status).map(forget_at).is_some_and(|at| at <= now) {
                outcome.events.push(Event::OperationForgotten { operation: *id });
            }
        }
        outcome
    }

    fn leg_overdue(&self, now: Timestamp, id: LegId, leg: &Leg, outcome: &mut Outcome) {
        if leg.resume_by.is_some_and(|by| by <= now) {
            return self.not_resumed(now, id, leg, outcome);
        }
        match &leg.state {
            LegState::Lent { to, invitation, .. } => {
                let (to, invitation) = (*to, *invitation);
                outcome.events.push(Event::LegLent { leg: id, to, invitation, ask_at: now + ASK_AFTER });
                self.tell(to, Message::Inquire { invitation, leg: id }, outcome);
            }
            LegState::Ending { .. } => outcome.events.push(Event::LegGone { leg: id }),
            LegState::Dialing | LegState::Connected { .. } => {}
        }
    }

    /// Applications alone in an ad-hoc group are not kept (CALL-6); in a meeting they may wait for people.
    fn alone_until(&self) -> Option<Timestamp> {
        match &self.opened {
            Some(Opened { kind: Kind::Group { .. }, .. }) => self.deserted.map(|since| since + ALONE_FOR),
            Some(Opened { kind: Kind::PeerToPeer | Kind::Meeting(_), .. }) | None => None,
        }
    }
}

fn leg_deadline(leg: &Leg) -> Option<Timestamp> {
    let state = match leg.state {
        LegState::Lent { ask_at, .. } => Some(ask_at),
        LegState::Ending { give_up_at, .. } => Some(give_up_at),
        LegState::Dialing | LegState::Connected { .. } => None,
    };
    leg.resume_by.into_iter().chain(state).min()
}

fn ended(status: &Status) -> Option<Timestamp> {
    match status {
        Status::Running => None,
        Status::Completed { at } | Status::Failed { at, .. } => Some(*at),
    }
}

fn forget_at(ended: Timestamp) -> Timestamp {
    ended + REPEAT_WITHIN
}
