//! Via: the way a request came and its answer goes back (RFC 3261 §20.42, RFC 3581).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::params::Params;
use super::scan;
use super::uri::{self, Host};

/// A transport as Via names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportName {
    Udp,
    Tcp,
    Tls,
    Sctp,
    /// SIP over WebSocket (RFC 7118).
    Ws,
    /// SIP over WebSocket over TLS (RFC 7118).
    Wss,
    /// Any other token, as it was written.
    Other(String),
}

impl TransportName {
    /// Reads a transport; names are compared without regard to case.
    pub fn parse(text: &str) -> TransportName {
        match text.to_ascii_uppercase().as_str() {
            "UDP" => TransportName::Udp,
            "TCP" => TransportName::Tcp,
            "TLS" => TransportName::Tls,
            "SCTP" => TransportName::Sctp,
            "WS" => TransportName::Ws,
            "WSS" => TransportName::Wss,
            _ => TransportName::Other(text.to_owned()),
        }
    }

    /// The name as Via has it.
    pub fn as_str(&self) -> &str {
        match self {
            TransportName::Udp => "UDP",
            TransportName::Tcp => "TCP",
            TransportName::Tls => "TLS",
            TransportName::Sctp => "SCTP",
            TransportName::Ws => "WS",
            TransportName::Wss => "WSS",
            TransportName::Other(name) => name,
        }
    }

    /// Whether the transport delivers by itself, so that nothing is sent again.
    pub fn is_reliable(&self) -> bool {
        !matches!(self, TransportName::Udp)
    }

    /// The port that is meant when none is written (RFC 3261 §18.2.2).
    pub fn default_port(&self) -> u16 {
        match self {
            TransportName::Tls => 5061,
            TransportName::Ws => 80,
            TransportName::Wss => 443,
            TransportName::Udp | TransportName::Tcp | TransportName::Sctp | TransportName::Other(_) => 5060,
        }
    }
}

/// One Via element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pub transport: TransportName,
    pub host: Host,
    pub port: Option<u16>,
    pub params: Params,
}

/// What every branch of an RFC 3261 element begins with (§8.1.1.7).
pub const BRANCH_COOKIE: &str = "z9hG4bK";

impl Via {
    /// A Via for a request of our own, asking for `rport` (RFC 3581).
    pub fn new(transport: TransportName, host: impl Into<Host>, port: Option<u16>, branch: &str) -> Via {
        let mut params = Params::new();
        params.set("branch", branch);
        params.set_flag("rport");
        Via { transport, host: host.into(), port, params }
    }

    /// Reads one element: `SIP/2.0/UDP host:port;params`, with white space wherever the grammar lets it be.
    pub fn parse(bytes: &[u8]) -> Option<Via> {
        let bytes = scan::trim(bytes);
        let (sent, params) = match scan::find(bytes, b';')? {
            Some(at) => (&bytes[..at], Params::parse_header(&bytes[at + 1..])?),
            None => (bytes, Params::new()),
        };
        let mut parts = sent.splitn(3, |byte| *byte == b'/');
        let protocol = scan::trim(parts.next()?);
        let version = scan::trim(parts.next()?);
        if !protocol.eq_ignore_ascii_case(b"SIP") || version != b"2.0" {
            return None;
        }
        let rest = scan::trim(parts.next()?);
        let gap = rest.iter().position(u8::is_ascii_whitespace)?;
        let transport = TransportName::parse(scan::token(&rest[..gap])?);
        let (host, port) = uri::split_port(std::str::from_utf8(scan::trim(&rest[gap..])).ok()?)?;
        Some(Via { transport, host, port, params })
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch")
    }

    /// Whether the branch was made by an element of RFC 3261 and is more than its cookie, so that it alone names a
    /// transaction.
    pub fn has_unique_branch(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > BRANCH_COOKIE.len()
                && branch.as_bytes()[..BRANCH_COOKIE.len()].eq_ignore_ascii_case(BRANCH_COOKIE.as_bytes())
        })
    }

    /// The `received` address.
    pub fn received(&self) -> Option<IpAddr> {
        self.params.get("received")?.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// Whether `rport` is there, with or without a value.
    pub fn has_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// The value of `rport`.
    pub fn rport(&self) -> Option<u16> {
        scan::number(self.params.get_bytes("rport")?)
    }

    /// The port that is meant: the written one or the transport's own.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.transport.default_port())
    }

    /// Notes where the request really came from: `received` where it differs or `rport` was asked for (RFC 3261
    /// §18.2.1, RFC 3581 §4).
    pub fn stamp(&mut self, source: SocketAddr) {
        if self.has_rport() {
            self.params.set("rport", source.port().to_string());
        }
        if self.has_rport() || self.host.ip() != Some(source.ip()) {
            self.params.set("received", source.ip().to_string());
        } else {
            self.params.remove("received");
        }
    }

    /// The element as a header value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("SIP/2.0/{} {}", self.transport.as_str(), self.host).into_bytes();
        if let Some(port) = self.port {
            out.extend(format!(":{port}").into_bytes());
        }
        self.params.write(&mut out);
        out
    }
}

impl From<&Via> for Vec<u8> {
    fn from(via: &Via) -> Vec<u8> {
        via.to_bytes()
    }
}

impl From<Via> for Vec<u8> {
    fn from(via: Via) -> Vec<u8> {
        via.to_bytes()
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_allowed_almost_anywhere() {
        let via =
            Via::parse(b"SIP  / 2.0\t/ TCP   spindle.example.com : 5070  ;  branch  =   z9hG4bK9ikj8 ; rport").unwrap();
        assert_eq!(via.to_bytes(), b"SIP/2.0/TCP spindle.example.com:5070;branch=z9hG4bK9ikj8;rport");
        assert!(via.has_unique_branch());
        assert_eq!(via.rport(), None);
    }

    #[test]
    fn addresses_of_both_families() {
        let via = Via::parse(b"sip/2.0/udp [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bK").unwrap();
        assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
        assert!(!via.has_unique_branch());
        assert_eq!(via.port_or_default(), 5060);
    }

    #[test]
    fn the_source_is_noted() {
        let stamped = |text: &str, source: &str| {
            let mut via = Via::parse(text.as_bytes()).unwrap();
            via.stamp(source.parse().unwrap());
            via.to_string()
        };
        assert_eq!(stamped("SIP/2.0/UDP 10.0.0.1:5070", "10.0.0.1:5070"), "SIP/2.0/UDP 10.0.0.1:5070");
        assert_eq!(stamped("SIP/2.0/UDP 10.0.0.1", "9.9.9.9:7"), "SIP/2.0/UDP 10.0.0.1;received=9.9.9.9");
        assert_eq!(stamped("SIP/2.0/UDP h;rport", "9.9.9.9:7"), "SIP/2.0/UDP h;rport=7;received=9.9.9.9");
        // A received that the sender wrote himself is not believed.
        assert_eq!(stamped("SIP/2.0/UDP 9.9.9.9;received=1.1.1.1", "9.9.9.9:7"), "SIP/2.0/UDP 9.9.9.9");
    }

    #[test]
    fn broken_ones_are_refused() {
        for text in
            ["", "SIP/2.0/UDP", "SIP/3.0/UDP h", "SIP/2.0 UDP h", "SIP/2.0/UDP 192.0.2.15;;,;,,", "SIP/2.0/UDP h:0"]
        {
            assert!(Via::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
