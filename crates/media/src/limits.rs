//! Every bound of the media path, each with its reason.

/// Formats a leg may receive: an SDP answer that keeps more than eight codecs is nobody's.
pub const FORMATS_MAX: usize = 8;
/// The largest packet sent: an Ethernet frame without the IP and UDP headers, rounded down.
pub const PACKET_BYTES_MAX: usize = 1_400;
/// Ports in one room unless configured otherwise.
pub const PORTS_MAX: usize = 1_000;
/// Talkers mixed at once unless configured otherwise. A room of ten may all talk at once; in a larger one more than
/// ten voices at once are noise to the ear, and each costs a private encode.
pub const TALKERS_MAX: usize = 10;
/// Tones waiting to be sent: a card number, its expiry and its check digits are pressed by a script at once.
pub const TONES_QUEUED_MAX: usize = 64;
/// Tones received and not yet taken by the owner, who looks every tick: 50 ms is the shortest key press.
pub const TONES_HEARD_MAX: usize = 8;
