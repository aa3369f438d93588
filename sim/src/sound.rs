//! Tones as packets of G.711, and an ear that tells them apart: nothing of `media` is believed.
//!
//! All tones are multiples of 50 Hz, so that 20 ms hold whole periods: a packet of a tone is always the same, and none
//! sounds like another.

use std::f64::consts::TAU;
use std::sync::OnceLock;

/// Tones that there are, up to 3,950 Hz; more calls at one time share them.
pub(crate) const TONES: u32 = 72;

/// Samples of 20 ms at 8 kHz.
const SAMPLES: usize = 160;

/// How strongly each tone was heard.
#[derive(Clone, Debug)]
pub(crate) struct Ear {
    power: [f64; TONES as usize],
    packets: u32,
}

impl Default for Ear {
    fn default() -> Self {
        Self { power: [0.0; TONES as usize], packets: 0 }
    }
}

fn hertz(tone: u32) -> f64 {
    f64::from(400 + 50 * (tone % TONES))
}

/// Sines and cosines of each tone.
fn probes() -> &'static [[(f64, f64); SAMPLES]] {
    static PROBES: OnceLock<Vec<[(f64, f64); SAMPLES]>> = OnceLock::new();
    PROBES.get_or_init(|| {
        let probe = |tone| {
            std::array::from_fn(|at| {
                let (sine, cosine) = (TAU * hertz(tone) * at as f64 / 8000.0).sin_cos();
                (sine, cosine)
            })
        };
        (0..TONES).map(probe).collect()
    })
}

fn payload(tone: u32) -> &'static [u8; SAMPLES] {
    static PAYLOADS: OnceLock<Vec<[u8; SAMPLES]>> = OnceLock::new();
    let all = PAYLOADS.get_or_init(|| {
        let of = |tone: usize| std::array::from_fn(|at| encode((probes()[tone][at].0 * 3_000.0) as i32));
        (0..TONES as usize).map(of).collect()
    });
    &all[(tone % TONES) as usize]
}

/// An RTP packet of a tone (RFC 3550 §5.1).
pub(crate) fn tone_packet(tone: u32, sequence: u16, source: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * SAMPLES as u32).to_be_bytes());
    packet.extend((0x5100_0000 | source).to_be_bytes());
    packet.extend(payload(tone));
    packet
}

impl Ear {
    pub(crate) fn hears(&mut self, payload: &[u8]) {
        self.packets += 1;
        let samples: Vec<f64> = payload.iter().map(|byte| f64::from(decode(*byte))).collect();
        for (power, probe) in self.power.iter_mut().zip(probes()) {
            let (mut sine, mut cosine) = (0.0, 0.0);
            for (sample, (s, c)) in samples.iter().zip(probe) {
                sine += sample * s;
                cosine += sample * c;
            }
            *power += (sine * sine + cosine * cosine) / (SAMPLES * SAMPLES / 4) as f64;
        }
    }

    /// The tones that are clearly heard, since it was last asked.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        let packets = f64::from(self.packets.max(1));
        let heard = self.power.iter().enumerate().filter(|(_, power)| (**power / packets).sqrt() > 600.0);
        let heard = heard.map(|(tone, _)| tone as u32).collect();
        *self = Self::default();
        heard
    }
}

/// µ-law (ITU-T G.711).
fn decode(byte: u8) -> i32 {
    let byte = !byte;
    let magnitude = (((i32::from(byte & 0x0f)) << 3) + 0x84) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

fn encode(sample: i32) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.abs().min(32_635) + 0x84;
    let exponent = (0..8).rev().find(|bit| magnitude & (1 << (bit + 7)) != 0).unwrap_or(0);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | (exponent << 4) | mantissa) as u8
}
