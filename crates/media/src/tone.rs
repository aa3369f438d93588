//! Sounds of our own making: tones, something like speech, and clips.

use std::f32::consts::TAU;
use std::sync::Arc;

use crate::frame::{Frame, SAMPLE_RATE, SAMPLES};

/// A steady sine.
#[derive(Clone, Copy, Debug)]
pub struct Sine {
    step: f32,
    phase: f32,
    amplitude: f32,
}

impl Sine {
    /// A tone of `frequency_hz` at `level_dbov`; the loudest possible sine is at −3 dBov.
    pub fn new(frequency_hz: f32, level_dbov: f32) -> Self {
        let amplitude = (32_768.0 * std::f32::consts::SQRT_2 * 10_f32.powf(level_dbov / 20.0)).min(32_767.0);
        Self { step: TAU * frequency_hz / SAMPLE_RATE as f32, phase: 0.0, amplitude }
    }

    /// Writes the next 20 ms.
    pub fn next(&mut self, frame: &mut Frame) {
        for sample in frame.samples_mut() {
            *sample = (self.phase.sin() * self.amplitude) as i16;
            self.phase += self.step;
            if self.phase >= TAU {
                self.phase -= TAU;
            }
        }
    }
}

/// Something that sounds like speech; the same for the same seed.
#[derive(Clone, Debug)]
pub struct Speech {
    carrier: Sine,
}

impl Speech {
    /// A voice.
    pub fn new(seed: u64) -> Self {
        Self { carrier: Sine::new(110.0 + (seed % 100) as f32, -26.0) }
    }

    /// Writes the next 20 ms.
    pub fn next(&mut self, frame: &mut Frame) {
        self.carrier.next(frame);
    }
}

/// Recorded sound at 16 kHz, shared by those who play it.
#[derive(Clone, Debug)]
pub struct Clip {
    samples: Arc<[i16]>,
    position: usize,
    repeats: bool,
}

impl Clip {
    /// Plays `samples` once, then silence; or again and again.
    pub fn new(samples: Arc<[i16]>, repeats: bool) -> Self {
        Self { samples, position: 0, repeats }
    }

    /// Writes the next 20 ms.
    pub fn next(&mut self, frame: &mut Frame) {
        *frame = Frame::SILENCE;
        let mut written = 0;
        while written < SAMPLES && !self.is_over() {
            let count = (SAMPLES - written).min(self.samples.len() - self.position);
            frame.samples_mut()[written..written + count]
                .copy_from_slice(&self.samples[self.position..self.position + count]);
            written += count;
            self.position += count;
            if self.repeats && self.position == self.samples.len() {
                self.position = 0;
            }
        }
    }

    /// Whether all has been played.
    pub fn is_over(&self) -> bool {
        self.position >= self.samples.len()
    }
}
