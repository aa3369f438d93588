//! The switch performs what `control` decides: it dials, mixes and hangs up legs, and reports signals.
//!
//! It owns SIP's and RTP's sockets, the mixers' threads and nothing that a decision about calls is made of. It knows
//! users and trunks from a shared [`Directory`]; registrations go out as [`Report`]s, are stored by the server, and
//! come back as [`Binding`]s at the next start.

mod config;
mod directory;
mod happening;
mod report;
mod statistics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use control::{ConferenceId, Effect, Signal};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc};

pub use config::{MediaConfig, SipConfig, SwitchConfig};
pub use directory::{Directory, Found, Trunk, TrunkCredentials, User, aor};
pub use happening::{Happening, What};
pub use report::{Binding, Report};
pub use statistics::LegStatistics;

/// The running switch. Dropping it stops it without a word to anyone; see [`Switch::shutdown`].
#[derive(Debug)]
pub struct Switch {
    addresses: Addresses,
    happenings: broadcast::Sender<Happening>,
}

/// Where the switch listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
}

/// Why the switch cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot listen for SIP on {transport} {address}: {source}")]
    Listen { transport: &'static str, address: SocketAddr, source: io::Error },
    #[error("SIP listens nowhere: name at least one UDP address")]
    NoListener,
    #[error("the RTP port range {first}–{last} holds no pair of ports")]
    NoPorts { first: u16, last: u16 },
    #[error("no codec is known of those configured")]
    NoCodec,
    #[error("cannot start a media thread: {0}")]
    Thread(io::Error),
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

impl Switch {
    /// Binds sockets, starts threads and tasks. Call it inside a tokio runtime.
    ///
    /// Effects are performed in order of arrival; each `HangUp` is answered by exactly one `HungUp`, whether the leg is
    /// known or not.
    pub fn start(
        config: SwitchConfig,
        directory: Arc<ArcSwap<Directory>>,
        bindings: Vec<Binding>,
        effects: mpsc::Receiver<(ConferenceId, Effect)>,
        signals: mpsc::Sender<(ConferenceId, Signal)>,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, StartError> {
        drop((config, directory, bindings, effects, signals, reports));
        Ok(Self { addresses: Addresses::default(), happenings: broadcast::channel(1024).0 })
    }

    /// Where it listens: with a port 0 in the configuration, the port that was free.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What happens from here on. A reader that is too slow misses the oldest.
    pub fn happenings(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// Every leg with open media, as of the last tick.
    pub async fn stats(&self) -> Vec<LegStatistics> {
        Vec::new()
    }

    /// Refuses new dialogs from here on; what is under way goes on.
    pub fn drain(&self) {}

    /// Hangs up what is left, waits a few seconds for the answers, stops.
    pub async fn shutdown(self) {}
}
