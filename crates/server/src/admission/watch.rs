//! Measures the waits that admission decides by, and asks it for whoever wants in.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Admission, Answer, Queue};

/// How often the waits are looked at: ten times until a queue counts as standing.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The door that new work comes through. Clones are the same one.
#[derive(Clone)]
pub struct Gate(Arc<Parts>);

struct Parts {
    admission: Mutex<Admission>,
    began: Instant,
    /// When the watch is due to look next, microseconds after `began`: if that is long ago, no task gets its turn.
    look_at_us: AtomicU64,
    chance: AtomicU64,
}

/// How long what is next in a queue has waited.
pub type Waiting = Box<dyn Fn() -> Duration + Send>;

impl Gate {
    /// Open, and everybody is welcome until it is watched.
    pub fn new() -> Self {
        Self(Arc::new(Parts {
            admission: Mutex::default(),
            began: Instant::now(),
            look_at_us: AtomicU64::new(u64::MAX),
            chance: AtomicU64::new(0),
        }))
    }

    /// Whether new work may begin. Asked before anything is done for it.
    pub fn admit(&self) -> Answer {
        let now = self.0.began.elapsed();
        let look_at = Duration::from_micros(self.0.look_at_us.load(Ordering::Relaxed));
        // Scattered well enough to part those who came together (the multiplier is that of a Weyl sequence).
        let chance = self.0.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 32;
        let mut admission = self.0.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = now.saturating_sub(look_at);
        if overdue > super::WAIT_MAX {
            admission.waited(now, Queue::Workers, overdue);
        }
        let answer = admission.admit(now, chance);
        drop(admission);
        let outcome = match answer {
            Answer::Welcome => "welcome",
            Answer::ComeBackIn(_) => "refused",
        };
        metrics::counter!("convoke_admission_total", "outcome" => outcome).increment(1);
        answer
    }

    /// Takes down how long something waited in a queue; `now` is since the gate was made.
    pub fn waited(&self, now: Duration, queue: Queue, wait: Duration) {
        let mut admission = self.0.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = admission.is_full();
        admission.waited(now, queue, wait);
        let (is_full, standing) = (admission.is_full(), admission.standing(now));
        drop(admission);
        if is_full != was_full {
            metrics::gauge!("convoke_admission_full").set(f64::from(u8::from(is_full)));
            if is_full {
                let queues: Vec<_> = standing.into_iter().flatten().map(Queue::name).collect();
                tracing::warn!(?queues, "more is asked than can be done");
            } else {
                tracing::info!("all that is asked is done again");
            }
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Looks at the queues until `stop`. That of the workers is measured by this task's own turns.
pub async fn watch(gate: Gate, queues: Vec<(Queue, Waiting)>, stop: CancellationToken) {
    let waits: Vec<_> = Queue::ALL
        .map(|queue| metrics::histogram!("convoke_queue_wait_seconds", "queue" => queue.name()))
        .into_iter()
        .collect();
    loop {
        let due = Instant::now() + LOOK_EVERY;
        let due_us = u64::try_from((due - gate.0.began).as_micros()).unwrap_or(u64::MAX);
        gate.0.look_at_us.store(due_us, Ordering::Relaxed);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due) => {}
        }
        let others = queues.iter().map(|(queue, waiting)| (*queue, waiting()));
        for (queue, wait) in std::iter::once((Queue::Workers, due.elapsed())).chain(others) {
            waits[queue as usize].record(wait.as_secs_f64());
            gate.waited(gate.0.began.elapsed(), queue, wait);
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
