//! Filling gaps for codecs that cannot do it themselves: the last pitch period is repeated and faded out, in the manner
//! of ITU-T G.711 Appendix I.

use crate::frame::Band;

/// 25 ms at 16 kHz: a template of 10 ms and a lag of at most 15 ms.
const HISTORY: usize = 400;

/// What was heard last, and the pitch that is being repeated.
#[derive(Clone, Debug)]
pub(crate) struct Concealer {
    /// The newest sample last.
    history: [i16; HISTORY],
    /// The period being repeated, in samples; zero while nothing is.
    period: usize,
    /// Samples invented since the last true one.
    invented: usize,
}

impl Concealer {
    pub(crate) fn new() -> Self {
        Self { history: [0; HISTORY], period: 0, invented: 0 }
    }

    /// Notes sound that came. After a gap, its beginning is blended with what was being invented.
    pub(crate) fn heard(&mut self, samples: &mut [i16], band: Band) {
        if self.invented > 0 {
            // 5 ms of overlap.
            let overlap = (band.samples() / 4).min(samples.len());
            for (index, sample) in samples[..overlap].iter_mut().enumerate() {
                let invented = f32::from(self.repeat(band));
                let weight = index as f32 / overlap as f32;
                *sample = (f32::from(*sample) * weight + invented * (1.0 - weight)) as i16;
            }
            self.invented = 0;
            self.period = 0;
        }
        self.push(samples);
    }

    /// Invents sound.
    pub(crate) fn conceal(&mut self, samples: &mut [i16], band: Band) {
        if self.invented == 0 {
            self.period = self.pitch(band);
        }
        for sample in samples {
            *sample = self.repeat(band);
        }
    }

    fn push(&mut self, samples: &[i16]) {
        let newest = &samples[samples.len().saturating_sub(HISTORY)..];
        self.history.copy_within(newest.len().., 0);
        self.history[HISTORY - newest.len()..].copy_from_slice(newest);
    }

    /// The next invented sample: whole for 10 ms, then a fifth less every 10 ms, nothing after 60 ms.
    fn repeat(&mut self, band: Band) -> i16 {
        let ten_ms = (band.samples() / 2) as f32;
        let gain = (1.0 - 0.2 * (self.invented as f32 / ten_ms - 1.0)).clamp(0.0, 1.0);
        let sample = self.history[HISTORY - self.period + self.invented % self.period];
        self.invented += 1;
        (f32::from(sample) * gain) as i16
    }

    /// The lag between 5 and 15 ms at which the last 10 ms are most like what went before.
    ///
    /// Every other sample is looked at: pitch lies far below a quarter of the sampling rate.
    fn pitch(&self, band: Band) -> usize {
        let per_ms = band.samples() / 20;
        let template = &self.history[HISTORY - 10 * per_ms..];
        let mut best = (0.0_f32, 10 * per_ms);
        for lag in 5 * per_ms..=15 * per_ms {
            let before = &self.history[HISTORY - 10 * per_ms - lag..HISTORY - lag];
            let (mut product, mut energy) = (0.0_f32, 1.0_f32);
            for (&now, &then) in template.iter().zip(before).step_by(2) {
                product += f32::from(now) * f32::from(then);
                energy += f32::from(then) * f32::from(then);
            }
            let likeness = product.max(0.0) * product.max(0.0) / energy;
            if likeness > best.0 {
                best = (likeness, lag);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, SAMPLES, level_dbov};
    use crate::goertzel::Goertzel;
    use crate::tone::Sine;

    #[test]
    fn a_tone_goes_on_through_a_gap_and_fades() {
        let (mut concealer, mut sine) = (Concealer::new(), Sine::new(200.0, -20.0));
        let mut frame = Frame::SILENCE;
        for _ in 0..5 {
            sine.next(&mut frame);
            concealer.heard(frame.samples_mut(), Band::Wide);
        }
        concealer.conceal(frame.samples_mut(), Band::Wide);
        let mut ear = Goertzel::new(200.0);
        ear.hear(&frame);
        assert!(ear.take_level_dbov() > -23.0);
        let mut last = [0; SAMPLES];
        for _ in 0..3 {
            concealer.conceal(&mut last, Band::Wide);
        }
        assert!(level_dbov(&last) < -100.0);
        sine.next(&mut frame);
        concealer.heard(frame.samples_mut(), Band::Wide);
        assert!(frame.level_dbov() > -22.0);
    }
}
