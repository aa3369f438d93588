//! What the switch is told once, when it starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Everything the switch is told once.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    pub sip: SipConfig,
    pub media: MediaConfig,
    /// Legs at one time; further dials fail at once.
    pub legs_max: usize,
    /// An earlier process may have left legs: until [`crate::Switch::taken_up`], or this is over, phones are not told that
    /// their dialogs do not exist.
    pub take_up_within: Option<Duration>,
    /// As in [`sip::agent::AgentConfig::process`].
    pub process: u32,
}

/// SIP: where we listen, who we say we are.
#[derive(Clone)]
pub struct SipConfig {
    /// UDP sockets to bind. Port 0 takes any free one.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners to bind. Port 0 takes the first UDP socket's port if it is free, else any.
    pub tcp: Vec<SocketAddr>,
    /// Written into Via, Contact and SDP; by default the local address of the route to the peer.
    pub public_address: Option<IpAddr>,
    /// The DNS server that is asked for trunks; the system's if none is named.
    pub resolver: Option<SocketAddr>,
    /// The one digest realm. The hashes in the [`crate::Directory`] are made with it.
    pub realm: String,
    /// The digest algorithms that phones are offered, in this order.
    pub digests: Vec<sip::digest::Algorithm>,
    /// The User-Agent and Server header.
    pub user_agent: String,
    /// Call-IDs and tags derive from it, so that a later process finds an earlier one's calls. The same for the life
    /// of the node; secret.
    pub node_secret: [u8; 32],
    /// Log every message, credentials masked, under the target `switch::trace`.
    pub trace: bool,
    /// What is done about those who guess passwords.
    pub guesses: sip::agent::GuessLimits,
    /// TCP connections at one time.
    pub streams_max: usize,
    /// TCP connections at one time from one address.
    pub streams_per_address_max: usize,
    /// The session interval that is asked for (RFC 4028), so that a call whose phone is gone without a word ends; zero
    /// for none. At least 90 s.
    pub session_expires: Duration,
    /// How often each trunk is asked whether it lives; zero for never.
    pub ping_trunks_every: Duration,
}

impl std::fmt::Debug for SipConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SipConfig")
            .field("udp", &self.udp)
            .field("tcp", &self.tcp)
            .field("public_address", &self.public_address)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// RTP: which ports, how many threads, which codecs.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// The address RTP sockets are bound to; by default all.
    pub bind: Option<IpAddr>,
    /// Ports for RTP (even) and RTCP (odd).
    pub ports: RangeInclusive<u16>,
    /// Tick threads; at least one.
    pub threads: usize,
    /// Offered codecs, best first: `PCMU`, `PCMA`, `G722`, `opus`. Unknown names are left out.
    pub codecs: Vec<String>,
    /// How many talkers of one room are mixed at once.
    pub talkers_max: usize,
}

impl SwitchConfig {
    /// Loopback on free ports, for tests and `demo`. `node_secret` as in [`SipConfig::node_secret`].
    pub fn loopback(node_secret: [u8; 32]) -> Self {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Self::new(node_secret);
        config.sip.udp = vec![here];
        config.sip.tcp = vec![here];
        config.media.bind = Some(here.ip());
        config
    }

    /// The defaults of `serve`: SIP on 5060, RTP on 20000–29999, all interfaces.
    pub fn new(node_secret: [u8; 32]) -> Self {
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060));
        Self {
            sip: SipConfig {
                udp: vec![everywhere],
                tcp: vec![everywhere],
                public_address: None,
                resolver: None,
                realm: "convoke".to_owned(),
                digests: vec![sip::digest::Algorithm::Sha256, sip::digest::Algorithm::Md5],
                user_agent: concat!("convoke/", env!("CARGO_PKG_VERSION")).to_owned(),
                node_secret,
                trace: false,
                guesses: sip::agent::GuessLimits::default(),
                streams_max: 10_000,
                streams_per_address_max: 1_000,
                session_expires: Duration::from_mins(30),
                ping_trunks_every: Duration::from_secs(30),
            },
            media: MediaConfig {
                bind: None,
                ports: 20_000..=29_999,
                threads: std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
                codecs: ["opus", "G722", "PCMU", "PCMA"].map(str::to_owned).to_vec(),
                talkers_max: 10,
            },
            legs_max: 4_000,
            take_up_within: None,
            process: 0,
        }
    }
}
