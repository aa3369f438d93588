//! Which calls each application has placed: for listing them. No call outlives the process, so neither does this.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use control::{AppId, CallId, Principal};

/// Of each application, the newest are kept.
const KEPT_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Placed(Mutex<HashMap<AppId, VecDeque<CallId>>>);

impl Placed {
    pub(super) fn note(&self, by: &Principal, call: CallId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = all.entry(by.app).or_default();
        if calls.len() >= KEPT_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// Oldest first, ended ones too.
    pub(super) fn of(&self, by: &Principal) -> Vec<CallId> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&by.app).into_iter().flatten().copied().collect()
    }

    /// A call that is found to have ended.
    pub(super) fn forget(&self, by: &Principal, call: CallId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = all.get_mut(&by.app) {
            calls.retain(|placed| *placed != call);
        }
    }
}
