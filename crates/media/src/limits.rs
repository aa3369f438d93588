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
/// Packets that wait in one jitter buffer: 200 ms of 10 ms packets and as many again that came in a burst.
pub const JITTER_PACKETS_MAX: usize = 40;
/// Payload that waits in one jitter buffer: 40 packets of 128 kbit/s, or 240 ms of the largest that Opus has.
pub const JITTER_BYTES_MAX: usize = 16 * 1_024;
/// The shortest wait in the jitter buffer: one tick, because a tick and a packet are never in step.
pub const DELAY_MS_MIN: u32 = 20;
/// The longest: beyond 200 ms people talk into each other (ITU-T G.114).
pub const DELAY_MS_MAX: u32 = 200;
/// How long a gap is filled with invented sound: after 100 ms nothing invented is like the truth.
pub const CONCEAL_MS_MAX: u32 = 100;
/// Payload of a G.711 or G.722 packet: 60 ms at 64 kbit/s.
pub const G7XX_PAYLOAD_BYTES_MAX: usize = 480;
/// Payload of an Opus packet: one frame at its largest (RFC 6716 §3.4), as 60 ms at the rates we offer stay below.
pub const OPUS_PAYLOAD_BYTES_MAX: usize = 1_276;
/// Silence of the known source after which another may take its place: longer than any jitter we even out.
pub const SOURCE_SILENT_MS: i64 = 500;
/// The least Opus does (RFC 6716 §2.1.1).
pub const OPUS_BITRATE_MIN: u32 = 6_000;
/// Speech at 16 kHz gains nothing above this.
pub const OPUS_BITRATE_MAX: u32 = 128_000;
/// Ticks for which a talker keeps his own encoder after he has fallen silent: 1.2 s, so that the seam on the way back
/// falls into silence.
pub const PRIVATE_TICKS: u16 = 60;
/// Opus encoders that a stock keeps while nobody talks: 2 MiB. More come and go as more talk at once.
pub const ENCODERS_KEPT_MAX: usize = 64;
