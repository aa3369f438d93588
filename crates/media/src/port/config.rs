//! What a port is told at the start and at each re-negotiation.

use crate::codec::{Codec, Profile};
use crate::limits;

/// A payload type and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// RTP payload type, 0–127.
    pub payload_type: u8,
    /// The codec behind it.
    pub codec: Codec,
}

/// A telephone-event payload type (RFC 4733) and its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToneFormat {
    /// RTP payload type, 0–127.
    pub payload_type: u8,
    /// Timestamp ticks a second: that of the audio beside it. Packets are sent by the clock of the audio, as RFC 4733
    /// §2.1 has it.
    pub clock_rate: u32,
}

/// What offer and answer have settled for a leg (RFC 3264), from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// What we send.
    pub send: Format,
    /// Bits a second that we send; none is the codec's default. Only Opus has a choice, from 6,000 to 128,000.
    pub bitrate: Option<u32>,
    /// What the peer may send; at most [`limits::FORMATS_MAX`].
    pub receive: Vec<Format>,
    /// How we send keys, if the peer takes them.
    pub tones_send: Option<ToneFormat>,
    /// How the peer may send keys.
    pub tones_receive: Vec<ToneFormat>,
    /// Who may send (hold).
    pub direction: Direction,
    /// The canonical name in RTCP (RFC 3550 §6.5.1); at most 255 bytes are used.
    pub cname: String,
    /// SSRC, first sequence number and first timestamp are drawn from it.
    pub seed: u64,
}

impl PortConfig {
    /// One format both ways, no keys.
    pub fn new(format: Format, seed: u64) -> Self {
        Self {
            send: format,
            bitrate: None,
            receive: vec![format],
            tones_send: None,
            tones_receive: Vec::new(),
            direction: Direction::SendReceive,
            cname: String::new(),
            seed,
        }
    }

    /// The same with telephone events both ways on one payload type.
    pub fn with_tones(mut self, tones: ToneFormat) -> Self {
        self.tones_send = Some(tones);
        self.tones_receive = vec![tones];
        self
    }

    /// What listeners of this leg's kind share.
    pub fn profile(&self) -> Profile {
        let codec = self.send.codec;
        let bitrate = match (codec, self.bitrate) {
            (Codec::Opus, Some(bitrate)) => bitrate.clamp(limits::OPUS_BITRATE_MIN, limits::OPUS_BITRATE_MAX),
            _ => codec.default_bitrate(),
        };
        Profile { bitrate, ..Profile::of(codec) }
    }
}

/// Who may send, as our side sees it (RFC 3264 §6.1). A held leg is one that may not receive, send, or either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both talk.
    SendReceive,
    /// We talk, the peer listens.
    SendOnly,
    /// The peer talks, we listen.
    ReceiveOnly,
    /// Nobody talks.
    Inactive,
}

impl Direction {
    /// Whether we may send.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendReceive | Self::SendOnly)
    }

    /// Whether the peer may send.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
    }
}

/// Why a port cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// More formats than a port keeps.
    #[error("a leg receives at most {} formats", limits::FORMATS_MAX)]
    TooManyFormats,
    /// The Opus library refused: it was out of memory.
    #[error("the Opus codec could not be set up")]
    Opus,
}

impl From<opus::Error> for PortError {
    fn from(_: opus::Error) -> Self {
        Self::Opus
    }
}
