//! After set-up a tick takes no memory, whatever the network does.
#![expect(unsafe_code, reason = "only an allocator can count allocations, and the trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use media::{
    Codec, Encoders, Endpoint, Format, Port, PortConfig, PortId, Room, RoomConfig, Sine, Source, TICK, Tone, ToneFormat,
};

struct Counting;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    COUNT.with(|count| count.set(count.get().map(|count| count + 1)));
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_tick_takes_and_gives_back_no_memory() {
    // What five phones send in 4 s, recorded first.
    let codecs = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus, Codec::Opus];
    let mut phones: Vec<Endpoint> = (0..)
        .zip(codecs)
        .map(|(index, codec)| Endpoint::new(port(codec, index), Source::Tone(Sine::new(500.0, -20.0 - index as f32))))
        .collect();
    let mut said: Vec<Vec<(usize, Vec<u8>)>> = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "a turned clock needs one instant to count from")]
    let start = Instant::now();
    for tick in 0..200 {
        let mut packets = Vec::new();
        for (index, phone) in phones.iter_mut().enumerate() {
            if tick == 20 {
                phone.send_tone(Tone::FLASH, 100);
            }
            phone.tick(start + TICK * tick, &mut |packet| packets.push((index, packet.to_vec())));
        }
        said.push(packets);
    }

    let mut room = Room::new(RoomConfig { talkers_max: 3, ..RoomConfig::default() });
    for (index, codec) in codecs.into_iter().enumerate() {
        room.insert(PortId(index as u64), port(codec, index as u64)).unwrap();
    }
    let mut encoders = Encoders::new();
    encoders.prepare(3);
    let mut heard = 0;
    COUNT.with(|count| count.set(Some(0)));
    for (tick, packets) in said.iter().enumerate() {
        let now = start + TICK * tick as u32;
        for (index, packet) in packets {
            // A third of the packets is lost, some come twice.
            if (tick + index) % 3 != 0 {
                room.receive(now, PortId(*index as u64), packet);
            }
            if (tick + index) % 11 == 0 {
                room.receive(now, PortId(*index as u64), packet);
                room.receive(now, PortId(*index as u64), &packet[..5]);
            }
        }
        if tick == 100 {
            room.set_gate(PortId(0), false, true);
            room.port_mut(PortId(1)).unwrap().send_tone(Tone::FLASH, 200);
        }
        room.tick_with(&mut encoders, now, &mut |_, packet| heard += packet.len());
        room.rtcp(now, &mut |_, packet| heard += packet.len());
        room.take_events(&mut |_, events| heard += events.tones().count());
    }
    let allocations = COUNT.with(Cell::take);
    assert!(heard > 100_000);
    assert_eq!(allocations, Some(0));
}

fn port(codec: Codec, seed: u64) -> Box<Port> {
    let format = Format { payload_type: codec.static_payload_type().unwrap_or(111), codec };
    let tones = ToneFormat { payload_type: 101, clock_rate: codec.clock_rate() };
    Box::new(Port::new(PortConfig::new(format, seed).with_tones(tones)).expect("few formats"))
}
