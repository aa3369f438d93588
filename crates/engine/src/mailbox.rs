//! One conference at work: the turn as a state machine, without the waiting.
//!
//! ```text
//!            loaded            decide                      committed
//!   Unknown --------> Known -----------> Ahead of the log -----------> Known
//!      ^                                        |
//!      +----------------------------------------+  not written, or a fall in the middle: memory is wrong
//! ```

use control::{Answer, CallId, Conference, ConferenceId, Effect, Event, Input, Refusal, Timestamp};
use store::{Commit, Loaded, OutgoingNotice, wants_snapshot};

pub(crate) struct Mailbox {
    id: ConferenceId,
    /// `None`: what is in memory is not what is in the log, and must be loaded.
    known: Option<Loaded>,
}

/// What a turn came to. Nothing of it may be done before `commit` is on disk.
pub(crate) struct Turn {
    pub(crate) at: Timestamp,
    /// `None` if nothing happened.
    pub(crate) commit: Option<Commit>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) answer: Answer,
    /// The calls that are in this conference from here on.
    pub(crate) placed: Vec<CallId>,
}

impl Mailbox {
    pub(crate) fn unknown(id: ConferenceId) -> Self {
        Self { id, known: None }
    }

    /// A conference that nobody has heard of yet.
    pub(crate) fn blank(id: ConferenceId) -> Self {
        Self { id, known: Some(Loaded { conference: Conference::new(id), position: 0 }) }
    }

    pub(crate) fn conference(&self) -> Option<&Conference> {
        self.known.as_ref().map(|known| &known.conference)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.conference().is_some_and(Conference::is_open)
    }

    pub(crate) fn loaded(&mut self, found: Option<Loaded>) {
        self.known = Some(found.unwrap_or_else(|| Loaded { conference: Conference::new(self.id), position: 0 }));
    }

    /// Takes the input to its consequences, in memory; `None` when it must be loaded first.
    ///
    /// Whoever cannot write the commit must [`Self::forget`].
    pub(crate) fn decide(
        &mut self,
        at: Timestamp,
        input: &Input,
        render: impl FnOnce(&Conference, &[Event]) -> Vec<OutgoingNotice>,
    ) -> Option<Result<Turn, Refusal>> {
        let Loaded { conference, position } = self.known.as_mut()?;
        let outcome = match conference.handle(at, input) {
            Ok(outcome) => outcome,
            Err(refusal) => return Some(Err(refusal)),
        };
        let placed = outcome.events.iter().filter_map(|event| match event {
            Event::CallPlaced { call, .. } => Some(*call),
            _ => None,
        });
        let placed = placed.collect();
        let commit = (!outcome.events.is_empty()).then(|| {
            let after = *position + outcome.events.len() as u64;
            Commit {
                conference: self.id,
                position: *position,
                at,
                notices: render(conference, &outcome.events),
                snapshot: wants_snapshot(*position, after).then(|| Box::new(conference.clone())),
                events: outcome.events,
            }
        });
        Some(Ok(Turn { at, commit, effects: outcome.effects, answer: outcome.answer, placed }))
    }

    pub(crate) fn committed(&mut self, position: u64) {
        if let Some(known) = &mut self.known {
            known.position = position;
        }
    }

    /// Memory is wrong and the log is right.
    pub(crate) fn forget(&mut self) {
        self.known = None;
    }

    /// A closed conference has no log any more: whatever comes next begins from nothing.
    pub(crate) fn closed(&mut self) {
        *self = Self::blank(self.id);
    }
}
