//! Session descriptions of audio calls: what a peer can hear, where, and how (RFC 8866, RFC 3264).
//!
//! `sdp-types` reads the lines; this module reads what they mean for a phone call. [`Negotiation`] makes and takes
//! offers and answers; its result, [`Agreed`], is plain data that media can be set up from and that can be stored.

mod body;
mod offer_answer;

use std::net::IpAddr;

pub use body::{SDP_MEDIA_TYPE, session_body};
pub use offer_answer::{Agreed, LocalMedia, Negotiation, NegotiationError, Preference, TelephoneEvent};

/// Most media lines of one description. WebRTC conferences have dozens; phones have one to three.
pub const MEDIA_LINES_MAX: usize = 32;

/// Most formats of one media line that are looked at. A payload type has seven bits.
pub const FORMATS_MAX: usize = 128;

/// An audio codec we can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodecName {
    Pcmu,
    Pcma,
    G722,
    Opus,
}

impl CodecName {
    /// The encoding name of its `rtpmap`.
    pub fn as_str(self) -> &'static str {
        match self {
            CodecName::Pcmu => "PCMU",
            CodecName::Pcma => "PCMA",
            CodecName::G722 => "G722",
            CodecName::Opus => "opus",
        }
    }

    /// The RTP clock in Hz. That of G.722 is 8000 although it samples at 16000 (RFC 3551 §4.5.2).
    pub fn clock(self) -> u32 {
        match self {
            CodecName::Pcmu | CodecName::Pcma | CodecName::G722 => 8000,
            CodecName::Opus => 48000,
        }
    }

    /// The channels its `rtpmap` names. Opus always says two (RFC 7587 §4.1).
    pub fn channels(self) -> u8 {
        match self {
            CodecName::Pcmu | CodecName::Pcma | CodecName::G722 => 1,
            CodecName::Opus => 2,
        }
    }

    /// The payload type we offer it with: the static one (RFC 3551 §6), or 96 for Opus.
    pub fn offered_payload_type(self) -> u8 {
        match self {
            CodecName::Pcmu => 0,
            CodecName::Pcma => 8,
            CodecName::G722 => 9,
            CodecName::Opus => 96,
        }
    }
}

/// Which way audio flows, seen from the one who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// From the two halves.
    pub fn new(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether the one who says it sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the one who says it receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same, seen from the other side.
    pub fn reversed(self) -> Direction {
        Direction::new(self.receives(), self.sends())
    }

    /// What is left when both allow it.
    pub fn and(self, other: Direction) -> Direction {
        Direction::new(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    fn parse(name: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|direction| name.eq_ignore_ascii_case(direction.as_str()))
    }
}

/// Where media goes: an address, or a name that somebody else has to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaHost {
    Ip(IpAddr),
    Name(String),
}

/// One format of an audio line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioFormat {
    pub payload_type: u8,
    /// The encoding name as the peer writes it; the customary one for static payload types without `rtpmap`.
    pub encoding: String,
    /// The RTP clock in Hz.
    pub clock: u32,
    pub channels: u8,
    pub fmtp: Option<String>,
}

impl AudioFormat {
    /// The codec, if it is one we speak.
    pub fn codec(&self) -> Option<CodecName> {
        [CodecName::Opus, CodecName::G722, CodecName::Pcmu, CodecName::Pcma].into_iter().find(|codec| {
            self.encoding.eq_ignore_ascii_case(codec.as_str())
                && self.clock == codec.clock()
                // Some write opus/48000 or opus/48000/1; nothing else is meant by it.
                && (self.channels == codec.channels() || *codec == CodecName::Opus)
        })
    }

    /// Whether it is the telephone-event of RFC 4733.
    pub fn is_telephone_event(&self) -> bool {
        self.encoding.eq_ignore_ascii_case("telephone-event")
    }
}

/// What an audio line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioMedia {
    /// In the peer's order of preference.
    pub formats: Vec<AudioFormat>,
    /// Where the peer wants its audio; nothing when no `c=` line says.
    pub host: Option<MediaHost>,
    /// As the peer sees it.
    pub direction: Direction,
    pub ptime_ms: Option<u32>,
    pub maxptime_ms: Option<u32>,
    /// The port of `a=rtcp` (RFC 3605).
    pub rtcp_port: Option<u16>,
    /// The address of `a=rtcp`, if it names another.
    pub rtcp_address: Option<IpAddr>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
}

/// One media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLine {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// 0 when the line is refused or off.
    pub port: u16,
    /// `RTP/AVP`, `RTP/SAVP`, `udptl`, …
    pub protocol: String,
    /// The formats as they are written.
    pub formats: String,
    /// What it says, if it is audio over plain RTP.
    pub audio: Option<AudioMedia>,
}

/// A session description as far as a call needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    /// The id in the `o=` line.
    pub session_id: String,
    /// The version in the `o=` line.
    pub version: u64,
    pub media: Vec<MediaLine>,
}

/// The bytes are not a session description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a session description")]
pub struct NotSdp;

impl SessionDescription {
    /// Reads a description, generously: bare line feeds, missing `o=`, `s=` and `t=` lines, double spaces and unknown lines
    /// are let through, and so is text that is not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<SessionDescription, NotSdp> {
        let session = sdp_types::Session::parse(tidied(bytes).as_bytes()).map_err(|_| NotSdp)?;
        if session.medias.len() > MEDIA_LINES_MAX {
            return Err(NotSdp);
        }
        let media = session.medias.iter().map(|media| MediaLine::read(&session, media)).collect();
        Ok(SessionDescription { session_id: session.origin.sess_id, version: session.origin.sess_version, media })
    }
}

impl MediaLine {
    fn read(session: &sdp_types::Session, media: &sdp_types::Media) -> MediaLine {
        // Keys mean nothing over plain RTP: a peer that would like SRTP but can do without says it like this.
        let is_plain = ["RTP/AVP", "RTP/AVPF"].iter().any(|plain| media.proto.eq_ignore_ascii_case(plain));
        let audio = (media.media.eq_ignore_ascii_case("audio") && is_plain).then(|| AudioMedia::read(session, media));
        MediaLine {
            kind: media.media.clone(),
            port: media.port,
            protocol: media.proto.clone(),
            formats: media.fmt.clone(),
            audio,
        }
    }
}

impl AudioMedia {
    fn read(session: &sdp_types::Session, media: &sdp_types::Media) -> AudioMedia {
        let connection = media.connections.first().or(session.connection.as_ref());
        let host = connection.map(|connection| match connection.try_address() {
            Ok(address) => MediaHost::Ip(address.ip),
            Err(_) => MediaHost::Name(connection.connection_address.clone()),
        });
        let mut direction = None;
        for attribute in session.attributes.iter().chain(&media.attributes) {
            direction = Direction::parse(&attribute.attribute).or(direction);
        }
        let number = |name: &str| value(media, name).and_then(|text| text.trim().parse::<u32>().ok());
        let rtcp: Vec<&str> = value(media, "rtcp").unwrap_or_default().split_whitespace().collect();
        AudioMedia {
            formats: read_formats(media),
            host,
            direction: direction.unwrap_or_default(),
            ptime_ms: number("ptime"),
            maxptime_ms: number("maxptime"),
            rtcp_port: rtcp.first().and_then(|port| port.parse().ok()).filter(|port| *port != 0),
            rtcp_address: rtcp.get(3).and_then(|address| address.parse().ok()),
            rtcp_mux: media.attributes.iter().any(|attribute| attribute.attribute.eq_ignore_ascii_case("rtcp-mux")),
        }
    }
}

fn value<'a>(media: &'a sdp_types::Media, name: &str) -> Option<&'a str> {
    media.attributes.iter().find(|attribute| attribute.attribute.eq_ignore_ascii_case(name))?.value.as_deref()
}

/// The value of the attribute that speaks of this payload type: `rtpmap` or `fmtp`.
fn format_value<'a>(media: &'a sdp_types::Media, name: &str, payload_type: u8) -> Option<&'a str> {
    media.attributes.iter().filter(|attribute| attribute.attribute.eq_ignore_ascii_case(name)).find_map(|attribute| {
        let (number, rest) = attribute.value.as_deref()?.trim().split_once(char::is_whitespace)?;
        (number.parse() == Ok(payload_type)).then(|| rest.trim())
    })
}

fn read_formats(media: &sdp_types::Media) -> Vec<AudioFormat> {
    let numbers = media.fmt.split_whitespace().filter_map(|number| number.parse::<u8>().ok());
    let numbers = numbers.filter(|number| usize::from(*number) < FORMATS_MAX).take(FORMATS_MAX);
    numbers.filter_map(|payload_type| read_format(media, payload_type)).collect()
}

fn read_format(media: &sdp_types::Media, payload_type: u8) -> Option<AudioFormat> {
    let rtpmap = format_value(media, "rtpmap", payload_type);
    let (encoding, clock, channels) = if let Some(rtpmap) = rtpmap {
        let mut parts = rtpmap.split('/').map(str::trim);
        let encoding = parts.next()?;
        let clock = parts.next()?.parse().ok()?;
        (encoding, clock, parts.next().and_then(|channels| channels.parse().ok()).unwrap_or(1))
    } else {
        // RFC 3551 §6: static payload types speak for themselves.
        let codec = match payload_type {
            0 => CodecName::Pcmu,
            8 => CodecName::Pcma,
            9 => CodecName::G722,
            _ => return None,
        };
        (codec.as_str(), codec.clock(), codec.channels())
    };
    let fmtp = format_value(media, "fmtp", payload_type).map(str::to_owned);
    Some(AudioFormat { payload_type, encoding: encoding.to_owned(), clock, channels, fmtp })
}

/// Only the lines we read, without what makes strict readers stumble.
fn tidied(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut tidy = String::with_capacity(text.len());
    for line in text.split(['\r', '\n']).map(str::trim) {
        let is_read = match line.as_bytes() {
            [b'v' | b'c' | b'a' | b'm', b'=', ..] => true,
            [b'o', b'=', origin @ ..] => has_numeric_version(origin),
            _ => false,
        };
        if !is_read {
            continue;
        }
        if line.starts_with("m=") {
            for (index, word) in line.split_whitespace().enumerate() {
                tidy.push_str(if index == 0 { "" } else { " " });
                tidy.push_str(word);
            }
        } else {
            tidy.push_str(line);
        }
        tidy.push_str("\r\n");
    }
    tidy
}

fn has_numeric_version(origin: &[u8]) -> bool {
    let mut words = origin.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    words.clone().count() == 6
        && words.nth(2).is_some_and(|version| crate::message::scan::number::<u64>(version).is_some())
}

#[cfg(test)]
mod tests;
