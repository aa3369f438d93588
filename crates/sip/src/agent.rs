//! The agent: every SIP leg of one process, driven by bytes, orders and time.
//!
//! The shell owns sockets, look-ups and the clock. It gives each thing that happens to [`Agent::handle`], then takes
//! [`Output`]s until there are none, and calls again at [`Agent::deadline`]. The agent never waits and never sleeps.

mod vocabulary;

use std::collections::VecDeque;
use std::time::Instant;

pub use vocabulary::{
    AgentConfig, Algorithm, Binding, Branch, Caller, CancelDerived, ConnectId, Counters, Credentials, Dial, Direction,
    EndReason, FailedBecause, Flow, HangUpCause, Hint, Incoming, IncomingPolicy, Input, LegKey, Lookup, Nobody, Order,
    Output, QueryId, Register, RegistrarConfig, Report, Snapshot, Tone, Transport, UnboundBecause, Users,
};

/// Most branches of one leg that ring at once.
pub const BRANCHES_MAX: usize = 32;

/// The SIP side of one process.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    outputs: VecDeque<Output>,
    counters: Counters,
    now: Instant,
}

impl Agent {
    /// An agent without flows or legs.
    pub fn new(config: AgentConfig, now: Instant) -> Self {
        Self { config, outputs: VecDeque::new(), counters: Counters::default(), now }
    }

    /// Takes one input. `now` never goes back.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = self.now.max(now);
        let _ = (input, &self.config);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The contacts of an address of record, as they are registered.
    pub fn bindings(&self, aor: &str) -> Vec<Binding> {
        let _ = aor;
        Vec::new()
    }

    /// Nothing is under way: no leg, no transaction, no connection or look-up that somebody waits for.
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty()
    }
}
