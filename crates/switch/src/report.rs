//! What the switch tells the server beside signals: registrations to be stored, trunks that live or die, its own health.

use std::net::SocketAddr;

use control::Timestamp;

/// A contact of a user, with all facts needed to store it and to ring it after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `username@domain`; see [`crate::aor`].
    pub aor: String,
    /// The address of record as the phone wrote it.
    pub aor_uri: String,
    /// The contact as the phone wrote it. With `aor` the key of a binding.
    pub contact: String,
    /// Topmost first (RFC 3327).
    pub path: Vec<String>,
    /// Where the registration came from.
    pub source: SocketAddr,
    /// `udp`, `tcp`.
    pub transport: String,
    pub call_id: String,
    pub cseq: u32,
    /// Preference in thousandths.
    pub q_thousandths: u16,
    pub user_agent: Option<String>,
    /// `+sip.instance` (RFC 5626).
    pub instance: Option<String>,
    /// By the wall clock.
    pub expires_at: Timestamp,
}

/// News for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Store this contact, in place of an earlier one with the same `aor` and `contact`.
    Bound(Box<Binding>),
    /// This contact is gone.
    Unbound { aor: String, contact: String },
    /// A trunk answers again, or for the first time.
    TrunkAlive { name: String },
    /// A trunk no longer answers.
    TrunkDead { name: String },
    /// A part of the switch has died; the process should be restarted.
    Died { part: &'static str },
}
