//! Load: many registered users that answer at once, for benches. They are ordinary lines, but silent if so wished.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::phone::{Account, BankConfig, Line, PhoneBank, Place, StartError};
use crate::script::{Reply, Script};

/// What a load bank does.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    pub bank: BankConfig,
    /// The users that register, one line each.
    pub users: Vec<Account>,
    /// How long each lets it ring; zero answers without a 180.
    pub answer_after: Duration,
    /// Hangs up so long after the answer; without it the caller does.
    pub hangup_after: Option<Duration>,
}

/// Registered answerers.
#[derive(Clone, Debug)]
pub struct LoadBank {
    bank: PhoneBank,
}

impl LoadBank {
    /// Registers all users. They are reachable when [`LoadCounters::registered`] has counted them.
    pub async fn start(config: LoadConfig) -> Result<Self, StartError> {
        let bank = PhoneBank::start(config.bank).await?;
        let script = Script {
            reply: Reply::Answer,
            answer_after: config.answer_after,
            hangup_after: config.hangup_after,
            ..Script::default()
        };
        let line = |account: Account| Line {
            name: format!("{}@{}", account.username, account.domain),
            place: Place::Registered(account),
            script: script.clone(),
        };
        // Registered lines share the socket that is bound already: none of them can fail.
        let _ = bank.set(config.users.into_iter().map(line).collect()).await;
        Ok(Self { bank })
    }

    /// What was counted so far.
    pub fn counters(&self) -> LoadCounters {
        self.bank.counters()
    }

    /// The bank, for events and the end.
    pub fn bank(&self) -> &PhoneBank {
        &self.bank
    }
}

/// What a bank has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LoadCounters {
    /// Registrations that stand, refreshes not counted again.
    pub registered: u64,
    pub register_failed: u64,
    /// Calls that came in.
    pub incoming: u64,
    /// Calls that we answered, or that answered us.
    pub answered: u64,
    /// Calls whose ACK came.
    pub confirmed: u64,
    /// Calls that the peer hung up.
    pub peer_hung_up: u64,
    /// Calls that we hung up.
    pub hung_up: u64,
    /// Calls that ended in any other way after they had been answered.
    pub lost: u64,
    /// Calls that were never answered.
    pub unanswered: u64,
}

/// The counters as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) registered: AtomicU64,
    pub(crate) register_failed: AtomicU64,
    pub(crate) incoming: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) peer_hung_up: AtomicU64,
    pub(crate) hung_up: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) unanswered: AtomicU64,
}

impl Counting {
    pub(crate) fn read(&self) -> LoadCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LoadCounters {
            registered: read(&self.registered),
            register_failed: read(&self.register_failed),
            incoming: read(&self.incoming),
            answered: read(&self.answered),
            confirmed: read(&self.confirmed),
            peer_hung_up: read(&self.peer_hung_up),
            hung_up: read(&self.hung_up),
            lost: read(&self.lost),
            unanswered: read(&self.unanswered),
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
