//! One phone's network is hostile: that leg only, and the others hear each other as if nothing was.

use std::time::Duration;

use media::Codec;

use crate::hall::{Dice, Hall, Network, SPOKEN_DBOV, perfect};

/// What comes with, or in place of, each true packet.
type Attack = fn(&mut Dice, u32, &[u8]) -> Vec<Vec<u8>>;

const HEADER: usize = 12;

fn noise(dice: &mut Dice, length: usize) -> Vec<u8> {
    (0..length).map(|_| dice.roll(256) as u8).collect()
}

/// The true packet, with other numbers, and noise in place of its payload.
fn forged(dice: &mut Dice, packet: &[u8], sequence: u16, timestamp: u32, ssrc: Option<u32>) -> Vec<u8> {
    let mut forged = packet[..HEADER].to_vec();
    forged[2..4].copy_from_slice(&sequence.to_be_bytes());
    forged[4..8].copy_from_slice(&timestamp.to_be_bytes());
    if let Some(ssrc) = ssrc {
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
    }
    forged.extend(noise(dice, 160));
    forged
}

fn numbers(packet: &[u8]) -> (u16, u32) {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    ((word(0) & 0xffff) as u16, word(4))
}

/// A packet that says of itself what is not so.
fn lying(packet: &[u8], first: u8, tail: &[u8]) -> Vec<u8> {
    let mut lying = packet.to_vec();
    lying[0] = first;
    lying.extend_from_slice(tail);
    lying
}

/// Attacks that leave the true packets alone: the leg itself is heard as well.
const BESIDE: [(&str, Attack); 9] = [
    ("a flood of another source", |dice, _, packet| {
        let (sequence, timestamp) = numbers(packet);
        (0..40).map(|more| forged(dice, packet, sequence.wrapping_add(more), timestamp, Some(0xbad))).collect()
    }),
    ("payload types that nobody agreed on", |dice, _, packet| {
        (1..128)
            .filter(|payload_type| ![0, 8, 9, 13, 101, 111].contains(payload_type))
            .map(|payload_type| {
                let mut other = forged(dice, packet, numbers(packet).0.wrapping_add(1), numbers(packet).1, None);
                other[1] = payload_type;
                other
            })
            .collect()
    }),
    ("RTCP that is garbage", |dice, tick, _| {
        (200..=207_u8)
            .map(|kind| {
                let length = dice.roll(200) as usize;
                let mut packet = vec![0x80 | dice.roll(64) as u8, kind, 0, (tick % 256) as u8];
                packet.extend(noise(dice, length));
                packet
            })
            .collect()
    }),
    ("a good-bye of somebody else, and reports about nobody", |_, _, _| {
        let bye = [&[0x82, 203, 0, 2][..], &0xbad_u32.to_be_bytes(), &0xbad1_u32.to_be_bytes()].concat();
        let report = [&[0x9f, 201, 0, 7][..], &7_u32.to_be_bytes(), &[0xff; 24]].concat();
        vec![bye, report]
    }),
    ("every packet fifty times", |_, _, packet| vec![packet.to_vec(); 50]),
    ("padding that is longer than the packet, or none", |_, _, packet| {
        vec![lying(packet, 0xa0, &[0xff]), lying(packet, 0xa0, &[0]), lying(&packet[..HEADER], 0xa0, &[])]
    }),
    ("sources that are not there", |_, _, packet| {
        vec![lying(&packet[..HEADER], 0x8f, &[]), lying(&packet[..HEADER + 20], 0x8f, &[])]
    }),
    ("an extension that has no end", |_, _, packet| {
        let endless = [&packet[..HEADER], &[0xbe, 0xde, 0xff, 0xff, 1, 2, 3, 4]].concat();
        vec![lying(&endless, 0x90, &[]), lying(&packet[..HEADER], 0x90, &[0xbe])]
    }),
    ("what is no RTP at all", |dice, tick, _| {
        let length = (tick % 300) as usize;
        vec![Vec::new(), vec![0x80], noise(dice, 11), vec![0; length], noise(dice, length)]
    }),
];

/// Attacks in the leg's own name: what it says cannot be told from what is forged.
const WITHIN: [(&str, Attack); 4] = [
    ("numbers that jump", |dice, _, packet| {
        let sequence = dice.roll(65_536) as u16;
        vec![forged(dice, packet, sequence, numbers(packet).1, None)]
    }),
    ("times that jump", |dice, _, packet| {
        let timestamp = dice.roll(1 << 32) as u32;
        vec![forged(dice, packet, numbers(packet).0.wrapping_add(1), timestamp, None)]
    }),
    ("bursts of a second", |dice, tick, packet| {
        let (sequence, timestamp) = numbers(packet);
        let count = if tick.is_multiple_of(25) { 50 } else { 0 };
        (0..count)
            .map(|more: u16| {
                forged(dice, packet, sequence.wrapping_add(more), timestamp.wrapping_add(u32::from(more) * 160), None)
            })
            .collect()
    }),
    ("a good-bye with every packet", |_, _, packet| vec![[&[0x81, 203, 0, 1][..], &packet[8..12]].concat()]),
];

fn network(attack: Attack) -> Network {
    let (mut dice, mut tick) = (Dice(0x5eed), 0);
    Box::new(move |packet| {
        tick += 1;
        // Half comes before the true packet, half after it.
        let mut all: Vec<_> =
            attack(&mut dice, tick, packet).into_iter().map(|forged| (Duration::ZERO, forged)).collect();
        all.insert(all.len() / 2, (Duration::ZERO, packet.to_vec()));
        all
    })
}

/// Both others hear each other, and nothing where nobody speaks unless the attacked leg may be noise itself.
fn assert_others_are_well(hall: &Hall, name: &str) {
    for (listener, speaker) in [(0, 1), (1, 0)] {
        let level = hall.heard(listener, speaker);
        assert!((level - SPOKEN_DBOV).abs() < 1.0, "{name}: {listener} hears {speaker} at {level}");
        assert!(hall.heard(listener, listener) < -45.0, "{name}: {listener} hears itself");
    }
}

#[test]
fn forged_packets_beside_the_true_ones_change_nothing() {
    for (name, attack) in BESIDE {
        let mut hall = Hall::new(&[Codec::Pcmu, Codec::Pcmu, Codec::Pcmu]);
        hall.run(400);
        hall.phones[2].network = network(attack);
        hall.run(600);
        hall.prick_ears();
        hall.run(2_000);
        assert_others_are_well(&hall, name);
        for listener in [0, 1] {
            let level = hall.heard(listener, 2);
            assert!((level - SPOKEN_DBOV).abs() < 1.0, "{name}: {listener} hears the attacked leg at {level}");
            assert!(hall.heard(listener, 3) < -60.0, "{name}: {listener} hears what nobody says");
        }
        assert!(hall.phones.iter().all(|phone| phone.packets_heard == 100), "{name}: one packet a tick");
    }
}

#[test]
fn a_leg_that_is_torn_apart_leaves_the_others_alone_and_recovers() {
    for (name, attack) in WITHIN {
        // Muted, so that what is heard of the others can be measured at all.
        let mut hall = Hall::new(&[Codec::Pcmu, Codec::Pcmu, Codec::Pcmu]);
        hall.run(400);
        hall.room.set_gate(media::PortId(2), false, true);
        hall.phones[2].network = network(attack);
        hall.run(600);
        hall.prick_ears();
        hall.run(2_000);
        assert_others_are_well(&hall, name);
        assert!(hall.heard(2, 0) > SPOKEN_DBOV - 1.0 && hall.heard(2, 1) > SPOKEN_DBOV - 1.0, "{name}: it hears");
        // In the mix it is as loud as it likes, but the others are still there.
        hall.room.set_gate(media::PortId(2), true, true);
        hall.run(200);
        hall.prick_ears();
        hall.run(1_000);
        assert!(hall.heard(0, 1) > SPOKEN_DBOV - 10.0 && hall.heard(1, 0) > SPOKEN_DBOV - 10.0, "{name}");
        assert!(hall.phones.iter().all(|phone| phone.packets_heard == 50), "{name}: one packet a tick");
        // It ends, and the leg is heard again.
        hall.phones[2].network = perfect();
        hall.run(2_000);
        hall.prick_ears();
        hall.run(1_000);
        for listener in [0, 1] {
            let level = hall.heard(listener, 2);
            assert!((level - SPOKEN_DBOV).abs() < 1.5, "{name}: {listener} hears the leg at {level} afterwards");
        }
        assert_others_are_well(&hall, name);
    }
}

#[test]
fn loss_shows_in_the_leg_s_opinion_score_and_in_no_other() {
    let mut hall = Hall::new(&[Codec::Pcmu, Codec::Pcmu, Codec::Pcmu]);
    let mut dice = Dice(0x1055);
    hall.phones[2].network =
        Box::new(move |packet| if dice.roll(10) < 4 { Vec::new() } else { vec![(Duration::ZERO, packet.to_vec())] });
    hall.run(4_000);
    hall.prick_ears();
    hall.run(2_000);
    assert_others_are_well(&hall, "40 % lost");
    let stats = |index| hall.room.port(media::PortId(index)).expect("a port").stats();
    assert!(stats(0).mos.is_some_and(|mos| mos > 4.2), "{:?}", stats(0));
    assert!(stats(2).mos.is_some_and(|mos| mos < 2.0), "{:?}", stats(2));
    assert_eq!(hall.phones[2].endpoint.stats().mos.map(|mos| mos > 4.2), Some(true), "what it hears is fine");
}
