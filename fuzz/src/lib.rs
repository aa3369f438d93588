//! What any bytes may do to the parts that read them.
//!
//! Each module is one target: a function that takes bytes and panics if something does not hold. `cargo xtask fuzz` looks
//! for bytes that make it panic; `tests/corpus.rs` runs every input that was ever worth keeping, without a fuzzer.
//! Inputs that found something are named after it. docs/reliability.md says what came of it.

pub mod digest;
pub mod graph_json;
pub mod rtp;
pub mod sdp;
pub mod sip_agent;
pub mod sip_message;
pub mod sip_stream;
pub mod token;

/// A target: its name, which is that of its binary and of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("digest", digest::run),
    ("graph_json", graph_json::run),
    ("rtp", rtp::run),
    ("sdp", sdp::run),
    ("sip_agent", sip_agent::run),
    ("sip_message", sip_message::run),
    ("sip_stream", sip_stream::run),
    ("token", token::run),
];
