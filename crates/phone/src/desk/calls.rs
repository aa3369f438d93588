//! One call after another: ringing, answering, talking, holding, ending.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{Codec, Format, PortConfig, Source, ToneFormat};
use sip::agent::{Branch, Caller, Credentials, Dial, EndReason, FailedBecause, HangUpCause, Input, LegKey, Order};
use sip::sdp::{Agreed, CodecName, Direction, LocalMedia, Negotiation, NegotiationError, Preference};

use super::{Desk, Target};
use crate::event::{By, CallKey, EndCause, Happening};
use crate::load::count;
use crate::script::{self, Script};
use crate::talk::{Begin, KEY_MS, Path, bind_rtp};
use crate::wire::address_towards;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) line: Arc<str>,
    script: Arc<Script>,
    source: Source,
    stage: Stage,
    /// Where the peer's SIP comes from.
    signalling: Option<IpAddr>,
    negotiation: Option<Negotiation>,
    /// Taken with the offer or answer, given to the thread for sound when both are known.
    socket: Option<UdpSocket>,
    /// The thread for sound has it.
    has_sound: bool,
    was_answered: bool,
    is_held: Held,
    /// Our own change that the peer has not answered: whether it is a hold.
    asked: Option<bool>,
    /// Why we end it, if it is not simply hung up.
    ending: Option<EndCause>,
    plan: VecDeque<(Instant, Plan)>,
    seed: u64,
}

/// Who stopped the sound.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    by_us: bool,
    by_peer: bool,
}

/// How far a call has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// It rings here.
    Ringing {
        offer: Option<Vec<u8>>,
        /// The answer, if it was said already.
        said: Option<Vec<u8>>,
    },
    /// We have called.
    Dialing,
    /// We have answered, and wait for the ACK; to hang up as soon as it comes, if so wished.
    Accepted {
        parts: bool,
    },
    Up,
}

/// What a script wants done at some time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Answer,
    Refuse(u16),
    Hold,
    Resume,
    Press(char),
    HangUp,
}

impl Call {
    pub(super) fn new(
        line: Arc<str>,
        script: Arc<Script>,
        source: Source,
        stage: Stage,
        signalling: Option<IpAddr>,
        seed: u64,
    ) -> Self {
        Self {
            line,
            script,
            source,
            stage,
            signalling,
            negotiation: None,
            socket: None,
            has_sound: false,
            was_answered: false,
            is_held: Held::default(),
            asked: None,
            ending: None,
            plan: VecDeque::new(),
            seed,
        }
    }

    /// Whether it cannot be hung up before its ACK comes; it is then hung up by itself.
    pub(super) fn parts_later(&mut self) -> bool {
        match &mut self.stage {
            Stage::Accepted { parts } => {
                *parts = true;
                true
            }
            Stage::Ringing { .. } | Stage::Dialing | Stage::Up => false,
        }
    }
}

/// How long we let others ring.
const RING_FOR: Duration = Duration::from_mins(2);
/// From the answer to the first key: the peer's side of the call is up by then.
const KEYS_AFTER: Duration = Duration::from_millis(500);
/// From key to key: each is followed by a pause of its own length.
const KEY_EVERY: Duration = Duration::from_millis(2 * KEY_MS as u64);
/// What a comma means.
const COMMA: Duration = Duration::from_secs(1);

impl Desk {
    pub(super) fn schedule(&mut self, key: CallKey, at: Instant, step: Plan) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let place = call.plan.partition_point(|(known, _)| *known <= at);
        call.plan.insert(place, (at, step));
        self.alarms.insert((at, key));
    }

    /// Takes the steps that are due.
    pub(super) fn take_step(&mut self, now: Instant, key: CallKey) {
        loop {
            let Some(call) = self.calls.get_mut(&key) else { return };
            let Some(&(at, step)) = call.plan.front().filter(|(at, _)| *at <= now) else { return };
            call.plan.pop_front();
            self.alarms.remove(&(at, key));
            self.perform(now, key, step);
        }
    }

    fn perform(&mut self, now: Instant, key: CallKey, step: Plan) {
        match step {
            Plan::Answer => self.accept(now, key),
            Plan::Refuse(status) => self.refuse(now, key, status, EndCause::Refused),
            Plan::Hold => self.offer_change(now, key, true),
            Plan::Resume => self.offer_change(now, key, false),
            Plan::Press(digit) => {
                if let Some(tone) = media::Tone::from_key(digit) {
                    self.talk.press(key, tone);
                }
            }
            Plan::HangUp => self.hang_up(now, key),
        }
    }

    pub(super) fn ring(&mut self, now: Instant, key: CallKey) {
        let sdp = self.early_answer(key);
        let Some(call) = self.calls.get(&key) else { return };
        let (leg, status) = (LegKey(key.0), if sdp.is_some() { 183 } else { 180 });
        let order = if call.script.reliable {
            Order::RingReliably { leg, status, sdp }
        } else {
            Order::Ring { leg, status, sdp }
        };
        self.agent.handle(now, Input::Order(order));
        self.tell(key, || Happening::Ringing);
    }

    /// The answer to the offer of a call that rings, for a script that says it before it answers.
    fn early_answer(&mut self, key: CallKey) -> Option<Vec<u8>> {
        let call = self.calls.get_mut(&key).filter(|call| call.script.early_media)?;
        let Stage::Ringing { offer: Some(offer), said: None } = &call.stage else { return None };
        let offer = offer.clone();
        self.prepare(key).ok()?;
        let call = self.calls.get_mut(&key)?;
        let (answer, _) = call.negotiation.as_mut()?.answer(&offer).ok()?;
        call.stage = Stage::Ringing { offer: Some(offer), said: Some(answer.clone()) };
        Some(answer)
    }

    pub(super) fn refuse(&mut self, now: Instant, key: CallKey, status: u16, cause: EndCause) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if matches!(call.stage, Stage::Ringing { .. }) {
            call.ending = Some(cause);
            self.agent.handle(now, Input::Order(Order::Refuse { leg: LegKey(key.0), status }));
        }
    }

    /// Answers a call that rings.
    pub(super) fn accept(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Stage::Ringing { offer, said } = &mut call.stage else { return };
        let (offer, said) = (offer.take(), said.take());
        if said.is_none() && self.prepare(key).is_err() {
            self.refuse(now, key, 503, EndCause::Failed);
            return;
        }
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(negotiation) = &mut call.negotiation else { return };
        let sdp = match (said, offer) {
            (Some(said), _) => said,
            (None, None) => negotiation.offer(),
            (None, Some(offer)) => match negotiation.answer(&offer) {
                Ok((answer, _)) => answer,
                Err(error) => {
                    self.refuse(now, key, error.status(), EndCause::NoCommonMedia);
                    return;
                }
            },
        };
        call.stage = Stage::Accepted { parts: false };
        self.agent.handle(now, Input::Order(Order::Accept { leg: LegKey(key.0), sdp }));
        self.is_up(now, key);
        self.begin_sound(key);
    }

    /// Our INVITE.
    pub(super) fn place_call(
        &mut self,
        now: Instant,
        key: CallKey,
        target: Target,
        caller: Caller,
        credentials: Option<Credentials>,
    ) {
        let Ok(()) = self.prepare(key) else {
            self.end(key, EndCause::Failed, Some(503), None);
            return;
        };
        let Some(negotiation) = self.calls.get_mut(&key).and_then(|call| call.negotiation.as_mut()) else { return };
        let offer = negotiation.offer();
        let branch = Branch { routes: target.through.into_iter().collect(), ..Branch::to_uri(target.uri) };
        let dial = Dial {
            leg: LegKey(key.0),
            branches: vec![branch],
            caller,
            offer,
            ring_for: RING_FOR,
            credentials,
            extra_headers: Vec::new(),
        };
        self.agent.handle(now, Input::Order(Order::Dial(Box::new(dial))));
    }

    /// Takes a socket for a call's sound, and what can be said about it.
    fn prepare(&mut self, key: CallKey) -> std::io::Result<()> {
        let Some(call) = self.calls.get_mut(&key) else { return Ok(()) };
        let port = if let Some(deaf) = &self.deaf {
            deaf.local_addr()?.port()
        } else {
            let socket = bind_rtp(self.local.ip())?;
            call.socket.insert(socket).local_addr()?.port()
        };
        let address = if self.local.ip().is_unspecified() {
            call.signalling.and_then(address_towards).unwrap_or(self.advertised.ip())
        } else {
            self.local.ip()
        };
        // RFC 8866 §5.2 has no bound; some peers read these as signed.
        let mut local = LocalMedia::new(address, port, call.seed >> 1);
        if !call.script.codecs.is_empty() {
            local.codecs = call.script.codecs.iter().map(|codec| spoken(*codec)).collect();
            local.preference = Preference::Ours;
        }
        local.peer = call.signalling;
        call.negotiation = Some(Negotiation::new(local));
        Ok(())
    }

    /// Starts the sound if all is agreed and it has not begun; changes it otherwise.
    fn begin_sound(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(agreed) = call.negotiation.as_ref().and_then(Negotiation::agreed) else { return };
        let path = Path {
            rtp: agreed.remote,
            rtcp: agreed.remote_rtcp,
            signalling: call.signalling.unwrap_or(agreed.remote.ip()),
        };
        let port = port_config(agreed, &call.line, call.seed);
        if let Some(socket) = call.socket.take() {
            call.has_sound = true;
            let (line, source) = (Arc::clone(&call.line), call.source.clone());
            self.talk.begin(Begin { call: key, line, socket, path, port, source });
        } else if call.has_sound {
            self.talk.change(key, path, port);
        }
    }

    /// The call is answered: tells it, before its sound is told of, and begins the script's second half.
    fn is_up(&mut self, now: Instant, key: CallKey) {
        count(&self.counting.answered);
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.was_answered = true;
        let agreed = call.negotiation.as_ref().and_then(Negotiation::agreed);
        let codec = agreed.filter(|_| self.deaf.is_none()).map(|agreed| agreed.codec.as_str());
        self.teller.tell(&call.line, Some(key), || Happening::Answered { codec });
        let script = Arc::clone(&call.script);
        let mut plans = Vec::new();
        plans.extend(script.hangup_after.map(|after| (after, Plan::HangUp)));
        plans.extend(script.hold_after.map(|after| (after, Plan::Hold)));
        let resume = script.hold_after.zip(script.resume_after).map(|(hold, after)| (hold + after, Plan::Resume));
        plans.extend(resume);
        for (after, plan) in plans {
            self.schedule(key, now + after, plan);
        }
        self.press(now + KEYS_AFTER, key, &script.dtmf);
    }

    /// Presses keys from that time on.
    pub(super) fn press(&mut self, from: Instant, key: CallKey, keys: &str) {
        let mut at = from;
        for digit in keys.chars().take(script::KEYS_MAX) {
            if digit == ',' {
                at += COMMA;
            } else {
                self.schedule(key, at, Plan::Press(digit));
                at += KEY_EVERY;
            }
        }
    }

    pub(super) fn say(&mut self, key: CallKey, source: Source) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.source = source;
        if call.has_sound && !call.is_held.by_us {
            self.talk.say(key, call.source.clone());
        }
    }

    pub(super) fn was_answered(&mut self, now: Instant, key: CallKey, sdp: &[u8], source: SocketAddr) {
        let leg = LegKey(key.0);
        self.agent.handle(now, Input::Order(Order::Confirm { leg }));
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.signalling = Some(source.ip());
        call.stage = Stage::Up;
        if self.take_answer(now, key, sdp) {
            count(&self.counting.confirmed);
            self.is_up(now, key);
            self.begin_sound(key);
        }
    }

    pub(super) fn was_confirmed(&mut self, now: Instant, key: CallKey, sdp: Option<&[u8]>) {
        count(&self.counting.confirmed);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let parts = matches!(call.stage, Stage::Accepted { parts: true });
        call.stage = Stage::Up;
        if let Some(sdp) = sdp
            && self.take_answer(now, key, sdp)
        {
            self.begin_sound(key);
        }
        if parts {
            self.hang_up(now, key);
        }
    }

    /// Takes the answer to our first offer; without one that fits there is no call.
    fn take_answer(&mut self, now: Instant, key: CallKey, sdp: &[u8]) -> bool {
        let Some(call) = self.calls.get_mut(&key) else { return false };
        let Some(negotiation) = &mut call.negotiation else { return false };
        let Err(error) = negotiation.accept_answer(sdp) else { return true };
        tracing::info!(call = %key, %error, "a call has no sound and is hung up");
        call.ending = Some(EndCause::NoCommonMedia);
        let cause = HangUpCause::because(error.status(), error.to_string());
        self.agent.handle(now, Input::Order(Order::HangUp { leg: LegKey(key.0), cause }));
        false
    }

    /// The peer changes the session: hold, resume, another address or codec.
    pub(super) fn was_offered(&mut self, now: Instant, key: CallKey, offer: &[u8]) {
        let leg = LegKey(key.0);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let answer = match &mut call.negotiation {
            Some(negotiation) => negotiation.answer(offer),
            None => Err(NegotiationError::NoOffer),
        };
        let order = match answer {
            Ok((sdp, _)) => Order::AnswerOffer { leg, sdp },
            Err(error) => Order::RefuseOffer { leg, status: error.status() },
        };
        self.agent.handle(now, Input::Order(order));
        self.begin_sound(key);
        self.tell_peers_hold(key);
    }

    /// Holds or resumes. A change to what is already so is none.
    pub(super) fn offer_change(&mut self, now: Instant, key: CallKey, hold: bool) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.stage, Stage::Accepted { .. } | Stage::Up)
            || call.is_held.by_us == hold && call.asked.is_none()
        {
            return;
        }
        let Some(negotiation) = &mut call.negotiation else { return };
        call.asked = Some(hold);
        // RFC 3264 §8.4: whoever holds goes on sending, if only silence.
        negotiation.set_direction(if hold { Direction::SendOnly } else { Direction::SendRecv });
        let offer = negotiation.offer();
        self.agent.handle(now, Input::Order(Order::Reinvite { leg: LegKey(key.0), offer }));
    }

    pub(super) fn offer_was_answered(&mut self, key: CallKey, sdp: &[u8]) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(negotiation) = &mut call.negotiation else { return };
        if !negotiation.is_offer_pending() {
            // The peer asked for an offer, and the agent made it of what we last said.
            negotiation.offer();
        }
        if let Err(error) = negotiation.accept_answer(sdp) {
            negotiation.withdraw_offer();
            self.offer_was_refused(key, error.status());
            return;
        }
        if let Some(hold) = call.asked.take() {
            call.is_held.by_us = hold;
            if call.has_sound {
                self.talk.say(key, if hold { Source::Silence } else { call.source.clone() });
            }
            let by = By::Us;
            let what = if hold { Happening::Held { by } } else { Happening::Resumed { by } };
            self.teller.tell(&call.line, Some(key), || what);
        }
        self.begin_sound(key);
        self.tell_peers_hold(key);
    }

    pub(super) fn offer_was_refused(&mut self, key: CallKey, status: u16) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.asked = None;
        if let Some(negotiation) = &mut call.negotiation {
            negotiation.withdraw_offer();
            negotiation.set_direction(if call.is_held.by_us { Direction::SendOnly } else { Direction::SendRecv });
        }
        self.teller.tell(&call.line, Some(key), || Happening::ChangeRefused { status });
    }

    /// Tells it when the peer has stopped our sound, or takes it again.
    fn tell_peers_hold(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(agreed) = call.negotiation.as_ref().and_then(Negotiation::agreed) else { return };
        // We always want to send: if we may not, it is the peer who does not listen.
        let held = !agreed.direction.sends();
        if held != call.is_held.by_peer {
            call.is_held.by_peer = held;
            let by = By::Peer;
            let what = if held { Happening::Held { by } } else { Happening::Resumed { by } };
            self.teller.tell(&call.line, Some(key), || what);
        }
    }

    pub(super) fn has_failed(&mut self, key: CallKey, status: u16, because: FailedBecause) {
        let cause = match because {
            FailedBecause::Refused if matches!(status, 408 | 480) => EndCause::NoAnswer,
            FailedBecause::Refused => EndCause::Rejected,
            FailedBecause::RingTimeout => EndCause::NoAnswer,
            FailedBecause::Unreachable => EndCause::Unreachable,
            FailedBecause::Cancelled => EndCause::HungUp,
            FailedBecause::Local => EndCause::Failed,
        };
        self.end(key, cause, Some(status), None);
    }

    pub(super) fn has_ended(&mut self, key: CallKey, ended: &EndReason) {
        let ours = self.calls.get(&key).and_then(|call| call.ending);
        let (cause, reason) = match *ended {
            EndReason::Bye { cause } => (EndCause::PeerHungUp, cause),
            EndReason::Cancelled { cause } => (EndCause::Cancelled, cause),
            EndReason::HungUp => (ours.unwrap_or(EndCause::HungUp), None),
            EndReason::SessionExpired | EndReason::Lost | EndReason::NotConfirmed => (EndCause::Lost, None),
            EndReason::NotAnswered => (EndCause::NoAnswer, None),
        };
        self.end(key, cause, None, reason);
    }

    fn end(&mut self, key: CallKey, cause: EndCause, status: Option<u16>, reason: Option<u16>) {
        let Some(call) = self.calls.remove(&key) else { return };
        for (at, _) in &call.plan {
            self.alarms.remove(&(*at, key));
        }
        self.count_end(call.was_answered, cause);
        let ended = Happening::Ended { cause, status, reason, statistics: None };
        if call.has_sound {
            self.talk.end(key, call.line, ended);
        } else {
            self.teller.tell(&call.line, Some(key), || ended);
        }
    }
}

fn spoken(codec: script::CodecName) -> CodecName {
    match codec {
        script::CodecName::Pcmu => CodecName::Pcmu,
        script::CodecName::Pcma => CodecName::Pcma,
        script::CodecName::G722 => CodecName::G722,
        script::CodecName::Opus => CodecName::Opus,
    }
}

fn codec(codec: CodecName) -> Codec {
    match codec {
        CodecName::Pcmu => Codec::Pcmu,
        CodecName::Pcma => Codec::Pcma,
        CodecName::G722 => Codec::G722,
        CodecName::Opus => Codec::Opus,
    }
}

/// What media needs to know of an agreement.
fn port_config(agreed: &Agreed, line: &str, seed: u64) -> PortConfig {
    let direction = match agreed.direction {
        Direction::SendRecv => media::Direction::SendReceive,
        Direction::SendOnly => media::Direction::SendOnly,
        Direction::RecvOnly => media::Direction::ReceiveOnly,
        Direction::Inactive => media::Direction::Inactive,
    };
    let receivable = agreed.receivable.iter().take(media::limits::FORMATS_MAX);
    let tone = |payload_type, clock_rate| ToneFormat { payload_type, clock_rate };
    let event = agreed.telephone_event;
    PortConfig {
        send: Format { payload_type: agreed.payload_type_send, codec: codec(agreed.codec) },
        bitrate: None,
        receive: receivable.map(|&(payload_type, name)| Format { payload_type, codec: codec(name) }).collect(),
        tones_send: event.map(|event| tone(event.payload_type_send, event.clock)),
        tones_receive: event.iter().map(|event| tone(event.payload_type_receive, event.clock)).collect(),
        direction,
        cname: line.to_owned(),
        seed,
    }
}
