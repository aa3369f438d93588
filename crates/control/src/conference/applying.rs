//! Events become state: here, and nowhere else, live and on replay alike.

use super::{Conference, Opened};
use crate::call::{Audio, Call, CallState};
use crate::ids::{CallId, OperationId, ParticipantId};
use crate::leg::{Leg, LegState};
use crate::operation::{Fate, Invitation, Operation, Purpose, Status};
use crate::roster::Presence;
use crate::vocabulary::Event;

impl Conference {
    /// Makes a fact true.
    pub fn apply(&mut self, event: &Event) {
        match event.clone() {
            Event::Opened { at, tenant, kind, created_by } => {
                let last_number = self.last_number.max(u64::try_from(at.0).unwrap_or(0));
                *self = Self::new(self.id);
                // Numbers go on growing when a meeting opens again, so that nobody takes a new message for an old one.
                self.last_number = last_number;
                self.opened = Some(Opened { at, tenant, kind, created_by });
            }
            Event::CallPlaced { call, facts, give_up_at } => {
                self.forget_ended_calls();
                let state = CallState::Establishing { ringing: false, give_up_at };
                let placed = Call { id: call, facts: *facts, state, audio: Audio::NotYet, missed: None, deltas: 0 };
                self.calls.insert(call, placed);
            }
            Event::CallRinging { call } => self.with_call(call, |call| {
                if let CallState::Establishing { ringing, .. } = &mut call.state {
                    *ringing = true;
                }
            }),
            Event::CallEstablished { call, at, keep_alive_by, audio_by } => {
                self.with_call(call, |call| {
                    call.state = CallState::Established { since: at, held: false, keep_alive_by };
                    call.audio = Audio::ActiveBy(audio_by);
                });
                if let Some(established) = self.calls.get(&call) {
                    let (me, identity) = (established.facts.me, established.facts.identity.clone());
                    self.roster.join(me, identity, Presence::App(call), false);
                }
            }
            Event::AudioActive { call } => self.with_call(call, |call| call.audio = Audio::Active),
            Event::CallHeld { call, held: on_hold } => self.with_call(call, |call| {
                if let CallState::Established { held, .. } = &mut call.state {
                    *held = on_hold;
                }
            }),
            Event::KeptAlive { call, keep_alive_by: later } => self.with_call(call, |call| {
                if let CallState::Established { keep_alive_by, .. } = &mut call.state {
                    *keep_alive_by = later;
                }
            }),
            Event::Escalated { call, thread } => {
                if let Some(opened) = &mut self.opened {
                    opened.kind = super::Kind::Group { thread, chat_shown: true };
                }
                if let Some(call) = self.calls.get(&call)
                    && call.facts.hide_after_escalation
                {
                    self.roster.hide(call.facts.me);
                }
            }
            Event::CallTerminating { call, cause, give_up_at } => {
                self.with_call(call, |call| call.state = CallState::Terminating { cause, give_up_at });
            }
            Event::CallTerminated { call, cause, .. } => {
                self.with_call(call, |call| call.state = CallState::Terminated { cause });
                if let Some(me) = self.calls.get(&call).map(|call| call.facts.me) {
                    self.roster.leave(me);
                }
            }

            Event::LegDialed { leg, participant, target } => {
                let state = LegState::Dialing;
                self.legs.insert(leg, Leg { participant, target, epoch: 0, state, resume_by: None });
            }
            Event::LegConnected { leg, snapshot } => self.with_leg(leg, |leg| {
                leg.state = LegState::Connected { snapshot };
            }),
            Event::LegReshaped { leg, snapshot: new } => self.with_leg(leg, |leg| {
                if let LegState::Connected { snapshot } | LegState::Lent { snapshot, .. } = &mut leg.state {
                    *snapshot = new;
                }
            }),
            Event::LegInterrupted { leg, resume_by } => self.with_leg(leg, |leg| leg.resume_by = Some(resume_by)),
            Event::LegResumed { leg, snapshot: new } => self.with_leg(leg, |leg| {
                if let LegState::Connected { snapshot } | LegState::Lent { snapshot, .. } = &mut leg.state {
                    *snapshot = new;
                }
                leg.resume_by = None;
            }),
            Event::LegEnding { leg, cause, give_up_at } => self.with_leg(leg, |leg| {
                leg.resume_by = None;
                leg.state = LegState::Ending { cause, snapshot: leg.snapshot().cloned(), give_up_at };
            }),
            Event::LegLent { leg, to, invitation, ask_at } => self.with_leg(leg, |leg| {
                if let Some(snapshot) = leg.snapshot().cloned() {
                    leg.state = LegState::Lent { snapshot, to, invitation, ask_at };
                }
            }),
            Event::LegKept { leg } => self.with_leg(leg, |leg| {
                if let Some(snapshot) = leg.snapshot().cloned() {
                    leg.state = LegState::Connected { snapshot };
                }
            }),
            Event::LegGiven { leg, to } => {
                if let Some(given) = self.legs.remove(&leg)
                    && let LegState::Lent { invitation, .. } = given.state
                {
                    self.given.insert(leg, (to, invitation));
                }
            }
            Event::LegTaken { leg, participant, target, snapshot, epoch } => {
                self.given.remove(&leg);
                let state = LegState::Connected { snapshot };
                self.legs.insert(leg, Leg { participant, target, epoch, state, resume_by: None });
            }
            Event::LegGone { leg } => {
                self.legs.remove(&leg);
            }

            Event::OperationStarted { operation, call, at, client_context, repeat, invited, all_or_failed } => {
                let status = Status::Running;
                let started = Operation { call, client_context, repeat, started: at, invited, all_or_failed, status };
                self.operations.insert(operation, started);
            }
            Event::InvitationSent { participant, identity, hidden, arrival, until, purpose } => {
                self.deserted = None;
                self.invitations.insert(participant, Invitation { identity, hidden, arrival, until, purpose });
            }
            Event::InvitationFailed { participant, purpose, cause } => {
                self.invitations.remove(&participant);
                match purpose {
                    Purpose::Call(call) => self.with_call(call, |call| call.missed = Some(cause)),
                    Purpose::Operation(operation) => self.settle_fate(operation, participant, Fate::Missed(cause)),
                }
            }
            Event::OperationCompleted { operation, at } => self.with_operation(operation, |operation| {
                operation.status = Status::Completed { at };
            }),
            Event::OperationFailed { operation, at, because } => self.with_operation(operation, |operation| {
                operation.status = Status::Failed { at, because };
            }),
            Event::OperationForgotten { operation } => {
                self.operations.remove(&operation);
            }

            Event::ParticipantJoined { participant, identity, leg, hidden, answers } => {
                self.invitations.remove(&participant);
                self.roster.join(participant, identity, Presence::Leg(leg), hidden);
                self.deserted = None;
                if let Purpose::Operation(operation) = answers {
                    self.settle_fate(operation, participant, Fate::Joined);
                }
            }
            Event::ParticipantLeft { participant, .. } => self.roster.leave(participant),
            Event::Deserted { since } => self.deserted = Some(since),
            Event::DeltaTold { call } => self.with_call(call, |call| call.deltas += 1),

            Event::MessageSent { to, number, message } => {
                self.last_number = number;
                self.outgoing.insert(number, (to, message));
            }
            Event::MessageDone { number, .. } => {
                self.outgoing.remove(&number);
            }
            Event::MessageTaken { from, number } => {
                self.taken.insert(from, number);
            }
            Event::Closed => self.closed = true,
        }
    }

    /// An ended call is kept until the next one is placed: its application is still being told.
    fn forget_ended_calls(&mut self) {
        self.calls.retain(|_, call| !call.is_over());
        let calls = &self.calls;
        self.operations.retain(|_, operation| calls.contains_key(&operation.call));
    }

    fn with_call(&mut self, id: CallId, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.get_mut(&id) {
            change(call);
        }
    }

    fn with_leg(&mut self, id: crate::ids::LegId, change: impl FnOnce(&mut Leg)) {
        if let Some(leg) = self.legs.get_mut(&id) {
            change(leg);
        }
    }

    fn with_operation(&mut self, id: OperationId, change: impl FnOnce(&mut Operation)) {
        if let Some(operation) = self.operations.get_mut(&id) {
            change(operation);
        }
    }

    fn settle_fate(&mut self, operation: OperationId, participant: ParticipantId, fate: Fate) {
        self.with_operation(operation, |operation| {
            if let Some(invited) = operation.invited.iter_mut().find(|invited| invited.participant == participant) {
                invited.fate = fate;
            }
        });
    }
}
