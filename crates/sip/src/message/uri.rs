//! URIs: whom a request is for and where things are (RFC 3261 §19.1, RFC 3966).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::limits::URI_BYTES_MAX;
use super::params::Params;

/// The scheme of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    Sip,
    Sips,
    /// A telephone number (RFC 3966).
    Tel,
    /// Any other, as it was written.
    Other(String),
}

impl Scheme {
    /// The scheme as it is written before the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(name) => name,
        }
    }
}

/// A host: a name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Domain(String),
    Ip(IpAddr),
}

impl Host {
    /// Reads a host name, an IPv4 address or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Host> {
        if let Some(inner) = text.strip_prefix('[') {
            return read_ipv6(inner.strip_suffix(']')?).map(|ip| Host::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<std::net::Ipv4Addr>() {
            return Some(Host::Ip(ip.into()));
        }
        // Underscores are not host names by the book, but Docker and Windows names have them.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!text.is_empty() && text.bytes().all(legal)).then(|| Host::Domain(text.to_owned()))
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Ip(ip) => Some(*ip),
            Host::Domain(_) => None,
        }
    }

    /// Equality as hosts: names without regard to case.
    pub fn is_same(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Domain(ours), Host::Domain(theirs)) => ours.eq_ignore_ascii_case(theirs),
            (Host::Ip(ours), Host::Ip(theirs)) => ours == theirs,
            (Host::Domain(_), Host::Ip(_)) | (Host::Ip(_), Host::Domain(_)) => false,
        }
    }
}

/// RFC 3261's grammar has a third colon before an address of IPv4 at the end, by mistake (RFC 5954). Some send it, and it
/// is to be tolerated (RFC 5118 §4.10).
fn read_ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| {
        let (start, end) = text.split_once(":::")?;
        end.parse::<std::net::Ipv4Addr>().ok()?;
        format!("{start}::{end}").parse().ok()
    })
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Host {
        Host::Ip(ip)
    }
}

impl From<&str> for Host {
    /// An address, in brackets or not, or else a name.
    fn from(text: &str) -> Host {
        match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Domain(text.to_owned()),
        }
    }
}

impl From<String> for Host {
    fn from(text: String) -> Host {
        Host::from(text.as_str())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Domain(name) => write_escaped(f, name, b"-._"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A URI, with its parts as they were written: escapes are kept. [`Uri::user_text`] resolves them.
///
/// A `tel` URI has its number in `user`; a URI of another scheme has everything after the colon there. Both have an
/// empty domain as `host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    pub scheme: Scheme,
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: Host,
    pub port: Option<u16>,
    pub params: Params,
    /// What follows the `?`, without it.
    pub headers: Option<String>,
}

/// The text is not a URI we can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URI")]
pub struct NotAUri;

impl Uri {
    /// A `sip` URI. The user is plain text; what a URI cannot hold is escaped.
    pub fn sip(user: Option<&str>, host: impl Into<Host>, port: Option<u16>) -> Uri {
        Uri {
            scheme: Scheme::Sip,
            user: user.map(|user| escape(user, USER_LEGAL)),
            password: None,
            host: host.into(),
            port,
            params: Params::new(),
            headers: None,
        }
    }

    /// The same URI with one more parameter; an empty value makes a flag.
    pub fn with_param(mut self, name: &str, value: &str) -> Uri {
        if value.is_empty() {
            self.params.set_flag(name);
        } else {
            self.params.set(name, value);
        }
        self
    }

    /// Reads a URI. White space, brackets and quotation marks have no place in one.
    pub fn parse(bytes: &[u8]) -> Result<Uri, NotAUri> {
        if bytes.len() > URI_BYTES_MAX || bytes.iter().any(|byte| *byte <= b' ' || b"<>\"\x7f".contains(byte)) {
            return Err(NotAUri);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NotAUri)?;
        let (scheme, rest) = text.split_once(':').ok_or(NotAUri)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(legal) {
            return Err(NotAUri);
        }
        if rest.is_empty() {
            return Err(NotAUri);
        }
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            "tel" => Scheme::Tel,
            _ => return Ok(Uri::opaque(Scheme::Other(scheme.to_owned()), rest, Params::new())),
        };
        if scheme == Scheme::Tel {
            let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
            return Ok(Uri::opaque(scheme, number, Params::parse_uri(params).ok_or(NotAUri)?));
        }
        Uri::parse_sip(scheme, rest).ok_or(NotAUri)
    }

    fn parse_sip(scheme: Scheme, rest: &str) -> Option<Uri> {
        // The user part may hold `?` and `;`, so the `@` is looked for first.
        let (user, password, rest) = match rest.split_once('@') {
            Some((userinfo, rest)) => {
                let (user, password) = match userinfo.split_once(':') {
                    Some((user, password)) => (user, Some(password.to_owned())),
                    None => (userinfo, None),
                };
                if user.is_empty() || !has_whole_escapes(userinfo) {
                    return None;
                }
                (Some(user.to_owned()), password, rest)
            }
            None => (None, None, rest),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let (hostport, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = split_port(hostport)?;
        Some(Uri { scheme, user, password, host, port, params: Params::parse_uri(params)?, headers })
    }

    fn opaque(scheme: Scheme, rest: &str, params: Params) -> Uri {
        let host = Host::Domain(String::new());
        Uri { scheme, user: Some(rest.to_owned()), password: None, host, port: None, params, headers: None }
    }

    /// The user part with its escapes resolved; bytes that are not UTF-8 are replaced.
    pub fn user_text(&self) -> Option<String> {
        self.user.as_deref().map(|user| String::from_utf8_lossy(&unescape(user)).into_owned())
    }

    /// The `transport` parameter, in lower case.
    pub fn transport_param(&self) -> Option<String> {
        self.params.get("transport").map(str::to_ascii_lowercase)
    }

    /// Whether this route is a loose router: `lr`, which some write `lr=on` or `lr=true` (RFC 3261 §19.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// Whether the scheme is `sip` or `sips`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// Equality by RFC 3261 §19.1.4.
    pub fn is_same(&self, other: &Uri) -> bool {
        let decoded = |part: &Option<String>| part.as_deref().map(unescape);
        self.scheme == other.scheme
            && decoded(&self.user) == decoded(&other.user)
            && decoded(&self.password) == decoded(&other.password)
            && self.host.is_same(&other.host)
            && self.port == other.port
            && self.has_same_params(other)
            && header_set(self.headers.as_deref()) == header_set(other.headers.as_deref())
    }

    fn has_same_params(&self, other: &Uri) -> bool {
        let weighty = ["user", "ttl", "method", "maddr", "transport"];
        let decoded = |params: &Params, name: &str| {
            params.get_bytes(name).map(|value| unescape(&String::from_utf8_lossy(value)).to_ascii_lowercase())
        };
        let shared = self.params.iter().filter(|(name, _)| other.params.has(name));
        weighty.iter().all(|name| self.params.has(name) == other.params.has(name))
            && shared.map(|(name, _)| name).all(|name| decoded(&self.params, name) == decoded(&other.params, name))
    }

    /// The URI as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl FromStr for Uri {
    type Err = NotAUri;

    fn from_str(text: &str) -> Result<Uri, NotAUri> {
        Uri::parse(text.as_bytes())
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme.as_str())?;
        if let Some(user) = &self.user {
            match self.scheme {
                Scheme::Other(_) => write_escaped(f, user, OPAQUE_LEGAL)?,
                Scheme::Sip | Scheme::Sips | Scheme::Tel => write_escaped(f, user, USER_WRITTEN)?,
            }
            if let Some(password) = &self.password {
                f.write_str(":")?;
                write_escaped(f, password, PASSWORD_WRITTEN)?;
            }
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        if self.is_sip() {
            write!(f, "{}", self.host)?;
            if let Some(port) = self.port {
                write!(f, ":{port}")?;
            }
        }
        for (name, value) in self.params.iter() {
            f.write_str(";")?;
            write_escaped(f, name, PARAM_WRITTEN)?;
            if let Some(value) = value {
                f.write_str("=")?;
                write_escaped(f, &String::from_utf8_lossy(value), PARAM_WRITTEN)?;
            }
        }
        if let Some(headers) = &self.headers {
            f.write_str("?")?;
            write_escaped(f, headers, OPAQUE_LEGAL)?;
        }
        Ok(())
    }
}

impl From<&Uri> for Vec<u8> {
    fn from(uri: &Uri) -> Vec<u8> {
        uri.to_bytes()
    }
}

// What each part may hold beside letters and digits (RFC 3261 §25.1). The `_WRITTEN` sets keep `%`, because parts are
// stored as they were escaped, and what peers are known to send there.
const USER_LEGAL: &[u8] = b"-_.!~*'()&=+$,;?/";
const USER_WRITTEN: &[u8] = b"%-_.!~*'()&=+$,;?/#[]";
const PASSWORD_WRITTEN: &[u8] = b"%-_.!~*'()&=+$,;?/:";
const PARAM_WRITTEN: &[u8] = b"%-_.!~*'()[]/:&+$=,@#";
const OPAQUE_LEGAL: &[u8] = b"%-_.!~*'()[]/:&+$=,;?@#";

fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, legal: &[u8]) -> fmt::Result {
    f.write_str(&escape(text, legal))
}

fn escape(text: &str, legal: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || legal.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            for digit in [byte >> 4, byte & 15] {
                escaped.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    escaped
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match hex_pair(bytes.get(at + 1..at + 3)) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn has_whole_escapes(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).all(|at| bytes[at] != b'%' || hex_pair(bytes.get(at + 1..at + 3)).is_some())
}

fn hex_pair(pair: Option<&[u8]>) -> Option<u8> {
    let [high, low] = pair? else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    Some((high * 16 + low) as u8)
}

fn header_set(headers: Option<&str>) -> Vec<String> {
    let mut set: Vec<String> = headers.unwrap_or_default().split('&').map(str::to_ascii_lowercase).collect();
    set.sort();
    set
}

/// Splits `host[:port]`; both may have white space around them, as Via allows.
pub(crate) fn split_port(text: &str) -> Option<(Host, Option<u16>)> {
    let text = text.trim();
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.find(':'),
    };
    let Some(colon) = colon else { return Some((Host::parse(text)?, None)) };
    let port = super::scan::number::<u16>(&text.as_bytes()[colon + 1..]).filter(|port| *port != 0)?;
    Some((Host::parse(text[..colon].trim_end())?, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn parts_are_found() {
        let all = uri("sip:alice;day=tuesday:secret@[2001:db8::1]:5070;transport=TCP;lr?subject=a%20b&x=y");
        assert_eq!(all.user.as_deref(), Some("alice;day=tuesday"));
        assert_eq!(all.password.as_deref(), Some("secret"));
        assert_eq!(all.host.ip(), "2001:db8::1".parse().ok());
        assert_eq!(all.port, Some(5070));
        assert_eq!(all.transport_param().as_deref(), Some("tcp"));
        assert!(all.is_loose_router());
        assert_eq!(all.headers.as_deref(), Some("subject=a%20b&x=y"));
        assert_eq!(uri("tel:+1-201-555-0123;phone-context=x").user.as_deref(), Some("+1-201-555-0123"));
        assert_eq!(uri("soap.beep://192.0.2.103:3002").scheme, Scheme::Other("soap.beep".to_owned()));
        assert!(uri("sip:10.0.0.1;lr=on").is_loose_router());
    }

    #[test]
    fn print_is_what_was_read() {
        for text in [
            "sip:alice@atlanta.example",
            "sips:alice:pw@10.0.0.1:5061;transport=tls",
            "sip:sips%3Auser%40example.com@example.net",
            "sip:[::1]:5060;lr",
            "tel:+12065550100;phone-context=+1",
            "isbn:2983792873",
            "soap.beep://192.0.2.103:3002",
            "sip:a@b?Replaces=x%3Bto-tag%3D1",
        ] {
            assert_eq!(uri(text).to_string(), text);
        }
    }

    #[test]
    fn broken_ones_are_refused() {
        for text in [
            "",
            "sip:",
            "sip",
            ":x",
            "sip:a b@c",
            "<sip:a@b>",
            "sip:@host",
            "sip:a@",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a@b:x",
            "sip:a@[::1",
            "sip:a@b@c",
            "sip:%4@b",
            "sip:a@ho\"st",
            "1sip:a@b",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
        assert!(Uri::parse(b"sip:\xe9@example.com").is_err());
        assert!(Uri::parse(format!("sip:{}@b", "a".repeat(URI_BYTES_MAX)).as_bytes()).is_err());
    }

    #[test]
    fn what_we_write_cannot_break_out() {
        let uri = Uri::sip(Some("a b\r\nX: <y>@%"), "10.0.0.1", Some(5060));
        assert_eq!(uri.to_string(), "sip:a%20b%0D%0AX%3A%20%3Cy%3E%40%25@10.0.0.1:5060");
        assert_eq!(uri.user_text().as_deref(), Some("a b\r\nX: <y>@%"));
    }

    #[test]
    fn equality_follows_the_rfc() {
        // The examples of RFC 3261 §19.1.4.
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ];
        for (left, right) in same {
            assert!(uri(left).is_same(&uri(right)), "{left} {right}");
        }
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ];
        for (left, right) in different {
            assert!(!uri(left).is_same(&uri(right)), "{left} {right}");
        }
    }
}
