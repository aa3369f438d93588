//! The jitter buffer: packets come as the network likes and leave when they are due.
//!
//! A packet's *transit* is its arrival less its timestamp. The fastest transit of the last seconds is the base; how much
//! later a packet comes than the base is its *deviation*. Sound is played at base + target, where the target covers
//! 95 % of the deviations, and rises at once when a packet comes too late nevertheless.
//!
//! ```text
//!            first packet due                  nothing for 100 ms, or a gap on purpose
//!  Waiting ───────────────────▶ Playing ───────────────────────────────────────────────▶ Waiting
//! ```
//!
//! While playing, one packet leaves for each one's worth of time; nothing looks at the clock, so that a late tick is no
//! reason to conceal. When the buffer runs dry the owner conceals and the delay grows by itself; when more waits than
//! the target asks for, [`Jitter::excess_ms`] says so and the owner plays two packets in the time of one.

use super::arena::{Arena, Place};
use crate::limits::{
    CONCEAL_MS_MAX, DELAY_MS_MAX, DELAY_MS_MIN, JITTER_PACKETS_MAX as CAPACITY, OPUS_PAYLOAD_BYTES_MAX,
};
use crate::rtp::clock::{unwrap_sequence, unwrap_timestamp};
use crate::rtp::packet::Header;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It waits to be played.
    Kept,
    /// Its time has passed.
    Late,
    /// It came before.
    Duplicate,
    /// Its number is nowhere near; the stream has started again if the next follows it.
    Stray,
}

/// What is to be played next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// This packet. The owner says by [`Jitter::played`] how long it lasted.
    Packet(Due<'a>),
    /// Nothing came where something belongs; the owner conceals a tick and says so by [`Jitter::concealed`]. The packet
    /// after the gap may carry a copy of what is missing (Opus in-band FEC).
    Missing(Option<Due<'a>>),
    /// Nothing is being said.
    Silent,
}

/// A packet that leaves the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due<'a> {
    /// As in its header.
    pub payload_type: u8,
    /// As it came.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    sequence: i64,
    timestamp: i64,
    place: Place,
    payload_type: u8,
    /// False for an event or anything else that only takes up a sequence number.
    sound: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Playing {
        sequence: i64,
        timestamp: i64,
        /// Ticks of the clock concealed since the last packet was played.
        covered: i64,
    },
}

/// A bounded, adaptive jitter buffer. Takes all its memory when it is made.
#[derive(Debug)]
pub struct Jitter {
    clock_rate: i64,
    state: State,
    /// Sorted by sequence number.
    entries: [Entry; CAPACITY],
    count: usize,
    payloads: Arena,
    payload_bytes_max: usize,
    /// The highest sequence number and timestamp seen; none before the first packet.
    highest: Option<(i64, i64)>,
    /// One bit for each of the last 128 sequence numbers, the highest in bit 0.
    seen: u128,
    stray: Option<u16>,
    quiet: bool,
    delay: Delay,
    excess_us: i64,
}

impl Jitter {
    /// A buffer for packets of at most `payload_bytes_max`, whose timestamps tick at `clock_rate`.
    pub fn new(clock_rate: u32, payload_bytes_max: usize) -> Self {
        Self {
            clock_rate: i64::from(clock_rate),
            state: State::Waiting,
            entries: [Entry::default(); CAPACITY],
            count: 0,
            payloads: Arena::new(),
            payload_bytes_max: payload_bytes_max.min(OPUS_PAYLOAD_BYTES_MAX),
            highest: None,
            seen: 0,
            stray: None,
            quiet: false,
            delay: Delay::default(),
            excess_us: 0,
        }
    }

    /// Forgets the stream but not what the network is like: another source, or the same one started again.
    pub fn restart(&mut self, clock_rate: u32) {
        while self.count > 0 {
            self.drop_first();
        }
        self.clock_rate = i64::from(clock_rate);
        self.state = State::Waiting;
        self.highest = None;
        self.seen = 0;
        self.stray = None;
        self.quiet = false;
        self.delay.restart();
        self.excess_us = 0;
    }

    /// The clock that timestamps are read by.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate as u32
    }

    /// The largest payload it takes.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// Takes a packet that came at `now_us`. A packet without `sound` only explains its sequence number.
    pub fn insert(&mut self, now_us: i64, header: &Header, payload: &[u8], sound: bool) -> Inserted {
        if payload.len() > self.payload_bytes_max {
            return Inserted::Stray;
        }
        let Some((sequence, timestamp)) = self.place(header) else { return Inserted::Stray };
        if !self.mark_seen(sequence, timestamp) {
            return Inserted::Duplicate;
        }
        if sound {
            self.delay.arrived(now_us, now_us - self.micros(timestamp));
        }
        if let State::Playing { sequence: next, .. } = self.state
            && sequence < next
        {
            if sound {
                self.delay.came_late();
            }
            return Inserted::Late;
        }
        if self.count == CAPACITY {
            self.drop_first();
        }
        let place = loop {
            if let Some(place) = self.payloads.keep(payload) {
                break place;
            }
            self.drop_first();
        };
        let entry = Entry { sequence, timestamp, place, payload_type: header.payload_type, sound };
        let mut index = self.count;
        while index > 0 && self.entries[index - 1].sequence > sequence {
            self.entries[index] = self.entries[index - 1];
            index -= 1;
        }
        self.entries[index] = entry;
        self.count += 1;
        Inserted::Kept
    }

    /// What to play at `now_us`. Called until a tick is full.
    pub fn next(&mut self, now_us: i64) -> Next<'_> {
        self.skip_soundless();
        if self.state == State::Waiting {
            return self.start(now_us);
        }
        let State::Playing { sequence, timestamp, covered } = self.state else { return Next::Silent };
        let limit = i64::from(CONCEAL_MS_MAX) * self.clock_rate / 1_000;
        if self.count == 0 {
            if self.quiet || covered >= limit {
                self.state = State::Waiting;
                return Next::Silent;
            }
            return Next::Missing(None);
        }
        let first = self.entries[0];
        let gap = first.timestamp - timestamp;
        let tick = self.clock_rate / 50;
        if first.sequence == sequence {
            // Consecutive numbers with a jump in time: the sender paused on purpose, or its clock was set.
            if self.quiet || gap > tick / 2 + covered || gap < -self.clock_rate {
                self.state = State::Waiting;
                return self.start(now_us);
            }
            return self.play_first(now_us);
        }
        let missing = gap - covered;
        if missing <= tick / 2 {
            return self.play_first(now_us);
        }
        if missing > self.clock_rate {
            self.state = State::Waiting;
            return self.start(now_us);
        }
        if self.quiet || covered >= limit {
            self.state = State::Playing { sequence, timestamp, covered: covered + tick };
            return Next::Silent;
        }
        Next::Missing((missing <= tick + tick / 2).then(|| self.due(first)))
    }

    /// The packet just handed out lasted `duration` ticks of the clock. `quiet` says that its sender announced silence,
    /// so that nothing after it is no loss.
    pub fn played(&mut self, duration: u32, quiet: bool) {
        if let State::Playing { timestamp, .. } = &mut self.state {
            *timestamp += i64::from(duration);
        }
        self.quiet = quiet;
    }

    /// A gap was concealed for `duration` ticks of the clock.
    pub fn concealed(&mut self, duration: u32) {
        if let State::Playing { covered, .. } = &mut self.state {
            *covered += i64::from(duration);
        }
    }

    /// How much longer sound waited than it has to, in milliseconds; negative if it waited less.
    pub fn excess_ms(&self) -> i64 {
        self.excess_us / 1_000
    }

    /// How long sound waits by design, in milliseconds.
    pub fn target_ms(&self) -> u32 {
        self.delay.target_ms()
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.count
    }

    /// Throws away what is due by now and more: the leg is not heard, but its delay must not grow.
    pub fn skim(&mut self, now_us: i64) {
        let due = i64::from(self.delay.target_ms()) * 1_000;
        self.skip_soundless();
        while self.count > 0 && now_us - self.delay.base_us - self.micros(self.entries[0].timestamp) >= due {
            self.drop_first();
            self.skip_soundless();
        }
        self.state = State::Waiting;
    }

    /// Finds the endless numbers of a packet; none if it belongs to no stream we know of.
    fn place(&mut self, header: &Header) -> Option<(i64, i64)> {
        /// RFC 3550 §A.1 takes a jump of this many for a restart.
        const JUMP_MAX: i64 = 3_000;
        let Some((highest, timestamp)) = self.highest else {
            // Room below, so that an earlier packet of the same stream gets a smaller and not a negative number.
            return Some((i64::from(header.sequence) + (1 << 16), i64::from(header.timestamp) + (1 << 32)));
        };
        let sequence = unwrap_sequence(highest, header.sequence);
        if (sequence - highest).abs() <= JUMP_MAX {
            self.stray = None;
            return Some((sequence, unwrap_timestamp(timestamp, header.timestamp)));
        }
        if self.stray == Some(header.sequence) {
            self.restart(self.clock_rate as u32);
            return self.place(header);
        }
        self.stray = Some(header.sequence.wrapping_add(1));
        None
    }

    /// Notes a sequence number. False: it was there before, or is too old to tell.
    fn mark_seen(&mut self, sequence: i64, timestamp: i64) -> bool {
        let Some((highest, latest)) = self.highest else {
            self.highest = Some((sequence, timestamp));
            self.seen = 1;
            return true;
        };
        let ahead = sequence - highest;
        if ahead > 0 {
            self.seen = if ahead < 128 { self.seen << ahead } else { 0 } | 1;
            self.highest = Some((sequence, latest.max(timestamp)));
            return true;
        }
        let bit = (-ahead) as u32;
        let fresh = bit < 128 && self.seen >> bit & 1 == 0;
        if fresh {
            self.seen |= 1 << bit;
        }
        fresh
    }

    fn skip_soundless(&mut self) {
        while self.count > 0 && !self.entries[0].sound {
            let entry = self.entries[0];
            if let State::Playing { sequence, .. } = &mut self.state {
                *sequence = entry.sequence + 1;
            }
            self.quiet = true;
            self.drop_first();
        }
    }

    fn start(&mut self, now_us: i64) -> Next<'_> {
        /// A tick that turns a little early must not cost the talk spurt a whole tick of delay.
        const EARLY_US: i64 = 5_000;
        if self.count == 0 {
            return Next::Silent;
        }
        let first = self.entries[0];
        let due = self.delay.base_us + self.micros(first.timestamp) + i64::from(self.delay.target_ms()) * 1_000;
        if now_us + EARLY_US < due && self.count < CAPACITY / 2 {
            return Next::Silent;
        }
        self.quiet = false;
        self.play_first(now_us)
    }

    fn play_first(&mut self, now_us: i64) -> Next<'_> {
        let first = self.entries[0];
        self.delay.relax();
        let target_us = i64::from(self.delay.target_ms()) * 1_000;
        self.excess_us = now_us - self.delay.base_us - self.micros(first.timestamp) - target_us;
        self.state = State::Playing { sequence: first.sequence + 1, timestamp: first.timestamp, covered: 0 };
        self.drop_first();
        Next::Packet(self.due(first))
    }

    fn due(&self, entry: Entry) -> Due<'_> {
        Due { payload_type: entry.payload_type, payload: self.payloads.read(entry.place) }
    }

    /// Gives the first packet's cell back. Its bytes stay until the next insertion.
    fn drop_first(&mut self) {
        self.payloads.release(self.entries[0].place);
        self.entries.copy_within(1..self.count, 0);
        self.count -= 1;
    }

    fn micros(&self, timestamp: i64) -> i64 {
        timestamp * 1_000_000 / self.clock_rate
    }
}

/// How late packets come, and so how long to wait for them.
#[derive(Clone, Debug)]
struct Delay {
    /// The fastest transit of this window and of the one before.
    base_us: i64,
    current_us: i64,
    previous_us: i64,
    window_ends_us: i64,
    /// How often packets came that much later than the base; older ones count less.
    histogram: [f32; BINS],
    weight: f32,
    until_quantile: u8,
    quantile_ms: u32,
    /// Added after a packet came too late; wears off while none does.
    boost_ms: f32,
}

const BINS: usize = (DELAY_MS_MAX / BIN_MS) as usize;
const BIN_MS: u32 = 5;
const WINDOW_US: i64 = 2_000_000;

impl Default for Delay {
    fn default() -> Self {
        Self {
            base_us: i64::MAX,
            current_us: i64::MAX,
            previous_us: i64::MAX,
            window_ends_us: i64::MIN,
            histogram: [0.0; BINS],
            weight: 1.0,
            until_quantile: 0,
            quantile_ms: DELAY_MS_MIN,
            boost_ms: 0.0,
        }
    }
}

impl Delay {
    /// Another stream has another clock: its transits mean nothing to this one. How much they vary does.
    fn restart(&mut self) {
        self.base_us = i64::MAX;
        self.current_us = i64::MAX;
        self.previous_us = i64::MAX;
        self.window_ends_us = i64::MIN;
    }

    fn arrived(&mut self, now_us: i64, transit_us: i64) {
        if now_us >= self.window_ends_us {
            self.previous_us = self.current_us;
            self.current_us = i64::MAX;
            self.window_ends_us = now_us + WINDOW_US;
        }
        self.current_us = self.current_us.min(transit_us);
        self.base_us = self.current_us.min(self.previous_us);

        let deviation_ms = ((transit_us - self.base_us) / 1_000) as usize;
        let bin = (deviation_ms / BIN_MS as usize).min(BINS - 1);
        // Old entries fade by a factor each packet (half in about 2 s). Growing the new ones is the same and cheaper.
        self.weight *= 1.007;
        self.histogram[bin] += self.weight;
        if self.weight > 1e20 {
            self.histogram.iter_mut().for_each(|count| *count /= self.weight);
            self.weight = 1.0;
        }
        if self.until_quantile == 0 {
            self.until_quantile = 10;
            self.quantile_ms = self.quantile();
        }
        self.until_quantile -= 1;
    }

    /// What 95 % of the deviations stay below.
    fn quantile(&self) -> u32 {
        let mut above = self.histogram.iter().sum::<f32>() * 0.05;
        for bin in (0..BINS).rev() {
            above -= self.histogram[bin];
            if above < 0.0 {
                // Bin 0 is ordinary unevenness of timers; any other is covered up to its upper edge.
                return if bin == 0 { 0 } else { (bin as u32 + 1) * BIN_MS };
            }
        }
        0
    }

    fn came_late(&mut self) {
        self.boost_ms = (self.boost_ms + 10.0).min((DELAY_MS_MAX - DELAY_MS_MIN) as f32);
    }

    /// Called for each packet played: 10 ms of boost wear off in about 4 s.
    fn relax(&mut self) {
        self.boost_ms = (self.boost_ms - 0.05).max(0.0);
    }

    fn target_ms(&self) -> u32 {
        (self.quantile_ms + self.boost_ms as u32).clamp(DELAY_MS_MIN, DELAY_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_US: i64 = 20_000;

    fn insert(jitter: &mut Jitter, now_us: i64, number: i64) -> Inserted {
        let header = Header {
            payload_type: 0,
            marker: false,
            sequence: number as u16,
            timestamp: (number * 160) as u32,
            ssrc: 1,
        };
        jitter.insert(now_us, &header, &[number as u8], true)
    }

    /// What comes out in a tick: the number of a packet, or why there is none.
    fn next(jitter: &mut Jitter, now_us: i64) -> Result<u8, &'static str> {
        let played = match jitter.next(now_us) {
            Next::Packet(due) => Ok(due.payload[0]),
            Next::Missing(Some(_)) => Err("missing, next is there"),
            Next::Missing(None) => Err("missing"),
            Next::Silent => Err("silent"),
        };
        match played {
            Ok(_) => jitter.played(160, false),
            Err("silent") => {}
            Err(_) => jitter.concealed(160),
        }
        played
    }

    #[test]
    fn packets_leave_in_order_each_once() {
        let mut jitter = Jitter::new(8_000, 160);
        assert_eq!(insert(&mut jitter, 0, 65_534), Inserted::Kept);
        assert_eq!(next(&mut jitter, 0), Err("silent"), "one tick of patience");
        assert_eq!(insert(&mut jitter, TICK_US, 65_536), Inserted::Kept);
        assert_eq!(insert(&mut jitter, TICK_US, 65_535), Inserted::Kept);
        assert_eq!(insert(&mut jitter, TICK_US, 65_535), Inserted::Duplicate);
        let played: Vec<_> = (1..4).map(|tick| next(&mut jitter, tick * TICK_US)).collect();
        assert_eq!(played, [Ok(254), Ok(255), Ok(0)]);
        assert_eq!(insert(&mut jitter, 4 * TICK_US, 65_533), Inserted::Late);
        assert_eq!(insert(&mut jitter, 4 * TICK_US, 65_534), Inserted::Duplicate);
    }

    #[test]
    fn a_gap_is_concealed_for_as_long_as_it_lasts() {
        let mut jitter = Jitter::new(8_000, 160);
        for number in [1, 2, 5, 6] {
            insert(&mut jitter, 0, number);
        }
        let played: Vec<_> = (1..7).map(|tick| next(&mut jitter, tick * TICK_US)).collect();
        assert_eq!(played, [Ok(1), Ok(2), Err("missing"), Err("missing, next is there"), Ok(5), Ok(6)]);
    }

    #[test]
    fn a_packet_that_comes_late_into_an_empty_buffer_is_played_and_the_delay_grows() {
        let mut jitter = Jitter::new(8_000, 160);
        insert(&mut jitter, 0, 1);
        assert_eq!(next(&mut jitter, TICK_US), Ok(1));
        assert_eq!(next(&mut jitter, 2 * TICK_US), Err("missing"));
        insert(&mut jitter, 3 * TICK_US, 2);
        assert_eq!(next(&mut jitter, 3 * TICK_US), Ok(2));
        assert!(jitter.excess_ms() >= 15, "{}", jitter.excess_ms());
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut jitter = Jitter::new(8_000, 160);
        for number in 0..1_000 {
            insert(&mut jitter, 0, number);
        }
        assert_eq!(jitter.waiting(), CAPACITY);
        assert_eq!(next(&mut jitter, 0), Ok((1_000 - CAPACITY) as u8));
        jitter.restart(8_000);
        assert_eq!(jitter.waiting(), 0);
    }

    #[test]
    fn what_is_skimmed_keeps_no_delay() {
        let mut jitter = Jitter::new(8_000, 160);
        for number in 0..10 {
            insert(&mut jitter, number * TICK_US, number);
            jitter.skim(number * TICK_US);
            assert!(jitter.waiting() <= 1);
        }
        insert(&mut jitter, 10 * TICK_US, 10);
        assert_eq!(next(&mut jitter, 10 * TICK_US), Ok(9));
    }
}
