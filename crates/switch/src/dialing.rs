//! From a target to what rings: a user's registered contacts, or the trunks that take a number.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use control::{LegId, PhoneNumber, TenantId};
use sip::agent::{Binding, Branch, Caller, Credentials, LegKey, Transport};
use sip::message::Uri;

use crate::directory::Directory;

/// One INVITE, or one set of INVITEs that ring at once.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) branches: Vec<Branch>,
    pub(crate) credentials: Option<Credentials>,
    /// Whether the caller's number is asserted to it, if that is known.
    pub(crate) asserts: bool,
}

/// Every registered contact at once.
pub(crate) fn line(bindings: &[Binding]) -> VecDeque<Attempt> {
    if bindings.is_empty() {
        return VecDeque::new();
    }
    let branches = bindings.iter().map(Binding::branch).collect();
    VecDeque::from([Attempt { branches, credentials: None, asserts: false }])
}

/// The trunks that take a number, one after the other: those known to be dead last.
///
/// Trunks with the same credentials are one attempt whose targets stand in for each other, so that a silent one is left
/// after seconds; with other credentials begins another attempt.
pub(crate) fn number(
    directory: &Directory,
    tenant: TenantId,
    number: &PhoneNumber,
    dead: &BTreeSet<String>,
) -> VecDeque<Attempt> {
    let mut routes = directory.routes(tenant, number);
    routes.sort_by_key(|(trunk, _)| dead.contains(&trunk.name));
    let mut attempts: VecDeque<Attempt> = VecDeque::new();
    for (trunk, dialled) in routes.into_iter().take(TRUNKS_MAX) {
        let Some(target) = target_at(&trunk.uri, &dialled) else {
            tracing::warn!(trunk = trunk.name, uri = trunk.uri, "the trunk's URI cannot be read");
            continue;
        };
        let credentials = trunk.credentials.as_ref().map(|credentials| Credentials {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        });
        match attempts.back_mut() {
            Some(last) if last.credentials == credentials => last.branches[0].alternatives.push(target),
            Some(_) | None => {
                let branches = vec![Branch::to_uri(target)];
                attempts.push_back(Attempt { branches, credentials, asserts: true });
            }
        }
    }
    attempts
}

/// Trunks that one number is tried at: each may take seconds, and somebody waits.
const TRUNKS_MAX: usize = 8;

/// A number at a trunk: the trunk's URI with the number as its user.
fn target_at(trunk: &str, dialled: &str) -> Option<Uri> {
    let trunk: Uri = trunk.parse().ok()?;
    if !trunk.is_sip() {
        return None;
    }
    let mut target = Uri::sip(Some(dialled), trunk.host, trunk.port);
    target.params = trunk.params;
    Some(target.with_param("user", "phone"))
}

/// Whom the called endpoint sees.
pub(crate) fn caller(from: &control::Caller, contact_user: &str, is_number: bool) -> Caller {
    let number = from.number.as_ref().map(PhoneNumber::as_str);
    let uri = Uri::sip(Some(number.unwrap_or(contact_user)), from.domain.as_str(), None);
    let uri = if number.is_some() { uri.with_param("user", "phone") } else { uri };
    Caller { display: from.display_name.clone(), asserted: (is_number && number.is_some()).then(|| uri.clone()), uri }
}

/// The agent's name for the n-th attempt of a leg: each attempt has a Call-ID and tags of its own.
pub(crate) fn key_of(leg: LegId, attempt: usize) -> LegKey {
    let mut bytes = *leg.0.as_bytes();
    // The version and variant bits of a UUID stay; the first byte is as random as any.
    bytes[0] ^= attempt as u8;
    LegKey(bytes)
}

/// Where a branch is sent, as far as it can be told without a look-up.
pub(crate) fn peer_of(branch: &Branch) -> Option<IpAddr> {
    match (&branch.hint, branch.routes.first()) {
        (Some(hint), _) => Some(hint.destination.ip()),
        (None, Some(route)) => route.host.ip(),
        (None, None) => branch.request_uri.host.ip(),
    }
}

/// The URI whose host a branch is sent to.
pub(crate) fn first_hop(branch: &Branch) -> &Uri {
    branch.routes.first().unwrap_or(&branch.request_uri)
}

/// How a branch is sent, as far as it is said: a registration's way, or the URI's parameter, or UDP.
pub(crate) fn transport_of(branch: &Branch) -> Transport {
    let said = || first_hop(branch).transport_param();
    let hinted = branch.hint.map(|hint| hint.transport);
    hinted.or_else(|| Transport::from_name(&said()?)).unwrap_or(Transport::Udp)
}

/// The local address of the route to a peer; asked of the kernel, nothing is sent.
pub(crate) fn route_to(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(peer, 9)).ok()?;
    socket.local_addr().ok().map(|local| local.ip()).filter(|ip| !ip.is_unspecified())
}

/// The local address of the default route: of documentation's network (RFC 5737) no host has a closer one.
pub(crate) fn default_route() -> IpAddr {
    route_to(Ipv4Addr::new(192, 0, 2, 1).into()).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Trunk, TrunkCredentials};

    fn trunk(name: &str, password: Option<&str>) -> Trunk {
        Trunk {
            name: name.to_owned(),
            uri: format!("sip:{name}.example:5070;transport=tcp"),
            prefixes: vec!["+".to_owned()],
            strip: 1,
            prepend: "00".to_owned(),
            credentials: password
                .map(|password| TrunkCredentials { username: name.to_owned(), password: password.to_owned() }),
            register: false,
            tenants: None,
        }
    }

    fn uuid(text: &str) -> LegId {
        text.parse().expect("a GUID")
    }

    #[test]
    fn trunks_of_the_same_credentials_stand_in_for_each_other() {
        let tenant = TenantId(uuid("72f988bf-86f1-41af-91ab-2d7cd011db47").0);
        let directory = Directory::new([], vec![trunk("a", None), trunk("b", None), trunk("c", Some("x"))]);
        let to = PhoneNumber::parse("+12065550100").expect("E.164");
        let attempts = number(&directory, tenant, &to, &BTreeSet::new());
        let uris = |attempt: &Attempt| {
            let branch = &attempt.branches[0];
            let all = std::iter::once(&branch.request_uri).chain(&branch.alternatives);
            all.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(attempts.len(), 2);
        assert_eq!(
            uris(&attempts[0]),
            [
                "sip:0012065550100@a.example:5070;transport=tcp;user=phone",
                "sip:0012065550100@b.example:5070;transport=tcp;user=phone"
            ]
        );
        let dead = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert!(uris(&number(&directory, tenant, &to, &dead)[0])[0].contains("@c.example"));
    }

    #[test]
    fn the_caller_is_asserted_to_trunks_only() {
        let from = control::Caller {
            display_name: Some("Bot".to_owned()),
            number: PhoneNumber::parse("+12065550100"),
            domain: "contoso.example".to_owned(),
        };
        let seen = caller(&from, "convoke", true);
        assert_eq!(seen.uri.to_string(), "sip:+12065550100@contoso.example;user=phone");
        assert_eq!(seen.asserted, Some(seen.uri));
        assert_eq!(caller(&from, "convoke", false).asserted, None);
        let nameless = control::Caller { number: None, ..from };
        assert_eq!(caller(&nameless, "convoke", true).uri.to_string(), "sip:convoke@contoso.example");
    }

    #[test]
    fn each_attempt_has_a_key_of_its_own_that_is_found_again() {
        let leg = uuid("278405a3-f568-4b3e-b684-009193463064");
        assert_eq!(key_of(leg, 0).0, *leg.0.as_bytes());
        assert_ne!(key_of(leg, 1), key_of(leg, 0));
        assert_eq!(key_of(leg, 1), key_of(leg, 1));
    }

    #[test]
    fn the_route_to_loopback_is_loopback() {
        assert_eq!(route_to(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
