//! RTP and RTCP: one leg of a conversation is sent anything, and the others hear what they would hear without it.

use std::time::{Duration, Instant};

use media::{Codec, Format, Frame, Port, PortConfig, PortId, Room, RoomConfig, Sine, TICK, Tone, ToneFormat};

const TALKER: PortId = PortId(1);
const LISTENER: PortId = PortId(2);
const ATTACKED: PortId = PortId(3);
/// Ticks of one input, so that none takes for ever.
const TICKS_MAX: usize = 60;

/// Takes records of one control byte, one length byte and so many bytes of datagram.
///
/// Of the control byte, bit 0 says that the datagram came to the RTCP port, bit 1 that it is sent forty times, and the upper four
/// bits how many milliseconds pass before.
///
/// # Panics
/// When the listener hears anything but the talker, or a leg sends more than it should.
pub fn run(bytes: &[u8]) {
    let start = Instant::now();
    // Nobody hears the attacked leg in the first pair of rooms; in the second one everybody does.
    let mut alone = Stage::new(start, false);
    let mut muted = Stage::new(start, true);
    let mut heard = Stage::new(start, true);
    muted.room.set_gate(ATTACKED, false, true);
    let mut rest = bytes;
    let (mut elapsed, mut ticks) = (Duration::ZERO, 0);
    while ticks < TICKS_MAX {
        let Some((&[control, length], after)) = rest.split_first_chunk::<2>() else { break };
        let (datagram, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        elapsed += Duration::from_millis(u64::from(control >> 4));
        let now = start + elapsed;
        for stage in [&mut muted, &mut heard] {
            let copies = if control & 2 == 0 { 1 } else { 40 };
            for _ in 0..copies {
                if control & 1 == 0 {
                    stage.room.receive(now, ATTACKED, datagram);
                } else if let Some(port) = stage.room.port_mut(ATTACKED) {
                    port.receive_rtcp(now, datagram);
                }
            }
        }
        while TICK * ticks as u32 <= elapsed && ticks < TICKS_MAX {
            ticks += 1;
            let alone = alone.tick();
            assert_eq!(muted.tick(), alone, "an unheard leg changes what others hear");
            assert_eq!(heard.tick().is_some(), alone.is_some(), "one packet a tick");
        }
    }
}

struct Stage {
    room: Room,
    talker: Port,
    sine: Sine,
    now: Instant,
}

impl Stage {
    fn new(now: Instant, attacked: bool) -> Self {
        let mut room = Room::new(RoomConfig::default());
        for id in [TALKER, LISTENER] {
            room.insert(id, Box::new(port(id.0))).expect("a free name");
        }
        if attacked {
            room.insert(ATTACKED, Box::new(target())).expect("a free name");
        }
        Self { room, talker: port(11), sine: Sine::new(600.0, -20.0), now }
    }

    /// What the listener is sent.
    fn tick(&mut self) -> Option<Vec<u8>> {
        let mut frame = Frame::SILENCE;
        self.sine.next(&mut frame);
        let (room, now) = (&mut self.room, self.now);
        self.talker.push(&frame, &mut |packet| {
            room.receive(now, TALKER, packet);
        });
        let (mut heard, mut sent) = (None, 0);
        room.tick(now, &mut |id, packet| {
            sent += 1;
            if id == LISTENER {
                assert!(heard.is_none(), "two packets in one tick");
                heard = Some(packet.to_vec());
            }
        });
        room.rtcp(now, &mut |_, packet| assert!(!packet.is_empty()));
        let mut tones = 0;
        room.take_events(&mut |_, events| tones += events.tones().count());
        assert!(sent <= room.len() && tones <= media::limits::TONES_HEARD_MAX);
        if let Some(port) = room.port(ATTACKED) {
            let stats = port.stats();
            assert!(stats.jitter_ms >= 0.0 && stats.delay_ms <= media::limits::DELAY_MS_MAX);
        }
        self.now += TICK;
        heard
    }
}

fn port(seed: u64) -> Port {
    Port::new(PortConfig::new(Format { payload_type: 0, codec: Codec::Pcmu }, seed)).expect("a port")
}

/// A leg that takes everything that we can do.
fn target() -> Port {
    let format = |payload_type, codec| Format { payload_type, codec };
    let mut config =
        PortConfig::new(format(0, Codec::Pcmu), 3).with_tones(ToneFormat { payload_type: 101, clock_rate: 8_000 });
    config.receive =
        vec![format(0, Codec::Pcmu), format(8, Codec::Pcma), format(9, Codec::G722), format(111, Codec::Opus)];
    let mut port = Port::new(config).expect("a port");
    port.send_tone(Tone::FLASH, 60);
    port
}
