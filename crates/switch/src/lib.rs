//! The switch performs what `control` decides: it dials, mixes and hangs up legs, and reports signals.
//!
//! It owns SIP's and RTP's sockets, the mixers' threads and nothing that a decision about calls is made of. It knows
//! users and trunks from a shared [`Directory`]; registrations go out as [`Report`]s, are stored by the server, and
//! come back as [`Binding`]s at the next start.

mod backlog;
mod causes;
mod config;
mod dialing;
mod directory;
mod happening;
mod limits;
mod media;
mod operator;
mod redirecting;
mod report;
mod running;
mod session;
mod sip;
mod statistics;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use control::{ConferenceId, Effect, Signal};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::media::rtp::PortRange;
use crate::media::threads::MediaThreads;
use crate::operator::{Operator, Parts};
use crate::running::{Channels, Here, Request, Running};
use crate::sip::transports::Transports;

pub use backlog::Backlog;
pub use config::{MediaConfig, SipConfig, SwitchConfig};
pub use directory::{Directory, Found, Trunk, TrunkCredentials, User, aor};
pub use happening::{Happening, What};
pub use report::{Binding, Report};
pub use statistics::LegStatistics;

/// The switch without its sockets, threads and task: for a world on virtual time.
pub mod bare {
    pub use crate::media::rtp::{Channel, RtpSockets, Wire};
    pub use crate::media::tick::{News, Order, Ticking};
    pub use crate::operator::{Input, Listening, Machine, Now, Operator, Output, Parts};
}

/// The running switch. Dropping it stops it without a word to anyone; see [`Switch::shutdown`].
#[derive(Debug)]
pub struct Switch {
    addresses: Addresses,
    happenings: broadcast::Sender<Happening>,
    requests: mpsc::Sender<Request>,
    backlog: Backlog,
}

/// Happenings kept for a reader that is slow.
const HAPPENINGS_MAX: usize = 4_096;

/// Requests of the handle that wait.
const REQUESTS_MAX: usize = 64;

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
        let codecs = session::codecs(&config.media.codecs);
        if codecs.is_empty() {
            return Err(StartError::NoCodec);
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| StartError::Randomness(error.to_string()))?;
        let range = &config.media.ports;
        let start = u16::from_le_bytes([seed[0], seed[1]]);
        // IPv6 takes IPv4 in too; it is used only where SIP speaks it, because some hosts have none.
        let speaks_ipv6 = config.sip.udp.iter().chain(&config.sip.tcp).any(SocketAddr::is_ipv6);
        let everywhere = if speaks_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let ports = PortRange::new(config.media.bind.unwrap_or(everywhere), range, start)
            .ok_or(StartError::NoPorts { first: *range.start(), last: *range.end() })?;
        let transports = Transports::bind(&config.sip)?;
        let addresses = Addresses::of(&transports);
        let (threads, news) = MediaThreads::start(config.media.threads).map_err(StartError::Thread)?;
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let (happenings, _) = broadcast::channel(HAPPENINGS_MAX);
        let died = reports.clone();
        let parts = Parts {
            config,
            codecs,
            directory,
            bindings,
            listening: transports.listening().to_vec(),
            threads: threads.count(),
            machine: Box::new(Here { ports }),
            seed,
        };
        let backlog = Backlog::new();
        let channels = Channels {
            effects,
            signals,
            reports,
            requests: asked,
            happenings: happenings.clone(),
            backlog: backlog.clone(),
        };
        let operator = Operator::new(running::now(), parts);
        let operator = tokio::spawn(Running::new(operator, transports, threads, news, channels).run());
        tokio::spawn(async move {
            if let Err(error) = operator.await {
                tracing::error!(%error, "the switch's operator has died");
                let _ = died.send(Report::Died { part: "operator" }).await;
            }
        });
        Ok(Self { addresses, happenings, requests, backlog })
    }

    /// Where it listens: with a port 0 in the configuration, the port that was free.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What happens from here on. A reader that is too slow misses the oldest.
    pub fn happenings(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// How far it is behind with effects.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Every leg with open media, as of the last tick; none if the switch has died.
    pub async fn stats(&self) -> Vec<LegStatistics> {
        let (reply, figures) = oneshot::channel();
        if self.requests.send(Request::Statistics(reply)).await.is_err() {
            return Vec::new();
        }
        figures.await.unwrap_or_default()
    }

    /// Everything that an earlier process left has been given as effects: what phones said meanwhile is heard.
    pub async fn taken_up(&self) {
        let _ = self.requests.send(Request::TakenUp).await;
    }

    /// Refuses new dialogs from here on; what is under way goes on.
    pub async fn drain(&self) {
        let _ = self.requests.send(Request::Drain).await;
    }

    /// Hangs up what is left, waits a few seconds for the answers, stops.
    pub async fn shutdown(self) {
        let (done, over) = oneshot::channel();
        if self.requests.send(Request::ShutDown(done)).await.is_ok() {
            let _ = over.await;
        }
    }
}

impl Addresses {
    fn of(transports: &Transports) -> Self {
        let mut addresses = Self::default();
        for listening in transports.listening() {
            match listening.transport {
                ::sip::agent::Transport::Udp => addresses.udp.push(listening.local),
                ::sip::agent::Transport::Tcp => addresses.tcp.push(listening.local),
            }
        }
        addresses
    }
}
