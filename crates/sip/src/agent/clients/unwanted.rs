//! Requests nobody waits for any longer: CANCEL, and ACK and BYE for a 2xx that comes after all.

use std::collections::BTreeMap;

use super::{
    Cancelling, ClientKey, ClientTransaction, FORKS_MAX, Owner, Sending, Stage, ViaBranch, add_reason, with_same_branch,
};
use crate::agent::Agent;
use crate::agent::calling::{Failure, Withdrawn};
use crate::agent::limits::{STRAY_FOR, STRAYS_MAX, UNKNOWN_REQUESTS_MAX};
use crate::agent::network::{Hop, Way};
use crate::agent::servers::Source;
use crate::agent::vocabulary::{HangUpCause, Hint, LegKey};
use crate::dialog::Dialog;
use crate::digest::DigestClient;
use crate::locate::Walk;
use crate::message::{CSeq, HeaderName, Method, Request, Response, Uri};

impl Agent {
    /// Nobody waits for this INVITE any longer: it is cancelled as soon as that may be done, and a 2xx that comes
    /// after all is acknowledged and ended.
    pub(in crate::agent) fn cast_adrift(&mut self, key: ClientKey, cause: &HangUpCause) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        transaction.owner = Owner::Adrift;
        transaction.move_on_at = None;
        self.unlist_early(key);
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        match &transaction.stage {
            Stage::Resolving | Stage::Waiting => self.drop_client(key),
            Stage::Invite(_) => {
                if transaction.cancelling == Cancelling::No {
                    transaction.cancelling = Cancelling::Wanted(cause.clone());
                }
                self.cancel_if_wanted(key);
            }
            Stage::Plain(_) => {}
        }
    }

    pub(super) fn cancel_if_wanted(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        let is_proceeding = matches!(&transaction.stage, Stage::Invite(machine) if machine.is_proceeding());
        let (Cancelling::Wanted(cause), true, Some(way)) = (&transaction.cancelling, is_proceeding, transaction.way)
        else {
            return;
        };
        let mut cancel = with_same_branch(&transaction.request, Method::Cancel, None);
        add_reason(&mut cancel, cause);
        transaction.cancelling = Cancelling::Sent(cause.clone());
        // RFC 3261 §9.1: a peer that never answers the INVITE after CANCEL is given up after 64 × T1.
        transaction.abandon_at = Some(self.now + self.timing.give_up());
        let hop = transaction.hop.clone();
        self.watch_client(key);
        self.send_cancel(cancel, hop, way);
    }

    /// Sends a CANCEL the way its INVITE went.
    pub(in crate::agent) fn send_cancel(&mut self, cancel: Request, hop: Hop, way: Way) {
        let branch = cancel.headers.top_via().ok().and_then(|via| via.branch().map(str::to_owned)).unwrap_or_default();
        self.last_client += 1;
        let key = self.last_client;
        let transaction = ClientTransaction {
            owner: Owner::Nobody,
            request: cancel,
            hop,
            stage: Stage::Waiting,
            branch: ViaBranch::Fixed(branch),
            contact_user: None,
            walk: Walk::straight(way.transport, way.destination),
            way: None,
            bytes: Vec::new(),
            early: BTreeMap::new(),
            acks: BTreeMap::new(),
            cancelling: Cancelling::No,
            abandon_at: None,
            move_on_at: None,
            account: None,
            challenges: 0,
            phone: None,
            detours: 0,
            untold: 0,
        };
        self.clients.insert(key, transaction);
        self.run(key, way);
    }

    /// The dialog of this request has ended. A 2xx that comes after all is acknowledged and ended.
    pub(in crate::agent) fn leave_behind(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        transaction.owner = Owner::Adrift;
        match &transaction.stage {
            // It was not sent, or waits to be sent again.
            Stage::Resolving | Stage::Waiting => self.drop_client(key),
            Stage::Invite(_) | Stage::Plain(_) => {}
        }
    }

    /// The dialog of this INVITE has ended; its ACK is kept for repeated 2xx.
    pub(in crate::agent) fn remember_ack(&mut self, key: ClientKey, to_tag: String, way: Way, bytes: Vec<u8>) {
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.acks.insert(to_tag, Some((way, bytes)));
        }
    }

    /// Ends a leg that rings. Its end is told when its INVITEs have ended: were it told before, and this process died,
    /// nobody would cancel what is not cancelled yet, and phones would ring for ever.
    pub(in crate::agent) fn withdraw(
        &mut self,
        leg: LegKey,
        invites: impl IntoIterator<Item = ClientKey>,
        cause: &HangUpCause,
        failure: Failure,
    ) {
        let mut left = 0;
        for key in invites {
            self.cast_adrift(key, cause);
            if let Some(transaction) = self.clients.get_mut(&key) {
                transaction.owner = Owner::Withdrawn { leg };
                left += 1;
            }
        }
        self.wait_for_withdrawn(leg, left, failure);
    }

    /// So many INVITEs or their CANCELs, beside those that are waited for already, have to end until a leg's end is told.
    pub(in crate::agent) fn wait_for_withdrawn(&mut self, leg: LegKey, left: usize, failure: Failure) {
        self.withdrawn.entry(leg).or_insert(Withdrawn { left: 0, failure }).left += left + 1;
        self.withdrawn_ended(leg);
    }

    pub(super) fn withdrawn_was_refused(&mut self, key: ClientKey, leg: LegKey) {
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.owner = Owner::Adrift;
        }
        self.withdrawn_ended(leg);
    }

    /// The 2xx and the CANCEL have crossed: now it is over when the BYE is answered.
    pub(super) fn withdrawn_was_answered(&mut self, key: ClientKey, leg: LegKey, response: &Response) {
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.owner = Owner::Adrift;
        }
        if !self.end_unwanted_by(key, response, Owner::Parting { leg }) {
            self.withdrawn_ended(leg);
        }
    }

    /// One of those that a leg's end waits for has ended.
    pub(super) fn withdrawn_ended(&mut self, leg: LegKey) {
        let Some(withdrawn) = self.withdrawn.get_mut(&leg) else { return };
        withdrawn.left -= 1;
        if withdrawn.left == 0
            && let Some(Withdrawn { failure, .. }) = self.withdrawn.remove(&leg)
        {
            self.report_failed(leg, failure);
        }
    }

    /// A 2xx that nobody waits for: ACK and BYE, and the same ACK for each repetition.
    pub(in crate::agent) fn end_unwanted(&mut self, key: ClientKey, response: &Response) {
        self.end_unwanted_by(key, response, Owner::Nobody);
    }

    /// `false` if there is nothing to say BYE to.
    fn end_unwanted_by(&mut self, key: ClientKey, response: &Response, bye_owner: Owner) -> bool {
        let Some(transaction) = self.clients.get(&key) else { return false };
        let to_tag = response.headers.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
        if let Some(ack) = transaction.acks.get(&to_tag) {
            if let Some((way, bytes)) = ack.clone() {
                self.counters.retransmissions_sent += 1;
                self.transmit(way, bytes);
            }
            return false;
        }
        if transaction.acks.len() >= FORKS_MAX {
            return false;
        }
        let Ok(mut dialog) = Dialog::of_caller(&transaction.request, response) else { return false };
        dialog.heard_from = transaction.way.filter(|_| dialog.routes.is_empty()).map(Way::hint);
        dialog.advertised = transaction.hop.advertised;
        let account = transaction.account.clone();
        let untold = dialog.local_cseq.saturating_add(transaction.untold);
        let last_number = transaction.early.get(&to_tag).map_or(untold, |early| early.dialog.local_cseq);
        // It is told what its CANCEL said: a phone shows a missed call unless somebody else has answered.
        let cause = match &transaction.cancelling {
            Cancelling::Wanted(cause) | Cancelling::Sent(cause) => cause.clone(),
            Cancelling::No => completed_elsewhere(),
        };
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.acks.insert(to_tag.clone(), None);
        }
        let ack_owner = Owner::AckAdrift { invite: key, to_tag };
        self.acknowledge_and_end(dialog, last_number, [ack_owner, bye_owner], account, &cause);
        true
    }

    /// ACK and BYE for a dialog nobody wants. `last_number` is that of the last request sent within it, if any was.
    pub(in crate::agent) fn acknowledge_and_end(
        &mut self,
        mut dialog: Dialog,
        last_number: u32,
        [ack_owner, bye_owner]: [Owner; 2],
        account: Option<DigestClient>,
        cause: &HangUpCause,
    ) {
        let ack = dialog.ack(dialog.local_cseq);
        let ack = self.sending_within(&dialog, ack, ack_owner);
        self.send(ack);
        dialog.skip_to(last_number);
        let mut bye = dialog.request(&Method::Bye);
        add_reason(&mut bye, cause);
        let bye = Sending { account, ..self.sending_within(&dialog, bye, bye_owner) };
        self.send(bye);
    }

    /// A response to no request we know: perhaps to one of an earlier process of this node.
    pub(super) fn receive_stray(&mut self, response: &Response, source: Source) {
        self.counters.stray_received += 1;
        let headers = &response.headers;
        let is_invite = headers.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        let is_ours = headers.call_id().is_ok_and(|call_id| self.naming.is_ours(call_id));
        if !is_invite || response.is_provisional() || headers.vias().map_or(true, |vias| vias.len() != 1) {
            return;
        }
        let Source { flow, transport, address, advertised } = source;
        if response.is_success() {
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
            if self.dialogs.contains_key(&dialog.id) || self.is_filled(2) {
                return;
            }
            // Whoever knows the Call-ID of an old call can make us do this. It costs a bounded number of packets, which go
            // to where the response came from and nowhere that it names.
            let now = self.now;
            self.strays.retain(|_, until| *until > now);
            if self.strays.contains_key(&dialog.id) || self.strays.len() >= STRAYS_MAX {
                return;
            }
            self.strays.insert(dialog.id.clone(), now + STRAY_FOR);
            dialog.heard_from = Some(Hint { flow: Some(flow), transport, destination: address });
            // The earlier process may have sent PRACKs.
            let last_number = dialog.local_cseq.saturating_add(UNKNOWN_REQUESTS_MAX);
            self.acknowledge_and_end(dialog, last_number, [Owner::Nobody, Owner::Nobody], None, &completed_elsewhere());
        } else if is_ours && let (Ok(via), Ok(to)) = (headers.top_via(), headers.to()) {
            // The failure is repeated until somebody acknowledges it.
            let mut ack = Request::new(Method::Ack, Uri { headers: None, ..to.uri.clone() });
            let mut own_via = via;
            own_via.params.remove("received");
            own_via.params.set_flag("rport");
            ack.headers.push(HeaderName::Via, &own_via);
            ack.headers.push(HeaderName::MaxForwards, "70");
            for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
                ack.headers.push(name.clone(), headers.get(name).unwrap_or_default());
            }
            if let Ok(cseq) = headers.cseq() {
                ack.headers.push(HeaderName::CSeq, CSeq { method: Method::Ack, ..cseq });
            }
            self.transmit(Way { flow, transport, destination: address, advertised }, ack.to_bytes());
        }
    }
}

/// What a phone is told whose answer nobody waits for any longer.
fn completed_elsewhere() -> HangUpCause {
    HangUpCause::because(200, "Call completed elsewhere")
}
