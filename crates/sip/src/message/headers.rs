//! The headers of a message: an ordered list of byte strings, and typed readers over it.
//!
//! Nothing is parsed until it is asked for, and what is not understood passes through byte for byte.

use super::address::{NameAddr, read_seconds};
use super::header::HeaderName;
use super::limits::{CSEQ_MAX, LIST_MAX, MAX_FORWARDS_MAX};
use super::method::Method;
use super::params::Params;
use super::scan;
use super::via::Via;

/// A header that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("no {0} header")]
    Missing(HeaderName),
    #[error("more than one {0} header")]
    Repeated(HeaderName),
    #[error("unreadable {0} header")]
    Invalid(HeaderName),
}

impl HeaderError {
    /// The header in question.
    pub fn name(&self) -> &HeaderName {
        match self {
            HeaderError::Missing(name) | HeaderError::Repeated(name) | HeaderError::Invalid(name) => name,
        }
    }
}

/// The sequence number and method of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2**31.
    pub number: u32,
    pub method: Method,
}

impl CSeq {
    /// Reads `number method`.
    pub fn parse(bytes: &[u8]) -> Option<CSeq> {
        let bytes = scan::trim(bytes);
        let gap = bytes.iter().position(u8::is_ascii_whitespace)?;
        let number = scan::number(&bytes[..gap]).filter(|number| *number <= CSEQ_MAX)?;
        Some(CSeq { number, method: Method::parse(scan::trim(&bytes[gap..]))? })
    }
}

impl From<CSeq> for Vec<u8> {
    fn from(cseq: CSeq) -> Vec<u8> {
        format!("{} {}", cseq.number, cseq.method).into_bytes()
    }
}

/// RFC 3262 §7.2: which provisional response a PRACK acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RAck {
    pub rseq: u32,
    pub cseq: CSeq,
}

impl From<RAck> for Vec<u8> {
    fn from(rack: RAck) -> Vec<u8> {
        format!("{} {} {}", rack.rseq, rack.cseq.number, rack.cseq.method).into_bytes()
    }
}

/// Who refreshes a session (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    Uac,
    Uas,
}

/// The session interval (RFC 4028 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    pub seconds: u32,
    pub refresher: Option<Refresher>,
}

impl From<SessionExpires> for Vec<u8> {
    fn from(value: SessionExpires) -> Vec<u8> {
        let refresher = match value.refresher {
            Some(Refresher::Uac) => ";refresher=uac",
            Some(Refresher::Uas) => ";refresher=uas",
            None => "",
        };
        format!("{}{refresher}", value.seconds).into_bytes()
    }
}

/// Why something ended (RFC 3326).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850` or another protocol.
    pub protocol: String,
    pub cause: Option<u16>,
    pub text: Option<Vec<u8>>,
}

impl From<Reason> for Vec<u8> {
    fn from(reason: Reason) -> Vec<u8> {
        let mut params = Params::new();
        if let Some(cause) = reason.cause {
            params.set("cause", cause.to_string());
        }
        if let Some(text) = reason.text {
            params.set("text", scan::quote(&text));
        }
        let mut out = reason.protocol.into_bytes();
        params.write(&mut out);
        out
    }
}

/// A media type such as `application/sdp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// `type/subtype` in lower case.
    pub media: String,
    pub params: Params,
}

/// An ordered list of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<(HeaderName, Vec<u8>)>,
}

impl Headers {
    /// No headers.
    pub fn new() -> Headers {
        Headers::default()
    }

    /// The first value of a header, as it was on the wire, without folding.
    pub fn get(&self, name: impl Into<HeaderName>) -> Option<&[u8]> {
        let name = name.into();
        self.list.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_slice())
    }

    /// The first value as text, if it is UTF-8.
    pub fn get_str(&self, name: impl Into<HeaderName>) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// All values of a header in order, one per line.
    pub fn get_all(&self, name: impl Into<HeaderName>) -> impl Iterator<Item = &[u8]> {
        let name = name.into();
        self.list.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_slice())
    }

    /// Whether there is such a header.
    pub fn has(&self, name: impl Into<HeaderName>) -> bool {
        self.get(name).is_some()
    }

    /// Appends a header. Line ends in the value become spaces: a value cannot end its line.
    pub fn push(&mut self, name: impl Into<HeaderName>, value: impl Into<Vec<u8>>) {
        self.list.push((name.into(), on_one_line(value.into())));
    }

    /// Puts a header before all others.
    pub fn push_front(&mut self, name: impl Into<HeaderName>, value: impl Into<Vec<u8>>) {
        self.list.insert(0, (name.into(), on_one_line(value.into())));
    }

    /// Makes this the only header of its name: in the place of the first, or at the end.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl Into<Vec<u8>>) {
        let name = name.into();
        match self.list.iter().position(|(known, _)| *known == name) {
            Some(at) => {
                self.list[at].1 = on_one_line(value.into());
                let mut index = 0;
                self.list.retain(|(known, _)| {
                    index += 1;
                    index - 1 <= at || *known != name
                });
            }
            None => self.push(name, value),
        }
    }

    /// Removes all headers of the name.
    pub fn remove(&mut self, name: impl Into<HeaderName>) {
        let name = name.into();
        self.list.retain(|(known, _)| *known != name);
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        self.list.iter().map(|(name, value)| (name, value.as_slice()))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// From, which every message has.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.address(HeaderName::From)
    }

    /// To, which every message has.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.address(HeaderName::To)
    }

    /// CSeq, which every message has.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.required(HeaderName::CSeq, CSeq::parse)
    }

    /// Call-ID, which every message has. It is compared byte by byte.
    pub fn call_id(&self) -> Result<&str, HeaderError> {
        let value = scan::trim(self.only(&HeaderName::CallId)?.ok_or(HeaderError::Missing(HeaderName::CallId))?);
        let legal = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        match std::str::from_utf8(value) {
            Ok(text) if !text.is_empty() && value.iter().all(legal) => Ok(text),
            _ => Err(HeaderError::Invalid(HeaderName::CallId)),
        }
    }

    /// All Via elements, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        self.list_of(&HeaderName::Via, Via::parse)
    }

    /// The topmost Via element.
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        let first = self.get(HeaderName::Via).ok_or(HeaderError::Missing(HeaderName::Via))?;
        let end = scan::find(first, b',').ok_or(HeaderError::Invalid(HeaderName::Via))?.unwrap_or(first.len());
        Via::parse(&first[..end]).ok_or(HeaderError::Invalid(HeaderName::Via))
    }

    /// Puts another element in the place of the topmost Via.
    pub fn set_top_via(&mut self, via: &Via) {
        let top = self.list.iter_mut().find(|(name, _)| *name == HeaderName::Via);
        let Some((_, value)) = top else {
            self.push_front(HeaderName::Via, via);
            return;
        };
        let rest = scan::find(value, b',').flatten().map(|at| value[at..].to_vec()).unwrap_or_default();
        *value = via.to_bytes();
        value.extend(rest);
    }

    /// All contacts. Empty when there is none and when it is `*` ([`Headers::is_contact_star`]).
    pub fn contacts(&self) -> Result<Vec<NameAddr>, HeaderError> {
        if self.is_contact_star() { Ok(Vec::new()) } else { self.list_of(&HeaderName::Contact, NameAddr::parse) }
    }

    /// Whether the only contact is `*`: all bindings of a registration (RFC 3261 §10.2.2).
    pub fn is_contact_star(&self) -> bool {
        self.get_all(HeaderName::Contact).count() == 1 && self.get(HeaderName::Contact).map(scan::trim) == Some(b"*")
    }

    /// All Route elements, topmost first.
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list_of(&HeaderName::Route, NameAddr::parse)
    }

    /// All Record-Route elements, topmost first.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list_of(&HeaderName::RecordRoute, NameAddr::parse)
    }

    /// All Path elements, topmost first (RFC 3327).
    pub fn paths(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list_of(&HeaderName::Path, NameAddr::parse)
    }

    /// All P-Asserted-Identity elements (RFC 3325).
    pub fn asserted_identities(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list_of(&HeaderName::PAssertedIdentity, NameAddr::parse)
    }

    /// Max-Forwards, 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::MaxForwards, |value| scan::number(value).filter(|hops| *hops <= MAX_FORWARDS_MAX))
    }

    /// Content-Length in bytes.
    pub fn content_length(&self) -> Result<Option<u64>, HeaderError> {
        self.optional(HeaderName::ContentLength, scan::number)
    }

    /// Content-Type.
    pub fn content_type(&self) -> Result<Option<ContentType>, HeaderError> {
        self.optional(HeaderName::ContentType, |value| {
            let end = scan::find(value, b';')?.unwrap_or(value.len());
            let slash = value[..end].iter().position(|byte| *byte == b'/')?;
            let (kind, subtype) = (scan::token(&value[..slash])?, scan::token(&value[slash + 1..end])?);
            let params = value.get(end + 1..).map_or(Some(Params::new()), Params::parse_header)?;
            Some(ContentType { media: format!("{kind}/{subtype}").to_ascii_lowercase(), params })
        })
    }

    /// Expires in seconds; more than 2**32-1 counts as that (RFC 3261 §20.19).
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::Expires, read_seconds)
    }

    /// Min-Expires in seconds.
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::MinExpires, read_seconds)
    }

    /// Retry-After in seconds; comments and parameters are left aside.
    pub fn retry_after(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::RetryAfter, |value| {
            let end = value.iter().position(|byte| matches!(byte, b';' | b'(')).unwrap_or(value.len());
            scan::number(&value[..end])
        })
    }

    /// Session-Expires (RFC 4028).
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, HeaderError> {
        self.optional(HeaderName::SessionExpires, |value| {
            let (seconds, params) = split_params(value)?;
            let refresher = match params.get("refresher").map(str::to_ascii_lowercase).as_deref() {
                Some("uac") => Some(Refresher::Uac),
                Some("uas") => Some(Refresher::Uas),
                Some(_) => return None,
                None => None,
            };
            Some(SessionExpires { seconds: scan::number(seconds)?, refresher })
        })
    }

    /// Min-SE in seconds (RFC 4028).
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::MinSe, |value| scan::number(split_params(value)?.0))
    }

    /// All Reason elements (RFC 3326).
    pub fn reasons(&self) -> Result<Vec<Reason>, HeaderError> {
        self.list_of(&HeaderName::Reason, |value| {
            let (protocol, params) = split_params(value)?;
            Some(Reason {
                protocol: scan::token(protocol)?.to_owned(),
                cause: params.get_bytes("cause").and_then(scan::number),
                text: params.get_unquoted("text"),
            })
        })
    }

    /// The first Reason element.
    pub fn reason(&self) -> Result<Option<Reason>, HeaderError> {
        Ok(self.reasons()?.into_iter().next())
    }

    /// RSeq (RFC 3262).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::RSeq, scan::number)
    }

    /// RAck (RFC 3262).
    pub fn rack(&self) -> Result<Option<RAck>, HeaderError> {
        self.optional(HeaderName::RAck, |value| {
            let value = scan::trim(value);
            let gap = value.iter().position(u8::is_ascii_whitespace)?;
            Some(RAck { rseq: scan::number(&value[..gap])?, cseq: CSeq::parse(&value[gap..])? })
        })
    }

    /// Refer-To (RFC 3515).
    pub fn refer_to(&self) -> Result<Option<NameAddr>, HeaderError> {
        self.optional(HeaderName::ReferTo, NameAddr::parse)
    }

    /// The option tags of Require.
    pub fn require(&self) -> Result<Vec<String>, HeaderError> {
        self.tokens(&HeaderName::Require)
    }

    /// The option tags of Proxy-Require.
    pub fn proxy_require(&self) -> Result<Vec<String>, HeaderError> {
        self.tokens(&HeaderName::ProxyRequire)
    }

    /// The option tags of Supported.
    pub fn supported(&self) -> Result<Vec<String>, HeaderError> {
        self.tokens(&HeaderName::Supported)
    }

    /// Whether the option tag is in Supported or Require.
    pub fn supports(&self, option: &str) -> bool {
        let tags = self.supported().into_iter().chain(self.require()).flatten();
        tags.into_iter().any(|tag| tag.eq_ignore_ascii_case(option))
    }

    /// The methods of Allow.
    pub fn allow(&self) -> Result<Vec<Method>, HeaderError> {
        let names = self.tokens(&HeaderName::Allow)?;
        Ok(names.iter().filter_map(|name| Method::parse(name.as_bytes())).collect())
    }

    fn tokens(&self, name: &HeaderName) -> Result<Vec<String>, HeaderError> {
        self.list_of(name, |value| scan::token(value).map(str::to_owned))
    }

    fn address(&self, name: HeaderName) -> Result<NameAddr, HeaderError> {
        self.required(name, NameAddr::parse)
    }

    fn required<T>(&self, name: HeaderName, read: impl Fn(&[u8]) -> Option<T>) -> Result<T, HeaderError> {
        self.optional(name.clone(), read)?.ok_or(HeaderError::Missing(name))
    }

    fn optional<T>(&self, name: HeaderName, read: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, HeaderError> {
        match self.only(&name)? {
            Some(value) => read(value).map(Some).ok_or(HeaderError::Invalid(name)),
            None => Ok(None),
        }
    }

    /// The value of a header that may stand only once. Repeating the very same value does no harm and is let through
    /// for none of them: which of two lines other elements went by is not for us to guess.
    fn only(&self, name: &HeaderName) -> Result<Option<&[u8]>, HeaderError> {
        let mut values = self.get_all(name);
        let first = values.next();
        if values.next().is_some() { Err(HeaderError::Repeated(name.clone())) } else { Ok(first) }
    }

    fn list_of<T>(&self, name: &HeaderName, read: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, HeaderError> {
        let invalid = || HeaderError::Invalid(name.clone());
        let mut elements = Vec::new();
        for line in self.get_all(name) {
            // A line without any element is common for Supported and Allow, and means none.
            if scan::trim(line).is_empty() {
                continue;
            }
            for part in scan::split(line, b',').ok_or_else(invalid)? {
                if elements.len() == LIST_MAX {
                    return Err(invalid());
                }
                elements.push(read(part).ok_or_else(invalid)?);
            }
        }
        Ok(elements)
    }

    /// Copies all headers of the name from another list.
    pub(crate) fn copy(&mut self, from: &Headers, name: &HeaderName) {
        self.list.extend(from.list.iter().filter(|(known, _)| known == name).cloned());
    }
}

fn split_params(value: &[u8]) -> Option<(&[u8], Params)> {
    match scan::find(value, b';')? {
        Some(at) => Some((&value[..at], Params::parse_header(&value[at + 1..])?)),
        None => Some((value, Params::new())),
    }
}

fn on_one_line(mut value: Vec<u8>) -> Vec<u8> {
    for byte in &mut value {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(*name, *value);
        }
        headers
    }

    #[test]
    fn lists_are_lists_however_they_are_written() {
        let list = headers(&[
            ("v", "SIP/2.0/UDP a;branch=1 , SIP/2.0/TCP b"),
            ("Via", "SIP/2.0/TLS c"),
            ("k", ""),
            ("Supported", "a, b"),
        ]);
        let hosts: Vec<_> = list.vias().unwrap().iter().map(|via| via.host.to_string()).collect();
        assert_eq!(hosts, ["a", "b", "c"]);
        assert_eq!(list.top_via().unwrap().branch(), Some("1"));
        assert_eq!(list.supported().unwrap(), ["a", "b"]);
        assert!(list.supports("B"));
    }

    #[test]
    fn the_top_via_is_replaced_alone() {
        let mut list = headers(&[("v", "SIP/2.0/UDP a;rport,SIP/2.0/UDP b"), ("v", "SIP/2.0/UDP c")]);
        let mut top = list.top_via().unwrap();
        top.stamp("1.2.3.4:5".parse().unwrap());
        list.set_top_via(&top);
        assert_eq!(list.get("v"), Some(&b"SIP/2.0/UDP a;rport=5;received=1.2.3.4,SIP/2.0/UDP b"[..]));
        assert_eq!(list.vias().unwrap().len(), 3);
    }

    #[test]
    fn set_leaves_one() {
        let mut list = headers(&[("a-x", "1"), ("b", "2"), ("A-X", "3"), ("c", "4")]);
        list.set("a-x", "new");
        let left: Vec<_> = list.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect();
        assert_eq!(left.len(), 3);
        assert_eq!(left[0], ("a-x".to_owned(), b"new".to_vec()));
    }

    #[test]
    fn single_headers_are_single() {
        let list = headers(&[("CSeq", "1 INVITE"), ("cseq", "1 INVITE"), ("Max-Forwards", "256"), ("l", "-1")]);
        assert_eq!(list.cseq(), Err(HeaderError::Repeated(HeaderName::CSeq)));
        assert_eq!(list.max_forwards(), Err(HeaderError::Invalid(HeaderName::MaxForwards)));
        assert_eq!(list.content_length(), Err(HeaderError::Invalid(HeaderName::ContentLength)));
        assert_eq!(list.to(), Err(HeaderError::Missing(HeaderName::To)));
    }

    #[test]
    fn typed_values() {
        let list = headers(&[
            ("x", "1800 ; refresher = UAC"),
            ("Min-SE", "90;p"),
            ("Retry-After", "120 (in a meeting);duration=60"),
            ("Reason", "SIP ;cause=200 ;text=\"Call \\\"completed\\\" elsewhere\", Q.850;cause=16"),
            ("c", "Application / SDP ; charset=\"utf-8\""),
            ("RAck", "776656 1 INVITE"),
            ("Expires", "99999999999999"),
            ("CSeq", " 0009\t INVITE "),
        ]);
        assert_eq!(
            list.session_expires().unwrap(),
            Some(SessionExpires { seconds: 1800, refresher: Some(Refresher::Uac) })
        );
        assert_eq!(list.min_se().unwrap(), Some(90));
        assert_eq!(list.retry_after().unwrap(), Some(120));
        let reasons = list.reasons().unwrap();
        assert_eq!(reasons[0].text.as_deref(), Some(&b"Call \"completed\" elsewhere"[..]));
        assert_eq!((reasons[1].protocol.as_str(), reasons[1].cause), ("Q.850", Some(16)));
        assert_eq!(list.content_type().unwrap().unwrap().media, "application/sdp");
        assert_eq!(list.rack().unwrap().unwrap().cseq.method, Method::Invite);
        assert_eq!(list.expires().unwrap(), Some(u32::MAX));
        assert_eq!(list.cseq().unwrap().number, 9);
        let reason = Vec::from(reasons[0].clone());
        assert_eq!(reason, b"SIP;cause=200;text=\"Call \\\"completed\\\" elsewhere\"");
    }

    #[test]
    fn values_stay_on_their_line() {
        let list = headers(&[("Subject", "a\r\nInjected: b")]);
        assert_eq!(list.get("s"), Some(&b"a  Injected: b"[..]));
    }
}
