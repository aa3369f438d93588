//! What a port tells: what became of a packet, what happened, how the leg is doing.

use crate::dtmf::Tone;
use crate::limits::TONES_HEARD_MAX;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Sound, waiting to be played, or the announcement of silence.
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
    /// Not RTP, cut short, or longer than its format allows.
    Malformed,
    /// A payload type that was not agreed on.
    PayloadType,
    /// Another source while ours still speaks, or a number far from the stream's.
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
    tones: [Option<Tone>; TONES_HEARD_MAX],
    count: usize,
}

impl Events {
    /// The keys pressed, in order.
    pub fn tones(&self) -> impl Iterator<Item = Tone> + '_ {
        self.tones[..self.count].iter().flatten().copied()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        !self.media_up && self.count == 0
    }

    /// Adds a key; one too many is dropped, which takes an owner who does not look for a second.
    pub(super) fn add_tone(&mut self, tone: Tone) {
        if let Some(place) = self.tones.get_mut(self.count) {
            *place = Some(tone);
            self.count += 1;
        }
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
    /// How the leg has sounded so far, 1 to 4.5 ([`crate::quality`]); none before its first packet. The way from the peer
    /// is reckoned as half of the round trip, or as nothing if that is not known.
    pub mos: Option<f32>,
}

/// A level that follows the sound with about a second of memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    mean_square: f32,
}

impl Meter {
    pub(super) fn note(&mut self, mean_square: f32) {
        self.mean_square += (mean_square - self.mean_square) * 0.02;
    }

    pub(super) fn level_dbov(self) -> f32 {
        crate::frame::dbov(self.mean_square)
    }
}
