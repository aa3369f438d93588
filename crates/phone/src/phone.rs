//! Phones from outside: what a bank is told, its lines, its orders and its events.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use media::Source;
use tokio::sync::{Mutex, broadcast};

use crate::event::{CallKey, Happening, PhoneEvent};
use crate::load::{Counting, LoadCounters};
use crate::script::{Say, Script};
use crate::sounds::{SoundError, Sounds};
use crate::station::{Station, StationConfig};
use crate::talk::TalkThread;

/// What a bank is told once, when it starts.
#[derive(Clone, Debug)]
pub struct BankConfig {
    /// Where registered lines speak SIP, and the address of all RTP. Port 0 takes a free one; an unspecified address
    /// listens on all interfaces and tells each peer the one that leads to it.
    pub local: SocketAddr,
    /// Whether calls have sound. Without it a call is answered with SDP all the same, and nothing is sent.
    pub sound: bool,
    /// Frequencies to listen for, in hertz; at most 32 are used.
    pub hear: Vec<f32>,
    /// Whether [`Happening::Hears`] is told, every 200 ms for each call.
    pub tell_levels: bool,
    /// Where to write what is heard, as 16 kHz mono WAV. The second call of the bank goes to `NAME-2.wav`, and so on.
    pub record: Option<PathBuf>,
    /// Whether [`Happening::Trace`] is told.
    pub trace: bool,
    /// The User-Agent header.
    pub user_agent: String,
}

impl Default for BankConfig {
    fn default() -> Self {
        Self {
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            sound: true,
            hear: Vec::new(),
            tell_levels: false,
            record: None,
            trace: false,
            user_agent: concat!("convoke-phone/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// One line of a bank.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Names it in events and orders, and tells lines apart when they change; the only one of its name in the bank.
    pub name: String,
    pub place: Place,
    pub script: Script,
}

/// How a line can be reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// It registers, and calls come through the registrar.
    Registered(Account),
    /// It plays the public network behind a trunk: it binds an address of its own and takes any number.
    Trunk(TrunkLine),
    /// It is called at the bank's own address, with the line's name as the user part; it also takes calls for users
    /// that no other line has.
    Direct,
}

/// A user at a registrar.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// `host` or `host:port` of the registrar; without a port 5060.
    pub server: String,
    pub transport: Transport,
    /// The host of the address of record.
    pub domain: String,
    pub username: String,
    pub password: String,
    /// Shown to those whom the line calls.
    pub display: Option<String>,
    /// The wished validity; refreshed in good time.
    pub expires: Duration,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({}@{} at {})", self.username, self.domain, self.server)
    }
}

/// The place of a trunk's line.
#[derive(Clone, PartialEq, Eq)]
pub struct TrunkLine {
    /// The address in the trunk's URI.
    pub bind: SocketAddr,
    /// Callers have to prove that they know these: user name and password.
    pub challenge: Option<(String, String)>,
}

impl fmt::Debug for TrunkLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrunkLine({}{})", self.bind, if self.challenge.is_some() { ", challenging" } else { "" })
    }
}

/// How a line speaks with its registrar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Udp,
    Tcp,
}

/// What a phone can be told to do. An order that does not fit its call is ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum PhoneOrder {
    /// Call `to`: a SIP URI, or a user or number at the line's own registrar.
    Dial {
        line: String,
        call: CallKey,
        to: String,
    },
    /// Answer a call that rings.
    Answer {
        call: CallKey,
    },
    /// Refuse a call that rings.
    Refuse {
        call: CallKey,
        status: u16,
    },
    /// End a call, whatever its state.
    HangUp {
        call: CallKey,
    },
    Hold {
        call: CallKey,
    },
    Resume {
        call: CallKey,
    },
    /// Press keys; a comma is a pause of one second.
    Press {
        call: CallKey,
        keys: String,
    },
    /// Say something else.
    Say {
        call: CallKey,
        say: Say,
    },
}

/// Why a bank does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {error}")]
    Bind { address: SocketAddr, error: io::Error },
    #[error("cannot start the thread for sound: {0}")]
    Thread(io::Error),
    #[error("the system gives no random numbers")]
    Random,
    /// The line runs, and is silent.
    #[error(transparent)]
    Sound(#[from] SoundError),
}

/// Why a line is not there, or not as it was meant.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineFailed {
    pub line: String,
    pub why: StartError,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    ShutDown(#[from] ShutDown),
    #[error(transparent)]
    Sound(#[from] SoundError),
    #[error("the system gives no random numbers")]
    Random,
}

/// The bank is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the phones are shut down")]
pub struct ShutDown;

/// Any number of phones: one UDP port for all that register, one thread for all sound.
#[derive(Clone)]
pub struct PhoneBank {
    inner: Arc<Inner>,
}

struct Inner {
    config: BankConfig,
    local: SocketAddr,
    teller: Teller,
    counting: Arc<Counting>,
    talk: TalkThread,
    sounds: Arc<Sounds>,
    stations: Mutex<Stations>,
}

/// The bank's own station, and one for each trunk's address.
struct Stations {
    own: Station,
    trunks: BTreeMap<String, (TrunkLine, Station)>,
}

impl fmt::Debug for PhoneBank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneBank({})", self.inner.local)
    }
}

impl PhoneBank {
    /// A bank without lines. It has to be called within a tokio runtime.
    pub async fn start(config: BankConfig) -> Result<Self, StartError> {
        let teller = Teller::new();
        let counting = Arc::new(Counting::default());
        let talk = TalkThread::start(&config, teller.clone()).map_err(StartError::Thread)?;
        let own = Station::start(StationConfig {
            bind: config.local,
            challenge: None,
            bank: config.clone(),
            teller: teller.clone(),
            counting: Arc::clone(&counting),
            talk: talk.handle(),
        })
        .await?;
        let local = own.local_addr();
        let stations = Mutex::new(Stations { own, trunks: BTreeMap::new() });
        Ok(Self { inner: Arc::new(Inner { config, local, teller, counting, talk, sounds: Arc::default(), stations }) })
    }

    /// Where registered and direct lines speak SIP.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// Makes the lines of the bank these, and no others: new ones start, those that are gone unregister and hang up,
    /// changed ones take their new script for the calls that come. Lines that cannot start are told; the others run.
    pub async fn set(&self, lines: Vec<Line>) -> Vec<LineFailed> {
        let (lines, mut failed) = self.furnish(lines).await;
        let mut stations = self.inner.stations.lock().await;
        let (trunks, others): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|(line, _)| matches!(line.place, Place::Trunk(_)));
        // A bank that is shut down has no lines, and wants none.
        let _ = stations.own.set(others).await;
        let is_kept = |name: &str, place: &TrunkLine| {
            trunks.iter().any(|(line, _)| line.name == name && line.place == Place::Trunk(place.clone()))
        };
        let gone: Vec<String> = stations
            .trunks
            .iter()
            .filter(|(name, (place, _))| !is_kept(name, place))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some((_, station)) = stations.trunks.remove(&name) {
                station.shut_down(LINE_GOES_WITHIN).await;
            }
        }
        for (line, source) in trunks {
            let Place::Trunk(place) = line.place.clone() else { continue };
            let station = match stations.trunks.remove(&line.name) {
                Some((_, station)) => station,
                None => match Station::start(self.station_at(&place)).await {
                    Ok(station) => station,
                    Err(why) => {
                        failed.push(LineFailed { line: line.name, why });
                        continue;
                    }
                },
            };
            let name = line.name.clone();
            let _ = station.set(vec![(line, source)]).await;
            stations.trunks.insert(name, (place, station));
        }
        failed
    }

    fn station_at(&self, place: &TrunkLine) -> StationConfig {
        StationConfig {
            bind: place.bind,
            challenge: place.challenge.clone(),
            bank: self.inner.config.clone(),
            teller: self.inner.teller.clone(),
            counting: Arc::clone(&self.inner.counting),
            talk: self.inner.talk.handle(),
        }
    }

    /// Gives each line its sound. One whose file cannot be played is silent, and told.
    async fn furnish(&self, lines: Vec<Line>) -> (Vec<(Line, Source)>, Vec<LineFailed>) {
        let mut failed = Vec::new();
        let mut furnished = Vec::with_capacity(lines.len());
        for line in lines {
            let source = self.source(line.script.say.clone(), line.name.clone()).await.unwrap_or_else(|error| {
                failed.push(LineFailed { line: line.name.clone(), why: error.into() });
                Source::Silence
            });
            furnished.push((line, source));
        }
        (furnished, failed)
    }

    async fn source(&self, say: Say, speaker: String) -> Result<Source, SoundError> {
        if !self.inner.config.sound {
            return Ok(Source::Silence);
        }
        let sounds = Arc::clone(&self.inner.sounds);
        // Files are read and voices made on a thread that may take its time.
        match tokio::task::spawn_blocking(move || sounds.source(&say, &speaker)).await {
            Ok(source) => source,
            Err(_) => Ok(Source::Silence),
        }
    }

    /// The events from here on.
    pub fn subscribe(&self) -> Events {
        Events { receiver: self.inner.teller.events.subscribe() }
    }

    /// Gives an order.
    pub async fn order(&self, order: PhoneOrder) -> Result<(), OrderError> {
        let source = match &order {
            PhoneOrder::Say { call, say } => Some(self.source(say.clone(), call.to_string()).await?),
            _ => None,
        };
        // Only the station that has the call, or the line, takes it.
        let stations = self.inner.stations.lock().await;
        for (_, station) in stations.trunks.values() {
            station.order(order.clone(), source.clone()).await?;
        }
        Ok(stations.own.order(order, source).await?)
    }

    /// Calls somebody from a line; the call's name is known before anything happens to it.
    pub async fn dial(&self, line: &str, to: &str) -> Result<CallKey, OrderError> {
        let call = CallKey(random().map_err(|_| OrderError::Random)?);
        self.order(PhoneOrder::Dial { line: line.to_owned(), call, to: to.to_owned() }).await?;
        Ok(call)
    }

    /// What was counted so far.
    pub fn counters(&self) -> LoadCounters {
        self.inner.counting.read()
    }

    /// Hangs all calls up, takes all contacts back and stops, within that time. Recordings are complete afterwards.
    pub async fn shut_down(&self, within: Duration) {
        let mut stations = self.inner.stations.lock().await;
        let trunks = std::mem::take(&mut stations.trunks);
        let all = trunks.values().map(|(_, station)| station).chain([&stations.own]);
        let asked: Vec<_> = all.map(|station| station.shut_down(within)).collect();
        for end in asked {
            end.await;
        }
        let inner = Arc::clone(&self.inner);
        // Recordings are flushed to disk here; the runtime's workers have other things to do.
        let _ = tokio::task::spawn_blocking(move || inner.talk.stop()).await;
    }
}

/// How long a line that is taken away has for its farewells.
const LINE_GOES_WITHIN: Duration = Duration::from_secs(2);

/// [`Phone::start`].
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    pub bank: BankConfig,
    pub line: Line,
}

/// A bank with one line.
#[derive(Clone, Debug)]
pub struct Phone {
    bank: PhoneBank,
    line: String,
    /// Taken by whoever subscribes first.
    since_start: Arc<StdMutex<Option<Events>>>,
}

impl Phone {
    /// A phone that registers, if its line is to, and takes calls.
    pub async fn start(config: PhoneConfig) -> Result<Self, StartError> {
        let bank = PhoneBank::start(config.bank).await?;
        let line = config.line.name.clone();
        let since_start = Arc::new(StdMutex::new(Some(bank.subscribe())));
        match bank.set(vec![config.line]).await.pop() {
            None => Ok(Self { bank, line, since_start }),
            Some(failed) => {
                bank.shut_down(Duration::ZERO).await;
                Err(failed.why)
            }
        }
    }

    /// Calls somebody.
    pub async fn dial(&self, to: &str) -> Result<CallKey, OrderError> {
        self.bank.dial(&self.line, to).await
    }

    /// The bank, for orders and the end.
    pub fn bank(&self) -> &PhoneBank {
        &self.bank
    }

    /// The events: all since the start for the first who asks, those from here on for others.
    pub fn subscribe(&self) -> Events {
        let since_start = self.since_start.lock().unwrap_or_else(PoisonError::into_inner).take();
        since_start.unwrap_or_else(|| self.bank.subscribe())
    }
}

/// The events of a bank, in order.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Arc<PhoneEvent>>,
}

impl Events {
    /// The next event; none when the bank is gone. One who reads too slowly misses the oldest.
    pub async fn next(&mut self) -> Option<Arc<PhoneEvent>> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => tracing::debug!(missed, "phone events missed"),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event that is `wanted`, those before it passed over; none if it does not come in time.
    pub async fn wait_for(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(&PhoneEvent) -> bool,
    ) -> Option<Arc<PhoneEvent>> {
        tokio::time::timeout(within, async {
            loop {
                let event = self.next().await?;
                if wanted(&event) {
                    return Some(event);
                }
            }
        })
        .await
        .ok()
        .flatten()
    }
}

/// Tells events to whoever subscribed; never waits for them.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    events: broadcast::Sender<Arc<PhoneEvent>>,
    began: Instant,
}

impl Teller {
    fn new() -> Self {
        Self { events: broadcast::Sender::new(EVENTS_KEPT), began: Instant::now() }
    }

    /// Tells an event; it is not even made when nobody listens.
    pub(crate) fn tell(&self, line: &Arc<str>, call: Option<CallKey>, what: impl FnOnce() -> Happening) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let at_ms = self.began.elapsed().as_millis() as u64;
        let event = PhoneEvent { at_ms, line: Arc::clone(line), call, what: what() };
        // Nobody listening any longer is no error.
        let _ = self.events.send(Arc::new(event));
    }
}

/// A thousand calls tell their levels five times a second; a subscriber may be late by about three seconds of that.
const EVENTS_KEPT: usize = 16_384;

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| StartError::Random)?;
    Ok(bytes)
}
