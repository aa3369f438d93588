//! The media side: RTP sockets, tick threads, and who sits in which room on which thread.
//!
//! `seats.rs` and `tick.rs`'s turn own no thread and no socket; `threads.rs` and `rtp.rs` do.
//!
//! ```text
//!  operator (tokio) ── orders, bounded ──► media-0 ──┐ a leg changes threads as one boxed value
//!                   ◄── news, bounded ───  media-1 ◄─┘
//! ```

pub(crate) mod rtp;
pub(crate) mod seats;
pub(crate) mod threads;
pub(crate) mod tick;
