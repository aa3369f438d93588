//! One leg on a turned clock: jitter, packet times, silence on purpose, keys, reports.

use std::time::{Duration, Instant};

use crate::hall::{Dice, Hall, config, port, start};
use media::goertzel::Goertzel;
use media::rtp::packet::{HEADER_BYTES, Header, Packet};
use media::{Codec, Frame, PortId, Received, SAMPLES, Sine, Source, TICK, Tone};
use proptest::prelude::*;

/// The tone of [`packets`] is at −20 dBov.
const LOUD: f32 = -26.0;

/// Packets of a tone, as a phone sends them: 20 ms each.
fn packets(codec: Codec, count: usize) -> Vec<Vec<u8>> {
    let mut sender = port(codec, 5);
    let mut sine = Sine::new(440.0, -20.0);
    let mut packets = Vec::new();
    for _ in 0..count {
        let mut frame = Frame::SILENCE;
        sine.next(&mut frame);
        sender.push(&frame, &mut |packet| packets.push(packet.to_vec()));
    }
    packets
}

/// Delivers packets at their times, ticks, and says how loud each tick was.
fn play(codec: Codec, arrivals: &[(Duration, Vec<u8>)], ticks: u32) -> (Vec<f32>, Box<media::Port>) {
    let (mut port, start) = (port(codec, 6), start());
    let mut arrivals = arrivals.to_vec();
    arrivals.sort_by_key(|(at, _)| *at);
    let mut arrivals = arrivals.into_iter().peekable();
    let levels = (0..ticks)
        .map(|tick| {
            let now = TICK * tick;
            while let Some((at, packet)) = arrivals.next_if(|(at, _)| *at <= now) {
                port.receive(start + at, &packet);
            }
            let mut frame = Frame::SILENCE;
            port.pull(start + now, &mut frame);
            frame.level_dbov()
        })
        .collect();
    (levels, port)
}

fn every_20_ms(packets: Vec<Vec<u8>>) -> Vec<(Duration, Vec<u8>)> {
    packets.into_iter().enumerate().map(|(index, packet)| (TICK * index as u32, packet)).collect()
}

#[test]
fn an_even_stream_is_played_whole_after_one_tick() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        let (levels, port) = play(codec, &every_20_ms(packets(codec, 100)), 100);
        assert!(levels[3..].iter().all(|&level| level > LOUD), "{codec:?}: {levels:?}");
        assert_eq!((port.stats().concealed, port.stats().delay_ms), (0, 20));
    }
}

#[test]
fn the_buffer_learns_how_uneven_the_network_is_and_forgets_it() {
    let mut dice = Dice(3);
    let sent = packets(Codec::Pcmu, 2_000);
    let arrivals: Vec<_> = sent
        .into_iter()
        .enumerate()
        .map(|(index, packet)| {
            let uneven = if index < 1_000 { dice.roll(90) } else { 0 };
            (TICK * index as u32 + Duration::from_millis(uneven), packet)
        })
        .collect();
    let (_, early) = play(Codec::Pcmu, &arrivals[..200], 200);
    let (_, learnt) = play(Codec::Pcmu, &arrivals[..1_000], 1_000);
    let (levels, calm) = play(Codec::Pcmu, &arrivals, 1_990);
    let (early, learnt, calm) = (early.stats(), learnt.stats(), calm.stats());
    assert!((80..=130).contains(&learnt.delay_ms), "{learnt:?}");
    assert!(learnt.concealed - early.concealed < 16, "2 % after it has learnt: {early:?} {learnt:?}");
    assert!(learnt.late < 40, "{learnt:?}");
    assert!((10.0..40.0).contains(&learnt.jitter_ms), "{learnt:?}");
    assert!(calm.delay_ms <= 30, "{calm:?}");
    assert!(levels[1_100..].iter().filter(|&&level| level < LOUD).count() < 5);
}

#[test]
fn a_tick_that_comes_late_is_no_loss() {
    // The edge reads its sockets when it ticks, and ticks up to 12 ms late.
    let mut dice = Dice(5);
    let (mut port, start) = (port(Codec::Pcmu, 1), start());
    let mut arrivals = every_20_ms(packets(Codec::Pcmu, 1_000)).into_iter().peekable();
    for tick in 0..990_u32 {
        let now = TICK * tick + Duration::from_micros(19_000 + dice.roll(12_000));
        while let Some((_, packet)) = arrivals.next_if(|(at, _)| *at <= now) {
            port.receive(start + now, &packet);
        }
        let mut frame = Frame::SILENCE;
        let heard = port.pull(start + now, &mut frame);
        assert!(heard || tick < 5, "{tick}");
    }
    let stats = port.stats();
    assert!(stats.concealed <= 1 && stats.late == 0 && stats.delay_ms <= 50, "{stats:?}");
}

#[test]
fn a_clock_that_runs_fast_or_slow_is_followed() {
    for step_us in [19_900, 20_100_u64] {
        let sent = packets(Codec::Pcmu, 3_000);
        let arrivals: Vec<_> = sent
            .into_iter()
            .enumerate()
            .map(|(index, packet)| (Duration::from_micros(step_us * index as u64), packet))
            .collect();
        let (levels, port) = play(Codec::Pcmu, &arrivals, 2_980);
        let stats = port.stats();
        // Half a percent over a minute is 15 packets.
        assert!(stats.concealed + stats.late < 40, "{step_us}: {stats:?}");
        assert!(levels.iter().filter(|&&level| level < LOUD).count() < 25, "{step_us}");
    }
}

#[test]
fn packets_of_any_length_are_played_whole() {
    for (codec, rate) in [(Codec::Pcmu, 8_000), (Codec::G722, 16_000), (Codec::Opus, 16_000)] {
        for milliseconds in [10, 20, 30, 40, 60] {
            if codec == Codec::Opus && milliseconds == 30 {
                continue;
            }
            let sent = if codec == Codec::Opus { opus_packets(milliseconds) } else { recut(codec, milliseconds) };
            assert!(rate % 1_000 == 0);
            let arrivals: Vec<_> = sent
                .into_iter()
                .enumerate()
                .map(|(index, packet)| (Duration::from_millis((index * milliseconds) as u64), packet))
                .collect();
            let (levels, port) = play(codec, &arrivals, 95);
            let stats = port.stats();
            assert_eq!((stats.concealed, stats.ignored, stats.late), (0, 0, 0), "{codec:?} {milliseconds}");
            assert!(levels[6..].iter().all(|&level| level > LOUD), "{codec:?} {milliseconds}: {levels:?}");
        }
    }
}

/// 2 s of G.711 or G.722 in packets of another length.
fn recut(codec: Codec, milliseconds: usize) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = packets(codec, 102).iter().flat_map(|packet| packet[HEADER_BYTES..].to_vec()).collect();
    bytes
        .chunks_exact(milliseconds * 8)
        .enumerate()
        .map(|(index, payload)| packet(codec, index as u16, (index * milliseconds * 8) as u32, payload))
        .collect()
}

/// 2 s of Opus in packets of another length.
fn opus_packets(milliseconds: usize) -> Vec<Vec<u8>> {
    let mut encoder = opus::Encoder::new(16_000, opus::Channels::Mono, opus::Application::Voip).expect("memory");
    let mut sine = Sine::new(440.0, -20.0);
    let samples: Vec<i16> = (0..103)
        .flat_map(|_| {
            let mut frame = Frame::SILENCE;
            sine.next(&mut frame);
            frame.0
        })
        .collect();
    samples
        .chunks_exact(milliseconds * 16)
        .enumerate()
        .map(|(index, block)| {
            let payload = encoder.encode_vec(block, 1_200).expect("room for a packet");
            packet(Codec::Opus, index as u16, (index * milliseconds * 48) as u32, &payload)
        })
        .collect()
}

fn packet(codec: Codec, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let payload_type = codec.static_payload_type().unwrap_or(111);
    let mut bytes = vec![0; HEADER_BYTES];
    Header { payload_type, marker: false, sequence, timestamp, ssrc: 9 }
        .write(bytes.first_chunk_mut().expect("as many bytes"));
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn silence_on_purpose_is_not_concealed() {
    // Numbers go on, time jumps: 1 s of speech, 1 s of nothing, 1 s of speech.
    for codec in [Codec::Pcmu, Codec::Opus] {
        let sent = packets(codec, 150);
        let per_tick = codec.clock_rate() / 50;
        let arrivals: Vec<_> = sent
            .iter()
            .enumerate()
            .filter(|(index, _)| !(50..100).contains(index))
            .map(|(index, bytes)| {
                let number = if index < 50 { index } else { index - 50 };
                let payload = &bytes[HEADER_BYTES..];
                (TICK * index as u32, packet(codec, number as u16, index as u32 * per_tick, payload))
            })
            .collect();
        let (levels, port) = play(codec, &arrivals, 150);
        let stats = port.stats();
        assert_eq!((stats.lost, stats.late), (0, 0));
        // The end of the first talk spurt looks like a loss for as long as concealment lasts.
        assert!(stats.concealed <= 5, "{codec:?}: {stats:?}");
        assert!(levels[104..].iter().all(|&level| level > LOUD), "{codec:?}: {levels:?}");
    }
}

#[test]
fn comfort_noise_ends_a_talk_spurt_at_once() {
    let mut arrivals = every_20_ms(packets(Codec::Pcmu, 50));
    let last = Packet::parse(&arrivals[49].1).unwrap().header;
    let header = Header {
        payload_type: 13,
        sequence: last.sequence.wrapping_add(1),
        timestamp: last.timestamp.wrapping_add(160),
        ..last
    };
    let mut noise = vec![0; HEADER_BYTES];
    header.write(noise.first_chunk_mut().unwrap());
    noise.push(70);
    arrivals.push((TICK * 50, noise));
    let (_, port) = play(Codec::Pcmu, &arrivals, 100);
    assert_eq!(port.stats().concealed, 0);
}

#[test]
fn a_restarted_stream_is_followed() {
    // The same source jumps to other numbers: the first stray is ignored, the second begins the stream anew.
    let payload = packets(Codec::Pcmu, 1)[0][HEADER_BYTES..].to_vec();
    let arrivals: Vec<_> = (0..100_u32)
        .map(|index| {
            let (number, stamp) =
                if index < 50 { (index, index * 160) } else { (30_000 + index, 9_000_000 + index * 160) };
            (TICK * index, packet(Codec::Pcmu, number as u16, stamp, &payload))
        })
        .collect();
    let (levels, port) = play(Codec::Pcmu, &arrivals, 100);
    assert!(levels[60..].iter().all(|&level| level > LOUD), "{levels:?}");
    assert_eq!(port.stats().ignored, 1);
}

#[test]
fn keys_are_heard_both_ways_even_when_many_packets_are_lost() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        let mut hall = Hall::new(&[codec; 2]);
        let mut dice = Dice(11);
        hall.phones[0].network = Box::new(move |packet| {
            let lost = dice.roll(10) < 3;
            if lost { Vec::new() } else { vec![(Duration::from_millis(dice.roll(30)), packet.to_vec())] }
        });
        hall.run(500);
        let mut events = Vec::new();
        hall.room.take_events(&mut |id, event| events.push((id, event)));
        assert!(events.len() == 2 && events.iter().all(|(_, event)| event.media_up));
        let keys = "0199*#AB";
        for key in keys.chars() {
            assert!(hall.phones[0].endpoint.send_tone(Tone::from_key(key).unwrap(), 120));
            assert!(hall.room.port_mut(PortId(1)).unwrap().send_tone(Tone::from_key(key).unwrap(), 120));
        }
        let (mut from_phone, mut to_phone) = (String::new(), String::new());
        for _ in 0..200 {
            hall.tick();
            hall.room.take_events(&mut |id, events| {
                assert_eq!(id, PortId(0));
                assert!(!events.media_up, "told once");
                from_phone.extend(events.tones().map(Tone::key));
            });
            to_phone.extend(hall.phones[1].endpoint.take_events().tones().map(Tone::key));
        }
        assert_eq!((from_phone.as_str(), to_phone.as_str()), (keys, keys), "{codec:?}");
        // Speech goes on afterwards.
        hall.prick_ears();
        hall.run(500);
        assert!(hall.heard(1, 0) > -26.0);
        assert!(hall.heard(0, 1) > -26.0);
    }
}

#[test]
fn a_leg_without_telephone_events_presses_no_keys() {
    let config = media::PortConfig { tones_send: None, ..config(Codec::Pcmu, 1) };
    assert!(!media::Port::new(config).unwrap().send_tone(Tone::FLASH, 100));
}

#[test]
fn reports_tell_both_sides_of_loss_and_round_trip() {
    let (mut ours, mut theirs) = (port(Codec::Pcmu, 1), port(Codec::Pcmu, 2));
    let start = start();
    let frame = Frame([500; SAMPLES]);
    let way = Duration::from_millis(30);
    let mut reports = 0;
    for tick in 0..1_000_u32 {
        let now = start + TICK * tick;
        ours.push(&frame, &mut |packet| {
            if tick % 4 != 0 {
                theirs.receive(now + way, packet);
            }
        });
        theirs.push(&frame, &mut |packet| _ = ours.receive(now + way, packet));
        if let Some(packet) = ours.rtcp(now).map(<[u8]>::to_vec) {
            reports += 1;
            theirs.receive_rtcp(now + way, &packet);
        }
        if let Some(packet) = theirs.rtcp(now).map(<[u8]>::to_vec) {
            assert_eq!(ours.receive(now + way, &packet), Received::Control);
        }
        let mut heard = Frame::SILENCE;
        ours.pull(now, &mut heard);
        theirs.pull(now, &mut heard);
    }
    assert!((3..=8).contains(&reports), "{reports}");
    let stats = ours.stats();
    let lost = stats.peer_fraction_lost.unwrap();
    assert!((60..=68).contains(&lost), "{lost} of 256");
    let trip = stats.round_trip_ms.unwrap();
    assert!((trip - 60.0).abs() < 2.0, "{trip}");
    assert!((245..=250).contains(&theirs.stats().lost), "{:?}", theirs.stats());
    assert_eq!(stats.packets_out, 1_000);
}

#[test]
fn opus_finds_a_lost_packet_in_the_next_one() {
    let mut encoder = opus::Encoder::new(16_000, opus::Channels::Mono, opus::Application::Voip).expect("memory");
    encoder.set_inband_fec(true).unwrap();
    encoder.set_packet_loss_perc(30).unwrap();
    encoder.set_bitrate(opus::Bitrate::Bits(32_000)).unwrap();
    // A tone that begins in the very packet that is lost cannot be guessed from what went before.
    let mut speech = media::Speech::new(2);
    let sent: Vec<_> = (0..100_u32)
        .map(|index| {
            let mut frame = Frame::SILENCE;
            speech.next(&mut frame);
            let payload = encoder.encode_vec(frame.samples(), 1_200).unwrap();
            (frame, packet(Codec::Opus, index as u16, index * 960, &payload))
        })
        .collect();
    let heard = |with_next: bool| {
        let (mut port, start) = (port(Codec::Opus, 1), start());
        let mut levels = Vec::new();
        for tick in 0..101_u32 {
            let now = start + TICK * tick;
            // Every tenth is lost; without the next one in time nothing can be found in it.
            if let Some((_, bytes)) = sent.get(tick as usize)
                && tick % 10 != 5
                && (with_next || tick % 10 != 6)
            {
                port.receive(now, bytes);
            }
            let mut frame = Frame::SILENCE;
            port.pull(now, &mut frame);
            levels.push(frame.level_dbov());
        }
        (levels, port.stats())
    };
    let (found, stats) = heard(true);
    assert_eq!(stats.concealed, 10, "{stats:?}");
    let (_, stats) = heard(false);
    assert!(stats.concealed >= 18, "{stats:?}");
    let spoken: Vec<f32> = sent.iter().map(|(frame, _)| frame.level_dbov()).collect();
    // Played one tick after they come, and 6 ms later for the codec.
    let close = (0..10).filter(|block| (found[block * 10 + 6] - spoken[block * 10 + 5]).abs() < 9.0).count();
    assert!(close >= 7, "{close} of 10 lost ticks are about as loud as they were");
}

#[test]
fn concealment_keeps_a_tone_that_loses_single_packets() {
    for codec in [Codec::Pcma, Codec::G722, Codec::Opus] {
        let arrivals: Vec<_> =
            every_20_ms(packets(codec, 200)).into_iter().enumerate().filter(|(index, _)| index % 7 != 3).collect();
        let arrivals: Vec<_> = arrivals.into_iter().map(|(_, arrival)| arrival).collect();
        let (levels, port) = play(codec, &arrivals, 200);
        // Opus fades what it invents sooner than we do.
        let floor = if codec == Codec::Opus { LOUD - 8.0 } else { LOUD };
        assert!(levels[4..195].iter().all(|&level| level > floor), "{codec:?}: {levels:?}");
        assert!((27..=30).contains(&port.stats().concealed), "{codec:?}: {:?}", port.stats());
    }
}

#[test]
fn an_endpoint_hears_what_is_said_to_it() {
    let start: Instant = start();
    let mut left = media::Endpoint::new(port(Codec::Pcmu, 1), Source::Tone(Sine::new(700.0, -15.0)));
    let mut right = media::Endpoint::new(port(Codec::Pcmu, 2), Source::Silence);
    let mut ear = Goertzel::new(700.0);
    for tick in 0..60_u32 {
        let now = start + TICK * tick;
        left.tick(now, &mut |packet| _ = right.receive(now, packet));
        right.tick(now, &mut |packet| _ = left.receive(now, packet));
        if tick >= 10 {
            ear.hear(right.heard());
        }
    }
    assert!((ear.take_level_dbov() + 15.0).abs() < 1.0);
    assert!(left.heard().level_dbov() < -90.0);
    assert!(right.take_events().media_up);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, in whatever order, nothing panics and every tick is answered.
    #[test]
    fn anything_may_arrive(
        codec in prop::sample::select(vec![Codec::Pcmu, Codec::G722, Codec::Opus]),
        packets in prop::collection::vec(
            (0_u8..5, any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..400), 0_u64..100), 0..200),
    ) {
        let mut port = port(codec, 1);
        let mut now = start();
        let mut frame = Frame::SILENCE;
        for (kind, sequence, timestamp, payload, wait) in packets {
            now += Duration::from_millis(wait);
            let bytes = match kind {
                0 => payload.clone(),
                1 => packet(codec, sequence, timestamp, &payload),
                2 => packet(codec, sequence % 64, timestamp % 20_000, &payload),
                3 => {
                    let mut bytes = packet(codec, sequence % 64, timestamp % 20_000, &payload);
                    bytes[1] = crate::hall::TELEPHONE_EVENT;
                    bytes
                }
                _ => {
                    let mut bytes = packet(codec, sequence, timestamp, &payload);
                    bytes[1] = 200 + (sequence % 8) as u8;
                    bytes
                }
            };
            port.receive(now, &bytes);
            port.pull(now, &mut frame);
            let _ = port.rtcp(now);
        }
    }
}
