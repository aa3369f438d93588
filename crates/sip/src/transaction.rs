//! The four transactions of RFC 3261 §17 with the amendments of RFC 6026, as machines without messages.
//!
//! Each machine is told what arrived and what time it is, and answers with the one step that is due. It knows
//! neither bytes nor addresses: the agent keeps the message beside the machine and sends it when a step says so.
//! Matching a message to its transaction (RFC 3261 §17.1.3 and §17.2.3) is the agent's table.

pub mod client;
pub mod invite_client;
pub mod invite_server;
pub mod server;

use std::time::{Duration, Instant};

pub use client::{Client, ClientStep};
pub use invite_client::{InviteClient, InviteClientStep};
pub use invite_server::{InviteServer, InviteServerStep};
pub use server::{Server, ServerStep};

/// The base values of RFC 3261, table 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round-trip time estimate.
    pub t1: Duration,
    /// The longest interval between retransmissions of a non-INVITE request or an INVITE response.
    pub t2: Duration,
    /// The longest time a message stays in the network.
    pub t4: Duration,
}

impl Timing {
    /// T2 and T4 keep their proportion to T1: 4 s and 5 s at 500 ms.
    pub fn from_t1(t1: Duration) -> Self {
        Self { t1, t2: t1 * 8, t4: t1 * 10 }
    }

    /// Timers B, F, H, L and M: 64 × T1.
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::from_t1(Duration::from_millis(500))
    }
}

/// A message that is repeated at growing intervals until something stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) at: Instant,
    interval: Duration,
    interval_max: Option<Duration>,
}

impl Repeat {
    pub(crate) fn starting(now: Instant, interval: Duration, interval_max: Option<Duration>) -> Self {
        Self { at: now + interval, interval, interval_max }
    }

    /// Goes on to the next interval, twice as long up to the bound.
    pub(crate) fn again(&mut self, now: Instant) {
        let doubled = self.interval * 2;
        self.interval = self.interval_max.map_or(doubled, |max| doubled.min(max));
        self.at = now + self.interval;
    }

    /// Goes on with the longest interval: a provisional response was heard (RFC 3261 §17.1.2.2).
    pub(crate) fn slow_down(&mut self) {
        if let Some(max) = self.interval_max {
            self.interval = max;
        }
    }
}
