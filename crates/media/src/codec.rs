//! Which codecs a leg may speak, and the profile by which listeners share one encode.

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
