//! Legs that are being dialled: all branches ring at once, the first answer wins, the others are cancelled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::clients::{ClientKey, Lost, Owner, Sending, ViaBranch, add_reason, retry_after, with_same_branch};
use super::limits::REDIRECTS_MAX;
use super::naming::{CallNames, Naming};
use super::network::Hop;
use super::peers::Peer;
use super::servers::{ALLOW, SUPPORTED, SUPPORTED_WITH_RELIABLE};
use super::talking::{Session, add_wish};
use super::vocabulary::{
    Branch, Caller, CancelDerived, Credentials, Dial, Dialled, FailedBecause, HangUpCause, LegKey, Report, Waits,
};
use super::{Agent, BRANCHES_MAX, Due, Leg};
use crate::dialog::Dialog;
use crate::digest::DigestClient;
use crate::invite::initiator::{better, is_worth_failing_over};
use crate::invite::reinvite::Wish;
use crate::message::{CSeq, HeaderName, Method, NameAddr, Refresher, Request, Response, Scheme, Uri};

/// Header fields that [`Dial::extra_headers`] may not replace.
const OWN_HEADERS: [HeaderName; 11] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::MaxForwards,
    HeaderName::Route,
    HeaderName::ContentLength,
    HeaderName::ContentType,
    HeaderName::Authorization,
];

/// Nothing rings for longer, whatever was ordered.
const RING_FOR_MAX: Duration = Duration::from_hours(1);

/// Most targets of one branch that are tried.
const TARGETS_MAX: usize = 8;

/// A leg that rings.
#[derive(Debug)]
pub(super) struct Calling {
    caller: Caller,
    offer: Vec<u8>,
    account: Option<DigestClient>,
    extra_headers: Vec<(String, String)>,
    ring_until: Instant,
    untold: u32,
    attempts: Vec<Attempt>,
    best: Option<Failure>,
}

/// One branch of it.
#[derive(Debug)]
struct Attempt {
    branch: Branch,
    /// Of the call of the target that is being tried, and the number of its last INVITE.
    names: CallNames,
    cseq: u32,
    /// What is still to be tried.
    targets: VecDeque<Target>,
    /// The INVITE that rings; none once the branch has failed.
    invite: Option<ClientKey>,
    started_at: Instant,
    /// Provisional statuses that were reported.
    reported: BTreeSet<u16>,
    /// Something was heard of this target: it is not given up for another one.
    is_heard: bool,
    early_sdp: Option<Vec<u8>>,
    /// The session timer that is asked for.
    wish: Wish,
}

/// One of those that stand in for each other. Each is a call of its own, whatever the order in which they are tried.
#[derive(Debug)]
struct Target {
    uri: Uri,
    names: CallNames,
}

/// A leg of which something rings that nobody wants any longer. Its end is told once that has stopped: were it told
/// before, and this process died, nobody would cancel what is not cancelled yet, and phones would ring on.
#[derive(Debug)]
pub(super) struct Withdrawn {
    /// INVITEs, CANCELs and BYEs that have to end.
    pub(super) left: usize,
    /// What is told then; nothing while it goes on elsewhere.
    pub(super) end: Option<Report>,
}

/// Why a leg, or a branch of it, has failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: u16,
    phrase: String,
    because: FailedBecause,
    retry_after: Option<Duration>,
    contacts: Vec<Uri>,
}

impl Failure {
    fn ours(status: u16, because: FailedBecause) -> Self {
        let phrase = crate::message::reason_phrase(status).to_owned();
        Self { status, phrase, because, retry_after: None, contacts: Vec::new() }
    }

    fn withdrawn() -> Self {
        Self::ours(487, FailedBecause::Cancelled)
    }

    fn report(self, leg: LegKey) -> Report {
        let Self { status, phrase, because, retry_after, contacts } = self;
        Report::Failed { leg, status, because, phrase, retry_after, contacts }
    }
}

impl Attempt {
    fn is_waiting_elsewhere(&self) -> bool {
        !self.is_heard && !self.targets.is_empty()
    }
}

impl Calling {
    /// The INVITEs that ring.
    pub(super) fn invites(&self) -> impl Iterator<Item = ClientKey> {
        self.attempts.iter().filter_map(|attempt| attempt.invite)
    }

    pub(super) fn deadline(&self, failover_after: Duration) -> Instant {
        let elsewhere =
            self.attempts.iter().filter(|attempt| attempt.invite.is_some() && attempt.is_waiting_elsewhere());
        elsewhere
            .map(|attempt| attempt.started_at + failover_after)
            .chain([self.ring_until])
            .min()
            .unwrap_or(self.ring_until)
    }
}

impl Agent {
    /// Numbers within its dialogs up to `untold` may have been used by an earlier process.
    pub(super) fn dial(&mut self, dial: Dial, untold: u32) {
        let leg = dial.leg;
        let refused = if self.legs.contains_key(&leg) {
            // The leg that has this key lives on, and its own end will be reported; this order has none.
            return;
        } else if dial.branches.is_empty() {
            Some(400)
        } else if self.is_draining || self.is_filled(1) || self.legs.len() >= self.config.legs_max {
            self.counters.shed += 1;
            Some(503)
        } else {
            None
        };
        if let Some(status) = refused {
            self.report(Failure::ours(status, FailedBecause::Local).report(leg));
            return;
        }
        let mut named = BTreeMap::new();
        let attempts = dial.branches.into_iter().take(BRANCHES_MAX).map(|branch| {
            let targets = targets_of(&self.naming, leg, &branch, &mut named);
            Attempt {
                names: targets[0].names.clone(),
                cseq: 0,
                targets: targets.into(),
                invite: None,
                started_at: self.now,
                reported: BTreeSet::new(),
                is_heard: false,
                early_sdp: None,
                wish: Wish::of(self.config.session_expires),
                branch,
            }
        });
        let calling = Calling {
            caller: dial.caller,
            offer: dial.offer,
            account: dial.credentials.as_ref().map(Credentials::account),
            extra_headers: dial.extra_headers,
            ring_until: self.now + dial.ring_for.min(RING_FOR_MAX),
            untold,
            attempts: attempts.collect(),
            best: None,
        };
        let count = calling.attempts.len();
        self.legs.insert(leg, Leg::Calling(Box::new(calling)));
        for attempt in 0..count {
            self.try_next_target(leg, attempt);
        }
        self.watch_leg(leg);
    }

    /// RFC 4028 §7.4: the same INVITE again, with the session interval that the way asks for. `false` if it asks for
    /// nothing that can be given.
    fn ask_longer(&mut self, leg: LegKey, index: usize, response: &Response) -> bool {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return false };
        let Some(attempt) = calling.attempts.get_mut(index) else { return false };
        let target = attempt.invite.and_then(|invite| self.clients.get(&invite)).map(|one| one.request.uri.clone());
        let (Some(target), true) = (target, attempt.wish.raise(response.headers.min_se().ok().flatten())) else {
            return false;
        };
        attempt.targets.push_front(Target { uri: target, names: attempt.names.clone() });
        self.try_next_target(leg, index);
        self.watch_leg(leg);
        true
    }

    /// Sends an INVITE to the next target of a branch; `false` if there is none.
    fn try_next_target(&mut self, leg: LegKey, index: usize) -> bool {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return false };
        let Some(attempt) = calling.attempts.get_mut(index) else { return false };
        let Some(target) = attempt.targets.pop_front() else { return false };
        if target.names != attempt.names {
            attempt.names = target.names;
            attempt.cseq = 0;
        }
        attempt.cseq += 1;
        attempt.started_at = self.now;
        attempt.is_heard = false;
        let mut request = invite(&calling.caller, attempt, target.uri.clone(), &calling.offer, &calling.extra_headers);
        // RFC 3261 §13.2.1: who rings by then stops, though we should have fallen over meanwhile.
        let ring_for = calling.ring_until.saturating_duration_since(self.now);
        request.headers.push(HeaderName::Expires, ring_for.as_millis().div_ceil(1000).max(1).to_string());
        let hop = hop_of(&attempt.branch, target.uri);
        let sending = Sending {
            branch: ViaBranch::of_invite(&hop),
            contact_user: Some(self.config.contact_user.clone()),
            account: calling.account.clone(),
            untold: calling.untold,
            ..Sending::new(request, hop, Owner::Attempt { leg, attempt: index })
        };
        let key = self.send(sending);
        self.attempt_moved(leg, index, key);
        true
    }

    /// The attempt's INVITE is another one: an authenticated repetition, or another target.
    pub(super) fn attempt_moved(&mut self, leg: LegKey, attempt: usize, key: ClientKey) {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
        if let Some(attempt) = calling.attempts.get_mut(attempt) {
            attempt.invite = Some(key);
        }
    }

    /// The next CSeq number of the attempt, for the same INVITE with credentials.
    pub(super) fn attempt_again(&mut self, leg: LegKey, attempt: usize) -> Option<u32> {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return None };
        let attempt = calling.attempts.get_mut(attempt)?;
        attempt.cseq += 1;
        Some(attempt.cseq)
    }

    /// A branch of a leg that rings, as it was ordered.
    pub(super) fn branch_of(&self, leg: LegKey, attempt: usize) -> Option<&Branch> {
        match self.legs.get(&leg) {
            Some(Leg::Calling(calling)) => calling.attempts.get(attempt).map(|attempt| &attempt.branch),
            Some(Leg::Called(_) | Leg::Talking(_)) | None => None,
        }
    }

    pub(super) fn attempt_progresses(&mut self, leg: LegKey, attempt: usize, response: &Response) {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
        let Some(attempt) = calling.attempts.get_mut(attempt) else { return };
        attempt.is_heard = true;
        if response.status == 100 {
            return;
        }
        let early_sdp = sdp_of(&response.headers, &response.body);
        let is_new = attempt.reported.len() < 8 && attempt.reported.insert(response.status);
        let has_media = early_sdp.is_some() && attempt.early_sdp.is_none();
        if has_media {
            attempt.early_sdp.clone_from(&early_sdp);
        }
        if is_new || has_media {
            self.report(Report::Ringing { leg, status: response.status, early_sdp });
        }
    }

    /// The first 2xx of a leg.
    pub(super) fn attempt_answered(
        &mut self,
        key: ClientKey,
        leg: LegKey,
        index: usize,
        response: &Response,
        source: SocketAddr,
    ) {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else {
            self.end_unwanted(key, response);
            return;
        };
        let Some(attempt) = calling.attempts.get(index) else { return };
        let unreliable = sdp_of(&response.headers, &response.body).or_else(|| attempt.early_sdp.clone());
        let early = self.take_early(key, response);
        self.unlist_early(key);
        let untold = self.clients.get(&key).map_or(0, |transaction| transaction.untold);
        let numbers = early.as_ref().map(|early| (early.dialog.local_cseq, early.dialog.remote_cseq));
        // RFC 3261 §13.2.1: the first answer that was said reliably is the answer.
        let answer = early.and_then(|early| early.answer).or(unreliable);
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
        let (Some(attempt), Some(transaction)) = (calling.attempts.get(index), self.clients.get_mut(&key)) else {
            return;
        };
        let (Ok(mut dialog), Some(answer)) = (Dialog::of_caller(&transaction.request, response), answer) else {
            // RFC 3261 §13.2.1: the answer to our offer must be there. Without one there is nothing to talk with.
            self.cast_adrift(key, &HangUpCause::because(488, "No common media"));
            self.end_unwanted(key, response);
            self.attempt_failed(leg, index, Failure::ours(488, FailedBecause::Refused));
            return;
        };
        let offer = attempt.branch.offer.clone().unwrap_or_else(|| calling.offer.clone());
        if let Some(way) = transaction.way {
            dialog.hear_from(way.hint(), attempt.branch.hint.is_some());
        }
        dialog.advertised = transaction.hop.advertised;
        transaction.owner = Owner::Won { leg };
        let losers: Vec<_> = calling.invites().filter(|&one| one != key).collect();
        let account = transaction.account.clone();
        let peer = Peer::of_answer(source.ip(), transaction.way.map(|way| way.destination.ip()), &transaction.hop.uri);
        let confirm_within = self.timing.give_up();
        let session = Session::of_caller(self.now, dialog, peer, offer, answer.clone(), confirm_within, key);
        let mut session = session.with_account(account).beside(losers.clone());
        session.dialog.skip_to(untold);
        if let Some((ours, theirs)) = numbers {
            session.dialog.skip_to(ours);
            session.dialog.remote_cseq = theirs;
        }
        session.dialog.registered.clone_from(&attempt.branch.registered);
        session.learn_least(attempt.wish.least);
        session.note_timer(self.now, &response.headers);
        let snapshot = session.snapshot();
        self.dialogs.insert(session.dialog.id.clone(), leg);
        self.legs.insert(leg, Leg::Talking(Box::new(session)));
        self.withdraw(leg, losers, &HangUpCause::because(200, "Call completed elsewhere"));
        self.watch_leg(leg);
        self.report(Report::Answered { leg, branch: index, sdp: answer, snapshot, source });
    }

    pub(super) fn attempt_refused(&mut self, leg: LegKey, attempt: usize, response: &Response) {
        if response.status == 422 && self.ask_longer(leg, attempt, response) {
            return;
        }
        let failure = Failure {
            status: response.status,
            phrase: String::from_utf8_lossy(&response.reason).into_owned(),
            because: FailedBecause::Refused,
            retry_after: retry_after(response),
            contacts: redirected_to(response),
        };
        self.attempt_failed(leg, attempt, failure);
    }

    pub(super) fn attempt_lost(&mut self, leg: LegKey, attempt: usize, lost: Lost) {
        let failure = match lost {
            Lost::Silent => Failure::ours(408, FailedBecause::Unreachable),
            Lost::Unreachable => Failure::ours(503, FailedBecause::Unreachable),
            Lost::Nowhere(nowhere) => {
                Failure { phrase: nowhere.to_string(), ..Failure::ours(503, FailedBecause::Unreachable) }
            }
        };
        self.attempt_failed(leg, attempt, failure);
    }

    fn attempt_failed(&mut self, leg: LegKey, index: usize, failure: Failure) {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
        let Some(attempt) = calling.attempts.get_mut(index) else { return };
        attempt.invite = None;
        if is_worth_failing_over(failure.status) && self.try_next_target(leg, index) {
            self.watch_leg(leg);
            return;
        }
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
        calling.best = Some(match calling.best.take() {
            Some(best) if better(best.status, failure.status) == best.status => best,
            Some(_) | None => failure,
        });
        let best = calling.best.clone().expect("it was just set");
        // RFC 3261 §16.7 step 5: a 6xx speaks for the person, not for one device.
        let is_over = best.status >= 600 || calling.attempts.iter().all(|attempt| attempt.invite.is_none());
        if is_over {
            self.end_calling(leg, &HangUpCause::default(), best);
        } else {
            self.watch_leg(leg);
        }
    }

    /// The leg failed: what still rings is cancelled first. Whoever never said a word is not waited for.
    fn end_calling(&mut self, leg: LegKey, cause: &HangUpCause, failure: Failure) {
        let Some(Leg::Calling(calling)) = self.legs.remove(&leg) else { return };
        self.alarms.set(Due::Leg(leg), None);
        let (silent, ringing): (Vec<_>, Vec<_>) = calling.invites().partition(|&key| self.invite_never_rang(key));
        for key in silent {
            self.leave_silent(key, leg, cause);
        }
        self.withdraw(leg, ringing, cause);
        self.tell_end(leg, failure.report(leg));
    }

    pub(super) fn hang_up_calling(&mut self, leg: LegKey, cause: &HangUpCause) {
        let Some(Leg::Calling(calling)) = self.legs.remove(&leg) else { return };
        self.alarms.set(Due::Leg(leg), None);
        let invites: Vec<_> = calling.invites().collect();
        self.withdraw(leg, invites, cause);
        self.tell_end(leg, Failure::withdrawn().report(leg));
    }

    /// Time for a leg that rings.
    pub(super) fn calling_time(&mut self, leg: LegKey) {
        let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
        if calling.ring_until <= self.now {
            let cause = HangUpCause::because(408, "Ring timeout");
            self.end_calling(leg, &cause, Failure::ours(408, FailedBecause::RingTimeout));
            return;
        }
        let failover_after = self.config.failover_after;
        for index in 0..calling.attempts.len() {
            let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
            let attempt = &mut calling.attempts[index];
            let (Some(key), true) = (attempt.invite, attempt.is_waiting_elsewhere()) else { continue };
            if attempt.started_at + failover_after > self.now {
                continue;
            }
            if self.invite_is_silent(key) {
                self.leave_silent(key, leg, &HangUpCause::because(408, "No response"));
                self.try_next_target(leg, index);
            } else {
                let Some(Leg::Calling(calling)) = self.legs.get_mut(&leg) else { return };
                calling.attempts[index].is_heard = true;
            }
        }
        self.watch_leg(leg);
    }

    /// Ends an INVITE of an earlier process: the names are derived again. Which target it had come to, and whether the peer
    /// asked for another INVITE first, is not known: whatever there may be is cancelled, and who does not know it answers
    /// 481. The end is told when all are answered.
    pub(super) fn cancel_derived(&mut self, order: CancelDerived) {
        let CancelDerived { leg, waits, caller, calls, but, cause } = order;
        let answered =
            but.and_then(|snapshot| Dialog::restore(&snapshot).ok()).map(|answered| answered.dialog.id.call_id);
        let is_awaited = match waits {
            Waits::End if self.legs.contains_key(&leg) || self.withdrawn.contains_key(&leg) => return,
            Waits::End => true,
            // Else it had nothing under way, and its end was told.
            Waits::Leg => self.legs.contains_key(&leg) || self.withdrawn.contains_key(&leg),
        };
        let owner = if is_awaited { Owner::Parting { leg } } else { Owner::Nobody };
        let mut left = 0;
        for Dialled { leg, branches, has_credentials } in calls {
            let mut named = BTreeMap::new();
            // One INVITE, another after a 422 (RFC 4028 §7.4), and each of them again with credentials.
            let numbers = if has_credentials { 4 } else { 2 };
            for branch in branches.into_iter().take(BRANCHES_MAX) {
                let targets = targets_of(&self.naming, leg, &branch, &mut named);
                let mut attempt = Attempt {
                    names: targets[0].names.clone(),
                    cseq: 0,
                    targets: VecDeque::new(),
                    invite: None,
                    started_at: self.now,
                    reported: BTreeSet::new(),
                    is_heard: false,
                    early_sdp: None,
                    wish: Wish::of(Duration::ZERO),
                    branch,
                };
                for Target { uri, names } in targets {
                    // There are phones that know a CANCEL by its Call-ID alone.
                    if answered.as_ref() == Some(&names.call_id) {
                        continue;
                    }
                    attempt.names = names;
                    let hop = hop_of(&attempt.branch, uri.clone());
                    for number in 1..=numbers {
                        attempt.cseq = number;
                        let request = invite(&caller, &attempt, uri.clone(), &[], &[]);
                        let mut cancel = with_same_branch(&request, Method::Cancel, None);
                        add_reason(&mut cancel, &cause);
                        let branch = ViaBranch::of_invite(&hop);
                        self.send(Sending { branch, ..Sending::new(cancel, hop.clone(), owner.clone()) });
                        left += 1;
                    }
                }
            }
        }
        if is_awaited {
            self.wait_for(leg, left);
        }
        if waits == Waits::End {
            self.tell_end(leg, Failure::withdrawn().report(leg));
        }
    }

    /// Whether a call that an earlier process began is being begun again, and has not come to the INVITE of this number.
    pub(super) fn is_yet_to_ask(&self, call_id: &str, number: u32) -> bool {
        self.legs.values().any(|leg| match leg {
            Leg::Calling(calling) if calling.untold > 0 => calling.attempts.iter().any(|attempt| {
                let is_on_its_way = || attempt.invite.is_some_and(|key| self.invite_is_unsent(key));
                attempt.names.call_id == call_id && (attempt.cseq < number || attempt.cseq == number && is_on_its_way())
            }),
            Leg::Calling(_) | Leg::Called(_) | Leg::Talking(_) => false,
        })
    }
}

/// Where a 3xx says that the peer can be reached. Headers that a URI asks for are left out: nobody else writes into our
/// requests (RFC 3261 §19.1.5).
fn redirected_to(response: &Response) -> Vec<Uri> {
    if !(300..400).contains(&response.status) {
        return Vec::new();
    }
    let mut contacts = response.headers.contacts().unwrap_or_default();
    contacts.retain(|contact| contact.uri.is_sip() && contact.uri.scheme == Scheme::Sip);
    contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q_thousandths()));
    let uris = contacts.into_iter().map(|contact| Uri { headers: None, ..contact.uri });
    let mut distinct: Vec<Uri> = Vec::new();
    for uri in uris {
        if distinct.len() < REDIRECTS_MAX && !distinct.iter().any(|known| known.is_same(&uri)) {
            distinct.push(uri);
        }
    }
    distinct
}

/// A branch's targets in their order, the first of them its Request-URI. `named` counts those of a leg by their names.
fn targets_of(naming: &Naming, leg: LegKey, branch: &Branch, named: &mut BTreeMap<String, usize>) -> Vec<Target> {
    let instance = branch.registered.as_ref().and_then(|registered| registered.instance.clone());
    let first = (&branch.request_uri, instance.unwrap_or_else(|| branch.request_uri.to_string()));
    let others = branch.alternatives.iter().map(|uri| (uri, uri.to_string()));
    let all = std::iter::once(first).chain(others).take(TARGETS_MAX);
    all.map(|(uri, name)| {
        let names = naming.of_call(leg, &name, named.get(&name).copied().unwrap_or_default());
        *named.entry(name).or_default() += 1;
        Target { uri: uri.clone(), names }
    })
    .collect()
}

/// What is known of a registered contact does not hold for its alternatives.
fn hop_of(branch: &Branch, target: Uri) -> Hop {
    Hop {
        hint: branch.hint.filter(|_| target == branch.request_uri),
        uri: branch.routes.first().cloned().unwrap_or(target),
        advertised: branch.advertised,
    }
}

/// The INVITE of an attempt; Via and Contact follow when the way is known.
fn invite(
    caller: &Caller,
    attempt: &Attempt,
    target: Uri,
    offer: &[u8],
    extra_headers: &[(String, String)],
) -> Request {
    let target = Uri { headers: None, ..target };
    let mut request = Request::new(Method::Invite, target.clone());
    let headers = &mut request.headers;
    headers.push(HeaderName::MaxForwards, "70");
    for route in &attempt.branch.routes {
        headers.push(HeaderName::Route, NameAddr::new(route.clone()));
    }
    let mut from = NameAddr::new(caller.uri.clone()).with_tag(&attempt.names.from_tag);
    if let Some(display) = &caller.display {
        from = from.with_display(display.as_str());
    }
    headers.push(HeaderName::From, from);
    let to = attempt.branch.to.clone().unwrap_or(target);
    headers.push(HeaderName::To, NameAddr::new(to));
    headers.push(HeaderName::CallId, attempt.names.call_id.as_str());
    headers.push(HeaderName::CSeq, CSeq { number: attempt.cseq, method: Method::Invite });
    headers.push(HeaderName::Allow, ALLOW);
    let offer = attempt.branch.offer.as_deref().unwrap_or(offer);
    // Without an offer a reliable response would bring one, and its PRACK would have to answer it (RFC 3262 §5).
    headers.push(HeaderName::Supported, if offer.is_empty() { SUPPORTED } else { SUPPORTED_WITH_RELIABLE });
    // RFC 4028 §7.1: we refresh ourselves, so that it is we who notice a peer that is gone.
    add_wish(&mut request, attempt.wish, Some(Refresher::Uac));
    let headers = &mut request.headers;
    if let Some(asserted) = &caller.asserted {
        let mut identity = NameAddr::new(asserted.clone());
        if let Some(display) = &caller.display {
            identity = identity.with_display(display.as_str());
        }
        headers.push(HeaderName::PAssertedIdentity, identity);
    }
    for (name, value) in extra_headers.iter().take(32) {
        let name = HeaderName::from(name.as_str());
        if !OWN_HEADERS.contains(&name) {
            headers.push(name, value.as_str());
        }
    }
    if offer.is_empty() { request } else { request.with_body("application/sdp", offer) }
}

/// The session description of a message, if that is what its body is.
pub(super) fn sdp_of(headers: &crate::message::Headers, body: &[u8]) -> Option<Vec<u8>> {
    let is_sdp = match headers.content_type() {
        Ok(Some(kind)) => kind.media == "application/sdp",
        // Some forget it; a body of a session can be nothing else.
        Ok(None) => true,
        Err(_) => false,
    };
    (is_sdp && !body.is_empty()).then(|| body.to_vec())
}
