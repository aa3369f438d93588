//! Responses to INVITEs of earlier processes that left nothing of them: what rings or answers is ended.

use std::net::SocketAddr;

use super::Owner;
use super::unwanted::completed_elsewhere;
use crate::agent::Agent;
use crate::agent::limits::{STRAY_FOR, STRAY_REQUESTS_MAX, STRAYS_MAX};
use crate::agent::network::{Hop, Way};
use crate::agent::servers::Source;
use crate::agent::vocabulary::Hint;
use crate::dialog::{Dialog, DialogId};
use crate::message::{CSeq, HeaderName, Host, Method, NameAddr, Request, Response, Uri, Via};

impl Agent {
    /// A phone rings, and the process that called it has died and left nothing of it: it was of no use any longer, and had
    /// not said a word. The CANCEL is made of what the phone repeats of its INVITE, and goes to where that came from. Beside
    /// it goes a BYE (RFC 3261 §15): one CANCEL may have overtaken the INVITE, and to the phone every further one is the same
    /// transaction, which it has answered with 481.
    fn cancel_stray(&mut self, response: &Response, source: Source) {
        let headers = &response.headers;
        let (Ok(via), Ok(mut to), Ok(call_id), Ok(cseq)) =
            (headers.top_via(), headers.to(), headers.call_id(), headers.cseq())
        else {
            return;
        };
        // What is about to be called again may ring, and within a dialog that goes on nothing does.
        let Ok(mut dialog) = Dialog::of_stray(response) else { return };
        let goes_on = self.dialogs.contains_key(&dialog.id);
        if goes_on || self.is_yet_to_ask(call_id, cseq.number) || self.is_filled(2) {
            return;
        }
        let Some(branch) = via.branch() else { return };
        // Not the names of the dialogs: a 2xx that comes after all is ended under those.
        let invite = DialogId { call_id: call_id.to_owned(), local_tag: branch.to_owned(), remote_tag: String::new() };
        let early = DialogId { remote_tag: dialog.id.remote_tag.clone(), ..invite.clone() };
        let Source { flow, transport, address: destination, .. } = source;
        let advertised = match (&via.host, via.port) {
            (Host::Ip(ip), Some(port)) => SocketAddr::new(*ip, port),
            (Host::Ip(_) | Host::Domain(_), _) => source.advertised,
        };
        let way = Way { flow, transport, destination, advertised };
        to.params.remove("tag");
        let uri = dialog.remote_target.clone();
        if self.is_new_stray(invite)
            && let Some(cancel) = beside_invite_of(response, Method::Cancel, uri.clone(), &to)
        {
            self.send_cancel(cancel, Hop { uri, hint: Some(way.hint()), advertised: Some(advertised) }, way);
        }
        if !early.remote_tag.is_empty() && self.is_new_stray(early) {
            dialog.heard_from = Some(way.hint());
            dialog.skip_to(self.untold(0));
            let bye = dialog.request(&Method::Bye);
            let bye = self.sending_within(&dialog, bye, Owner::Nobody);
            self.send(bye);
        }
    }

    /// Whoever knows the Call-ID of an old call can make us end it. That costs a bounded number of packets, which go to where
    /// the response came from and nowhere that it names: once each, and so many at one time.
    fn is_new_stray(&mut self, id: DialogId) -> bool {
        let now = self.now;
        self.strays.retain(|_, until| *until > now);
        let is_new = self.strays.len() < STRAYS_MAX && !self.strays.contains_key(&id);
        if is_new {
            self.strays.insert(id, now + STRAY_FOR);
        }
        is_new
    }

    /// A response to no request we know: perhaps to one of an earlier process of this node.
    pub(super) fn receive_stray(&mut self, response: &Response, source: Source) {
        self.counters.stray_received += 1;
        let headers = &response.headers;
        let is_invite = headers.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        let is_ours = headers.call_id().is_ok_and(|call_id| self.naming.is_ours(call_id));
        if !is_invite || headers.vias().map_or(true, |vias| vias.len() != 1) {
            return;
        }
        let Source { flow, transport, address, advertised } = source;
        if response.is_provisional() {
            if is_ours {
                self.cancel_stray(response, source);
            }
        } else if response.is_success() {
            // A 2xx outlives its transaction; the leg's dialog may still be there.
            if self.acknowledge_again(response) || !is_ours {
                return;
            }
            // The answer to an INVITE that we are about to send as well, as the earlier process did after a 407 or a 422: it
            // is repeated until we have.
            if let (Ok(call_id), Ok(cseq)) = (headers.call_id(), headers.cseq())
                && self.is_yet_to_ask(call_id, cseq.number)
            {
                return;
            }
            let Ok(mut dialog) = Dialog::of_stray(response) else { return };
            if self.dialogs.contains_key(&dialog.id) || self.is_filled(2) || !self.is_new_stray(dialog.id.clone()) {
                return;
            }
            dialog.heard_from = Some(Hint { flow: Some(flow), transport, destination: address });
            let last_number = self.untold(0).saturating_add(STRAY_REQUESTS_MAX);
            self.acknowledge_and_end(dialog, last_number, [Owner::Nobody, Owner::Nobody], None, &completed_elsewhere());
        } else if is_ours
            && let Ok(to) = headers.to()
            && let Some(ack) = beside_invite_of(response, Method::Ack, to.uri.clone(), &to)
        {
            // The failure is repeated until somebody acknowledges it.
            self.transmit(Way { flow, transport, destination: address, advertised }, ack.to_bytes());
        }
    }

    /// Whether this process has ended this dialog as one that nobody knew of.
    pub(super) fn has_hung_up_on(&self, response: &Response) -> bool {
        if self.strays.is_empty() {
            return false;
        }
        let via = response.headers.top_via().ok();
        let (Ok(dialog), Some(branch)) = (Dialog::of_stray(response), via.as_ref().and_then(Via::branch)) else {
            return false;
        };
        let early = DialogId { local_tag: branch.to_owned(), ..dialog.id.clone() };
        [dialog.id, early].iter().any(|id| self.strays.get(id).is_some_and(|until| *until > self.now))
    }
}

/// A request in the transaction of an INVITE of which nothing is known but a response.
fn beside_invite_of(response: &Response, method: Method, uri: Uri, to: &NameAddr) -> Option<Request> {
    let headers = &response.headers;
    let (mut via, cseq) = (headers.top_via().ok()?, headers.cseq().ok()?);
    via.params.remove("received");
    via.params.set_flag("rport");
    let mut request = Request::new(method.clone(), Uri { headers: None, ..uri });
    request.headers.push(HeaderName::Via, &via);
    request.headers.push(HeaderName::MaxForwards, "70");
    request.headers.push(HeaderName::From, headers.get(HeaderName::From).unwrap_or_default());
    request.headers.push(HeaderName::To, to);
    request.headers.push(HeaderName::CallId, headers.get(HeaderName::CallId).unwrap_or_default());
    request.headers.push(HeaderName::CSeq, CSeq { method, ..cseq });
    Some(request)
}
