//! Who sits in which room on which thread: the operator's view of the tick threads.
//!
//! A room lives on the thread that had the fewest legs when it was opened. A leg that changes threads is on its way for
//! up to two ticks; what it is told in the meantime waits here until it has arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use control::ConferenceId;
use media::{PortId, Room, RoomConfig, TICK};
use tokio::sync::mpsc;

use super::tick::{Counters, MediaLeg, News, Order, Renegotiated, RoomId, Sample, Seat, Ticker};

/// Orders that wait for one thread's next tick: a join is two of them, and a tick is 20 ms.
const ORDERS_MAX: usize = 4_096;

/// News that waits for the operator.
const NEWS_MAX: usize = 8_192;

/// The tick threads, the rooms on them and the legs in those.
#[derive(Debug)]
pub(crate) struct MediaThreads {
    threads: Vec<Thread>,
    rooms: BTreeMap<ConferenceId, RoomPlace>,
    legs: BTreeMap<PortId, LegPlace>,
    next_room: u64,
    talkers_max: usize,
}

#[derive(Debug)]
struct Thread {
    orders: SyncSender<Order>,
    /// Found the queue full.
    waiting: VecDeque<Order>,
    counters: Arc<Counters>,
    handle: Option<JoinHandle<()>>,
    legs: usize,
    told_dead: bool,
}

#[derive(Debug)]
struct RoomPlace {
    id: RoomId,
    thread: usize,
    legs: BTreeSet<PortId>,
}

#[derive(Debug)]
struct LegPlace {
    thread: usize,
    seat: Option<(ConferenceId, Seat)>,
    /// Between two threads: what it is told meanwhile.
    moving: Option<VecDeque<LegOrder>>,
}

/// What one leg is told, wherever it is.
#[derive(Debug)]
enum LegOrder {
    Sit(ConferenceId, Seat),
    Leave,
    Renegotiate(Box<Renegotiated>),
    Close,
}

/// What threads that died took with them.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Threads whose death was not known before.
    pub(crate) threads: usize,
    pub(crate) legs: Vec<PortId>,
}

/// What a seat was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seated {
    /// It was in no room.
    First,
    /// It was in this room already.
    Again,
    /// It came from the room of another conference.
    From(ConferenceId),
    /// There is no such leg.
    Unknown,
}

impl MediaThreads {
    /// Starts the threads, their phases spread over a tick.
    pub(crate) fn start(count: usize, talkers_max: usize) -> io::Result<(Self, mpsc::Receiver<News>)> {
        let count = count.clamp(1, THREADS_MAX);
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| sync_channel(ORDERS_MAX)).unzip();
        let mut threads = Vec::with_capacity(count);
        for (index, orders) in receivers.into_iter().enumerate() {
            let counters = Arc::new(Counters::default());
            let ticker = Ticker::new(orders, news.clone(), senders.clone(), Arc::clone(&counters));
            let phase = TICK * index as u32 / count as u32;
            let handle = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || ticker.run(phase))?;
            threads.push(Thread {
                orders: senders[index].clone(),
                waiting: VecDeque::new(),
                counters,
                handle: Some(handle),
                legs: 0,
                told_dead: false,
            });
        }
        let this = Self { threads, rooms: BTreeMap::new(), legs: BTreeMap::new(), next_room: 1, talkers_max };
        Ok((this, receiver))
    }

    /// Opens a leg's media where its conference is, or will be; it hears silence until it is seated.
    pub(crate) fn open(&mut self, conference: ConferenceId, leg: Box<MediaLeg>) {
        let thread = self.rooms.get(&conference).map_or_else(|| self.idlest(), |room| room.thread);
        self.legs.insert(leg.id, LegPlace { thread, seat: None, moving: None });
        self.threads[thread].legs += 1;
        self.send(thread, Order::Open(leg));
    }

    /// Seats a leg in a conference's room, which is opened if need be.
    pub(crate) fn attach(&mut self, leg: PortId, conference: ConferenceId, speaks: bool, hears: bool) -> Seated {
        let Some(place) = self.legs.get(&leg) else { return Seated::Unknown };
        let (from_thread, before) = (place.thread, place.seat);
        let same_room = before.is_some_and(|(before, _)| before == conference);
        if !self.rooms.contains_key(&conference) {
            self.open_room(conference, from_thread);
        }
        let Some(room) = self.rooms.get_mut(&conference) else { return Seated::Unknown };
        if !same_room {
            room.legs.insert(leg);
        }
        let seat = Seat { room: room.id, speaks, hears };
        if same_room && before.is_some_and(|(_, old)| old.speaks == speaks && old.hears == hears) {
            return Seated::Again;
        }
        if let Some((other, _)) = before.filter(|_| !same_room) {
            self.leave_room(other, leg);
        }
        if let Some(place) = self.legs.get_mut(&leg) {
            place.seat = Some((conference, seat));
        }
        self.tell_leg(leg, LegOrder::Sit(conference, seat));
        match before {
            None => Seated::First,
            Some(_) if same_room => Seated::Again,
            Some((other, _)) => Seated::From(other),
        }
    }

    /// Takes a leg out of its room; it hears silence from then on.
    pub(crate) fn detach(&mut self, leg: PortId) {
        let Some(place) = self.legs.get_mut(&leg) else { return };
        if let Some((conference, _)) = place.seat.take() {
            self.tell_leg(leg, LegOrder::Leave);
            self.leave_room(conference, leg);
        }
    }

    pub(crate) fn renegotiate(&mut self, leg: PortId, session: Box<Renegotiated>) {
        self.tell_leg(leg, LegOrder::Renegotiate(session));
    }

    /// Ends a leg's media. Its box comes back as [`News::Closed`].
    pub(crate) fn close(&mut self, leg: PortId) {
        let Some(place) = self.legs.get_mut(&leg) else { return };
        if let Some((conference, _)) = place.seat.take() {
            self.leave_room(conference, leg);
        }
        self.tell_leg(leg, LegOrder::Close);
    }

    /// The conference in whose room a leg sits.
    pub(crate) fn seat_of(&self, leg: PortId) -> Option<ConferenceId> {
        self.legs.get(&leg)?.seat.map(|(conference, _)| conference)
    }

    /// The legs that sit in a conference's room.
    pub(crate) fn seated_in(&self, conference: ConferenceId) -> Vec<PortId> {
        self.rooms.get(&conference).map(|room| room.legs.iter().copied().collect()).unwrap_or_default()
    }

    /// A leg has arrived at its new thread.
    pub(crate) fn arrived(&mut self, leg: PortId) {
        let Some(place) = self.legs.get_mut(&leg) else { return };
        for order in place.moving.take().unwrap_or_default() {
            self.tell_leg(leg, order);
        }
    }

    /// A leg's media is closed, and its box is to be dropped.
    pub(crate) fn closed(&mut self, leg: PortId) {
        if let Some(place) = self.legs.remove(&leg) {
            self.threads[place.thread].legs -= 1;
        }
    }

    /// Asks every thread for its legs' figures. Gives back how many answers will come.
    pub(crate) fn ask_statistics(&mut self) -> usize {
        let mut asked = 0;
        for thread in 0..self.threads.len() {
            if !self.threads[thread].told_dead {
                // A few more than are known: legs may arrive until it is asked.
                let samples: Vec<Sample> = Vec::with_capacity(self.threads[thread].legs + 64);
                self.send(thread, Order::Statistics(samples));
                asked += 1;
            }
        }
        asked
    }

    /// Offers what found a queue full, and finds threads that have died and the legs that they took with them.
    pub(crate) fn look_after(&mut self) -> Lost {
        let mut lost = Lost::default();
        for index in 0..self.threads.len() {
            self.flush(index);
            let thread = &mut self.threads[index];
            if thread.handle.as_ref().is_some_and(|handle| !handle.is_finished()) {
                continue;
            }
            thread.waiting.clear();
            lost.threads += usize::from(!std::mem::replace(&mut thread.told_dead, true));
            lost.legs.extend(self.legs.iter().filter(|(_, place)| place.thread == index).map(|(leg, _)| *leg));
        }
        for leg in &lost.legs {
            if let Some((conference, _)) = self.legs.get(leg).and_then(|place| place.seat) {
                self.leave_room(conference, *leg);
            }
            self.closed(*leg);
        }
        self.rooms.retain(|_, room| !self.threads[room.thread].told_dead);
        lost
    }

    /// Whether orders wait for room in a queue.
    pub(crate) fn is_behind(&self) -> bool {
        self.threads.iter().any(|thread| !thread.waiting.is_empty())
    }

    pub(crate) fn room_count(&self) -> usize {
        self.rooms.len()
    }

    pub(crate) fn leg_count(&self) -> usize {
        self.legs.len()
    }

    /// One of the counters, over all threads since the start.
    pub(crate) fn counted(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.threads.iter().map(|thread| counter(&thread.counters).load(Ordering::Relaxed)).sum()
    }

    /// Stops all threads; each ends within a tick.
    pub(crate) fn stop(&mut self) {
        for thread in 0..self.threads.len() {
            self.send(thread, Order::Stop);
        }
    }

    fn open_room(&mut self, conference: ConferenceId, near: usize) {
        // A two-party call is worth no journey between threads: the first leg's thread, unless it is clearly fuller.
        let idlest = self.idlest();
        let thread = if self.threads[near].legs > self.threads[idlest].legs + NEARNESS { idlest } else { near };
        let id = RoomId(self.next_room);
        self.next_room += 1;
        let config = RoomConfig { talkers_max: self.talkers_max, ..RoomConfig::default() };
        self.rooms.insert(conference, RoomPlace { id, thread, legs: BTreeSet::new() });
        self.send(thread, Order::OpenRoom(id, Box::new(Room::new(config))));
    }

    fn leave_room(&mut self, conference: ConferenceId, leg: PortId) {
        let Some(room) = self.rooms.get_mut(&conference) else { return };
        room.legs.remove(&leg);
        if room.legs.is_empty() {
            let (thread, id) = (room.thread, room.id);
            self.rooms.remove(&conference);
            self.send(thread, Order::CloseRoom(id));
        }
    }

    fn idlest(&self) -> usize {
        let alive = self.threads.iter().enumerate().filter(|(_, thread)| !thread.told_dead);
        alive.min_by_key(|(_, thread)| thread.legs).map_or(0, |(index, _)| index)
    }

    /// Sends an order to wherever the leg is, or keeps it while the leg is on its way.
    fn tell_leg(&mut self, leg: PortId, order: LegOrder) {
        let Some(place) = self.legs.get_mut(&leg) else { return };
        if let Some(moving) = &mut place.moving {
            // Only the last seat counts; everything else is told in order.
            if matches!(order, LegOrder::Sit(..) | LegOrder::Leave) {
                moving.retain(|held| !matches!(held, LegOrder::Sit(..) | LegOrder::Leave));
            }
            moving.push_back(order);
            return;
        }
        let thread = place.thread;
        let order = match order {
            LegOrder::Sit(conference, seat) => match self.rooms.get(&conference).map(|room| room.thread) {
                Some(to) if to != thread => {
                    place.thread = to;
                    place.moving = Some(VecDeque::new());
                    self.threads[thread].legs -= 1;
                    self.threads[to].legs += 1;
                    Order::Hand { leg, to, seat }
                }
                Some(_) => Order::Attach(leg, seat),
                // The room was closed meanwhile.
                None => Order::Detach(leg),
            },
            LegOrder::Leave => Order::Detach(leg),
            LegOrder::Renegotiate(session) => Order::Renegotiate(leg, session),
            LegOrder::Close => Order::Close(leg),
        };
        self.send(thread, order);
    }

    fn send(&mut self, thread: usize, order: Order) {
        self.flush(thread);
        let thread = &mut self.threads[thread];
        if !thread.waiting.is_empty() {
            thread.waiting.push_back(order);
        } else if let Err(TrySendError::Full(order)) = thread.orders.try_send(order) {
            thread.waiting.push_back(order);
        }
    }

    fn flush(&mut self, thread: usize) {
        let thread = &mut self.threads[thread];
        while let Some(order) = thread.waiting.pop_front() {
            match thread.orders.try_send(order) {
                Err(TrySendError::Full(order)) => {
                    thread.waiting.push_front(order);
                    return;
                }
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// So many more legs may be on one thread before a new room goes elsewhere.
const NEARNESS: usize = 20;

/// More threads than any machine has cores for media.
const THREADS_MAX: usize = 64;

impl Drop for MediaThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use media::{Codec, Format, Port, PortConfig};

    use super::super::rtp::{Peer, PortRange};
    use super::*;

    const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn conference(number: u128) -> ConferenceId {
        ConferenceId(format!("{number:032x}").parse::<ConferenceId>().expect("a GUID").0)
    }

    fn leg(id: u64, ports: &mut PortRange) -> Box<MediaLeg> {
        let format = Format { payload_type: 0, codec: Codec::Pcmu };
        Box::new(MediaLeg {
            id: PortId(id),
            sockets: ports.bind().expect("a free pair"),
            rtp_peer: Peer::new(None, HERE),
            rtcp_peer: Peer::new(None, HERE),
            muxed: false,
            port: Some(Box::new(Port::new(PortConfig::new(format, id)).expect("a port"))),
            room: None,
        })
    }

    fn next(news: &mut mpsc::Receiver<News>) -> News {
        news.blocking_recv().expect("the threads run")
    }

    #[test]
    fn a_leg_on_its_way_is_told_everything_when_it_has_arrived() {
        let mut ports = PortRange::new(HERE, &(49_000..=49_099), 0).expect("a range");
        let (mut threads, mut news) = MediaThreads::start(2, 10).expect("threads");
        threads.open(conference(1), leg(1, &mut ports));
        assert_eq!(threads.attach(PortId(1), conference(1), true, true), Seated::First);
        threads.open(conference(2), leg(2, &mut ports));
        assert_eq!(threads.attach(PortId(2), conference(2), true, true), Seated::First);
        assert_ne!(threads.rooms[&conference(1)].thread, threads.rooms[&conference(2)].thread);

        assert_eq!(threads.attach(PortId(1), conference(2), true, true), Seated::From(conference(1)));
        assert_eq!(threads.room_count(), 1, "the room it left is empty");
        assert_eq!(threads.attach(PortId(1), conference(2), true, true), Seated::Again);
        threads.close(PortId(1));
        let mut closed = false;
        while !closed {
            match next(&mut news) {
                News::Arrived(leg) => threads.arrived(leg),
                News::Closed(leg) => {
                    threads.closed(leg.id);
                    closed = true;
                }
                News::RoomClosed(room) => assert!(room.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((threads.leg_count(), threads.seat_of(PortId(1))), (1, None));
    }

    #[test]
    fn a_thread_that_ends_is_noticed_with_its_legs() {
        let mut ports = PortRange::new(HERE, &(49_100..=49_199), 0).expect("a range");
        let (mut threads, _news) = MediaThreads::start(1, 10).expect("threads");
        threads.open(conference(1), leg(1, &mut ports));
        threads.attach(PortId(1), conference(1), true, true);
        assert_eq!(threads.look_after().legs, []);
        threads.stop();
        let lost = loop {
            let lost = threads.look_after();
            if lost.threads > 0 {
                break lost;
            }
            std::thread::yield_now();
        };
        assert_eq!((lost.legs.as_slice(), threads.room_count()), (&[PortId(1)][..], 0));
        // A leg that is opened with no thread left is lost too, and not forgotten.
        threads.open(conference(1), leg(2, &mut ports));
        assert_eq!(threads.look_after().legs, [PortId(2)]);
    }
}
