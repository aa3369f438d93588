//! RTCP (RFC 3550 §6): sender and receiver reports, source descriptions and good-byes, written and read.

use crate::rtp::clock::{ntp, unwrap_sequence};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;

/// The largest compound packet we write: a sender report with one block, a CNAME of 255 bytes, BYE.
pub const PACKET_BYTES_MAX: usize = 28 + 24 + (4 + 4 + 2 + 255 + 4) + 8;

/// What is told about the stream received (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// Whom it is about.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost in all; duplicates make it negative.
    pub cumulative_lost: i32,
    /// The highest sequence number, extended by its cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks of the clock.
    pub jitter: u32,
    /// The middle of the NTP timestamp of the last sender report.
    pub last_report: u32,
    /// Since when, in 65536ths of a second.
    pub delay_since_last: u32,
}

/// What a sender says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// When, in NTP form.
    pub ntp: u64,
    /// The same moment in ticks of the stream's clock.
    pub timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub bytes: u32,
}

/// A compound packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    /// Who we are.
    pub ssrc: u32,
    /// Present if we have sent since the report before the last: makes it a sender report.
    pub sender: Option<SenderInfo>,
    /// Present if we have received anything.
    pub block: Option<ReportBlock>,
    /// The canonical name; 255 bytes are used.
    pub cname: &'a str,
    /// Whether we leave.
    pub bye: bool,
}

impl Compound<'_> {
    /// Writes the packet and says how long it is.
    pub fn write(&self, bytes: &mut [u8; PACKET_BYTES_MAX]) -> usize {
        let mut writer = Writer { bytes, at: 0 };
        let blocks = u8::from(self.block.is_some());
        let start = writer.begin(if self.sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT }, blocks);
        writer.put(&self.ssrc.to_be_bytes());
        if let Some(sender) = self.sender {
            writer.put(&sender.ntp.to_be_bytes());
            writer.put(&sender.timestamp.to_be_bytes());
            writer.put(&sender.packets.to_be_bytes());
            writer.put(&sender.bytes.to_be_bytes());
        }
        if let Some(block) = self.block {
            let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
            writer.put(&block.ssrc.to_be_bytes());
            writer.put(&(u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
            writer.put(&block.highest_sequence.to_be_bytes());
            writer.put(&block.jitter.to_be_bytes());
            writer.put(&block.last_report.to_be_bytes());
            writer.put(&block.delay_since_last.to_be_bytes());
        }
        writer.end(start);

        let start = writer.begin(SOURCE_DESCRIPTION, 1);
        let name = &self.cname.as_bytes()[..self.cname.len().min(255)];
        writer.put(&self.ssrc.to_be_bytes());
        writer.put(&[1, name.len() as u8]);
        writer.put(name);
        // RFC 3550 §6.5: a zero ends the chunk, which is then filled up to a whole word.
        writer.put(&[0]);
        while !writer.at.is_multiple_of(4) {
            writer.put(&[0]);
        }
        writer.end(start);

        if self.bye {
            let start = writer.begin(BYE, 1);
            writer.put(&self.ssrc.to_be_bytes());
            writer.end(start);
        }
        writer.at
    }
}

struct Writer<'a> {
    bytes: &'a mut [u8; PACKET_BYTES_MAX],
    at: usize,
}

impl Writer<'_> {
    fn begin(&mut self, kind: u8, count: u8) -> usize {
        let start = self.at;
        self.put(&[0x80 | count, kind, 0, 0]);
        start
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The length counts words without the first.
    fn end(&mut self, start: usize) {
        let words = ((self.at - start) / 4 - 1) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }
}

/// One thing a compound packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A sender report's own part.
    Sender {
        /// Who.
        ssrc: u32,
        /// What it says of itself.
        info: SenderInfo,
    },
    /// A report block, from either report.
    Block(ReportBlock),
    /// A source leaves.
    Bye(u32),
}

/// Reads a compound packet item by item; what is not understood is skipped, what is cut short ends it.
pub fn items(bytes: &[u8]) -> impl Iterator<Item = Item> + '_ {
    Packets { rest: bytes }.flat_map(|packet| {
        let (own, blocks, leaving) = match packet.kind {
            SENDER_REPORT => (sender(packet.body), packet.body.get(24..).unwrap_or_default(), &[][..]),
            RECEIVER_REPORT => (None, packet.body.get(4..).unwrap_or_default(), &[][..]),
            BYE => (None, &[][..], packet.body),
            _ => (None, &[][..], &[][..]),
        };
        let blocks = blocks.chunks_exact(24).take(packet.count).filter_map(block).map(Item::Block);
        let leaving = leaving.chunks_exact(4).take(packet.count).map(|bytes| Item::Bye(word(bytes, 0)));
        own.into_iter().chain(blocks).chain(leaving)
    })
}

struct Raw<'a> {
    kind: u8,
    count: usize,
    body: &'a [u8],
}

struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let (head, after) = self.rest.split_first_chunk::<4>()?;
        if head[0] >> 6 != 2 {
            return None;
        }
        let (body, rest) = after.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])) * 4)?;
        self.rest = rest;
        Some(Raw { kind: head[1], count: usize::from(head[0] & 0x1f), body })
    }
}

fn sender(body: &[u8]) -> Option<Item> {
    let body = body.get(..24)?;
    Some(Item::Sender {
        ssrc: word(body, 0),
        info: SenderInfo {
            ntp: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
            timestamp: word(body, 12),
            packets: word(body, 16),
            bytes: word(body, 20),
        },
    })
}

fn block(bytes: &[u8]) -> Option<ReportBlock> {
    let bytes = bytes.get(..24)?;
    let lost = word(bytes, 4);
    Some(ReportBlock {
        ssrc: word(bytes, 0),
        fraction_lost: (lost >> 24) as u8,
        // Sign-extends 24 bits.
        cumulative_lost: (lost << 8) as i32 >> 8,
        highest_sequence: word(bytes, 8),
        jitter: word(bytes, 12),
        last_report: word(bytes, 16),
        delay_since_last: word(bytes, 20),
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// What a receiver counts about one source (RFC 3550 §A.3, §A.8).
#[derive(Clone, Copy, Debug, Default)]
pub struct Reception {
    first: i64,
    highest: i64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: i64,
    /// In sixteenths of a tick, as §A.8 keeps it.
    jitter: i64,
    last_report: u32,
    last_report_us: i64,
}

impl Reception {
    /// Counts a packet. `arrival` is its time in ticks of the stream's clock.
    pub fn count(&mut self, sequence: u16, timestamp: u32, arrival: i64) {
        let transit = i64::from((arrival as u32).wrapping_sub(timestamp));
        if self.received == 0 {
            self.first = i64::from(sequence);
            self.highest = self.first;
        } else {
            self.highest = self.highest.max(unwrap_sequence(self.highest, sequence));
            let difference = i64::from((transit - self.transit) as i32).abs();
            self.jitter += difference - ((self.jitter + 8) >> 4);
        }
        self.transit = transit;
        self.received += 1;
    }

    /// Remembers a sender report, for the peer to reckon the round trip.
    pub fn sender_reported(&mut self, ntp: u64, now_us: i64) {
        self.last_report = (ntp >> 16) as u32;
        self.last_report_us = now_us;
    }

    /// Packets counted.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Interarrival jitter in ticks of the clock.
    pub fn jitter(&self) -> u32 {
        (self.jitter >> 4) as u32
    }

    /// The block for a report; starts the next interval.
    pub fn report(&mut self, ssrc: u32, now_us: i64) -> ReportBlock {
        let expected = self.expected();
        let expected_since = expected - self.expected_before;
        let received_since = self.received - self.received_before;
        let lost_since = expected_since.saturating_sub(received_since);
        (self.expected_before, self.received_before) = (expected, self.received);
        let since_report = (now_us - self.last_report_us) * 65_536 / 1_000_000;
        ReportBlock {
            ssrc,
            fraction_lost: (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255) as u8,
            cumulative_lost: (expected as i64 - self.received as i64) as i32,
            highest_sequence: self.highest as u32,
            jitter: self.jitter(),
            last_report: self.last_report,
            delay_since_last: if self.last_report == 0 { 0 } else { since_report as u32 },
        }
    }

    fn expected(&self) -> u64 {
        if self.received == 0 { 0 } else { (self.highest - self.first + 1).max(0) as u64 }
    }
}

/// The round trip a report block tells, in milliseconds (RFC 3550 §6.4.1); none if the peer has heard no report of ours.
pub fn round_trip_ms(block: &ReportBlock, now_us: i64) -> Option<f32> {
    if block.last_report == 0 {
        return None;
    }
    let now = (ntp(now_us) >> 16) as u32;
    let trip = now.wrapping_sub(block.last_report).wrapping_sub(block.delay_since_last);
    // A peer that reckons wrongly may arrive before it left.
    (trip < 1 << 31).then(|| trip as f32 * 1_000.0 / 65_536.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_compound_packet_is_read_as_written() {
        let info = SenderInfo { ntp: 0x0102_0304_0506_0708, timestamp: 9, packets: 10, bytes: 11 };
        let block = ReportBlock {
            ssrc: 7,
            fraction_lost: 64,
            cumulative_lost: -3,
            highest_sequence: 70_000,
            jitter: 12,
            last_report: 5,
            delay_since_last: 6,
        };
        for cname in ["", "a", "front-desk@contoso.example", &"x".repeat(300)] {
            let compound = Compound { ssrc: 1, sender: Some(info), block: Some(block), cname, bye: true };
            let mut bytes = [0; PACKET_BYTES_MAX];
            let length = compound.write(&mut bytes);
            assert_eq!(length % 4, 0);
            let read: Vec<Item> = items(&bytes[..length]).collect();
            assert_eq!(read, [Item::Sender { ssrc: 1, info }, Item::Block(block), Item::Bye(1)]);
        }
    }

    #[test]
    fn loss_is_counted_as_rfc_3550_counts_it() {
        let mut reception = Reception::default();
        for sequence in (65_530..65_550_u32).filter(|sequence| sequence % 4 != 0) {
            reception.count(sequence as u16, sequence * 160, i64::from(sequence) * 160);
        }
        let report = reception.report(3, 0);
        assert_eq!((report.cumulative_lost, reception.lost()), (5, 5));
        assert_eq!(report.fraction_lost, 64);
        assert_eq!(report.highest_sequence, 65_549);
        assert_eq!(report.jitter, 0);
        assert_eq!(reception.report(3, 0).fraction_lost, 0);
    }

    #[test]
    fn uneven_arrival_is_jitter() {
        let mut reception = Reception::default();
        for index in 0..500_i64 {
            let late = if index % 2 == 0 { 80 } else { 0 };
            reception.count(index as u16, index as u32 * 160, index * 160 + late);
        }
        assert!((75..=80).contains(&reception.jitter()), "{}", reception.jitter());
    }

    #[test]
    fn the_round_trip_is_what_neither_side_waited() {
        let sent_us = 1_000_000;
        let block = ReportBlock {
            last_report: (ntp(sent_us) >> 16) as u32,
            delay_since_last: 65_536,
            ..ReportBlock::default()
        };
        let trip = round_trip_ms(&block, sent_us + 1_050_000).unwrap();
        assert!((trip - 50.0).abs() < 0.1, "{trip}");
        assert_eq!(round_trip_ms(&block, sent_us), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = items(&bytes).count();
        }
    }
}
