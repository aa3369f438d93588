//! Calls come about: to one person, to several at once, or into a meeting.

use std::time::Duration;

use super::inviting::Asking;
use super::{Conference, Kind};
use crate::call::CallFacts;
use crate::ids::{CallId, Timestamp};
use crate::limits::{AUDIO_WITHIN, KEEP_ALIVE_WITHIN, PARTICIPANTS_MAX};
use crate::operation::{Invitee, Purpose};
use crate::vocabulary::{Answer, Event, Meeting, Outcome, Refusal};

impl Conference {
    pub(super) fn place(
        &self,
        now: Timestamp,
        call: CallId,
        facts: &CallFacts,
        targets: &[Invitee],
        ring_for: Duration,
    ) -> Outcome {
        let kind = match targets {
            [_] => Kind::PeerToPeer,
            _ => Kind::Group { thread: self.new_thread(), chat_shown: false },
        };
        let mut outcome = Outcome { answer: Answer::Call(call), ..Outcome::default() }
            .record(Event::Opened { at: now, tenant: facts.tenant, kind, created_by: facts.app })
            .record(Event::CallPlaced {
                call,
                facts: Box::new(facts.clone()),
                give_up_at: now + ring_for + ANSWER_MARGIN,
            });
        let mut asking = Asking::of(self);
        for target in targets {
            self.ask(now, target, Purpose::Call(call), ring_for, &mut asking, &mut outcome);
        }
        outcome
    }

    /// An application's own media is the server's, so it is in at once.
    pub(super) fn join(
        &self,
        now: Timestamp,
        call: CallId,
        facts: &CallFacts,
        meeting: &Meeting,
    ) -> Result<Outcome, Refusal> {
        if self.is_open() && self.roster.iter().count() >= PARTICIPANTS_MAX {
            return Err(Refusal::Full);
        }
        let mut outcome = Outcome { answer: Answer::Call(call), ..Outcome::default() };
        if !self.is_open() {
            outcome = outcome.record(Event::Opened {
                at: now,
                tenant: facts.tenant,
                kind: Kind::Meeting(meeting.clone()),
                created_by: meeting.created_by,
            });
        }
        Ok(outcome
            .record(Event::CallPlaced { call, facts: Box::new(facts.clone()), give_up_at: now + ANSWER_MARGIN })
            .record(established(now, call))
            .record(Event::AudioActive { call }))
    }

    pub(super) fn new_thread(&self) -> String {
        format!("19:{}@thread.v2", self.id.0.simple())
    }
}

/// The call has an audio path from here on, and a life that must be kept.
pub(super) fn established(now: Timestamp, call: CallId) -> Event {
    Event::CallEstablished { call, at: now, keep_alive_by: now + KEEP_ALIVE_WITHIN, audio_by: now + AUDIO_WITHIN }
}

/// The targets' own deadlines end a call that nobody answers; this one is behind them.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);
