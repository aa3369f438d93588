//! Legs report: they ring, are answered, are heard, are put on hold, and go.

use super::Conference;
use super::placing::established;
use crate::call::{Audio, CallState, Surface};
use crate::cause::Cause;
use crate::ids::{CallId, ConferenceId, LegId, ParticipantId, Timestamp};
use crate::leg::{Leg, LegState, Snapshot};
use crate::message::Message;
use crate::operation::Purpose;
use crate::vocabulary::{Effect, Event, LegAction, LegNews, Outcome};

impl Conference {
    pub(super) fn leg_news(&self, now: Timestamp, id: LegId, news: &LegNews) -> Outcome {
        let Some(leg) = self.legs.get(&id) else { return self.news_of_no_leg_of_ours(id, news) };
        match news {
            LegNews::Ringing => self.rings(leg),
            LegNews::Connected(snapshot) => self.connected(now, id, leg, snapshot),
            LegNews::MediaUp => self.media_up(),
            LegNews::Held(held) => self.held(*held),
            LegNews::Reshaped(snapshot) => {
                Outcome::default().record(Event::LegReshaped { leg: id, snapshot: snapshot.clone() })
            }
            LegNews::Resumed(snapshot) => {
                Outcome::default().record(Event::LegResumed { leg: id, snapshot: snapshot.clone() })
            }
            LegNews::HungUp(cause) => self.hung_up(now, id, leg, cause),
        }
    }

    /// Ringing is an event only where a notification depends on it: beta, peer-to-peer (OQ-23).
    fn rings(&self, leg: &Leg) -> Outcome {
        let ringing = self.invitations.get(&leg.participant).and_then(|invitation| match invitation.purpose {
            Purpose::Call(call) if self.is_peer_to_peer() => self.call(call),
            Purpose::Call(_) | Purpose::Operation(_) => None,
        });
        match ringing {
            Some(call)
                if call.facts.surface == Surface::Beta
                    && matches!(call.state, CallState::Establishing { ringing: false, .. }) =>
            {
                Outcome::default().record(Event::CallRinging { call: call.id })
            }
            Some(_) | None => Outcome::default(),
        }
    }

    fn connected(&self, now: Timestamp, id: LegId, leg: &Leg, snapshot: &Snapshot) -> Outcome {
        let invitation = match leg.state {
            LegState::Dialing => self.invitations.get(&leg.participant),
            LegState::Connected { .. } | LegState::Lent { .. } | LegState::Ending { .. } => None,
        };
        // Answered while it was being cancelled: whoever hangs it up sees to that.
        let Some(invitation) = invitation else { return Outcome::default() };
        let mut outcome = Outcome::default()
            .record(Event::LegConnected { leg: id, snapshot: snapshot.clone() })
            .perform(Effect::Leg(id, LegAction::Confirm));
        match invitation.purpose {
            Purpose::Call(call) if self.is_establishing(call) => outcome.events.push(established(now, call)),
            Purpose::Call(_) => {}
            Purpose::Operation(_) => outcome.events.extend(self.escalation()),
        }
        outcome.record(Event::ParticipantJoined {
            participant: leg.participant,
            identity: invitation.identity.clone(),
            leg: id,
            hidden: invitation.hidden,
            answers: invitation.purpose,
        })
    }

    fn media_up(&self) -> Outcome {
        let waiting = self.calls().filter(|call| matches!(call.audio, Audio::ActiveBy(_)));
        Outcome { events: waiting.map(|call| Event::AudioActive { call: call.id }).collect(), ..Outcome::default() }
    }

    /// Only a peer-to-peer call is held by its peer; in a group one listener fewer is nobody's state.
    fn held(&self, on_hold: bool) -> Outcome {
        let changes = self.calls().filter(|call| {
            matches!(call.state, CallState::Established { held, .. } if held != on_hold) && self.is_peer_to_peer()
        });
        Outcome {
            events: changes.map(|call| Event::CallHeld { call: call.id, held: on_hold }).collect(),
            ..Outcome::default()
        }
    }

    fn hung_up(&self, now: Timestamp, id: LegId, leg: &Leg, cause: &Cause) -> Outcome {
        let mut outcome = Outcome::default().record(Event::LegGone { leg: id });
        match &leg.state {
            LegState::Dialing => {
                if let Some(invitation) = self.invitations.get(&leg.participant) {
                    outcome.events.push(Event::InvitationFailed {
                        participant: leg.participant,
                        purpose: invitation.purpose,
                        cause: cause.clone(),
                    });
                }
            }
            LegState::Connected { .. } => self.leave(now, leg.participant, cause, &mut outcome),
            LegState::Lent { to, invitation, .. } => {
                let passed = Message::Passed { leg: id, invitation: *invitation, news: LegNews::HungUp(cause.clone()) };
                self.tell(*to, passed, &mut outcome);
                self.leave(now, leg.participant, cause, &mut outcome);
            }
            LegState::Ending { .. } => {}
        }
        outcome
    }

    /// News of a leg that was given away is passed on; a leg that nobody knows is ended.
    fn news_of_no_leg_of_ours(&self, id: LegId, news: &LegNews) -> Outcome {
        if let Some((to, invitation)) = self.given.get(&id) {
            return self.passed_on(*to, *invitation, id, news);
        }
        match news {
            LegNews::Connected(snapshot) => Outcome::default().perform(Effect::Leg(
                id,
                LegAction::HangUp { cause: Cause::Cancelled, snapshot: Some(snapshot.clone()), target: None },
            )),
            LegNews::Ringing
            | LegNews::MediaUp
            | LegNews::Held(_)
            | LegNews::Reshaped(_)
            | LegNews::Resumed(_)
            | LegNews::HungUp(_) => Outcome::default(),
        }
    }

    fn passed_on(&self, to: ConferenceId, invitation: ParticipantId, leg: LegId, news: &LegNews) -> Outcome {
        let mut outcome = Outcome::default();
        self.tell(to, Message::Passed { leg, invitation, news: news.clone() }, &mut outcome);
        outcome
    }

    fn is_establishing(&self, call: CallId) -> bool {
        self.call(call).is_some_and(|call| matches!(call.state, CallState::Establishing { .. }))
    }
}
