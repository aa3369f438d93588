//! Answers to a peer that asks who we are.

use super::Agent;
use super::clients::{ClientKey, Owner, Sending};
use super::vocabulary::Credentials;
use crate::digest::DigestClient;
use crate::message::{CSeq, HeaderName, Response};

/// Most challenges to one request that are answered: a proxy's, a server's, and a stale nonce of each. The account
/// itself stops when its password is refused; this stops a peer that asks for another realm each time.
const ANSWERS_MAX: u8 = 4;

impl Credentials {
    pub(super) fn account(&self) -> DigestClient {
        DigestClient::new(&self.username, &self.password)
    }
}

impl Agent {
    /// Sends the request again with credentials, if there are any and they have not been refused already.
    pub(super) fn answer_challenge(&mut self, key: ClientKey, response: &Response) -> bool {
        let cnonce = self.naming.tag();
        let Some(transaction) = self.clients.get_mut(&key) else { return false };
        let answers = transaction.challenges;
        let (Some(mut account), Some(way)) = (transaction.account.clone(), transaction.way) else { return false };
        let mut request = transaction.request.clone();
        let Ok(cseq) = request.headers.cseq() else { return false };
        if answers >= ANSWERS_MAX || account.answer(response, &mut request, &cnonce).is_err() {
            self.counters.authentication_failed += 1;
            return false;
        }
        let mut walk = transaction.walk.clone();
        walk.again(way.transport, way.destination);
        let (phone, untold) = (transaction.phone.clone(), transaction.untold);
        let mut hop = transaction.hop.clone();
        hop.hint = Some(way.hint());
        let owner = transaction.owner.clone();
        let branch = transaction.branch.clone();
        let number = match &owner {
            Owner::Attempt { leg, attempt } => self.attempt_again(*leg, *attempt),
            Owner::Within { leg } => self.next_number(*leg),
            Owner::Prack { invite, to_tag } => self.prack_again(*invite, to_tag),
            Owner::Registration { key } => self.registration_again(*key),
            Owner::Ping { .. } | Owner::Parting { .. } | Owner::Nobody => Some(cseq.number + 1),
            Owner::Won { .. }
            | Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Withdrawn { .. }
            | Owner::Ack { .. }
            | Owner::AckAdrift { .. } => None,
        };
        let Some(number) = number else { return false };
        request.headers.set(HeaderName::CSeq, CSeq { number, ..cseq });
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.owner = Owner::Nobody;
        }
        let sending = Sending {
            branch,
            account: Some(account),
            challenges: answers + 1,
            walk: Some(walk),
            phone,
            untold,
            ..Sending::new(request, hop, owner.clone())
        };
        let again = self.send(sending);
        match owner {
            Owner::Attempt { leg, attempt } => self.attempt_moved(leg, attempt, again),
            Owner::Within { leg } => self.within_moved(leg, again),
            Owner::Registration { key } => self.registration_moved(key, again),
            Owner::Prack { .. }
            | Owner::Ping { .. }
            | Owner::Nobody
            | Owner::Won { .. }
            | Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Withdrawn { .. }
            | Owner::Parting { .. }
            | Owner::Ack { .. }
            | Owner::AckAdrift { .. } => {}
        }
        true
    }
}
