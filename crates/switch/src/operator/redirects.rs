//! A leg whose callee says where else to call.

use std::collections::VecDeque;

use control::{Destination, LegId};
use sip::agent::FailedBecause;
use sip::message::Uri;

use super::Operator;
use super::effects::CONTACT_USER;
use super::leg::{Leg, LegState};
use crate::causes::{Dialled, is_worth_another_trunk};
use crate::dialing::{self, Attempt, caller};
use crate::limits::REDIRECTIONS_MAX;
use crate::redirecting::{Named, gateways, named};

impl Operator {
    /// Puts what the contacts of a redirection lead to in front of what is still to be tried.
    pub(super) fn follow(&mut self, id: LegId, contacts: &[Uri]) {
        let Some(Leg { dialled, state: LegState::Dialing(dialing), .. }) = self.legs.get(&id) else { return };
        if contacts.is_empty() || dialing.redirections >= REDIRECTIONS_MAX {
            return;
        }
        let (onward, is_number) = match (dialled, &dialing.asked, &dialing.target.destination) {
            (Dialled::Number, Some(asked), _) => (gateways(asked, contacts), true),
            (Dialled::Line, _, Destination::Line { domain, .. }) => {
                let named = named(&self.directory.load(), dialing.target.tenant, domain, contacts);
                let Some(first) = named.into_iter().next() else { return };
                (self.attempts_at(id, &first), matches!(first, Named::Number(_)))
            }
            (Dialled::Number, None, _) | (Dialled::Line, _, Destination::Number(_)) => return,
        };
        tracing::info!(leg = %id, attempts = onward.len(), "redirected");
        let Some(Leg { dialled, state: LegState::Dialing(dialing), .. }) = self.legs.get_mut(&id) else { return };
        dialing.redirections += 1;
        if is_number {
            *dialled = Dialled::Number;
            dialing.caller = caller(&dialing.target.caller, CONTACT_USER, true);
        }
        for attempt in onward.into_iter().rev() {
            dialing.attempts.push_front(attempt);
        }
    }

    /// The ways to somebody whom a phone named. A number is called from the application's own (INV-22), or not at all.
    fn attempts_at(&self, id: LegId, named: &Named) -> VecDeque<Attempt> {
        let Some(Leg { state: LegState::Dialing(dialing), .. }) = self.legs.get(&id) else { return VecDeque::new() };
        match named {
            Named::Line(aor) => dialing::line(&self.agent.bindings(aor)),
            Named::Number(_) if dialing.target.caller.number.is_none() => VecDeque::new(),
            Named::Number(number) => {
                dialing::number(&self.directory.load(), dialing.target.tenant, number, &self.trunks.dead())
            }
        }
    }

    /// Whether the next attempt may be luckier than the one that failed like this. Of several contacts of a redirection
    /// each is asked until one answers or the person has spoken (RFC 3261 §8.1.3.4).
    pub(super) fn may_be_luckier(&self, id: LegId, status: u16, because: FailedBecause) -> bool {
        let Some(Leg { dialled, state: LegState::Dialing(dialing), .. }) = self.legs.get(&id) else { return false };
        match because {
            FailedBecause::Refused if dialing.redirections > 0 => status < 600,
            FailedBecause::Refused | FailedBecause::Unreachable => {
                dialing.redirections > 0 || *dialled == Dialled::Number && is_worth_another_trunk(status, because)
            }
            FailedBecause::RingTimeout | FailedBecause::Cancelled | FailedBecause::Local => false,
        }
    }
}
