//! The way out: numbers and stamps packets, and puts keys between them.

use crate::dtmf::{Sender, Tone};
use crate::port::config::PortConfig;
use crate::rtp::packet::{HEADER_BYTES, Header};
use crate::rtp::rtcp::SenderInfo;

/// The length of a telephone-event packet.
pub(crate) const TONE_PACKET_BYTES: usize = HEADER_BYTES + 4;

/// A leg's outgoing stream.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) ssrc: u32,
    payload_type: u8,
    tones_payload_type: Option<u8>,
    clock_rate: u32,
    sequence: u16,
    timestamp: u32,
    /// RFC 3551 §4.1: set on the first packet after none were sent.
    marker: bool,
    pub(super) packets: u64,
    bytes: u64,
    tones: Sender,
}

impl Outbound {
    pub(super) fn new(config: &PortConfig) -> Self {
        let (first, second) = (mix(config.seed), mix(config.seed.wrapping_add(1)));
        Self {
            ssrc: first as u32,
            payload_type: config.send.payload_type,
            tones_payload_type: config.tones_send.map(|tones| tones.payload_type),
            clock_rate: config.send.codec.clock_rate(),
            sequence: (first >> 32) as u16,
            timestamp: second as u32,
            marker: true,
            packets: 0,
            bytes: 0,
            tones: Sender::new(),
        }
    }

    /// Goes on with what was re-negotiated. RFC 7160 §4.1: one source should keep one clock, so another clock makes
    /// another source.
    pub(super) fn reconfigure(&mut self, config: &PortConfig) {
        self.payload_type = config.send.payload_type;
        self.tones_payload_type = config.tones_send.map(|tones| tones.payload_type);
        self.marker = true;
        if self.clock_rate != config.send.codec.clock_rate() {
            self.clock_rate = config.send.codec.clock_rate();
            self.ssrc = mix(u64::from(self.ssrc)) as u32;
        }
    }

    /// A tick in which nothing is sent: time goes on.
    pub(super) fn skip(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(self.per_tick());
        self.marker = true;
    }

    /// Writes the header of a packet of sound.
    pub(super) fn stamp(&mut self, header: &mut [u8; HEADER_BYTES], payload_bytes: usize) {
        let marker = std::mem::take(&mut self.marker);
        self.write(header, self.payload_type, marker, self.timestamp, payload_bytes);
        self.timestamp = self.timestamp.wrapping_add(self.per_tick());
    }

    /// Writes a telephone-event packet if a key is down; false: this tick is for sound.
    pub(super) fn tone(&mut self, packet: &mut [u8; TONE_PACKET_BYTES]) -> bool {
        let Some(payload_type) = self.tones_payload_type else { return false };
        let Some(event) = self.tones.tick(self.timestamp, self.per_tick()) else { return false };
        let (header, payload) = packet.split_at_mut(HEADER_BYTES);
        payload.copy_from_slice(&event.payload);
        let header = header.try_into().expect("the packet was split after the header");
        self.write(header, payload_type, event.marker, event.timestamp, 4);
        self.timestamp = self.timestamp.wrapping_add(self.per_tick());
        true
    }

    pub(super) fn press(&mut self, tone: Tone, duration_ms: u32) -> bool {
        self.tones_payload_type.is_some() && self.tones.press(tone, (duration_ms / 20).min(500) as u16)
    }

    /// What a sender report says; none if nothing was sent yet.
    pub(super) fn sender_info(&self, ntp: u64) -> Option<SenderInfo> {
        (self.packets > 0).then_some(SenderInfo {
            ntp,
            timestamp: self.timestamp,
            packets: self.packets as u32,
            bytes: self.bytes as u32,
        })
    }

    fn write(
        &mut self,
        header: &mut [u8; HEADER_BYTES],
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload_bytes: usize,
    ) {
        Header { payload_type, marker, sequence: self.sequence, timestamp, ssrc: self.ssrc }.write(header);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.bytes += payload_bytes as u64;
    }

    fn per_tick(&self) -> u32 {
        self.clock_rate / 50
    }
}

/// Spreads a seed over 64 bits, so that neighbouring seeds have nothing in common (the finaliser of `SplitMix64`).
pub(super) fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
