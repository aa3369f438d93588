//! Audio at the crate's wall: real packets, a turned clock, and ears for tones.

mod hall;
mod hostile;
mod legs;
mod rooms;
