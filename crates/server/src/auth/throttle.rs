//! Guesses at secrets are slowed down and then refused, without getting in the way of those who know theirs.
//!
//! Three counts of wrong secrets: of one source for one application, of one source, and of one application from
//! everywhere. Each has a number that is free; beyond, every wrong secret doubles the time until the next is looked at,
//! and whoever comes earlier is refused unseen, right or wrong. A source that had the right secret of an application
//! within a day answers for its own guesses at that application only: neither a bad neighbour behind the same address nor
//! a crowd of guessers elsewhere keeps it out.
//!
//! Secrets of one source are verified one after the other, so that a burst of wrong ones takes one thread at most, and
//! the rest of it is refused as soon as the free ones have failed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::AppId;
use thiserror::Error;

use crate::limits::{
    COUNTS_MAX, RIGHT_REMEMBERED_FOR, TURNS_WAITING_MAX, WAIT_FIRST, WAIT_MAX, WRONG_FREE_APP, WRONG_FREE_PAIR,
    WRONG_FREE_SOURCE, WRONG_REMEMBERED_FOR,
};
use crate::source::Source;

/// Come back after that long: more than nothing, at most [`WAIT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many wrong secrets; wait for {} s", self.seconds())]
pub(crate) struct Wait(Duration);

impl Wait {
    /// Whole seconds, so that whoever waits for them is not too early.
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    }
}

/// Counts guesses, and puts those of one source into a queue.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    counts: Mutex<Counts>,
    turns: Mutex<HashMap<Source, Arc<tokio::sync::Mutex<()>>>>,
}

impl Throttle {
    /// Whether a secret from there may be looked at; `app` is `None` when it is for no application that exists.
    pub(crate) fn admit(&self, source: Source, app: Option<AppId>) -> Result<(), Wait> {
        let admitted = lock(&self.counts).admit(source, app, Instant::now());
        if admitted.is_err() {
            metrics::counter!("convoke_token_requests_refused_total").increment(1);
        }
        admitted
    }

    pub(crate) fn wrong(&self, source: Source, app: Option<AppId>) {
        if lock(&self.counts).wrong(source, app, Instant::now()) {
            let app = app.map(tracing::field::display);
            tracing::warn!(%source, app, "too many wrong client secrets; further ones have to wait");
        }
    }

    pub(crate) fn right(&self, source: Source, app: AppId) {
        lock(&self.counts).right(source, app, Instant::now());
    }

    /// A place in the queue of a source; `None` when that is full.
    pub(crate) fn queue(&self, source: Source) -> Option<Place<'_>> {
        let mut turns = lock(&self.turns);
        let queue = Arc::clone(turns.entry(source).or_default());
        drop(turns);
        let place = Place { throttle: self, source, queue };
        // The list's own is one of them.
        (Arc::strong_count(&place.queue) - 1 <= TURNS_WAITING_MAX).then_some(place)
    }
}

/// One who waits or has its turn. The last one, served or gone, clears up.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    throttle: &'a Throttle,
    source: Source,
    queue: Arc<tokio::sync::Mutex<()>>,
}

impl Place<'_> {
    /// Waits for those who came before.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.queue.lock().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.throttle.turns);
        // The list's and ours; others are handed out under the lock only.
        if Arc::strong_count(&self.queue) <= 2 {
            turns.remove(&self.source);
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Pair(Source, AppId),
    Source(Source),
    App(AppId),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    wrong: u32,
    last: Instant,
}

/// The counts, decided without a clock.
#[derive(Debug, Default)]
struct Counts {
    wrong: HashMap<Whose, Count>,
    /// When a source last had the right secret of an application.
    right: HashMap<(Source, AppId), Instant>,
}

impl Whose {
    fn free(self) -> u32 {
        match self {
            Self::Pair(..) => WRONG_FREE_PAIR,
            Self::Source(_) => WRONG_FREE_SOURCE,
            Self::App(_) => WRONG_FREE_APP,
        }
    }
}

impl Counts {
    fn admit(&self, source: Source, app: Option<AppId>, now: Instant) -> Result<(), Wait> {
        let trusted = app
            .and_then(|app| self.right.get(&(source, app)))
            .is_some_and(|at| now.duration_since(*at) < RIGHT_REMEMBERED_FOR);
        let pair = app.map(|app| Whose::Pair(source, app));
        let rest = [Some(Whose::Source(source)), app.map(Whose::App)].into_iter().flatten().filter(|_| !trusted);
        let longest = pair.into_iter().chain(rest).filter_map(|whose| self.wait(whose, now)).max();
        longest.map_or(Ok(()), |wait| Err(Wait(wait)))
    }

    /// What is left of a wait.
    fn wait(&self, whose: Whose, now: Instant) -> Option<Duration> {
        let count = self.wrong.get(&whose)?;
        let beyond = count.wrong.checked_sub(whose.free())?;
        let wait = WAIT_FIRST.saturating_mul(1 << beyond.min(16)).min(WAIT_MAX);
        let left = (count.last + wait).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// `true` when this one was the last that is free.
    fn wrong(&mut self, source: Source, app: Option<AppId>, now: Instant) -> bool {
        let Some(app) = app else { return self.count(Whose::Source(source), now) };
        let pair = self.count(Whose::Pair(source, app), now);
        let beyond = self.wrong.get(&Whose::Pair(source, app)).is_some_and(|count| count.wrong > WRONG_FREE_PAIR);
        // One stubborn client is counted by itself; its neighbours do not have to wait for it.
        let source = !beyond && self.count(Whose::Source(source), now);
        let app = self.count(Whose::App(app), now);
        pair || source || app
    }

    fn count(&mut self, whose: Whose, now: Instant) -> bool {
        let known = self.wrong.get(&whose).filter(|count| now.duration_since(count.last) < WRONG_REMEMBERED_FOR);
        let wrong = known.map_or(0, |count| count.wrong).saturating_add(1);
        make_room(&mut self.wrong, &whose, |count| count.last);
        self.wrong.insert(whose, Count { wrong, last: now });
        wrong == whose.free()
    }

    fn right(&mut self, source: Source, app: AppId, now: Instant) {
        self.wrong.remove(&Whose::Pair(source, app));
        make_room(&mut self.right, &(source, app), |at| *at);
        self.right.insert((source, app), now);
    }
}

/// For one more, unless it is there.
fn make_room<K: Copy + Eq + Hash, V>(all: &mut HashMap<K, V>, new: &K, last: impl Fn(&V) -> Instant) {
    if all.len() < COUNTS_MAX || all.contains_key(new) {
        return;
    }
    let oldest = all.iter().min_by_key(|(_, value)| last(value)).map(|(key, _)| *key);
    oldest.map(|oldest| all.remove(&oldest));
}

/// Nothing is left half done under these locks, so a panic elsewhere does not spoil what they guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use uuid::Uuid;

    use super::*;

    const APP: AppId = AppId(Uuid::max());
    const OTHER: AppId = AppId(Uuid::nil());

    fn source(number: u32) -> Source {
        Source::of(Ipv4Addr::from(number).into())
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_forgotten() {
        let (mut counts, mut now) = (Counts::default(), Instant::now());
        for _ in 0..WRONG_FREE_PAIR - 1 {
            assert!(!counts.wrong(source(1), Some(APP), now));
            assert_eq!(counts.admit(source(1), Some(APP), now), Ok(()));
        }
        assert!(counts.wrong(source(1), Some(APP), now), "the last free one is told of");
        for wait in [5, 10, 20, 40, 80, 120, 120] {
            assert_eq!(counts.admit(source(1), Some(APP), now), Err(Wait(seconds(wait))));
            now += seconds(wait);
            assert_eq!(counts.admit(source(1), Some(APP), now), Ok(()));
            assert!(!counts.wrong(source(1), Some(APP), now));
        }
        now += WRONG_REMEMBERED_FOR;
        counts.wrong(source(1), Some(APP), now);
        assert_eq!(counts.admit(source(1), Some(APP), now), Ok(()));
    }

    #[test]
    fn others_do_not_wait_for_one_who_guesses() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        for _ in 0..50 {
            counts.wrong(source(1), Some(APP), now);
        }
        assert!(counts.admit(source(1), Some(APP), now).is_err());
        assert_eq!(counts.admit(source(2), Some(APP), now), Ok(()), "the same application from elsewhere");
        assert_eq!(counts.admit(source(1), Some(OTHER), now), Ok(()), "a neighbour behind the same address");
    }

    #[test]
    fn one_who_tries_many_applications_waits_but_not_its_proven_neighbour() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        counts.right(source(1), APP, now);
        for number in 0..WRONG_FREE_SOURCE {
            counts.wrong(source(1), Some(AppId(Uuid::from_u128(number.into()))), now);
        }
        assert!(counts.admit(source(1), Some(OTHER), now).is_err());
        assert!(counts.admit(source(1), None, now).is_err());
        assert_eq!(counts.admit(source(1), Some(APP), now), Ok(()));
        // Unknown applications count too.
        for _ in 0..WRONG_FREE_SOURCE {
            counts.wrong(source(2), None, now);
        }
        assert!(counts.admit(source(2), Some(APP), now).is_err());
    }

    #[test]
    fn a_crowd_that_guesses_at_one_application_waits_but_not_its_owner() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        counts.right(source(1), APP, now);
        for number in 0..WRONG_FREE_APP {
            counts.wrong(source(100 + number), Some(APP), now);
        }
        assert!(counts.admit(source(2), Some(APP), now).is_err());
        assert_eq!(counts.admit(source(1), Some(APP), now), Ok(()));
        assert_eq!(counts.admit(source(2), Some(OTHER), now), Ok(()));
        // Having been right once is no licence to guess.
        for _ in 0..WRONG_FREE_PAIR {
            counts.wrong(source(1), Some(APP), now);
        }
        assert!(counts.admit(source(1), Some(APP), now).is_err());
    }

    #[test]
    fn the_tables_are_bounded_and_forget_the_oldest() {
        let (mut counts, began) = (Counts::default(), Instant::now());
        for number in 0..u32::try_from(COUNTS_MAX).unwrap() + 10 {
            let now = began + Duration::from_micros(number.into());
            counts.wrong(source(number), None, now);
            counts.right(source(number), APP, now);
        }
        assert_eq!((counts.wrong.len(), counts.right.len()), (COUNTS_MAX, COUNTS_MAX));
        assert!(!counts.wrong.contains_key(&Whose::Source(source(9))));
        assert!(counts.wrong.contains_key(&Whose::Source(source(10))));
    }

    #[tokio::test]
    async fn a_source_has_one_turn_at_a_time_and_leaves_nothing_behind() {
        let throttle = Throttle::default();
        let (first, second) = (throttle.queue(source(1)).unwrap(), throttle.queue(source(1)).unwrap());
        let turn = first.turn().await;
        let mut waiting = Box::pin(second.turn());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let elsewhere = throttle.queue(source(2)).unwrap();
        drop(elsewhere.turn().await);
        drop(turn);
        drop(waiting.await);
        let many: Vec<_> = (0..TURNS_WAITING_MAX - 2).map(|_| throttle.queue(source(1)).unwrap()).collect();
        assert!(throttle.queue(source(1)).is_none());
        drop((first, second, elsewhere, many));
        assert!(lock(&throttle.turns).is_empty());
    }
}
