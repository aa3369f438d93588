//! Where a call goes whose callee says "call me there instead" (RFC 3261 §8.1.3.4).
//!
//! A phone says it when its user forwards calls. It names a person or a number; the host it writes is its own idea of
//! us and is not looked at. What it names is looked up like anything else that the tenant may call, so that no phone
//! can send us to another tenant or to a stranger's server.
//!
//! A trunk says it when another gateway of the carrier is to be asked. It is followed to the letter; our credentials
//! and the asserted number are for the trunk's own host alone.

use std::collections::VecDeque;

use control::{PhoneNumber, TenantId};
use sip::agent::Branch;
use sip::message::Uri;

use crate::dialing::Attempt;
use crate::directory::{Directory, aor};

/// What a phone's redirection names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The key of a person's contacts.
    Line(String),
    Number(PhoneNumber),
}

/// Whom the contacts of a phone name, within the tenant of its user.
pub(crate) fn named(directory: &Directory, tenant: TenantId, domain: &str, contacts: &[Uri]) -> Vec<Named> {
    let users = contacts.iter().filter_map(Uri::user_text);
    let named = users.filter_map(|user| {
        if let Some(number) = PhoneNumber::parse(&user) {
            return Some(Named::Number(number));
        }
        let user = directory.user_exactly(&user, domain).filter(|user| user.tenant == tenant)?;
        Some(Named::Line(aor(&user.username, &user.domain)))
    });
    named.collect()
}

/// The gateways that a trunk names; `asked` is what it was asked by.
pub(crate) fn gateways(asked: &Attempt, contacts: &[Uri]) -> VecDeque<Attempt> {
    let is_own = |contact: &Uri| {
        let mut own =
            asked.branches.iter().flat_map(|branch| std::iter::once(&branch.request_uri).chain(&branch.alternatives));
        own.any(|uri| uri.host.is_same(&contact.host))
    };
    contacts
        .iter()
        .map(|contact| {
            let is_own = is_own(contact);
            Attempt {
                branches: vec![Branch::to_uri(contact.clone())],
                credentials: asked.credentials.clone().filter(|_| is_own),
                asserts: asked.asserts && is_own,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use sip::agent::Credentials;

    use super::*;
    use crate::directory::User;

    fn uris(texts: &[&str]) -> Vec<Uri> {
        texts.iter().map(|text| text.parse().expect("a URI")).collect()
    }

    fn tenant(number: u128) -> TenantId {
        TenantId(format!("{number:032x}").parse::<TenantId>().expect("a GUID").0)
    }

    fn user(number: u128, domain: &str, username: &str) -> User {
        User {
            tenant: tenant(number),
            domain: domain.to_owned(),
            username: username.to_owned(),
            ha1_md5: String::new(),
            ha1_sha256: String::new(),
        }
    }

    #[test]
    fn a_phone_names_people_and_numbers_of_its_own_tenant_and_nobody_else() {
        let users = [user(1, "a.example", "desk"), user(1, "a.example", "lobby"), user(2, "b.example", "eve")];
        let directory = Directory::new(users, Vec::new());
        let named = |contacts: &[&str]| named(&directory, tenant(1), "a.example", &uris(contacts));
        assert_eq!(named(&["sip:lobby@192.0.2.1:5060"]), [Named::Line("lobby@a.example".to_owned())]);
        let number = PhoneNumber::parse("+12065550100").expect("E.164");
        assert_eq!(named(&["sip:+12065550100@anywhere;user=phone"]), [Named::Number(number)]);
        assert!(
            named(&["sip:eve@b.example", "sip:eve@a.example", "sip:stranger@evil.example", "sip:evil.example"])
                .is_empty()
        );
        let other = Directory::new([user(2, "a.example", "lobby")], Vec::new());
        assert!(super::named(&other, tenant(1), "a.example", &uris(&["sip:lobby@a.example"])).is_empty());
    }

    #[test]
    fn what_is_for_the_trunk_is_not_told_to_another_host() {
        let credentials = Credentials { username: "us".to_owned(), password: "only-for-tests".to_owned() };
        let asked = Attempt {
            branches: vec![Branch::to_uri("sip:1@carrier.example".parse().expect("a URI"))],
            credentials: Some(credentials.clone()),
            asserts: true,
        };
        let followed = gateways(&asked, &uris(&["sip:1@CARRIER.example:5070", "sip:1@192.0.2.9"]));
        let told: Vec<_> = followed.iter().map(|attempt| (attempt.credentials.clone(), attempt.asserts)).collect();
        assert_eq!(told, [(Some(credentials), true), (None, false)]);
    }
}
