//! Provisional responses that have to arrive: repeated until the caller's PRACK (RFC 3262, the called side).

use super::{Called, Reliability};
use crate::agent::servers::ServerKey;
use crate::agent::vocabulary::{EndReason, LegKey};
use crate::agent::{Agent, Leg};
use crate::invite::reliable::{Provisional, ProvisionalStep};
use crate::message::{HeaderName, Method, NameAddr, Request, Response};

impl Agent {
    pub(super) fn is_to_arrive(&self, called: &Called, reliability: Reliability) -> bool {
        let Some(transaction) = self.servers.get(&called.invite) else { return false };
        let headers = &transaction.request.headers;
        let is_required = headers.require().is_ok_and(|tags| tags.iter().any(|tag| tag.eq_ignore_ascii_case("100rel")));
        match reliability {
            Reliability::IfRequired => is_required,
            Reliability::IfSupported => is_required || headers.supports("100rel"),
        }
    }

    pub(super) fn ring_reliably(&mut self, leg: LegKey, mut provisional: Provisional) {
        let Some(Leg::Called(called)) = self.legs.get_mut(&leg) else { return };
        if called.offer.is_none() {
            // A description would be an offer, and its answer would come with the PRACK; ours comes with the 2xx.
            provisional.sdp = None;
        }
        called.provisionals.push(provisional);
        self.send_provisional(leg);
    }

    /// Sends the next provisional response, if none waits for its PRACK.
    fn send_provisional(&mut self, leg: LegKey) {
        let now = self.now;
        let Some(Leg::Called(called)) = self.legs.get_mut(&leg) else { return };
        if let Some((rseq, provisional)) = called.provisionals.next(now) {
            let (invite, contact) = (called.invite, NameAddr::new(called.dialog.local_target.clone()));
            self.reply_with(invite, provisional.status, |response| {
                let response = response.with(HeaderName::Require, "100rel").with(HeaderName::RSeq, rseq.to_string());
                with_provisional(response, contact, provisional)
            });
        }
        self.watch_leg(leg);
    }

    /// PRACK within the dialog of an INVITE that rings, or that was accepted meanwhile.
    pub(in crate::agent) fn receive_prack(&mut self, key: ServerKey, leg: LegKey, request: &Request) {
        let Ok(Some(rack)) = request.headers.rack() else { return self.reply(key, 400) };
        let is_known = match self.legs.get_mut(&leg) {
            Some(Leg::Called(called)) => {
                let transaction = self.servers.get(&called.invite);
                let number = transaction.and_then(|transaction| transaction.request.headers.cseq().ok());
                rack.cseq.method == Method::Invite
                    && number.is_some_and(|cseq| cseq.number == rack.cseq.number)
                    && called.provisionals.acknowledged(rack.rseq)
            }
            Some(Leg::Talking(session)) => session.take_prack(rack.rseq),
            Some(Leg::Calling(_)) | None => false,
        };
        if !is_known {
            // RFC 3262 §3.
            return self.reply(key, 481);
        }
        // A new offer may come with it; the session is what the answer said.
        self.reply(key, if request.body.is_empty() { 200 } else { 488 });
        if let Some(Leg::Called(called)) = self.legs.get_mut(&leg)
            && let Some(sdp) = called.accepted.take()
        {
            self.accept(leg, sdp);
            return;
        }
        self.send_provisional(leg);
    }

    pub(super) fn provisional_time(&mut self, leg: LegKey) {
        let now = self.now;
        let Some(Leg::Called(called)) = self.legs.get_mut(&leg) else { return };
        match called.provisionals.time(now) {
            ProvisionalStep::Nothing => {}
            ProvisionalStep::Resend => {
                let invite = called.invite;
                self.resend(invite);
            }
            // RFC 3262 §3: a caller that does not acknowledge is refused with a 5xx.
            ProvisionalStep::GiveUp => return self.called_ended(leg, Some(504), EndReason::Lost, true),
        }
        self.watch_leg(leg);
    }
}

pub(super) fn with_provisional(response: Response, contact: NameAddr, provisional: Provisional) -> Response {
    let response = response.with(HeaderName::Contact, contact);
    match provisional.sdp {
        Some(sdp) => response.with_body("application/sdp", sdp),
        None => response,
    }
}
