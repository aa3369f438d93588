//! What a phone tells: one event, one JSON line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Names a call of a bank: 32 hexadecimal digits when written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(pub [u8; 16]);

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({self})")
    }
}

impl Serialize for CallKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call is named by 32 hexadecimal digits")]
pub struct NotACallKey;

impl FromStr for CallKey {
    type Err = NotACallKey;

    fn from_str(text: &str) -> Result<Self, NotACallKey> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotACallKey);
        }
        Ok(Self(u128::from_str_radix(text, 16).map_err(|_| NotACallKey)?.to_be_bytes()))
    }
}

/// Something that happened at a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhoneEvent {
    /// Milliseconds since the bank was started.
    pub at_ms: u64,
    /// The line's name.
    pub line: Arc<str>,
    /// The call it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<CallKey>,
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened. Each call ends with exactly one [`Happening::Ended`]; only [`Happening::Recorded`] may follow it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// The registrar took our contact; it is refreshed by itself.
    Registered { expires_s: u64 },
    /// The registrar refused; 408 if it is silent.
    RegisterFailed { status: u16 },
    /// The contact was taken back.
    Unregistered,
    /// Somebody calls.
    Incoming {
        /// The caller's display name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The caller's URI.
        from: String,
        /// The URI in To.
        to: String,
        /// The user part of the Request-URI: for a trunk's line the number that was dialled.
        number: String,
    },
    /// We call.
    Dialing { to: String },
    /// It rings, here for an incoming call and there for our own.
    Ringing,
    /// The call was answered, by us or by them.
    Answered {
        /// The codec we send, as in SDP: `PCMU`, `PCMA`, `G722`, `opus`; none in a call without media.
        #[serde(skip_serializing_if = "Option::is_none")]
        codec: Option<&'static str>,
    },
    /// The first packet of sound has come.
    MediaUp,
    /// What was heard in the last 200 ms.
    Hears {
        /// The loudness of all, in dBov: 0 is a full-scale square wave, −127 is silence.
        level_dbov: f32,
        /// The level of each frequency that the bank listens for.
        tones: Vec<ToneLevel>,
    },
    /// The peer pressed a key.
    Dtmf { digit: char },
    /// The sound is stopped.
    Held { by: By },
    /// The sound goes on.
    Resumed { by: By },
    /// A change of the session was refused by the peer; it stays as it was.
    ChangeRefused { status: u16 },
    /// The call is over.
    Ended {
        cause: EndCause,
        /// The final SIP status of a call that was never connected.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The SIP cause in the peer's Reason header (RFC 3326); 200 in a CANCEL: answered elsewhere.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<u16>,
        /// The sound's figures, if there was any.
        #[serde(skip_serializing_if = "Option::is_none")]
        statistics: Option<Statistics>,
    },
    /// A recording is complete on disk.
    Recorded { path: PathBuf, seconds: f32 },
    /// The recording could not be written; what there is stays.
    RecordingFailed { path: PathBuf, error: String },
    /// A SIP message as it is on the wire, secrets masked; only when tracing is on.
    Trace { sent: bool, peer: String, message: String },
}

/// The level of one frequency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ToneLevel {
    pub hz: f32,
    pub dbov: f32,
}

/// Whose doing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Us,
    Peer,
}

/// Why a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// We hung up.
    HungUp,
    /// The peer hung up.
    PeerHungUp,
    /// The caller gave up before we answered.
    Cancelled,
    /// We refused it.
    Refused,
    /// The peer refused our call.
    Rejected,
    /// Nobody answered in time.
    NoAnswer,
    /// The peer could not be reached.
    Unreachable,
    /// The peer stopped speaking SIP in the middle of the call.
    Lost,
    /// The offers have no codec in common, or their SDP cannot be used.
    NoCommonMedia,
    /// We could not do it: no socket, too many calls.
    Failed,
}

/// The figures of a call's sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    pub packets_in: u64,
    pub packets_out: u64,
    pub lost: u64,
    pub late: u64,
    /// Ticks of 20 ms that were invented because a packet was missing.
    pub concealed: u64,
    pub jitter_ms: f32,
}
