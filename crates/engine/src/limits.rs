//! The engine's bounds, each with its reason.

use std::time::Duration;

/// Items that wait for one conference: a few for each of a thousand legs. Memory is taken only for those that wait.
pub(crate) const MAILBOX_MAX: usize = 4096;

/// Commands are refused beyond that, so that signals, which nobody repeats, always find room.
pub(crate) const COMMANDS_MAX: usize = 512;

/// New work that has waited longer than that for its conference is refused: whoever asked has given up, or will ask again,
/// and those behind it should not wait as long.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(2);

/// A message that was not acknowledged is sent again after that long; a mailbox is never that far behind for long.
pub(crate) const RESEND_EVERY: Duration = Duration::from_secs(2);

/// Between two tries of a store that refuses: soon at first, and not so often that it cannot recover.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(2);

/// A deadline that passing did not move is looked at again after that long: a fault of ours must not spin.
pub(crate) const STUCK_FOR: Duration = Duration::from_secs(1);

/// Conferences taken up at once: enough to fill the store's groups, without all logs of a node in memory.
pub(crate) const TAKEN_UP_AT_ONCE: usize = 64;
