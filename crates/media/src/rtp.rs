//! RTP and RTCP (RFC 3550): packets, their clock, the buffer that evens their arrival out, and reports about it all.

mod arena;
pub mod clock;
pub mod jitter;
pub mod packet;
pub mod rtcp;
