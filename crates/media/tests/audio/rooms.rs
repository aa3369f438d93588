//! Everyone speaks a tone of his own through real packets: each must hear all others, and not himself.

use std::time::Duration;

use crate::hall::{Dice, Hall, SPOKEN_DBOV, config, frequency, port};
use media::port::{Ignored, Received};
use media::{Codec, Direction, Format, PortConfig, PortId, Room, RoomConfig, Sine, Source, Speech};

const ALL: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];

/// Everyone hears each other phone within `tolerance` dB of what it says, and neither himself nor anything else.
fn assert_all_hear_all(hall: &Hall, tolerance: f32) {
    let count = hall.phones.len();
    for listener in 0..count {
        for speaker in 0..=count {
            let level = hall.heard(listener, speaker);
            if speaker == listener || speaker == count {
                assert!(level < SPOKEN_DBOV - 22.0, "{listener} hears {speaker} at {level}");
            } else {
                assert!((level - SPOKEN_DBOV).abs() < tolerance, "{listener} hears {speaker} at {level}");
            }
        }
    }
}

#[test]
fn each_hears_all_others_and_not_himself_in_every_codec() {
    for codec in ALL {
        let mut hall = Hall::new(&[codec; 4]);
        hall.run(1_000);
        hall.prick_ears();
        hall.run(1_000);
        // Opus is made for speech: of four pure tones it keeps each to some decibels.
        assert_all_hear_all(&hall, if codec == Codec::Opus { 6.0 } else { 1.0 });
    }
}

#[test]
fn codecs_mix() {
    let mut hall = Hall::new(&[Codec::Pcmu, Codec::Opus, Codec::Pcma, Codec::G722, Codec::Pcmu]);
    hall.run(1_000);
    hall.prick_ears();
    hall.run(1_000);
    assert_all_hear_all(&hall, 6.0);
}

#[test]
fn ten_may_talk_at_once() {
    let mut hall = Hall::new(&[Codec::Pcmu; 10]);
    hall.run(1_000);
    hall.prick_ears();
    hall.run(2_000);
    for listener in 0..10 {
        for speaker in 0..10 {
            let level = hall.heard(listener, speaker);
            assert_eq!(level > SPOKEN_DBOV - 6.0, speaker != listener, "{listener} hears {speaker} at {level}");
        }
    }
    assert_eq!(hall.room.stats().talkers, 10);
}

#[test]
fn a_leg_may_send_one_codec_and_receive_another() {
    let mut hall = Hall::new(&[Codec::Pcmu; 3]);
    let both =
        |send: Codec, receive: Codec, seed| PortConfig { receive: config(receive, seed).receive, ..config(send, seed) };
    hall.room.reconfigure(PortId(1), both(Codec::G722, Codec::Pcmu, 1)).unwrap().unwrap();
    hall.phones[1].endpoint.port_mut().reconfigure(both(Codec::Pcmu, Codec::G722, 1_001)).unwrap();
    hall.room.reconfigure(PortId(2), both(Codec::Pcma, Codec::Opus, 2)).unwrap().unwrap();
    hall.phones[2].endpoint.port_mut().reconfigure(both(Codec::Opus, Codec::Pcma, 1_002)).unwrap();
    hall.run(1_000);
    hall.prick_ears();
    hall.run(1_000);
    assert_all_hear_all(&hall, 4.0);
}

#[test]
fn a_bad_network_harms_that_leg_only() {
    let mut hall = Hall::new(&[Codec::Pcmu, Codec::Opus, Codec::G722, Codec::Pcmu]);
    let mut dice = Dice(7);
    let mut held_back: Vec<Vec<u8>> = Vec::new();
    // Who comes first is who is heard; the edge lets only packets from the agreed address come at all.
    hall.run(100);
    hall.phones[3].network = Box::new(move |packet| {
        let now = |packet: &[u8]| (Duration::ZERO, packet.to_vec());
        let mut arrive = Vec::new();
        // Noise at full level from elsewhere, on the wrong source and on the wrong payload type.
        let mut stranger = packet.to_vec();
        stranger[8] ^= 0xff;
        stranger[12..].fill(0x80);
        arrive.push(now(&stranger));
        let mut unknown = packet.to_vec();
        unknown[1] = 96;
        arrive.push(now(&unknown));
        arrive.push(now(&packet[..packet.len().min(11)]));
        match dice.roll(20) {
            // 40 % are lost.
            0..8 => {}
            // Some are sent twice, some late, some in a burst.
            8..10 => arrive.extend([now(packet), now(packet)]),
            10..12 => arrive.push((Duration::from_millis(60), packet.to_vec())),
            12 => held_back.push(packet.to_vec()),
            _ => {
                arrive.push(now(packet));
                arrive.extend(held_back.drain(..).map(|packet| (Duration::ZERO, packet)));
            }
        }
        arrive
    });
    hall.run(1_000);
    for _ in 0..5 {
        hall.prick_ears();
        hall.run(400);
        for listener in 0..3 {
            for speaker in 0..3 {
                let level = hall.heard(listener, speaker);
                if listener == speaker {
                    assert!(level < -38.0, "{listener} hears himself at {level}");
                } else {
                    assert!((level - SPOKEN_DBOV).abs() < 6.0, "{listener} hears {speaker} at {level}");
                }
            }
            assert!(hall.heard(listener, 3) > -34.0, "the bad leg is heard, concealed: {}", hall.heard(listener, 3));
            assert!(hall.phones[listener].levels.iter().all(|&level| level < -11.0), "no noise comes through");
        }
    }
    let stats = hall.room.port(PortId(3)).unwrap().stats();
    assert!(stats.lost > 30 && stats.duplicate > 5 && stats.ignored > 300 && stats.concealed > 20, "{stats:?}");
}

#[test]
fn a_moved_leg_loses_at_most_one_tick() {
    for codec in ALL {
        let mut hall = Hall::new(&[codec; 2]);
        // The other room has one listener; both rooms turn at the same moments.
        let mut other = Room::new(RoomConfig::default());
        let mut listener = media::Endpoint::new(port(codec, 77), Source::Silence);
        other.insert(PortId(0), port(codec, 78)).unwrap();
        let (mut in_first, mut in_second, mut to_moved) = (0, 0, Vec::new());
        for tick in 0..200 {
            if tick == 100 {
                let port = hall.room.remove(PortId(1)).unwrap();
                assert!(hall.room.port(PortId(1)).is_none());
                other.insert(PortId(1), port).unwrap();
            }
            let now = hall.now;
            // Phone 1 says its tone to whichever room it is in.
            let mut said = Vec::new();
            hall.phones[1].endpoint.tick(now, &mut |packet| said.push(packet.to_vec()));
            for packet in said {
                let room = if tick < 100 { &mut hall.room } else { &mut other };
                assert_eq!(room.receive(now, PortId(1), &packet), Some(Received::Audio));
            }
            let (mut to_first, mut to_second) = (Vec::new(), Vec::new());
            hall.room.tick(now, &mut |id, packet| {
                if id == PortId(0) { to_first.push(packet.to_vec()) } else { to_moved.push(packet.to_vec()) }
            });
            other.tick(now, &mut |id, packet| {
                if id == PortId(0) { to_second.push(packet.to_vec()) } else { to_moved.push(packet.to_vec()) }
            });
            let first = &mut hall.phones[0].endpoint;
            first.tick(now, &mut |_| {});
            listener.tick(now, &mut |_| {});
            in_first += usize::from(first.heard().level_dbov() > -26.0);
            in_second += usize::from(listener.heard().level_dbov() > -26.0);
            for packet in &to_first {
                first.receive(now, packet);
            }
            for packet in &to_second {
                listener.receive(now, packet);
            }
            hall.now += media::TICK;
        }
        // Each listener's first ticks are spent in jitter buffers: 1 in the room and 2 at the phone. A listener whose
        // stream ends goes on for a while because his own phone conceals nothing: the room keeps sending silence.
        assert!((95..=100).contains(&in_first), "{codec:?}: {in_first}");
        assert!((98..=100).contains(&in_second), "{codec:?}: {in_second}");
        // What the moved phone is sent goes on without a gap: one packet a tick, numbered and stamped on.
        assert_eq!(to_moved.len(), 200);
        for pair in to_moved.windows(2) {
            let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
            let stamp = |packet: &[u8]| u32::from_be_bytes(packet[4..8].try_into().unwrap());
            assert_eq!(number(&pair[1]), number(&pair[0]).wrapping_add(1));
            assert_eq!(stamp(&pair[1]), stamp(&pair[0]).wrapping_add(codec.clock_rate() / 50));
            assert_eq!(pair[1][8..12], pair[0][8..12]);
        }
    }
}

#[test]
fn listeners_of_one_profile_share_one_encode() {
    let mut hall = Hall::new(&[Codec::Opus; 9]);
    for phone in &mut hall.phones[1..] {
        phone.endpoint.say(Source::Silence);
    }
    hall.run(1_000);
    let before = hall.room.stats();
    hall.prick_ears();
    hall.run(1_000);
    let stats = hall.room.stats();
    assert_eq!(stats.shared_encodes - before.shared_encodes, 50, "one for eight listeners");
    assert_eq!(stats.private_encodes - before.private_encodes, 50, "one for the talker");
    for listener in 1..9 {
        assert!((hall.heard(listener, 0) - SPOKEN_DBOV).abs() < 3.0);
        assert_eq!(hall.phones[listener].packets_heard, 50);
    }
}

#[test]
fn a_talker_keeps_his_own_encoder_for_a_while() {
    let mut hall = Hall::new(&[Codec::Opus; 3]);
    hall.run(1_000);
    hall.phones[0].endpoint.say(Source::Silence);
    hall.run(1_000);
    let before = hall.room.stats();
    assert_eq!(before.talkers, 2);
    hall.run(200);
    assert_eq!(hall.room.stats().private_encodes - before.private_encodes, 30, "1 s after: still three");
    hall.run(2_000);
    let before = hall.room.stats();
    hall.run(200);
    assert_eq!(hall.room.stats().private_encodes - before.private_encodes, 20, "later: two talkers");
}

#[test]
fn the_loudest_are_mixed_and_equals_do_not_alternate() {
    let mut hall = Hall::with(RoomConfig { talkers_max: 3, ..RoomConfig::default() }, &[Codec::Pcmu; 6]);
    for (index, phone) in hall.phones.iter_mut().enumerate() {
        let level = [-40.0, -20.0, -20.5, -42.0, -19.5, -41.0][index];
        phone.endpoint.say(Source::Tone(Sine::new(phone.hz, level)));
    }
    hall.run(1_000);
    hall.prick_ears();
    hall.run(1_000);
    for speaker in [1, 2, 4] {
        for listener in (0..6).filter(|&listener| listener != speaker) {
            assert!((hall.heard(listener, speaker) - SPOKEN_DBOV).abs() < 2.0);
        }
    }
    for speaker in [0, 3, 5] {
        assert!(hall.heard(1, speaker) < -50.0);
    }
    // A fourth as loud as the three does not displace one; a much louder one does.
    hall.phones[0].endpoint.say(Source::Tone(Sine::new(frequency(0), -18.5)));
    hall.run(200);
    hall.prick_ears();
    hall.run(400);
    assert!(hall.heard(5, 0) < -50.0);
    hall.phones[0].endpoint.say(Source::Tone(Sine::new(frequency(0), -12.0)));
    hall.run(200);
    hall.prick_ears();
    hall.run(400);
    assert!(hall.heard(5, 0) > -15.0);
    assert_eq!(hall.room.stats().talkers, 3);
}

#[test]
fn gates_say_who_is_heard_and_who_hears() {
    let mut hall = Hall::new(&[Codec::Pcmu, Codec::Opus, Codec::G722]);
    assert!(hall.room.set_gate(PortId(0), false, true));
    assert!(hall.room.set_gate(PortId(1), true, false));
    assert!(!hall.room.set_gate(PortId(9), true, true));
    hall.run(1_000);
    hall.prick_ears();
    hall.run(500);
    assert!(hall.heard(2, 0) < -60.0, "the muted is not heard");
    assert!(hall.heard(0, 2) > -23.0, "but hears");
    assert!(hall.phones[1].levels.iter().all(|&level| level < -60.0), "the deaf hears nothing");
    assert_eq!(hall.phones[1].packets_heard, 25, "but is sent packets");
    assert!(hall.heard(2, 1) > -23.0, "and is heard");
    hall.room.set_gate(PortId(0), true, true);
    hall.room.set_gate(PortId(1), true, true);
    hall.run(1_000);
    hall.prick_ears();
    hall.run(500);
    assert_all_hear_all(&hall, 6.0);
}

#[test]
fn hold_stops_one_way_or_both() {
    let mut hall = Hall::new(&[Codec::Pcmu; 3]);
    hall.run(500);
    hall.room.port_mut(PortId(0)).unwrap().set_direction(Direction::SendOnly);
    hall.room.port_mut(PortId(1)).unwrap().set_direction(Direction::Inactive);
    hall.run(500);
    hall.prick_ears();
    hall.run(500);
    assert!(hall.heard(2, 0) < -60.0 && hall.heard(2, 1) < -60.0);
    assert!(hall.heard(0, 2) > -23.0);
    assert_eq!(hall.phones[1].packets_heard, 0);
    hall.room.port_mut(PortId(0)).unwrap().set_direction(Direction::SendReceive);
    hall.room.port_mut(PortId(1)).unwrap().set_direction(Direction::SendReceive);
    hall.run(500);
    hall.prick_ears();
    hall.run(500);
    assert_all_hear_all(&hall, 1.0);
}

#[test]
fn a_renegotiated_leg_goes_on() {
    let mut hall = Hall::new(&[Codec::Pcmu; 2]);
    hall.run(500);
    let ssrc = hall.room.port(PortId(0)).unwrap().ssrc();
    hall.room.reconfigure(PortId(0), config(Codec::Pcma, 5)).unwrap().unwrap();
    hall.phones[0].endpoint.port_mut().reconfigure(config(Codec::Pcma, 6)).unwrap();
    hall.run(200);
    hall.prick_ears();
    hall.run(500);
    assert_all_hear_all(&hall, 1.0);
    assert_eq!(hall.room.port(PortId(0)).unwrap().ssrc(), ssrc, "the same clock, the same source");
    hall.room.reconfigure(PortId(0), config(Codec::Opus, 5)).unwrap().unwrap();
    hall.phones[0].endpoint.port_mut().reconfigure(config(Codec::Opus, 6)).unwrap();
    hall.run(1_000);
    hall.prick_ears();
    hall.run(500);
    assert_all_hear_all(&hall, 3.0);
    assert_ne!(hall.room.port(PortId(0)).unwrap().ssrc(), ssrc, "another clock, another source (RFC 7160)");
}

#[test]
fn another_source_is_heard_only_when_the_first_has_gone() {
    let mut hall = Hall::new(&[Codec::Pcmu; 2]);
    hall.run(500);
    let mut intruder = media::Endpoint::new(port(Codec::Pcmu, 500), Source::Tone(Sine::new(1_500.0, -6.0)));
    let now = hall.now;
    intruder.tick(now, &mut |packet| {
        let received = hall.room.receive(now, PortId(0), packet);
        assert_eq!(received, Some(Received::Ignored(Ignored::Source)));
    });
    // The phone is handed over to another device: the first falls silent, the second speaks.
    hall.phones[0].network = Box::new(|_| Vec::new());
    hall.run(600);
    let now = hall.now;
    intruder.tick(now, &mut |packet| {
        assert_eq!(hall.room.receive(now, PortId(0), packet), Some(Received::Audio));
    });
    // A stream that says good-bye may be followed at once.
    let bye = intruder.port_mut().rtcp_bye(now).to_vec();
    assert_eq!(hall.room.receive(now, PortId(0), &bye), Some(Received::Control));
    hall.phones[0].network = crate::hall::perfect();
    hall.run(200);
    hall.prick_ears();
    hall.run(500);
    assert_all_hear_all(&hall, 1.0);
}

#[test]
fn a_silent_room_encodes_silence_once_a_profile_and_tick() {
    let mut hall = Hall::new(&[Codec::Pcmu, Codec::Pcmu, Codec::Opus, Codec::Opus, Codec::Opus]);
    for phone in &mut hall.phones {
        phone.endpoint.say(Source::Silence);
    }
    hall.run(500);
    let before = hall.room.stats();
    hall.prick_ears();
    hall.run(500);
    let stats = hall.room.stats();
    assert_eq!(stats.talkers, 0);
    assert_eq!(stats.private_encodes, before.private_encodes);
    assert_eq!(stats.shared_encodes - before.shared_encodes, 2 * 25);
    assert!(hall.phones.iter().all(|phone| phone.packets_heard == 25));
    assert!(hall.phones.iter().all(|phone| phone.levels.iter().all(|&level| level < -80.0)));
}

#[test]
fn speech_is_heard_through_every_codec() {
    for codec in ALL {
        let mut hall = Hall::new(&[codec; 2]);
        hall.phones[0].endpoint.say(Source::Speech(Box::new(Speech::new(4))));
        hall.phones[1].endpoint.say(Source::Silence);
        hall.run(500);
        hall.prick_ears();
        hall.run(4_000);
        let loud = hall.phones[1].levels.iter().filter(|&&level| level > -40.0).count();
        assert!(loud > 80, "{codec:?}: {loud} of 200 ticks");
        let stats = hall.room.port(PortId(0)).unwrap().stats();
        assert_eq!((stats.lost, stats.late, stats.concealed), (0, 0, 0), "{codec:?}");
    }
}

#[test]
fn a_full_room_and_a_taken_name_give_the_port_back() {
    let mut room = Room::new(RoomConfig { ports_max: 2, ..RoomConfig::default() });
    room.insert(PortId(1), port(Codec::Pcmu, 1)).unwrap();
    assert_eq!(room.insert(PortId(1), port(Codec::Pcmu, 2)).unwrap_err().config().seed, 2);
    room.insert(PortId(0), port(Codec::Pcmu, 3)).unwrap();
    assert_eq!(room.insert(PortId(2), port(Codec::Pcmu, 4)).unwrap_err().config().seed, 4);
    assert_eq!(room.ids().collect::<Vec<_>>(), [PortId(0), PortId(1)]);
    assert_eq!((room.len(), room.is_empty()), (2, false));
    assert!(room.remove(PortId(7)).is_none());
    let too_many = vec![Format { payload_type: 0, codec: Codec::Pcmu }; 9];
    assert!(media::Port::new(PortConfig { receive: too_many, ..config(Codec::Pcmu, 1) }).is_err());
}

/// The most of what is heard in a tick of 20 ms that is no tone of `hz`: a filter that takes the tone out leaves clicks.
fn roughness(samples: &[i16], hz: f32) -> f32 {
    let turn = 2.0 * (std::f32::consts::TAU * hz / media::SAMPLE_RATE as f32).cos();
    let rest: Vec<f32> = samples
        .windows(3)
        .map(|three| f32::from(three[2]) - turn * f32::from(three[1]) + f32::from(three[0]))
        .collect();
    rest.chunks(320)
        .map(|tick| (tick.iter().map(|x| x * x).sum::<f32>() / tick.len() as f32).sqrt())
        .fold(0.0, f32::max)
}

#[test]
fn a_listener_who_begins_to_talk_and_ends_hears_no_seam() {
    // Phone 0 speaks a tone. Phone 1 listens through the shared encoder, talks for a while through its own, and comes back
    // to the shared one, which phone 2 has used all the time, or nobody.
    for others in [0, 1] {
        let mut codecs = vec![Codec::Opus; 2];
        codecs.extend(std::iter::repeat_n(Codec::Opus, others));
        let mut hall = Hall::new(&codecs);
        for quiet in &mut hall.phones[1..] {
            quiet.endpoint.say(Source::Silence);
        }
        let hz = hall.phones[0].hz;
        let record = |hall: &mut Hall, ticks: usize| {
            let mut samples = Vec::new();
            for _ in 0..ticks {
                hall.tick();
                samples.extend_from_slice(hall.phones[1].endpoint.heard().samples());
            }
            roughness(&samples, hz)
        };
        record(&mut hall, 100);
        let steady = record(&mut hall, 100);
        let shared = hall.room.stats().shared_encodes;
        let own = Sine::new(hall.phones[1].hz, -20.0);
        hall.phones[1].endpoint.say(Source::Tone(own));
        let begins = record(&mut hall, 25);
        hall.phones[1].endpoint.say(Source::Silence);
        // His hang-over, and the time for which he keeps his own.
        let ends = record(&mut hall, 200);
        assert!(hall.room.stats().shared_encodes > shared + 50, "he came back");
        println!("{others}: steady {steady}, begins {begins}, ends {ends}");
        assert!(begins < 1.5 * steady && ends < 1.5 * steady, "steady {steady}, begins {begins}, ends {ends}");
    }
}
