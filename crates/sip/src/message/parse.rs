//! From bytes to messages, and what to answer when the bytes are no message.
//!
//! The reader is generous with form (folding, white space, compact names, unknown methods and schemes, bare line feeds)
//! and strict with what others would understand differently: repeated headers, broken quoting, lengths that do not fit.

use super::address::NameAddr;
use super::header::HeaderName;
use super::headers::{HeaderError, Headers};
use super::limits::{HEADER_BYTES_MAX, HEADERS_MAX, MESSAGE_BYTES_MAX, URI_BYTES_MAX};
use super::method::Method;
use super::scan;
use super::status::reason_phrase;
use super::uri::Uri;
use super::{Message, Request, Response};

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("nothing but line ends: a keep-alive")]
    KeepAlive,
    #[error("not SIP")]
    NotSip,
    #[error("the head has no end")]
    HeadUnfinished,
    #[error("longer than we read")]
    TooLong,
    #[error("more headers than we read")]
    TooManyHeaders,
    #[error("a header longer than we read")]
    HeaderTooLong,
    #[error("a line that is no header")]
    HeaderLine,
    #[error("unreadable request line")]
    RequestLine,
    #[error("unreadable Request-URI")]
    RequestUri,
    #[error("a Request-URI longer than we read")]
    RequestUriTooLong,
    #[error("headers in the Request-URI")]
    RequestUriHeaders,
    #[error("another version of SIP")]
    Version,
    #[error("unreadable status line")]
    StatusLine,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("CSeq names another method than the request line")]
    MethodMismatch,
    #[error("the body is shorter than Content-Length says")]
    BodyTooShort,
}

/// Bytes that are no message we can use, and the answer they deserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    problem: Problem,
    status: Option<u16>,
    method: Option<Method>,
    headers: Headers,
}

impl Malformed {
    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The status of the answer it deserves; nothing where silence is due: for responses, ACK and what is not SIP.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The request's method, as far as it could be read.
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// Those of Via, From, To, Call-ID and CSeq that were there, byte for byte.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The answer, if one is due and there is a Via for it to go by. It can be sent without keeping any state (RFC 3261
    /// §8.2.7): the same request gets the same To tag.
    pub fn response(&self) -> Option<Response> {
        let status = self.status?;
        if !self.headers.has(HeaderName::Via) {
            return None;
        }
        let mut headers = self.headers.clone();
        if let Some(mut to) = self.headers.get(HeaderName::To).and_then(NameAddr::parse)
            && to.tag().is_none()
        {
            to.params.set("tag", self.stateless_tag());
            headers.set(HeaderName::To, to);
        }
        let warning = format!("399 convoke \"{}\"", self.problem);
        headers.push(HeaderName::Warning, warning);
        Some(Response { status, reason: reason_phrase(status).into(), headers, body: Vec::new() })
    }

    fn stateless_tag(&self) -> String {
        use md5::{Digest, Md5};
        let mut hash = Md5::new();
        for (name, value) in self.headers.iter() {
            hash.update(name.as_str());
            hash.update(value);
        }
        hash.finalize().iter().take(8).fold(String::from("m"), |tag, byte| format!("{tag}{byte:02x}"))
    }

    fn silent(problem: Problem) -> Malformed {
        Malformed { problem, status: None, method: None, headers: Headers::new() }
    }
}

/// Reads one datagram, or one WebSocket message. What follows the body is left aside (RFC 3261 §18.3); without
/// Content-Length the body reaches to the end.
pub fn parse_datagram(bytes: &[u8]) -> Result<Message, Malformed> {
    let bytes = skip_line_ends(bytes);
    if bytes.is_empty() {
        return Err(Malformed::silent(Problem::KeepAlive));
    }
    let Some(head_length) = head_length(bytes) else {
        let mut head = Head::read(bytes);
        head.note(Problem::HeadUnfinished, 400);
        return Err(head.malformed());
    };
    let mut head = Head::read(&bytes[..head_length]);
    let rest = &bytes[head_length..];
    if bytes.len() > MESSAGE_BYTES_MAX {
        head.note(Problem::TooLong, 513);
    }
    let body = match head.headers.content_length() {
        Ok(Some(length)) => {
            if let Some(body) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
                body
            } else {
                head.note(Problem::BodyTooShort, 400);
                rest
            }
        }
        Ok(None) => rest,
        Err(error) => {
            head.note(error.into(), 400);
            rest
        }
    };
    head.finish(body)
}

/// Length of the head with its empty line; nothing if the empty line is not there.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        if start > 0 && (line.is_empty() || line == b"\r") {
            return Some(end + 1);
        }
        start = end + 1;
    }
    None
}

fn skip_line_ends(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

enum Start {
    Request(Option<Method>, Option<Uri>),
    Response(Option<u16>, Vec<u8>),
    Unknown,
}

/// A head as far as it could be read, and the first thing that was wrong with it.
pub(crate) struct Head {
    start: Start,
    pub(crate) headers: Headers,
    problem: Option<(Problem, u16)>,
}

impl Head {
    pub(crate) fn read(bytes: &[u8]) -> Head {
        let mut head = Head { start: Start::Unknown, headers: Headers::new(), problem: None };
        let mut lines = unfolded_lines(bytes);
        let first = lines.next().unwrap_or_default();
        head.start = head.read_start(&first);
        for line in lines {
            if head.headers.len() == HEADERS_MAX {
                head.note(Problem::TooManyHeaders, 400);
                break;
            }
            head.read_header(&line);
        }
        head
    }

    /// Notes what is wrong; the first finding decides the answer.
    pub(crate) fn note(&mut self, problem: Problem, status: u16) {
        self.problem.get_or_insert((problem, status));
    }

    fn read_start(&mut self, line: &[u8]) -> Start {
        if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
            return self.read_status_line(line);
        }
        let trimmed = scan::trim(line);
        let words: Vec<&[u8]> = trimmed.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let version = match words.last() {
            Some(last) if words.len() >= 2 && last.get(..4).is_some_and(|tag| tag.eq_ignore_ascii_case(b"SIP/")) => {
                *last
            }
            _ => {
                self.note(Problem::NotSip, 0);
                return Start::Unknown;
            }
        };
        let method = Method::parse(words[0]);
        if method.is_none() {
            self.note(Problem::RequestLine, 400);
        }
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            self.note(Problem::Version, 505);
        }
        // RFC 3261 §7.1: single spaces and nothing else; RFC 4475 §3.1.2.8 to §3.1.2.10 for those who send more.
        if words.len() != 3 || line.len() != words[0].len() + words[1].len() + words[2].len() + 2 {
            self.note(Problem::RequestLine, 400);
            return Start::Request(method, None);
        }
        if words[1].len() > URI_BYTES_MAX {
            self.note(Problem::RequestUriTooLong, 414);
        }
        let uri = Uri::parse(words[1]).ok();
        match &uri {
            None => self.note(Problem::RequestUri, 400),
            // RFC 3261 §19.1.1: a Request-URI has no headers. Obeying them would let strangers write our headers.
            Some(uri) if uri.headers.is_some() => self.note(Problem::RequestUriHeaders, 400),
            Some(_) => {}
        }
        Start::Request(method, uri)
    }

    fn read_status_line(&mut self, line: &[u8]) -> Start {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let version = parts.next().unwrap_or_default();
        let status = parts.next().filter(|digits| digits.len() == 3).and_then(scan::number);
        let status = status.filter(|status| (100..700).contains(status));
        if status.is_none() || !version.eq_ignore_ascii_case(b"SIP/2.0") {
            self.note(Problem::StatusLine, 0);
        }
        Start::Response(status, parts.next().unwrap_or_default().to_vec())
    }

    fn read_header(&mut self, line: &[u8]) {
        let Some(colon) = memchr::memchr(b':', line) else {
            self.note(Problem::HeaderLine, 400);
            return;
        };
        let Some(name) = HeaderName::parse(&line[..colon]) else {
            self.note(Problem::HeaderLine, 400);
            return;
        };
        let value = scan::trim(&line[colon + 1..]);
        if value.len() > HEADER_BYTES_MAX {
            self.note(Problem::HeaderTooLong, 400);
            return;
        }
        self.headers.push(name, value);
    }

    /// The message, if all that everybody needs is there and readable.
    pub(crate) fn finish(mut self, body: &[u8]) -> Result<Message, Malformed> {
        if self.problem.is_none()
            && let Err((problem, status)) = self.check()
        {
            self.note(problem, status);
        }
        if self.problem.is_some() {
            return Err(self.malformed());
        }
        match self.start {
            Start::Request(Some(method), Some(uri)) => {
                Ok(Message::Request(Request { method, uri, headers: self.headers, body: body.to_vec() }))
            }
            Start::Response(Some(status), reason) => {
                Ok(Message::Response(Response { status, reason, headers: self.headers, body: body.to_vec() }))
            }
            Start::Request(..) | Start::Response(..) | Start::Unknown => Err(self.malformed()),
        }
    }

    fn check(&self) -> Result<(), (Problem, u16)> {
        let bad = |error: HeaderError| (Problem::from(error), 400);
        let headers = &self.headers;
        if headers.vias().map_err(bad)?.is_empty() {
            return Err(bad(HeaderError::Missing(HeaderName::Via)));
        }
        headers.from().map_err(bad)?;
        headers.to().map_err(bad)?;
        headers.call_id().map_err(bad)?;
        let cseq = headers.cseq().map_err(bad)?;
        let Start::Request(method, _) = &self.start else { return Ok(()) };
        if method.as_ref() != Some(&cseq.method) {
            // RFC 4475 §3.1.2.18: for a method we do not have, 501 is the better answer.
            let status = if matches!(method, Some(Method::Other(_))) { 501 } else { 400 };
            return Err((Problem::MethodMismatch, status));
        }
        headers.max_forwards().map_err(bad)?;
        headers.contacts().map_err(bad)?;
        headers.routes().map_err(bad)?;
        headers.record_routes().map_err(bad)?;
        headers.content_type().map_err(bad)?;
        Ok(())
    }

    pub(crate) fn malformed(self) -> Malformed {
        let (problem, status) = self.problem.unwrap_or((Problem::NotSip, 0));
        let mut headers = Headers::new();
        for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
            headers.copy(&self.headers, &name);
        }
        match self.start {
            Start::Request(method, _) => {
                // RFC 3261 §17: nobody answers an ACK.
                let status = (method != Some(Method::Ack) && status != 0).then_some(status);
                Malformed { problem, status, method, headers }
            }
            Start::Response(..) | Start::Unknown => Malformed { problem, status: None, method: None, headers },
        }
    }
}

/// The lines of a head without their ends, continuation lines joined by one space (RFC 3261 §7.3.1), up to the empty
/// line.
fn unfolded_lines(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).peekable();
    let mut is_first = true;
    std::iter::from_fn(move || {
        let mut line = lines.next()?.to_vec();
        if line.is_empty() {
            return None;
        }
        // The start line cannot be folded; a line after it that begins with white space is a broken header.
        while !is_first && let Some(more) = lines.next_if(|next| matches!(next, [b' ' | b'\t', ..])) {
            line.push(b' ');
            line.extend_from_slice(scan::trim(more));
        }
        is_first = false;
        Some(line)
    })
}
