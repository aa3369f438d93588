//! The agent: every SIP leg of one process, driven by bytes, orders and time.
//!
//! The shell owns sockets, look-ups and the clock. It gives each thing that happens to [`Agent::handle`], then takes
//! [`Output`]s until there are none, and calls again at [`Agent::deadline`]. The agent never waits and never sleeps.
//!
//! ```text
//!   bytes --> network --> servers --> called, talking, registrar --> reports
//!                    \--> clients --> calling, talking, registering --^
//!   orders -----------------------------^        (each may send: clients, servers --> network --> bytes)
//! ```
//!
//! Everything that waits has a deadline, and everything that was begun ends: a request with a response or a time-out,
//! a leg with exactly one [`Report::Failed`] or [`Report::Ended`].

mod alarms;
mod authenticating;
mod called;
mod calling;
mod clients;
mod guarding;
pub mod limits;
mod naming;
mod network;
mod peers;
mod reaching;
mod registering;
mod registrar;
mod resuming;
mod servers;
mod streams;
mod talking;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use alarms::Alarms;
use called::Reliability;
use clients::{ClientKey, ClientTransaction};
use limits::UNTOLD_REQUESTS_MAX;
use naming::Naming;
use network::{Network, Opened, Way};
use registering::Registration;
use servers::{Origin, ServerKey, ServerName, ServerTransaction, Source};
use talking::Session;

use crate::dialog::DialogId;
use crate::invite::reliable::Provisional;
use crate::locate::{Answer, Answers, Question};
use crate::message::{Malformed, Message, Method, is_keep_alive, mask_credentials, parse_datagram};
use crate::transaction::Timing;

pub use vocabulary::{
    AgentConfig, Algorithm, Binding, Branch, Caller, CancelDerived, ConnectId, Counters, Credentials, Dial, Dialled,
    Direction, EndReason, FailedBecause, Flow, GuessLimits, HangUpCause, Hint, Incoming, IncomingPolicy, Input, LegKey,
    Lookup, Nobody, Order, Output, QueryId, Register, Registered, RegistrarConfig, Report, Snapshot, TakeUp, Tone,
    Transport, UnboundBecause, Users, Waits,
};

/// Most branches of one leg that ring at once.
pub const BRANCHES_MAX: usize = 32;

pub use limits::REDIRECTS_MAX;

/// The SIP side of one process.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    timing: Timing,
    now: Instant,
    naming: Naming,
    network: Network,
    alarms: Alarms<Due>,
    outputs: VecDeque<Output>,
    counters: Counters,
    is_draining: bool,
    is_overloaded: bool,

    clients: BTreeMap<ClientKey, ClientTransaction>,
    client_index: BTreeMap<(String, Method), ClientKey>,
    last_client: ClientKey,
    /// Requests whose next address is to be tried before this input is done with.
    unsent: VecDeque<ClientKey>,
    /// What was asked of DNS, and the requests that wait for it.
    waiting_queries: BTreeMap<QueryId, (Question, Vec<ClientKey>)>,
    answers: Answers,
    waiting_connects: BTreeMap<ConnectId, Vec<ClientKey>>,
    /// Requests that wait for their phone to register again, by its address of record.
    stranded: BTreeSet<(String, ClientKey)>,

    servers: BTreeMap<ServerKey, ServerTransaction>,
    server_index: BTreeMap<ServerName, ServerKey>,
    server_origins: BTreeMap<Origin, ServerKey>,
    last_server: ServerKey,

    legs: BTreeMap<LegKey, Leg>,
    dialogs: BTreeMap<DialogId, LegKey>,
    /// Legs of which something rings that nobody wants any longer.
    withdrawn: BTreeMap<LegKey, calling::Withdrawn>,
    /// Late answers to calls of an earlier process that are being ended.
    strays: BTreeMap<DialogId, Instant>,
    registrations: BTreeMap<u64, Registration>,
    registrar: registrar::Locations,
    withheld: resuming::Withheld,
}

/// A leg, by what it goes through.
#[derive(Debug)]
enum Leg {
    Calling(Box<calling::Calling>),
    Called(Box<called::Called>),
    Talking(Box<Session>),
}

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Client(ClientKey),
    Server(ServerKey),
    Leg(LegKey),
    Query(QueryId),
    Connect(ConnectId),
    Registration(u64),
    Stream(Flow),
    Registrar,
    TakingUp,
}

impl Agent {
    /// An agent without flows or legs.
    pub fn new(config: AgentConfig, now: Instant) -> Self {
        let withheld = resuming::Withheld::new(&config);
        let mut alarms = Alarms::new();
        alarms.set(Due::TakingUp, config.take_up_within.map(|within| now + within));
        Self {
            timing: Timing::from_t1(config.t1),
            naming: Naming::new(config.node_secret, config.seed),
            registrar: registrar::Locations::new(&config, now),
            config,
            now,
            network: Network::default(),
            alarms,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            is_draining: false,
            is_overloaded: false,
            clients: BTreeMap::new(),
            client_index: BTreeMap::new(),
            last_client: 0,
            unsent: VecDeque::new(),
            waiting_queries: BTreeMap::new(),
            answers: Answers::default(),
            waiting_connects: BTreeMap::new(),
            stranded: BTreeSet::new(),
            servers: BTreeMap::new(),
            server_index: BTreeMap::new(),
            server_origins: BTreeMap::new(),
            last_server: 0,
            legs: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            strays: BTreeMap::new(),
            registrations: BTreeMap::new(),
            withheld,
        }
    }

    /// Takes one input. `now` never goes back; if it does, it stands still.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = self.now.max(now);
        self.take_due();
        match input {
            Input::Listening { flow, transport, local, advertised } => {
                self.network.listen(flow, transport, local, advertised);
            }
            Input::Datagram { flow, source, bytes } => self.receive_datagram(flow, source, bytes),
            Input::Stream { flow, source, local, bytes } => self.receive_stream(flow, source, local, bytes),
            Input::Accepted { flow, source, local } => {
                self.stream_is_known(flow, source, local);
            }
            Input::StreamClosed { flow } => self.stream_closed(flow),
            Input::Connected { connect, flow, local, remote } => {
                self.network.add(self.now, flow, (local, remote), Opened::ByUs);
                self.watch_stream(flow);
                self.connect_ended(connect, Some(flow));
            }
            Input::ConnectFailed { connect } => self.connect_ended(connect, None),
            Input::LookedUp { query, answer } => self.looked_up(query, answer),
            Input::Order(order) => self.obey(order),
            Input::Time => {}
        }
        self.send_waiting();
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.next()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Legs that have not ended.
    pub fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Nothing is under way: no leg, no transaction, no connection or look-up that somebody waits for. Registrations
    /// and open connections do not count.
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty()
            && self.legs.is_empty()
            && self.dialogs.is_empty()
            && self.clients.is_empty()
            && self.client_index.is_empty()
            && self.servers.is_empty()
            && self.server_index.is_empty()
            && self.server_origins.is_empty()
            && self.waiting_queries.is_empty()
            && self.waiting_connects.is_empty()
            && self.stranded.is_empty()
            && self.network.is_idle()
    }

    /// Nobody is owed a word: no leg, not even one whose BYE waits for an ACK, and no request of a leg without its
    /// final response. A process that ends before takes the repetitions of its BYE and CANCEL with it.
    pub fn is_settled(&self) -> bool {
        self.outputs.is_empty() && self.legs.is_empty() && !self.clients.values().any(ClientTransaction::is_owed)
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Dial(dial) => self.dial(*dial, 0),
            Order::DialAgain(dial) => self.dial(*dial, self.untold(0)),
            Order::Confirm { leg } => self.confirm(leg),
            Order::HangUp { leg, cause } => match self.legs.get(&leg) {
                Some(Leg::Calling(_)) => self.hang_up_calling(leg, &cause),
                Some(Leg::Called(_)) => self.refuse(leg, cause.status.unwrap_or(603)),
                Some(Leg::Talking(_)) => self.hang_up_talking(leg, &cause),
                None => {}
            },
            Order::HangUpSnapshot { leg, snapshot, cause } => self.hang_up_snapshot(leg, &snapshot, &cause),
            Order::CancelDerived(order) => self.cancel_derived(*order),
            Order::TakeUp(order) => self.take_up(*order),
            Order::TakenUp => self.taken_up(),
            Order::Reinvite { leg, offer } => self.reinvite(leg, offer),
            Order::AnswerOffer { leg, sdp } => self.answer_offer(leg, sdp),
            Order::RefuseOffer { leg, status } => self.refuse_offer(leg, status),
            Order::Accept { leg, sdp } => self.accept(leg, sdp),
            Order::Ring { leg, status, sdp } => self.ring(leg, Provisional { status, sdp }, Reliability::IfRequired),
            Order::RingReliably { leg, status, sdp } => {
                self.ring(leg, Provisional { status, sdp }, Reliability::IfSupported);
            }
            Order::Refuse { leg, status } => self.refuse(leg, status),
            Order::Register(register) => self.register(*register),
            Order::Unregister { key } => self.unregister(key),
            Order::Ping { key, target } => self.ping(key, target),
            Order::RestoreBinding(binding) => self.restore_binding(*binding),
            Order::RemoveBindings { aor } => self.remove_bindings(&aor),
            Order::Drain => self.is_draining = true,
            Order::Overloaded(is_overloaded) => self.is_overloaded = is_overloaded,
        }
    }

    /// Everything whose deadline has come.
    fn take_due(&mut self) {
        while let Some(due) = self.alarms.pop(self.now) {
            match due {
                Due::Client(key) => self.client_time(key),
                Due::Server(key) => self.server_time(key),
                Due::Leg(leg) => match self.legs.get(&leg) {
                    Some(Leg::Calling(_)) => self.calling_time(leg),
                    Some(Leg::Called(_)) => self.called_time(leg),
                    Some(Leg::Talking(_)) => self.talking_time(leg),
                    None => {}
                },
                Due::Query(query) => self.looked_up(query, Answer::failed()),
                Due::Connect(connect) => self.connect_ended(connect, None),
                Due::Registration(key) => self.registration_time(key),
                Due::Stream(flow) => self.stream_time(flow),
                Due::Registrar => self.registrar_time(),
                Due::TakingUp => self.taken_up(),
            }
            self.send_waiting();
        }
    }

    fn watch_leg(&mut self, leg: LegKey) {
        let deadline = match self.legs.get(&leg) {
            Some(Leg::Calling(calling)) => Some(calling.deadline(self.config.failover_after)),
            Some(Leg::Called(called)) => Some(called.deadline()),
            Some(Leg::Talking(session)) => session.deadline(),
            None => None,
        };
        self.alarms.set(Due::Leg(leg), deadline);
    }

    /// Up to this, earlier processes may have numbered requests within a dialog; `told` is the last of them that we know.
    /// Ours go on above (RFC 3261 §12.2.1.1: numbers rise, and may skip some).
    fn untold(&self, told: u32) -> u32 {
        match self.config.process {
            // Two that know the same begin with the same number.
            0 => told.saturating_add(UNTOLD_REQUESTS_MAX),
            // The clock may have been set back: no number is taken back.
            process => told.max(process),
        }
    }

    /// There are so many times as many transactions as should be.
    fn is_filled(&self, times: usize) -> bool {
        self.clients.len() + self.servers.len() >= self.config.transactions_max.saturating_mul(times)
    }

    fn report(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }

    fn transmit(&mut self, way: Way, bytes: Vec<u8>) {
        self.trace(Direction::Sent, way.transport, way.destination, &bytes);
        let Way { flow, destination, .. } = way;
        self.outputs.push_back(Output::Transmit { flow, destination, bytes });
    }

    fn trace(&mut self, direction: Direction, transport: Transport, peer: SocketAddr, bytes: &[u8]) {
        if self.config.trace {
            let bytes = mask_credentials(bytes);
            self.report(Report::Trace { direction, transport, peer, bytes });
        }
    }

    fn receive_datagram(&mut self, flow: Flow, source: SocketAddr, bytes: &[u8]) {
        let Some(source) = self.source(flow, source) else { return };
        if is_keep_alive(bytes) {
            // RFC 5626 §3.5.1: over a datagram CRLF is a keep-alive that nobody answers.
            return;
        }
        self.trace(Direction::Received, source.transport, source.address, bytes);
        match parse_datagram(bytes) {
            Ok(message) => self.receive_message(message, source),
            Err(malformed) => self.receive_malformed(&malformed, source),
        }
    }

    fn receive_message(&mut self, message: Message, source: Source) {
        let Some(message) = self.withhold(message, source) else { return };
        match message {
            Message::Request(request) => self.receive_request(request, source),
            Message::Response(response) => self.receive_response(&response, source),
        }
    }

    /// Something that is no SIP message we can use: answered without state where an answer is due.
    fn receive_malformed(&mut self, malformed: &Malformed, source: Source) {
        self.counters.malformed_received += 1;
        let Some(mut response) = malformed.response() else { return };
        let reply_to = match response.headers.top_via() {
            Ok(mut via) => {
                via.stamp(source.address);
                response.headers.set_top_via(&via);
                servers::reply_to(&via, source)
            }
            Err(_) => source.address,
        };
        self.counters.responses_sent += 1;
        self.transmit_reply(source, reply_to, response.to_bytes());
    }

    fn source(&self, flow: Flow, address: SocketAddr) -> Option<Source> {
        let transport = self.network.transport(flow)?;
        let advertised = self.network.advertised(flow)?;
        Some(Source { flow, transport, address, advertised })
    }
}
