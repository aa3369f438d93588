//! Faults of ours: in every sixteenth world, telling what a turn came to makes it fall now and then.
//!
//! What a fall costs is the engine's business: a command its answer, a signal a second try, and a conference that falls
//! twice its life, with every end told. Where even that cannot be told whole, its bare ends are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::{Conference, ConferenceId, Event};
use engine::{Detail, Render};
use store::OutgoingNotice;

use crate::chance::Chance;

/// Whoever falls because of us says so.
const TOLD: &str = "told to fall";

/// When a turn falls, of a thousand.
const FIRST_PERMILLE: u64 = 40;
/// The next turn of a conference that has just fallen: most often the same one again.
const AGAIN_PERMILLE: u64 = 700;

#[derive(Debug)]
pub(crate) struct Falls(Mutex<State>);

#[derive(Debug)]
struct State {
    chance: Chance,
    is_over: bool,
    last: Option<ConferenceId>,
    /// Not yet told.
    fresh: Vec<String>,
}

impl Falls {
    /// `None` for a world without any.
    pub(crate) fn of(seed: u64) -> Option<Arc<Self>> {
        let state = State { chance: Chance::new(!seed), is_over: false, last: None, fresh: Vec::new() };
        (seed % 16 == 9).then(|| Arc::new(Self(Mutex::new(state))))
    }

    pub(crate) fn end(&self) {
        self.state().is_over = true;
    }

    /// What fell since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state().fresh)
    }

    /// The engine's renderer, which falls.
    pub(crate) fn renderer(self: &Arc<Self>) -> Render {
        let (falls, render) = (Arc::clone(self), server::api::to_graph::renderer());
        Arc::new(move |conference, events, detail| falls.render(&render, conference, events, detail))
    }

    fn render(
        &self,
        render: &Render,
        conference: &Conference,
        events: &[Event],
        detail: Detail,
    ) -> Vec<OutgoingNotice> {
        if detail == Detail::Whole && self.falls(conference.id(), events) {
            // Without the words that a panic prints.
            std::panic::resume_unwind(Box::new(TOLD));
        }
        render(conference, events, detail)
    }

    fn falls(&self, conference: ConferenceId, events: &[Event]) -> bool {
        let mut state = self.state();
        let again = state.last.take() == Some(conference);
        let falls = !state.is_over && state.chance.permille(if again { AGAIN_PERMILLE } else { FIRST_PERMILLE });
        if falls {
            state.last = Some(conference);
            state.fresh.push(format!("{conference} falls over {} events", events.len()));
        }
        falls
    }

    /// The engine catches what we throw, but the lock has seen it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server says of such a fall, or of what follows from two, that it is an error.
pub(crate) fn is_expected(error: &str) -> bool {
    error.contains(TOLD) || error.contains("it made us fall twice")
}
