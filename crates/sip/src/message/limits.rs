//! Every bound on what a peer may send us, each with its reason.

/// Longest message, head and body together: what one UDP datagram can carry, and far above any real INVITE.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Most header lines of one message. Real messages have 15 to 30; a long chain of proxies adds a few dozen.
pub const HEADERS_MAX: usize = 128;

/// Longest header value after unfolding. Identity (RFC 8224) and long Route sets stay well below.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Longest Request-URI, and longest URI in any header we read as one.
pub const URI_BYTES_MAX: usize = 2 * 1024;

/// Highest CSeq number, RFC 3261 §8.1.1.5: it must be less than 2**31.
pub const CSEQ_MAX: u32 = (1 << 31) - 1;

/// Highest Max-Forwards, RFC 3261 §20.22.
pub const MAX_FORWARDS_MAX: u32 = 255;

/// Most bytes a stream may have waiting for their reader. A reader that takes messages after every push holds at most
/// one unfinished message and one read.
pub const STREAM_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// Longest body over a stream that is refused and skipped. A longer one, or a lie about it, ends the stream: nobody is read
/// for hours on his word that a message will come.
pub const SKIPPED_BYTES_MAX: u64 = 1024 * 1024;

/// Most elements of one comma-separated list, over all its header lines. Keeps the answer to a crafted list cheap.
pub const LIST_MAX: usize = 256;
