//! People are asked in: to ring, or from another conference. One operation for all whom a request names.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Conference, Kind, Opened};
use crate::call::{Call, CallState};
use crate::cause::Cause;
use crate::identity::Who;
use crate::ids::{OperationId, Timestamp};
use crate::limits::{BORROW_WITHIN, OPERATIONS_MAX, PARTICIPANTS_MAX, REPEAT_WITHIN, RETRY_WITHIN, RING_FOR};
use crate::message::{Borrowed, Message};
use crate::operation::{Arrival, Fate, Invited, Invitee, Operation, Purpose, Reach, Status};
use crate::vocabulary::{Answer, Effect, Event, Invite, LegAction, Outcome, Refusal};

impl Conference {
    pub(super) fn invite(&self, now: Timestamp, call: &Call, invite: &Invite) -> Result<Outcome, Refusal> {
        if let Some(operation) = self.repeated(now, call, invite) {
            return Ok(Outcome { answer: Answer::Operation { operation, repeated: true }, ..Outcome::default() });
        }
        match call.state {
            CallState::Establishing { .. } => return Err(Refusal::NotEstablished),
            CallState::Terminating { .. } | CallState::Terminated { .. } => return Err(Refusal::Terminating),
            CallState::Established { .. } => {}
        }
        self.may_be_asked(invite)?;

        let operation = invite.operation;
        let mut outcome = Outcome { answer: Answer::Operation { operation, repeated: false }, ..Outcome::default() }
            .record(Event::OperationStarted {
                operation,
                call: call.id,
                at: now,
                client_context: invite.client_context.clone(),
                repeat: invite.repeat.clone(),
                invited: invite.invitees.iter().map(Invited::from).collect(),
                all_or_failed: !invite.policy.partial_is_success,
            });
        let mut asking = Asking { by: Some(call), ..Asking::of(self) };
        for invitee in &invite.invitees {
            self.ask(now, invitee, Purpose::Operation(operation), RING_FOR, &mut asking, &mut outcome);
        }
        Ok(outcome)
    }

    /// The operation that this request repeats, if it does (INV-33).
    fn repeated(&self, now: Timestamp, call: &Call, invite: &Invite) -> Option<OperationId> {
        let same = |operation: &Operation| {
            operation.call == call.id
                && operation.client_context == invite.client_context
                && operation.repeat.fingerprint == invite.repeat.fingerprint
        };
        let same_request = |operation: &Operation| {
            operation.repeat.client_request_id.is_some()
                && operation.repeat.client_request_id == invite.repeat.client_request_id
        };
        let again = |operation: &Operation| match operation.status {
            Status::Running => operation.client_context.is_some(),
            Status::Completed { at } | Status::Failed { at, .. } => {
                operation.client_context.is_some()
                    && (same_request(operation) && now.since(at) <= REPEAT_WITHIN
                        || invite.retried && now.since(operation.started) <= RETRY_WITHIN)
            }
        };
        let candidates = self.operations.iter().filter(|(_, operation)| same(operation) && again(operation));
        candidates.max_by_key(|(_, operation)| (operation.is_running(), operation.started)).map(|(id, _)| *id)
    }

    fn may_be_asked(&self, invite: &Invite) -> Result<(), Refusal> {
        let several = invite.invitees.len() > 1;
        match self.opened.as_ref().map(|opened| &opened.kind) {
            // INV-5
            Some(Kind::PeerToPeer) | None if several => return Err(Refusal::NotGroup),
            // INV-12
            Some(Kind::Group { chat_shown: false, .. }) if several && invite.policy.strict_chat_info => {
                return Err(Refusal::NoChat);
            }
            Some(Kind::PeerToPeer | Kind::Group { .. } | Kind::Meeting(_)) | None => {}
        }
        // INV-6, OQ-25: the inviting bot does not count.
        let asked = invite.invitees.iter().filter(|invitee| invitee.identity.is_bot()).count();
        if asked > 0 {
            let ringing = self.invitations.values().filter(|invitation| invitation.identity.is_bot()).count();
            let here = self.roster.people().filter(|(.., person)| person.identity.is_bot()).count();
            if asked + ringing + here > usize::from(invite.policy.invited_bots_max) {
                return Err(Refusal::SecondBot);
            }
        }
        let present = self.roster.iter().count() + self.invitations.len();
        if present + invite.invitees.len() > PARTICIPANTS_MAX || self.operations.len() >= OPERATIONS_MAX {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// One invitee, as far as the first step: ringing, being borrowed, or failed already.
    pub(super) fn ask(
        &self,
        now: Timestamp,
        invitee: &Invitee,
        purpose: Purpose,
        ring_for: Duration,
        asking: &mut Asking<'_>,
        outcome: &mut Outcome,
    ) {
        let participant = invitee.participant;
        let first = asking.seen.insert(invitee.identity.who.clone());
        let sent = |arrival, until| Event::InvitationSent {
            participant,
            identity: invitee.identity.clone(),
            hidden: invitee.hidden,
            arrival,
            until,
            purpose,
        };
        let failed = |cause| Event::InvitationFailed { participant, purpose, cause };
        match &invitee.reach {
            Reach::Impossible(cause) => outcome.events.push(failed(cause.clone())),
            // INV-23
            Reach::Replace { conference, .. } | Reach::Move { conference, .. } if *conference == self.id() => {
                outcome.events.push(failed(Cause::AlreadyHere));
            }
            _ if !first => outcome.events.push(failed(Cause::AlreadyHere)),
            Reach::Dial { leg, target } => {
                outcome.events.push(Event::LegDialed { leg: *leg, participant, target: target.clone() });
                outcome.events.push(sent(Arrival::Dialed(*leg), now + ring_for));
                outcome.effects.push(Effect::Leg(*leg, LegAction::Dial(target.clone())));
            }
            Reach::Replace { conference, call } => {
                outcome.events.push(sent(Arrival::Borrowed { from: *conference }, now + BORROW_WITHIN));
                asking.borrow(self, *conference, invitee, Borrowed::PeerOf(*call), outcome);
            }
            Reach::Move { conference, call, participant } => {
                outcome.events.push(sent(Arrival::Borrowed { from: *conference }, now + BORROW_WITHIN));
                asking.borrow(self, *conference, invitee, Borrowed::Participant(*call, *participant), outcome);
            }
        }
    }

    /// The first who joins makes a group of a peer-to-peer call (INV-31).
    pub(super) fn escalation(&self) -> Option<Event> {
        let Some(Opened { kind: Kind::PeerToPeer, .. }) = &self.opened else { return None };
        let call = self.calls().next()?;
        Some(Event::Escalated { call: call.id, thread: self.new_thread() })
    }
}

/// What one request has asked for so far.
pub(super) struct Asking<'a> {
    pub(super) by: Option<&'a Call>,
    /// Everyone who is here, on the way, or was named before.
    seen: BTreeSet<Who>,
}

impl<'a> Asking<'a> {
    pub(super) fn of(conference: &'a Conference) -> Self {
        let here = conference.roster.people().map(|(.., person)| &person.identity);
        let coming = conference.invitations.values().map(|invitation| &invitation.identity);
        let seen = here.chain(coming).map(|identity| identity.who.clone()).collect();
        Self { by: None, seen }
    }

    fn borrow(
        &self,
        conference: &Conference,
        from: crate::ids::ConferenceId,
        invitee: &Invitee,
        whom: Borrowed,
        outcome: &mut Outcome,
    ) {
        let Some(by) = self.by else { return };
        let message = Message::Borrow {
            invitation: invitee.participant,
            app: by.facts.app,
            tenant: by.facts.tenant,
            who: invitee.identity.who.clone(),
            from: whom,
        };
        conference.tell(from, message, outcome);
    }
}

impl From<&Invitee> for Invited {
    fn from(invitee: &Invitee) -> Self {
        Self {
            participant: invitee.participant,
            identity: invitee.identity.clone(),
            echo: invitee.echo.clone(),
            fate: Fate::Pending,
        }
    }
}
