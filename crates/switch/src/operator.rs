//! The operator: one task that drives SIP's agent, keeps the legs and tells the tick threads what to do.
//!
//! Everything arrives here: effects, SIP, news of media, requests of the handle. Nothing here waits for anyone: what a
//! full queue does not take is kept, bounded, and offered again.

mod effects;
mod leg;
mod news;
mod reports;
mod resuming;
mod trunks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use control::{ConferenceId, Effect, LegId, LegNews, Signal, Timestamp};
use media::PortId;
use sip::agent::{
    Agent, AgentConfig, Algorithm, Flow, IncomingPolicy, Input, LegKey, Lookup, Order, Output, RegistrarConfig,
    Transport, Users,
};
use sip::sdp::CodecName;
use tokio::sync::{broadcast, mpsc, oneshot};

use self::leg::{Gone, Leg};
use self::news::StatisticsRound;
use self::resuming::Resumes;
use self::trunks::Trunks;
use crate::dialing::default_route;
use crate::directory::{Directory, Found};
use crate::happening::{Happening, What};
use crate::media::rtp::PortRange;
use crate::media::threads::MediaThreads;
use crate::media::tick::{Counters, News};
use crate::sip::transports::{Happened, Transports};
use crate::statistics::LegStatistics;
use crate::{Binding, Report, SwitchConfig};

/// What the handle asks of the operator.
#[derive(Debug)]
pub(crate) enum Request {
    Statistics(oneshot::Sender<Vec<LegStatistics>>),
    TakenUp,
    Drain,
    ShutDown(oneshot::Sender<()>),
}

/// The operator's channels to the rest of the process.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) effects: mpsc::Receiver<(ConferenceId, Effect)>,
    pub(crate) signals: mpsc::Sender<(ConferenceId, Signal)>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) happenings: broadcast::Sender<Happening>,
}

/// What the operator is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: SwitchConfig,
    pub(crate) codecs: Vec<CodecName>,
    pub(crate) directory: Arc<ArcSwap<Directory>>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) transports: Transports,
    pub(crate) threads: MediaThreads,
    pub(crate) news: mpsc::Receiver<News>,
    pub(crate) ports: PortRange,
    /// Of the process: what must be unguessable derives from it.
    pub(crate) seed: [u8; 32],
}

/// The task's state.
pub(crate) struct Operator {
    config: SwitchConfig,
    codecs: Vec<CodecName>,
    directory: Arc<ArcSwap<Directory>>,
    agent: Agent,
    transports: Transports,
    threads: MediaThreads,
    news: mpsc::Receiver<News>,
    ports: PortRange,
    channels: Channels,
    effects_open: bool,
    legs: BTreeMap<LegId, Leg>,
    by_key: BTreeMap<LegKey, LegId>,
    by_port: BTreeMap<PortId, LegId>,
    gone: Gone,
    trunks: Trunks,
    /// Where names were last found: for choosing our address towards them.
    found: BTreeMap<String, IpAddr>,
    /// Contacts known by their address of record: forgotten when the user leaves the directory.
    bound: BTreeSet<String>,
    signals: VecDeque<(ConferenceId, Signal)>,
    reports: VecDeque<Report>,
    statistics: Option<StatisticsRound>,
    resumes: Resumes,
    next_port: u64,
    seeds: Seeds,
    housekeeping_at: Instant,
    draining: bool,
    stop: Option<Stop>,
}

/// A shut-down under way.
struct Stop {
    at_last: Instant,
    done: oneshot::Sender<()>,
}

/// Signals that wait before no further effects are taken.
const SIGNALS_MAX: usize = 65_536;

/// Reports that wait; a store that stands still for that long has bigger troubles.
const REPORTS_MAX: usize = 65_536;

/// Names of hosts that are remembered.
const FOUND_MAX: usize = 1_024;

/// How often what has no deadline of its own is looked at: levels, metrics, trunks, dead threads.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

/// How long a shut-down waits for answers to its BYEs.
const SHUT_DOWN_WITHIN: Duration = Duration::from_secs(3);

impl Operator {
    pub(crate) fn new(parts: Parts, channels: Channels) -> Self {
        let Parts { config, codecs, directory, bindings, transports, threads, news, ports, seed } = parts;
        let now = Instant::now();
        let mut agent = AgentConfig::new(config.sip.user_agent.clone(), config.sip.node_secret, seed);
        agent.incoming = IncomingPolicy::Refuse;
        agent.registrar = Some(RegistrarConfig {
            realm: config.sip.realm.clone(),
            algorithms: config.sip.digests.clone(),
            ..RegistrarConfig::default()
        });
        agent.users = Arc::new(DirectoryUsers(Arc::clone(&directory)));
        agent.legs_max = config.legs_max;
        agent.take_up_within = config.take_up_within;
        let is_taking_up = config.take_up_within.is_some();
        agent.trace = config.sip.trace;
        let mut operator = Self {
            agent: Agent::new(agent, now),
            config,
            codecs,
            directory,
            transports,
            threads,
            news,
            ports,
            channels,
            effects_open: true,
            legs: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_port: BTreeMap::new(),
            gone: Gone::default(),
            trunks: Trunks::default(),
            found: BTreeMap::new(),
            bound: BTreeSet::new(),
            signals: VecDeque::new(),
            reports: VecDeque::new(),
            statistics: None,
            resumes: Resumes::new(now, is_taking_up),
            next_port: 1,
            seeds: Seeds::new(seed),
            housekeeping_at: now,
            draining: false,
            stop: None,
        };
        operator.listen();
        for binding in &bindings {
            operator.restore(binding);
        }
        operator
    }

    fn listen(&mut self) {
        for listening in self.transports.listening().to_vec() {
            let local = listening.local;
            let ip = match (self.config.sip.public_address, local.ip().is_unspecified()) {
                (Some(public), _) => public,
                (None, true) => default_route(),
                (None, false) => local.ip(),
            };
            let advertised = SocketAddr::new(ip, local.port());
            let (flow, transport) = (listening.flow, listening.transport);
            self.agent.handle(Instant::now(), Input::Listening { flow, transport, local, advertised });
        }
    }

    /// Runs until the handle is dropped or asks for the end.
    pub(crate) async fn run(mut self) {
        let (signals, reports) = (self.channels.signals.clone(), self.channels.reports.clone());
        loop {
            self.pump();
            if self.is_over() {
                break;
            }
            let wake_at = self.deadline();
            tokio::select! {
                happened = self.transports.next() => self.happened(happened),
                effect = self.channels.effects.recv(), if self.effects_open && self.signals.len() < SIGNALS_MAX => {
                    match effect {
                        Some((conference, effect)) => self.perform(conference, effect),
                        None => self.effects_open = false,
                    }
                }
                Some(news) = self.news.recv() => self.hear(news),
                request = self.channels.requests.recv() => {
                    let Some(request) = request else { break };
                    self.answer(request);
                }
                permit = signals.reserve(), if !self.signals.is_empty() => {
                    match (permit, self.signals.pop_front()) {
                        (Ok(permit), Some(signal)) => permit.send(signal),
                        // Nobody is left to tell.
                        (Err(_), _) => self.signals.clear(),
                        (Ok(_), None) => {}
                    }
                }
                permit = reports.reserve(), if !self.reports.is_empty() => {
                    match (permit, self.reports.pop_front()) {
                        (Ok(permit), Some(report)) => permit.send(report),
                        (Err(_), _) => self.reports.clear(),
                        (Ok(_), None) => {}
                    }
                }
                () = tokio::time::sleep_until(wake_at.into()) => self.wake(),
            }
        }
        self.threads.stop();
        if let Some(stop) = self.stop.take() {
            let _ = stop.done.send(());
        }
    }

    /// Takes everything the agent has to say.
    fn pump(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Transmit { flow, destination, bytes } => {
                    if !self.transports.send(flow, destination, bytes) {
                        self.give(Input::StreamClosed { flow });
                    }
                }
                Output::Connect { connect, transport, destination } => {
                    self.transports.connect(connect, transport, destination);
                }
                Output::CloseFlow(flow) => self.transports.close(flow),
                Output::Resolve { query, host, port, transport } => {
                    self.transports.resolve(query, host, port, transport);
                }
                Output::Report(report) => self.agent_reports(report),
            }
        }
    }

    fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Datagram { flow, source, length } => {
                let bytes = self.transports.datagram(length);
                self.agent.handle(Instant::now(), Input::Datagram { flow, source, bytes });
            }
            Happened::Opened { flow, stream } => self.transports.keep(flow, stream),
            Happened::Stream { flow, source, local, bytes } => {
                self.give(Input::Stream { flow, source, local, bytes: &bytes });
            }
            Happened::StreamClosed { flow } => {
                self.transports.close(flow);
                self.give(Input::StreamClosed { flow });
            }
            Happened::Connected { connect, flow, stream, local } => {
                let remote = stream.peer;
                self.transports.keep(flow, stream);
                self.give(Input::Connected { connect, flow, local, remote });
            }
            Happened::ConnectFailed { connect } => self.give(Input::ConnectFailed { connect }),
            Happened::Resolved { query, host, addresses } => {
                if let Some(first) = addresses.first()
                    && (self.found.len() < FOUND_MAX || self.found.contains_key(&host))
                {
                    self.found.insert(host, first.ip());
                }
                self.give(Input::Resolved { query, addresses });
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Statistics(reply) => self.ask_statistics(Some(reply)),
            Request::TakenUp => self.taken_up(),
            Request::Drain => self.drain(),
            Request::ShutDown(done) => {
                self.drain();
                self.hang_up_everything();
                self.stop = Some(Stop { at_last: Instant::now() + SHUT_DOWN_WITHIN, done });
            }
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.order(Order::Drain);
    }

    fn deadline(&self) -> Instant {
        let soon = self.threads.is_behind().then(|| Instant::now() + media::TICK);
        let last = self.stop.as_ref().map(|stop| stop.at_last);
        [self.agent.deadline(), soon, last, self.resumes.deadline()]
            .into_iter()
            .flatten()
            .fold(self.housekeeping_at, Instant::min)
    }

    fn wake(&mut self) {
        let now = Instant::now();
        self.give(Input::Time);
        self.send_resumes(now);
        if self.threads.is_behind() {
            self.look_after_threads();
        }
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING_EVERY;
            self.keep_house(now);
        }
    }

    fn keep_house(&mut self, now: Instant) {
        self.look_after_threads();
        self.give_up_late_legs(now);
        self.look_after_trunks(now);
        self.forget_former_users();
        if self.channels.happenings.receiver_count() > 0 && !self.by_port.is_empty() {
            self.ask_statistics(None);
        }
        self.measure();
    }

    fn measure(&self) {
        metrics::gauge!("convoke_switch_legs").set(self.legs.len() as f64);
        metrics::gauge!("convoke_switch_media_legs").set(self.threads.leg_count() as f64);
        metrics::gauge!("convoke_switch_rooms").set(self.threads.room_count() as f64);
        metrics::gauge!("convoke_switch_signals_waiting").set(self.signals.len() as f64);
        let ticks = |counter: fn(&Counters) -> &AtomicU64| self.threads.counted(counter);
        metrics::counter!("convoke_media_late_ticks_total").absolute(ticks(|counters| &counters.late_ticks));
        metrics::counter!("convoke_media_skipped_ticks_total").absolute(ticks(|counters| &counters.skipped_ticks));
        metrics::counter!("convoke_media_busy_microseconds_total").absolute(ticks(|counters| &counters.busy_us));
        let sip = self.agent.counters();
        metrics::counter!("convoke_sip_requests_received_total").absolute(sip.requests_received);
        metrics::counter!("convoke_sip_responses_received_total").absolute(sip.responses_received);
        metrics::counter!("convoke_sip_malformed_received_total").absolute(sip.malformed_received);
        metrics::counter!("convoke_sip_requests_sent_total").absolute(sip.requests_sent);
        metrics::counter!("convoke_sip_responses_sent_total").absolute(sip.responses_sent);
        metrics::counter!("convoke_sip_retransmissions_sent_total").absolute(sip.retransmissions_sent);
        metrics::counter!("convoke_sip_shed_total").absolute(sip.shed);
        metrics::counter!("convoke_sip_authentication_failed_total").absolute(sip.authentication_failed);
    }

    fn is_over(&self) -> bool {
        let Some(stop) = &self.stop else { return false };
        let quiet = self.legs.is_empty() && self.signals.is_empty() && self.agent.is_settled();
        quiet || Instant::now() >= stop.at_last
    }

    fn give(&mut self, input: Input<'_>) {
        self.agent.handle(Instant::now(), input);
    }

    fn order(&mut self, order: Order) {
        self.give(Input::Order(order));
    }

    /// Tells a leg's conference. Never waits.
    fn signal(&mut self, conference: ConferenceId, leg: LegId, news: LegNews) {
        let signal = (conference, Signal::Leg(leg, news));
        if !self.signals.is_empty() {
            self.signals.push_back(signal);
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(signal)) = self.channels.signals.try_send(signal) {
            self.signals.push_back(signal);
        }
    }

    fn report(&mut self, report: Report) {
        if self.reports.len() >= REPORTS_MAX {
            tracing::error!(?report, "a report is lost: nobody takes them");
            return;
        }
        if !self.reports.is_empty() {
            self.reports.push_back(report);
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(report)) = self.channels.reports.try_send(report) {
            self.reports.push_back(report);
        }
    }

    /// Tells whoever watches. Costs next to nothing when nobody does.
    fn happen(&self, leg: LegId, what: What) {
        if self.channels.happenings.receiver_count() == 0 {
            return;
        }
        if let Some(known) = self.legs.get(&leg) {
            let (conference, who) = (known.owner, known.who.clone());
            let _ = self.channels.happenings.send(Happening { leg, conference, who, what });
        }
    }

    /// The UDP socket's or TCP listener's flow of a transport, for contacts of an earlier process.
    fn flow_of(&self, transport: Transport) -> Flow {
        let listening = self.transports.listening().iter().find(|listening| listening.transport == transport);
        listening.map_or(Flow(0), |listening| listening.flow)
    }
}

/// By the wall clock.
fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
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
