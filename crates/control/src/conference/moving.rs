//! People move between conferences: what is asked of the other one, and what it answers. The picture is in `message.rs`.

use super::{Conference, Kind};
use crate::cause::Cause;
use crate::identity::Who;
use crate::ids::{AppId, CallId, ConferenceId, LegId, OperationId, ParticipantId, TenantId, Timestamp};
use crate::leg::LegState;
use crate::limits::ASK_AFTER;
use crate::message::{Borrowed, Message};
use crate::operation::{Arrival, Invitation, Purpose};
use crate::vocabulary::{Effect, Event, LegNews, Outcome};

impl Conference {
    /// A message of another conference, taken once: its numbers grow.
    pub(super) fn told(&self, now: Timestamp, from: ConferenceId, number: u64, message: &Message) -> Outcome {
        if self.taken.get(&from).is_some_and(|last| number <= *last) {
            return Outcome::default();
        }
        let mut outcome = Outcome::default().record(Event::MessageTaken { from, number });
        match message {
            Message::Borrow { invitation, app, tenant, who, from: whom } => {
                let reply = match self.lendable(*app, *tenant, who, *whom) {
                    Ok(leg) => self.lend(now, leg, from, *invitation, &mut outcome),
                    Err(cause) => Some(Message::Refused { invitation: *invitation, cause }),
                };
                if let Some(reply) = reply {
                    self.tell(from, reply, &mut outcome);
                }
            }
            Message::Lent { invitation, leg, target, snapshot, epoch } => {
                if let Some(expected) = self.borrowing(*invitation, from) {
                    outcome.events.extend(self.escalation());
                    outcome.events.push(Event::LegTaken {
                        leg: *leg,
                        participant: *invitation,
                        target: target.clone(),
                        snapshot: snapshot.clone(),
                        epoch: *epoch,
                    });
                    outcome.events.push(Event::ParticipantJoined {
                        participant: *invitation,
                        identity: expected.identity.clone(),
                        leg: *leg,
                        hidden: expected.hidden,
                        answers: expected.purpose,
                    });
                    let operation = match expected.purpose {
                        Purpose::Operation(operation) => Some(operation),
                        Purpose::Call(_) => None,
                    };
                    self.tell(from, Message::Taken { leg: *leg, operation }, &mut outcome);
                } else {
                    self.tell(from, Message::Never { leg: *leg }, &mut outcome);
                }
            }
            Message::Refused { invitation, cause } => self.not_lent(*invitation, from, cause, &mut outcome),
            Message::Taken { leg, operation } => self.taken_over(now, *leg, *operation, &mut outcome),
            Message::Never { leg } => self.keep(*leg, &mut outcome),
            Message::Inquire { leg, .. } => {
                let reply = if self.legs.contains_key(leg) || self.given.contains_key(leg) {
                    Message::Taken { leg: *leg, operation: None }
                } else {
                    Message::Never { leg: *leg }
                };
                self.tell(from, reply, &mut outcome);
            }
            Message::Passed { leg, invitation, news } => {
                let here = self.legs.contains_key(leg) || self.given.contains_key(leg);
                if here {
                    let more = self.leg_news(now, *leg, news);
                    outcome.events.extend(more.events);
                    outcome.effects.extend(more.effects);
                } else if let LegNews::HungUp(cause) = news {
                    self.not_lent(*invitation, from, cause, &mut outcome);
                }
            }
        }
        outcome
    }

    pub(super) fn acknowledged(&self, by: ConferenceId, number: u64) -> Outcome {
        match self.outgoing.get(&number) {
            Some((to, _)) if *to == by => Outcome::default().record(Event::MessageDone { to: by, number }),
            Some(_) | None => Outcome::default(),
        }
    }

    /// The other conference is gone: whatever it was asked or offered, it does not have.
    pub(super) fn undeliverable(&self, to: ConferenceId, number: u64) -> Outcome {
        let Some((addressee, message)) = self.outgoing.get(&number) else { return Outcome::default() };
        if *addressee != to {
            return Outcome::default();
        }
        let mut outcome = Outcome::default().record(Event::MessageDone { to, number });
        match message {
            Message::Borrow { invitation, .. } => {
                self.not_lent(*invitation, to, &Cause::NotReplaceable, &mut outcome);
            }
            Message::Lent { leg, .. } | Message::Inquire { leg, .. } => self.keep(*leg, &mut outcome),
            Message::Refused { .. } | Message::Taken { .. } | Message::Never { .. } | Message::Passed { .. } => {}
        }
        outcome
    }

    /// Writes a message down and lets it go; numbers go on from what this turn has said already.
    pub(super) fn tell(&self, to: ConferenceId, message: Message, outcome: &mut Outcome) {
        let said = outcome.events.iter().filter(|event| matches!(event, Event::MessageSent { .. })).count();
        let number = self.last_number + 1 + said as u64;
        outcome.events.push(Event::MessageSent { to, number, message: message.clone() });
        outcome.effects.push(Effect::Tell { to, number, message });
    }

    /// The leg of the person that another conference of the same application wants (INV-17, INV-18).
    fn lendable(&self, app: AppId, tenant: TenantId, who: &Who, whom: Borrowed) -> Result<LegId, Cause> {
        let (call, named) = match whom {
            Borrowed::PeerOf(call) => (call, None),
            Borrowed::Participant(call, participant) => (call, Some(participant)),
        };
        if !self.is_established_call_of(app, tenant, call) {
            return Err(Cause::NotReplaceable);
        }
        let opened = self.opened.as_ref().ok_or(Cause::NotReplaceable)?;
        let person = match named {
            None if matches!(opened.kind, Kind::PeerToPeer) => self.roster.people().next(),
            None => return Err(Cause::NotReplaceable),
            Some(_) if opened.created_by != app => return Err(Cause::NotReplaceable),
            Some(id) => self.roster.people().find(|(theirs, ..)| *theirs == id),
        };
        let missing = if named.is_some() { Cause::NotInSource } else { Cause::NotReplaceable };
        let (_, leg, _) = person.filter(|(.., person)| person.identity.who == *who).ok_or_else(|| missing.clone())?;
        match self.legs.get(&leg).map(|leg| &leg.state) {
            Some(LegState::Connected { .. }) => Ok(leg),
            Some(LegState::Lent { .. }) => Err(Cause::BeingMoved),
            Some(LegState::Dialing | LegState::Ending { .. }) | None => Err(missing),
        }
    }

    fn is_established_call_of(&self, app: AppId, tenant: TenantId, call: CallId) -> bool {
        self.call(call)
            .is_some_and(|call| call.facts.app == app && call.facts.tenant == tenant && call.is_established())
    }

    fn lend(
        &self,
        now: Timestamp,
        id: LegId,
        to: ConferenceId,
        invitation: ParticipantId,
        outcome: &mut Outcome,
    ) -> Option<Message> {
        let leg = self.legs.get(&id)?;
        let snapshot = leg.snapshot()?.clone();
        outcome.events.push(Event::LegLent { leg: id, to, invitation, ask_at: now + ASK_AFTER });
        Some(Message::Lent { invitation, leg: id, target: leg.target.clone(), snapshot, epoch: leg.epoch + 1 })
    }

    fn borrowing(&self, invitation: ParticipantId, lender: ConferenceId) -> Option<&Invitation> {
        self.invitations
            .get(&invitation)
            .filter(|invitation| matches!(invitation.arrival, Arrival::Borrowed { from } if from == lender))
    }

    fn not_lent(&self, invitation: ParticipantId, from: ConferenceId, cause: &Cause, outcome: &mut Outcome) {
        if let Some(expected) = self.borrowing(invitation, from) {
            let purpose = expected.purpose;
            outcome.events.push(Event::InvitationFailed { participant: invitation, purpose, cause: cause.clone() });
        }
    }

    /// The hand-over is written down over there: the leg is gone from here, and with it a replaced call (INV-15).
    fn taken_over(&self, now: Timestamp, id: LegId, operation: Option<OperationId>, outcome: &mut Outcome) {
        let Some(leg) = self.legs.get(&id) else { return };
        let LegState::Lent { to, .. } = leg.state else { return };
        outcome.events.push(Event::LegGiven { leg: id, to });
        self.left(leg.participant, &Cause::Moved, outcome);
        if self.is_peer_to_peer()
            && let Some(call) = self.calls().next()
        {
            self.end_call(now, call, &Cause::Moved, operation, outcome);
        }
    }

    fn keep(&self, id: LegId, outcome: &mut Outcome) {
        if matches!(self.legs.get(&id).map(|leg| &leg.state), Some(LegState::Lent { .. })) {
            outcome.events.push(Event::LegKept { leg: id });
        }
    }
}
