//! Early dialogs of our INVITEs: provisional responses that want a PRACK get one (RFC 3262), each fork by itself.
//!
//! A PRACK that is refused or never answered changes nothing here: the INVITE goes on, and its own final response, or
//! the end of ringing, decides. A called side that misses a PRACK ends the INVITE itself (RFC 3262 §3).

use super::{ClientKey, Owner, Sending};
use crate::agent::Agent;
use crate::agent::limits::EARLY_DIALOGS_MAX;
use crate::agent::peers::Peer;
use crate::agent::servers::{ServerKey, Source};
use crate::agent::talking::with_session;
use crate::agent::vocabulary::{Branch, LegKey};
use crate::agent::{Leg, calling::sdp_of};
use crate::dialog::{Dialog, DialogId};
use crate::invite::reliable::Expected;
use crate::message::{HeaderName, Method, NameAddr, RAck, Request, Response};

/// A dialog that a reliable provisional response began.
#[derive(Debug)]
pub(in crate::agent) struct Early {
    pub(in crate::agent) dialog: Dialog,
    peer: Peer,
    expected: Expected,
    /// The answer to our offer, said reliably and so for good (RFC 3262 §5, RFC 3261 §13.2.1).
    pub(in crate::agent) answer: Option<Vec<u8>>,
}

/// Whether a provisional response tells anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Fresh,
    /// Reliable, and not the next of its dialog.
    Stale,
}

impl Agent {
    /// Acknowledges a provisional response to the INVITE of a leg's branch, if it wants that.
    pub(super) fn take_provisional(
        &mut self,
        key: ClientKey,
        leg: LegKey,
        branch: Branch,
        response: &Response,
        source: Source,
    ) -> Arrival {
        let headers = &response.headers;
        let wants_prack = response.status > 100
            && headers.require().is_ok_and(|tags| tags.iter().any(|tag| tag.eq_ignore_ascii_case("100rel")));
        let tag = headers.to().ok().and_then(|to| to.tag().map(str::to_owned));
        // Without a number or a tag there is nothing to acknowledge it by.
        let (true, Ok(Some(rseq)), Some(to_tag), Ok(cseq)) = (wants_prack, headers.rseq(), tag, headers.cseq()) else {
            return Arrival::Fresh;
        };
        let Some(transaction) = self.clients.get_mut(&key) else { return Arrival::Stale };
        if let Some(early) = transaction.early.get_mut(&to_tag) {
            if !early.expected.take(rseq) {
                return Arrival::Stale;
            }
        } else {
            let dialog = Dialog::of_caller(&transaction.request, response);
            let (Ok(mut dialog), true) = (dialog, transaction.early.len() < EARLY_DIALOGS_MAX) else {
                return Arrival::Stale;
            };
            if let Some(way) = transaction.way {
                dialog.hear_from(way.hint(), branch.hint.is_some());
            }
            dialog.skip_to(transaction.untold);
            dialog.registered = branch.registered;
            dialog.advertised = transaction.hop.advertised;
            self.dialogs.insert(dialog.id.clone(), leg);
            let called_at = transaction.way.map(|way| way.destination.ip());
            let peer = Peer::of_answer(source.address.ip(), called_at, &transaction.hop.uri);
            let early = Early { dialog, peer, expected: Expected::after(rseq), answer: None };
            transaction.early.insert(to_tag.clone(), early);
        }
        let account = transaction.account.clone();
        let Some(early) = transaction.early.get_mut(&to_tag) else { return Arrival::Stale };
        if early.answer.is_none() {
            early.answer = sdp_of(headers, &response.body);
        }
        let mut prack = early.dialog.request(&Method::Prack);
        prack.headers.push(HeaderName::RAck, RAck { rseq, cseq });
        let dialog = early.dialog.clone();
        let owner = Owner::Prack { invite: key, to_tag };
        let prack = Sending { account, ..self.sending_within(&dialog, prack, owner) };
        self.send(prack);
        Arrival::Fresh
    }

    /// The next number of a request within an early dialog, for the same PRACK with credentials.
    pub(in crate::agent) fn prack_again(&mut self, invite: ClientKey, to_tag: &str) -> Option<u32> {
        let dialog = &mut self.clients.get_mut(&invite)?.early.get_mut(to_tag)?.dialog;
        dialog.local_cseq += 1;
        Some(dialog.local_cseq)
    }

    /// The early dialog that a 2xx confirms.
    pub(in crate::agent) fn take_early(&mut self, invite: ClientKey, response: &Response) -> Option<Early> {
        let to = response.headers.to().ok()?;
        self.clients.get_mut(&invite)?.early.remove(to.tag()?)
    }

    /// What the peers ask within early dialogs of this INVITE is nobody's any longer.
    pub(in crate::agent) fn unlist_early(&mut self, invite: ClientKey) {
        let Some(transaction) = self.clients.get(&invite) else { return };
        for early in transaction.early.values() {
            self.dialogs.remove(&early.dialog.id);
        }
    }

    /// The INVITE has failed: none of its early dialogs will be confirmed.
    pub(super) fn forget_early(&mut self, invite: ClientKey) {
        self.unlist_early(invite);
        if let Some(transaction) = self.clients.get_mut(&invite) {
            transaction.early.clear();
        }
    }

    /// A request of the peer within an early dialog of ours. Nobody can answer an offer yet: its user knows of no
    /// session before the 2xx (RFC 3311 §5.2).
    pub(in crate::agent) fn receive_early(&mut self, key: ServerKey, leg: LegKey, id: &DialogId, request: &Request) {
        let Some(Leg::Calling(calling)) = self.legs.get(&leg) else { return self.reply(key, 481) };
        let invites: Vec<_> = calling.invites().collect();
        let holder = invites.into_iter().find(|invite| {
            let early = self.clients.get(invite).and_then(|transaction| transaction.early.get(&id.remote_tag));
            early.is_some_and(|early| early.dialog.id == *id)
        });
        let Some(holder) = holder else { return self.reply(key, 481) };
        let source = self.servers.get(&key).map(|transaction| transaction.source);
        let early = self.clients.get(&holder).and_then(|transaction| transaction.early.get(&id.remote_tag));
        let (Some(early), Some(source)) = (early, source) else { return self.reply(key, 481) };
        if !self.is_peer_of(&early.dialog, &early.peer, source) {
            let user = early.dialog.remote.uri.clone();
            if !self.is_proven_of(key, &user, request) {
                return;
            }
        }
        self.trust(key);
        let transaction = self.clients.get_mut(&holder);
        let early = transaction.and_then(|transaction| transaction.early.get_mut(&id.remote_tag));
        let (Some(early), Ok(cseq)) = (early, request.headers.cseq()) else { return self.reply(key, 481) };
        early.peer.is_at(source.address.ip());
        if !early.dialog.admit(cseq.number) {
            return self.reply(key, 500);
        }
        match request.method {
            Method::Update if request.body.is_empty() => {
                early.dialog.retarget(&request.headers);
                let contact = NameAddr::new(early.dialog.local_target.clone());
                self.reply_with(key, 200, |response| with_session(response, contact, None));
            }
            Method::Update => self.reply_later(key, 500),
            Method::Options => self.reply_to_options(key),
            Method::Info if request.body.is_empty() => self.reply(key, 200),
            Method::Invite
            | Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Register
            | Method::Prack
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Info
            | Method::Message
            | Method::Publish
            | Method::Other(_) => self.reply(key, 481),
        }
    }
}
