//! The 49 messages of RFC 4475 and what we make of each, and what we make of broken copies of them.
//!
//! The messages are written after the descriptions in the RFC: each has exactly the deviation that its section is about.
//! The comments say which; where the RFC leaves a choice, they say what we chose.

mod agent;
mod application;
mod invalid;
mod properties;
mod valid;

use sip::message::{Malformed, Message, Request, Response, parse_datagram};

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is read; what it means is for those above.
    Parses,
    /// It is answered with this status.
    Answered(u16),
    /// It is dropped without a word.
    Dropped,
}

use Verdict::{Answered, Dropped, Parses};

/// One message of the RFC, by its name there.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    verdict: Verdict,
}

/// A message from its lines and its body.
fn case(name: &'static str, verdict: Verdict, lines: &[&[u8]], body: &[u8]) -> Case {
    let mut bytes = lines.join(&b"\r\n"[..]);
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    Case { name, bytes, verdict }
}

/// The session description that most of the messages carry: 150 bytes.
const SESSION: &[u8] = b"v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\n\
    m=audio 49217 RTP/AVP 0 12\r\nm=video 3227 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n";

fn cases() -> Vec<Case> {
    let mut cases = valid::cases();
    cases.extend(invalid::cases());
    cases.extend(application::cases());
    cases
}

fn find(name: &str) -> Case {
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

#[test]
fn the_corpus_is_complete() {
    let names: std::collections::BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), 49);
    assert_eq!(SESSION.len(), 150);
}

#[test]
fn every_message_gets_its_verdict() {
    for case in cases() {
        let verdict = match parse_datagram(&case.bytes) {
            Ok(_) => Parses,
            Err(malformed) => match malformed.response() {
                Some(response) => Answered(response.status),
                None => Dropped,
            },
        };
        let problem = parse_datagram(&case.bytes).err();
        assert_eq!(verdict, case.verdict, "{}: {:?}", case.name, problem.as_ref().map(Malformed::problem));
    }
}
