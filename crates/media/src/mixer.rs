//! Sums once and subtracts per listener: linear in the number of legs, where the obvious way is quadratic.
//!
//! Every talker is summed at his own rate and only the two sums are converted, so that a room converts twice a tick
//! however many are in it. Conversion is linear: a talker subtracted from a sum leaves exactly the others.

use crate::frame::{Band, Pcm, SAMPLES};
use crate::resample::{Downsampler, Upsampler};

const NARROW: usize = SAMPLES / 2;

/// One room's mix, tick by tick.
#[derive(Debug)]
pub(crate) struct Mixer {
    narrow: [i32; NARROW],
    wide: [i32; SAMPLES],
    narrow_talkers: usize,
    wide_talkers: usize,
    up: Upsampler,
    down: Downsampler,
    limiter: Limiter,
}

impl Mixer {
    pub(crate) fn new() -> Self {
        Self {
            narrow: [0; NARROW],
            wide: [0; SAMPLES],
            narrow_talkers: 0,
            wide_talkers: 0,
            up: Upsampler::new(),
            down: Downsampler::new(),
            limiter: Limiter::new(),
        }
    }

    /// Begins a tick.
    pub(crate) fn begin(&mut self) {
        self.narrow.fill(0);
        self.wide.fill(0);
        (self.narrow_talkers, self.wide_talkers) = (0, 0);
    }

    /// Adds a talker.
    pub(crate) fn add(&mut self, pcm: &Pcm) {
        match pcm.band() {
            Band::Narrow => {
                self.narrow_talkers += 1;
                add(&mut self.narrow, pcm.samples());
            }
            Band::Wide => {
                self.wide_talkers += 1;
                add(&mut self.wide, pcm.samples());
            }
        }
    }

    /// Makes the sums of those bands whole that somebody listens to.
    pub(crate) fn finish(&mut self, narrow_wanted: bool, wide_wanted: bool) {
        let mut from_narrow = [0; SAMPLES];
        let goes_up = wide_wanted && self.narrow_talkers > 0;
        if goes_up {
            self.up.process(&self.narrow, &mut from_narrow);
        } else {
            self.up = Upsampler::new();
        }
        if narrow_wanted && self.wide_talkers > 0 {
            let mut from_wide = [0; NARROW];
            self.down.process(&self.wide, &mut from_wide);
            self.narrow.iter_mut().zip(from_wide).for_each(|(sum, more)| *sum += more);
        } else {
            self.down = Downsampler::new();
        }
        if goes_up {
            self.wide.iter_mut().zip(from_narrow).for_each(|(sum, more)| *sum += more);
        }
        let narrow = if narrow_wanted { peak(&self.narrow) } else { 0 };
        let wide = if wide_wanted { peak(&self.wide) } else { 0 };
        self.limiter.follow(narrow.max(wide));
    }

    /// How many are in the mix.
    pub(crate) fn talkers(&self) -> usize {
        self.narrow_talkers + self.wide_talkers
    }

    /// What a listener hears: everyone but himself. `own` is of the band of `heard`.
    pub(crate) fn without(&self, own: Option<&Pcm>, heard: &mut Pcm) {
        debug_assert!(own.is_none_or(|own| own.band() == heard.band()), "converted by the port");
        match heard.band() {
            Band::Narrow => self.limiter.write(&self.narrow, own.map(Pcm::samples), heard.samples_mut()),
            Band::Wide => self.limiter.write(&self.wide, own.map(Pcm::samples), heard.samples_mut()),
        }
    }
}

fn add(sum: &mut [i32], samples: &[i16]) {
    for (sum, &sample) in sum.iter_mut().zip(samples) {
        *sum += i32::from(sample);
    }
}

fn peak(sum: &[i32]) -> i32 {
    sum.iter().fold(0, |peak, &sample| peak.max(sample.abs()))
}

/// Turns the whole mix down when it is too loud, for all listeners alike, and slowly up again.
#[derive(Clone, Copy, Debug)]
struct Limiter {
    before: f32,
    gain: f32,
}

impl Limiter {
    /// The loudest the sum may be: 0.8 dB below what a sample holds.
    const PEAK_MAX: f32 = 30_000.0;
    /// How much of the way back is gone each tick: half in 140 ms.
    const RELEASE: f32 = 0.095;

    fn new() -> Self {
        Self { before: 1.0, gain: 1.0 }
    }

    fn follow(&mut self, peak: i32) {
        self.before = self.gain;
        let wanted = if peak as f32 > Self::PEAK_MAX { Self::PEAK_MAX / peak as f32 } else { 1.0 };
        self.gain = if wanted < self.gain { wanted } else { self.gain + (wanted - self.gain) * Self::RELEASE };
        if self.gain > 0.999 {
            self.gain = 1.0;
        }
    }

    fn write(self, sum: &[i32], own: Option<&[i16]>, heard: &mut [i16]) {
        match own {
            Some(own) => self.write_each(sum, |index| i32::from(own[index]), heard),
            None => self.write_each(sum, |_| 0, heard),
        }
    }

    /// The usual case, no gain, is arithmetic in whole numbers and becomes vectors.
    fn write_each(self, sum: &[i32], own: impl Fn(usize) -> i32, heard: &mut [i16]) {
        let sum = &sum[..heard.len()];
        if self.gain >= 1.0 && self.before >= 1.0 {
            for (index, sample) in heard.iter_mut().enumerate() {
                *sample = (sum[index] - own(index)).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            }
            return;
        }
        // The gain moves within the first quarter of the tick, so that it does not click.
        let ramp = heard.len() / 4;
        let step = (self.gain - self.before) / ramp as f32;
        for (index, sample) in heard.iter_mut().enumerate() {
            let gain = self.before + step * index.min(ramp) as f32;
            *sample = ((sum[index] - own(index)) as f32 * gain) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(band: Band, value: i16) -> Pcm {
        let mut pcm = Pcm::silent(band);
        pcm.samples_mut().fill(value);
        pcm
    }

    #[test]
    fn everyone_hears_the_others_and_not_himself() {
        let mut mixer = Mixer::new();
        let talkers = [constant(Band::Wide, 100), constant(Band::Wide, 20), constant(Band::Wide, 3)];
        mixer.begin();
        for talker in &talkers {
            mixer.add(talker);
        }
        mixer.finish(false, true);
        let mut heard = Pcm::silent(Band::Wide);
        mixer.without(None, &mut heard);
        assert_eq!(heard.samples()[0], 123);
        mixer.without(Some(&talkers[1]), &mut heard);
        assert_eq!(heard.samples()[319], 103);
    }

    #[test]
    fn bands_are_converted_in_the_sum() {
        let mut mixer = Mixer::new();
        let (narrow, wide) = (constant(Band::Narrow, 1_000), constant(Band::Wide, 300));
        for _ in 0..3 {
            mixer.begin();
            mixer.add(&narrow);
            mixer.add(&wide);
            mixer.finish(true, true);
        }
        let mut heard = Pcm::silent(Band::Narrow);
        mixer.without(Some(&narrow), &mut heard);
        assert!((i32::from(heard.samples()[80]) - 300).abs() <= 1);
        let mut heard = Pcm::silent(Band::Wide);
        mixer.without(Some(&wide), &mut heard);
        assert!((i32::from(heard.samples()[80]) - 1_000).abs() <= 1);
    }

    #[test]
    fn many_loud_voices_are_turned_down_and_not_clipped() {
        let mut mixer = Mixer::new();
        let loud = constant(Band::Wide, 20_000);
        let mut heard = Pcm::silent(Band::Wide);
        for _ in 0..2 {
            mixer.begin();
            (0..5).for_each(|_| mixer.add(&loud));
            mixer.finish(false, true);
            mixer.without(None, &mut heard);
        }
        assert!((i32::from(heard.samples()[300]) - 30_000).abs() < 10, "{}", heard.samples()[300]);
        for _ in 0..200 {
            mixer.begin();
            mixer.add(&loud);
            mixer.finish(false, true);
        }
        mixer.without(None, &mut heard);
        assert_eq!(heard.samples()[300], 20_000);
    }
}
