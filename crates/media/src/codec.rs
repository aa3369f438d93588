//! Which codecs a leg may speak, and the profile by which listeners share one encode.

mod conceal;
pub(crate) mod g711;
mod g722;
pub(crate) mod opus;

use crate::frame::{Band, SAMPLES};
use crate::limits;
use conceal::Concealer;

/// An audio codec of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// Opus, decoded and encoded at 16 kHz.
    Opus,
}

impl Codec {
    /// Ticks a second of the RTP timestamp. RFC 3551 §4.5.2: G.722 says 8000 although it samples at 16 kHz.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// The payload type RFC 3551 §6 fixes, if it does.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::G722 => Some(9),
            Self::Opus => None,
        }
    }

    /// The encoding name of SDP's `rtpmap`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// The codec of an `rtpmap` name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pcmu, Self::Pcma, Self::G722, Self::Opus]
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// How finely its sound is sampled.
    pub const fn band(self) -> Band {
        match self {
            Self::Pcmu | Self::Pcma => Band::Narrow,
            Self::G722 | Self::Opus => Band::Wide,
        }
    }

    /// Whether an encoder's past shows in what it writes.
    pub(crate) const fn has_memory(self) -> bool {
        matches!(self, Self::G722 | Self::Opus)
    }

    /// Whether an encoder is so large that a leg has one only while it needs it.
    pub(crate) const fn is_lent(self) -> bool {
        matches!(self, Self::Opus)
    }

    /// Bits a second when nobody says otherwise.
    pub const fn default_bitrate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 64_000,
            Self::Opus => 24_000,
        }
    }
}

/// Everything an encoder depends on. Listeners of one profile hear one encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// How the sound is written.
    pub codec: Codec,
    /// Milliseconds a packet; this crate sends 20.
    pub ptime_ms: u8,
    /// Bits a second; only Opus has a choice.
    pub bitrate: u32,
}

impl Profile {
    /// The profile of a codec at its default bit rate.
    pub const fn of(codec: Codec) -> Self {
        Self { codec, ptime_ms: 20, bitrate: codec.default_bitrate() }
    }
}

/// Where outgoing sound becomes bytes. All its memory is taken when it is made.
pub(crate) struct Encoder {
    profile: Profile,
    kind: EncoderKind,
    /// Ticks of digital silence in a row, up to [`SETTLED_TICKS`].
    silent_ticks: u8,
    /// What silence became once the encoder had settled.
    silence: [u8; SILENCE_BYTES_MAX],
    silence_bytes: usize,
}

enum EncoderKind {
    Pcmu,
    Pcma,
    G722(Box<g722::Encoder>),
    Opus(opus::Encoder),
}

/// After this many ticks of digital silence an encoder need not be asked: encoding silence with Opus costs two thirds of
/// encoding speech.
const SETTLED_TICKS: u8 = opus::SETTLED_TICKS;
const SILENCE_BYTES_MAX: usize = 160;

impl Encoder {
    pub(crate) fn new(profile: Profile) -> Result<Self, opus::Refused> {
        let kind = match profile.codec {
            Codec::Pcmu => EncoderKind::Pcmu,
            Codec::Pcma => EncoderKind::Pcma,
            Codec::G722 => EncoderKind::G722(Box::new(g722::Encoder::new())),
            Codec::Opus => EncoderKind::Opus(opus::Encoder::new(profile.bitrate)?),
        };
        Ok(Self { profile, kind, silent_ticks: 0, silence: [0; SILENCE_BYTES_MAX], silence_bytes: 0 })
    }

    /// An encoder that each leg can afford; none if one has to be borrowed ([`Encoders`]).
    pub(crate) fn cheap(profile: Profile) -> Option<Self> {
        if profile.codec.is_lent() { None } else { Self::new(profile).ok() }
    }

    /// Forgets the past: what follows belongs to another stream of sound.
    pub(crate) fn restart(&mut self) {
        self.silent_ticks = 0;
        match &mut self.kind {
            EncoderKind::Pcmu | EncoderKind::Pcma => {}
            EncoderKind::G722(encoder) => encoder.restart(),
            EncoderKind::Opus(encoder) => encoder.restart(),
        }
    }

    /// Goes on where another of the same profile stands, so that who has heard that one hears no seam. G.722 begins afresh:
    /// its state cannot be copied, and its predictors have caught up within some milliseconds.
    pub(crate) fn follow(&mut self, other: &Self) {
        let (EncoderKind::Opus(encoder), EncoderKind::Opus(theirs)) = (&mut self.kind, &other.kind) else {
            return self.restart();
        };
        encoder.follow(theirs);
        self.profile = other.profile;
        self.silent_ticks = other.silent_ticks;
        self.silence = other.silence;
        self.silence_bytes = other.silence_bytes;
    }

    /// Begins a stream of another bit rate.
    fn restart_as(&mut self, profile: Profile) -> Result<(), opus::Refused> {
        self.restart();
        if let EncoderKind::Opus(encoder) = &mut self.kind {
            encoder.set_bitrate(profile.bitrate)?;
        }
        self.profile = profile;
        Ok(())
    }

    /// Encodes one tick of the codec's band and says how many bytes it took.
    pub(crate) fn encode(&mut self, samples: &[i16], bytes: &mut [u8]) -> usize {
        self.silent_ticks = 0;
        self.encode_now(samples, bytes)
    }

    /// Encodes one tick of digital silence.
    pub(crate) fn encode_silence(&mut self, bytes: &mut [u8]) -> usize {
        let length = self.profile.codec.band().samples();
        match self.kind {
            EncoderKind::Pcmu => bytes[..length].fill(g711::ULAW_SILENCE),
            EncoderKind::Pcma => bytes[..length].fill(g711::ALAW_SILENCE),
            EncoderKind::G722(_) | EncoderKind::Opus(_) => return self.encode_settled_silence(bytes),
        }
        length
    }

    fn encode_settled_silence(&mut self, bytes: &mut [u8]) -> usize {
        if self.silent_ticks == SETTLED_TICKS {
            bytes[..self.silence_bytes].copy_from_slice(&self.silence[..self.silence_bytes]);
            return self.silence_bytes;
        }
        let length = self.encode_now(&[0; SAMPLES], bytes);
        self.silent_ticks += 1;
        if self.silent_ticks == SETTLED_TICKS {
            if length <= SILENCE_BYTES_MAX {
                self.silence[..length].copy_from_slice(&bytes[..length]);
                self.silence_bytes = length;
            } else {
                self.silent_ticks -= 1;
            }
        }
        length
    }

    fn encode_now(&mut self, samples: &[i16], bytes: &mut [u8]) -> usize {
        let encoded = match &mut self.kind {
            EncoderKind::Pcmu => {
                g711::encode_ulaw(samples, bytes);
                Some(samples.len())
            }
            EncoderKind::Pcma => {
                g711::encode_alaw(samples, bytes);
                Some(samples.len())
            }
            EncoderKind::G722(encoder) => encoder.encode(samples, bytes),
            EncoderKind::Opus(encoder) => encoder.encode(samples, bytes),
        };
        debug_assert!(encoded.is_some(), "a whole tick always fits");
        encoded.unwrap_or(0)
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Writes one tick of digital silence without an encoder, and says how many bytes it took.
pub(crate) fn write_silence(codec: Codec, bytes: &mut [u8]) -> usize {
    let silence = match codec {
        Codec::Pcmu => &[g711::ULAW_SILENCE; SAMPLES / 2][..],
        Codec::Pcma => &[g711::ALAW_SILENCE; SAMPLES / 2][..],
        // A G.722 leg always has its encoder.
        Codec::G722 => &[][..],
        Codec::Opus => opus::silence(),
    };
    bytes[..silence.len()].copy_from_slice(silence);
    silence.len()
}

/// Encoders that are lent to whoever talks: an Opus encoder takes 31 KiB, and most legs only listen.
///
/// A room, or all rooms of one thread, use one stock. It grows to as many as have ever talked at once, and a tick that
/// takes no more than that takes no memory.
#[derive(Debug, Default)]
pub struct Encoders {
    free: Vec<Encoder>,
    made: usize,
}

impl Encoders {
    /// An empty stock.
    pub const fn new() -> Self {
        Self { free: Vec::new(), made: 0 }
    }

    /// Makes encoders until there are so many, lent or not; at most [`limits::ENCODERS_KEPT_MAX`].
    pub fn prepare(&mut self, count: usize) {
        self.free.reserve(limits::ENCODERS_KEPT_MAX.saturating_sub(self.free.len()));
        while self.made < count.min(limits::ENCODERS_KEPT_MAX) {
            let Ok(encoder) = Encoder::new(Profile::of(Codec::Opus)) else { return };
            self.free.push(encoder);
            self.made += 1;
        }
    }

    /// Takes back what a port that ends, or goes elsewhere for long, has borrowed.
    pub fn reclaim(&mut self, port: &mut crate::port::Port) {
        if let Some(encoder) = port.give_encoder_back() {
            self.put(encoder);
        }
    }

    /// Encoders that nobody uses.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Encoders made so far and not dropped here.
    pub fn made(&self) -> usize {
        self.made
    }

    /// One that begins afresh; none if the library refuses.
    pub(crate) fn take(&mut self, profile: Profile) -> Option<Encoder> {
        if let Some(mut encoder) = self.free.pop() {
            return encoder.restart_as(profile).is_ok().then_some(encoder);
        }
        let encoder = Encoder::new(profile).ok()?;
        self.made += 1;
        Some(encoder)
    }

    pub(crate) fn put(&mut self, encoder: Encoder) {
        if self.free.len() < limits::ENCODERS_KEPT_MAX {
            self.free.push(encoder);
        } else {
            self.made = self.made.saturating_sub(1);
        }
    }
}

/// Where a leg's packets become sound: one decoder for each codec that the peer may use.
pub(crate) struct Decoders {
    g722: Option<Box<g722::Decoder>>,
    opus: Option<opus::Decoder>,
    concealer: Concealer,
    /// The codec of the last packet.
    last: Codec,
}

impl Decoders {
    pub(crate) fn new(codecs: impl Iterator<Item = Codec>) -> Result<Self, ::opus::Error> {
        let mut decoders = Self { g722: None, opus: None, concealer: Concealer::new(), last: Codec::Pcmu };
        for codec in codecs {
            match codec {
                Codec::Pcmu | Codec::Pcma => {}
                Codec::G722 => decoders.g722 = Some(Box::new(g722::Decoder::new())),
                Codec::Opus => decoders.opus = Some(opus::Decoder::new()?),
            }
        }
        Ok(decoders)
    }

    /// Whether packets of a codec can be decoded.
    pub(crate) fn knows(&self, codec: Codec) -> bool {
        match codec {
            Codec::Pcmu | Codec::Pcma => true,
            Codec::G722 => self.g722.is_some(),
            Codec::Opus => self.opus.is_some(),
        }
    }

    /// The codec of the last packet.
    pub(crate) fn last(&self) -> Codec {
        self.last
    }

    /// Decodes a packet and says how many samples came of it; none if the bytes were no such codec's.
    pub(crate) fn decode(&mut self, codec: Codec, packet: &[u8], samples: &mut [i16]) -> Option<usize> {
        if codec.band() != self.last.band() {
            self.concealer = Concealer::new();
        }
        self.last = codec;
        let count = match codec {
            Codec::Pcmu | Codec::Pcma => {
                let samples = samples.get_mut(..packet.len())?;
                let decode = if codec == Codec::Pcmu { g711::decode_ulaw } else { g711::decode_alaw };
                decode(packet, samples);
                packet.len()
            }
            Codec::G722 => self.g722.as_mut()?.decode(packet, samples)?,
            Codec::Opus => return self.opus.as_mut()?.decode(packet, samples),
        };
        self.concealer.heard(&mut samples[..count], codec.band());
        Some(count)
    }

    /// Invents one tick in the place of a lost packet; `following` is the payload after it, if that is there.
    pub(crate) fn conceal(&mut self, following: Option<&[u8]>, samples: &mut [i16]) -> usize {
        let band = self.last.band();
        if self.last == Codec::Opus {
            return self.opus.as_mut().and_then(|opus| opus.conceal(following, samples)).unwrap_or(0);
        }
        self.concealer.conceal(&mut samples[..band.samples()], band);
        band.samples()
    }
}

impl std::fmt::Debug for Decoders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoders").field("last", &self.last).finish_non_exhaustive()
    }
}
