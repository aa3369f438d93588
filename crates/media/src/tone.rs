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

/// Something that sounds like speech and says nothing; the same for the same seed.
///
/// Syllables of a hiss and a vowel, two to four to a word, three to six words to a phrase. A vowel is a train of glottal
/// pulses through three resonances (formants), its pitch falling through the phrase; a hiss is noise through one.
#[derive(Clone, Debug)]
pub struct Speech {
    random: u64,
    /// Samples left of the segment, and its length.
    left: u32,
    length: u32,
    segment: Segment,
    syllables_left: u32,
    words_left: u32,
    base_hz: f32,
    /// Pitch in relation to the base; falls through a phrase.
    pitch: f32,
    glottis: f32,
    airflow: f32,
    formants: [Resonance; 3],
    hiss: Resonance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Pause,
    Hiss,
    Vowel,
}

/// First, second and third formant of some vowels, in hertz, for a voice of medium length.
const VOWELS: [[f32; 3]; 7] = [
    [730.0, 1_090.0, 2_440.0],
    [530.0, 1_840.0, 2_480.0],
    [270.0, 2_290.0, 3_010.0],
    [570.0, 840.0, 2_410.0],
    [300.0, 870.0, 2_240.0],
    [490.0, 1_350.0, 1_690.0],
    [640.0, 1_190.0, 2_390.0],
];

impl Speech {
    /// A voice: the seed says how high it is and what it babbles.
    pub fn new(seed: u64) -> Self {
        let mut speech = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            left: 0,
            length: 1,
            segment: Segment::Pause,
            syllables_left: 0,
            words_left: 0,
            base_hz: 0.0,
            pitch: 1.0,
            glottis: 0.0,
            airflow: 0.0,
            formants: [Resonance::default(); 3],
            hiss: Resonance::default(),
        };
        (0..8).for_each(|_| _ = speech.draw());
        speech.base_hz = 95.0 + 110.0 * speech.draw();
        speech
    }

    /// Writes the next 20 ms; about −24 dBov while it speaks.
    pub fn next(&mut self, frame: &mut Frame) {
        for sample in frame.samples_mut() {
            if self.left == 0 {
                self.begin_segment();
            }
            let value = match self.segment {
                Segment::Pause => 0.0,
                Segment::Hiss => 3_000.0 * self.envelope() * self.hiss_sample(),
                Segment::Vowel => 6_500.0 * self.envelope() * self.vowel_sample(),
            };
            self.left -= 1;
            *sample = value.clamp(-30_000.0, 30_000.0) as i16;
        }
    }

    fn begin_segment(&mut self) {
        let (segment, milliseconds) = match self.segment {
            Segment::Hiss => (Segment::Vowel, 90.0 + 130.0 * self.draw()),
            Segment::Vowel if self.syllables_left == 0 && self.words_left == 0 => {
                (Segment::Pause, 250.0 + 250.0 * self.draw())
            }
            Segment::Vowel if self.syllables_left == 0 => (Segment::Pause, 20.0 + 50.0 * self.draw()),
            Segment::Pause | Segment::Vowel => (Segment::Hiss, 30.0 + 60.0 * self.draw()),
        };
        match segment {
            Segment::Pause => {}
            Segment::Hiss => self.begin_syllable(),
            Segment::Vowel => {
                let vowel = VOWELS[(self.draw() * VOWELS.len() as f32) as usize % VOWELS.len()];
                for (formant, (hz, width)) in self.formants.iter_mut().zip(vowel.into_iter().zip([80.0, 110.0, 160.0]))
                {
                    formant.tune(hz, width);
                }
            }
        }
        self.segment = segment;
        self.length = (milliseconds * SAMPLE_RATE as f32 / 1_000.0) as u32;
        self.left = self.length;
    }

    fn begin_syllable(&mut self) {
        if self.syllables_left == 0 {
            if self.words_left == 0 {
                self.words_left = 3 + (self.draw() * 4.0) as u32;
                self.pitch = 1.15;
            }
            self.words_left -= 1;
            self.syllables_left = 2 + (self.draw() * 3.0) as u32;
        }
        self.syllables_left -= 1;
        self.pitch = (self.pitch * (0.95 + 0.08 * self.draw())).clamp(0.75, 1.3);
        let hz = 2_600.0 + 2_400.0 * self.draw();
        self.hiss.tune(hz, 900.0);
    }

    /// Rises and falls in 15 ms, and sinks a little in between.
    fn envelope(&self) -> f32 {
        let edge = SAMPLE_RATE as f32 * 0.015;
        let (gone, left) = ((self.length - self.left) as f32, self.left as f32);
        (gone / edge).min(left / edge).min(1.0) * (1.0 - 0.3 * gone / self.length as f32)
    }

    fn hiss_sample(&mut self) -> f32 {
        let noise = 2.0 * self.draw() - 1.0;
        self.hiss.process(noise)
    }

    fn vowel_sample(&mut self) -> f32 {
        let sinking = 1.0 - 0.06 * (self.length - self.left) as f32 / self.length as f32;
        self.glottis += self.base_hz * self.pitch * sinking / SAMPLE_RATE as f32;
        if self.glottis >= 1.0 {
            self.glottis -= 1.0;
        }
        // Air flows in a hump through the first 60 % of a period and stops abruptly; speech is how it changes.
        let airflow = if self.glottis < 0.6 {
            let open = self.glottis / 0.6;
            open * open * (3.0 - 3.0 * open)
        } else {
            0.0
        };
        let excitation = 70.0 * (airflow - self.airflow) + 0.07 * (2.0 * self.draw() - 1.0);
        self.airflow = airflow;
        let [first, second, third] = &mut self.formants;
        first.process(excitation) + 0.6 * second.process(excitation) + 0.3 * third.process(excitation)
    }

    /// Between 0 and 1 (xorshift).
    fn draw(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 40) as f32 / (1_u32 << 24) as f32
    }
}

/// A second-order resonator of unit gain at its peak.
#[derive(Clone, Copy, Debug, Default)]
struct Resonance {
    gain: f32,
    first: f32,
    second: f32,
    previous: f32,
    before: f32,
}

impl Resonance {
    fn tune(&mut self, hz: f32, width_hz: f32) {
        let radius = (-std::f32::consts::PI * width_hz / SAMPLE_RATE as f32).exp();
        let angle = TAU * hz / SAMPLE_RATE as f32;
        self.first = 2.0 * radius * angle.cos();
        self.second = -radius * radius;
        self.gain = (1.0 - radius) * (1.0 - 2.0 * radius * (2.0 * angle).cos() + radius * radius).sqrt();
    }

    fn process(&mut self, input: f32) -> f32 {
        let output = self.gain * input + self.first * self.previous + self.second * self.before;
        self.before = self.previous;
        self.previous = output;
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::level_dbov;

    fn seconds(speech: &mut Speech, seconds: usize) -> Vec<i16> {
        let mut samples = Vec::new();
        for _ in 0..seconds * 50 {
            let mut frame = Frame::SILENCE;
            speech.next(&mut frame);
            samples.extend_from_slice(frame.samples());
        }
        samples
    }

    #[test]
    fn speech_is_as_loud_as_speech_and_pauses() {
        for seed in 0..20 {
            let samples = seconds(&mut Speech::new(seed), 10);
            let level = level_dbov(&samples);
            assert!((-32.0..=-18.0).contains(&level), "seed {seed}: {level}");
            let quiet = samples.chunks(SAMPLES).filter(|tick| level_dbov(tick) < -60.0).count();
            assert!((10..250).contains(&quiet), "seed {seed}: {quiet} quiet ticks of 500");
            let clipped = samples.iter().filter(|sample| sample.unsigned_abs() >= 30_000).count();
            assert_eq!(clipped, 0, "seed {seed}");
        }
    }

    #[test]
    fn a_seed_is_a_voice() {
        assert_eq!(seconds(&mut Speech::new(7), 2), seconds(&mut Speech::new(7), 2));
        assert_ne!(seconds(&mut Speech::new(7), 2), seconds(&mut Speech::new(8), 2));
    }

    #[test]
    fn a_clip_is_played_once_or_again_and_again() {
        let samples: Arc<[i16]> = (0..400).collect();
        let (mut once, mut again) = (Clip::new(samples.clone(), false), Clip::new(samples, true));
        let mut frame = Frame::SILENCE;
        once.next(&mut frame);
        assert_eq!(frame.samples()[319], 319);
        once.next(&mut frame);
        assert_eq!((frame.samples()[79], frame.samples()[80]), (399, 0));
        assert!(once.is_over());
        again.next(&mut frame);
        again.next(&mut frame);
        assert_eq!((frame.samples()[79], frame.samples()[81]), (399, 1));
        assert!(!again.is_over());
        Clip::new(Arc::new([]), true).next(&mut frame);
        assert_eq!(frame, Frame::SILENCE);
    }
}
