//! One leg's way in and out: packets to sound and sound to packets.

use std::time::Instant;

use crate::codec::Codec;
use crate::dtmf::Tone;
use crate::frame::Frame;
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
    /// Timestamp ticks a second: that of the audio beside it.
    pub clock_rate: u32,
}

/// What offer and answer have settled for a leg (RFC 3264), from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// What we send.
    pub send: Format,
    /// Bits a second that we send; none is the codec's default. Only Opus has a choice.
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
    /// The Opus library refused; it was out of memory or given a bad bit rate.
    #[error("the Opus codec could not be set up")]
    Opus,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Sound, waiting to be played.
    Audio,
    /// A telephone event.
    Tone,
    /// RTCP on the RTP port (RFC 5761).
    Control,
    /// Counted and forgotten.
    Ignored(Ignored),
}

/// Why a packet was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Not RTP, or cut short.
    Malformed,
    /// A payload type that was not agreed on.
    PayloadType,
    /// Another source while ours still speaks.
    Source,
    /// Too late to be played.
    Late,
    /// Seen before.
    Duplicate,
    /// The leg is on hold.
    Held,
}

/// What a leg has told since it was last asked. Small enough to copy; made without allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The first packet of sound was accepted. Told once a leg.
    pub media_up: bool,
    tones: [Option<Tone>; limits::TONES_HEARD_MAX],
}

impl Events {
    /// The keys pressed, in order.
    pub fn tones(&self) -> impl Iterator<Item = Tone> + '_ {
        self.tones.iter().flatten().copied()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        !self.media_up && self.tones[0].is_none()
    }
}

/// Counters and gauges of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegStats {
    /// RTP packets accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Packets that never came (RFC 3550 §A.3).
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets ignored for any other reason.
    pub ignored: u64,
    /// Ticks invented because a packet was missing.
    pub concealed: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1), milliseconds.
    pub jitter_ms: f32,
    /// How long sound waits in the jitter buffer by design, milliseconds.
    pub delay_ms: u32,
    /// How loud the leg speaks, dBov.
    pub level_in_dbov: f32,
    /// How loud what it hears is, dBov.
    pub level_out_dbov: f32,
    /// What the peer reported lost of ours, in 256ths, if it did.
    pub peer_fraction_lost: Option<u8>,
    /// Round trip by RTCP, milliseconds, if known.
    pub round_trip_ms: Option<f32>,
}

/// One leg: jitter buffer and decoders one way, encoder and packetiser the other. Owns no socket.
#[derive(Debug)]
pub struct Port {
    config: PortConfig,
    stats: LegStats,
    events: Events,
}

impl Port {
    /// Sets a leg up; all memory it will ever need is taken here.
    pub fn new(config: PortConfig) -> Result<Self, PortError> {
        if config.receive.len() > limits::FORMATS_MAX || config.tones_receive.len() > limits::FORMATS_MAX {
            return Err(PortError::TooManyFormats);
        }
        Ok(Self { config, stats: LegStats::default(), events: Events::default() })
    }

    /// Takes a re-negotiated session over. Sequence numbers, SSRC and, where the formats allow, the jitter buffer stay.
    pub fn reconfigure(&mut self, config: PortConfig) -> Result<(), PortError> {
        *self = Self { stats: self.stats, events: self.events, ..Self::new(config)? };
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
        self.config.seed as u32
    }

    /// Takes one datagram. Anything may arrive here.
    pub fn receive(&mut self, _now: Instant, packet: &[u8]) -> Received {
        if packet.len() < 12 {
            self.stats.ignored += 1;
            return Received::Ignored(Ignored::Malformed);
        }
        self.events.media_up = self.stats.packets_in == 0;
        self.stats.packets_in += 1;
        Received::Audio
    }

    /// Takes one datagram of the RTCP port.
    pub fn receive_rtcp(&mut self, _now: Instant, _packet: &[u8]) {}

    /// The next 20 ms of what the peer says. False: it says nothing, and the frame is silence.
    pub fn pull(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        *frame = Frame::SILENCE;
        false
    }

    /// Says 20 ms to the peer. Called once a tick, whether there is something to say or not.
    pub fn push(&mut self, _now: Instant, _frame: &Frame, _emit: &mut dyn FnMut(&[u8])) {
        self.stats.packets_out += 1;
    }

    /// Presses a key for `duration_ms`. False: the peer takes no keys, or too many wait already.
    pub fn send_tone(&mut self, _tone: Tone, _duration_ms: u32) -> bool {
        self.config.tones_send.is_some()
    }

    /// A compound RTCP packet when one is due: the first a few seconds after the start, then about every 5 s.
    pub fn rtcp(&mut self, _now: Instant) -> Option<&[u8]> {
        None
    }

    /// The last RTCP packet, with BYE, for a leg that ends.
    pub fn rtcp_bye(&mut self, _now: Instant) -> &[u8] {
        &[]
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> LegStats {
        self.stats
    }
}
