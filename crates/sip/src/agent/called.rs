//! Legs that come in: a peer calls, and the user of the agent rings, answers or refuses. What has to arrive while it
//! rings is in `reliably`.

mod reliably;

use std::time::Instant;

use self::reliably::with_provisional;
use super::calling::sdp_of;
use super::limits::PROVISIONALS_WAITING_MAX;
use super::peers::Peer;
use super::servers::{ServerKey, contact_for};
use super::talking::{Session, is_too_short, with_session};
use super::vocabulary::{EndReason, Hint, Incoming, LegKey, Report};
use super::{Agent, Due, Leg};
use crate::dialog::Dialog;
use crate::invite::reliable::{FIRST_RSEQ_MAX, Provisional, Provisionals};
use crate::message::{NameAddr, Refresher};

/// An incoming call that is not answered.
#[derive(Debug)]
pub(super) struct Called {
    invite: ServerKey,
    /// Early: it has our tag already.
    pub(super) dialog: Dialog,
    pub(super) peer: Peer,
    offer: Option<Vec<u8>>,
    give_up_at: Instant,
    provisionals: Provisionals,
    /// Accepted with this, once the answer that was said reliably has arrived.
    accepted: Option<Vec<u8>>,
}

/// Whether a provisional response has to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reliability {
    /// If the caller insists: `Require: 100rel`.
    IfRequired,
    /// If the caller knows how to acknowledge it.
    IfSupported,
}

impl Called {
    pub(super) fn deadline(&self) -> Instant {
        self.provisionals.deadline().map_or(self.give_up_at, |at| at.min(self.give_up_at))
    }
}

impl Agent {
    /// An INVITE outside of any dialog.
    pub(super) fn receive_call(&mut self, key: ServerKey) {
        let mut leg = LegKey([0; 16]);
        leg.0.copy_from_slice(&self.naming.fresh()[..16]);
        let Some(transaction) = self.servers.get_mut(&key) else { return };
        let request = &transaction.request;
        if is_too_short(&request.headers) {
            self.reply_too_short(key);
            return;
        }
        let source = transaction.source;
        let user = request.uri.user_text().unwrap_or_else(|| self.config.contact_user.clone());
        let dialog = Dialog::of_callee(request, &transaction.tag, contact_for(&user, source));
        let (Ok(mut dialog), Ok(from), Ok(to)) = (dialog, request.headers.from(), request.headers.to()) else {
            self.reply(key, 400);
            return;
        };
        let hint = Hint { flow: Some(source.flow), transport: source.transport, destination: source.address };
        dialog.hear_from(hint, false);
        let offer = sdp_of(&request.headers, &request.body);
        let asserted = request.headers.asserted_identities().ok().and_then(|list| list.into_iter().next());
        let incoming = Incoming {
            leg,
            request_uri: request.uri.clone(),
            from_display: from.display.map(|display| String::from_utf8_lossy(&display).into_owned()),
            from: from.uri,
            to: to.uri,
            asserted: asserted.map(|address| address.uri),
            call_id: dialog.id.call_id.clone(),
            sdp: offer.clone(),
            source: source.address,
        };
        transaction.leg = Some(leg);
        self.trust(key);
        let first_rseq = 1 + self.naming.below(FIRST_RSEQ_MAX.into()) as u32;
        let provisionals = Provisionals::new(first_rseq, PROVISIONALS_WAITING_MAX, self.timing);
        self.dialogs.insert(dialog.id.clone(), leg);
        let give_up_at = self.now + self.config.incoming_ring_for;
        let called = Called {
            invite: key,
            dialog,
            peer: Peer::at(source.address.ip()),
            offer,
            give_up_at,
            provisionals,
            accepted: None,
        };
        self.legs.insert(leg, Leg::Called(Box::new(called)));
        self.reply(key, 100);
        self.watch_leg(leg);
        self.report(Report::Incoming(Box::new(incoming)));
    }

    pub(super) fn ring(&mut self, leg: LegKey, provisional: Provisional, reliability: Reliability) {
        let Some(Leg::Called(called)) = self.legs.get(&leg) else { return };
        let Provisional { status, sdp } = provisional;
        let provisional = Provisional { status: status.clamp(101, 199), sdp };
        if self.is_to_arrive(called, reliability) {
            self.ring_reliably(leg, provisional);
            return;
        }
        let contact = NameAddr::new(called.dialog.local_target.clone());
        self.reply_with(called.invite, provisional.status, |response| with_provisional(response, contact, provisional));
    }

    pub(super) fn accept(&mut self, leg: LegKey, sdp: Vec<u8>) {
        let Some(Leg::Called(called)) = self.legs.get_mut(&leg) else { return };
        if called.provisionals.holds_success() {
            called.accepted.get_or_insert(sdp);
            return;
        }
        let Some(Leg::Called(called)) = self.legs.remove(&leg) else { return };
        let Called { invite, dialog, peer, offer, provisionals, .. } = *called;
        let contact = NameAddr::new(dialog.local_target.clone());
        // RFC 3262 §5: what was said reliably is the answer, and the 2xx says no other.
        let said = provisionals.answer().map(<[u8]>::to_vec);
        let body = if said.is_some() { Vec::new() } else { sdp.clone() };
        let request = self.servers.get(&invite).map(|transaction| &transaction.request);
        let number = request.and_then(|request| request.headers.cseq().ok()).map_or(0, |cseq| cseq.number);
        let mut session = Session::of_callee(self.now, dialog, peer, said.unwrap_or(sdp), offer, (invite, number));
        session.expect_prack(provisionals.unacknowledged());
        let mut timer = None;
        if let Some(transaction) = self.servers.get(&invite) {
            timer = self.agreed_timer(leg, &transaction.request.headers);
            session.note_allow(&transaction.request.headers);
        }
        session.start_timer(self.now, timer, Refresher::Uas);
        self.legs.insert(leg, Leg::Talking(Box::new(session)));
        self.reply_with(invite, 200, |response| {
            let response = with_session(response, contact, timer);
            if body.is_empty() { response } else { response.with_body("application/sdp", body) }
        });
        self.watch_leg(leg);
    }

    pub(super) fn refuse(&mut self, leg: LegKey, status: u16) {
        self.called_ended(leg, Some(status.clamp(300, 699)), EndReason::HungUp, true);
    }

    /// The caller gave up, or for a re-INVITE within a dialog, changed its mind.
    pub(super) fn invite_cancelled(&mut self, invite: ServerKey, cause: Option<u16>) {
        let leg = self.servers.get(&invite).and_then(|transaction| transaction.leg);
        match leg.and_then(|leg| Some((leg, self.legs.get(&leg)?))) {
            Some((leg, Leg::Called(_))) => {
                self.called_ended(leg, Some(487), EndReason::Cancelled { cause }, false);
            }
            Some((leg, Leg::Talking(_))) => self.reinvite_cancelled(leg, invite),
            Some((_, Leg::Calling(_))) | None => self.reply(invite, 487),
        }
    }

    pub(super) fn called_time(&mut self, leg: LegKey) {
        if let Some(Leg::Called(called)) = self.legs.get(&leg)
            && called.give_up_at <= self.now
        {
            self.called_ended(leg, Some(480), EndReason::NotAnswered, true);
            return;
        }
        self.provisional_time(leg);
    }

    /// An incoming call ends without having been answered.
    pub(super) fn called_ended(&mut self, leg: LegKey, status: Option<u16>, reason: EndReason, local: bool) {
        if !matches!(self.legs.get(&leg), Some(Leg::Called(_))) {
            return;
        }
        let Some(Leg::Called(called)) = self.legs.remove(&leg) else { return };
        self.alarms.set(Due::Leg(leg), None);
        self.dialogs.remove(&called.dialog.id);
        if let Some(status) = status {
            self.reply(called.invite, status);
        }
        self.report(Report::Ended { leg, reason, local });
    }
}
