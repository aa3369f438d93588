//! Between 8 and 16 kHz, by half-band filters: flat to 3.3 kHz, images and aliases 60 dB down from 4.7 kHz.
//!
//! Every other coefficient of a half-band filter is zero and the middle one a half, so that one phase is a copy and the
//! other a short symmetric filter.

use std::sync::LazyLock;

use crate::frame::SAMPLES;

/// Coefficients of the phase that is not a copy.
const TAPS: usize = 24;
/// Samples kept from the tick before.
const KEPT: usize = TAPS - 1;
/// Where the copied phase lies in that past.
const MIDDLE: usize = TAPS / 2 - 1;
/// Samples in a tick at 8 kHz.
const NARROW: usize = SAMPLES / 2;

/// From 8 to 16 kHz, 0.7 ms late.
#[derive(Clone, Debug)]
pub struct Upsampler {
    past: [f32; KEPT],
}

impl Upsampler {
    /// With silence behind it.
    pub const fn new() -> Self {
        Self { past: [0.0; KEPT] }
    }

    /// Converts one tick.
    pub fn process(&mut self, narrow: &[i32; NARROW], wide: &mut [i32; SAMPLES]) {
        let mut line = [0.0; KEPT + NARROW];
        line[..KEPT].copy_from_slice(&self.past);
        for (place, &sample) in line[KEPT..].iter_mut().zip(narrow) {
            *place = sample as f32;
        }
        let between = filter(&line);
        for (index, pair) in wide.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            *pair = [line[index + MIDDLE] as i32, between[index] as i32];
        }
        self.past.copy_from_slice(&line[NARROW..]);
    }
}

impl Default for Upsampler {
    fn default() -> Self {
        Self::new()
    }
}

/// From 16 to 8 kHz, 0.7 ms late.
#[derive(Clone, Debug)]
pub struct Downsampler {
    even_past: [f32; KEPT],
    odd_past: [f32; KEPT],
}

impl Downsampler {
    /// With silence behind it.
    pub const fn new() -> Self {
        Self { even_past: [0.0; KEPT], odd_past: [0.0; KEPT] }
    }

    /// Converts one tick.
    pub fn process(&mut self, wide: &[i32; SAMPLES], narrow: &mut [i32; NARROW]) {
        let (mut even, mut odd) = ([0.0; KEPT + NARROW], [0.0; KEPT + NARROW]);
        even[..KEPT].copy_from_slice(&self.even_past);
        odd[..KEPT].copy_from_slice(&self.odd_past);
        for (index, pair) in wide.as_chunks::<2>().0.iter().enumerate() {
            even[KEPT + index] = pair[0] as f32;
            odd[KEPT + index] = pair[1] as f32;
        }
        let between = filter(&odd);
        // The odd samples around an even one are as many before it as after.
        for (index, sample) in narrow.iter_mut().enumerate() {
            *sample = (0.5 * (even[index + MIDDLE + 1] + between[index])) as i32;
        }
        self.even_past.copy_from_slice(&even[NARROW..]);
        self.odd_past.copy_from_slice(&odd[NARROW..]);
    }
}

impl Default for Downsampler {
    fn default() -> Self {
        Self::new()
    }
}

/// One coefficient at a time over all samples: the inner loop has no dependence and becomes vectors.
fn filter(line: &[f32; KEPT + NARROW]) -> [f32; NARROW] {
    let taps: &[f32; TAPS] = &HALF_BAND;
    let mut sums = [0.0; NARROW];
    for (offset, tap) in taps.iter().enumerate() {
        for (sum, sample) in sums.iter_mut().zip(&line[offset..offset + NARROW]) {
            *sum += tap * sample;
        }
    }
    sums
}

static HALF_BAND: LazyLock<[f32; TAPS]> = LazyLock::new(|| {
    let mut taps = [0.0; TAPS];
    for (index, tap) in taps.iter_mut().enumerate() {
        let place = index as f64 - (TAPS as f64 - 1.0) / 2.0;
        *tap = (sinc(place) * kaiser(place / (TAPS as f64 / 2.0), 5.65)) as f32;
    }
    // Silence and direct current must pass unchanged.
    let sum: f32 = taps.iter().sum();
    taps.map(|tap| tap / sum)
});

/// The normalised sine cardinal.
pub(crate) fn sinc(x: f64) -> f64 {
    let angle = x * std::f64::consts::PI;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// Kaiser's window at `x` between −1 and 1.
pub(crate) fn kaiser(x: f64, beta: f64) -> f64 {
    bessel(beta * (1.0 - x * x).max(0.0).sqrt()) / bessel(beta)
}

/// The modified Bessel function of order zero, by its series.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for index in 1..40 {
        term *= (x / (2.0 * f64::from(index))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, dbov};
    use crate::goertzel::Goertzel;

    /// A sine at either rate, one tick at a time.
    fn tick<const N: usize>(number: usize, hz: f32, rate: f32) -> [i32; N] {
        std::array::from_fn(|index| {
            let time = (number * N + index) as f64 / f64::from(rate);
            ((time * f64::from(hz) * std::f64::consts::TAU).sin() * 10_000.0) as i32
        })
    }

    fn level_at(hz: f32, wide: &[[i32; SAMPLES]]) -> f32 {
        let mut ear = Goertzel::new(hz);
        for tick in wide {
            ear.hear(&Frame(tick.map(|sample| sample as i16)));
        }
        ear.take_level_dbov()
    }

    const SINE_DBOV: f32 = -13.3;

    #[test]
    fn going_up_keeps_speech_and_rejects_images() {
        for hz in [200.0, 1_000.0, 2_000.0, 3_000.0, 3_300.0] {
            let mut up = Upsampler::new();
            let wide: Vec<_> = (0..30)
                .map(|number| {
                    let mut wide = [0; SAMPLES];
                    up.process(&tick(number, hz, 8_000.0), &mut wide);
                    wide
                })
                .collect();
            assert!((level_at(hz, &wide[5..]) - SINE_DBOV).abs() < 0.5, "{hz}: {}", level_at(hz, &wide[5..]));
            assert!(level_at(8_000.0 - hz, &wide[5..]) < -65.0, "{hz}: {}", level_at(8_000.0 - hz, &wide[5..]));
        }
    }

    #[test]
    fn going_down_keeps_speech_and_rejects_aliases() {
        for (hz, passes) in [(200.0, true), (3_300.0, true), (4_700.0, false), (6_000.0, false), (7_500.0, false)] {
            let mut down = Downsampler::new();
            let mut energy = 0.0;
            for number in 0..30 {
                let mut narrow = [0; NARROW];
                down.process(&tick(number, hz, 16_000.0), &mut narrow);
                if number >= 5 {
                    energy += narrow.iter().map(|&sample| (sample * sample) as f32).sum::<f32>();
                }
            }
            let level = dbov(energy / (25 * NARROW) as f32);
            if passes {
                assert!((level - SINE_DBOV).abs() < 0.5, "{hz}: {level}");
            } else {
                assert!(level < -65.0, "{hz}: {level}");
            }
        }
    }
}
