//! Time as RTP counts it: wrapping counters made endless, and instants as microseconds.

use std::time::{Duration, Instant};

/// Counts a leg's time from the first instant it is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    origin: Option<Instant>,
}

impl Clock {
    /// Microseconds since the first call.
    pub fn micros(&mut self, now: Instant) -> i64 {
        let origin = *self.origin.get_or_insert(now);
        now.saturating_duration_since(origin).as_micros() as i64
    }
}

/// Microseconds as an NTP timestamp. RFC 3550 §6.4.1 allows a sender without a wall clock to count from its start.
pub fn ntp(micros: i64) -> u64 {
    let duration = Duration::from_micros(micros.max(0) as u64);
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

/// A sequence number made endless: the value nearest to `near` that ends in `wrapped`.
pub fn unwrap_sequence(near: i64, wrapped: u16) -> i64 {
    near + i64::from(wrapped.wrapping_sub(near as u16) as i16)
}

/// A timestamp made endless: the value nearest to `near` that ends in `wrapped`.
pub fn unwrap_timestamp(near: i64, wrapped: u32) -> i64 {
    near + i64::from(wrapped.wrapping_sub(near as u32) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_across_the_wrap_both_ways() {
        assert_eq!(unwrap_sequence(65_535, 0), 65_536);
        assert_eq!(unwrap_sequence(65_536, 65_535), 65_535);
        assert_eq!(unwrap_timestamp(0xffff_ff00, 0x10), 0x1_0000_0010);
        assert_eq!(unwrap_timestamp(0x1_0000_0010, 0xffff_ff00), 0xffff_ff00);
    }

    #[test]
    fn ntp_counts_fractions_of_a_second() {
        assert_eq!(ntp(1_500_000), 0x1_8000_0000);
    }
}
