//! Legs of an earlier process are taken up: their dialogs are restored, and what their peers say before that waits.
//!
//! A dialog that this process does not know yet is no dialog that does not exist. So for a while after the start,
//! requests within unknown dialogs and final answers to unknown INVITEs of ours are neither answered nor acknowledged,
//! but kept; once everything is taken up, they are received as if they came just then.

use std::collections::VecDeque;

use super::servers::Source;
use super::talking::Session;
use super::talking::asked::dialog_id;
use super::vocabulary::{AgentConfig, Credentials, EndReason, Report, Snapshot, TakeUp};
use super::{Agent, Due, Leg};
use crate::dialog::{Dialog, Restored, UnreadableSnapshot};
use crate::message::{Message, Method, Request, Response, Via};

/// Messages that are kept at most. Over UDP those beyond are sent again by their peers.
const WITHHELD_MAX: usize = 4_096;

/// What waits until everything is taken up.
#[derive(Debug)]
pub(super) struct Withheld {
    is_taking_up: bool,
    messages: VecDeque<(Message, Source)>,
}

impl Withheld {
    pub(super) fn new(config: &AgentConfig) -> Self {
        Self { is_taking_up: config.take_up_within.is_some(), messages: VecDeque::new() }
    }
}

impl Agent {
    /// Restores the dialog of a leg.
    pub(super) fn take_up(&mut self, order: TakeUp) {
        let TakeUp { leg, snapshot, credentials } = order;
        if self.legs.contains_key(&leg) {
            return;
        }
        let Ok(restored) = self.restored(&snapshot) else {
            self.report(Report::Ended { leg, reason: EndReason::Lost, local: true });
            return;
        };
        let account = credentials.as_ref().map(Credentials::account);
        let session = Session::of_earlier(self.now, restored, account);
        self.dialogs.insert(session.dialog.id.clone(), leg);
        self.legs.insert(leg, Leg::Talking(Box::new(session)));
        self.watch_leg(leg);
    }

    /// A dialog as an earlier process left it, with numbers that it cannot have used.
    pub(super) fn restored(&self, snapshot: &Snapshot) -> Result<Restored, UnreadableSnapshot> {
        let mut restored = Dialog::restore(snapshot)?;
        restored.dialog.skip_to(self.untold(restored.dialog.local_cseq));
        Ok(restored)
    }

    /// Everything is taken up: what waited is received.
    pub(super) fn taken_up(&mut self) {
        self.withheld.is_taking_up = false;
        self.alarms.set(Due::TakingUp, None);
        for (message, source) in std::mem::take(&mut self.withheld.messages) {
            self.receive_message(message, source);
        }
    }

    /// Keeps a message that may concern a leg that is yet to be taken up; gives back any other.
    pub(super) fn withhold(&mut self, message: Message, source: Source) -> Option<Message> {
        if !self.withheld.is_taking_up {
            return Some(message);
        }
        let is_early = match &message {
            Message::Request(request) => self.is_early_request(request),
            Message::Response(response) => self.is_early_response(response),
        };
        if !is_early {
            return Some(message);
        }
        if self.withheld.messages.len() < WITHHELD_MAX {
            self.withheld.messages.push_back((message, source));
        } else {
            self.counters.shed += 1;
        }
        None
    }

    fn is_early_request(&self, request: &Request) -> bool {
        // An ACK is never answered, and one without its dialog means nothing.
        request.method != Method::Ack && dialog_id(request).is_some_and(|id| !self.dialogs.contains_key(&id))
    }

    fn is_early_response(&self, response: &Response) -> bool {
        let headers = &response.headers;
        let is_ours = headers.call_id().is_ok_and(|call_id| self.naming.is_ours(call_id));
        let is_invite = headers.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        if !is_ours || !is_invite {
            return false;
        }
        let via = headers.top_via().ok();
        let branch = via.as_ref().and_then(Via::branch);
        branch.is_some_and(|branch| !self.client_index.contains_key(&(branch.to_owned(), Method::Invite)))
    }
}
