//! Who is connected, counted by source, so that no one takes all the places there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::Source;

/// As long as the sources that have a connection: bounded by the connections there may be.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    present: Arc<Mutex<HashMap<Source, u32>>>,
    /// Connections of one source at once.
    each_max: u32,
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Crowd,
    source: Source,
}

impl Crowd {
    pub(super) fn new(each_max: u32) -> Self {
        Self { present: Arc::default(), each_max }
    }

    /// `None` when the source has all it may.
    pub(super) fn seat(&self, source: Source) -> Option<Seat> {
        let mut present = self.present();
        let count = present.entry(source).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), source })
    }

    /// Nothing is left half done under this lock, so a panic elsewhere does not spoil what it guards.
    fn present(&self) -> MutexGuard<'_, HashMap<Source, u32>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut present = self.crowd.present();
        let Some(count) = present.get_mut(&self.source) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            present.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_share_and_gives_it_back() {
        let crowd = Crowd::new(2);
        let source = |address: &str| Source::of(address.parse().unwrap());
        let (one, two) = (crowd.seat(source("192.0.2.1")), crowd.seat(source("192.0.2.1")));
        assert!(one.is_some() && two.is_some() && crowd.seat(source("192.0.2.1")).is_none());
        assert!(crowd.seat(source("192.0.2.2")).is_some());
        drop(one);
        assert!(crowd.seat(source("192.0.2.1")).is_some());
        drop(two);
        assert!(crowd.present().is_empty());
    }
}
