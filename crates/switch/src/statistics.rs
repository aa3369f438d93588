//! How each leg is doing, when somebody asks.

use std::net::SocketAddr;

use control::{ConferenceId, LegId};

/// A leg with open media, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LegStatistics {
    pub leg: LegId,
    /// The conference that owns it.
    pub conference: ConferenceId,
    /// Whether it is in that conference's mix.
    pub attached: bool,
    pub who: String,
    pub codec: &'static str,
    /// Where we send.
    pub remote: SocketAddr,
    pub packets_in: u64,
    pub packets_out: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Ticks invented because a packet was missing.
    pub concealed: u64,
    pub ignored: u64,
    pub jitter_ms: f32,
    /// How long sound waits in the jitter buffer.
    pub delay_ms: u32,
    /// How loud it speaks, dBov.
    pub speaks_dbov: f32,
    /// How loud what it hears is, dBov.
    pub hears_dbov: f32,
    /// How it has sounded so far, by the E-model of [`media::quality`]: 1 to 4.5, none before its first packet.
    pub mos: Option<f32>,
}
