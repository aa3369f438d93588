//! One SIP user agent at work: bytes, orders and time go to its [`Desk`], and what that wants done is done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::Source;
use sip::agent::{Input, Output, Transport};
use tokio::sync::{mpsc, oneshot};

use crate::challenge::{Challenge, OnlyUser, Verdict};
use crate::desk::{Desk, DeskConfig};
use crate::load::Counting;
use crate::phone::{BankConfig, Line, PhoneOrder, Place, ShutDown, StartError, Teller, random};
use crate::talk::{TalkHandle, bind_rtp};
use crate::wire::{Arrival, SIP_PORT, TCP, UDP, Wire, address_towards, addresses_of};

/// What a station needs.
#[derive(Debug)]
pub(crate) struct StationConfig {
    pub(crate) bind: SocketAddr,
    pub(crate) bank: BankConfig,
    pub(crate) challenge: Option<(String, String)>,
    pub(crate) teller: Teller,
    pub(crate) counting: Arc<Counting>,
    pub(crate) talk: TalkHandle,
}

/// A station at work; it ends when it is told to, or dropped.
#[derive(Debug)]
pub(crate) struct Station {
    local: SocketAddr,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Set { lines: Vec<(Line, Source)>, advertised: Option<SocketAddr>, done: oneshot::Sender<()> },
    Order { order: PhoneOrder, source: Option<Source> },
    ShutDown { within: Duration, done: oneshot::Sender<()> },
}

/// Orders that wait while the station is busy with the network.
const REQUESTS_MAX: usize = 1024;

impl Station {
    pub(crate) async fn start(config: StationConfig) -> Result<Self, StartError> {
        let refused = |error| StartError::Bind { address: config.bind, error };
        let (mut wire, arrivals) = Wire::open(config.bind).map_err(refused)?;
        wire.listen().await;
        let local = wire.local;
        let address = if local.ip().is_unspecified() { default_address(local) } else { local.ip() };
        let advertised = SocketAddr::new(address, local.port());
        let deaf = if config.bank.sound { None } else { Some(bind_rtp(local.ip()).map_err(refused)?) };
        let registrar = config.challenge.clone().map(|(username, password)| OnlyUser::new(username, password));
        let challenge = match config.challenge {
            Some((username, password)) => Some(Challenge::new(username, &password, random()?)),
            None => None,
        };
        let desk = Desk::new(DeskConfig {
            local,
            user_agent: config.bank.user_agent.clone(),
            trace: config.bank.trace,
            deaf,
            registrar,
            node_secret: random()?,
            seed: random()?,
            teller: config.teller,
            counting: config.counting,
            talk: config.talk,
        });
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let mut shift = Shift { desk, wire, challenge, shutting: None };
        shift.listening(advertised);
        tokio::spawn(shift.run(receiver, arrivals));
        Ok(Self { local, requests })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns when calls find these lines.
    pub(crate) async fn set(&self, lines: Vec<(Line, Source)>) -> Result<(), ShutDown> {
        let advertised = if self.local.ip().is_unspecified() { self.advertised_for(&lines).await } else { None };
        let (done, is_set) = oneshot::channel();
        self.requests.send(Request::Set { lines, advertised, done }).await.map_err(|_| ShutDown)?;
        is_set.await.map_err(|_| ShutDown)
    }

    /// Our address as the registrar of the first registered line sees it.
    async fn advertised_for(&self, lines: &[(Line, Source)]) -> Option<SocketAddr> {
        let account = lines.iter().find_map(|(line, _)| match &line.place {
            Place::Registered(account) => Some(account),
            Place::Trunk(_) | Place::Direct => None,
        })?;
        let (host, port) = crate::desk::split_server(&account.server);
        let addresses = addresses_of(&host, port.unwrap_or(SIP_PORT)).await;
        let peer = addresses.into_iter().find(|address| address.is_ipv4() == self.local.is_ipv4())?;
        Some(SocketAddr::new(address_towards(peer.ip())?, self.local.port()))
    }

    pub(crate) async fn order(&self, order: PhoneOrder, source: Option<Source>) -> Result<(), ShutDown> {
        self.requests.send(Request::Order { order, source }).await.map_err(|_| ShutDown)
    }

    /// Says farewell to everyone and ends. Stations are asked all at once and waited for together.
    pub(crate) fn shut_down(&self, within: Duration) -> impl Future<Output = ()> + use<> {
        let (done, ended) = oneshot::channel();
        let requests = self.requests.clone();
        let asked = tokio::spawn(async move { requests.send(Request::ShutDown { within, done }).await });
        async move {
            if matches!(asked.await, Ok(Ok(()))) {
                let _ = ended.await;
            }
        }
    }
}

/// Without a peer to go by: the address of the default route, to which nothing is sent. RFC 5737 and RFC 3849 keep
/// these networks for documentation.
fn default_address(local: SocketAddr) -> std::net::IpAddr {
    let elsewhere = if local.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
    elsewhere.parse().ok().and_then(address_towards).unwrap_or(local.ip())
}

/// A station while it runs.
struct Shift {
    desk: Desk,
    wire: Wire,
    challenge: Option<Challenge>,
    shutting: Option<Shutting>,
}

struct Shutting {
    until: Instant,
    /// Since when there is nobody left; lost farewells are repeated for a while.
    empty_since: Option<Instant>,
    done: Vec<oneshot::Sender<()>>,
}

/// Datagrams taken in one turn, before other things get theirs.
const DATAGRAMS_PER_TURN: usize = 64;
/// A BYE that is lost is sent again after 500 ms (RFC 3261 §17.1.2.2).
const LINGER: Duration = Duration::from_millis(700);
/// Nothing to wait for is looked at again after this.
const IDLE: Duration = Duration::from_mins(1);

impl Shift {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut arrivals: mpsc::Receiver<Arrival>) {
        let mut buffer = vec![0; 65_536];
        loop {
            self.perform().await;
            if self.is_over() {
                break;
            }
            let due = self.due();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.take(request),
                    None => break,
                },
                Some(arrival) = arrivals.recv() => self.arrive(arrival),
                received = self.wire.udp.recv_from(&mut buffer) => {
                    // An error here tells of an earlier datagram that found no socket at its destination.
                    if let Ok((length, source)) = received {
                        self.datagram(source, &buffer[..length]).await;
                        self.more_datagrams(&mut buffer).await;
                    }
                }
                () = tokio::time::sleep_until(due.into()) => self.desk.turn(Instant::now(), Input::Time),
            }
        }
        for done in self.shutting.into_iter().flat_map(|shutting| shutting.done) {
            let _ = done.send(());
        }
    }

    /// Takes what else has arrived, so that a burst costs one wake-up.
    async fn more_datagrams(&mut self, buffer: &mut [u8]) {
        for _ in 1..DATAGRAMS_PER_TURN {
            match self.wire.udp.try_recv_from(buffer) {
                Ok((length, source)) => self.datagram(source, &buffer[..length]).await,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    async fn datagram(&mut self, source: SocketAddr, bytes: &[u8]) {
        if self.desk.is_deaf() {
            return;
        }
        let now = Instant::now();
        if let Some(challenge) = &mut self.challenge {
            match challenge.check(now, source.ip(), bytes) {
                Verdict::Pass => {}
                Verdict::Drop => return,
                Verdict::Reply(reply) => {
                    self.wire.transmit(UDP, source, reply).await;
                    return;
                }
            }
        }
        self.desk.turn(now, Input::Datagram { flow: UDP, source, bytes });
    }

    fn take(&mut self, request: Request) {
        let now = Instant::now();
        match request {
            Request::Set { lines, advertised, done } => {
                if let Some(advertised) = advertised {
                    self.listening(advertised);
                }
                self.desk.set(now, lines);
                let _ = done.send(());
            }
            Request::Order { order, source } => self.desk.order(now, order, source),
            Request::ShutDown { within, done } => {
                self.desk.close(now);
                let shutting =
                    self.shutting.get_or_insert(Shutting { until: now + within, empty_since: None, done: Vec::new() });
                shutting.done.push(done);
            }
        }
    }

    fn listening(&mut self, advertised: SocketAddr) {
        let (now, local) = (Instant::now(), self.wire.local);
        self.desk.turn(now, Input::Listening { flow: UDP, transport: Transport::Udp, local, advertised });
        if self.wire.has_listener {
            self.desk.turn(now, Input::Listening { flow: TCP, transport: Transport::Tcp, local, advertised });
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let now = Instant::now();
        match arrival {
            Arrival::Accepted(stream) => {
                // A trunk's line that asks for a password does so by UDP; nobody gets past it by TCP.
                if self.challenge.is_none() && !self.desk.is_deaf() {
                    self.wire.adopt(stream);
                }
            }
            Arrival::Connected { connect, stream } => match self.wire.adopt(stream) {
                Some((flow, local, remote)) => {
                    self.desk.turn(now, Input::Connected { connect, flow, local, remote });
                }
                None => self.desk.turn(now, Input::ConnectFailed { connect }),
            },
            Arrival::ConnectFailed { connect } => self.desk.turn(now, Input::ConnectFailed { connect }),
            Arrival::Bytes { flow, source, local, bytes } => {
                self.desk.turn(now, Input::Stream { flow, source, local, bytes: &bytes });
            }
            Arrival::Closed { flow } => {
                self.wire.close(flow);
                self.desk.turn(now, Input::StreamClosed { flow });
            }
            Arrival::LookedUp { query, answer } => self.desk.turn(now, Input::LookedUp { query, answer }),
        }
    }

    /// Does what the desk wants done. Reports stay with the desk, which may want more done because of them.
    async fn perform(&mut self) {
        while let Some(output) = self.desk.poll_output(Instant::now()) {
            match output {
                Output::Transmit { flow, destination, bytes } => self.wire.transmit(flow, destination, bytes).await,
                Output::Connect { connect, transport: _, destination } => self.wire.connect(connect, destination),
                Output::CloseFlow(flow) => self.wire.close(flow),
                Output::LookUp { query, question } => self.wire.look_up(query, question),
                Output::Report(_) => {}
            }
        }
    }

    fn due(&self) -> Instant {
        let wanted = self.desk.deadline();
        let end = self.shutting.as_ref().map(|shutting| shutting.until);
        [wanted, end].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn is_over(&mut self) -> bool {
        let Some(shutting) = &mut self.shutting else { return false };
        let now = Instant::now();
        if self.desk.is_empty() {
            // Nothing is lost on loopback.
            let linger = if self.wire.local.ip().is_loopback() { Duration::ZERO } else { LINGER };
            let end = *shutting.empty_since.get_or_insert(now) + linger;
            shutting.until = shutting.until.min(end);
        }
        now >= shutting.until
    }
}
