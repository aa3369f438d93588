//! The engine's clock: wall time at start plus monotonic time, so that it never goes back; or one that a test turns.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use control::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Running { wall: Timestamp, since: Instant },
    Turned(watch::Receiver<Timestamp>),
}

/// Turns a clock that does not run by itself.
#[derive(Debug)]
pub struct Hand(watch::Sender<Timestamp>);

impl Clock {
    pub fn running() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX));
        Self(Source::Running { wall, since: Instant::now() })
    }

    /// Runs from `start` on, by tokio's clock: also by one that is paused.
    pub fn running_from(start: Timestamp) -> Self {
        Self(Source::Running { wall: start, since: Instant::now() })
    }

    /// Stands at `start` until its hand is turned.
    pub fn turned(start: Timestamp) -> (Self, Hand) {
        let (hand, face) = watch::channel(start);
        (Self(Source::Turned(face)), Hand(hand))
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Running { wall, since } => *wall + since.elapsed(),
            Source::Turned(face) => *face.borrow(),
        }
    }

    /// Waits until it is `at`.
    pub(crate) async fn reaches(&self, at: Timestamp) {
        match &self.0 {
            Source::Running { .. } => loop {
                // Sleeping is exact to the millisecond and may end early by less than one.
                let left = at.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left).await;
            },
            Source::Turned(face) => {
                if face.clone().wait_for(|now| *now >= at).await.is_err() {
                    // Nobody can turn it any more.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl Hand {
    pub fn turn(&self, by: Duration) {
        self.0.send_modify(|now| *now = *now + by);
    }
}
