//! The operator: drives SIP's agent, keeps the legs and says what the tick threads are to do.
//!
//! Everything arrives by [`Operator::handle`]: effects, SIP, news of media, requests of the handle. What follows comes
//! out of [`Operator::poll_output`] and [`Operator::poll_order`], in order. It owns no socket, thread, task or clock;
//! `running.rs` is the task around it.

mod effects;
mod leg;
mod news;
mod redirects;
mod reports;
mod resuming;
mod trunks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use control::{ConferenceId, Effect, LegId, LegNews, Signal, Timestamp};
use media::PortId;
use sip::agent::{
    Agent, AgentConfig, Algorithm, ConnectId, Flow, IncomingPolicy, Input as SipInput, LegKey, Lookup, Order,
    Output as SipOutput, QueryId, RegistrarConfig, Transport, Users,
};
use sip::locate::Question;
use sip::sdp::CodecName;

use self::leg::{Gone, Leg};
use self::news::StatisticsRound;
use self::resuming::Resumes;
use self::trunks::Trunks;
use crate::directory::{Directory, Found};
use crate::happening::{Happening, What};
use crate::media::rtp::RtpSockets;
use crate::media::seats::Seats;
use crate::media::tick::{News, Order as MediaOrder};
use crate::statistics::LegStatistics;
use crate::{Binding, Report, SwitchConfig};

/// The two clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// By the wall clock: for what outlives the process.
    pub wall: Timestamp,
}

/// What is told to the operator.
#[derive(Debug)]
pub enum Input<'a> {
    /// To be performed. Effects are performed in the order they come in.
    Effect(ConferenceId, Effect),
    /// From SIP's sockets.
    Sip(SipInput<'a>),
    /// From a tick thread.
    Media(News),
    /// A tick thread has died, and its legs' media with it.
    ThreadDied(usize),
    /// Every leg's figures are wanted; see [`Output::Statistics`].
    AskStatistics,
    /// Everything that an earlier process left has been given as effects: what phones said meanwhile is heard.
    TakenUp,
    /// No new dialogs from here on.
    Drain,
    /// Hang up what is left.
    ShutDown,
    /// Somebody watches, or nobody does any more; see [`Output::Happening`].
    Watched(bool),
    /// New dialogs and registrations are refused while what they cause is not taken off our hands.
    Overloaded(bool),
    /// A deadline has passed.
    Time,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Onto SIP's network. Where that fails on a stream, [`SipInput::StreamClosed`] is to be told.
    Transmit {
        flow: Flow,
        destination: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Answered by [`SipInput::Connected`] or [`SipInput::ConnectFailed`].
    Connect {
        connect: ConnectId,
        transport: Transport,
        destination: SocketAddr,
    },
    Close(Flow),
    /// Answered by [`SipInput::LookedUp`].
    LookUp {
        query: QueryId,
        question: Question,
    },
    /// To the engine.
    Signal(ConferenceId, Signal),
    /// To the server.
    Report(Report),
    /// To whoever watches; only while somebody does.
    Happening(Happening),
    /// The answer to every [`Input::AskStatistics`] since the last answer.
    Statistics(Vec<LegStatistics>),
}

/// What the operator needs of its machine in the middle of a decision. Nothing here waits.
pub trait Machine: Send + fmt::Debug {
    /// Binds the next free pair of RTP ports. Fails when all are in use.
    fn bind(&mut self) -> io::Result<RtpSockets>;

    /// Binds this pair, which a process before us had, or the next free one.
    fn bind_again(&mut self, port: u16) -> io::Result<RtpSockets>;

    /// Whether an address is one of this machine's.
    fn has(&self, address: IpAddr) -> bool;

    /// Our address on the way to a peer; `None` if there is no way.
    fn route_to(&self, peer: IpAddr) -> Option<IpAddr>;

    /// Our address on the way to everybody else.
    fn default_route(&self) -> IpAddr;
}

/// A socket of SIP's that listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    pub flow: Flow,
    pub transport: Transport,
    pub local: SocketAddr,
}

/// What the operator is made of.
#[derive(Debug)]
pub struct Parts {
    pub config: SwitchConfig,
    pub codecs: Vec<CodecName>,
    pub directory: Arc<ArcSwap<Directory>>,
    /// Contacts that an earlier process knew.
    pub bindings: Vec<Binding>,
    pub listening: Vec<Listening>,
    /// Tick threads.
    pub threads: usize,
    pub machine: Box<dyn Machine>,
    /// Of the process: what must be unguessable derives from it.
    pub seed: [u8; 32],
}

/// Legs, and everything that is known about them.
pub struct Operator {
    /// When the input came that is being handled.
    now: Now,
    config: SwitchConfig,
    codecs: Vec<CodecName>,
    directory: Arc<ArcSwap<Directory>>,
    agent: Agent,
    listening: Vec<Listening>,
    threads: Seats,
    machine: Box<dyn Machine>,
    legs: BTreeMap<LegId, Leg>,
    by_key: BTreeMap<LegKey, LegId>,
    by_port: BTreeMap<PortId, LegId>,
    gone: Gone,
    trunks: Trunks,
    /// Contacts known by their address of record: forgotten when the user leaves the directory.
    bound: BTreeSet<String>,
    outputs: VecDeque<Output>,
    watched: bool,
    statistics: Option<StatisticsRound>,
    resumes: Resumes,
    next_port: u64,
    seeds: Seeds,
    housekeeping_at: Instant,
    draining: bool,
}

/// How often what has no deadline of its own is looked at: levels, metrics, trunks, dead threads.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

impl Operator {
    pub fn new(now: Now, parts: Parts) -> Self {
        let Parts { config, codecs, directory, bindings, listening, threads, machine, seed } = parts;
        let mut agent = AgentConfig::new(config.sip.user_agent.clone(), config.sip.node_secret, seed);
        agent.incoming = IncomingPolicy::Refuse;
        agent.registrar = Some(RegistrarConfig {
            realm: config.sip.realm.clone(),
            algorithms: config.sip.digests.clone(),
            guesses: config.sip.guesses,
            ..RegistrarConfig::default()
        });
        agent.streams_max = config.sip.streams_max;
        agent.streams_per_address_max = config.sip.streams_per_address_max;
        agent.users = Arc::new(DirectoryUsers(Arc::clone(&directory)));
        agent.legs_max = config.legs_max;
        agent.process = config.process;
        agent.take_up_within = config.take_up_within;
        agent.session_expires = config.sip.session_expires;
        let is_taking_up = config.take_up_within.is_some();
        agent.trace = config.sip.trace;
        let mut operator = Self {
            now,
            agent: Agent::new(agent, now.instant),
            threads: Seats::new(threads, config.media.talkers_max),
            config,
            codecs,
            directory,
            listening,
            machine,
            legs: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_port: BTreeMap::new(),
            gone: Gone::default(),
            trunks: Trunks::default(),
            bound: BTreeSet::new(),
            outputs: VecDeque::new(),
            watched: false,
            statistics: None,
            resumes: Resumes::new(now.instant, is_taking_up),
            next_port: 1,
            seeds: Seeds::new(seed),
            housekeeping_at: now.instant,
            draining: false,
        };
        operator.listen();
        for binding in &bindings {
            operator.restore(binding);
        }
        operator.pump();
        operator
    }

    fn listen(&mut self) {
        for listening in self.listening.clone() {
            let local = listening.local;
            let ip = match (self.config.sip.public_address, local.ip().is_unspecified()) {
                (Some(public), _) => public,
                (None, true) => self.machine.default_route(),
                (None, false) => local.ip(),
            };
            let advertised = SocketAddr::new(ip, local.port());
            let (flow, transport) = (listening.flow, listening.transport);
            self.give(SipInput::Listening { flow, transport, local, advertised });
        }
    }

    /// Takes one input to its consequences, which the polls then give out.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.now = now;
        match input {
            Input::Effect(conference, effect) => self.perform(conference, effect),
            Input::Sip(input) => self.give(input),
            Input::Media(news) => self.hear(news),
            Input::ThreadDied(thread) => {
                self.threads.died(thread);
                self.thread_died();
            }
            Input::AskStatistics => self.ask_statistics(true),
            Input::TakenUp => self.taken_up(),
            Input::Drain => self.drain(),
            Input::ShutDown => {
                self.drain();
                self.hang_up_everything();
            }
            Input::Watched(watched) => self.watched = watched,
            Input::Overloaded(overloaded) => self.order(Order::Overloaded(overloaded)),
            Input::Time => {
                self.give(SipInput::Time);
                self.send_resumes(now.instant);
                if now.instant >= self.housekeeping_at {
                    self.housekeeping_at = now.instant + HOUSEKEEPING_EVERY;
                    self.keep_house();
                }
            }
        }
        self.pump();
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the tick threads are to be told next, and which of them.
    pub fn poll_order(&mut self) -> Option<(usize, MediaOrder)> {
        self.threads.poll_order()
    }

    /// When [`Input::Time`] is due.
    pub fn deadline(&self) -> Instant {
        let deadlines = [self.agent.deadline(), self.resumes.deadline()];
        deadlines.into_iter().flatten().fold(self.housekeeping_at, Instant::min)
    }

    /// Nothing is under way: no leg, no transaction.
    pub fn is_settled(&self) -> bool {
        self.legs.is_empty() && self.agent.is_settled()
    }

    /// Takes everything the agent has to say.
    fn pump(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            let output = match output {
                SipOutput::Transmit { flow, destination, bytes } => Output::Transmit { flow, destination, bytes },
                SipOutput::Connect { connect, transport, destination } => {
                    Output::Connect { connect, transport, destination }
                }
                SipOutput::CloseFlow(flow) => Output::Close(flow),
                SipOutput::LookUp { query, question } => Output::LookUp { query, question },
                SipOutput::Report(report) => {
                    self.agent_reports(report);
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.order(Order::Drain);
    }

    fn keep_house(&mut self) {
        let now = self.now.instant;
        self.hang_up_lost();
        self.give_up_late_legs(now);
        self.look_after_trunks(now);
        self.forget_former_users();
        if self.watched && !self.by_port.is_empty() {
            self.ask_statistics(false);
        }
        self.measure();
    }

    fn measure(&self) {
        metrics::gauge!("convoke_switch_legs").set(self.legs.len() as f64);
        metrics::gauge!("convoke_switch_media_legs").set(self.threads.leg_count() as f64);
        metrics::gauge!("convoke_switch_rooms").set(self.threads.room_count() as f64);
        let sip = self.agent.counters();
        metrics::counter!("convoke_sip_requests_received_total").absolute(sip.requests_received);
        metrics::counter!("convoke_sip_responses_received_total").absolute(sip.responses_received);
        metrics::counter!("convoke_sip_malformed_received_total").absolute(sip.malformed_received);
        metrics::counter!("convoke_sip_requests_sent_total").absolute(sip.requests_sent);
        metrics::counter!("convoke_sip_responses_sent_total").absolute(sip.responses_sent);
        metrics::counter!("convoke_sip_retransmissions_sent_total").absolute(sip.retransmissions_sent);
        metrics::counter!("convoke_sip_shed_total").absolute(sip.shed);
        metrics::counter!("convoke_sip_authentication_failed_total").absolute(sip.authentication_failed);
        metrics::counter!("convoke_sip_guesses_refused_total").absolute(sip.guesses_refused);
        metrics::counter!("convoke_sip_foreign_received_total").absolute(sip.foreign_received);
        metrics::counter!("convoke_sip_streams_evicted_total").absolute(sip.streams_evicted);
    }

    fn give(&mut self, input: SipInput<'_>) {
        self.agent.handle(self.now.instant, input);
    }

    fn order(&mut self, order: Order) {
        self.give(SipInput::Order(order));
    }

    /// Tells a leg's conference.
    fn signal(&mut self, conference: ConferenceId, leg: LegId, news: LegNews) {
        self.outputs.push_back(Output::Signal(conference, Signal::Leg(leg, news)));
    }

    fn report(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }

    /// Tells whoever watches. Costs next to nothing when nobody does.
    fn happen(&mut self, leg: LegId, what: What) {
        if !self.watched {
            return;
        }
        if let Some(known) = self.legs.get(&leg) {
            let (conference, who) = (known.owner, known.who.clone());
            self.outputs.push_back(Output::Happening(Happening { leg, conference, who, what }));
        }
    }

    /// The UDP socket's or TCP listener's flow of a transport, for contacts of an earlier process.
    fn flow_of(&self, transport: Transport) -> Flow {
        let listening = self.listening.iter().find(|listening| listening.transport == transport);
        listening.map_or(Flow(0), |listening| listening.flow)
    }
}

/// Unguessable numbers from the process's seed (SplitMix64 over a secret start: for SSRCs and session ids, not keys).
#[derive(Debug)]
struct Seeds(u64);

impl Seeds {
    fn new(seed: [u8; 32]) -> Self {
        let mut start = [0; 8];
        start.copy_from_slice(&seed[24..]);
        Self(u64::from_le_bytes(start))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The registrar's look-ups, in whatever directory there is at the moment.
struct DirectoryUsers(Arc<ArcSwap<Directory>>);

impl Users for DirectoryUsers {
    fn ha1(&self, username: &str, domain: &str, algorithm: Algorithm) -> Lookup {
        match self.0.load().user(username, domain) {
            Found::User(user) => {
                let ha1 = match algorithm {
                    Algorithm::Md5 => &user.ha1_md5,
                    Algorithm::Sha256 => &user.ha1_sha256,
                };
                Lookup::Ha1 { ha1: ha1.clone(), aor: user.aor() }
            }
            Found::Nobody => Lookup::Unknown,
            Found::Several => Lookup::Ambiguous,
        }
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("legs", &self.legs.len()).finish_non_exhaustive()
    }
}
