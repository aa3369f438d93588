//! How far the operator is behind with what it is told to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Since when effects have been waiting without a break. Clones are the same.
#[derive(Clone, Debug)]
pub struct Backlog(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    started: Instant,
    /// Microseconds after `started`; zero: the last look found none waiting.
    since_us: AtomicU64,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Parts { started: Instant::now(), since_us: AtomicU64::new(0) }))
    }

    /// Takes down whether more waits, each time that something was taken.
    pub(crate) fn look(&self, more_waits: bool) {
        let since = &self.0.since_us;
        if !more_waits {
            since.store(0, Ordering::Relaxed);
        } else if since.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            since.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// How long there has been something waiting; zero while the switch keeps up.
    pub fn behind(&self) -> Duration {
        match self.0.since_us.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.0.started.elapsed().saturating_sub(Duration::from_micros(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_behind_from_the_first_that_waits_until_none_does() {
        let backlog = Backlog::new();
        assert_eq!(backlog.behind(), Duration::ZERO);
        backlog.look(true);
        let first = backlog.0.since_us.load(Ordering::Relaxed);
        assert!(first > 0);
        backlog.look(true);
        assert_eq!(backlog.0.since_us.load(Ordering::Relaxed), first);
        backlog.look(false);
        assert_eq!(backlog.behind(), Duration::ZERO);
    }
}
