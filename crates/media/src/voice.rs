//! Who is talking: energy against a noise floor, with hang-over.

/// Watches one leg, tick by tick. Levels are mean squares; no logarithm is taken.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    floor: f32,
    loudness: f32,
    hang_over: u8,
}

impl Voice {
    /// Above the floor by this much (7 dB) is a voice.
    const ABOVE_FLOOR: f32 = 5.0;
    /// −65 dBov: less is never a voice.
    const FLOOR_MIN: f32 = 340.0;
    /// −50 dBov: the floor learns room noise and not steady music or tones, which must be heard for as long as they last.
    const FLOOR_MAX: f32 = 10_700.0;
    /// 400 ms: the pause between two words is no silence.
    const HANG_OVER_TICKS: u8 = 20;

    /// Nothing heard yet.
    pub const fn new() -> Self {
        Self { floor: Self::FLOOR_MIN, loudness: 0.0, hang_over: 0 }
    }

    /// Hears one tick and says whether somebody talks.
    pub fn hear(&mut self, mean_square: f32) -> bool {
        if mean_square < self.floor {
            self.floor = (0.7 * self.floor + 0.3 * mean_square).max(Self::FLOOR_MIN);
        } else {
            // 1 dB a second.
            self.floor = (self.floor * 1.0046).min(Self::FLOOR_MAX);
        }
        // Up at once, down by half in 140 ms.
        self.loudness = mean_square.max(self.loudness * 0.905 + mean_square * 0.095);
        if mean_square > self.floor * Self::ABOVE_FLOOR {
            self.hang_over = Self::HANG_OVER_TICKS;
        } else {
            self.hang_over = self.hang_over.saturating_sub(1);
        }
        self.is_talking()
    }

    /// Passes one tick in which nothing came.
    pub fn silence(&mut self) {
        self.loudness *= 0.905;
        self.hang_over = self.hang_over.saturating_sub(1);
    }

    /// Whether somebody talks, or did a moment ago.
    pub fn is_talking(&self) -> bool {
        self.hang_over > 0
    }

    /// How loud he is, for ranking: a mean square that rises at once and falls slowly.
    pub fn loudness(&self) -> f32 {
        self.loudness
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, mean_square};
    use crate::tone::{Sine, Speech};

    #[test]
    fn the_first_tick_of_speech_counts_and_pauses_do_not_end_it() {
        let mut voice = Voice::new();
        for _ in 0..100 {
            assert!(!voice.hear(4.0));
        }
        let mut speech = Speech::new(3);
        let mut frame = Frame::SILENCE;
        let talking = (0..250)
            .filter(|_| {
                speech.next(&mut frame);
                voice.hear(mean_square(frame.samples()))
            })
            .count();
        assert!(talking > 200, "{talking} of 250");
        for _ in 0..Voice::HANG_OVER_TICKS {
            voice.hear(0.0);
        }
        assert!(!voice.is_talking());
    }

    #[test]
    fn room_noise_becomes_silence_and_a_tone_never_does() {
        let (mut noisy, mut toned) = (Voice::new(), Voice::new());
        let mut sine = Sine::new(440.0, -35.0);
        let mut frame = Frame::SILENCE;
        for _ in 0..3_000 {
            noisy.hear(3_000.0);
            sine.next(&mut frame);
            toned.hear(mean_square(frame.samples()));
        }
        assert!(!noisy.is_talking());
        assert!(toned.is_talking());
    }
}
