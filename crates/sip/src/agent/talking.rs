//! Legs that are connected: ACK, re-INVITE, BYE. What the peer asks is in `asked`, what keeps a session alive in
//! `refreshing`.

pub(super) mod asked;
mod refreshing;

use std::time::{Duration, Instant};

use self::refreshing::{REFRESH_AGAIN, TimerStep};
pub(super) use self::refreshing::{add_wish, is_too_short};
use super::clients::{ClientKey, Owner, Sending, add_reason, retry_after};
use super::network::Way;
use super::peers::Peer;
use super::servers::{ALLOW, SUPPORTED, ServerKey};
use super::vocabulary::{EndReason, HangUpCause, LegKey, Report, Snapshot};
use super::{Agent, Due, Leg, calling::sdp_of};
use crate::dialog::{Dialog, DialogId, Restored};
use crate::digest::DigestClient;
use crate::invite::reinvite::{Least, Local, Offers};
use crate::message::{HeaderName, Method, NameAddr, Refresher, Request, Response, SessionExpires};

/// A peer that asks for a later time than this is asked again then.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// A confirmed dialog and what goes on in it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) peer: Peer,
    local_sdp: Vec<u8>,
    remote_sdp: Vec<u8>,
    ack: Ack,
    /// The INVITE that made the dialog, if it was ours.
    invite: Option<ClientKey>,
    /// The INVITEs of the same leg that were not the first to be answered.
    others: Vec<ClientKey>,
    account: Option<DigestClient>,
    offers: Offers,
    /// Our re-INVITE or UPDATE that is under way.
    ours: Option<ClientKey>,
    theirs: Option<Theirs>,
    unacknowledged: Option<Unacknowledged>,
    /// The RSeq of a provisional response whose PRACK may still come.
    late_prack: Option<u32>,
    /// When the session was begun, or last refreshed by either side.
    refreshed_at: Instant,
    /// When a refresh that failed is tried again.
    refresh_at: Option<Instant>,
    /// For Min-SE: what a 422 has taught us.
    interval_least: Least,
    /// Requests of ours up to this number were sent by an earlier process.
    inherited: Option<u32>,
    /// Ended by us; BYE waits for the ACK of our 2xx (RFC 3261 §15).
    parting: Option<HangUpCause>,
}

/// The ACK of the last 2xx to an INVITE of ours.
#[derive(Debug)]
enum Ack {
    None,
    /// Held back until the user of the agent confirms.
    Held {
        number: u32,
        until: Instant,
    },
    /// On its way out.
    Asked {
        number: u32,
    },
    Sent {
        number: u32,
        way: Way,
        bytes: Vec<u8>,
    },
}

/// An offer of the peer that waits for the answer of the user of the agent.
#[derive(Debug)]
struct Theirs {
    key: ServerKey,
    until: Instant,
    offer: Vec<u8>,
    is_invite: bool,
}

/// A 2xx of ours to an INVITE that waits for its ACK.
#[derive(Debug)]
struct Unacknowledged {
    key: ServerKey,
    number: u32,
    /// We offered in the 2xx; the ACK brings the answer.
    has_offer: bool,
    is_first: bool,
}

impl Session {
    /// We called and were answered.
    pub(super) fn of_caller(
        now: Instant,
        dialog: Dialog,
        peer: Peer,
        local_sdp: Vec<u8>,
        remote_sdp: Vec<u8>,
        confirm_within: Duration,
        invite: ClientKey,
    ) -> Self {
        let ack = Ack::Held { number: dialog.local_cseq, until: now + confirm_within };
        Self { ack, invite: Some(invite), ..Self::new(now, dialog, peer, local_sdp, remote_sdp) }
    }

    /// Others were called as well.
    pub(super) fn beside(self, others: Vec<ClientKey>) -> Self {
        Self { others, ..self }
    }

    /// Who we are, for a peer that asks.
    pub(super) fn with_account(self, account: Option<DigestClient>) -> Self {
        Self { account, ..self }
    }

    /// We were called and have answered, with an answer or, if the INVITE had no offer, with our own. The INVITE is named
    /// by its transaction and its number.
    pub(super) fn of_callee(
        now: Instant,
        dialog: Dialog,
        peer: Peer,
        local_sdp: Vec<u8>,
        offer: Option<Vec<u8>>,
        (key, number): (ServerKey, u32),
    ) -> Self {
        let unacknowledged = Unacknowledged { key, number, has_offer: offer.is_none(), is_first: true };
        let mut session = Self::new(now, dialog, peer, local_sdp, offer.unwrap_or_default());
        session.unacknowledged = Some(unacknowledged);
        session.offers.remote_begins();
        session
    }

    /// An earlier process talked.
    pub(super) fn of_earlier(now: Instant, restored: Restored, account: Option<DigestClient>) -> Self {
        let Restored { dialog, local_sdp, remote_sdp } = restored;
        let inherited = Some(dialog.local_cseq);
        Self { account, inherited, ..Self::new(now, dialog, Peer::default(), local_sdp, remote_sdp) }
    }

    fn new(now: Instant, dialog: Dialog, peer: Peer, local_sdp: Vec<u8>, remote_sdp: Vec<u8>) -> Self {
        Self {
            dialog,
            peer,
            local_sdp,
            remote_sdp,
            ack: Ack::None,
            invite: None,
            others: Vec::new(),
            account: None,
            offers: Offers::default(),
            ours: None,
            theirs: None,
            unacknowledged: None,
            late_prack: None,
            refreshed_at: now,
            refresh_at: None,
            interval_least: Least::default(),
            inherited: None,
            parting: None,
        }
    }

    /// Accepted before the PRACK of a provisional response came: it is on its way.
    pub(super) fn expect_prack(&mut self, rseq: Option<u32>) {
        self.late_prack = rseq;
    }

    /// Whether a PRACK for this number was expected.
    pub(super) fn take_prack(&mut self, rseq: u32) -> bool {
        self.late_prack.take_if(|expected| *expected == rseq).is_some()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.dialog.snapshot(&self.local_sdp, &self.remote_sdp)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = match self.ack {
            Ack::Held { until, .. } => Some(until),
            Ack::None | Ack::Asked { .. } | Ack::Sent { .. } => None,
        };
        let theirs = self.theirs.as_ref().map(|theirs| theirs.until);
        let timer = self.timer_due();
        held.into_iter().chain(theirs).chain(timer).chain(self.offers.due_at()).min()
    }

    fn is_acknowledged(&self) -> bool {
        match self.ack {
            Ack::Held { .. } => false,
            Ack::None | Ack::Asked { .. } | Ack::Sent { .. } => true,
        }
    }
}

/// The headers of a 2xx within a dialog.
pub(super) fn with_session(response: Response, contact: NameAddr, timer: Option<SessionExpires>) -> Response {
    let response = response
        .with(HeaderName::Contact, contact)
        .with(HeaderName::Allow, ALLOW)
        .with(HeaderName::Supported, SUPPORTED);
    match timer {
        Some(timer) if timer.refresher == Some(Refresher::Uac) => {
            response.with(HeaderName::Require, "timer").with(HeaderName::SessionExpires, timer)
        }
        Some(timer) => response.with(HeaderName::SessionExpires, timer),
        None => response,
    }
}

impl Agent {
    fn session(&mut self, leg: LegKey) -> Option<&mut Session> {
        match self.legs.get_mut(&leg) {
            Some(Leg::Talking(session)) => Some(session),
            Some(Leg::Calling(_) | Leg::Called(_)) | None => None,
        }
    }

    // What the user of the agent orders.

    pub(super) fn confirm(&mut self, leg: LegKey) {
        let Some(session) = self.session(leg) else { return };
        if let Ack::Held { number, .. } = session.ack {
            self.send_ack(leg, number);
            self.send_offer(leg);
            self.watch_leg(leg);
        }
    }

    pub(super) fn reinvite(&mut self, leg: LegKey, offer: Vec<u8>) {
        let Some(session) = self.session(leg) else { return };
        session.offers.wish(offer);
        self.send_offer(leg);
        self.watch_leg(leg);
    }

    pub(super) fn answer_offer(&mut self, leg: LegKey, sdp: Vec<u8>) {
        let now = self.now;
        let Some(session) = self.session(leg) else { return };
        let Some(theirs) = session.theirs.take() else { return };
        session.remote_sdp = theirs.offer;
        session.local_sdp.clone_from(&sdp);
        let contact = NameAddr::new(session.dialog.local_target.clone());
        let headers = self.servers.get(&theirs.key).map(|transaction| transaction.request.headers.clone());
        let Some(headers) = headers else { return };
        let timer = self.agreed_timer(leg, &headers);
        let Some(session) = self.session(leg) else { return };
        session.start_timer(now, timer, Refresher::Uas);
        if theirs.is_invite {
            let number = headers.cseq().map_or(0, |cseq| cseq.number);
            session.unacknowledged =
                Some(Unacknowledged { key: theirs.key, number, has_offer: false, is_first: false });
        } else {
            session.offers.remote_ends();
        }
        let snapshot = session.snapshot();
        self.reply_with(theirs.key, 200, |response| {
            with_session(response, contact, timer).with_body("application/sdp", sdp)
        });
        self.send_offer(leg);
        self.watch_leg(leg);
        self.report(Report::Reshaped { leg, snapshot });
    }

    pub(super) fn refuse_offer(&mut self, leg: LegKey, status: u16) {
        let Some(session) = self.session(leg) else { return };
        let Some(theirs) = session.theirs.take() else { return };
        session.offers.remote_ends();
        self.reply(theirs.key, status.clamp(400, 699));
        self.send_offer(leg);
        self.watch_leg(leg);
    }

    pub(super) fn hang_up_talking(&mut self, leg: LegKey, cause: &HangUpCause) {
        let Some(session) = self.session(leg) else { return };
        if session.parting.is_some() {
            return;
        }
        if session.unacknowledged.as_ref().is_some_and(|unacknowledged| unacknowledged.is_first) {
            session.parting = Some(cause.clone());
            return;
        }
        self.end_with_bye(leg, cause, EndReason::HungUp);
    }

    pub(super) fn hang_up_snapshot(&mut self, leg: LegKey, snapshot: &Snapshot, cause: &HangUpCause) {
        if self.legs.contains_key(&leg) {
            return;
        }
        if let Ok(Restored { mut dialog, .. }) = self.restored(snapshot) {
            let mut bye = dialog.request(&Method::Bye);
            add_reason(&mut bye, cause);
            let bye = self.sending_within(&dialog, bye, Owner::Parting { leg });
            self.wait_for(leg, 1);
            self.send(bye);
        }
        self.tell_end(leg, Report::Ended { leg, reason: EndReason::HungUp, local: true });
    }

    // What becomes of our requests.

    fn send_within(&mut self, leg: LegKey, request: Request, owner: Owner) -> Option<ClientKey> {
        let Some(Leg::Talking(session)) = self.legs.get(&leg) else { return None };
        let account = session.account.clone();
        let sending = Sending { account, ..self.sending_within(&session.dialog, request, owner) };
        Some(self.send(sending))
    }

    fn send_ack(&mut self, leg: LegKey, number: u32) {
        let Some(session) = self.session(leg) else { return };
        let ack = session.dialog.ack(number);
        session.ack = Ack::Asked { number };
        self.send_within(leg, ack, Owner::Ack { leg });
    }

    pub(super) fn ack_was_sent(&mut self, leg: LegKey, way: Way, bytes: Vec<u8>) {
        if let Some(session) = self.session(leg)
            && let Ack::Asked { number } = session.ack
        {
            session.ack = Ack::Sent { number, way, bytes };
        }
    }

    /// A 2xx to the leg's first INVITE came again, or from another fork.
    pub(super) fn success_repeated(&mut self, key: ClientKey, leg: LegKey, response: &Response) {
        let is_same = match (self.session(leg), response.headers.to()) {
            (Some(session), Ok(to)) => to.tag().unwrap_or_default() == session.dialog.id.remote_tag,
            (Some(_) | None, _) => false,
        };
        if is_same {
            self.resend_ack(leg, response);
        } else {
            self.end_unwanted(key, response);
        }
    }

    fn resend_ack(&mut self, leg: LegKey, response: &Response) {
        let asked = response.headers.cseq().map_or(0, |cseq| cseq.number);
        let Some(session) = self.session(leg) else { return };
        if session.inherited.is_some_and(|last| asked <= last) {
            // Whether the earlier process acknowledged it is not known; the peer says that it has not heard it.
            let ack = session.dialog.ack(asked);
            self.send_within(leg, ack, Owner::Nobody);
            return;
        }
        let newest = match &session.ack {
            Ack::None => None,
            Ack::Held { number, .. } | Ack::Asked { number } | Ack::Sent { number, .. } => Some(*number),
        };
        if newest.is_some_and(|newest| asked < newest) {
            // A later re-INVITE was acknowledged meanwhile, or is about to be; the ACK of this one was lost.
            let ack = session.dialog.ack(asked);
            self.send_within(leg, ack, Owner::Nobody);
            return;
        }
        if let Ack::Sent { number, way, bytes } = &session.ack
            && *number == asked
        {
            let (way, bytes) = (*way, bytes.clone());
            if self.network.transport(way.flow).is_none() {
                self.send_ack(leg, asked);
                return;
            }
            self.counters.retransmissions_sent += 1;
            self.transmit(way, bytes);
        }
    }

    /// A 2xx whose transaction is over, to a dialog that is still there. Whether it is.
    pub(super) fn acknowledge_again(&mut self, response: &Response) -> bool {
        let headers = &response.headers;
        let (Ok(call_id), Ok(from), Ok(to)) = (headers.call_id(), headers.from(), headers.to()) else { return false };
        let id = DialogId {
            call_id: call_id.to_owned(),
            local_tag: from.tag().unwrap_or_default().to_owned(),
            remote_tag: to.tag().unwrap_or_default().to_owned(),
        };
        let leg = self.dialogs.get(&id).copied();
        if let Some(leg) = leg {
            self.resend_ack(leg, response);
        }
        leg.is_some()
    }

    /// Sends the offer that waits, if it may be sent.
    fn send_offer(&mut self, leg: LegKey) {
        let now = self.now;
        let Some(session) = self.session(leg) else { return };
        if !session.is_acknowledged() || session.parting.is_some() {
            return;
        }
        let Some(offer) = session.offers.begin(now) else { return };
        self.send_reinvite(leg, offer);
    }

    fn send_reinvite(&mut self, leg: LegKey, offer: Vec<u8>) {
        let Some(session) = self.session(leg) else { return };
        let request = session.dialog.request(&Method::Invite).with_body("application/sdp", offer);
        let request = session.with_timer(request);
        let key = self.send_within(leg, request, Owner::Within { leg });
        if let Some(session) = self.session(leg) {
            session.ours = key;
        }
    }

    /// Our re-INVITE or UPDATE is another one: with credentials.
    pub(super) fn within_moved(&mut self, leg: LegKey, key: ClientKey) {
        if let Some(session) = self.session(leg) {
            session.ours = Some(key);
        }
    }

    /// The next number of a request within the leg's dialog.
    pub(super) fn next_number(&mut self, leg: LegKey) -> Option<u32> {
        let session = self.session(leg)?;
        session.dialog.local_cseq += 1;
        Some(session.dialog.local_cseq)
    }

    /// The final response to our re-INVITE or UPDATE, or a repeated 2xx.
    pub(super) fn within_answered(&mut self, key: ClientKey, leg: LegKey, response: &Response) {
        let now = self.now;
        let jitter = Duration::from_millis(self.naming.below(190) * 10);
        let Some(request) = self.clients.get(&key).map(|transaction| transaction.request.clone()) else { return };
        let Some(session) = self.session(leg) else { return };
        if session.ours != Some(key) {
            self.resend_ack(leg, response);
            return;
        }
        session.ours = None;
        let is_invite = request.method == Method::Invite;
        if response.is_success() {
            let is_reshaped = session.note_timer(now, &response.headers) | session.dialog.retarget(&response.headers);
            let answer = sdp_of(&response.headers, &response.body);
            let local = session.offers.local_ends();
            let is_changed = answer.as_ref().is_some_and(|answer| *answer != session.remote_sdp);
            if let Some(Local::Ordered(offer)) = &local {
                session.local_sdp.clone_from(offer);
            }
            if let Some(answer) = &answer {
                session.remote_sdp.clone_from(answer);
            }
            let snapshot = session.snapshot();
            let report = match (local, answer) {
                (Some(Local::Ordered(_)), Some(sdp)) => Some(Report::OfferAnswered { leg, sdp, snapshot }),
                (Some(Local::Ordered(_)), None) => Some(Report::OfferFailed { leg, status: 488 }),
                (Some(Local::Refresh) | None, Some(sdp)) if is_changed => {
                    Some(Report::OfferAnswered { leg, sdp, snapshot })
                }
                (Some(Local::Refresh) | None, _) if is_reshaped => Some(Report::Reshaped { leg, snapshot }),
                (Some(Local::Refresh) | None, _) => None,
            };
            if is_invite {
                let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
                self.send_ack(leg, number);
            }
            if let Some(report) = report {
                self.report(report);
            }
        } else {
            let status = response.status;
            let again = match status {
                // RFC 3261 §14.1: the owner of the Call-ID waits longer, so that the two do not meet again.
                491 if session.dialog.is_caller => Some(Duration::from_millis(2100) + jitter),
                491 => Some(jitter),
                500 | 503 => retry_after(response).filter(|&after| after <= RETRY_AFTER_MAX),
                422 => session.raise_interval(&response.headers).then_some(Duration::ZERO),
                _ => None,
            };
            if session.offers.local() == Some(&Local::Refresh) {
                session.refresh_at = Some(now + again.unwrap_or(REFRESH_AGAIN));
            }
            let given_up = match again {
                Some(after) => session.offers.glare(now + after),
                None => session.offers.local_ends(),
            };
            if matches!(status, 408 | 481) {
                // RFC 3261 §12.2.1.2: the peer does not have the dialog.
                self.end_with_bye(leg, &HangUpCause::because(status, "Dialog lost"), EndReason::Lost);
                return;
            }
            if let Some(Local::Ordered(_)) = given_up {
                self.report(Report::OfferFailed { leg, status });
            }
        }
        self.send_offer(leg);
        self.watch_leg(leg);
    }

    /// A request within the dialog was never answered, or could not be sent (RFC 3261 §12.2.1.2).
    /// `key` is our re-INVITE or UPDATE; an ACK has none.
    pub(super) fn within_lost(&mut self, leg: LegKey, key: Option<ClientKey>) {
        if self.session(leg).is_some_and(|session| key.is_none() || session.ours == key) {
            self.end_with_bye(leg, &HangUpCause::because(408, "No response"), EndReason::Lost);
        }
    }

    // Time and the end.

    pub(super) fn talking_time(&mut self, leg: LegKey) {
        let now = self.now;
        let Some(session) = self.session(leg) else { return };
        if let Ack::Held { until, .. } = session.ack
            && until <= now
        {
            self.end_with_bye(leg, &HangUpCause::because(408, "Not confirmed"), EndReason::NotConfirmed);
            return;
        }
        if let Some(theirs) = session.theirs.take_if(|theirs| theirs.until <= now) {
            session.offers.remote_ends();
            self.reply(theirs.key, 500);
        }
        let Some(session) = self.session(leg) else { return };
        match session.timer_step(now) {
            TimerStep::Nothing => {}
            TimerStep::Refresh => self.send_refresh(leg),
            TimerStep::Expired => {
                let cause = HangUpCause::because(408, "Session timer expired");
                self.end_with_bye(leg, &cause, EndReason::SessionExpired);
                return;
            }
        }
        self.send_offer(leg);
        self.watch_leg(leg);
    }

    /// Ends the dialog from our side.
    fn end_with_bye(&mut self, leg: LegKey, cause: &HangUpCause, reason: EndReason) {
        // RFC 3261 §15.1.1: a 2xx is acknowledged before its dialog is ended.
        if let Some(session) = self.session(leg)
            && let Ack::Held { number, .. } = session.ack
        {
            self.send_ack(leg, number);
        }
        self.finish(leg, Some(cause), reason, true);
    }

    /// The leg is over.
    fn finish(&mut self, leg: LegKey, bye: Option<&HangUpCause>, reason: EndReason, local: bool) {
        let parting = self.session(leg).is_some_and(|session| session.parting.is_some());
        let reason = if parting { EndReason::HungUp } else { reason };
        // What we end is over when our BYE is answered: until then a later process may have to say it again. Whoever
        // is not there any more is not waited for.
        let is_awaited = bye.is_some() && reason == EndReason::HungUp;
        if let Some(cause) = bye
            && let Some(session) = self.session(leg)
        {
            let mut request = session.dialog.request(&Method::Bye);
            add_reason(&mut request, cause);
            self.send_within(leg, request, if is_awaited { Owner::Parting { leg } } else { Owner::Nobody });
            self.wait_for(leg, usize::from(is_awaited));
        }
        // What is still to be sent goes out while the leg is known, so that its ACK is remembered.
        self.send_waiting();
        let Some(Leg::Talking(session)) = self.legs.remove(&leg) else { return };
        self.alarms.set(Due::Leg(leg), None);
        self.dialogs.remove(&session.dialog.id);
        if let Some(theirs) = session.theirs {
            self.reply(theirs.key, 487);
        }
        if let Some(unacknowledged) = session.unacknowledged {
            self.stop_repeating(unacknowledged.key);
        }
        if let Some(ours) = session.ours {
            self.leave_behind(ours);
        }
        if let (Some(invite), Ack::Sent { way, bytes, .. }) = (session.invite, session.ack) {
            self.remember_ack(invite, session.dialog.id.remote_tag, way, bytes);
        }
        self.let_silent_go(leg, &session.others);
        self.tell_end(leg, Report::Ended { leg, reason, local });
    }
}
