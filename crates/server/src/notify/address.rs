//! Which addresses notifications may go to, so that nobody makes this server speak to what only it can reach.
//!
//! The operator lists the hosts of an application's callbacks, but whoever runs a host's DNS decides what its name means,
//! and may decide anew at any time. So it is not the name that is judged but each address, at the moment of connecting,
//! and the address judged is the address connected to.
//!
//! | the callback names | it may be at |
//! | --- | --- |
//! | a host | a public address, or one in `notify.networks` |
//! | `localhost` | a loopback address |
//! | an address | that address: the operator wrote it into the directory |
//!
//! Link-local addresses, where clouds hand out credentials, take an entry in `notify.networks` in any case.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::config::Network;

/// An address that a callback may not be at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the callback's host {host} is at {address}, {why}")]
pub(super) struct Barred {
    host: String,
    address: IpAddr,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Why {
    #[error("which is no address of a host")]
    NoHost,
    #[error("which is link-local and in no network of notify.networks")]
    LinkLocal,
    #[error("which is not public and in no network of notify.networks")]
    NotPublic,
}

/// Whether what `host` stands for in a callback may be at `address`. `host` is without the brackets of IPv6.
pub(super) fn judge(host: &str, address: IpAddr, networks: &[Network]) -> Result<(), Barred> {
    let barred = |why| Err(Barred { host: host.to_owned(), address, why });
    let meant = meant(address);
    if meant.is_unspecified() || meant.is_multicast() || meant == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return barred(Why::NoHost);
    }
    if networks.iter().any(|network| network.contains(meant)) {
        return Ok(());
    }
    if is_link_local(meant) {
        return barred(Why::LinkLocal);
    }
    let written = host.parse::<IpAddr>().is_ok() || (host.eq_ignore_ascii_case("localhost") && meant.is_loopback());
    if written || is_public(meant) { Ok(()) } else { barred(Why::NotPublic) }
}

/// The IPv4 address inside one of IPv6 that leads to it, or else the address itself.
fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |bits: u128| IpAddr::V4(Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32));
    let bits = v6.to_bits();
    match bits >> 32 {
        // Mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1) but for `::`, `::1` and their like, NAT64 (RFC 6052 §2.1).
        0xffff | NAT64 => v4(bits),
        0 if bits > 0xffff => v4(bits),
        // 6to4 (RFC 3056 §2).
        _ if bits >> 112 == 0x2002 => v4(bits >> 80),
        _ => address,
    }
}

/// `64:ff9b::/96`.
const NAT64: u128 = 0x0064_ff9b << 64;

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || METADATA.contains(&v6),
    }
}

/// Not link-local by their numbers, but in effect: where Amazon and Alibaba have their metadata on IPv6.
const METADATA: [Ipv6Addr; 1] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)];

/// By the registries of special-purpose addresses (RFC 6890 and its successors).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || a == 0
                || a >= 224
                // Shared by carriers (RFC 6598), protocol assignments, the 6to4 relay, benchmarks (RFC 2544).
                || (a == 100 && (64..128).contains(&b))
                || [a, b, c] == [192, 0, 0]
                || [a, b, c] == [192, 88, 99]
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Global unicast is 2000::/3, less protocol assignments (Teredo among them) and documentation.
            a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && !(a == 0x3fff && b < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(host: &str, address: &str, networks: &[&str]) -> bool {
        let networks: Vec<Network> = networks.iter().map(|text| text.parse().unwrap()).collect();
        judge(host, address.parse().unwrap(), &networks).is_ok()
    }

    /// In every disguise: private, loopback, link-local, metadata, shared, reserved.
    const NOT_PUBLIC: [&str; 36] = [
        "127.0.0.1",
        "127.255.0.9",
        "10.0.0.5",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.5",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:5",
        "2002:7f00:1::",
        "2002:a00:5::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fd00:ec2::254",
        "fdab::1",
        "fe80::1",
        "ff02::1",
    ];

    #[test]
    fn a_name_stands_for_public_addresses_only() {
        for address in ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808", "2002:808:808::1"] {
            assert!(goes("bot.example", address, &[]), "{address}");
        }
        for address in NOT_PUBLIC {
            assert!(!goes("bot.example", address, &[]), "{address}");
        }
        // What resolvers take for addresses and we do not.
        for host in ["127.1", "0x7f000001", "2130706433", "localhost.", "localhost.example"] {
            assert!(!goes(host, "127.0.0.1", &[]), "{host}");
        }
    }

    #[test]
    fn the_operators_networks_are_open_to_names() {
        assert!(goes("bot.corp.example", "10.0.0.5", &["10.0.0.0/8"]));
        assert!(goes("bot.corp.example", "::ffff:10.0.0.5", &["10.0.0.0/8"]));
        assert!(!goes("bot.corp.example", "10.0.0.5", &["192.168.0.0/16"]));
        assert!(goes("bot.corp.example", "fdab::1", &["192.168.0.0/16", "fd00::/8"]));
        assert!(goes("bot.corp.example", "169.254.7.7", &["169.254.7.7"]));
        for never in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "::ffff:0.0.0.0", "64:ff9b::"] {
            assert!(!goes("bot.corp.example", never, &["0.0.0.0/0", "::/0"]), "{never}");
        }
    }

    #[test]
    fn what_the_operator_wrote_down_needs_no_network() {
        for address in ["127.0.0.1", "10.0.0.5", "::1", "fdab::1", "93.184.216.34"] {
            assert!(goes(address, address, &[]), "{address}");
        }
        assert!(goes("localhost", "127.0.0.1", &[]) && goes("LocalHost", "::1", &[]));
        assert!(!goes("localhost", "10.0.0.5", &[]), "whatever a resolver makes of it");
        for address in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0", "::"] {
            assert!(!goes(address, address, &[]), "{address}");
        }
    }

    #[test]
    fn the_operator_is_told_what_to_do() {
        let barred = judge("bot.example", "10.0.0.5".parse().unwrap(), &[]).unwrap_err();
        insta::assert_snapshot!(barred, @"the callback's host bot.example is at 10.0.0.5, which is not public and in no network of notify.networks");
    }
}
