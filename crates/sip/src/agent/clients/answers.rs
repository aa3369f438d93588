//! What comes back for our requests, and whom it is told.

use std::net::SocketAddr;

use super::early::Arrival;
use super::{ClientKey, Lost, Owner, Stage, ViaBranch, retry_after, with_same_branch};
use crate::agent::Agent;
use crate::agent::servers::Source;
use crate::message::{HeaderName, Host, Method, Response};
use crate::transaction::{ClientStep, InviteClientStep};

impl Agent {
    /// A response arrived.
    pub(in crate::agent) fn receive_response(&mut self, response: &Response, source: Source) {
        self.counters.responses_received += 1;
        let (Ok(via), Ok(cseq)) = (response.headers.top_via(), response.headers.cseq()) else { return };
        let key = via.branch().and_then(|branch| self.client_index.get(&(branch.to_owned(), cseq.method.clone())));
        let Some(&key) = key else {
            self.receive_stray(response, source);
            return;
        };
        if !self.is_from_there(key, source) {
            self.counters.foreign_received += 1;
            return;
        }
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        let status = response.status;
        transaction.move_on_at = None;
        if let Some(way) = transaction.way {
            self.network.forgive((way.transport, way.destination));
        }
        if status >= 200 {
            // What lingers to absorb repetitions is never sent again; thousands of them linger.
            transaction.abandon_at = None;
            transaction.bytes = Vec::new();
        }
        if response.is_success() {
            transaction.request.body = Vec::new();
        } else if status >= 300 {
            self.forget_early(key);
        }
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        match &mut transaction.stage {
            Stage::Invite(machine) => match machine.received(self.now, status) {
                InviteClientStep::Provisional => {
                    self.note_ringing(key, response);
                    self.cancel_if_wanted(key);
                    self.tell_provisional(key, response, source);
                }
                InviteClientStep::Success => self.tell_success(key, response, source.address),
                InviteClientStep::Failure => {
                    self.acknowledge_failure(key, response);
                    self.tell_final(key, response);
                }
                InviteClientStep::Acknowledge => self.acknowledge_failure(key, response),
                // Within a dialog the BYE would end what goes on.
                InviteClientStep::Late if transaction.is_initial() => self.end_unwanted(key, response),
                InviteClientStep::Nothing
                | InviteClientStep::Late
                | InviteClientStep::Resend
                | InviteClientStep::TimedOut
                | InviteClientStep::Terminated => {}
            },
            Stage::Plain(machine) => {
                if machine.received(self.now, status) == ClientStep::Final {
                    self.tell_final(key, response);
                }
            }
            Stage::Resolving | Stage::Waiting => {}
        }
        self.watch_client(key);
    }

    /// Whether a response comes from where its request went: by the same connection, or from the same address. A server
    /// that is many machines may answer from any of them.
    fn is_from_there(&self, key: ClientKey, source: Source) -> bool {
        let Some(transaction) = self.clients.get(&key) else { return false };
        let Some(way) = transaction.way else { return false };
        let ip = source.address.ip();
        let is_named = || match &transaction.hop.uri.host {
            Host::Domain(name) => self.answers.may_be(name, ip),
            Host::Ip(_) => false,
        };
        way.destination.ip() == ip || way.transport.is_reliable() && way.flow == source.flow || is_named()
    }

    fn tell_provisional(&mut self, key: ClientKey, response: &Response, source: Source) {
        self.silent_is_heard(key);
        let Some(transaction) = self.clients.get(&key) else { return };
        if let Owner::Attempt { leg, attempt } = transaction.owner {
            let Some(branch) = self.branch_of(leg, attempt).cloned() else { return };
            match self.take_provisional(key, leg, branch, response, source) {
                Arrival::Fresh => self.attempt_progresses(leg, attempt, response),
                Arrival::Stale => {}
            }
        }
    }

    fn tell_success(&mut self, key: ClientKey, response: &Response, source: SocketAddr) {
        self.silent_is_heard(key);
        let Some(transaction) = self.clients.get(&key) else { return };
        match transaction.owner.clone() {
            Owner::Attempt { leg, attempt } if self.has_hung_up_on(response) => {
                self.leave_behind(key);
                self.end_unwanted(key, response);
                self.attempt_lost(leg, attempt, Lost::Silent);
            }
            Owner::Attempt { leg, attempt } => self.attempt_answered(key, leg, attempt, response, source),
            Owner::Won { leg } => self.success_repeated(key, leg, response),
            Owner::Within { leg } => self.within_answered(key, leg, response),
            Owner::Withdrawn { leg } => self.withdrawn_was_answered(key, leg, response),
            Owner::Parting { leg } => self.withdrawn_ended(leg),
            Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Prack { .. }
            | Owner::Ack { .. }
            | Owner::AckAdrift { .. }
            | Owner::Registration { .. }
            | Owner::Ping { .. }
            | Owner::Nobody => self.end_unwanted(key, response),
        }
    }

    fn tell_final(&mut self, key: ClientKey, response: &Response) {
        if matches!(response.status, 401 | 407) && self.answer_challenge(key, response) {
            return;
        }
        let Some(transaction) = self.clients.get(&key) else { return };
        let (is_wanted, has_more) = (transaction.is_wanted(), transaction.walk.has_more());
        // RFC 3263 §4.3: a server that is overloaded is as good as one that is not there. One that knows nothing of what a
        // CANCEL is for was not the one that its INVITE went to, if that is not known.
        let is_for_nothing = transaction.request.method == Method::Cancel && response.status == 481;
        let is_sure = matches!(transaction.branch, ViaBranch::Fixed(_));
        let is_elsewhere = response.status == 503 || is_for_nothing && !is_sure;
        if let (503, Some(way), Some(time)) = (response.status, transaction.way, retry_after(response)) {
            // RFC 3261 §21.5.4: it is left alone for as long as it says, while there are others.
            self.network.shun(self.now, (way.transport, way.destination), time);
        }
        if is_elsewhere && is_wanted && has_more {
            self.unindex(key);
            self.unsent.push_back(key);
            return;
        }
        let owner = transaction.owner.clone();
        if is_for_nothing {
            self.end_early(response);
        }
        match owner {
            Owner::Attempt { leg, attempt } => self.attempt_refused(leg, attempt, response),
            Owner::Within { leg } => self.within_answered(key, leg, response),
            Owner::Registration { key: registration } => self.registration_answered(key, registration, response),
            Owner::Ping { key } => self.ping_ended(key, true),
            Owner::Withdrawn { leg } => self.withdrawn_was_refused(key, leg),
            Owner::Parting { leg } => self.withdrawn_ended(leg),
            Owner::Won { .. }
            | Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Prack { .. }
            | Owner::Ack { .. }
            | Owner::AckAdrift { .. }
            | Owner::Nobody => {}
        }
    }

    /// The ACK of a failure belongs to the transaction (RFC 3261 §17.1.1.3).
    fn acknowledge_failure(&mut self, key: ClientKey, response: &Response) {
        let Some(transaction) = self.clients.get(&key) else { return };
        let Some(way) = transaction.way else { return };
        let ack = with_same_branch(&transaction.request, Method::Ack, response.headers.get(HeaderName::To));
        self.transmit(way, ack.to_bytes());
    }
}
