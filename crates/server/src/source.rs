//! Where requests come from, as far as one sender is told apart from another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use http::HeaderMap;
use http::request::Parts;

use crate::config::Network;

/// An IPv4 address, or the /64 that a site gets of IPv6: whoever has one has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        })
    }

    /// Of a request. Only proxies that the operator trusts are believed about whom they speak for.
    pub(crate) fn of_request(parts: &Parts, proxies: &[Network]) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let peer = peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        Self::of(forwarded(peer, &parts.headers, proxies))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The last address of `X-Forwarded-For` that is no trusted proxy: everything before it anybody may have written.
fn forwarded(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut nearest = peer;
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let mut claimed = lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim);
    while trusted(nearest) {
        let Some(Ok(next)) = claimed.next().map(str::parse) else { break };
        nearest = next;
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn a_site_of_ipv6_is_one_source() {
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let claimed = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            forwarded(peer.parse().unwrap(), &headers, &proxies).to_string()
        };
        assert_eq!(claimed("192.0.2.9", &["203.0.113.1"]), "192.0.2.9", "not from a proxy");
        assert_eq!(claimed("10.0.0.1", &["203.0.113.1"]), "203.0.113.1");
        // Whatever the client itself wrote stands further left.
        assert_eq!(claimed("10.0.0.1", &["127.0.0.1, 203.0.113.1, 10.0.0.2"]), "203.0.113.1");
        assert_eq!(claimed("::1", &["192.0.2.77", "203.0.113.1"]), "203.0.113.1");
        assert_eq!(claimed("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(claimed("10.0.0.1", &[]), "10.0.0.1");
    }
}
