//! Where a request within a dialog goes, and where else when its connection is gone.
//!
//! A phone behind a NAT is reached by the connection that it made and by no other. When that one breaks it makes
//! another and registers again (RFC 5626 §4.4, §5.3); its calls live on, and their requests follow it: to the newest
//! flow of the same contact, or to the remote target while there is none. What still cannot be sent waits a while for
//! the phone to come back.

use super::Agent;
use super::clients::{ClientKey, Owner, Sending};
use super::limits::DETOURS_MAX;
use super::network::Hop;
use super::vocabulary::{Binding, Hint, Registered};
use crate::dialog::Dialog;
use crate::locate::Walk;
use crate::message::{CSeq, HeaderName, Method, Request};

/// A phone that registers with us, as one of its dialogs knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phone {
    registered: Registered,
    /// The user part of its Contact.
    user: Option<String>,
}

impl Phone {
    fn of(dialog: &Dialog) -> Option<Self> {
        // With a route set it is the first router that knows the way.
        let registered = dialog.registered.clone().filter(|_| dialog.routes.is_empty())?;
        Some(Self { registered, user: dialog.remote_target.user_text() })
    }

    fn is_at(&self, binding: &Binding) -> bool {
        match (&self.registered.instance, &binding.instance) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => self.user == binding.contact.user_text(),
        }
    }
}

impl Agent {
    /// A request within a dialog, on its way.
    pub(super) fn sending_within(&self, dialog: &Dialog, request: Request, owner: Owner) -> Sending {
        let phone = Phone::of(dialog);
        let is_lost = dialog.heard_from.is_some_and(|hint| self.is_way_lost(hint));
        let back = phone.as_ref().filter(|_| is_lost).and_then(|phone| self.newest_way_to(phone));
        let hint = back.or(dialog.heard_from);
        let hop = Hop { uri: dialog.next_hop().clone(), hint, advertised: dialog.advertised };
        Sending { phone, ..Sending::new(request, hop, owner) }
    }

    /// The connection is gone. A datagram finds its way or does not; nobody can tell.
    fn is_way_lost(&self, hint: Hint) -> bool {
        let is_there = hint.flow.is_some_and(|flow| self.network.transport(flow).is_some());
        hint.transport.is_reliable() && !is_there
    }

    fn newest_way_to(&self, phone: &Phone) -> Option<Hint> {
        let bindings = self.bindings(&phone.registered.aor).into_iter().rev();
        let ways = bindings.filter(|binding| binding.path.is_empty() && phone.is_at(binding)).map(|binding| Hint {
            flow: Some(binding.flow),
            transport: binding.transport,
            destination: binding.source,
        });
        ways.into_iter().find(|way| way.flow.is_some_and(|flow| self.network.transport(flow).is_some()))
    }

    /// Nothing leads to the peer of this request. Whether it goes another way, at once or when its phone comes back.
    pub(super) fn is_sent_otherwise(&mut self, key: ClientKey) -> bool {
        let Some(transaction) = self.clients.get(&key) else { return false };
        // What its dialog has left behind goes nowhere else.
        let is_wanted = transaction.is_wanted() && transaction.detours < DETOURS_MAX;
        let Some(phone) = transaction.phone.clone().filter(|_| is_wanted) else { return false };
        if let Some(way) = self.newest_way_to(&phone) {
            return self.send_again(key, way);
        }
        let until = self.now + self.timing.give_up();
        self.strand(key, until);
        self.stranded.insert((phone.registered.aor, key));
        true
    }

    pub(super) fn forget_stranded(&mut self, key: ClientKey, phone: Option<&Phone>) {
        if let Some(phone) = phone {
            self.stranded.remove(&(phone.registered.aor.clone(), key));
        }
    }

    /// Somebody has registered: what waits for this phone is sent.
    pub(super) fn send_stranded(&mut self, aor: &str) {
        let first = (aor.to_owned(), ClientKey::MIN);
        let waiting = self.stranded.range(first..).take_while(|(owner, _)| owner == aor);
        let waiting: Vec<ClientKey> = waiting.map(|&(_, key)| key).collect();
        for key in waiting {
            let phone = self.clients.get(&key).and_then(|transaction| transaction.phone.clone());
            let Some(phone) = phone else { continue };
            if let Some(way) = self.newest_way_to(&phone) {
                self.forget_stranded(key, Some(&phone));
                self.send_again(key, way);
            }
        }
    }

    /// Sends a request once more, by another way and so in another transaction. `false` if it cannot have a number.
    fn send_again(&mut self, key: ClientKey, way: Hint) -> bool {
        let Some(transaction) = self.clients.get(&key) else { return false };
        let (owner, method) = (transaction.owner.clone(), transaction.request.method.clone());
        let Ok(cseq) = transaction.request.headers.cseq() else { return false };
        let number = match owner {
            Owner::Within { leg } => self.next_number(leg),
            Owner::Prack { invite, to_tag } => self.prack_again(invite, &to_tag),
            // RFC 3261 §13.2.2.4: an ACK has the number of its INVITE.
            _ if method == Method::Ack => Some(cseq.number),
            Owner::Attempt { .. }
            | Owner::Won { .. }
            | Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Withdrawn { .. }
            | Owner::Parting { .. }
            | Owner::Ack { .. }
            | Owner::AckAdrift { .. }
            | Owner::Registration { .. }
            | Owner::Ping { .. }
            | Owner::Nobody => Some(cseq.number + 1),
        };
        let (Some(number), Some(transaction)) = (number, self.clients.get_mut(&key)) else { return false };
        transaction.request.headers.set(HeaderName::CSeq, CSeq { number, ..cseq });
        transaction.detours += 1;
        transaction.hop.hint = Some(way);
        transaction.walk = Walk::straight(way.transport, way.destination);
        self.unstrand(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Binding, Phone, Registered};
    use crate::agent::{Flow, Transport};

    fn binding(contact: &str, instance: Option<&str>) -> Binding {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let expires_at = Instant::now();
        Binding {
            aor: "user:desk".to_owned(),
            aor_uri: "sip:desk@a.example".parse().unwrap(),
            contact: contact.parse().unwrap(),
            path: Vec::new(),
            source: "192.0.2.1:5060".parse().unwrap(),
            transport: Transport::Tcp,
            flow: Flow(1),
            call_id: "1".to_owned(),
            cseq: 1,
            q_thousandths: 1000,
            user_agent: None,
            instance: instance.map(str::to_owned),
            expires_at,
        }
    }

    #[test]
    fn rfc5626_a_phone_is_known_by_its_instance_and_else_by_its_user() {
        let phone = |user: &str, instance: Option<&str>| Phone {
            registered: Registered { aor: "user:desk".to_owned(), instance: instance.map(str::to_owned) },
            user: Some(user.to_owned()),
        };
        let elsewhere = "sip:desk@192.0.2.9:40000";
        assert!(phone("other", Some("<urn:uuid:1>")).is_at(&binding(elsewhere, Some("<urn:uuid:1>"))));
        assert!(!phone("desk", Some("<urn:uuid:1>")).is_at(&binding(elsewhere, Some("<urn:uuid:2>"))));
        assert!(!phone("desk", None).is_at(&binding(elsewhere, Some("<urn:uuid:2>"))));
        assert!(phone("desk", None).is_at(&binding(elsewhere, None)));
        assert!(!phone("lobby", None).is_at(&binding(elsewhere, None)));
    }
}
