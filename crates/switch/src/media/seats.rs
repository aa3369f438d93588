//! Who sits in which room on which thread: the operator's view of the tick threads, and what they are to be told.
//!
//! A room lives on the thread that had the fewest legs when it was opened. A leg that changes threads is on its way for
//! up to two ticks; what it is told in the meantime waits here until it has arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use control::ConferenceId;
use media::{PortId, Room, RoomConfig};

use super::tick::{MediaLeg, Order, Renegotiated, RoomId, Sample, Seat};

/// The rooms and legs, and the threads that they are on.
#[derive(Debug)]
pub(crate) struct Seats {
    threads: Vec<Thread>,
    rooms: BTreeMap<ConferenceId, RoomPlace>,
    legs: BTreeMap<PortId, LegPlace>,
    next_room: u64,
    talkers_max: usize,
    /// What is to be told to which thread, in order.
    orders: VecDeque<(usize, Order)>,
}

#[derive(Debug, Default)]
struct Thread {
    legs: usize,
    is_dead: bool,
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

impl Seats {
    pub(crate) fn new(threads: usize, talkers_max: usize) -> Self {
        let threads = (0..threads.max(1)).map(|_| Thread::default()).collect();
        Self {
            threads,
            rooms: BTreeMap::new(),
            legs: BTreeMap::new(),
            next_room: 1,
            talkers_max,
            orders: VecDeque::new(),
        }
    }

    /// The next order, and the thread that it is for.
    pub(crate) fn poll_order(&mut self) -> Option<(usize, Order)> {
        self.orders.pop_front()
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

    #[cfg(test)]
    pub(super) fn thread_of(&self, conference: ConferenceId) -> usize {
        self.rooms[&conference].thread
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
        for (index, thread) in self.threads.iter().enumerate().filter(|(_, thread)| !thread.is_dead) {
            // A few more than are known: legs may arrive until it is asked.
            let samples: Vec<Sample> = Vec::with_capacity(thread.legs + 64);
            self.orders.push_back((index, Order::Statistics(samples)));
            asked += 1;
        }
        asked
    }

    /// A thread has died, and all its rooms with it; see [`Self::take_lost`].
    pub(crate) fn died(&mut self, thread: usize) {
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.is_dead = true;
        }
    }

    /// Forgets the legs on threads that have died, and says which.
    pub(crate) fn take_lost(&mut self) -> Vec<PortId> {
        let on_dead = |place: &LegPlace| self.threads[place.thread].is_dead;
        let lost: Vec<PortId> = self.legs.iter().filter(|(_, place)| on_dead(place)).map(|(leg, _)| *leg).collect();
        for leg in &lost {
            if let Some((conference, _)) = self.legs.get(leg).and_then(|place| place.seat) {
                self.leave_room(conference, *leg);
            }
            self.closed(*leg);
        }
        self.rooms.retain(|_, room| !self.threads[room.thread].is_dead);
        lost
    }

    pub(crate) fn room_count(&self) -> usize {
        self.rooms.len()
    }

    pub(crate) fn leg_count(&self) -> usize {
        self.legs.len()
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
        let alive = self.threads.iter().enumerate().filter(|(_, thread)| !thread.is_dead);
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
        self.orders.push_back((thread, order));
    }
}

/// So many more legs may be on one thread before a new room goes elsewhere.
const NEARNESS: usize = 20;
