//! Audio as arithmetic: packets and frames in, frames and packets out.
//!
//! Nothing here owns a socket, a clock or a thread. An edge gives a [`Port`] the packets of one leg and turns the
//! [`Room`] that holds it every 20 ms ([`TICK`]); the room hands back the packets to send. Time arrives as an
//! argument, randomness as a seed. After set-up nothing on this path allocates.
//!
//! ```text
//!  packet → Port::receive → jitter buffer ─┐                    ┌→ own encoder → packet   (talkers)
//!                                          ├→ Room::tick: mix ──┤
//!  packet → Port::receive → jitter buffer ─┘                    └→ shared encode → packets (listeners)
//! ```
//!
//! A softphone is an [`Endpoint`]: one port, something to say, and what it hears.

pub mod codec;
pub mod dtmf;
pub mod endpoint;
pub mod frame;
pub mod goertzel;
pub mod limits;
mod mixer;
pub mod port;
pub mod quality;
pub mod resample;
pub mod room;
pub mod rtp;
pub mod tone;
pub mod voice;
pub mod wav;

pub use codec::{Codec, Encoders, Profile};
pub use dtmf::Tone;
pub use endpoint::{Endpoint, Source};
pub use frame::{Frame, SAMPLE_RATE, SAMPLES, TICK};
pub use goertzel::Goertzel;
pub use port::{Direction, Events, Format, Ignored, LegStats, Port, PortConfig, PortError, Received, ToneFormat};
pub use room::{PortId, Room, RoomConfig, RoomStats};
pub use tone::{Clip, Sine, Speech};
