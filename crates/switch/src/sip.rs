//! The shells around SIP: sockets and look-ups, and nothing that knows what a message means.

pub(crate) mod resolve;
pub(crate) mod streams;
pub(crate) mod transports;
