//! Opus at 16 kHz, and what its packets tell without being decoded.

mod encoder;

use std::sync::OnceLock;

use opus::Channels;

use crate::frame::{SAMPLE_RATE, SAMPLES};

pub(crate) use encoder::{Encoder, Refused};

/// One tick of silence, for a leg that nothing is said to and that has no encoder. At any bit rate it is the same: the
/// rate is a bound, and silence takes next to nothing. Made when it is first asked for.
pub(crate) fn silence() -> &'static [u8] {
    static SILENCE: OnceLock<Box<[u8]>> = OnceLock::new();
    SILENCE.get_or_init(|| {
        let mut bytes = [0; crate::limits::OPUS_PAYLOAD_BYTES_MAX];
        let mut length = 0;
        if let Ok(mut encoder) = Encoder::new(crate::codec::Codec::Opus.default_bitrate()) {
            // The first ticks are those of a beginning.
            for _ in 0..SETTLED_TICKS {
                length = encoder.encode(&[0; SAMPLES], &mut bytes).unwrap_or(0);
            }
        }
        bytes[..length].into()
    })
}

/// After this many ticks of digital silence the encoder says the same again and again.
pub(crate) const SETTLED_TICKS: u8 = 10;

/// The reference decoder.
pub(crate) struct Decoder(opus::Decoder);

impl Decoder {
    pub(crate) fn new() -> Result<Self, opus::Error> {
        Ok(Self(opus::Decoder::new(SAMPLE_RATE, Channels::Mono)?))
    }

    /// Decodes a packet and says how many samples it held.
    pub(crate) fn decode(&mut self, packet: &[u8], samples: &mut [i16]) -> Option<usize> {
        self.0.decode(packet, samples, false).ok()
    }

    /// Invents one tick, or finds it in the packet after it.
    pub(crate) fn conceal(&mut self, following: Option<&[u8]>, samples: &mut [i16]) -> Option<usize> {
        let tick = samples.get_mut(..SAMPLES)?;
        self.0.decode(following.unwrap_or_default(), tick, following.is_some()).ok()
    }
}

/// How long a packet lasts, in samples at 48 kHz (RFC 6716 §3.1); none if its first bytes are no Opus.
pub(crate) fn duration(packet: &[u8]) -> Option<u32> {
    let &toc = packet.first()?;
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    let total = frames * frame_duration(toc);
    // RFC 6716 §3.4: a packet holds at most 120 ms.
    (1..=5_760).contains(&total).then_some(total)
}

fn frame_duration(toc: u8) -> u32 {
    match toc >> 3 {
        config @ 0..12 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        config @ 12..16 => [480, 960][usize::from(config & 1)],
        config => 120 << (config & 3),
    }
}

/// Whether the sender's own detector heard a voice, where the packet says so.
///
/// RFC 6716 §4.2.3: the SILK layer begins with one bit per 20 ms, coded with even odds, so that the first bits of the
/// frame are the flags themselves. None for CELT, which has no such bits, and for packets of several frames.
pub(crate) fn voiced(packet: &[u8]) -> Option<bool> {
    let (&toc, frame) = packet.split_first()?;
    if toc >> 3 >= 16 || toc & 3 != 0 {
        return None;
    }
    let flags = (frame_duration(toc) / 960).max(1);
    frame.first().map(|byte| byte >> (8 - flags) != 0)
}

/// Whether a packet only says that there is nothing to say (discontinuous transmission).
pub(crate) fn is_silence(packet: &[u8]) -> bool {
    packet.len() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::tone::{Sine, Speech};

    #[test]
    fn a_packet_tells_how_long_it_is() {
        let mut encoder = Encoder::new(24_000).unwrap();
        let mut bytes = [0; 1_276];
        let length = encoder.encode(&[0; SAMPLES], &mut bytes).unwrap();
        assert_eq!(duration(&bytes[..length]), Some(960));
        assert_eq!(duration(&[]), None);
        assert_eq!(duration(&[3]), None);
        assert_eq!(duration(&[0b0001_1011, 3]), None, "three times 60 ms is more than Opus allows");
        assert_eq!(duration(&[0b0001_1000]), Some(2_880));
    }

    #[test]
    fn silence_and_speech_can_be_told_apart_without_decoding() {
        let mut encoder = Encoder::new(24_000).unwrap();
        let mut bytes = [0; 1_276];
        let mut voice = |frame: &Frame| {
            let length = encoder.encode(frame.samples(), &mut bytes).unwrap();
            voiced(&bytes[..length])
        };
        let mut speech = Speech::new(1);
        let heard = (0..100)
            .filter(|_| {
                let mut frame = Frame::SILENCE;
                speech.next(&mut frame);
                voice(&frame) == Some(true)
            })
            .count();
        assert!(heard > 50, "{heard} of 100");
        let heard = (0..100).filter(|_| voice(&Frame::SILENCE) == Some(true)).count();
        assert!(heard < 20, "{heard} of 100");
    }

    #[test]
    fn a_lost_tick_is_invented() {
        let (mut encoder, mut decoder) = (Encoder::new(24_000).unwrap(), Decoder::new().unwrap());
        let (mut sine, mut bytes, mut samples) = (Sine::new(440.0, -20.0), [0; 1_276], [0; SAMPLES]);
        for _ in 0..20 {
            let mut frame = Frame::SILENCE;
            sine.next(&mut frame);
            let length = encoder.encode(frame.samples(), &mut bytes).unwrap();
            assert_eq!(decoder.decode(&bytes[..length], &mut samples), Some(SAMPLES));
        }
        assert_eq!(decoder.conceal(None, &mut samples), Some(SAMPLES));
        assert!(crate::frame::level_dbov(&samples) > -26.0);
    }
}
