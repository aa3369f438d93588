//! What a tick costs: receive, jitter buffer, decode, rank, mix, encode and packetise, without the sockets.
//!
//! The counter is participants, so that the time per item is what one participant costs a tick. `cargo bench -p media`.

use std::time::Instant;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use media::{Codec, Format, Frame, Port, PortConfig, PortId, Room, RoomConfig, Sine, Source, Speech, TICK};

fn main() {
    divan::main();
}

/// Ticks of packets that are played again and again.
const RECORDED: usize = 250;

/// A room, and what is sent to it.
struct Stage {
    rooms: Vec<Room>,
    /// For each recorded tick and talker a packet; listeners share one recording of silence.
    packets: Vec<Vec<Vec<u8>>>,
    start: Instant,
    tick: usize,
}

impl Stage {
    fn new(codec: Codec, rooms: usize, seats: usize, talkers: usize, listener: &Source) -> Self {
        let format = Format { payload_type: codec.static_payload_type().unwrap_or(111), codec };
        let port = |seed| Port::new(PortConfig::new(format, seed)).expect("a port");
        let rooms = (0..rooms)
            .map(|_| {
                let mut room = Room::new(RoomConfig::default());
                for seat in 0..seats {
                    room.insert(PortId(seat as u64), Box::new(port(seat as u64))).expect("a seat");
                }
                room
            })
            .collect();
        let packets = (0..=talkers)
            .map(|talker| {
                let mut source = match talker {
                    0 => listener.clone(),
                    _ if codec == Codec::Opus => Source::Speech(Box::new(Speech::new(talker as u64))),
                    _ => Source::Tone(Sine::new(300.0 + 100.0 * talker as f32, -25.0)),
                };
                let mut sender = port(1_000 + talker as u64);
                let mut packets = Vec::new();
                for _ in 0..RECORDED {
                    let mut frame = Frame::SILENCE;
                    source.next(&mut frame);
                    sender.push(&frame, &mut |packet| packets.push(packet.to_vec()));
                }
                packets
            })
            .collect();
        #[expect(clippy::disallowed_methods, reason = "a turned clock needs one instant to count from")]
        let start = Instant::now();
        let mut stage = Self { rooms, packets, start, tick: 0 };
        (0..100).for_each(|_| stage.turn());
        stage
    }

    fn turn(&mut self) {
        let now = self.start + TICK * self.tick as u32;
        let talkers = self.packets.len() - 1;
        for room in &mut self.rooms {
            for seat in 0..room.len() {
                let talker = if seat < talkers { seat + 1 } else { 0 };
                let packet = &mut self.packets[talker][self.tick % RECORDED];
                // Numbered and stamped on across repetitions.
                let step = self.tick as u32;
                packet[2..4].copy_from_slice(&(step as u16).to_be_bytes());
                let per_tick = room.port(PortId(seat as u64)).expect("a seat").config().send.codec.clock_rate() / 50;
                packet[4..8].copy_from_slice(&(step * per_tick).to_be_bytes());
                room.receive(now, PortId(seat as u64), packet);
            }
            room.tick(now, &mut |id, packet| {
                black_box((id, packet));
            });
        }
        self.tick += 1;
    }
}

fn bench(bencher: Bencher<'_, '_>, codec: Codec, rooms: usize, seats: usize, talkers: usize) {
    bench_with(bencher, codec, rooms, seats, talkers, &Source::Silence);
}

fn bench_with(bencher: Bencher<'_, '_>, codec: Codec, rooms: usize, seats: usize, talkers: usize, listener: &Source) {
    let mut stage = Stage::new(codec, rooms, seats, talkers, listener);
    bencher.counter(ItemsCount::new(rooms * seats)).bench_local(|| stage.turn());
}

/// 120 rooms of ten, everybody talks: 1,200 participants.
#[divan::bench(sample_count = 100)]
fn pcmu_rooms_of_10_all_talk(bencher: Bencher<'_, '_>) {
    bench(bencher, Codec::Pcmu, 120, 10, 10);
}

/// One room of 1,000, three talk.
#[divan::bench(sample_count = 100)]
fn pcmu_one_room_of_1000_three_talk(bencher: Bencher<'_, '_>) {
    bench(bencher, Codec::Pcmu, 1, 1_000, 3);
}

/// Ten rooms of ten, everybody talks.
#[divan::bench(sample_count = 50)]
fn g722_rooms_of_10_all_talk(bencher: Bencher<'_, '_>) {
    bench(bencher, Codec::G722, 10, 10, 10);
}

/// One room of 400, three talk, the others send the noise of a quiet room at −62 dBov, as phones without a voice
/// detector do.
#[divan::bench(sample_count = 100)]
fn opus_one_room_of_400_three_talk_others_noisy(bencher: Bencher<'_, '_>) {
    let mut random = 1_u32;
    let noise: Vec<i16> = (0..80_000)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) as i16 / 720
        })
        .collect();
    bench_with(bencher, Codec::Opus, 1, 400, 3, &Source::Clip(media::Clip::new(noise.into(), true)));
}

/// One room of 400, three talk, the others send digital silence.
#[divan::bench(sample_count = 100)]
fn opus_one_room_of_400_three_talk(bencher: Bencher<'_, '_>) {
    bench(bencher, Codec::Opus, 1, 400, 3);
}

/// Ten rooms of ten, everybody talks: an encode each.
#[divan::bench(sample_count = 30)]
fn opus_rooms_of_10_all_talk(bencher: Bencher<'_, '_>) {
    bench(bencher, Codec::Opus, 10, 10, 10);
}
