//! The task around the operator: sockets, tick threads, channels and clocks.
//!
//! It decides nothing. Nothing here waits for anyone: what a full queue does not take is kept, bounded, and offered
//! again.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use control::{ConferenceId, Effect, Signal, Timestamp};
use sip::agent::Input as SipInput;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::backlog::Backlog;
use crate::dialing::{default_route, route_to};
use crate::happening::Happening;
use crate::media::rtp::{PortRange, RtpSockets};
use crate::media::threads::MediaThreads;
use crate::media::tick::{Counters, News};
use crate::operator::{Input, Machine, Now, Operator, Output};
use crate::report::Report;
use crate::sip::transports::{Happened, Transports};
use crate::statistics::LegStatistics;

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
    pub(crate) backlog: Backlog,
}

/// The operator at work.
pub(crate) struct Running {
    operator: Operator,
    transports: Transports,
    threads: MediaThreads,
    news: mpsc::Receiver<News>,
    channels: Channels,
    effects_open: bool,
    /// Found the channel full.
    signals: VecDeque<(ConferenceId, Signal)>,
    reports: VecDeque<Report>,
    /// Those who wait for figures.
    asked: Vec<oneshot::Sender<Vec<LegStatistics>>>,
    watched: bool,
    /// New dialogs and registrations are refused: what they cause is not taken off our hands.
    overloaded: bool,
    look_at: Instant,
    stop: Option<Stop>,
}

/// A shut-down under way.
struct Stop {
    at_last: Instant,
    done: oneshot::Sender<()>,
}

/// This machine's ports and routes.
#[derive(Debug)]
pub(crate) struct Here {
    pub(crate) ports: PortRange,
}

/// Signals that wait before no further effects are taken.
const SIGNALS_MAX: usize = 65_536;

/// Reports that wait; a store that stands still for that long has bigger troubles.
const REPORTS_MAX: usize = 65_536;

/// So many signals or reports wait: nothing new is begun that would add to them.
const WAITING_HIGH: usize = 4_096;

/// When so few are left, it is again.
const WAITING_LOW: usize = 1_024;

/// Those who wait for one round of figures; more get nothing.
const REPLIES_MAX: usize = 64;

/// How often what has no deadline of its own is looked at: dead threads, metrics, whether anybody watches.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a shut-down waits for answers to its BYEs.
const SHUT_DOWN_WITHIN: Duration = Duration::from_secs(3);

impl Running {
    pub(crate) fn new(
        operator: Operator,
        transports: Transports,
        threads: MediaThreads,
        news: mpsc::Receiver<News>,
        channels: Channels,
    ) -> Self {
        Self {
            operator,
            transports,
            threads,
            news,
            channels,
            effects_open: true,
            signals: VecDeque::new(),
            reports: VecDeque::new(),
            asked: Vec::new(),
            watched: false,
            overloaded: false,
            look_at: Instant::now(),
            stop: None,
        }
    }

    /// Runs until the handle is dropped or asks for the end.
    pub(crate) async fn run(mut self) {
        let (signals, reports) = (self.channels.signals.clone(), self.channels.reports.clone());
        loop {
            self.carry_out();
            self.weigh();
            if self.is_over() {
                break;
            }
            let wake_at = self.deadline();
            tokio::select! {
                happened = self.transports.next() => self.happened(happened),
                effect = self.channels.effects.recv(), if self.effects_open && self.signals.len() < SIGNALS_MAX => {
                    match effect {
                        Some((conference, effect)) => {
                            self.channels.backlog.look(!self.channels.effects.is_empty());
                            self.give(Input::Effect(conference, effect));
                        }
                        None => self.effects_open = false,
                    }
                }
                Some(news) = self.news.recv() => self.give(Input::Media(news)),
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

    fn give(&mut self, input: Input<'_>) {
        let watched = self.channels.happenings.receiver_count() > 0;
        if watched != std::mem::replace(&mut self.watched, watched) {
            self.operator.handle(now(), Input::Watched(watched));
        }
        self.operator.handle(now(), input);
    }

    /// Does everything that the operator wants done.
    fn carry_out(&mut self) {
        loop {
            while let Some((thread, order)) = self.operator.poll_order() {
                self.threads.send(thread, order);
            }
            let Some(output) = self.operator.poll_output() else { return };
            match output {
                Output::Transmit { flow, destination, bytes } => {
                    if !self.transports.send(flow, destination, bytes) {
                        self.give(Input::Sip(SipInput::StreamClosed { flow }));
                    }
                }
                Output::Connect { connect, transport, destination } => {
                    self.transports.connect(connect, transport, destination);
                }
                Output::Close(flow) => self.transports.close(flow),
                Output::LookUp { query, question } => self.transports.look_up(query, question),
                Output::Signal(conference, signal) => self.signal((conference, signal)),
                Output::Report(report) => self.report(report),
                Output::Happening(happening) => {
                    let _ = self.channels.happenings.send(happening);
                }
                Output::Statistics(figures) => {
                    for reply in self.asked.drain(..) {
                        let _ = reply.send(figures.clone());
                    }
                }
            }
        }
    }

    /// Refuses what is new while too much waits to be taken by the store or the engine, and admits it again when most of
    /// it is gone. A registration that is answered 200 is one that will be written down.
    fn weigh(&mut self) {
        let waiting = self.reports.len().max(self.signals.len());
        let overloaded = if self.overloaded { waiting > WAITING_LOW } else { waiting > WAITING_HIGH };
        if overloaded != self.overloaded {
            self.overloaded = overloaded;
            tracing::warn!(waiting, overloaded, "too much waits to be taken: new calls and registrations");
            self.give(Input::Overloaded(overloaded));
        }
    }

    fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Datagram { flow, source, length } => {
                let bytes = self.transports.datagram(length);
                self.operator.handle(now(), Input::Sip(SipInput::Datagram { flow, source, bytes }));
            }
            Happened::Opened { flow, stream, local } => {
                let source = stream.peer;
                self.transports.keep(flow, stream);
                self.give(Input::Sip(SipInput::Accepted { flow, source, local }));
            }
            Happened::Stream { flow, source, local, bytes } => {
                self.give(Input::Sip(SipInput::Stream { flow, source, local, bytes: &bytes }));
            }
            Happened::StreamClosed { flow } => {
                self.transports.close(flow);
                self.give(Input::Sip(SipInput::StreamClosed { flow }));
            }
            Happened::Connected { connect, flow, stream, local } => {
                let remote = stream.peer;
                self.transports.keep(flow, stream);
                self.give(Input::Sip(SipInput::Connected { connect, flow, local, remote }));
            }
            Happened::ConnectFailed { connect } => self.give(Input::Sip(SipInput::ConnectFailed { connect })),
            Happened::LookedUp { query, answer } => self.give(Input::Sip(SipInput::LookedUp { query, answer })),
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Statistics(reply) => {
                if self.asked.len() < REPLIES_MAX {
                    self.asked.push(reply);
                }
                self.give(Input::AskStatistics);
            }
            Request::TakenUp => {
                // Those that wait in the channel are performed first.
                for _ in 0..self.channels.effects.len() {
                    let Ok((conference, effect)) = self.channels.effects.try_recv() else { break };
                    self.give(Input::Effect(conference, effect));
                }
                self.give(Input::TakenUp);
            }
            Request::Drain => self.give(Input::Drain),
            Request::ShutDown(done) => {
                self.give(Input::ShutDown);
                self.stop = Some(Stop { at_last: Instant::now() + SHUT_DOWN_WITHIN, done });
            }
        }
    }

    fn deadline(&self) -> Instant {
        let soon = self.threads.is_behind().then(|| Instant::now() + media::TICK);
        let last = self.stop.as_ref().map(|stop| stop.at_last);
        [soon, last].into_iter().flatten().fold(self.operator.deadline().min(self.look_at), Instant::min)
    }

    fn wake(&mut self) {
        let due = Instant::now() >= self.look_at;
        if due || self.threads.is_behind() {
            for thread in self.threads.look_after() {
                self.give(Input::ThreadDied(thread));
            }
        }
        if due {
            self.look_at = Instant::now() + LOOK_EVERY;
            self.measure();
        }
        self.give(Input::Time);
    }

    fn measure(&self) {
        metrics::gauge!("convoke_switch_signals_waiting").set(self.signals.len() as f64);
        metrics::gauge!("convoke_sip_overloaded").set(f64::from(u8::from(self.overloaded)));
        let ticks = |counter: fn(&Counters) -> &AtomicU64| self.threads.counted(counter);
        metrics::counter!("convoke_media_late_ticks_total").absolute(ticks(|counters| &counters.late_ticks));
        metrics::counter!("convoke_media_skipped_ticks_total").absolute(ticks(|counters| &counters.skipped_ticks));
        metrics::counter!("convoke_media_busy_microseconds_total").absolute(ticks(|counters| &counters.busy_us));
    }

    fn is_over(&self) -> bool {
        let Some(stop) = &self.stop else { return false };
        let quiet = self.operator.is_settled() && self.signals.is_empty();
        quiet || Instant::now() >= stop.at_last
    }

    fn signal(&mut self, signal: (ConferenceId, Signal)) {
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
}

impl Machine for Here {
    fn bind(&mut self) -> io::Result<RtpSockets> {
        self.ports.bind()
    }

    fn bind_again(&mut self, port: u16) -> io::Result<RtpSockets> {
        self.ports.bind_again(port)
    }

    fn has(&self, address: IpAddr) -> bool {
        UdpSocket::bind((address, 0)).is_ok()
    }

    fn route_to(&self, peer: IpAddr) -> Option<IpAddr> {
        route_to(peer)
    }

    fn default_route(&self) -> IpAddr {
        default_route()
    }
}

/// What the clocks say.
pub(crate) fn now() -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let wall = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    Now { instant: Instant::now(), wall }
}
