//! How the processes of a node are numbered, one after another.
//!
//! What a process says within a dialog is numbered from its own number on (RFC 3261 §12.2.1.1: numbers rise, and may skip
//! some), so that it is above whatever an earlier one said and had no time to write down.

use control::Timestamp;

/// Between two processes, however quickly they follow each other: more than one can say in a dialog before it has said
/// something for a quarter of a second.
pub const PROCESSES_APART: u32 = 16;

/// The number of a process that starts now, after one of the number `last`: so far above it, or the quarters of a second
/// since 2025, whichever is more (below 2³¹ until 2042). The clock counts when an older copy of a database was restored.
pub fn process_after(last: Option<u32>, now: Timestamp) -> u32 {
    const BEGINNING: Timestamp = Timestamp(1_735_689_600_000);
    let by_clock = u32::try_from(now.since(BEGINNING).as_millis() / 250).unwrap_or(u32::MAX);
    by_clock.max(last.map_or(1, |last| last.saturating_add(PROCESSES_APART)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3261_12_2_1_1_each_process_is_numbered_above_the_last_whatever_the_clock_says() {
        let now = Timestamp(1_767_225_600_000);
        let first = process_after(None, now);
        assert_eq!(first, 126_144_000);
        assert_eq!(process_after(Some(first), now), first + PROCESSES_APART);
        assert_eq!(process_after(Some(first), Timestamp(now.0 + 60_000)), first + 240);
        assert_eq!(process_after(Some(first), Timestamp(0)), first + PROCESSES_APART, "a clock that was set back");
        assert_eq!(process_after(None, Timestamp(0)), 1);
        assert_eq!(process_after(Some(u32::MAX), now), u32::MAX);
    }
}
