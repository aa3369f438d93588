//! A room, phones around it and a network between them, on a clock that the test turns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use media::goertzel::Goertzel;
use media::{
    Codec, Endpoint, Format, Frame, Port, PortConfig, PortId, Room, RoomConfig, Sine, Source, TICK, ToneFormat,
};

/// How loud each phone's tone is.
pub(crate) const SPOKEN_DBOV: f32 = -20.0;

/// What the network makes of a packet: any number of copies, each after a delay.
pub(crate) type Network = Box<dyn FnMut(&[u8]) -> Vec<(Duration, Vec<u8>)>>;

pub(crate) struct Phone {
    pub(crate) endpoint: Endpoint,
    pub(crate) hz: f32,
    /// The way to the room.
    pub(crate) network: Network,
    under_way: Vec<(Instant, Vec<u8>)>,
    /// Levels of the last ticks heard.
    pub(crate) levels: Vec<f32>,
    ears: BTreeMap<u32, Goertzel>,
    pub(crate) packets_heard: usize,
}

pub(crate) struct Hall {
    pub(crate) now: Instant,
    pub(crate) room: Room,
    pub(crate) phones: Vec<Phone>,
}

pub(crate) const TELEPHONE_EVENT: u8 = 101;

pub(crate) fn config(codec: Codec, seed: u64) -> PortConfig {
    let format = Format { payload_type: codec.static_payload_type().unwrap_or(111), codec };
    PortConfig { cname: format!("leg-{seed}"), ..PortConfig::new(format, seed) }
        .with_tones(ToneFormat { payload_type: TELEPHONE_EVENT, clock_rate: codec.clock_rate() })
}

pub(crate) fn port(codec: Codec, seed: u64) -> Box<Port> {
    Box::new(Port::new(config(codec, seed)).expect("few formats"))
}

pub(crate) fn frequency(index: usize) -> f32 {
    430.0 + 190.0 * index as f32
}

#[expect(clippy::disallowed_methods, reason = "a turned clock needs one instant to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// Small and repeatable chance.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % sides
    }
}

pub(crate) fn perfect() -> Network {
    Box::new(|packet| vec![(Duration::ZERO, packet.to_vec())])
}

impl Hall {
    /// Phones that each speak a tone of their own, all in one room.
    pub(crate) fn new(codecs: &[Codec]) -> Self {
        Self::with(RoomConfig::default(), codecs)
    }

    pub(crate) fn with(config: RoomConfig, codecs: &[Codec]) -> Self {
        let mut hall = Self { now: start(), room: Room::new(config), phones: Vec::new() };
        for &codec in codecs {
            hall.join(codec);
        }
        hall
    }

    pub(crate) fn join(&mut self, codec: Codec) -> usize {
        let index = self.phones.len();
        let hz = frequency(index);
        self.room.insert(PortId(index as u64), port(codec, index as u64)).expect("a free name");
        self.phones.push(Phone {
            endpoint: Endpoint::new(port(codec, 1_000 + index as u64), Source::Tone(Sine::new(hz, SPOKEN_DBOV))),
            hz,
            network: perfect(),
            under_way: Vec::new(),
            levels: Vec::new(),
            ears: BTreeMap::new(),
            packets_heard: 0,
        });
        index
    }

    /// Lets 20 ms pass for everybody.
    pub(crate) fn tick(&mut self) {
        let now = self.now;
        for (index, phone) in self.phones.iter_mut().enumerate() {
            let Phone { endpoint, network, under_way, .. } = phone;
            endpoint.tick(now, &mut |packet| {
                under_way.extend(network(packet).into_iter().map(|(delay, packet)| (now + delay, packet)));
            });
            under_way.sort_by_key(|(at, _)| *at);
            while under_way.first().is_some_and(|(at, _)| *at <= now) {
                let (at, packet) = under_way.remove(0);
                self.room.receive(at, PortId(index as u64), &packet);
            }
            phone.listen();
        }
        let later = now + TICK / 2;
        self.room.tick(later, &mut |id, packet| {
            let phone = &mut self.phones[id.0 as usize];
            phone.packets_heard += 1;
            phone.endpoint.receive(later, packet);
        });
        self.now += TICK;
    }

    pub(crate) fn run(&mut self, milliseconds: usize) {
        for _ in 0..milliseconds / 20 {
            self.tick();
        }
    }

    /// Starts to listen anew.
    pub(crate) fn prick_ears(&mut self) {
        let frequencies: Vec<f32> = self.phones.iter().map(|phone| phone.hz).collect();
        for phone in &mut self.phones {
            phone.levels.clear();
            phone.packets_heard = 0;
            // One more, at which nobody speaks.
            phone.ears = frequencies
                .iter()
                .copied()
                .chain([frequency(frequencies.len()) + 95.0])
                .map(|hz| (hz as u32, Goertzel::new(hz)))
                .collect();
        }
    }

    /// The level at which `listener` has heard `speaker` since his ears were pricked; the speaker after the last is
    /// nobody.
    pub(crate) fn heard(&self, listener: usize, speaker: usize) -> f32 {
        let extra = if speaker == self.phones.len() { 95.0 } else { 0.0 };
        let mut ear = self.phones[listener].ears[&((frequency(speaker) + extra) as u32)];
        ear.take_level_dbov()
    }
}

impl Phone {
    fn listen(&mut self) {
        let frame: &Frame = self.endpoint.heard();
        self.levels.push(frame.level_dbov());
        for ear in self.ears.values_mut() {
            ear.hear(frame);
        }
    }
}
