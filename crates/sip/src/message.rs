//! SIP messages: read, made and printed (RFC 3261 §7).
//!
//! Headers are bytes. [`Headers`] finds and lists them, and reads the ones a user agent needs as types when asked; what
//! is not asked for passes through untouched, whatever its encoding. [`parse_datagram`] and [`StreamParser`] turn bytes
//! into messages and say, with [`Malformed`], what to answer when they cannot.

mod address;
mod header;
mod headers;
pub mod limits;
mod mask;
mod method;
mod params;
mod parse;
pub(crate) mod scan;
mod status;
mod stream;
mod uri;
mod via;

pub use address::NameAddr;
pub use header::HeaderName;
pub use headers::{CSeq, ContentType, HeaderError, Headers, RAck, Reason, Refresher, SessionExpires};
pub use mask::mask_credentials;
pub use method::Method;
pub use params::Params;
pub use parse::{Malformed, Problem, parse_datagram};
pub use status::reason_phrase;
pub use stream::{StreamItem, StreamParser};
pub use uri::{Host, NotAUri, Scheme, Uri};
pub use via::{BRANCH_COOKIE, TransportName, Via};

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// For people to read; any bytes.
    pub reason: Vec<u8>,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Response(Response),
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, uri: Uri) -> Request {
        Request { method, uri, headers: Headers::new(), body: Vec::new() }
    }

    /// The same request with one more header at the end.
    pub fn with(mut self, name: impl Into<HeaderName>, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push(name, value);
        self
    }

    /// The same request with this body.
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// The request as it goes on the wire; Content-Length is what the body has.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = format!("{} {} SIP/2.0", self.method, self.uri);
        print(start.into_bytes(), &self.headers, &self.body)
    }
}

impl Response {
    /// A response without headers and body. An empty reason stands for the customary phrase.
    pub fn new(status: u16, reason: &str) -> Response {
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        Response { status, reason: reason.into(), headers: Headers::new(), body: Vec::new() }
    }

    /// The response to a request, with what RFC 3261 §8.2.6.2 says it copies: Via, From, To (without adding a tag),
    /// Call-ID and CSeq; Timestamp into a 100; Record-Route into what may make a dialog (§12.1.1). An empty reason stands
    /// for the customary phrase.
    pub fn to_request(request: &Request, status: u16, reason: &str) -> Response {
        let mut response = Response::new(status, reason);
        let headers = &mut response.headers;
        headers.copy(&request.headers, &HeaderName::Via);
        if request.method.makes_dialog() && (101..300).contains(&status) {
            headers.copy(&request.headers, &HeaderName::RecordRoute);
        }
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
            headers.copy(&request.headers, &name);
        }
        if status == 100 {
            headers.copy(&request.headers, &HeaderName::Timestamp);
        }
        response
    }

    /// The same response with this tag in its To header, unless it has one.
    pub fn with_to_tag(mut self, tag: &str) -> Response {
        if let Ok(to) = self.headers.to()
            && to.tag().is_none()
        {
            self.headers.set(HeaderName::To, to.with_tag(tag));
        }
        self
    }

    /// The same response with one more header at the end.
    pub fn with(mut self, name: impl Into<HeaderName>, value: impl Into<Vec<u8>>) -> Response {
        self.headers.push(name, value);
        self
    }

    /// The same response with this body.
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// Whether more responses will follow: 1xx.
    pub fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// Whether it is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The response as it goes on the wire; Content-Length is what the body has.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut start = format!("SIP/2.0 {:03} ", self.status).into_bytes();
        start.extend(self.reason.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        print(start, &self.headers, &self.body)
    }
}

impl Message {
    /// The headers of either.
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }

    /// The body of either.
    pub fn body(&self) -> &[u8] {
        match self {
            Message::Request(request) => &request.body,
            Message::Response(response) => &response.body,
        }
    }

    /// The message as it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Message {
        Message::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Message {
        Message::Response(response)
    }
}

/// Whether a datagram holds nothing but line ends or zeros, as phones send to keep a NAT binding open.
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

fn print(start: Vec<u8>, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut out = start;
    out.reserve(64 * headers.len() + body.len() + 64);
    out.extend_from_slice(b"\r\n");
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let length = body.len().to_string();
    let mut has_length = false;
    for (name, value) in headers.iter() {
        if *name != HeaderName::ContentLength {
            line(name.as_str(), value);
        } else if !has_length {
            line(name.as_str(), length.as_bytes());
            has_length = true;
        }
    }
    if !has_length {
        line(HeaderName::ContentLength.as_str(), length.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}
