//! The messages themselves: for the parser, for an agent, and for a server that listens on a real socket.

#[path = "application.rs"]
mod application;
#[path = "invalid.rs"]
mod invalid;
#[path = "ipv6.rs"]
mod ipv6;
#[path = "valid.rs"]
mod valid;

use sip::message::{Malformed, Message, Request, Response, parse_datagram};

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is read; what it means is for those above.
    Parses,
    /// It is answered with this status.
    Answered(u16),
    /// It is dropped without a word.
    Dropped,
}

use Verdict::{Answered, Dropped, Parses};

/// One message of the RFC, by its name there.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) verdict: Verdict,
}

/// A message from its lines and its body.
fn case(name: &'static str, verdict: Verdict, lines: &[&[u8]], body: &[u8]) -> Case {
    let mut bytes = lines.join(&b"\r\n"[..]);
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    Case { name, bytes, verdict }
}

/// The session description that most of the messages carry: 150 bytes.
pub(crate) const SESSION: &[u8] =
    b"v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\n\
    m=audio 49217 RTP/AVP 0 12\r\nm=video 3227 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n";

/// The 49 of RFC 4475.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = valid::cases();
    cases.extend(invalid::cases());
    cases.extend(application::cases());
    cases
}

/// Those of RFC 5118, each form of them.
pub(crate) fn ipv6_cases() -> Vec<Case> {
    ipv6::cases()
}

pub(crate) fn find(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).expect("a message of the corpus")
}

fn request(name: &str) -> Request {
    match parse_datagram(&find(name).bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn response(name: &str) -> Response {
    match parse_datagram(&find(name).bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name}: {other:?}"),
    }
}

fn malformed(name: &str) -> Malformed {
    parse_datagram(&find(name).bytes).expect_err(name)
}
