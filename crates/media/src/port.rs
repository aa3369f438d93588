//! One leg's way in and out: packets to sound and sound to packets.
//!
//! A port is one boxed value: moved from one room to another it takes its jitter buffer, its codecs' state and its
//! numbering along, and the peer notices nothing.

mod config;
mod inbound;
mod outbound;
mod report;

use std::time::Instant;

pub use config::{Direction, Format, PortConfig, PortError, ToneFormat};
pub(crate) use outbound::TONE_PACKET_BYTES;
pub use report::{Events, Ignored, LegStats, Received};

use crate::codec::{Codec, Encoder, Encoders, Profile, write_silence};
use crate::dtmf::{Receiver, Tone};
use crate::frame::{Band, Frame, Pcm, SAMPLES, mean_square};
use crate::limits::{self, OPUS_PAYLOAD_BYTES_MAX, SOURCE_SILENT_MS};
use crate::quality::{self, Heard};
use crate::resample::{Downsampler, Upsampler};
use crate::rtp::clock::{Clock, ntp};
use crate::rtp::jitter::Inserted;
use crate::rtp::packet::{HEADER_BYTES, Header, Packet, is_rtcp};
use crate::rtp::rtcp::{self, Compound, Item, Reception};
use inbound::{Inbound, codec_of, duration};
use outbound::Outbound;
use report::Meter;

/// RFC 3389: comfort noise has a payload type of its own, and phones use it unasked.
const COMFORT_NOISE: u8 = 13;

/// One leg: jitter buffer and decoders one way, encoder and packetiser the other. Owns no socket.
#[derive(Debug)]
pub struct Port {
    config: PortConfig,
    clock: Clock,
    source: Option<Source>,
    inbound: Inbound,
    tones: Receiver,
    outbound: Outbound,
    /// An Opus leg has one only while something is said to it that nobody else hears.
    encoder: Option<Encoder>,
    meter_out: Meter,
    up: Upsampler,
    down: Downsampler,
    reports: Reports,
    events: Events,
    media_is_up: bool,
    counted: LegStats,
}

/// Who speaks at the other end.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    heard_us: i64,
    /// It said good-bye: the next may follow at once.
    left: bool,
    reception: Reception,
}

/// When to report, and what the peer has reported.
#[derive(Debug)]
struct Reports {
    due_us: Option<i64>,
    random: u64,
    packet: [u8; rtcp::PACKET_BYTES_MAX],
    peer_fraction_lost: Option<u8>,
    round_trip_ms: Option<f32>,
}

impl Reports {
    /// RFC 3550 §6.2: every 5 s, or half of that at first, each time between half and one and a half of it.
    const INTERVAL_US: i64 = 5_000_000;

    fn draw(&mut self, interval_us: i64) -> i64 {
        self.random = outbound::mix(self.random);
        interval_us / 2 + (self.random >> 33) as i64 % interval_us
    }
}

impl Port {
    /// Sets a leg up. All memory it will ever need is taken here, but for an Opus encoder: a room lends one, and
    /// [`Port::push`] makes one when there is sound to encode.
    pub fn new(config: PortConfig) -> Result<Self, PortError> {
        check(&config)?;
        if config.send.codec == Codec::Opus && crate::codec::opus::silence().is_empty() {
            return Err(PortError::Opus);
        }
        Ok(Self {
            clock: Clock::default(),
            source: None,
            inbound: Inbound::new(&config)?,
            tones: Receiver::default(),
            outbound: Outbound::new(&config),
            encoder: Encoder::cheap(config.profile()),
            meter_out: Meter::default(),
            up: Upsampler::new(),
            down: Downsampler::new(),
            reports: Reports {
                due_us: None,
                random: config.seed,
                packet: [0; rtcp::PACKET_BYTES_MAX],
                peer_fraction_lost: None,
                round_trip_ms: None,
            },
            events: Events::default(),
            media_is_up: false,
            counted: LegStats::default(),
            config,
        })
    }

    /// Takes a re-negotiated session over. Numbering and SSRC stay, and so does the jitter buffer unless the peer may
    /// send codecs that it could not before. The seed of the new configuration is not used. Allocates only for what changes.
    pub fn reconfigure(&mut self, config: PortConfig) -> Result<(), PortError> {
        check(&config)?;
        if config.profile() != self.config.profile() {
            self.encoder = Encoder::cheap(config.profile());
        }
        if !self.inbound.serves(&config) {
            self.inbound = self.inbound.succeeded_by(Inbound::new(&config)?);
        }
        self.outbound.reconfigure(&config);
        self.config = PortConfig { seed: self.config.seed, ..config };
        Ok(())
    }

    /// Puts on hold and takes off again.
    pub fn set_direction(&mut self, direction: Direction) {
        self.config.direction = direction;
    }

    /// What was agreed.
    pub fn config(&self) -> &PortConfig {
        &self.config
    }

    /// Our synchronisation source, as RTCP and the peer know it.
    pub fn ssrc(&self) -> u32 {
        self.outbound.ssrc
    }

    /// Takes one datagram. Anything may arrive here.
    pub fn receive(&mut self, now: Instant, datagram: &[u8]) -> Received {
        if is_rtcp(datagram) {
            self.receive_rtcp(now, datagram);
            return Received::Control;
        }
        let now_us = self.clock_micros(now);
        let received = match Packet::parse(datagram) {
            Ok(packet) => self.receive_packet(now_us, &packet),
            Err(_) => Received::Ignored(Ignored::Malformed),
        };
        match received {
            Received::Audio | Received::Tone => self.counted.packets_in += 1,
            Received::Ignored(Ignored::Late) => self.counted.late += 1,
            Received::Ignored(Ignored::Duplicate) => self.counted.duplicate += 1,
            Received::Ignored(_) => self.counted.ignored += 1,
            Received::Control => {}
        }
        received
    }

    fn receive_packet(&mut self, now_us: i64, packet: &Packet<'_>) -> Received {
        let payload_type = packet.header.payload_type;
        let codec = codec_of(&self.config.receive, payload_type);
        let is_tone = self.config.tones_receive.iter().any(|tones| tones.payload_type == payload_type);
        if codec.is_none() && !is_tone && payload_type != COMFORT_NOISE {
            return Received::Ignored(Ignored::PayloadType);
        }
        let fits = packet.payload.len() <= self.inbound.jitter.payload_bytes_max();
        if !fits || codec.is_some_and(|codec| duration(codec, packet.payload) == 0) {
            return Received::Ignored(Ignored::Malformed);
        }
        let clock_rate = codec.map_or(self.inbound.jitter.clock_rate(), Codec::clock_rate);
        if !self.is_our_source(now_us, packet.header.ssrc, clock_rate) {
            return Received::Ignored(Ignored::Source);
        }
        if !self.config.direction.receives() {
            return Received::Ignored(Ignored::Held);
        }
        let inserted = self.inbound.jitter.insert(now_us, &packet.header, packet.payload, codec.is_some());
        if matches!(inserted, Inserted::Kept | Inserted::Late) {
            self.count(now_us, &packet.header);
        }
        if is_tone {
            // Events are deduplicated by their timestamp: one that is late for sound is not late.
            return match self.tones.receive(packet.header.timestamp, packet.payload) {
                Ok(tone) => {
                    if let Some(tone) = tone {
                        self.events.add_tone(tone);
                    }
                    Received::Tone
                }
                Err(_) => Received::Ignored(Ignored::Malformed),
            };
        }
        match inserted {
            Inserted::Kept => {
                self.events.media_up |= !self.media_is_up;
                self.media_is_up = true;
                Received::Audio
            }
            Inserted::Late => Received::Ignored(Ignored::Late),
            Inserted::Duplicate => Received::Ignored(Ignored::Duplicate),
            Inserted::Stray => Received::Ignored(Ignored::Source),
        }
    }

    /// Whether a packet is from whom we hear. Another may take over when ours has been silent for a while or has said
    /// good-bye; nobody can break into a stream that flows.
    fn is_our_source(&mut self, now_us: i64, ssrc: u32, clock_rate: u32) -> bool {
        let clock_is_the_same = clock_rate == self.inbound.jitter.clock_rate();
        if let Some(source) = &mut self.source {
            if source.ssrc == ssrc && clock_is_the_same {
                source.heard_us = now_us;
                return true;
            }
            if source.ssrc != ssrc && !source.left && now_us - source.heard_us < SOURCE_SILENT_MS * 1_000 {
                return false;
            }
            self.counted.lost += source.reception.lost();
        }
        self.source = Some(Source { ssrc, heard_us: now_us, left: false, reception: Reception::default() });
        self.inbound.jitter.restart(clock_rate);
        self.tones = Receiver::default();
        true
    }

    fn count(&mut self, now_us: i64, header: &Header) {
        let clock_rate = i64::from(self.inbound.jitter.clock_rate());
        if let Some(source) = &mut self.source {
            // In two steps, so that a call of years does not overflow.
            let arrival = now_us / 1_000 * clock_rate / 1_000 + now_us % 1_000 * clock_rate / 1_000_000;
            source.reception.count(header.sequence, header.timestamp, arrival);
        }
    }

    /// Takes one datagram of the RTCP port.
    pub fn receive_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let now_us = self.clock_micros(now);
        for item in rtcp::items(datagram) {
            match item {
                Item::Sender { ssrc, info } => {
                    if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
                        source.reception.sender_reported(info.ntp, now_us);
                    }
                }
                Item::Block(block) if block.ssrc == self.outbound.ssrc => {
                    self.reports.peer_fraction_lost = Some(block.fraction_lost);
                    self.reports.round_trip_ms = rtcp::round_trip_ms(&block, now_us).or(self.reports.round_trip_ms);
                }
                Item::Block(_) => {}
                Item::Bye(ssrc) => {
                    if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
                        source.left = true;
                    }
                }
            }
        }
    }

    /// The next 20 ms of what the peer says. False: it says nothing, and the frame is silence.
    ///
    /// For a port that is in no room; a room pulls its ports itself.
    pub fn pull(&mut self, now: Instant, frame: &mut Frame) -> bool {
        if !self.hear(now) {
            *frame = Frame::SILENCE;
            self.up = Upsampler::new();
            return false;
        }
        let pcm = self.inbound.pcm();
        match pcm.band() {
            Band::Wide => frame.samples_mut().copy_from_slice(pcm.samples()),
            Band::Narrow => {
                let mut narrow = [0; SAMPLES / 2];
                let mut wide = [0; SAMPLES];
                narrow.iter_mut().zip(pcm.samples()).for_each(|(place, &sample)| *place = sample.into());
                self.up.process(&narrow, &mut wide);
                frame.samples_mut().iter_mut().zip(wide).for_each(|(place, sample)| *place = clip(sample));
            }
        }
        true
    }

    /// Says 20 ms to the peer. Called once a tick, whether there is something to say or not.
    ///
    /// For a port that is in no room; a room speaks to its ports itself.
    pub fn push(&mut self, frame: &Frame, emit: &mut dyn FnMut(&[u8])) {
        let mut packet = [0; HEADER_BYTES + OPUS_PAYLOAD_BYTES_MAX];
        if !self.may_send() {
            return self.skip();
        }
        let mut tone = [0; TONE_PACKET_BYTES];
        if self.tone(&mut tone) {
            return emit(&tone);
        }
        let mut pcm = Pcm::silent(self.config.send.codec.band());
        let is_silent = *frame == Frame::SILENCE;
        match pcm.band() {
            // A parked leg is told nothing for minutes; silence needs no filter.
            _ if is_silent => self.down = Downsampler::new(),
            Band::Wide => pcm.samples_mut().copy_from_slice(frame.samples()),
            Band::Narrow => {
                let mut narrow = [0; SAMPLES / 2];
                self.down.process(&frame.samples().map(i32::from), &mut narrow);
                pcm.samples_mut().iter_mut().zip(narrow).for_each(|(place, sample)| *place = clip(sample));
            }
        }
        if let Some(length) = self.write((!is_silent).then_some(&pcm), &mut packet) {
            emit(&packet[..length]);
        }
    }

    /// Presses a key for `duration_ms`. False: the peer takes no keys, or too many wait already.
    pub fn send_tone(&mut self, tone: Tone, duration_ms: u32) -> bool {
        self.outbound.press(tone, duration_ms)
    }

    /// A compound RTCP packet when one is due: the first a few seconds after the start, then about every 5 s.
    pub fn rtcp(&mut self, now: Instant) -> Option<&[u8]> {
        let now_us = self.clock_micros(now);
        match self.reports.due_us {
            Some(due_us) if now_us >= due_us => {
                let interval = self.reports.draw(Reports::INTERVAL_US);
                self.reports.due_us = Some(now_us + interval);
                Some(self.report(now_us, false))
            }
            Some(_) => None,
            None => {
                let interval = self.reports.draw(Reports::INTERVAL_US / 2);
                self.reports.due_us = Some(now_us + interval);
                None
            }
        }
    }

    /// The last RTCP packet, with BYE, for a leg that ends.
    pub fn rtcp_bye(&mut self, now: Instant) -> &[u8] {
        let now_us = self.clock_micros(now);
        self.report(now_us, true)
    }

    fn report(&mut self, now_us: i64, bye: bool) -> &[u8] {
        let block = self
            .source
            .as_mut()
            .filter(|source| source.reception.received() > 0)
            .map(|source| source.reception.report(source.ssrc, now_us));
        let compound = Compound {
            ssrc: self.outbound.ssrc,
            sender: self.outbound.sender_info(ntp(now_us)),
            block,
            cname: &self.config.cname,
            bye,
        };
        let length = compound.write(&mut self.reports.packet);
        &self.reports.packet[..length]
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> LegStats {
        let reception = self.source.as_ref().map(|source| source.reception).unwrap_or_default();
        let lost = self.counted.lost + reception.lost();
        let delay_ms = self.inbound.jitter.target_ms();
        LegStats {
            packets_out: self.outbound.packets,
            lost,
            concealed: self.inbound.concealed,
            jitter_ms: reception.jitter() as f32 * 1_000.0 / self.inbound.jitter.clock_rate() as f32,
            delay_ms,
            level_in_dbov: self.inbound.meter.level_dbov(),
            level_out_dbov: self.meter_out.level_dbov(),
            peer_fraction_lost: self.reports.peer_fraction_lost,
            round_trip_ms: self.reports.round_trip_ms,
            mos: self.mos(lost, delay_ms),
            ..self.counted
        }
    }

    fn mos(&self, lost: u64, buffered_ms: u32) -> Option<f32> {
        let unplayed = lost + self.counted.late;
        let expected = self.counted.packets_in + unplayed;
        let codec = self.inbound.last_codec();
        let way = self.reports.round_trip_ms.unwrap_or(0.0) / 2.0;
        (self.counted.packets_in > 0).then(|| {
            quality::mos(Heard {
                codec,
                delay_ms: quality::codec_delay_ms(codec) + buffered_ms as f32 + way,
                loss: unplayed as f32 / expected as f32,
            })
        })
    }

    // What a room does with its ports.

    pub(crate) fn profile(&self) -> Profile {
        self.config.profile()
    }

    /// Decodes one tick into [`Port::heard`]. False: nothing is being said.
    pub(crate) fn hear(&mut self, now: Instant) -> bool {
        let now_us = self.clock_micros(now);
        if !self.config.direction.receives() {
            self.inbound.skim(now_us);
            return false;
        }
        self.inbound.hear(now_us, &self.config.receive)
    }

    /// Lets a tick pass in which the leg is not heard.
    pub(crate) fn skim(&mut self, now: Instant) {
        let now_us = self.clock_micros(now);
        self.inbound.skim(now_us);
    }

    pub(crate) fn heard(&self) -> &Pcm {
        self.inbound.pcm()
    }

    /// What was heard, in the band that is sent. They differ when each side sends another codec; the conversion is the
    /// mixer's, so that what is subtracted is what was added.
    pub(crate) fn own<'a>(&'a mut self, converted: &'a mut Pcm) -> &'a Pcm {
        let pcm = self.inbound.pcm();
        let band = self.config.send.codec.band();
        if pcm.band() == band {
            return pcm;
        }
        converted.set_band(band);
        let (mut narrow, mut wide) = ([0; SAMPLES / 2], [0; SAMPLES]);
        match band {
            Band::Wide => {
                narrow.iter_mut().zip(pcm.samples()).for_each(|(place, &sample)| *place = sample.into());
                self.up.process(&narrow, &mut wide);
                converted.samples_mut().iter_mut().zip(wide).for_each(|(place, sample)| *place = clip(sample));
            }
            Band::Narrow => {
                wide.iter_mut().zip(pcm.samples()).for_each(|(place, &sample)| *place = sample.into());
                self.down.process(&wide, &mut narrow);
                converted.samples_mut().iter_mut().zip(narrow).for_each(|(place, sample)| *place = clip(sample));
            }
        }
        converted
    }

    /// The leg begins to be mixed: what it said before is not in the mix.
    pub(crate) fn begin_talking(&mut self) {
        (self.up, self.down) = (Upsampler::new(), Downsampler::new());
    }

    pub(crate) fn fade_out(&mut self) {
        self.inbound.fade_out();
    }

    pub(crate) fn is_talking(&self) -> bool {
        self.inbound.voice.is_talking()
    }

    pub(crate) fn loudness(&self) -> f32 {
        self.inbound.voice.loudness()
    }

    pub(crate) fn may_send(&self) -> bool {
        self.config.direction.sends()
    }

    pub(crate) fn skip(&mut self) {
        self.outbound.skip();
    }

    pub(crate) fn tone(&mut self, packet: &mut [u8; TONE_PACKET_BYTES]) -> bool {
        self.outbound.tone(packet)
    }

    /// The port begins to hear what only it hears. It goes on where the encoder stands that it heard so far.
    pub(crate) fn begin_private(&mut self, heard: Option<&Encoder>, stock: &mut Encoders) {
        if self.encoder.is_none() {
            self.encoder = stock.take(self.profile());
        }
        match (&mut self.encoder, heard) {
            (Some(own), Some(heard)) => own.follow(heard),
            (Some(own), None) => own.restart(),
            (None, _) => {}
        }
    }

    /// The encoder that it used for what only it heard.
    pub(crate) fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// Whether it has borrowed its encoder.
    pub(crate) fn borrows(&self) -> bool {
        self.config.send.codec.is_lent() && self.encoder.is_some()
    }

    /// The encoder, if it is borrowed.
    pub(crate) fn give_encoder_back(&mut self) -> Option<Encoder> {
        self.encoder.take_if(|_| self.config.send.codec.is_lent())
    }

    /// Encodes a tick, or silence, into a whole packet and says how long it is.
    pub(crate) fn write(&mut self, said: Option<&Pcm>, packet: &mut [u8]) -> Option<usize> {
        let (header, payload) = packet.split_first_chunk_mut::<HEADER_BYTES>()?;
        let length = if let Some(pcm) = said {
            self.meter_out.note(mean_square(pcm.samples()));
            if self.encoder.is_none() {
                self.encoder = Encoder::new(self.config.profile()).ok();
            }
            self.encoder.as_mut().map_or(0, |encoder| encoder.encode(pcm.samples(), payload))
        } else {
            self.meter_out.note(0.0);
            match &mut self.encoder {
                Some(encoder) => encoder.encode_silence(payload),
                None => write_silence(self.config.send.codec, payload),
            }
        };
        if length == 0 {
            self.outbound.skip();
            return None;
        }
        self.outbound.stamp(header, length);
        Some(HEADER_BYTES + length)
    }

    /// Puts this leg's header before a payload that others share.
    pub(crate) fn stamp(&mut self, header: &mut [u8; HEADER_BYTES], payload_bytes: usize, mean_square: f32) {
        self.meter_out.note(mean_square);
        self.outbound.stamp(header, payload_bytes);
    }

    fn clock_micros(&mut self, now: Instant) -> i64 {
        self.clock.micros(now)
    }
}

fn check(config: &PortConfig) -> Result<(), PortError> {
    if config.receive.len() > limits::FORMATS_MAX || config.tones_receive.len() > limits::FORMATS_MAX {
        return Err(PortError::TooManyFormats);
    }
    Ok(())
}

fn clip(sample: i32) -> i16 {
    sample.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}
