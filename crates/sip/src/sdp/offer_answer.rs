//! Offer and answer (RFC 3264): what we say, what they say, and what both can live with.
//!
//! A [`Negotiation`] belongs to one dialog. It remembers what we last described, so that the lines of a session keep
//! their order and number, and the version in `o=` moves exactly when the rest of the description does.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::{AudioFormat, AudioMedia, CodecName, Direction, MediaHost, MediaLine, SessionDescription};

/// Audio frames are 20 ms long unless the peer asks for something else.
const PTIME_MS: u32 = 20;

/// Our side of the audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMedia {
    /// Where we want the peer's audio.
    pub address: IpAddr,
    /// Where we want the peer's audio; never 0.
    pub port: u16,
    /// What we speak, best first.
    pub codecs: Vec<CodecName>,
    /// Whose order counts when we answer.
    pub preference: Preference,
    /// What we want; hold is `SendOnly` or `Inactive`.
    pub direction: Direction,
    /// For `o=`; any number that no other session of ours has. At most 2**63-1, because some read it as signed.
    pub session_id: u64,
    /// The version of the first description.
    pub version: u64,
    /// Whether RTCP may share the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Where a peer is that names its media host instead of giving an address: where its SIP comes from. Without it
    /// such a description is refused.
    pub peer: Option<IpAddr>,
}

impl LocalMedia {
    /// Everything we speak at this address, Opus first.
    pub fn new(address: IpAddr, port: u16, session_id: u64) -> LocalMedia {
        LocalMedia {
            address,
            port,
            codecs: vec![CodecName::Opus, CodecName::G722, CodecName::Pcmu, CodecName::Pcma],
            preference: Preference::Theirs,
            direction: Direction::SendRecv,
            session_id,
            version: 1,
            rtcp_mux: false,
            peer: None,
        }
    }
}

/// Whose order of codecs decides an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// The offerer's, as RFC 3264 §6.1 recommends.
    Theirs,
    Ours,
}

/// Tones in RTP (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// The payload type we send with.
    pub payload_type_send: u8,
    /// The payload type they send with.
    pub payload_type_receive: u8,
    /// In Hz.
    pub clock: u32,
}

/// What both sides have agreed on: everything that media needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Where our audio goes. The address is unspecified (`0.0.0.0`) on a hold of the old kind.
    pub remote: SocketAddr,
    /// Where our RTCP goes.
    pub remote_rtcp: SocketAddr,
    /// Whether RTCP shares the port, both ways.
    pub rtcp_mux: bool,
    /// The codec we send with.
    pub codec: CodecName,
    /// The payload type we send with.
    pub payload_type_send: u8,
    /// The payload type they send that codec with.
    pub payload_type_receive: u8,
    /// Everything the peer may send, `payload_type_receive` first. More than one when our offer was answered with several.
    pub receivable: Vec<(u8, CodecName)>,
    pub telephone_event: Option<TelephoneEvent>,
    /// How much audio the peer wants in one packet, in milliseconds.
    pub ptime_ms: u32,
    /// As we see it: whether we send, whether we receive.
    pub direction: Direction,
    /// What the peer wants to know about the codec we send: its format parameters.
    pub fmtp: Option<String>,
}

/// Why there is no agreement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    #[error("the body is not a session description")]
    MediaType,
    #[error("unreadable session description")]
    Unreadable,
    #[error("no audio over plain RTP is offered")]
    NoAudio,
    #[error("no codec in common")]
    NoCommonCodec,
    #[error("the peer refused the audio")]
    Refused,
    #[error("the answer does not fit the offer")]
    AnswerMismatch,
    #[error("no usable media address")]
    Address,
    #[error("our offer waits for its answer")]
    OfferPending,
    #[error("there is no offer to answer")]
    NoOffer,
}

impl NegotiationError {
    /// The status that says so.
    pub fn status(&self) -> u16 {
        match self {
            NegotiationError::MediaType => 415,
            NegotiationError::Unreadable => 400,
            NegotiationError::NoAudio | NegotiationError::NoCommonCodec | NegotiationError::Refused => 488,
            NegotiationError::AnswerMismatch | NegotiationError::NoOffer => 488,
            // RFC 3261 §21.6.4: the style of addressing.
            NegotiationError::Address => 606,
            // RFC 3261 §14.2.
            NegotiationError::OfferPending => 491,
        }
    }
}

/// One line of our own description.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LocalLine {
    Audio { protocol: String, formats: Vec<LocalFormat>, rtcp_mux: bool },
    Off { kind: String, protocol: String, formats: String },
}

/// One format of our audio line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LocalFormat {
    Codec(u8, CodecName),
    /// Payload type and clock.
    Event(u8, u32),
}

/// Offers and answers of one dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiation {
    local: LocalMedia,
    lines: Vec<LocalLine>,
    /// What we last said, without its `o=` line, and with which version.
    said: Option<(String, u64)>,
    /// What stood before an offer that is not answered.
    before_offer: Option<Vec<LocalLine>>,
    /// Whether our last word was an offer, so that another answer to it may come (a 183 and then a 200).
    offered: bool,
    agreed: Option<Agreed>,
}

impl Negotiation {
    /// Nothing said yet.
    pub fn new(local: LocalMedia) -> Negotiation {
        Negotiation { local, lines: Vec::new(), said: None, before_offer: None, offered: false, agreed: None }
    }

    /// The negotiation of an earlier process, from the descriptions that were agreed on last: lines, payload types,
    /// session id and version are as it said them. `local` is where we are now, and what we want.
    pub fn restore(local: LocalMedia, ours: &[u8], theirs: &[u8]) -> Result<Negotiation, NegotiationError> {
        let said = SessionDescription::parse(ours).map_err(|_| NegotiationError::Unreadable)?;
        let session_id = said.session_id.parse().map_err(|_| NegotiationError::Unreadable)?;
        let mut negotiation = Negotiation::new(LocalMedia { session_id, version: said.version, ..local });
        negotiation.lines = said.media.iter().map(LocalLine::of_ours).collect();
        // Our descriptions begin with `v=` and `o=`; what follows is what a change shows in.
        let text = std::str::from_utf8(ours).map_err(|_| NegotiationError::Unreadable)?;
        let content = text.splitn(3, "\r\n").nth(2).ok_or(NegotiationError::Unreadable)?;
        negotiation.said = Some((content.to_owned(), said.version));
        negotiation.offered = true;
        negotiation.accept_answer(theirs)?;
        negotiation.offered = false;
        Ok(negotiation)
    }

    /// The next description is a newer version, changed or not: the peer may have heard another one that it takes for
    /// this one.
    pub fn say_anew(&mut self) {
        if let Some((content, _)) = &mut self.said {
            content.clear();
        }
    }

    /// What is agreed, if anything is.
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// Our side.
    pub fn local(&self) -> &LocalMedia {
        &self.local
    }

    /// Whether our offer waits for its answer.
    pub fn is_offer_pending(&self) -> bool {
        self.before_offer.is_some()
    }

    /// What we want from the next offer or answer on: hold with `SendOnly` or `Inactive`, resume with `SendRecv`.
    pub fn set_direction(&mut self, direction: Direction) {
        self.local.direction = direction;
    }

    /// Where we want the peer's audio from the next offer or answer on.
    pub fn set_address(&mut self, address: IpAddr, port: u16) {
        self.local.address = address;
        self.local.port = port;
    }

    /// An offer: for a first INVITE, for a re-INVITE that holds, resumes or refreshes, or for the response to an INVITE
    /// without one. After the first, it has the lines of the session; unchanged, it is byte for byte what we last said.
    pub fn offer(&mut self) -> Vec<u8> {
        let before = self.lines.clone();
        if !self.lines.iter().any(|line| matches!(line, LocalLine::Audio { .. })) {
            let line = self.first_line();
            // RFC 3264 §8.2: a refused line may be taken into use again, and lines are never removed.
            match self.lines.iter_mut().find(|line| matches!(line, LocalLine::Off { kind, .. } if kind == "audio")) {
                Some(off) => *off = line,
                None => self.lines.push(line),
            }
        }
        self.before_offer.get_or_insert(before);
        self.offered = true;
        self.describe(self.local.direction)
    }

    /// Forgets an offer that was refused or never answered: the session is as it was (RFC 3261 §14.1). What is wanted
    /// stays what [`Negotiation::set_direction`] last said.
    pub fn withdraw_offer(&mut self) {
        if let Some(before) = self.before_offer.take() {
            self.lines = before;
        }
        self.offered = false;
    }

    /// Takes the answer to our offer. Another answer to the same offer replaces the one before: peers are seen to change
    /// their mind between a 183 and the 200.
    pub fn accept_answer(&mut self, answer: &[u8]) -> Result<Agreed, NegotiationError> {
        if !self.offered {
            return Err(NegotiationError::NoOffer);
        }
        let answer = SessionDescription::parse(answer).map_err(|_| NegotiationError::Unreadable)?;
        // RFC 3264 §6: as many lines as the offer. More are ignored; fewer leave nothing to go by.
        let at = self.lines.iter().position(|line| matches!(line, LocalLine::Audio { .. }));
        let at = at.ok_or(NegotiationError::NoOffer)?;
        let LocalLine::Audio { formats: ours, rtcp_mux, .. } = &self.lines[at] else {
            return Err(NegotiationError::NoOffer);
        };
        let line = answer.media.get(at).ok_or(NegotiationError::AnswerMismatch)?;
        if line.port == 0 {
            return Err(NegotiationError::Refused);
        }
        let audio = line.audio.as_ref().ok_or(NegotiationError::AnswerMismatch)?;
        let agreed = self.agree_on_answer(line, audio, ours, *rtcp_mux)?;
        self.before_offer = None;
        self.agreed = Some(agreed.clone());
        Ok(agreed)
    }

    /// Answers an offer: the answer, and what is agreed by it. Refused offers leave everything as it was.
    pub fn answer(&mut self, offer: &[u8]) -> Result<(Vec<u8>, Agreed), NegotiationError> {
        if self.is_offer_pending() {
            return Err(NegotiationError::OfferPending);
        }
        let offer = SessionDescription::parse(offer).map_err(|_| NegotiationError::Unreadable)?;
        let mut refusal = NegotiationError::NoAudio;
        let mut chosen = None;
        for (at, line) in offer.media.iter().enumerate() {
            let Some(audio) = line.audio.as_ref().filter(|_| line.port != 0) else { continue };
            match self.choose(line, audio) {
                Ok((formats, agreed)) => {
                    chosen = Some((at, formats, agreed));
                    break;
                }
                Err(error) => refusal = error,
            }
        }
        let Some((chosen_at, formats, agreed)) = chosen else { return Err(refusal) };
        self.lines = offer.media.iter().map(LocalLine::off).collect();
        self.lines[chosen_at] =
            LocalLine::Audio { protocol: offer.media[chosen_at].protocol.clone(), formats, rtcp_mux: agreed.rtcp_mux };
        self.offered = false;
        self.agreed = Some(agreed.clone());
        Ok((self.describe(agreed.direction), agreed))
    }

    fn first_line(&self) -> LocalLine {
        let mut formats: Vec<LocalFormat> = Vec::new();
        for codec in &self.local.codecs {
            let format = LocalFormat::Codec(codec.offered_payload_type(), *codec);
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        formats.push(LocalFormat::Event(101, 8000));
        if self.local.codecs.contains(&CodecName::Opus) {
            formats.push(LocalFormat::Event(102, 48000));
        }
        LocalLine::Audio { protocol: "RTP/AVP".to_owned(), formats, rtcp_mux: self.local.rtcp_mux }
    }

    /// What to say to an offered audio line, and what is agreed by it.
    fn choose(&self, line: &MediaLine, audio: &AudioMedia) -> Result<(Vec<LocalFormat>, Agreed), NegotiationError> {
        let spoken = |format: &&AudioFormat| format.codec().is_some_and(|codec| self.local.codecs.contains(&codec));
        let format = match self.local.preference {
            Preference::Theirs => audio.formats.iter().find(spoken),
            Preference::Ours => self
                .local
                .codecs
                .iter()
                .find_map(|codec| audio.formats.iter().find(|format| format.codec() == Some(*codec))),
        };
        let format = format.ok_or(NegotiationError::NoCommonCodec)?;
        let codec = format.codec().ok_or(NegotiationError::NoCommonCodec)?;
        let event = pick_event(audio, codec, |_| true);
        let mut formats = vec![LocalFormat::Codec(format.payload_type, codec)];
        formats.extend(event.map(|event| LocalFormat::Event(event.payload_type, event.clock)));
        let terms = Terms {
            codec,
            format,
            payload_type_receive: format.payload_type,
            receivable: vec![(format.payload_type, codec)],
            telephone_event: event.map(|event| TelephoneEvent {
                payload_type_send: event.payload_type,
                payload_type_receive: event.payload_type,
                clock: event.clock,
            }),
            rtcp_mux: self.local.rtcp_mux && audio.rtcp_mux,
        };
        Ok((formats, self.agree(line, audio, terms)?))
    }

    fn agree_on_answer(
        &self,
        line: &MediaLine,
        audio: &AudioMedia,
        ours: &[LocalFormat],
        offered_mux: bool,
    ) -> Result<Agreed, NegotiationError> {
        // RFC 3264 §6.1: they send with the numbers of our offer, we send with the numbers of their answer.
        let our_number = |wanted: CodecName| {
            ours.iter().find_map(|format| match format {
                LocalFormat::Codec(number, codec) if *codec == wanted => Some(*number),
                LocalFormat::Codec(..) | LocalFormat::Event(..) => None,
            })
        };
        let our_event = |clock: u32| {
            ours.iter().find_map(|format| match format {
                LocalFormat::Event(number, known) if *known == clock => Some(*number),
                LocalFormat::Codec(..) | LocalFormat::Event(..) => None,
            })
        };
        let mut common = audio.formats.iter().filter_map(|format| {
            let codec = format.codec()?;
            Some((format, codec, our_number(codec)?))
        });
        let (format, codec, payload_type_receive) = common.next().ok_or(NegotiationError::NoCommonCodec)?;
        let mut receivable = vec![(payload_type_receive, codec)];
        receivable.extend(common.map(|(_, codec, number)| (number, codec)));
        let event = pick_event(audio, codec, |event| our_event(event.clock).is_some());
        let telephone_event = event.and_then(|event| {
            Some(TelephoneEvent {
                payload_type_send: event.payload_type,
                payload_type_receive: our_event(event.clock)?,
                clock: event.clock,
            })
        });
        let rtcp_mux = offered_mux && audio.rtcp_mux;
        self.agree(line, audio, Terms { codec, format, payload_type_receive, receivable, telephone_event, rtcp_mux })
    }

    fn agree(&self, line: &MediaLine, audio: &AudioMedia, terms: Terms<'_>) -> Result<Agreed, NegotiationError> {
        let address = match &audio.host {
            Some(MediaHost::Ip(address)) => *address,
            Some(MediaHost::Name(_)) => self.local.peer.ok_or(NegotiationError::Address)?,
            None => return Err(NegotiationError::Unreadable),
        };
        // A hold of the old kind (RFC 2543): an address nobody can send to.
        let is_blackhole = address.is_unspecified();
        if address.is_multicast() || (!is_blackhole && address.is_ipv4() != self.local.address.is_ipv4()) {
            return Err(NegotiationError::Address);
        }
        let theirs = Direction::new(audio.direction.sends(), audio.direction.receives() && !is_blackhole);
        let remote = SocketAddr::new(address, line.port);
        let remote_rtcp = if terms.rtcp_mux {
            remote
        } else {
            let port = audio.rtcp_port.or(line.port.checked_add(1)).unwrap_or(line.port);
            SocketAddr::new(
                audio.rtcp_address.filter(|other| other.is_ipv4() == address.is_ipv4()).unwrap_or(address),
                port,
            )
        };
        let longest = audio.maxptime_ms.unwrap_or(120);
        let ptime_ms = audio.ptime_ms.filter(|ptime| (10..=120).contains(ptime) && ptime % 10 == 0);
        Ok(Agreed {
            remote,
            remote_rtcp,
            rtcp_mux: terms.rtcp_mux,
            codec: terms.codec,
            payload_type_send: terms.format.payload_type,
            payload_type_receive: terms.payload_type_receive,
            receivable: terms.receivable,
            telephone_event: terms.telephone_event,
            ptime_ms: ptime_ms.unwrap_or(PTIME_MS).min(longest.max(10)),
            direction: self.local.direction.and(theirs.reversed()),
            fmtp: terms.format.fmtp.clone(),
        })
    }

    /// Our description as it stands. RFC 3264 §8: the version rises by one exactly when the rest has changed.
    fn describe(&mut self, direction: Direction) -> Vec<u8> {
        let content = self.content(direction);
        let version = match &self.said {
            None => self.local.version,
            Some((said, version)) if *said == content => *version,
            Some((_, version)) => version.wrapping_add(1),
        };
        let family = family(self.local.address);
        let LocalMedia { address, session_id, .. } = &self.local;
        let text = format!("v=0\r\no=- {session_id} {version} IN {family} {address}\r\n{content}");
        self.said = Some((content, version));
        text.into_bytes()
    }

    fn content(&self, direction: Direction) -> String {
        let LocalMedia { address, port, .. } = &self.local;
        let mut text = format!("s=-\r\nc=IN {} {address}\r\nt=0 0\r\n", family(*address));
        for line in &self.lines {
            match line {
                LocalLine::Off { kind, protocol, formats } => {
                    push(&mut text, format_args!("m={kind} 0 {protocol} {formats}\r\n"));
                }
                LocalLine::Audio { protocol, formats, rtcp_mux } => {
                    push(&mut text, format_args!("m=audio {port} {protocol}"));
                    for format in formats {
                        push(&mut text, format_args!(" {}", format.payload_type()));
                    }
                    text.push_str("\r\n");
                    for format in formats {
                        format.write_attributes(&mut text);
                    }
                    push(&mut text, format_args!("a=ptime:{PTIME_MS}\r\n"));
                    if *rtcp_mux {
                        text.push_str("a=rtcp-mux\r\n");
                    }
                    push(&mut text, format_args!("a={}\r\n", direction.as_str()));
                }
            }
        }
        text
    }
}

/// What was found in common, on the way to [`Agreed`].
struct Terms<'a> {
    codec: CodecName,
    format: &'a AudioFormat,
    payload_type_receive: u8,
    receivable: Vec<(u8, CodecName)>,
    telephone_event: Option<TelephoneEvent>,
    rtcp_mux: bool,
}

/// The telephone-event that goes with a codec: the one with its clock (RFC 4733 §2.1), else any that is allowed.
fn pick_event(audio: &AudioMedia, codec: CodecName, allowed: impl Fn(&AudioFormat) -> bool) -> Option<&AudioFormat> {
    let events = || audio.formats.iter().filter(|format| format.is_telephone_event() && allowed(format));
    events().find(|event| event.clock == codec.clock()).or_else(|| events().find(|event| event.clock == 8000))
}

impl LocalLine {
    /// A line of a description that we wrote ourselves.
    fn of_ours(line: &MediaLine) -> LocalLine {
        let Some(audio) = line.audio.as_ref().filter(|_| line.port != 0) else { return Self::off(line) };
        let format = |format: &AudioFormat| {
            if format.is_telephone_event() {
                return Some(LocalFormat::Event(format.payload_type, format.clock));
            }
            format.codec().map(|codec| LocalFormat::Codec(format.payload_type, codec))
        };
        let formats = audio.formats.iter().filter_map(format).collect();
        LocalLine::Audio { protocol: line.protocol.clone(), formats, rtcp_mux: audio.rtcp_mux }
    }

    fn off(line: &MediaLine) -> LocalLine {
        LocalLine::Off { kind: line.kind.clone(), protocol: line.protocol.clone(), formats: line.formats.clone() }
    }
}

impl LocalFormat {
    fn payload_type(self) -> u8 {
        match self {
            LocalFormat::Codec(payload_type, _) | LocalFormat::Event(payload_type, _) => payload_type,
        }
    }

    fn write_attributes(self, text: &mut String) {
        match self {
            LocalFormat::Codec(number, codec) => {
                let (name, clock) = (codec.as_str(), codec.clock());
                push(text, format_args!("a=rtpmap:{number} {name}/{clock}"));
                match codec {
                    CodecName::Opus => push(text, format_args!("/2\r\na=fmtp:{number} useinbandfec=1\r\n")),
                    CodecName::Pcmu | CodecName::Pcma | CodecName::G722 => text.push_str("\r\n"),
                }
            }
            LocalFormat::Event(number, clock) => {
                push(text, format_args!("a=rtpmap:{number} telephone-event/{clock}\r\na=fmtp:{number} 0-15\r\n"));
            }
        }
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String does not fail");
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IP4" } else { "IP6" }
}
