//! One tick of sound: 20 ms of mono PCM at 16 kHz, and how loud it is.

use std::time::Duration;

/// How often everything happens: a mixer turns, a packet leaves.
pub const TICK: Duration = Duration::from_millis(20);
/// The same in milliseconds.
pub const TICK_MS: u32 = 20;
/// Samples a second in a [`Frame`].
pub const SAMPLE_RATE: u32 = 16_000;
/// Samples in a [`Frame`].
pub const SAMPLES: usize = 320;
/// What digital silence measures, in dBov (RFC 6464 §3 counts no further).
pub const SILENCE_DBOV: f32 = -127.0;

/// One tick of sound at 16 kHz.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame(pub [i16; SAMPLES]);

impl Frame {
    /// Digital silence.
    pub const SILENCE: Self = Self([0; SAMPLES]);

    /// The samples, oldest first.
    pub fn samples(&self) -> &[i16; SAMPLES] {
        &self.0
    }

    /// The samples, to be written.
    pub fn samples_mut(&mut self) -> &mut [i16; SAMPLES] {
        &mut self.0
    }

    /// How loud the frame is, in dBov: 0 is a full-scale square wave, −127 silence.
    pub fn level_dbov(&self) -> f32 {
        dbov(mean_square(&self.0))
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::SILENCE
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Frame({:.1} dBov)", self.level_dbov())
    }
}

/// How finely a leg's sound is sampled. Mixing at the talker's own rate saves two conversions a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// 8 kHz: G.711.
    Narrow,
    /// 16 kHz: everything else.
    Wide,
}

impl Band {
    /// Samples in 20 ms.
    pub const fn samples(self) -> usize {
        match self {
            Self::Narrow => SAMPLES / 2,
            Self::Wide => SAMPLES,
        }
    }
}

/// One tick of a leg's sound at the leg's own rate.
#[derive(Clone, Copy)]
pub(crate) struct Pcm {
    samples: [i16; SAMPLES],
    band: Band,
}

impl Pcm {
    pub(crate) const fn silent(band: Band) -> Self {
        Self { samples: [0; SAMPLES], band }
    }

    pub(crate) fn band(&self) -> Band {
        self.band
    }

    /// Another rate; what was in it means nothing afterwards.
    pub(crate) fn set_band(&mut self, band: Band) {
        self.band = band;
    }

    pub(crate) fn samples(&self) -> &[i16] {
        &self.samples[..self.band.samples()]
    }

    pub(crate) fn samples_mut(&mut self) -> &mut [i16] {
        &mut self.samples[..self.band.samples()]
    }
}

impl std::fmt::Debug for Pcm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pcm({:?}, {:.1} dBov)", self.band, level_dbov(self.samples()))
    }
}

/// The root mean square of some samples, in dBov.
pub fn level_dbov(samples: &[i16]) -> f32 {
    dbov(mean_square(samples))
}

/// The mean of the squared samples: what levels are kept as, because it needs no logarithm.
///
/// Eight running sums and not one: the compiler may then use vectors, which it must not for one sum of floats.
pub fn mean_square(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let mut sums = [0_f32; 8];
    let chunks = samples.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum();
    for chunk in chunks {
        for (sum, &sample) in sums.iter_mut().zip(chunk) {
            *sum += f32::from(sample) * f32::from(sample);
        }
    }
    (sums.iter().sum::<f32>() + rest) / samples.len() as f32
}

/// A mean square as a level in dBov.
pub fn dbov(mean_square: f32) -> f32 {
    const FULL_SCALE: f32 = 32_768.0 * 32_768.0;
    if mean_square <= 0.0 {
        return SILENCE_DBOV;
    }
    (10.0 * (mean_square / FULL_SCALE).log10()).max(SILENCE_DBOV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_square_wave_is_0_dbov_and_silence_is_the_floor() {
        let mut frame = Frame::SILENCE;
        assert!((frame.level_dbov() - SILENCE_DBOV).abs() < f32::EPSILON);
        for (index, sample) in frame.samples_mut().iter_mut().enumerate() {
            *sample = if index % 2 == 0 { i16::MAX } else { i16::MIN };
        }
        assert!(frame.level_dbov().abs() < 0.01);
    }

    #[test]
    fn half_the_amplitude_is_6_db_less() {
        let loud = level_dbov(&[8_000; 321]);
        let quiet = level_dbov(&[4_000; 321]);
        assert!((loud - quiet - 6.02).abs() < 0.01);
    }
}
