//! Where calls are taken: the lines of a station, its agent, and what its scripts want done next.
//!
//! The desk reads reports and gives orders, all in memory; of the outside it only takes RTP sockets for its calls and
//! tells the thread for sound what to do with them. Whatever waits has its time in [`Desk::deadline`].

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use media::Source;
use sip::agent::{
    Agent, AgentConfig, Credentials, HangUpCause, Incoming, Input, LegKey, Order, Output, Register, Report,
};
use sip::message::{Host, Uri};

use self::calls::{Call, Plan, Stage};
use crate::challenge::OnlyUser;
use crate::event::{CallKey, EndCause, Happening};
use crate::load::{Counting, count};
use crate::phone::{Account, Line, PhoneOrder, Place, Teller, Transport};
use crate::script::{Reply, Script};
use crate::talk::TalkHandle;

/// What a desk needs.
#[derive(Debug)]
pub(crate) struct DeskConfig {
    /// The address of the UDP socket: RTP sockets are bound to the same.
    pub(crate) local: SocketAddr,
    pub(crate) user_agent: String,
    pub(crate) trace: bool,
    /// In a bank without sound: the socket to which all callers send theirs.
    pub(crate) deaf: Option<UdpSocket>,
    /// Who may register here: the server, with a trunk's line that knows it by a password.
    pub(crate) registrar: Option<OnlyUser>,
    pub(crate) node_secret: [u8; 32],
    pub(crate) seed: [u8; 32],
    pub(crate) teller: Teller,
    pub(crate) counting: Arc<Counting>,
    pub(crate) talk: TalkHandle,
}

/// The lines of a station and their calls.
#[derive(Debug)]
pub(crate) struct Desk {
    agent: Agent,
    local: SocketAddr,
    advertised: SocketAddr,
    deaf: Option<UdpSocket>,
    lines: BTreeMap<String, LineAtWork>,
    /// The user parts of contacts, and whose they are.
    users: BTreeMap<String, String>,
    registrations: BTreeMap<u64, String>,
    /// Registrations that are being given up, for the line of that name.
    leaving: BTreeMap<u64, Arc<str>>,
    next_registration: u64,
    calls: BTreeMap<CallKey, Call>,
    alarms: BTreeSet<(Instant, CallKey)>,
    numbers: Numbers,
    is_closing: bool,
    /// The name under which things are told that belong to no line.
    station: Arc<str>,
    teller: Teller,
    counting: Arc<Counting>,
    talk: TalkHandle,
}

#[derive(Debug)]
struct LineAtWork {
    name: Arc<str>,
    place: Place,
    script: Arc<Script>,
    source: Source,
    registration: Option<u64>,
    is_registered: bool,
}

/// Numbers that differ from call to call and from process to process.
#[derive(Debug)]
struct Numbers(u64);

impl Numbers {
    /// SplitMix64: enough for SSRCs and session ids, which are no secrets.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A line that nobody answers rings for ever; an hour is as good, and ends.
const RING_FOR: Duration = Duration::from_hours(1);

impl Desk {
    pub(crate) fn new(config: DeskConfig) -> Self {
        let mut seed = [0; 8];
        seed.copy_from_slice(&config.seed[..8]);
        let mut agent = AgentConfig::new(config.user_agent, config.node_secret, config.seed);
        "phone".clone_into(&mut agent.contact_user);
        agent.incoming_ring_for = RING_FOR;
        agent.trace = config.trace;
        if let Some(user) = config.registrar {
            user.admit_to(&mut agent);
        }
        Self {
            agent: Agent::new(agent, Instant::now()),
            local: config.local,
            advertised: config.local,
            deaf: config.deaf,
            lines: BTreeMap::new(),
            users: BTreeMap::new(),
            registrations: BTreeMap::new(),
            leaving: BTreeMap::new(),
            next_registration: 1,
            calls: BTreeMap::new(),
            alarms: BTreeSet::new(),
            numbers: Numbers(u64::from_be_bytes(seed)),
            is_closing: false,
            station: config.local.to_string().into(),
            teller: config.teller,
            counting: config.counting,
            talk: config.talk,
        }
    }

    /// Gives the agent something. What comes of it comes out of [`Desk::poll_output`].
    pub(crate) fn turn(&mut self, now: Instant, input: Input<'_>) {
        if let Input::Listening { advertised, .. } = input {
            self.advertised = advertised;
        }
        self.agent.handle(now, input);
    }

    /// The next thing to be done on the network. Reports are taken on the way, and so are the scripts' steps.
    pub(crate) fn poll_output(&mut self, now: Instant) -> Option<Output> {
        loop {
            match self.agent.poll_output() {
                Some(Output::Report(report)) => self.take_report(now, report),
                Some(output) => return Some(output),
                None => {
                    let &(at, call) = self.alarms.first().filter(|(at, _)| *at <= now)?;
                    self.alarms.remove(&(at, call));
                    self.take_step(now, call);
                }
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let alarm = self.alarms.first().map(|&(at, _)| at);
        [self.agent.deadline(), alarm].into_iter().flatten().min()
    }

    /// Nobody is to hear from this station: its line plays unreachable.
    pub(crate) fn is_deaf(&self) -> bool {
        let is_unreachable =
            |line: &LineAtWork| line.script.reply == Reply::Unreachable && !matches!(line.place, Place::Registered(_));
        !self.lines.is_empty() && self.lines.values().all(is_unreachable)
    }

    /// There is nobody left to say farewell to.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.registrations.is_empty() && self.leaving.is_empty()
    }

    /// Makes the lines these.
    pub(crate) fn set(&mut self, now: Instant, lines: Vec<(Line, Source)>) {
        if self.is_closing {
            return;
        }
        let wanted: BTreeMap<String, (Line, Source)> =
            lines.into_iter().map(|(line, source)| (line.name.clone(), (line, source))).collect();
        let gone: Vec<String> = self.lines.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove_line(now, &name);
        }
        for (name, (line, source)) in wanted {
            match self.lines.get_mut(&name) {
                Some(known) if known.place == line.place => {
                    known.script = Arc::new(line.script);
                    known.source = source;
                }
                Some(_) => {
                    self.remove_line(now, &name);
                    self.add_line(&name, line, source);
                }
                None => self.add_line(&name, line, source),
            }
            self.settle_registration(now, &name);
        }
    }

    fn add_line(&mut self, name: &str, line: Line, source: Source) {
        let at_work = LineAtWork {
            name: name.into(),
            place: line.place,
            script: Arc::new(line.script),
            source,
            registration: None,
            is_registered: false,
        };
        if at_work.place == Place::Direct {
            self.users.insert(name.to_owned(), name.to_owned());
        }
        self.lines.insert(name.to_owned(), at_work);
    }

    fn remove_line(&mut self, now: Instant, name: &str) {
        self.unregister(now, name);
        self.lines.remove(name);
        self.users.retain(|_, line| line != name);
        let calls: Vec<CallKey> =
            self.calls.iter().filter(|(_, call)| *call.line == *name).map(|(key, _)| *key).collect();
        for call in calls {
            self.hang_up(now, call);
        }
    }

    /// Registers a line that can be reached, and takes back the contact of one that cannot.
    fn settle_registration(&mut self, now: Instant, name: &str) {
        let Some(line) = self.lines.get(name) else { return };
        let Place::Registered(account) = &line.place else { return };
        match (line.script.reply, line.registration) {
            (Reply::Unreachable, Some(_)) => self.unregister(now, name),
            (Reply::Unreachable, None) | (_, Some(_)) => {}
            (_, None) => {
                let account = account.clone();
                self.register(now, name, &account);
            }
        }
    }

    fn register(&mut self, now: Instant, name: &str, account: &Account) {
        let key = self.next_registration;
        self.next_registration += 1;
        // Two tenants may have a user of the same name; calls are told apart by the user part of the contact.
        let contact_user = if self.users.contains_key(&account.username) {
            format!("{}-{key}", account.username)
        } else {
            account.username.clone()
        };
        self.users.insert(contact_user.clone(), name.to_owned());
        self.registrations.insert(key, name.to_owned());
        if let Some(line) = self.lines.get_mut(name) {
            line.registration = Some(key);
        }
        let register = Register {
            key,
            registrar: server_uri(None, account),
            aor: address_of_record(account),
            contact_user,
            credentials: Some(credentials(account)),
            expires: account.expires,
        };
        self.agent.handle(now, Input::Order(Order::Register(Box::new(register))));
    }

    fn unregister(&mut self, now: Instant, name: &str) {
        let Some(line) = self.lines.get_mut(name) else { return };
        let Some(key) = line.registration.take() else { return };
        line.is_registered = false;
        self.leaving.insert(key, Arc::clone(&line.name));
        self.registrations.remove(&key);
        self.users.retain(|_, owner| owner != name);
        self.agent.handle(now, Input::Order(Order::Unregister { key }));
    }

    /// Hangs everything up and takes all contacts back; nothing new begins.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.is_closing {
            return;
        }
        self.is_closing = true;
        let names: Vec<String> = self.lines.keys().cloned().collect();
        for name in names {
            self.unregister(now, &name);
        }
        let calls: Vec<CallKey> = self.calls.keys().copied().collect();
        for call in calls {
            self.hang_up(now, call);
        }
        self.agent.handle(now, Input::Order(Order::Drain));
    }

    /// Does what somebody ordered.
    pub(crate) fn order(&mut self, now: Instant, order: PhoneOrder, source: Option<Source>) {
        match order {
            PhoneOrder::Dial { line, call, to } => self.dial(now, &line, call, &to),
            PhoneOrder::Answer { call } => self.accept(now, call),
            PhoneOrder::Refuse { call, status } => self.refuse(now, call, status, EndCause::Refused),
            PhoneOrder::HangUp { call } => self.hang_up(now, call),
            PhoneOrder::Hold { call } => self.offer_change(now, call, true),
            PhoneOrder::Resume { call } => self.offer_change(now, call, false),
            PhoneOrder::Press { call, keys } => self.press(now, call, &keys),
            PhoneOrder::Say { call, say: _ } => {
                if let Some(source) = source {
                    self.say(call, source);
                }
            }
        }
    }

    fn take_report(&mut self, now: Instant, report: Report) {
        let call = |leg: LegKey| CallKey(leg.0);
        match report {
            Report::Incoming(incoming) => self.take_incoming(now, *incoming),
            Report::Ringing { leg, .. } => self.tell(call(leg), || Happening::Ringing),
            Report::Answered { leg, sdp, source, .. } => self.was_answered(now, call(leg), &sdp, source),
            Report::Confirmed { leg, sdp, .. } => self.was_confirmed(now, call(leg), sdp.as_deref()),
            Report::Offered { leg, sdp, .. } => self.was_offered(now, call(leg), &sdp),
            Report::OfferAnswered { leg, sdp, .. } => self.offer_was_answered(call(leg), &sdp),
            Report::OfferFailed { leg, status } => self.offer_was_refused(call(leg), status),
            Report::Failed { leg, status, because, .. } => self.has_failed(call(leg), status, because),
            Report::Ended { leg, reason, .. } => self.has_ended(call(leg), &reason),
            Report::Dtmf { leg, tone } => self.tell(call(leg), || Happening::Dtmf { digit: tone.digit }),
            Report::Registered { key, expires } => self.was_registered(key, expires),
            Report::RegisterFailed { key, status } => self.was_not_registered(key, status),
            Report::Unregistered { key } => self.was_unregistered(key),
            Report::Trace { direction, peer, bytes, .. } => {
                let sent = direction == sip::agent::Direction::Sent;
                self.teller.tell(&self.station, None, || Happening::Trace {
                    sent,
                    peer: peer.to_string(),
                    message: String::from_utf8_lossy(&bytes).into_owned(),
                });
            }
            Report::Reshaped { .. } | Report::Pinged { .. } | Report::Bound(_) | Report::Unbound { .. } => {}
        }
    }

    fn was_registered(&mut self, key: u64, expires: Duration) {
        let Some(line) = self.registrations.get(&key).and_then(|name| self.lines.get_mut(name)) else { return };
        if !line.is_registered {
            line.is_registered = true;
            count(&self.counting.registered);
        }
        self.teller.tell(&line.name, None, || Happening::Registered { expires_s: expires.as_secs() });
    }

    fn was_not_registered(&mut self, key: u64, status: u16) {
        if self.leaving.contains_key(&key) {
            // The contact runs out by itself.
            self.was_unregistered(key);
            return;
        }
        let Some(line) = self.registrations.get(&key).and_then(|name| self.lines.get_mut(name)) else { return };
        line.is_registered = false;
        count(&self.counting.register_failed);
        self.teller.tell(&line.name, None, || Happening::RegisterFailed { status });
    }

    fn was_unregistered(&mut self, key: u64) {
        if let Some(name) = self.leaving.remove(&key) {
            self.teller.tell(&name, None, || Happening::Unregistered);
        }
    }

    fn take_incoming(&mut self, now: Instant, incoming: Incoming) {
        let key = CallKey(incoming.leg.0);
        count(&self.counting.incoming);
        let number = incoming.request_uri.user_text().unwrap_or_default();
        let Some(line) = self.line_for(&number).filter(|_| !self.is_closing) else {
            count(&self.counting.unanswered);
            self.agent.handle(now, Input::Order(Order::Refuse { leg: incoming.leg, status: 404 }));
            return;
        };
        self.teller.tell(&line.name, Some(key), || Happening::Incoming {
            name: incoming.from_display.clone(),
            from: incoming.asserted.as_ref().unwrap_or(&incoming.from).to_string(),
            to: incoming.to.to_string(),
            number,
        });
        let (name, script, source) = (Arc::clone(&line.name), Arc::clone(&line.script), line.source.clone());
        let seed = self.numbers.next();
        let stage = Stage::Ringing { offer: incoming.sdp, said: None };
        self.calls.insert(key, Call::new(name, Arc::clone(&script), source, stage, Some(incoming.source.ip()), seed));
        let after = script.answer_after;
        let step = match script.reply {
            Reply::Answer => Some(Plan::Answer),
            Reply::Refuse(status) => Some(Plan::Refuse(status)),
            Reply::Unreachable => Some(Plan::Refuse(480)),
            Reply::Ring => None,
        };
        match step {
            Some(Plan::Answer) if after.is_zero() => self.accept(now, key),
            Some(Plan::Refuse(status)) if after.is_zero() => self.refuse(now, key, status, EndCause::Refused),
            _ => {
                self.ring(now, key);
                if let Some(step) = step {
                    self.schedule(key, now + after, step);
                }
            }
        }
    }

    /// Whose call is it? A line that plays a network, or takes what others do not, has any number.
    fn line_for(&self, user: &str) -> Option<&LineAtWork> {
        let named = self.users.get(user).and_then(|name| self.lines.get(name));
        named.or_else(|| self.lines.values().find(|line| !matches!(line.place, Place::Registered(_))))
    }

    fn dial(&mut self, now: Instant, name: &str, key: CallKey, to: &str) {
        if self.is_closing || self.calls.contains_key(&key) {
            return;
        }
        let Some(line) = self.lines.get(name) else { return };
        self.teller.tell(&line.name, Some(key), || Happening::Dialing { to: to.to_owned() });
        let Some(target) = Target::read(to, &line.place) else {
            count(&self.counting.unanswered);
            let ended = Happening::Ended { cause: EndCause::Failed, status: Some(400), reason: None, statistics: None };
            self.teller.tell(&line.name, Some(key), || ended);
            return;
        };
        let caller = match &line.place {
            Place::Registered(account) => address_of_record(account),
            Place::Trunk(_) | Place::Direct => {
                Uri::sip(Some(name), Host::Ip(self.advertised.ip()), Some(self.advertised.port()))
            }
        };
        let (display, credentials) = match &line.place {
            Place::Registered(account) => (account.display.clone(), Some(credentials(account))),
            Place::Trunk(_) | Place::Direct => (None, None),
        };
        let (line_name, script, source) = (Arc::clone(&line.name), Arc::clone(&line.script), line.source.clone());
        let seed = self.numbers.next();
        let call = Call::new(line_name, script, source, Stage::Dialing, None, seed);
        self.calls.insert(key, call);
        self.place_call(now, key, target, sip::agent::Caller { display, uri: caller, asserted: None }, credentials);
    }

    fn tell(&self, key: CallKey, what: impl FnOnce() -> Happening) {
        if let Some(call) = self.calls.get(&key) {
            self.teller.tell(&call.line, Some(key), what);
        }
    }

    /// RFC 3261 §15: whoever answered may not hang up before the ACK. The call is kept until then, so that a station
    /// that shuts down does not leave the caller behind.
    fn hang_up(&mut self, now: Instant, key: CallKey) {
        if self.calls.get_mut(&key).is_some_and(Call::parts_later) {
            return;
        }
        let order = Order::HangUp { leg: LegKey(key.0), cause: HangUpCause::default() };
        self.agent.handle(now, Input::Order(order));
    }

    /// Counts the end of a call.
    fn count_end(&self, was_answered: bool, cause: EndCause) {
        let counter: &AtomicU64 = match (was_answered, cause) {
            (false, _) => &self.counting.unanswered,
            (true, EndCause::PeerHungUp) => &self.counting.peer_hung_up,
            (true, EndCause::HungUp) => &self.counting.hung_up,
            (true, _) => &self.counting.lost,
        };
        count(counter);
    }
}

/// Whom to call, and through whom.
#[derive(Debug)]
struct Target {
    uri: Uri,
    through: Option<Uri>,
}

impl Target {
    /// A SIP URI is called as it says; anything else is a user or number at the line's registrar.
    fn read(to: &str, place: &Place) -> Option<Self> {
        if to.starts_with("sip:") || to.starts_with("sips:") {
            return Some(Self { uri: Uri::parse(to.as_bytes()).ok()?, through: None });
        }
        let Place::Registered(account) = place else { return None };
        let uri = match to.split_once('@') {
            Some((user, host)) => Uri::sip(Some(user), Host::parse(host)?, None),
            None if to.is_empty() => return None,
            None => Uri::sip(Some(to), account.domain.as_str(), None),
        };
        Some(Self { uri, through: Some(server_uri(None, account).with_param("lr", "")) })
    }
}

/// `host` or `host:port`, an IPv6 address in brackets.
pub(crate) fn split_server(server: &str) -> (String, Option<u16>) {
    match server.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
            (host.to_owned(), port.parse().ok())
        }
        _ => (server.to_owned(), None),
    }
}

fn server_uri(user: Option<&str>, account: &Account) -> Uri {
    let (host, port) = split_server(&account.server);
    let uri = Uri::sip(user, host, port);
    match account.transport {
        Transport::Udp => uri,
        Transport::Tcp => uri.with_param("transport", "tcp"),
    }
}

fn address_of_record(account: &Account) -> Uri {
    Uri::sip(Some(&account.username), account.domain.as_str(), None)
}

fn credentials(account: &Account) -> Credentials {
    Credentials { username: account.username.clone(), password: account.password.clone() }
}

#[cfg(test)]
mod tests {
    use super::split_server;

    #[test]
    fn a_server_is_a_host_with_or_without_a_port() {
        for (text, host, port) in [
            ("sip.example.com", "sip.example.com", None),
            ("127.0.0.1:5070", "127.0.0.1", Some(5070)),
            ("[::1]:5070", "[::1]", Some(5070)),
            ("[::1]", "[::1]", None),
            ("::1", "::1", None),
        ] {
            assert_eq!(split_server(text), (host.to_owned(), port), "{text}");
        }
    }
}
