//! How loud one frequency is: the ear of tests and of test lines.

use std::f32::consts::TAU;

use crate::frame::{Frame, SAMPLE_RATE, SAMPLES, dbov};

/// Listens for one frequency over blocks of whole frames.
#[derive(Clone, Copy, Debug)]
pub struct Goertzel {
    coefficient: f32,
    previous: f32,
    before: f32,
    frames: u32,
}

impl Goertzel {
    /// A detector for `frequency_hz`, at most half the sampling rate.
    pub fn new(frequency_hz: f32) -> Self {
        let coefficient = 2.0 * (TAU * frequency_hz / SAMPLE_RATE as f32).cos();
        Self { coefficient, previous: 0.0, before: 0.0, frames: 0 }
    }

    /// Listens to 20 ms more. The longer, the sharper: five frames tell 20 Hz apart.
    pub fn hear(&mut self, frame: &Frame) {
        for &sample in frame.samples() {
            let next = f32::from(sample) + self.coefficient * self.previous - self.before;
            self.before = self.previous;
            self.previous = next;
        }
        self.frames += 1;
    }

    /// The level of a sine of that frequency, dBov, over all since the last call; and starts again.
    pub fn take_level_dbov(&mut self) -> f32 {
        let samples = (self.frames as usize * SAMPLES) as f32;
        let energy =
            self.previous * self.previous + self.before * self.before - self.coefficient * self.previous * self.before;
        (self.previous, self.before, self.frames) = (0.0, 0.0, 0);
        if samples == 0.0 { crate::frame::SILENCE_DBOV } else { dbov(2.0 * energy / (samples * samples)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::Sine;

    #[test]
    fn it_hears_its_own_frequency_and_not_the_neighbour() {
        let mut sine = Sine::new(440.0, -20.0);
        let (mut own, mut other) = (Goertzel::new(440.0), Goertzel::new(500.0));
        for _ in 0..10 {
            let mut frame = Frame::SILENCE;
            sine.next(&mut frame);
            own.hear(&frame);
            other.hear(&frame);
        }
        assert!((own.take_level_dbov() + 20.0).abs() < 0.5);
        assert!(other.take_level_dbov() < -50.0);
    }
}
