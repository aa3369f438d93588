//! INVITE sessions: the calling side, the called side, and what both do within a dialog.
//!
//! These are the parts of a leg that can be told apart from sending and receiving: which of several failures to
//! report, whether an offer may be made, when a session has to be refreshed. The agent moves the messages.

pub mod initiator;
pub mod reinvite;
pub mod reliable;
