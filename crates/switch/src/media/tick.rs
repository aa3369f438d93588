//! The tick: every 20 ms each leg's packets are read, each room is turned, and what it says is sent.
//!
//! A tick thread owns its legs and rooms outright. It takes orders and gives news through bounded queues, without a
//! lock and, packet by packet, without allocation. What it no longer needs goes back as news, to be dropped elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use media::{Codec, Encoders, Events, LegStats, Port, PortConfig, PortId, Received, Room, TICK};
use tokio::sync::mpsc;

use super::rtp::{Channel, Peer, RtpSockets};

/// Names a room. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomId(pub(crate) u64);

/// One leg's media: everything that moves when the leg changes rooms.
#[derive(Debug)]
pub struct MediaLeg {
    pub(crate) id: PortId,
    pub(crate) sockets: RtpSockets,
    pub(crate) rtp_peer: Peer,
    pub(crate) rtcp_peer: Peer,
    /// RTCP shares the RTP port (RFC 5761).
    pub(crate) muxed: bool,
    /// Here unless it is in a room.
    pub(crate) port: Option<Box<Port>>,
    pub(crate) room: Option<RoomId>,
}

/// Where a leg sits in a mix.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub(crate) room: RoomId,
    pub(crate) speaks: bool,
    pub(crate) hears: bool,
}

/// A session as it was agreed again.
#[derive(Debug)]
pub struct Renegotiated {
    pub(crate) config: PortConfig,
    pub(crate) rtp: Option<SocketAddr>,
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) muxed: bool,
}

/// What a thread is told.
#[derive(Debug)]
pub enum Order {
    OpenRoom(RoomId, Box<Room>),
    CloseRoom(RoomId),
    /// A new leg, outside of any room: it hears silence.
    Open(Box<MediaLeg>),
    /// Into a room of this thread, or with other gates in the room it is in.
    Attach(PortId, Seat),
    /// Out of its room.
    Detach(PortId),
    /// To another thread, as one value, within this tick.
    Hand {
        leg: PortId,
        to: usize,
        seat: Seat,
    },
    /// From another thread.
    Arrive(Box<MediaLeg>, Seat),
    Renegotiate(PortId, Box<Renegotiated>),
    Close(PortId),
    /// Fill it, up to its capacity, and send it back.
    Statistics(Vec<Sample>),
    Stop,
}

/// What a thread tells.
#[derive(Debug)]
pub enum News {
    Heard(PortId, Events),
    Arrived(PortId),
    Closed(Box<MediaLeg>),
    RoomClosed(Box<Room>),
    Statistics(Vec<Sample>),
    /// A port did not take what was agreed.
    Failed(PortId),
}

/// One leg at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub(crate) leg: PortId,
    pub(crate) stats: LegStats,
    pub(crate) remote: Option<SocketAddr>,
}

/// Read by others while the thread runs.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Ticks that began more than a tick late.
    pub(crate) late_ticks: AtomicU64,
    /// Ticks left out because the thread had fallen too far behind.
    pub(crate) skipped_ticks: AtomicU64,
    /// Microseconds spent in ticks.
    pub(crate) busy_us: AtomicU64,
}

/// A tick thread's state.
#[derive(Debug)]
pub(crate) struct Ticker {
    orders: Receiver<Order>,
    news: mpsc::Sender<News>,
    /// Every thread's orders, one's own included.
    threads: Vec<SyncSender<Order>>,
    counters: Arc<Counters>,
    legs: BTreeMap<PortId, Box<MediaLeg>>,
    rooms: BTreeMap<RoomId, Box<Room>>,
    /// Lent to those who talk in any of the rooms.
    encoders: Encoders,
    /// News and orders for other threads that found a queue full: offered again each tick.
    untold: VecDeque<News>,
    handed: Vec<(usize, Box<MediaLeg>, Seat)>,
    buffer: Box<[u8; DATAGRAM_BYTES_MAX]>,
    ticks: u64,
    stopping: bool,
}

/// RTP and RTCP over Ethernet stay below 1,500 bytes; a longer datagram is cut and then refused.
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// Datagrams read per leg and tick: a burst waits in the kernel, so that one leg cannot hold up the others.
const DATAGRAMS_PER_TICK_MAX: usize = 16;

/// Opus encoders that a thread has from its first Opus leg on. When more talk at once than ever before, a tick makes
/// another one, in some microseconds.
const ENCODERS_READY: usize = 8;

/// RTCP comes every few seconds: its socket is looked at once in so many ticks, a different tick for each leg.
const CONTROL_EVERY: u64 = 8;

/// A thread that is late by so many ticks catches up: its listeners then lose nothing. Later than that it skips.
const CATCH_UP_MAX: u32 = 5;

impl Ticker {
    pub(crate) fn new(
        orders: Receiver<Order>,
        news: mpsc::Sender<News>,
        threads: Vec<SyncSender<Order>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            orders,
            news,
            threads,
            counters,
            legs: BTreeMap::new(),
            rooms: BTreeMap::new(),
            encoders: Encoders::new(),
            untold: VecDeque::with_capacity(64),
            handed: Vec::with_capacity(64),
            buffer: Box::new([0; DATAGRAM_BYTES_MAX]),
            ticks: 0,
            stopping: false,
        }
    }

    /// Ticks at absolute deadlines until it is told to stop. The first tick is one `phase` from now.
    pub(crate) fn run(mut self, phase: Duration) {
        let mut due = Instant::now() + phase;
        while !self.stopping {
            let now = Instant::now();
            if let Some(wait) = due.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
                std::thread::sleep(wait);
                continue;
            }
            let late = now - due;
            if late >= TICK {
                self.counters.late_ticks.fetch_add(1, Ordering::Relaxed);
            }
            if late > TICK * CATCH_UP_MAX {
                let skipped = late.as_nanos() / TICK.as_nanos();
                self.counters.skipped_ticks.fetch_add(skipped as u64, Ordering::Relaxed);
                due += TICK * skipped as u32;
            }
            self.turn(now);
            self.counters.busy_us.fetch_add(now.elapsed().as_micros() as u64, Ordering::Relaxed);
            due += TICK;
        }
    }

    /// One tick.
    fn turn(&mut self, now: Instant) {
        self.hand_over();
        while let Ok(order) = self.orders.try_recv() {
            self.obey(now, order);
        }
        self.ticks = self.ticks.wrapping_add(1);
        for leg in self.legs.values_mut() {
            leg.receive(now, &mut self.rooms, &mut self.buffer[..]);
            if (self.ticks.wrapping_add(leg.id.0)).is_multiple_of(CONTROL_EVERY) {
                leg.receive_control(now, &mut self.rooms, &mut self.buffer[..]);
            }
        }
        for room in self.rooms.values_mut() {
            room.tick_with(&mut self.encoders, now, &mut |id, packet| {
                if let Some(leg) = self.legs.get(&id) {
                    leg.send(packet);
                }
            });
            room.rtcp(now, &mut |id, packet| {
                if let Some(leg) = self.legs.get(&id) {
                    leg.send_control(packet);
                }
            });
        }
        self.turn_parked(now);
        self.tell();
    }

    /// Legs outside of any room hear silence, and nobody hears them.
    fn turn_parked(&mut self, now: Instant) {
        let mut frame = media::Frame::SILENCE;
        for leg in self.legs.values_mut() {
            let Some(mut port) = leg.port.take() else { continue };
            port.pull(now, &mut frame);
            port.push(&media::Frame::SILENCE, &mut |packet| leg.send(packet));
            if let Some(packet) = port.rtcp(now) {
                leg.send_control(packet);
            }
            leg.port = Some(port);
        }
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::OpenRoom(id, room) => {
                self.rooms.insert(id, room);
            }
            Order::CloseRoom(id) => {
                if let Some(mut room) = self.rooms.remove(&id) {
                    for leg in self.legs.values_mut().filter(|leg| leg.room == Some(id)) {
                        leg.room = None;
                        leg.port = room.remove(leg.id);
                    }
                    self.untold.push_back(News::RoomClosed(room));
                }
            }
            Order::Open(leg) => {
                if leg.port.as_ref().is_some_and(|port| port.config().send.codec == Codec::Opus) {
                    self.encoders.prepare(ENCODERS_READY);
                }
                self.legs.insert(leg.id, leg);
            }
            Order::Attach(id, seat) => {
                if let Some(leg) = self.legs.get_mut(&id) {
                    seat_in(&mut self.rooms, leg, seat);
                }
            }
            Order::Detach(id) => {
                if let Some(leg) = self.legs.get_mut(&id) {
                    take_out(&mut self.rooms, leg);
                }
            }
            Order::Hand { leg, to, seat } => {
                if let Some(mut leg) = self.legs.remove(&leg) {
                    take_out(&mut self.rooms, &mut leg);
                    self.handed.push((to, leg, seat));
                    self.hand_over();
                }
            }
            Order::Arrive(mut leg, seat) => {
                seat_in(&mut self.rooms, &mut leg, seat);
                self.untold.push_back(News::Arrived(leg.id));
                self.legs.insert(leg.id, leg);
            }
            Order::Renegotiate(id, session) => {
                if let Some(leg) = self.legs.get_mut(&id)
                    && leg.renegotiate(&mut self.rooms, *session).is_err()
                {
                    self.untold.push_back(News::Failed(id));
                }
            }
            Order::Close(id) => {
                if let Some(mut leg) = self.legs.remove(&id) {
                    take_out(&mut self.rooms, &mut leg);
                    if let Some(mut port) = leg.port.take() {
                        self.encoders.reclaim(&mut port);
                        leg.send_control(port.rtcp_bye(now));
                        leg.port = Some(port);
                    }
                    self.untold.push_back(News::Closed(leg));
                }
            }
            Order::Statistics(mut samples) => {
                let free = samples.capacity() - samples.len();
                for leg in self.legs.values().take(free) {
                    if let Some(port) = leg.port_in(&self.rooms) {
                        let remote = leg.rtp_peer.destination();
                        samples.push(Sample { leg: leg.id, stats: port.stats(), remote });
                    }
                }
                self.untold.push_back(News::Statistics(samples));
            }
            Order::Stop => self.stopping = true,
        }
    }

    /// Legs on their way to other threads. One whose thread has died stays, parked, and is closed by whoever notices.
    fn hand_over(&mut self) {
        while let Some((to, leg, seat)) = self.handed.pop() {
            let Some(thread) = self.threads.get(to) else {
                self.legs.insert(leg.id, leg);
                continue;
            };
            match thread.try_send(Order::Arrive(leg, seat)) {
                Err(TrySendError::Full(Order::Arrive(leg, seat))) => {
                    self.handed.push((to, leg, seat));
                    break;
                }
                Err(TrySendError::Disconnected(Order::Arrive(leg, _))) => {
                    self.legs.insert(leg.id, leg);
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Offers what was not told yet, and what the ports have heard. A full queue loses nothing: what it did not take
    /// stays here or in the ports until the next tick.
    fn tell(&mut self) {
        let news = &self.news;
        let mut free = true;
        while free && let Some(item) = self.untold.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item)) =
                news.try_send(item)
            {
                self.untold.push_front(item);
                free = false;
            }
        }
        if !free {
            self.stopping |= news.is_closed();
            return;
        }
        let untold = &mut self.untold;
        let mut tell = |id, events| {
            if let Err(mpsc::error::TrySendError::Full(item)) = news.try_send(News::Heard(id, events)) {
                untold.push_back(item);
            }
        };
        for room in self.rooms.values_mut() {
            room.take_events(&mut tell);
        }
        for leg in self.legs.values_mut() {
            if let Some(port) = &mut leg.port {
                let events = port.take_events();
                if !events.is_empty() {
                    tell(leg.id, events);
                }
            }
        }
    }
}

/// The work of one tick thread, without the thread: whoever holds it says when it ticks.
#[derive(Debug)]
pub struct Ticking {
    ticker: Ticker,
    orders: SyncSender<Order>,
    news: mpsc::Receiver<News>,
}

/// Orders and news between two ticks of a [`Ticking`].
const UNTHREADED_MAX: usize = 4_096;

impl Default for Ticking {
    fn default() -> Self {
        let (orders, obeyed) = sync_channel(UNTHREADED_MAX);
        let (told, news) = mpsc::channel(UNTHREADED_MAX);
        let ticker = Ticker::new(obeyed, told, vec![orders.clone()], Arc::default());
        Self { ticker, orders, news }
    }
}

impl Ticking {
    /// Obeyed at the next tick. Gives it back when too many wait for that.
    pub fn order(&mut self, order: Order) -> Result<(), Order> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(order) | TrySendError::Disconnected(order) => order,
        })
    }

    /// One tick, of [`TICK`].
    pub fn tick(&mut self, now: Instant) {
        self.ticker.turn(now);
    }

    pub fn poll_news(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

/// Puts a leg into a room of its thread, or changes its gates there.
fn seat_in(rooms: &mut BTreeMap<RoomId, Box<Room>>, leg: &mut MediaLeg, seat: Seat) {
    if leg.room != Some(seat.room) {
        take_out(rooms, leg);
        let Some(room) = rooms.get_mut(&seat.room) else { return };
        let Some(port) = leg.port.take() else { return };
        if let Err(port) = room.insert(leg.id, port) {
            leg.port = Some(port);
            return;
        }
        leg.room = Some(seat.room);
    }
    if let Some(room) = rooms.get_mut(&seat.room) {
        room.set_gate(leg.id, seat.speaks, seat.hears);
    }
}

/// Takes a leg out of its room, if it is in one.
fn take_out(rooms: &mut BTreeMap<RoomId, Box<Room>>, leg: &mut MediaLeg) {
    if let Some(room) = leg.room.take().and_then(|room| rooms.get_mut(&room)) {
        leg.port = room.remove(leg.id);
    }
}

impl MediaLeg {
    fn receive(&mut self, now: Instant, rooms: &mut BTreeMap<RoomId, Box<Room>>, buffer: &mut [u8]) {
        for _ in 0..DATAGRAMS_PER_TICK_MAX {
            let Some((length, source)) = self.sockets.wire.receive(Channel::Rtp, buffer) else { break };
            if !self.rtp_peer.admits(now, source) {
                continue;
            }
            let Some(port) = self.port_mut(rooms) else { continue };
            match port.receive(now, &buffer[..length]) {
                Received::Audio | Received::Tone => self.rtp_peer.accepted(now, source),
                // Another stream than the last one proves itself by several packets, between which no other may come.
                Received::Ignored(_) if self.rtp_peer.is_said(source) => self.rtp_peer.accepted(now, source),
                Received::Control | Received::Ignored(_) => {}
            }
        }
    }

    fn receive_control(&mut self, now: Instant, rooms: &mut BTreeMap<RoomId, Box<Room>>, buffer: &mut [u8]) {
        for _ in 0..DATAGRAMS_PER_TICK_MAX {
            let Some((length, source)) = self.sockets.wire.receive(Channel::Rtcp, buffer) else { break };
            if self.rtcp_peer.admits(now, source)
                && let Some(port) = self.port_mut(rooms)
            {
                port.receive_rtcp(now, &buffer[..length]);
                self.rtcp_peer.accepted(now, source);
            }
        }
    }

    fn send(&self, packet: &[u8]) {
        if let Some(destination) = self.rtp_peer.destination() {
            self.sockets.wire.send(Channel::Rtp, packet, destination);
        }
    }

    fn send_control(&self, packet: &[u8]) {
        let (channel, peer) =
            if self.muxed { (Channel::Rtp, &self.rtp_peer) } else { (Channel::Rtcp, &self.rtcp_peer) };
        if let Some(destination) = peer.destination().filter(|_| !packet.is_empty()) {
            self.sockets.wire.send(channel, packet, destination);
        }
    }

    fn renegotiate(
        &mut self,
        rooms: &mut BTreeMap<RoomId, Box<Room>>,
        session: Renegotiated,
    ) -> Result<(), media::PortError> {
        self.rtp_peer.rename(session.rtp);
        self.rtcp_peer.rename(session.rtcp);
        self.muxed = session.muxed;
        let changed = match (self.room.and_then(|room| rooms.get_mut(&room)), &mut self.port) {
            (Some(room), _) => room.reconfigure(self.id, session.config),
            (None, Some(port)) => Some(port.reconfigure(session.config)),
            (None, None) => None,
        };
        changed.unwrap_or(Ok(()))
    }

    fn port_in<'a>(&'a self, rooms: &'a BTreeMap<RoomId, Box<Room>>) -> Option<&'a Port> {
        match self.room {
            Some(room) => rooms.get(&room)?.port(self.id),
            None => self.port.as_deref(),
        }
    }

    fn port_mut<'a>(&'a mut self, rooms: &'a mut BTreeMap<RoomId, Box<Room>>) -> Option<&'a mut Port> {
        match self.room {
            Some(room) => rooms.get_mut(&room)?.port_mut(self.id),
            None => self.port.as_deref_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::mpsc::sync_channel;

    use media::{Format, RoomConfig};

    use super::super::rtp::PortRange;
    use super::*;

    const HERE: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ROOM: RoomId = RoomId(1);

    /// A thread's state, turned by the test: two legs in one room, and the sockets of their peers.
    struct Stage {
        ticker: Ticker,
        now: Instant,
        ours: Vec<SocketAddr>,
        peers: Vec<UdpSocket>,
        _news: mpsc::Receiver<News>,
    }

    impl Stage {
        fn new() -> Self {
            let (sender, orders) = sync_channel(64);
            let (news, told) = mpsc::channel(64);
            let ticker = Ticker::new(orders, news, vec![sender], Arc::new(Counters::default()));
            let mut stage = Self { ticker, now: Instant::now(), ours: Vec::new(), peers: Vec::new(), _news: told };
            stage.obey(Order::OpenRoom(ROOM, Box::new(Room::new(RoomConfig::default()))));
            let mut ports = PortRange::new(HERE, &(48_000..=48_899), std::process::id() as u16).expect("a range");
            for id in [1, 2] {
                let peer = UdpSocket::bind((HERE, 0)).expect("a socket");
                peer.set_nonblocking(true).expect("an option");
                let sockets = ports.bind().expect("a free pair");
                let said = Some(peer.local_addr().expect("an address"));
                stage.ours.push(SocketAddr::new(HERE, sockets.port));
                stage.peers.push(peer);
                let format = Format { payload_type: 0, codec: Codec::Pcmu };
                stage.obey(Order::Open(Box::new(MediaLeg {
                    id: PortId(id),
                    sockets,
                    rtp_peer: Peer::new(said, HERE),
                    rtcp_peer: Peer::new(said, HERE),
                    muxed: false,
                    port: Some(Box::new(Port::new(PortConfig::new(format, id)).expect("a port"))),
                    room: None,
                })));
                stage.obey(Order::Attach(PortId(id), Seat { room: ROOM, speaks: true, hears: true }));
            }
            stage
        }

        fn obey(&mut self, order: Order) {
            self.ticker.obey(self.now, order);
        }

        fn turn(&mut self) {
            self.now += TICK;
            self.ticker.turn(self.now);
        }

        fn stats(&self, id: u64) -> LegStats {
            self.ticker.rooms[&ROOM].port(PortId(id)).expect("a port").stats()
        }

        fn say(&self, peer: usize, sequence: u16) {
            let packet = rtp(sequence);
            self.peers[peer].send_to(&packet, self.ours[peer]).expect("loopback takes it");
        }
    }

    fn rtp(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(7_u32.to_be_bytes());
        packet.extend([0x2a; 160]);
        packet
    }

    #[test]
    fn a_flood_costs_its_own_leg_a_bounded_number_of_packets_a_tick() {
        let mut stage = Stage::new();
        for sequence in 0..50 {
            stage.say(0, sequence);
        }
        stage.say(1, 0);
        stage.turn();
        let taken = |stage: &Stage| {
            let stats = stage.stats(1);
            stats.packets_in + stats.late + stats.duplicate + stats.ignored
        };
        assert_eq!(taken(&stage), DATAGRAMS_PER_TICK_MAX as u64);
        assert_eq!(stage.stats(2).packets_in, 1, "the other leg is read in the same tick");
        for _ in 0..4 {
            stage.turn();
        }
        assert_eq!(taken(&stage), 50, "the rest waited in the kernel");
        // One packet a tick each, whatever came.
        assert_eq!((stage.stats(1).packets_out, stage.stats(2).packets_out), (5, 5));
    }

    #[test]
    fn nobody_breaks_into_a_stream_that_flows() {
        let mut stage = Stage::new();
        stage.say(0, 0);
        stage.turn();
        let destination = stage.ticker.legs[&PortId(1)].rtp_peer.destination();
        assert_eq!(destination, stage.peers[0].local_addr().ok());
        // Another port of the same host, while the first speaks; and RTCP from there, which would say good-bye.
        let stranger = UdpSocket::bind((HERE, 0)).expect("a socket");
        for sequence in 1..10 {
            stranger.send_to(&rtp(sequence + 500), stage.ours[0]).expect("loopback takes it");
            stranger.send_to(&[0x81, 203, 0, 1, 0, 0, 0, 7], stage.ours[0]).expect("loopback takes it");
            stage.say(0, sequence);
            stage.turn();
        }
        assert_eq!(stage.stats(1).packets_in, 10);
        assert_eq!(stage.stats(1).ignored + stage.stats(1).late, 0);
        assert_eq!(stage.ticker.legs[&PortId(1)].rtp_peer.destination(), destination);
    }
}
