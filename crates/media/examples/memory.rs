//! What the media of one participant takes in memory: a room of a thousand, three of whom talk.
//! `cargo run --release -p media --example memory -- opus` (Linux); one codec a run, because freed memory is used again.
#![expect(clippy::disallowed_methods, reason = "it asks the system for its memory, and turns a clock")]

use std::time::Instant;

use media::{Codec, Endpoint, Format, Port, PortConfig, PortId, Room, RoomConfig, Sine, Source, TICK};

const SEATS: u64 = 1_000;
const TALKERS: u64 = 3;
const TICKS: u32 = 500;

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "opus".to_owned());
    let codec = Codec::from_name(&name).expect("PCMU, PCMA, G722 or opus");
    let mut phones: Vec<Endpoint> = (0..TALKERS).map(|talker| phone(codec, talker, true)).collect();
    let mut quiet = phone(codec, TALKERS, false);
    let mut room = Room::new(RoomConfig::default());
    let before = resident_bytes();
    for seat in 0..SEATS {
        room.insert(PortId(seat), port(codec, seat)).expect("a seat");
    }
    let start = Instant::now();
    for tick in 0..TICKS {
        let now = start + TICK * tick;
        let mut silence = Vec::new();
        quiet.tick(now, &mut |packet| silence.extend_from_slice(packet));
        for (seat, phone) in (0..).zip(&mut phones) {
            phone.tick(now, &mut |packet| _ = room.receive(now, PortId(seat), packet));
        }
        for seat in TALKERS..SEATS {
            room.receive(now, PortId(seat), &silence);
        }
        room.tick(now, &mut |_, _| {});
    }
    let bytes = (resident_bytes() - before) / SEATS;
    println!("{{\"figure\":\"media_bytes_per_participant\",\"codec\":\"{}\",\"value\":{bytes}}}", codec.name());
}

fn phone(codec: Codec, seed: u64, talks: bool) -> Endpoint {
    let says = if talks { Source::Tone(Sine::new(300.0 + 100.0 * seed as f32, -20.0)) } else { Source::Silence };
    Endpoint::new(port(codec, 5_000 + seed), says)
}

fn port(codec: Codec, seed: u64) -> Box<Port> {
    let format = Format { payload_type: codec.static_payload_type().unwrap_or(111), codec };
    Box::new(Port::new(PortConfig::new(format, seed)).expect("few formats"))
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}
