//! A scripted SIP phone: it registers, rings, answers, talks, listens, and tells what it hears.
//!
//! The server runs such phones beside itself as *test lines*, `convoke phone` is one for the terminal, and tests and
//! benches call by the thousand with them. All protocol is in `sip` and all sound in `media`; here are the sockets, the
//! thread that paces the sound, and the [`Script`] that says how a line behaves.
//!
//! A [`PhoneBank`] runs any number of [`Line`]s: those that register share one UDP port, a line that plays a trunk's
//! public network binds the trunk's address. A [`Phone`] is a bank with one line. What happens comes out as
//! [`PhoneEvent`]s, each one JSON line when printed.
//!
//! ```text
//!            orders            bytes                 RTP sockets
//!  caller ─────────→ station ←───────→ SIP sockets        │
//!             ↑  sip::Agent, scripts                      │
//!             │         │ start, change, end              │
//!             │         └────────────→ media thread ──────┘
//!             └─── PhoneEvents ←───────────┘  every 20 ms, all calls of the bank
//! ```

mod challenge;
mod desk;
pub mod event;
pub mod load;
pub mod phone;
mod record;
pub mod script;
mod sounds;
mod station;
mod talk;
mod wire;

pub use event::{By, CallKey, EndCause, Happening, PhoneEvent, Statistics, ToneLevel};
pub use load::{LoadBank, LoadConfig, LoadCounters};
pub use phone::{
    Account, BankConfig, Events, Line, LineFailed, OrderError, Phone, PhoneBank, PhoneConfig, PhoneOrder, Place,
    ShutDown, StartError, Transport, TrunkLine,
};
pub use script::{CodecName, Reply, Say, Script, ScriptError};
pub use sounds::SoundError;
