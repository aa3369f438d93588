//! The way in: from packets that wait to one tick of sound.

use crate::codec::{Codec, Decoders, opus};
use crate::frame::{Band, Pcm, TICK_MS, mean_square};
use crate::limits::{G7XX_PAYLOAD_BYTES_MAX, OPUS_PAYLOAD_BYTES_MAX};
use crate::port::config::{Format, PortConfig, PortError};
use crate::port::outbound::mix;
use crate::port::report::Meter;
use crate::rtp::jitter::{Jitter, Next};
use crate::voice::Voice;

/// Samples that wait: the longest Opus packet (120 ms), one tick less a sample, and a second packet to be blended.
const FIFO: usize = 1_920 + 319 + 1_920;

/// A leg's incoming sound.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) jitter: Jitter,
    decoders: Decoders,
    fifo: Box<[i16; FIFO]>,
    waiting: usize,
    pcm: Pcm,
    pub(super) voice: Voice,
    pub(super) meter: Meter,
    pub(super) concealed: u64,
    /// Ticks until the delay may be changed again.
    settle_ticks: u8,
    /// Counts packets round and round, from a place of the leg's own: legs must not probe in the same tick.
    turn: u8,
    /// The size of the last Opus packet decoded in silence; zero while somebody talks.
    silent_bytes: usize,
}

impl Inbound {
    /// The delay is changed by at most a tick in 100 ms: more would be heard.
    const SETTLE_TICKS: u8 = 5;
    /// What waits longer than this beyond its due is squeezed when nobody talks.
    const EXCESS_MS: i64 = 25;
    /// And this even when somebody does.
    const EXCESS_TALKING_MS: i64 = 60;
    /// One packet in ten is decoded even if it looks like silence, to see whether it is.
    const PROBE_EVERY: u8 = 10;

    pub(super) fn new(config: &PortConfig) -> Result<Self, PortError> {
        let codecs = || config.receive.iter().map(|format| format.codec);
        let opus = codecs().any(|codec| codec == Codec::Opus);
        let payload_bytes_max = if opus { OPUS_PAYLOAD_BYTES_MAX } else { G7XX_PAYLOAD_BYTES_MAX };
        let clock_rate = config.receive.first().map_or(8_000, |format| format.codec.clock_rate());
        Ok(Self {
            jitter: Jitter::new(clock_rate, payload_bytes_max),
            decoders: Decoders::new(codecs())?,
            fifo: Box::new([0; FIFO]),
            waiting: 0,
            pcm: Pcm::silent(Band::Narrow),
            voice: Voice::new(),
            meter: Meter::default(),
            concealed: 0,
            settle_ticks: 0,
            turn: (mix(config.seed) % u64::from(Self::PROBE_EVERY)) as u8,
            silent_bytes: 0,
        })
    }

    /// Whether it can go on under a re-negotiated session. An Opus decoder implies room for Opus packets.
    pub(super) fn serves(&self, config: &PortConfig) -> bool {
        config.receive.iter().all(|format| self.decoders.knows(format.codec))
    }

    /// Another takes over and knows what was measured.
    pub(super) fn succeeded_by(&self, next: Self) -> Self {
        Self { voice: self.voice, meter: self.meter, concealed: self.concealed, ..next }
    }

    /// What the peer spoke last.
    pub(super) fn last_codec(&self) -> Codec {
        self.decoders.last()
    }

    /// The sound of the last [`Inbound::hear`] that returned true.
    pub(super) fn pcm(&self) -> &Pcm {
        &self.pcm
    }

    /// Fades what was heard out, for a leg that leaves the mix.
    pub(super) fn fade_out(&mut self) {
        let samples = self.pcm.samples_mut();
        let count = samples.len() as i32;
        for (left, sample) in (0..count).rev().zip(samples) {
            *sample = (i32::from(*sample) * left / count) as i16;
        }
    }

    /// Takes one tick out of the buffer. False: nothing is being said.
    pub(super) fn hear(&mut self, now_us: i64, formats: &[Format]) -> bool {
        self.settle_ticks = self.settle_ticks.saturating_sub(1);
        if self.stretches() || !self.fill(now_us, formats) {
            self.voice.silence();
            self.meter.note(0.0);
            return false;
        }
        let samples = self.pcm.samples_mut();
        let have = self.waiting.min(samples.len());
        samples[..have].copy_from_slice(&self.fifo[..have]);
        samples[have..].fill(0);
        self.fifo.copy_within(have..self.waiting, 0);
        self.waiting -= have;
        let energy = mean_square(self.pcm.samples());
        self.voice.hear(energy);
        self.meter.note(energy);
        true
    }

    /// Lets time pass for a leg that is not heard.
    pub(super) fn skim(&mut self, now_us: i64) {
        self.jitter.skim(now_us);
        self.waiting = 0;
        self.voice.silence();
        self.meter.note(0.0);
    }

    /// Whether this tick stays empty so that the next packets wait longer: the network has become less even. Only in a
    /// pause, where nobody hears it.
    fn stretches(&mut self) -> bool {
        let stretches = self.waiting == 0
            && self.settle_ticks == 0
            && !self.voice.is_talking()
            && self.jitter.excess_ms() <= -i64::from(TICK_MS);
        if stretches {
            self.settle_ticks = Self::SETTLE_TICKS;
        }
        stretches
    }

    /// Decodes until a tick is full; false if there is nothing at all.
    fn fill(&mut self, now_us: i64, formats: &[Format]) -> bool {
        while self.waiting < self.decoders.last().band().samples() {
            if !self.decode_next(now_us, formats) {
                break;
            }
        }
        self.pcm.set_band(self.decoders.last().band());
        self.waiting > 0
    }

    /// Decodes or invents once. False: nothing is due.
    fn decode_next(&mut self, now_us: i64, formats: &[Format]) -> bool {
        let talking = self.voice.is_talking();
        match self.jitter.next(now_us) {
            Next::Silent => false,
            Next::Missing(following) => {
                let following = following
                    .filter(|due| codec_of(formats, due.payload_type) == Some(Codec::Opus))
                    .map(|due| due.payload);
                self.waiting += self.decoders.conceal(following, &mut self.fifo[self.waiting..]);
                self.concealed += 1;
                let tick = self.jitter.clock_rate() / 50;
                self.jitter.concealed(tick);
                true
            }
            Next::Packet(due) => {
                let Some(codec) = codec_of(formats, due.payload_type) else {
                    // Agreed on when it came, but not any more.
                    self.jitter.played(0, true);
                    return true;
                };
                let duration = duration(codec, due.payload);
                let quiet = codec == Codec::Opus && opus::is_silence(due.payload);
                // Silence that is sent as sound need not be decoded: its sender's detector heard no voice, and it is no
                // larger than what turned out to be silence (the detector alone would miss the start of music).
                let like_silence = codec == Codec::Opus
                    && !talking
                    && self.waiting == 0
                    && duration == 960
                    && due.payload.len() <= self.silent_bytes + self.silent_bytes / 4
                    && opus::voiced(due.payload) == Some(false);
                self.turn = (self.turn + 1) % Self::PROBE_EVERY;
                if quiet || like_silence && self.turn != 0 {
                    self.jitter.played(duration, quiet);
                    return false;
                }
                self.silent_bytes = if talking { 0 } else { due.payload.len() };
                if codec.band() != self.decoders.last().band() {
                    self.waiting = 0;
                }
                let count = self.decoders.decode(codec, due.payload, &mut self.fifo[self.waiting..]).unwrap_or(0);
                self.jitter.played(duration, false);
                self.waiting += count;
                self.squeeze(now_us, formats, talking, count);
                true
            }
        }
    }

    /// Plays the packet after this one in the same time, blended from one to the other, when too much waits.
    fn squeeze(&mut self, now_us: i64, formats: &[Format], talking: bool, count: usize) {
        let bearable = if talking { Self::EXCESS_TALKING_MS } else { Self::EXCESS_MS };
        if self.jitter.excess_ms() < bearable || self.settle_ticks > 0 || self.jitter.waiting() == 0 {
            return;
        }
        self.settle_ticks = Self::SETTLE_TICKS;
        let Next::Packet(due) = self.jitter.next(now_us) else { return };
        let Some(codec) = codec_of(formats, due.payload_type) else { return self.jitter.played(0, true) };
        let duration = duration(codec, due.payload);
        let decoded = if codec == self.decoders.last() {
            self.decoders.decode(codec, due.payload, &mut self.fifo[self.waiting..]).unwrap_or(0)
        } else {
            0
        };
        self.jitter.played(duration, false);
        if decoded != count {
            self.waiting += decoded;
            return;
        }
        let (first, second) = self.fifo[self.waiting - count..self.waiting + count].split_at_mut(count);
        for (index, (old, &new)) in first.iter_mut().zip(second.iter()).enumerate() {
            let weight = index as f32 / count as f32;
            *old = (f32::from(*old) * (1.0 - weight) + f32::from(new) * weight) as i16;
        }
    }
}

/// The codec of a payload type, if it is one the peer may use.
pub(super) fn codec_of(formats: &[Format], payload_type: u8) -> Option<Codec> {
    formats.iter().find(|format| format.payload_type == payload_type).map(|format| format.codec)
}

/// How long a payload lasts, in ticks of its codec's clock.
pub(super) fn duration(codec: Codec, payload: &[u8]) -> u32 {
    match codec {
        // One byte a tick; for G.722 because its clock says half of what it samples (RFC 3551 §4.5.2).
        Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len() as u32,
        Codec::Opus => opus::duration(payload).unwrap_or(0),
    }
}
