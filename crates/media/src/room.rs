//! A mixer and the ports in it: everyone hears everyone but himself.
//!
//! A tick takes four steps: *listen* (drain each jitter buffer, decode), *rank* (who is loud enough to be mixed),
//! *mix* (one sum), *speak* (encode and send). All who are not in the mix hear the same, and those among them of one
//! [`Profile`] share one encode; each talker has an encoder of his own.
//!
//! A codec with memory (Opus, G.722) would hear a seam when a leg changes from the shared encoder to its own or back. A
//! talker's own Opus encoder therefore begins where the shared one stands, and the talker keeps it for
//! [`limits::PRIVATE_TICKS`] after he has fallen silent: until then the shared one has heard the same as his. If nobody
//! listened meanwhile, the shared one goes on where his stands. Opus encoders are borrowed from [`Encoders`].

use std::time::Instant;

use crate::codec::{Encoder, Encoders, Profile};
use crate::frame::{Band, Pcm, mean_square};
use crate::limits::{self, OPUS_PAYLOAD_BYTES_MAX};
use crate::mixer::Mixer;
use crate::port::{Events, Port, Received, TONE_PACKET_BYTES};
use crate::rtp::packet::HEADER_BYTES;

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

/// What a room did, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomStats {
    /// Legs in the mix in the last tick.
    pub talkers: usize,
    /// Encodes that one leg heard.
    pub private_encodes: u64,
    /// Encodes that all listeners of a profile heard.
    pub shared_encodes: u64,
}

/// One conference's sound. Turn it every 20 ms.
#[derive(Debug)]
pub struct Room {
    config: RoomConfig,
    /// Sorted by name.
    members: Vec<Member>,
    groups: Vec<Group>,
    mixer: Mixer,
    /// Loudness and place of those who talk, while they are ranked.
    ranking: Vec<(f32, usize)>,
    packet: Box<Packet>,
    heard: Pcm,
    own: Pcm,
    /// Empty where the owner brings the encoders ([`Room::tick_with`]).
    encoders: Encoders,
    stats: RoomStats,
}

type Packet = [u8; HEADER_BYTES + OPUS_PAYLOAD_BYTES_MAX];

#[derive(Debug)]
struct Member {
    id: PortId,
    port: Box<Port>,
    speaks: bool,
    hears: bool,
    place: Place,
    /// Ticks for which he keeps his own encoder after he has left the mix.
    private_ticks: u16,
    /// Whether he heard an encoder of his own in the last tick.
    private: bool,
    /// Whether he heard the shared one in the last tick.
    shared: bool,
}

/// Where a member stands in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not in the mix.
    Listens,
    Talks,
    /// In the mix for the last time, fading out.
    Leaves,
}

impl Place {
    fn is_mixed(self) -> bool {
        self != Self::Listens
    }
}

/// The listeners of one profile.
#[derive(Debug)]
struct Group {
    profile: Profile,
    encoder: Encoder,
    packet: Box<Packet>,
    /// Bytes of payload in this tick, once somebody has needed them.
    encoded: Option<usize>,
    mean_square: f32,
}

impl Room {
    /// An empty room.
    pub fn new(config: RoomConfig) -> Self {
        Self {
            config,
            members: Vec::new(),
            groups: Vec::new(),
            mixer: Mixer::new(),
            ranking: Vec::new(),
            packet: Box::new([0; HEADER_BYTES + OPUS_PAYLOAD_BYTES_MAX]),
            heard: Pcm::silent(Band::Narrow),
            own: Pcm::silent(Band::Narrow),
            encoders: Encoders::new(),
            stats: RoomStats::default(),
        }
    }

    /// Lets a port in, speaking and hearing. It comes back when the room is full or has one of that name.
    pub fn insert(&mut self, id: PortId, port: Box<Port>) -> Result<(), Box<Port>> {
        if self.members.len() >= self.config.ports_max {
            return Err(port);
        }
        let Err(place) = self.find(id) else { return Err(port) };
        self.prepare(port.profile());
        let private = port.borrows();
        let member = Member {
            id,
            port,
            speaks: true,
            hears: true,
            place: Place::Listens,
            private_ticks: 0,
            private,
            shared: false,
        };
        self.members.insert(place, member);
        self.ranking.reserve(self.members.len());
        Ok(())
    }

    /// Takes a port out with everything it knows, to be dropped or put into another room.
    pub fn remove(&mut self, id: PortId) -> Option<Box<Port>> {
        let port = self.find(id).ok().map(|place| self.members.remove(place).port);
        self.groups.retain(|group| self.members.iter().any(|member| member.port.profile() == group.profile));
        port
    }

    /// Says whether a port is heard and whether it hears. False: there is no such port.
    pub fn set_gate(&mut self, id: PortId, speaks: bool, hears: bool) -> bool {
        let Ok(place) = self.find(id) else { return false };
        (self.members[place].speaks, self.members[place].hears) = (speaks, hears);
        true
    }

    /// Takes a datagram for a port. None: there is no such port.
    pub fn receive(&mut self, now: Instant, id: PortId, packet: &[u8]) -> Option<Received> {
        let place = self.find(id).ok()?;
        Some(self.members[place].port.receive(now, packet))
    }

    /// Turns the mixer once and emits what each port sends. The room has a stock of encoders of its own.
    pub fn tick(&mut self, now: Instant, emit: &mut dyn FnMut(PortId, &[u8])) {
        let mut encoders = std::mem::take(&mut self.encoders);
        self.tick_with(&mut encoders, now, emit);
        self.encoders = encoders;
    }

    /// The same with a stock of encoders that several rooms use in turn.
    pub fn tick_with(&mut self, encoders: &mut Encoders, now: Instant, emit: &mut dyn FnMut(PortId, &[u8])) {
        self.listen(now);
        self.rank();
        self.mix();
        self.change_encoders(encoders);
        self.speak(emit);
    }

    /// Drains and decodes; notes who would be mixed.
    fn listen(&mut self, now: Instant) {
        self.ranking.clear();
        for (index, member) in self.members.iter_mut().enumerate() {
            let was_mixed = member.place == Place::Talks;
            if !member.speaks {
                member.port.skim(now);
                member.place = Place::Listens;
                continue;
            }
            let heard = member.port.hear(now);
            member.place = if was_mixed && heard { Place::Leaves } else { Place::Listens };
            if heard && member.port.is_talking() {
                // Who is mixed stays so until another is 3 dB louder: two equal voices must not alternate.
                let loyalty = if was_mixed { 2.0 } else { 1.0 };
                self.ranking.push((member.port.loudness() * loyalty, index));
            }
        }
    }

    /// Chooses the loudest. Who was in the mix and is not chosen fades out.
    fn rank(&mut self) {
        let chosen = self.ranking.len().min(self.config.talkers_max);
        if chosen < self.ranking.len() && chosen > 0 {
            self.ranking.select_nth_unstable_by(chosen - 1, |left, right| right.0.total_cmp(&left.0));
        }
        for &(_, index) in &self.ranking[..chosen] {
            let member = &mut self.members[index];
            if member.place == Place::Listens {
                member.port.begin_talking();
            }
            member.place = Place::Talks;
        }
        self.stats.talkers = chosen;
    }

    fn mix(&mut self) {
        self.mixer.begin();
        for member in &mut self.members {
            if member.place == Place::Leaves {
                member.port.fade_out();
            }
            if member.place.is_mixed() {
                self.mixer.add(member.port.heard());
            }
        }
        let wanted = |band| self.groups.iter().any(|group| group.profile.codec.band() == band);
        self.mixer.finish(wanted(Band::Narrow), wanted(Band::Wide));
    }

    /// Lends encoders to those who begin to hear something of their own, and takes them back from those who no longer do.
    /// The groups still know who was heard in the last tick.
    fn change_encoders(&mut self, encoders: &mut Encoders) {
        for member in &mut self.members {
            let profile = member.port.profile();
            let needs = profile.codec.has_memory() && member.needs_encoder();
            if needs == member.private {
                continue;
            }
            member.private = needs;
            let group = self.groups.iter_mut().find(|group| group.profile == profile);
            if needs {
                let heard = group.filter(|group| member.shared && group.encoded.is_some());
                member.port.begin_private(heard.map(|group| &group.encoder), encoders);
                continue;
            }
            member.private_ticks = 0;
            if let (Some(group), Some(own)) = (group, member.port.encoder())
                && group.encoded.is_none()
            {
                group.encoder.follow(own);
                // The next who comes back must not replace it.
                group.encoded = Some(0);
            }
            encoders.reclaim(&mut member.port);
        }
    }

    fn speak(&mut self, emit: &mut dyn FnMut(PortId, &[u8])) {
        self.groups.iter_mut().for_each(|group| group.encoded = None);
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if !member.port.may_send() {
                member.port.skip();
                continue;
            }
            let mut tone = [0; TONE_PACKET_BYTES];
            if member.port.tone(&mut tone) {
                emit(member.id, &tone);
                continue;
            }
            if member.is_private() || !self.speak_shared(index, emit) {
                self.speak_privately(index, emit);
            }
        }
    }

    /// Sends what all listeners of the profile hear. False: there is no encoder for them.
    fn speak_shared(&mut self, index: usize, emit: &mut dyn FnMut(PortId, &[u8])) -> bool {
        let member = &mut self.members[index];
        let profile = member.port.profile();
        let Some(group) = self.groups.iter_mut().find(|group| group.profile == profile) else { return false };
        member.shared = true;
        let length = *group.encoded.get_or_insert_with(|| {
            self.stats.shared_encodes += 1;
            let payload = &mut group.packet[HEADER_BYTES..];
            if self.mixer.talkers() == 0 {
                group.mean_square = 0.0;
                return group.encoder.encode_silence(payload);
            }
            self.heard.set_band(profile.codec.band());
            self.mixer.without(None, &mut self.heard);
            group.mean_square = mean_square(self.heard.samples());
            group.encoder.encode(self.heard.samples(), payload)
        });
        if length == 0 {
            member.port.skip();
            return true;
        }
        if let Some(header) = group.packet.first_chunk_mut() {
            member.port.stamp(header, length, group.mean_square);
        }
        emit(member.id, &group.packet[..HEADER_BYTES + length]);
        true
    }

    /// Sends what only this member hears.
    fn speak_privately(&mut self, index: usize, emit: &mut dyn FnMut(PortId, &[u8])) {
        let member = &mut self.members[index];
        let mixed = member.place.is_mixed();
        let codec = member.port.profile().codec;
        member.shared = false;
        if mixed && codec.has_memory() {
            member.private_ticks = limits::PRIVATE_TICKS;
        } else {
            member.private_ticks = member.private_ticks.saturating_sub(1);
        }
        self.stats.private_encodes += 1;
        let others = self.mixer.talkers() > usize::from(mixed);
        let said = (others && member.hears).then(|| {
            self.heard.set_band(codec.band());
            let own = mixed.then(|| member.port.own(&mut self.own));
            self.mixer.without(own, &mut self.heard);
            &self.heard
        });
        if let Some(length) = member.port.write(said, &mut self.packet[..]) {
            emit(member.id, &self.packet[..length]);
        }
    }

    /// Emits the RTCP packets that are due.
    pub fn rtcp(&mut self, now: Instant, emit: &mut dyn FnMut(PortId, &[u8])) {
        for member in &mut self.members {
            if let Some(packet) = member.port.rtcp(now) {
                emit(member.id, packet);
            }
        }
    }

    /// Hands over what the ports have told since the last call.
    pub fn take_events(&mut self, sink: &mut dyn FnMut(PortId, Events)) {
        for member in &mut self.members {
            let events = member.port.take_events();
            if !events.is_empty() {
                sink(member.id, events);
            }
        }
    }

    /// Changes a port by a re-negotiated session. None: there is no such port. Allocates.
    pub fn reconfigure(
        &mut self,
        id: PortId,
        config: crate::port::PortConfig,
    ) -> Option<Result<(), crate::port::PortError>> {
        let place = self.find(id).ok()?;
        let result = self.members[place].port.reconfigure(config);
        self.prepare(self.members[place].port.profile());
        Some(result)
    }

    /// A port.
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.find(id).ok().map(|place| &*self.members[place].port)
    }

    /// A port, to be changed; for another codec use [`Room::reconfigure`], which makes room for its listeners too.
    pub fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.find(id).ok().map(|place| &mut *self.members[place].port)
    }

    /// The names of the ports in the room, in order.
    pub fn ids(&self) -> impl Iterator<Item = PortId> + '_ {
        self.members.iter().map(|member| member.id)
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What was done.
    pub fn stats(&self) -> RoomStats {
        self.stats
    }

    /// Makes the shared encoder of a profile. Without one (the Opus library was out of memory) each listener uses his
    /// own.
    fn prepare(&mut self, profile: Profile) {
        if self.groups.iter().any(|group| group.profile == profile) {
            return;
        }
        if let Ok(encoder) = Encoder::new(profile) {
            let packet = Box::new([0; HEADER_BYTES + OPUS_PAYLOAD_BYTES_MAX]);
            self.groups.push(Group { profile, encoder, packet, encoded: None, mean_square: 0.0 });
        }
    }

    fn find(&self, id: PortId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |member| member.id)
    }
}

impl Member {
    /// Whether he hears something of his own: the others without himself, or nothing.
    fn is_private(&self) -> bool {
        self.place.is_mixed() || self.private_ticks > 0 || !self.hears
    }

    /// Whether what he hears of his own is more than silence.
    fn needs_encoder(&self) -> bool {
        self.hears && self.port.may_send() && (self.place.is_mixed() || self.private_ticks > 0)
    }
}
