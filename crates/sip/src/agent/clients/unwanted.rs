//! Requests nobody waits for any longer: CANCEL, and ACK and BYE for a 2xx that comes after all.

use super::{
    Cancelling, ClientKey, ClientTransaction, FORKS_MAX, Owner, Sending, Stage, ViaBranch, add_reason, with_same_branch,
};
use crate::agent::Agent;
use crate::agent::calling::Withdrawn;
use crate::agent::network::{Hop, Way};
use crate::agent::vocabulary::{HangUpCause, LegKey, Report};
use crate::dialog::Dialog;
use crate::digest::DigestClient;
use crate::locate::Walk;
use crate::message::{Method, Request, Response, Via};

impl ClientTransaction {
    /// The dialog that a response to this INVITE makes, with whoever is where the INVITE went.
    fn dialog_of(&self, response: &Response) -> Option<Dialog> {
        let mut dialog = Dialog::of_caller(&self.request, response).ok()?;
        dialog.heard_from = self.way.filter(|_| dialog.routes.is_empty()).map(Way::hint);
        dialog.advertised = self.hop.advertised;
        Some(dialog)
    }
}

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

    /// The same of an INVITE of a leg of which nothing is heard.
    pub(in crate::agent) fn leave_silent(&mut self, key: ClientKey, leg: LegKey, cause: &HangUpCause) {
        self.cast_adrift(key, cause);
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.owner = Owner::Silent { leg };
        }
    }

    /// Something is heard of it after all.
    pub(super) fn silent_is_heard(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        let Owner::Silent { leg } = transaction.owner else { return };
        if self.legs.contains_key(&leg) || self.withdrawn.contains_key(&leg) {
            transaction.owner = Owner::Withdrawn { leg };
            self.wait_for(leg, 1);
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
        let key = self.enter(Sending {
            branch: ViaBranch::Fixed(branch),
            walk: Some(Walk::straight(way.transport, way.destination)),
            ..Sending::new(cancel, hop, Owner::Nobody)
        });
        self.run(key, way);
    }

    /// Notes an early dialog of an INVITE that an earlier process may have sent and cancelled.
    pub(super) fn note_ringing(&mut self, key: ClientKey, response: &Response) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        if transaction.untold == 0 || transaction.ringing.len() >= FORKS_MAX {
            return;
        }
        let Some(tag) = response.headers.to().ok().and_then(|to| to.tag().map(str::to_owned)) else { return };
        if !transaction.ringing.contains_key(&tag)
            && let Some(mut dialog) = transaction.dialog_of(response)
        {
            dialog.skip_to(transaction.untold);
            transaction.ringing.insert(tag, dialog);
        }
    }

    /// A CANCEL is answered 481 though its INVITE rings: it is taken for one of an earlier process, which had come before the
    /// INVITE did. Then a BYE ends the early dialogs (RFC 3261 §15).
    pub(super) fn end_early(&mut self, response: &Response) {
        let via = response.headers.top_via().ok();
        let Some(branch) = via.as_ref().and_then(Via::branch) else { return };
        let Some(&key) = self.client_index.get(&(branch.to_owned(), Method::Invite)) else { return };
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        let (Stage::Invite(machine), Cancelling::Sent(cause)) = (&transaction.stage, &transaction.cancelling) else {
            return;
        };
        if !machine.is_proceeding() {
            return;
        }
        let (cause, mut byes) = (cause.clone(), Vec::new());
        for dialog in transaction.ringing.values_mut().filter(|dialog| dialog.local_cseq <= transaction.untold) {
            let mut bye = dialog.request(&Method::Bye);
            add_reason(&mut bye, &cause);
            byes.push((dialog.clone(), bye));
        }
        for (dialog, bye) in byes {
            let bye = self.sending_within(&dialog, bye, Owner::Nobody);
            self.send(bye);
        }
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

    /// Stops what rings for a leg; its end waits for that.
    pub(in crate::agent) fn withdraw(
        &mut self,
        leg: LegKey,
        invites: impl IntoIterator<Item = ClientKey>,
        cause: &HangUpCause,
    ) {
        let mut left = 0;
        for key in invites {
            self.cast_adrift(key, cause);
            if let Some(transaction) = self.clients.get_mut(&key) {
                transaction.owner = Owner::Withdrawn { leg };
                left += 1;
            }
        }
        self.wait_for(leg, left);
    }

    /// The end of a leg waits for so many INVITEs or their CANCELs, beside those that it waits for already.
    pub(in crate::agent) fn wait_for(&mut self, leg: LegKey, left: usize) {
        if left > 0 {
            self.withdrawn.entry(leg).or_insert(Withdrawn { left: 0, end: None }).left += left;
        }
    }

    /// A leg has ended. That is told at once, unless something still rings for it.
    pub(in crate::agent) fn tell_end(&mut self, leg: LegKey, end: Report) {
        match self.withdrawn.get_mut(&leg) {
            Some(withdrawn) => withdrawn.end = Some(end),
            None => self.report(end),
        }
    }

    /// A leg that was answered ends: those of the others that never said a word are not waited for.
    pub(in crate::agent) fn let_silent_go(&mut self, leg: LegKey, others: &[ClientKey]) {
        for &key in others {
            let never_rang = self.invite_never_rang(key);
            if let Some(transaction) = self.clients.get_mut(&key)
                && matches!(transaction.owner, Owner::Withdrawn { .. })
                && never_rang
            {
                transaction.owner = Owner::Silent { leg };
                self.withdrawn_ended(leg);
            }
        }
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
            && let Some(Withdrawn { end: Some(end), .. }) = self.withdrawn.remove(&leg)
        {
            self.report(end);
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
        let Some(dialog) = transaction.dialog_of(response) else { return false };
        let account = transaction.account.clone();
        let numbered = transaction.early.get(&to_tag).map(|early| &early.dialog).or(transaction.ringing.get(&to_tag));
        let last_number = numbered.map_or(transaction.untold, |dialog| dialog.local_cseq);
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
}

/// What a phone is told whose answer nobody waits for any longer.
pub(super) fn completed_elsewhere() -> HangUpCause {
    HangUpCause::because(200, "Call completed elsewhere")
}
