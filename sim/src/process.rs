//! One process of the server: everything of it except sockets, threads, disks and time, on a runtime that is dropped
//! when it dies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use control::{ConferenceId, Effect, Signal, Timestamp};
use engine::{Clock, Engine};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use server::admission::Gate;
use server::api::{self, Settings};
use server::auth::Keys;
use server::notify::courier::{Courier, Patience};
use sip::agent::{Flow, Transport};
use sip::sdp::CodecName;
use store::{NoticeId, Store};
use switch::bare::{Listening, Now, Operator, Parts, Ticking};
use switch::{Binding, SwitchConfig};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use crate::disk::Disk;
use crate::falls::Falls;
use crate::net::Host;

/// Where the server listens, in every process.
pub(crate) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);

/// The one way in and out for SIP.
pub(crate) const FLOW: Flow = Flow(1);

/// Wall time when a world begins.
const BEGINNING: i64 = 1_767_225_600_000;

/// A server waits so long for what its last process left, as `boot.rs` does.
const TAKE_UP_WITHIN: Duration = Duration::from_secs(10);

/// Effects, signals and answers under way.
const SEAM: usize = 4_096;

pub(crate) struct Process {
    runtime: Runtime,
    /// When it was started, in the world's milliseconds; and the runtime's clock then.
    born_ms: u64,
    born: tokio::time::Instant,
    pub(crate) number: u64,
    pub(crate) engine: Engine,
    router: Router,
    disk: Disk,
    effects: mpsc::Receiver<(ConferenceId, Effect)>,
    signals: mpsc::Sender<(ConferenceId, Signal)>,
    notices: watch::Receiver<NoticeId>,
    answering: mpsc::UnboundedSender<Answered>,
    answers: mpsc::UnboundedReceiver<Answered>,
    pub(crate) operator: Operator,
    pub(crate) ticking: Ticking,
    pub(crate) host: Host,
    pub(crate) courier: Courier,
    taken_up: mpsc::UnboundedReceiver<()>,
    /// Everything that the last process left has been taken up.
    pub(crate) is_ready: bool,
}

/// The answer to one request of a bot.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) request: u64,
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Why time stopped.
#[derive(Debug)]
pub(crate) enum Woken {
    /// The disk kills the process.
    Dies,
    Effect(ConferenceId, Effect),
    Answer(Answered),
    /// What the last process left has been let go.
    TakenUp,
    /// Notices were written down.
    Notices,
    /// The time has come.
    Due,
}

/// What a process is made of.
pub(crate) struct Made<'a> {
    pub(crate) number: u64,
    pub(crate) now_ms: u64,
    pub(crate) clock: &'a Stopwatch,
    pub(crate) disk: &'a Disk,
    pub(crate) keys: &'a Arc<Keys>,
    pub(crate) switch_directory: &'a Arc<ArcSwap<switch::Directory>>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) seed: [u8; 32],
    pub(crate) chance: u64,
    pub(crate) falls: Option<&'a Arc<Falls>>,
}

/// The world's milliseconds as the two clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// The base does not matter: nothing in the world looks at more than differences.
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn at(&self, ms: u64) -> Now {
        Now { instant: self.instant(ms), wall: wall(ms) }
    }

    pub(crate) fn instant(&self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms)
    }

    /// The first whole millisecond that is not before.
    pub(crate) fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0).as_micros().div_ceil(1000) as u64
    }
}

pub(crate) fn wall(ms: u64) -> Timestamp {
    Timestamp(BEGINNING + ms as i64)
}

impl Process {
    pub(crate) fn start(made: Made<'_>) -> Self {
        let Made { number, now_ms, clock, disk, keys, switch_directory, bindings, seed, chance, falls } = made;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime that needs nothing");
        let (to_switch, effects) = mpsc::channel(SEAM);
        let (signals, heard) = mpsc::channel(SEAM);
        let (answering, answers) = mpsc::unbounded_channel();
        let store: Arc<dyn Store> = Arc::new(disk.clone());
        let directory = Arc::new(ArcSwap::from_pointee(disk.platter().directory.clone()));
        let (process, born, engine) = runtime.block_on(async {
            let process = store.next_process(wall(now_ms)).await.expect("a number");
            let born = tokio::time::Instant::now();
            let clock = Clock::running_from(wall(now_ms));
            let render = falls.map_or_else(api::to_graph::renderer, Falls::renderer);
            let engine = Engine::start_by(clock, Arc::clone(&store), render, to_switch, heard).await;
            (process, born, engine.expect("the list of conferences can be read"))
        });
        let (tell, taken_up) = mpsc::unbounded_channel();
        let waiting = engine.clone();
        runtime.spawn(async move {
            if tokio::time::timeout(TAKE_UP_WITHIN, waiting.taken_up()).await.is_err() {
                tracing::warn!("some conferences are not taken up yet");
            }
            let _ = tell.send(());
        });
        let router = api::router(api::State {
            engine: engine.clone(),
            store,
            directory,
            keys: Arc::clone(keys),
            settings: Arc::new(Settings::default()),
            metrics: None,
            ready: Arc::new(AtomicBool::new(true)),
            gate: Gate::new(),
        });
        let host = Host::new(SERVER.ip());
        let operator = Operator::new(
            clock.at(now_ms),
            Parts {
                config: switch_config(process),
                codecs: vec![CodecName::Pcmu],
                directory: Arc::clone(switch_directory),
                bindings,
                listening: vec![Listening { flow: FLOW, transport: Transport::Udp, local: SERVER }],
                threads: 1,
                machine: Box::new(host.clone()),
                seed,
            },
        );
        let patience =
            Patience { retry_for: Duration::from_mins(10), backoff_max: Duration::from_secs(30), origin_max: 8 };
        Self {
            notices: engine.notices(),
            runtime,
            born_ms: now_ms,
            born,
            number,
            engine,
            router,
            disk: disk.clone(),
            effects,
            signals,
            answering,
            answers,
            operator,
            ticking: Ticking::default(),
            host,
            courier: Courier::new(patience, chance),
            taken_up,
            is_ready: false,
        }
    }

    /// Lets time pass until something happens, and no longer than until `until_ms`.
    pub(crate) fn pass(&mut self, until_ms: u64) -> (u64, Woken) {
        let until = self.born + Duration::from_millis(until_ms - self.born_ms);
        let Self { runtime, disk, effects, answers, notices, taken_up, .. } = self;
        let woken = runtime.block_on(async {
            tokio::select! {
                biased;
                () = disk.death.notified() => Woken::Dies,
                Some((conference, effect)) = effects.recv() => Woken::Effect(conference, effect),
                Some(()) = taken_up.recv() => Woken::TakenUp,
                Some(answer) = answers.recv() => Woken::Answer(answer),
                Ok(()) = notices.changed() => Woken::Notices,
                () = tokio::time::sleep_until(until) => Woken::Due,
            }
        });
        let passed = runtime.block_on(async { tokio::time::Instant::now() }).saturating_duration_since(self.born);
        (self.born_ms + passed.as_millis() as u64, woken)
    }

    pub(crate) fn signal(&mut self, conference: ConferenceId, signal: Signal) {
        self.signals.try_send((conference, signal)).expect("the seam is wider than any world");
    }

    /// Asks the API, below HTTP.
    pub(crate) fn ask(&mut self, number: u64, request: Request<Body>) {
        let (router, answering) = (self.router.clone(), self.answering.clone());
        self.runtime.spawn(async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            let body = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null);
            let _ = answering.send(Answered { request: number, status, body });
        });
    }
}

fn switch_config(process: u32) -> SwitchConfig {
    let mut config = SwitchConfig::new([7; 32]);
    config.process = process;
    config.sip.udp = vec![SERVER];
    config.sip.tcp = Vec::new();
    config.sip.ping_trunks_every = Duration::ZERO;
    config.media.bind = Some(SERVER.ip());
    config.media.threads = 1;
    config.take_up_within = Some(TAKE_UP_WITHIN);
    config
}
