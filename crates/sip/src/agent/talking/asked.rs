//! What the peer asks within a dialog: offers, refreshes, tones, the end; and its ACK.

use std::time::Duration;

use super::{Theirs, Unacknowledged, is_too_short, with_session};
use crate::agent::calling::sdp_of;
use crate::agent::servers::{ALLOW, ServerKey, Source};
use crate::agent::vocabulary::{EndReason, HangUpCause, Hint, LegKey, Report, Tone};
use crate::agent::{Agent, Leg};
use crate::dialog::DialogId;
use crate::invite::reinvite::{ANSWER_WITHIN, Admission, MIN_SE};
use crate::message::{HeaderName, Method, NameAddr, Refresher, Request, SessionExpires};

impl Agent {
    /// A request with a To tag.
    pub(in crate::agent) fn receive_within(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get(&key) else { return };
        let request = transaction.request.clone();
        let source = transaction.source;
        let leg = dialog_id(&request).and_then(|id| self.dialogs.get(&id).copied());
        let (Some(leg), Ok(cseq)) = (leg, request.headers.cseq()) else {
            self.reply(key, 481);
            return;
        };
        if let Some(Leg::Calling(_)) = self.legs.get(&leg) {
            if let Some(id) = dialog_id(&request) {
                self.receive_early(key, leg, &id, &request);
            }
            return;
        }
        if !self.legs.contains_key(&leg) {
            self.reply(key, 481);
            return;
        }
        if !self.is_peer(leg, source) && !self.is_proven(key, leg, &request) {
            return;
        }
        self.trust(key);
        let (dialog, peer) = match self.legs.get_mut(&leg) {
            Some(Leg::Talking(session)) => (&mut session.dialog, &mut session.peer),
            Some(Leg::Called(called)) => (&mut called.dialog, &mut called.peer),
            Some(Leg::Calling(_)) | None => return,
        };
        peer.is_at(source.address.ip());
        if !dialog.admit(cseq.number) {
            self.reply(key, 500);
            return;
        }
        if dialog.heard_from.is_some() {
            // The peer's Contact leads nowhere, and its NAT may have moved it.
            let hint = Hint { flow: Some(source.flow), transport: source.transport, destination: source.address };
            dialog.heard_from = Some(hint);
        }
        let is_early = matches!(self.legs.get(&leg), Some(Leg::Called(_)));
        match request.method {
            Method::Bye => {
                self.reply(key, 200);
                let cause = request.headers.reason().ok().flatten().and_then(|reason| reason.cause);
                if is_early {
                    self.called_ended(leg, Some(487), EndReason::Bye { cause }, false);
                } else {
                    self.finish(leg, None, EndReason::Bye { cause }, false);
                }
            }
            // RFC 3261 §14.2: an INVITE while the first one is not answered.
            Method::Invite | Method::Update if is_early => self.reply_later(key, 500),
            Method::Invite => self.receive_reinvite(key, leg, &request),
            Method::Update => self.receive_update(key, leg, &request),
            Method::Info => self.receive_info(key, leg, &request),
            Method::Options => self.reply_to_options(key),
            Method::Prack => self.receive_prack(key, leg, &request),
            // RFC 6665 §4.1.3: nothing of that kind was asked for.
            Method::Notify => self.reply(key, 481),
            Method::Ack
            | Method::Cancel
            | Method::Register
            | Method::Subscribe
            | Method::Refer
            | Method::Message
            | Method::Publish
            | Method::Other(_) => self.reply_with(key, 405, |response| response.with(HeaderName::Allow, ALLOW)),
        }
    }

    fn receive_reinvite(&mut self, key: ServerKey, leg: LegKey, request: &Request) {
        let Some(timer) = self.admit_offer(key, leg, request) else { return };
        if let Some(transaction) = self.servers.get_mut(&key) {
            transaction.leg = Some(leg);
        }
        if let Some(offer) = sdp_of(&request.headers, &request.body) {
            self.take_offer(key, leg, offer, true);
            return;
        }
        // RFC 3261 §14.2: without an offer the peer asks for ours; the ACK brings its answer.
        let now = self.now;
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        let Some(session) = self.session(leg) else { return };
        session.offers.remote_begins();
        session.unacknowledged = Some(Unacknowledged { key, number, has_offer: true, is_first: false });
        session.start_timer(now, timer, Refresher::Uas);
        let contact = NameAddr::new(session.dialog.local_target.clone());
        let offer = session.local_sdp.clone();
        self.reply_with(key, 200, |response| {
            with_session(response, contact, timer).with_body("application/sdp", offer)
        });
        self.watch_leg(leg);
    }

    fn receive_update(&mut self, key: ServerKey, leg: LegKey, request: &Request) {
        if let Some(offer) = sdp_of(&request.headers, &request.body) {
            if self.admit_offer(key, leg, request).is_some() {
                self.take_offer(key, leg, offer, false);
            }
            return;
        }
        // RFC 4028 §9: a refresh, or a new target, and nothing else.
        if is_too_short(&request.headers) {
            self.reply_too_short(key);
            return;
        }
        let timer = self.agreed_timer(leg, &request.headers);
        let now = self.now;
        let Some(session) = self.session(leg) else { return };
        let is_retargeted = session.dialog.retarget(&request.headers);
        let timer_before = session.dialog.timer;
        session.start_timer(now, timer, Refresher::Uas);
        let is_reshaped = is_retargeted || timer_before != session.dialog.timer;
        let contact = NameAddr::new(session.dialog.local_target.clone());
        let snapshot = session.snapshot();
        self.reply_with(key, 200, |response| with_session(response, contact, timer));
        self.watch_leg(leg);
        if is_reshaped {
            self.report(Report::Reshaped { leg, snapshot });
        }
    }

    /// Whether an offer, or the wish for one, may be taken; refused otherwise.
    #[expect(clippy::option_option, reason = "refused, and admitted without a timer, are different outcomes")]
    fn admit_offer(&mut self, key: ServerKey, leg: LegKey, request: &Request) -> Option<Option<SessionExpires>> {
        let session = self.session(leg)?;
        if session.parting.is_some() {
            self.reply(key, 481);
            return None;
        }
        if !session.is_acknowledged() {
            self.reply(key, 491);
            return None;
        }
        match session.offers.admit() {
            Admission::Glare => {
                self.reply(key, 491);
                return None;
            }
            Admission::Later => {
                self.reply_later(key, 500);
                return None;
            }
            Admission::Take => {}
        }
        if is_too_short(&request.headers) {
            self.reply_too_short(key);
            return None;
        }
        let timer = self.agreed_timer(leg, &request.headers);
        let session = self.session(leg)?;
        session.dialog.retarget(&request.headers);
        session.note_allow(&request.headers);
        Some(timer)
    }

    fn take_offer(&mut self, key: ServerKey, leg: LegKey, offer: Vec<u8>, is_invite: bool) {
        let until = self.now + ANSWER_WITHIN;
        let Some(session) = self.session(leg) else { return };
        session.offers.remote_begins();
        session.theirs = Some(Theirs { key, until, offer: offer.clone(), is_invite });
        let snapshot = session.snapshot();
        if is_invite {
            self.reply(key, 100);
        }
        self.watch_leg(leg);
        self.report(Report::Offered { leg, sdp: offer, snapshot });
    }

    pub(in crate::agent) fn reply_too_short(&mut self, key: ServerKey) {
        self.reply_with(key, 422, |response| response.with(HeaderName::MinSe, MIN_SE.as_secs().to_string()));
    }

    fn receive_info(&mut self, key: ServerKey, leg: LegKey, request: &Request) {
        if request.body.is_empty() {
            self.reply(key, 200);
            return;
        }
        let media = request.headers.content_type().ok().flatten().map(|kind| kind.media);
        let tone = match media.as_deref() {
            Some("application/dtmf-relay") => relayed_tone(&request.body),
            Some("application/dtmf") => plain_tone(&request.body),
            Some(_) | None => {
                let accept = "application/dtmf-relay, application/dtmf";
                self.reply_with(key, 415, |response| response.with(HeaderName::Accept, accept));
                return;
            }
        };
        match tone {
            Some(tone) => {
                self.reply(key, 200);
                if self.session(leg).is_some_and(|session| session.parting.is_none()) {
                    self.report(Report::Dtmf { leg, tone });
                }
            }
            None => self.reply(key, 400),
        }
    }

    /// An ACK that is not part of its transaction: of a 2xx of ours.
    pub(in crate::agent) fn success_acknowledged(&mut self, request: &Request, source: Source) {
        let leg = dialog_id(request).and_then(|id| self.dialogs.get(&id).copied());
        let (Some(leg), Ok(cseq)) = (leg, request.headers.cseq()) else { return };
        // It may bring a session description: where our audio goes.
        if !self.is_peer(leg, source) {
            self.counters.foreign_received += 1;
            return;
        }
        let Some(session) = self.session(leg) else { return };
        let Some(unacknowledged) = session.unacknowledged.take_if(|one| one.number == cseq.number) else { return };
        session.offers.remote_ends();
        let answer = sdp_of(&request.headers, &request.body).filter(|_| unacknowledged.has_offer);
        if let Some(answer) = &answer {
            session.remote_sdp.clone_from(answer);
        }
        let snapshot = session.snapshot();
        let parting = session.parting.clone();
        self.stop_repeating(unacknowledged.key);
        if let Some(cause) = parting {
            self.end_with_bye(leg, &cause, EndReason::HungUp);
            return;
        }
        if unacknowledged.is_first {
            if unacknowledged.has_offer && answer.is_none() {
                let cause = HangUpCause::because(488, "No answer to the offer");
                self.end_with_bye(leg, &cause, EndReason::NotConfirmed);
                return;
            }
            self.report(Report::Confirmed { leg, sdp: answer, snapshot });
        } else if let Some(sdp) = answer {
            self.report(Report::OfferAnswered { leg, sdp, snapshot });
        }
        self.send_offer(leg);
        self.watch_leg(leg);
    }

    /// The ACK of a 2xx of ours never came: the dialog is ended (RFC 3261 §13.3.1.4).
    pub(in crate::agent) fn not_acknowledged(&mut self, leg: LegKey, key: ServerKey) {
        let Some(session) = self.session(leg) else { return };
        if session.unacknowledged.as_ref().is_some_and(|one| one.key == key) {
            if session.inherited.is_some() && session.parting.is_none() {
                // It may have been a copy of a request that an earlier process has answered: then the peer has no use for
                // another answer. Whether it is there, it is asked.
                session.unacknowledged = None;
                session.offers.remote_ends();
                self.send_offer(leg);
                self.send_refresh(leg);
                self.watch_leg(leg);
                return;
            }
            let cause = session.parting.clone().unwrap_or_else(|| HangUpCause::because(408, "No ACK"));
            self.end_with_bye(leg, &cause, EndReason::NotConfirmed);
        }
    }

    /// The peer cancelled its re-INVITE.
    pub(in crate::agent) fn reinvite_cancelled(&mut self, leg: LegKey, key: ServerKey) {
        let Some(session) = self.session(leg) else { return };
        if session.theirs.take_if(|theirs| theirs.key == key).is_none() {
            return;
        }
        session.offers.remote_ends();
        let snapshot = session.snapshot();
        self.reply(key, 487);
        self.send_offer(leg);
        self.watch_leg(leg);
        self.report(Report::Reshaped { leg, snapshot });
    }
}

/// The dialog a request of the peer belongs to.
pub(in crate::agent) fn dialog_id(request: &Request) -> Option<DialogId> {
    let headers = &request.headers;
    Some(DialogId {
        call_id: headers.call_id().ok()?.to_owned(),
        local_tag: headers.to().ok()?.tag()?.to_owned(),
        remote_tag: headers.from().ok()?.tag().unwrap_or_default().to_owned(),
    })
}

/// `Signal=5`, `Duration=160`, a line each.
fn relayed_tone(body: &[u8]) -> Option<Tone> {
    let text = std::str::from_utf8(body).ok()?;
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let duration =
        value("duration").and_then(|text| text.parse::<u16>().ok()).map(|ms| Duration::from_millis(ms.into()));
    Some(Tone { digit: digit(value("signal")?)?, duration })
}

fn plain_tone(body: &[u8]) -> Option<Tone> {
    Some(Tone { digit: digit(std::str::from_utf8(body).ok()?.trim())?, duration: None })
}

fn digit(text: &str) -> Option<char> {
    // RFC 4733 numbers: some send `10` for `*` and `11` for `#`.
    match text {
        "10" => Some('*'),
        "11" => Some('#'),
        _ => {
            let mut characters = text.chars().map(|character| character.to_ascii_uppercase());
            let digit = characters.next().filter(|digit| matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D'))?;
            characters.next().is_none().then_some(digit)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{plain_tone, relayed_tone};

    #[test]
    fn tones_by_info_are_read() {
        let tone = relayed_tone(b"Signal= 5\r\nDuration= 160\r\n").unwrap();
        assert_eq!((tone.digit, tone.duration), ('5', Some(Duration::from_millis(160))));
        assert_eq!(relayed_tone(b"Signal=11").unwrap().digit, '#');
        assert_eq!(plain_tone(b"a\r\n").unwrap().digit, 'A');
        assert_eq!(plain_tone(b"55"), None);
        assert_eq!(relayed_tone(b"Duration=160"), None);
        assert_eq!(relayed_tone(b"\xff"), None);
    }
}
