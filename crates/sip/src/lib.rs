//! SIP as state machines: bytes and time in, bytes and events out.
//!
//! [`message`] reads and prints messages, [`sdp`] negotiates audio, [`digest`] authenticates, [`registrar`] knows where
//! people can be reached, [`locate`] where servers are. [`agent`] ties them together: all calls and registrations of one process, driven by bytes,
//! orders and time, on [`transaction`]s and [`dialog`]s. Nothing here owns a socket, a clock or a random number.

pub mod agent;
pub mod dialog;
pub mod digest;
pub mod invite;
pub mod locate;
pub mod message;
pub mod registrar;
pub mod sdp;
pub mod transaction;
