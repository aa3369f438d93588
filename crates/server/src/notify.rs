//! Tells applications what happened to their calls: durable, in order per call, at least once (OQ-9).
//!
//! The engine writes notices into the store's outbox with the turn that caused them. [`courier`] decides what is sent
//! next, again, or no more; [`deliver`] does it.

mod address;
pub mod courier;
pub mod deliver;
mod wire;
