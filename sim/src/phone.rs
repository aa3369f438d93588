//! Handsets that behave, and that do not: written on SIP's messages alone, so that nothing of the agent's is believed.
//!
//! A handset answers, declines, is busy, rings for ever, answers after a CANCEL, forks behind one contact, hangs up,
//! asks for a longer session, changes the session at a bad moment, loses its power. What it still has to say it says again
//! until it is answered. A gateway does the same for all who are called by way of it, and asks who calls.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sip::message::{HeaderName, Message, Method, NameAddr, Request, Response, TransportName, Uri, Via, parse_datagram};

use crate::chance::Chance;
use crate::sound::{Ear, tone_packet};

/// One device, at one address.
pub(crate) struct Phone {
    pub(crate) address: SocketAddr,
    is_gateway: bool,
    is_strict: bool,
    pub(crate) calls: BTreeMap<u64, Call>,
    /// Answers to requests that were answered, by branch and method: a request that comes again gets the same.
    answered: BTreeMap<(String, String), Vec<u8>>,
    chance: Chance,
    last_call: u64,
    pub(crate) is_on: bool,
    pub(crate) temper: Temper,
    /// What it wants done; taken by the world.
    pub(crate) wants: Vec<Want>,
    /// What was seen that must not be.
    pub(crate) complaints: Vec<String>,
    /// Calls that it forgot when its power went.
    pub(crate) forgotten: u64,
    /// Misdeeds and mishaps so far.
    pub(crate) faults: u64,
}

/// How well-behaved it is, in thousandths of its calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    pub(crate) refuses: u64,
    pub(crate) rings_on: u64,
    pub(crate) silent: u64,
    pub(crate) answers_late: u64,
    pub(crate) asks_longer: u64,
    pub(crate) forks: u64,
    pub(crate) changes: u64,
    pub(crate) leaves: u64,
}

/// What a phone wants done.
#[derive(Debug)]
pub(crate) enum Want {
    Send {
        to: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Wake it up later.
    Wake {
        after_ms: u64,
        what: Wake,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Ring(u64),
    Answer(u64),
    Refuse(u64, u16),
    /// Say it again; the number is how often it was said.
    Again(u64, Said, u32),
    HangUp(u64),
    /// Offer the session anew.
    Change(u64),
}

/// What is said again until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Final,
    Request,
}

/// One dialog of a phone.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "a Call-ID is called so")]
pub(crate) struct Call {
    pub(crate) state: State,
    pub(crate) call_id: String,
    our_tag: String,
    invite: Request,
    source: SocketAddr,
    /// The last final answer to an INVITE, said until the ACK comes.
    last_final: Option<Vec<u8>>,
    /// A request of ours under way: its branch, its method and its bytes.
    asked: Option<(String, Method, Vec<u8>)>,
    our_cseq: u32,
    /// The last of our offers that was accepted.
    agreed_cseq: Option<u32>,
    their_cseq: u32,
    their_contact: Uri,
    answers_late: bool,
    /// Where we are heard, and where they are.
    pub(crate) rtp: SocketAddr,
    pub(crate) their_rtp: Option<SocketAddr>,
    pub(crate) holds: bool,
    /// Whether it did when both last agreed.
    held: bool,
    version: u64,
    pub(crate) tone: u32,
    pub(crate) ear: Ear,
    sent_packets: u16,
    /// Packets heard since the last time it was asked.
    pub(crate) packets: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Invited; nothing final was said.
    Ringing,
    /// 200 was said, and no ACK has come.
    Answered,
    Talking,
    /// BYE was said.
    Leaving,
    Over,
}

impl Call {
    /// A dialog that the phone believes in.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Answered | State::Talking)
    }
}

/// T1, T2 and 64·T1 of RFC 3261.
const T1_MS: u64 = 500;
const T2_MS: u64 = 4_000;
const GIVE_UP_MS: u64 = 32_000;

/// What a phone that asks for more takes for a session interval, seconds.
const LEAST_SESSION: u32 = 2_400;

/// A gateway that cannot says so, and the other one may.
const GATEWAYS_SAY: [u16; 6] = [486, 603, 503, 503, 404, 500];

/// Longer than any world: whoever rings has to be answered, or told that nobody calls any longer.
const RINGS_FOR_MS: u64 = 3_600_000;

impl Phone {
    pub(crate) fn new(address: SocketAddr, is_gateway: bool, temper: Temper, chance: Chance) -> Self {
        let is_strict = match address.ip() {
            IpAddr::V4(ip) => ip.octets().iter().sum::<u8>().is_multiple_of(2),
            IpAddr::V6(_) => false,
        };
        Self {
            address,
            is_gateway,
            is_strict,
            calls: BTreeMap::new(),
            answered: BTreeMap::new(),
            chance,
            last_call: 0,
            is_on: true,
            temper,
            wants: Vec::new(),
            complaints: Vec::new(),
            forgotten: 0,
            faults: 0,
        }
    }

    /// The power goes, or comes back: then it knows nothing.
    pub(crate) fn power(&mut self, is_on: bool) {
        if self.is_on && !is_on {
            self.forgotten += self.calls.values().filter(|call| call.state != State::Over).count() as u64;
            self.calls.clear();
            self.answered.clear();
        }
        self.is_on = is_on;
    }

    pub(crate) fn receives(&mut self, source: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if !self.is_on {
            return;
        }
        if to.port() != self.address.port() {
            return self.hears(to, bytes);
        }
        match parse_datagram(bytes) {
            Ok(Message::Request(request)) => self.asked(source, &request),
            Ok(Message::Response(response)) => self.told(&response),
            Err(malformed) => self.complaints.push(format!("cannot be read: {:?}", malformed.problem())),
        }
    }

    pub(crate) fn wakes(&mut self, what: &Wake) {
        if !self.is_on {
            return;
        }
        match what {
            Wake::Ring(id) => {
                if self.calls.get(id).is_some_and(|call| call.state == State::Ringing) {
                    self.respond(*id, 180);
                }
            }
            Wake::Answer(id) => self.answers(*id),
            Wake::Refuse(id, status) => self.refuses(*id, *status),
            Wake::Again(id, said, times) => self.says_again(*id, *said, *times),
            Wake::HangUp(id) => self.hangs_up(*id),
            Wake::Change(id) => self.changes(*id, false),
        }
    }

    fn asked(&mut self, source: SocketAddr, request: &Request) {
        let branch = request.headers.top_via().ok().and_then(|via| via.branch().map(str::to_owned));
        let (Some(branch), Ok(cseq), Ok(call_id)) = (branch, request.headers.cseq(), request.headers.call_id()) else {
            self.complaints.push("a request without Via, CSeq or Call-ID".to_owned());
            return;
        };
        let call_id = call_id.to_owned();
        let tag = request.headers.to().ok().and_then(|to| to.tag().map(str::to_owned));
        let method = request.method.as_str().to_owned();
        if request.method != Method::Ack
            && let Some(same) = self.answered.get(&(branch.clone(), method.clone()))
        {
            let bytes = same.clone();
            if !bytes.is_empty() {
                self.send(source, bytes);
            }
            return;
        }
        let known = tag.as_ref().and_then(|tag| self.find(&call_id, tag));
        match (request.method.as_str(), known) {
            ("INVITE", None) if tag.is_none() => match self.objection(request) {
                Some(response) => {
                    let bytes = response.to_bytes();
                    self.answered.insert((branch, method), bytes.clone());
                    self.send(source, bytes);
                }
                None => self.invited(source, request, branch, &call_id),
            },
            ("ACK", _) => self.acknowledged(&call_id, tag.as_deref()),
            ("CANCEL", _) => self.cancelled(source, request, &branch),
            ("BYE", Some(id)) => {
                self.respond_to(source, request, 200, None);
                if let Some(call) = self.calls.get_mut(&id) {
                    if cseq.number <= call.their_cseq {
                        self.complaints.push(format!("BYE with CSeq {} after {}", cseq.number, call.their_cseq));
                    }
                    if call.state == State::Ringing {
                        // RFC 3261 §15.1.2.
                        return self.refuses(id, 487);
                    }
                    call.state = State::Over;
                    call.last_final = None;
                }
            }
            ("INVITE", Some(id)) => self.reinvited(source, request, id, cseq.number),
            ("OPTIONS" | "UPDATE" | "INFO", Some(_)) | ("OPTIONS", None) => {
                self.respond_to(source, request, 200, None);
            }
            // Of a dialog that it does not know (RFC 3261 §12.2.2).
            (_, None) => self.respond_to(source, request, 481, None),
            (_, Some(_)) => self.respond_to(source, request, 501, None),
        }
    }

    /// Whether it took another INVITE of the same call too, because it had forgotten.
    pub(crate) fn has_twice(&self, call: &Call) -> bool {
        let number = |call: &Call| call.invite.headers.cseq().map_or(0, |cseq| cseq.number);
        let is_other = |other: &&Call| other.call_id == call.call_id && number(other) != number(call);
        self.forgotten > 0 && self.calls.values().any(|other| is_other(&other))
    }

    fn find(&self, call_id: &str, tag: &str) -> Option<u64> {
        let found = self
            .calls
            .iter()
            .find(|(_, call)| call.call_id == call_id && call.our_tag == tag && call.state != State::Over);
        found.map(|(id, _)| *id)
    }

    /// What has to be different before it rings.
    fn objection(&mut self, request: &Request) -> Option<Response> {
        let object = |status| Response::to_request(request, status, "").with_to_tag("objection");
        let nonce = format!("nonce=\"of-{}\"", self.address.ip());
        if self.is_gateway {
            let Some(said) = request.headers.get(HeaderName::ProxyAuthorization) else {
                let challenge = format!("Digest realm=\"carrier\", {nonce}, algorithm=MD5, qop=\"auth\"");
                return Some(object(407).with(HeaderName::ProxyAuthenticate, challenge));
            };
            if !String::from_utf8_lossy(said).contains(&nonce) {
                self.complaints.push("credentials for another gateway".to_owned());
            }
        }
        let asked = request.headers.session_expires().ok().flatten()?;
        let is_too_short = asked.seconds < LEAST_SESSION && self.chance.permille(self.temper.asks_longer);
        self.faults += u64::from(is_too_short);
        is_too_short.then(|| object(422).with(HeaderName::MinSe, LEAST_SESSION.to_string()))
    }

    fn invited(&mut self, source: SocketAddr, request: &Request, branch: String, call_id: &str) {
        let Some(offered) = remote_of(&request.body) else {
            self.complaints.push("an INVITE without an offer".to_owned());
            return;
        };
        // Nothing yet: a retransmission is not a second call.
        self.answered.insert((branch, "INVITE".to_owned()), Vec::new());
        let temper = self.temper;
        let forks = self.chance.permille(temper.forks);
        let answers_late = self.chance.permille(temper.answers_late);
        let silent = self.chance.permille(temper.silent);
        let rings_on = self.chance.permille(temper.rings_on) || answers_late;
        let refuses = self.chance.permille(temper.refuses);
        let rings_after = self.chance.between(1, 300);
        let most = if self.chance.permille(700) { 900 } else { 7_000 };
        let decides_after = rings_after + self.chance.between(1, most);
        self.faults += u64::from(forks) + u64::from(answers_late) + u64::from(silent);
        for device in 0..=u64::from(forks) {
            self.last_call += 1;
            let id = self.last_call;
            let tag = format!("t{}x{id}", self.address.ip());
            let contact = request.headers.contacts().ok().and_then(|contacts| contacts.first().cloned());
            let Some(contact) = contact else {
                self.complaints.push("an INVITE without a Contact".to_owned());
                return;
            };
            let call = Call {
                state: State::Ringing,
                call_id: call_id.to_owned(),
                our_tag: tag,
                source,
                last_final: None,
                asked: None,
                our_cseq: 100,
                agreed_cseq: None,
                their_cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
                their_contact: contact.uri,
                answers_late,
                rtp: SocketAddr::new(self.address.ip(), 40_000 + 2 * (id % 5_000) as u16),
                their_rtp: offered,
                holds: false,
                held: false,
                version: 1,
                tone: 0,
                ear: Ear::default(),
                sent_packets: 0,
                packets: 0,
                invite: request.clone(),
            };
            if silent {
                continue;
            }
            self.calls.insert(id, call);
            self.wake(rings_after, Wake::Ring(id));
            // Nobody lets a phone ring for ever.
            self.wake(RINGS_FOR_MS, Wake::Refuse(id, 480));
            if refuses && !forks {
                let usual = [486, 603, 480, 600, 404, 500];
                let status = *self.chance.pick(if self.is_gateway { &GATEWAYS_SAY } else { &usual }).expect("a choice");
                self.wake(decides_after, Wake::Refuse(id, status));
            } else if !rings_on {
                // Two devices behind one proxy answer nearly at once.
                self.wake(decides_after + device * 2, Wake::Answer(id));
            }
        }
    }

    fn answers(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.state == State::Ringing) else { return };
        call.state = State::Answered;
        let sdp = sdp(call.rtp, call.version, "sendrecv");
        let branch = branch_of(&call.invite);
        let bytes = self.final_of(id, 200, Some(sdp));
        self.answered.insert((branch, "INVITE".to_owned()), bytes);
        self.wake(T1_MS, Wake::Again(id, Said::Final, 0));
        if self.chance.permille(self.temper.changes) {
            self.faults += 1;
            // At once, or when it is expected least.
            let after = if self.chance.permille(300) { 0 } else { self.chance.between(50, 15_000) };
            self.wake(after, Wake::Change(id));
        }
        if self.chance.permille(self.temper.leaves) {
            let after = self.chance.between(20, 25_000);
            self.wake(after, Wake::HangUp(id));
        }
    }

    fn refuses(&mut self, id: u64, status: u16) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.state == State::Ringing) else { return };
        call.state = State::Over;
        let branch = branch_of(&call.invite);
        let bytes = self.final_of(id, status, None);
        self.answered.insert((branch, "INVITE".to_owned()), bytes);
        self.wake(T1_MS, Wake::Again(id, Said::Final, 0));
    }

    /// Says a final answer to the INVITE, and remembers it.
    fn final_of(&mut self, id: u64, status: u16, sdp: Option<String>) -> Vec<u8> {
        let Some(call) = self.calls.get_mut(&id) else { return Vec::new() };
        let bytes = response(&call.invite, status, &call.our_tag, self.address, sdp);
        call.last_final = Some(bytes.clone());
        let source = call.source;
        self.send(source, bytes.clone());
        bytes
    }

    fn respond(&mut self, id: u64, status: u16) {
        let Some(call) = self.calls.get(&id) else { return };
        let bytes = response(&call.invite, status, &call.our_tag, self.address, None);
        let (source, branch) = (call.source, branch_of(&call.invite));
        if let Some(same) = self.answered.get_mut(&(branch, "INVITE".to_owned()))
            && same.is_empty()
        {
            same.clone_from(&bytes);
        }
        self.send(source, bytes);
    }

    fn acknowledged(&mut self, call_id: &str, tag: Option<&str>) {
        let mut calls = self.calls.values_mut();
        let Some(call) = calls.find(|call| call.call_id == call_id && Some(call.our_tag.as_str()) == tag) else {
            return;
        };
        call.last_final = None;
        if call.state == State::Answered {
            call.state = State::Talking;
        }
    }

    fn cancelled(&mut self, source: SocketAddr, request: &Request, branch: &str) {
        let ids: Vec<u64> =
            self.calls.iter().filter(|(_, call)| branch_of(&call.invite) == branch).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return self.respond_to(source, request, 481, None);
        }
        self.respond_to(source, request, 200, None);
        for id in ids {
            let Some(call) = self.calls.get(&id).filter(|call| call.state == State::Ringing) else { continue };
            // The CANCEL and the 200 crossed.
            if call.answers_late {
                self.answers(id);
            } else {
                self.refuses(id, 487);
            }
        }
    }

    fn reinvited(&mut self, source: SocketAddr, request: &Request, id: u64, cseq: u32) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if cseq == call.their_cseq {
            self.complaints.push(format!("re-INVITE with CSeq {cseq} a second time"));
        }
        if cseq < call.their_cseq {
            // Of an earlier process, overtaken on its way (RFC 3261 §12.2.2).
            return self.respond_to(source, request, 500, None);
        }
        call.their_cseq = cseq;
        if call.asked.is_some() {
            // Both at once (RFC 3261 §14.2).
            return self.respond_to(source, request, 491, None);
        }
        if let Some(contact) = request.headers.contacts().ok().and_then(|contacts| contacts.first().cloned()) {
            call.their_contact = contact.uri;
        }
        if let Some(remote) = remote_of(&request.body) {
            call.their_rtp = remote;
        }
        call.version += 1;
        let sdp = sdp(call.rtp, call.version, if call.holds { "sendonly" } else { "sendrecv" });
        self.respond_to(source, request, 200, Some(sdp));
    }

    fn respond_to(&mut self, source: SocketAddr, request: &Request, status: u16, sdp: Option<String>) {
        let tag = request.headers.to().ok().and_then(|to| to.tag().map(str::to_owned));
        let bytes = response(request, status, tag.as_deref().unwrap_or("none"), self.address, sdp);
        self.answered.insert((branch_of(request), request.method.as_str().to_owned()), bytes.clone());
        self.send(source, bytes);
    }

    /// Hangs up whatever it is that this call has come to.
    pub(crate) fn hangs_up(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match call.state {
            State::Ringing => return self.refuses(id, 603),
            // RFC 3261 §15: not before the ACK. It will.
            State::Answered => return self.wake(300, Wake::HangUp(id)),
            State::Talking => {}
            State::Leaving | State::Over => return,
        }
        call.state = State::Leaving;
        self.ask(id, Method::Bye, None);
    }

    /// Offers the session anew: on hold, or from another port.
    pub(crate) fn changes(&mut self, id: u64, takes_back: bool) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.state == State::Answered {
            return self.wake(200, Wake::Change(id));
        }
        if call.state != State::Talking || call.asked.is_some() {
            return;
        }
        call.version += 1;
        call.holds = !takes_back && self.chance.permille(500);
        let direction = if call.holds { "sendonly" } else { "sendrecv" };
        let offer = sdp(call.rtp, call.version, direction);
        self.ask(id, Method::Invite, Some(offer));
    }

    /// Sends a request of ours within a dialog.
    fn ask(&mut self, id: u64, method: Method, body: Option<String>) {
        let branch = format!("z9hG4bK{:016x}", self.chance.number());
        let address = self.address;
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.our_cseq += 1;
        let via = Via::new(TransportName::Udp, address.ip(), Some(address.port()), &branch);
        let (Ok(us), Ok(them)) = (call.invite.headers.to(), call.invite.headers.from()) else { return };
        let us = NameAddr::new(us.uri).with_tag(&call.our_tag);
        let mut request = Request::new(method.clone(), call.their_contact.clone())
            .with(HeaderName::Via, via.to_bytes())
            .with(HeaderName::MaxForwards, "70")
            .with(HeaderName::From, us.to_bytes())
            .with(HeaderName::To, them.to_bytes())
            .with(HeaderName::CallId, call.call_id.clone())
            .with(HeaderName::CSeq, format!("{} {}", call.our_cseq, method.as_str()))
            .with(HeaderName::Contact, format!("<sip:phone@{address}>"));
        if let Some(body) = body {
            request = request.with_body("application/sdp", body);
        }
        let bytes = request.to_bytes();
        call.asked = Some((branch, method, bytes.clone()));
        let source = call.source;
        self.send(source, bytes);
        self.wake(T1_MS, Wake::Again(id, Said::Request, 0));
    }

    fn told(&mut self, response: &Response) {
        let Ok(via) = response.headers.top_via() else { return };
        let Some(branch) = via.branch().map(str::to_owned) else { return };
        let found = self.calls.iter().find(|(_, call)| call.asked.as_ref().is_some_and(|asked| asked.0 == branch));
        let Some(id) = found.map(|(id, _)| *id) else {
            // A 200 that comes again wants its ACK again.
            return self.acknowledge_again(response);
        };
        if response.status < 200 {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some((_, method, _)) = call.asked.take() else { return };
        if method == Method::Bye {
            call.state = State::Over;
            return;
        }
        if response.status < 300 {
            if let Some(remote) = remote_of(&response.body) {
                call.their_rtp = remote;
            }
            call.held = call.holds;
            call.agreed_cseq = Some(call.our_cseq);
        } else {
            // RFC 3261 §14.1: the session is as it was.
            call.holds = call.held;
        }
        let gone = matches!(response.status, 408 | 481);
        self.acknowledge(id, response);
        if gone && let Some(call) = self.calls.get_mut(&id) {
            // RFC 3261 §12.2.1.2: the dialog is no more.
            call.state = State::Over;
        }
    }

    fn acknowledge_again(&mut self, response: &Response) {
        let (Ok(cseq), Ok(call_id), Ok(from)) =
            (response.headers.cseq(), response.headers.call_id(), response.headers.from())
        else {
            return;
        };
        let tag = from.tag().unwrap_or_default().to_owned();
        let Some(id) = self.find(call_id, &tag) else { return };
        let is_agreed = self.calls.get(&id).is_some_and(|call| call.agreed_cseq == Some(cseq.number));
        // A 200 after a refusal is no answer to anything: some take no notice of it.
        let is_heard = response.status >= 300 || is_agreed || !self.is_strict;
        if cseq.method == Method::Invite && response.status >= 200 && is_heard {
            self.acknowledge(id, response);
        }
    }

    fn acknowledge(&mut self, id: u64, response: &Response) {
        let Some(call) = self.calls.get(&id) else { return };
        let number = response.headers.cseq().map_or(0, |cseq| cseq.number);
        // RFC 3261 §17.1.1.3: of a refusal in the same transaction, of a 2xx in a new one.
        let branch = if response.status < 300 {
            format!("z9hG4bKack{number}x{id}")
        } else {
            response.headers.top_via().ok().and_then(|via| via.branch().map(str::to_owned)).unwrap_or_default()
        };
        let via = Via::new(TransportName::Udp, self.address.ip(), Some(self.address.port()), &branch);
        let (Some(from), Some(to)) = (response.headers.get(HeaderName::From), response.headers.get(HeaderName::To))
        else {
            return;
        };
        let ack = Request::new(Method::Ack, call.their_contact.clone())
            .with(HeaderName::Via, via.to_bytes())
            .with(HeaderName::MaxForwards, "70")
            .with(HeaderName::From, from)
            .with(HeaderName::To, to)
            .with(HeaderName::CallId, call.call_id.clone())
            .with(HeaderName::CSeq, format!("{number} ACK"));
        let (source, bytes) = (call.source, ack.to_bytes());
        self.send(source, bytes);
    }

    fn says_again(&mut self, id: u64, said: Said, times: u32) {
        let waited: u64 = (0..=times).map(pause).sum();
        let Some(call) = self.calls.get_mut(&id) else { return };
        let bytes = match said {
            Said::Final => call.last_final.clone(),
            Said::Request => call.asked.as_ref().map(|(_, _, bytes)| bytes.clone()),
        };
        let Some(bytes) = bytes else { return };
        if waited >= GIVE_UP_MS {
            match (said, call.state) {
                // RFC 3261 §13.3.1.4: no ACK ever came.
                (Said::Final, State::Answered) => {
                    let complaint = format!("its answer in {} was never acknowledged", call.call_id);
                    self.complaints.push(complaint);
                    call.last_final = None;
                    call.state = State::Leaving;
                    self.ask(id, Method::Bye, None);
                }
                (Said::Final, _) => call.last_final = None,
                (Said::Request, _) => {
                    call.asked = None;
                    call.state = State::Over;
                }
            }
            return;
        }
        let source = call.source;
        self.send(source, bytes);
        self.wake(pause(times + 1), Wake::Again(id, said, times + 1));
    }

    fn hears(&mut self, to: SocketAddr, packet: &[u8]) {
        let Some(call) = self.calls.values_mut().find(|call| call.rtp == to && call.is_up()) else { return };
        if packet.len() == 172 && packet[1].trailing_zeros() >= 7 {
            call.packets += 1;
            call.ear.hears(&packet[12..]);
        }
    }

    /// 20 ms of every call's tone.
    pub(crate) fn speaks(&mut self) {
        let mut packets = Vec::new();
        for (id, call) in &mut self.calls {
            let Some(remote) = call.their_rtp.filter(|_| call.state == State::Talking) else { continue };
            call.sent_packets = call.sent_packets.wrapping_add(1);
            packets.push((call.rtp, remote, tone_packet(call.tone, call.sent_packets, *id as u32)));
        }
        if self.is_on {
            self.wants.extend(packets.into_iter().map(|(from, to, bytes)| Want::Send { to, from, bytes }));
        }
    }

    fn send(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.wants.push(Want::Send { to, from: self.address, bytes });
    }

    fn wake(&mut self, after_ms: u64, what: Wake) {
        self.wants.push(Want::Wake { after_ms, what });
    }
}

/// From one time to the next (RFC 3261 §17.1.2.1).
fn pause(times: u32) -> u64 {
    (T1_MS << times.min(8)).min(T2_MS)
}

fn branch_of(request: &Request) -> String {
    request.headers.top_via().ok().and_then(|via| via.branch().map(str::to_owned)).unwrap_or_default()
}

fn response(request: &Request, status: u16, tag: &str, address: SocketAddr, sdp: Option<String>) -> Vec<u8> {
    let mut response = Response::to_request(request, status, "");
    if status > 100 {
        response = response.with_to_tag(tag);
    }
    if status < 300 && request.method == Method::Invite {
        response = response.with(HeaderName::Contact, format!("<sip:phone@{address}>"));
    }
    if (200..300).contains(&status)
        && let Ok(Some(asked)) = request.headers.session_expires()
    {
        // Whoever asks refreshes (RFC 4028 §9).
        response = response.with(HeaderName::SessionExpires, format!("{};refresher=uac", asked.seconds));
    }
    if let Some(sdp) = sdp {
        response = response.with_body("application/sdp", sdp);
    }
    response.to_bytes()
}

/// G.711 and nothing else.
fn sdp(rtp: SocketAddr, version: u64, direction: &str) -> String {
    let (ip, port) = (rtp.ip(), rtp.port());
    format!(
        "v=0\r\no=- {port} {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na={direction}\r\n"
    )
}

/// Where the peer hears; `None` without SDP, `Some(None)` where it wants nothing.
#[expect(clippy::option_option, reason = "no description, one that wants nothing, and one that wants something")]
fn remote_of(body: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(body).ok()?;
    let address = text.lines().find_map(|line| line.strip_prefix("c=IN IP4 "))?.trim();
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio "))?.split(' ').next()?;
    let (ip, port): (IpAddr, u16) = (address.parse().ok()?, port.parse().ok()?);
    Some((port > 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, port)))
}
