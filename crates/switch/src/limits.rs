//! Bounds of the switch on what peers can make it do, each with its reason.

/// Redirections that one leg follows. Somebody waits, and phones that forward to each other never come to an end.
pub(crate) const REDIRECTIONS_MAX: usize = 4;
