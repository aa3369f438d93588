//! Messages between conferences: durable in the sender's log, sent in order until they are acknowledged, taken once.
//!
//! The receiver remembers the highest number it took of each sender; so an earlier message must never arrive after a
//! later one. Whenever one does not get through, its addressee gets nothing more until all is sent again from the first.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::{Conference, ConferenceId, Message, Signal};

use crate::registry::{Item, NotPosted, Shared, WhenMissing};

/// The sending side of one conference.
#[derive(Default)]
pub(crate) struct Sender {
    /// Who did not get something.
    behind: BTreeSet<ConferenceId>,
}

impl Sender {
    /// Sends one message. Answers what is to be told to the sender itself: that there is nobody to take it.
    pub(crate) fn tell(
        &mut self,
        shared: &Arc<Shared>,
        from: ConferenceId,
        to: ConferenceId,
        number: u64,
        message: &Message,
    ) -> Option<Signal> {
        if self.behind.contains(&to) {
            return None;
        }
        let told = Signal::Told { from, number, message: message.clone() };
        match shared.post(to, Item::Signal(told), WhenMissing::GiveUp) {
            Ok(()) => None,
            Err(NotPosted::Full) => {
                self.behind.insert(to);
                None
            }
            Err(NotPosted::Missing) => Some(Signal::Undeliverable { to, number }),
        }
    }

    /// Sends everything that was not acknowledged, in order. Answers what is to be told to the sender itself.
    pub(crate) fn tell_again(&mut self, shared: &Arc<Shared>, conference: &Conference) -> Vec<Signal> {
        self.behind.clear();
        let from = conference.id();
        conference.outgoing().filter_map(|(number, to, message)| self.tell(shared, from, to, number, message)).collect()
    }
}
