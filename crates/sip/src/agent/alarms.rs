//! When which part of the agent has to look at the clock: an index over deadlines that the parts compute.
//!
//! A part's deadline follows from its state. After each change of a part the agent asks it again and notes the answer
//! here, so that the next deadline of thousands of transactions is found without looking at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Deadlines by key, and the keys by deadline.
#[derive(Debug)]
pub(super) struct Alarms<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Alarms<K> {
    pub(super) fn new() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Notes the deadline of `key`, in place of an earlier one.
    pub(super) fn set(&mut self, key: K, deadline: Option<Instant>) {
        let earlier = match deadline {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if earlier == deadline {
            return;
        }
        if let Some(earlier) = earlier {
            self.by_time.remove(&(earlier, key));
        }
        if let Some(at) = deadline {
            self.by_time.insert((at, key));
        }
    }

    /// Takes one key out whose deadline has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }
}
