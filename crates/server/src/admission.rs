//! Whether new work is taken: decided by how long the work that was taken waits for its turn, and by nothing else.
//!
//! No rate is configured, for nobody knows the right one: it depends on the machine, on what is asked, and on who else
//! is running. A queue that empties now and then is a burst and does no harm. One that stands means that more is asked
//! than can be done; everything behind it is late, and what is late is asked for again. So, after CoDel (RFC 8289):
//!
//! ```text
//!            a wait over WAIT_MAX, and every one since for STANDING_FOR
//!     calm ------------------------------------------------------------> full
//!       ^                                                                  | takes work only while the last wait
//!       +------------------------------------------------------------------+ was short: the queue is kept, not grown
//!            short waits have outweighed long ones by CALM_AFTER
//! ```
//!
//! While full, work goes on being taken whenever there is room for it, so that the machine is never idle for having
//! refused. Refusals say when to come back, each at another time, and later the longer it lasts: clients that came
//! together must not come back together.
//!
//! This file decides, on a clock and by chance that are handed in; `admission/watch.rs` measures.

mod watch;

use std::time::Duration;

pub use watch::{Gate, Waiting, watch};

/// A wait that hurts nobody: CoDel's target. An invitation and its notifications take some twenty turns one after the
/// other, so ten times as much would be felt.
pub const WAIT_MAX: Duration = Duration::from_millis(5);

/// CoDel's interval: longer than a round trip to a client, and than most bursts.
pub const STANDING_FOR: Duration = Duration::from_millis(100);

/// Waits were short for so much longer than they were long: the flood is over. In a flood each short wait lets so many in
/// that more long ones follow; a busy server without one has long waits too, but fewer.
pub const CALM_AFTER: Duration = Duration::from_millis(300);

/// The latest that anyone is told to come back. SDKs give up where they would have to wait for three minutes, and try three
/// times: whoever comes in a flood of half a minute gets in.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Where work waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// For a worker: everything of HTTP, conferences, SIP and notifications.
    Workers,
    /// For the store's writer.
    Store,
    /// For the switch.
    Switch,
}

impl Queue {
    pub const ALL: [Self; 3] = [Self::Workers, Self::Store, Self::Switch];

    pub fn name(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Store => "store",
            Self::Switch => "switch",
        }
    }
}

/// What is known of the queues. Times are since some moment of the caller's, and never go back.
#[derive(Debug, Default)]
pub struct Admission {
    queues: [Standing; Queue::ALL.len()],
    state: State,
}

/// One queue.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The newest wait, and since when there was none that is short.
    wait: Duration,
    long_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Calm,
    Full {
        since: Duration,
        /// The last look.
        at: Duration,
        /// How long waits must be short until it is calm.
        left: Duration,
    },
}

/// An answer to one who asks for new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Welcome,
    /// Not now, and nothing was done: to be asked again after that long, in whole seconds.
    ComeBackIn(Duration),
}

impl Admission {
    /// Takes down how long something waited in a queue until `now`.
    pub fn waited(&mut self, now: Duration, queue: Queue, wait: Duration) {
        let standing = &mut self.queues[queue as usize];
        standing.wait = wait;
        if wait <= WAIT_MAX {
            standing.long_since = None;
        } else {
            standing.long_since.get_or_insert(now);
        }
        let stands = self.standing(now).iter().any(Option::is_some);
        let long = self.is_long();
        self.state = match self.state {
            State::Calm if stands => State::Full { since: now, at: now, left: CALM_AFTER },
            State::Calm => State::Calm,
            State::Full { since, at, left } => {
                let passed = now.saturating_sub(at);
                let left = if long { (left + passed).min(CALM_AFTER) } else { left.saturating_sub(passed) };
                if left.is_zero() { State::Calm } else { State::Full { since, at: now, left } }
            }
        };
    }

    /// Whether new work may begin; `chance` spreads the times at which the refused come back.
    pub fn admit(&self, now: Duration, chance: u64) -> Answer {
        match self.state {
            State::Full { since, .. } if self.is_long() => {
                let lasts = now.saturating_sub(since).as_secs();
                let spread = (1 + lasts).min(RETRY_AFTER_MAX.as_secs());
                Answer::ComeBackIn(Duration::from_secs(1 + chance % spread))
            }
            State::Calm | State::Full { .. } => Answer::Welcome,
        }
    }

    /// Whether it takes work only as room is found.
    pub fn is_full(&self) -> bool {
        matches!(self.state, State::Full { .. })
    }

    /// The queues that have not been short for an interval.
    pub fn standing(&self, now: Duration) -> [Option<Queue>; Queue::ALL.len()] {
        Queue::ALL.map(|queue| {
            let since = self.queues[queue as usize].long_since?;
            (now >= since + STANDING_FOR).then_some(queue)
        })
    }

    fn is_long(&self) -> bool {
        self.queues.iter().any(|queue| queue.wait > WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(4);
    const LONG: Duration = Duration::from_millis(6);

    /// Admission and the clock it is told.
    #[derive(Default)]
    struct Bench {
        admission: Admission,
        now: Duration,
    }

    impl Bench {
        /// The same wait in a queue, every ten milliseconds.
        fn waits(&mut self, queue: Queue, wait: Duration, lasting_ms: u64) -> &mut Self {
            for _ in 0..lasting_ms / 10 {
                self.now += Duration::from_millis(10);
                self.admission.waited(self.now, queue, wait);
            }
            self
        }

        fn takes(&self) -> bool {
            self.admission.admit(self.now, 0) == Answer::Welcome
        }

        /// The times, in seconds, at which the refused are told to come back.
        fn told(&self) -> Vec<u64> {
            let mut told: Vec<_> = (0..100).map(|chance| self.admission.admit(self.now, chance)).collect();
            told.dedup();
            let seconds = told.into_iter().map(|answer| match answer {
                Answer::Welcome => 0,
                Answer::ComeBackIn(wait) => wait.as_secs(),
            });
            let mut seconds: Vec<_> = seconds.collect();
            seconds.sort_unstable();
            seconds.dedup();
            seconds
        }
    }

    #[test]
    fn a_burst_is_taken_whole() {
        let mut bench = Bench::default();
        assert!(bench.takes(), "nothing is known yet");
        assert!(bench.waits(Queue::Workers, LONG, 90).takes());
        assert!(bench.waits(Queue::Workers, SHORT, 10).waits(Queue::Workers, LONG, 100).takes());
        assert!(!bench.admission.is_full());
    }

    #[test]
    fn a_queue_that_stands_is_not_made_longer_whichever_it_is() {
        for queue in Queue::ALL {
            let mut bench = Bench::default();
            assert!(!bench.waits(queue, LONG, 110).takes(), "{queue:?}");
            // Work is taken whenever there is room, so that the machine never waits for work it has refused.
            assert!(bench.waits(queue, SHORT, 10).takes(), "{queue:?}");
            assert!(!bench.waits(queue, LONG, 10).takes(), "{queue:?}: it is still full");
        }
    }

    #[test]
    fn one_queue_that_is_short_does_not_excuse_another() {
        let mut bench = Bench::default();
        for _ in 0..11 {
            bench.waits(Queue::Store, LONG, 10).waits(Queue::Workers, SHORT, 10);
        }
        assert!(!bench.takes());
    }

    #[test]
    fn everybody_is_welcome_as_soon_as_the_flood_ends() {
        let mut bench = Bench::default();
        bench.waits(Queue::Workers, LONG, 60_000);
        assert!(!bench.takes());
        assert!(bench.waits(Queue::Workers, SHORT, 10).takes());
        assert!(bench.waits(Queue::Workers, SHORT, 300).takes() && !bench.admission.is_full());
        // Then a burst is a burst again.
        assert!(bench.waits(Queue::Workers, LONG, 90).takes());
    }

    #[test]
    fn a_server_that_is_busy_after_a_flood_is_not_taken_for_one_in_it() {
        let mut bench = Bench::default();
        let mostly = |bench: &mut Bench, usual: Duration, other: Duration| {
            for _ in 0..20 {
                bench.waits(Queue::Workers, usual, 30).waits(Queue::Workers, other, 10);
            }
        };
        bench.waits(Queue::Workers, LONG, 110);
        mostly(&mut bench, LONG, SHORT);
        assert!(bench.admission.is_full(), "what is let in makes the next waits long");
        mostly(&mut bench, SHORT, LONG);
        assert!(!bench.admission.is_full());
    }

    #[test]
    fn the_refused_come_back_at_different_times_and_later_the_longer_it_lasts() {
        let mut bench = Bench::default();
        assert_eq!(bench.waits(Queue::Workers, LONG, 110).told(), [1]);
        assert_eq!(bench.waits(Queue::Workers, LONG, 3_000).told(), [1, 2, 3, 4]);
        let told = bench.waits(Queue::Workers, LONG, 120_000).told();
        assert_eq!((told.first(), told.last()), (Some(&1), Some(&RETRY_AFTER_MAX.as_secs())));
    }
}
