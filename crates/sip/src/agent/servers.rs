//! Requests we receive: matched to their transactions, checked, and passed to whom they concern.

use std::net::SocketAddr;

use super::vocabulary::{Flow, IncomingPolicy, LegKey, Transport};
use super::{Agent, Due};
use crate::message::{HeaderName, Method, Request, Response, Uri, Via};
use crate::transaction::{InviteServer, InviteServerStep, Server, ServerStep};

/// Names a server transaction within the agent.
pub(super) type ServerKey = u64;

/// Option tags we know, for Supported. Within a dialog nothing rings, so that reliable provisional responses are asked
/// for in a first INVITE only.
pub(super) const SUPPORTED: &str = "timer";
pub(super) const SUPPORTED_WITH_RELIABLE: &str = "timer, 100rel";
const SUPPORTED_WITH_PATH: &str = "timer, 100rel, path";

/// Methods we serve, for Allow.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE";
const ALLOW_WITH_REGISTER: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REGISTER";
/// What tells a request of one transaction from all others (RFC 3261 §17.2.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServerName {
    branch: String,
    sent_by: String,
    method: Method,
}

/// What a request has in common with its copies that came by other ways (RFC 3261 §8.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    call_id: String,
    from_tag: String,
    number: u32,
    method: Method,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteServer),
    Plain(Server),
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) flow: Flow,
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
    /// Our address as the flow shows it.
    pub(super) advertised: SocketAddr,
}

/// One request being answered.
#[derive(Debug)]
pub(super) struct ServerTransaction {
    pub(super) request: Request,
    pub(super) source: Source,
    pub(super) tag: String,
    /// The leg that answers it, for an INVITE, UPDATE or whatever takes time.
    pub(super) leg: Option<LegKey>,
    /// It comes from somebody we know: the answer is kept, and repeated where the protocol says so. A stranger's request is
    /// answered once for each time that it comes, and leaves nothing behind (RFC 3261 §8.2.7): its source may be forged.
    is_trusted: bool,
    reply_to: SocketAddr,
    machine: Machine,
    last: Option<Vec<u8>>,
    name: ServerName,
    origin: Origin,
}

impl Agent {
    /// A request arrived.
    pub(super) fn receive_request(&mut self, mut request: Request, source: Source) {
        self.counters.requests_received += 1;
        let Ok(mut via) = request.headers.top_via() else { return };
        via.stamp(source.address);
        request.headers.set_top_via(&via);
        let Some((name, origin)) = names(&request, &via) else { return };

        if request.method == Method::Ack {
            let invite = ServerName { method: Method::Invite, ..name };
            match self.server_index.get(&invite).copied() {
                Some(key) if !self.is_accepted(key) => self.failure_acknowledged(key),
                Some(_) | None => self.success_acknowledged(&request, source),
            }
            return;
        }
        if let Some(&key) = self.server_index.get(&name) {
            self.repeated(key);
            return;
        }
        // Everything else is new. A full agent answers without keeping anything; what belongs to a dialog, above all
        // its end, has room for as much again.
        let is_within = request.headers.to().is_ok_and(|to| to.tag().is_some()) || request.method == Method::Cancel;
        let begins = matches!(request.method, Method::Invite | Method::Register) && !is_within;
        if self.is_filled(if is_within { 2 } else { 1 }) || begins && self.is_overloaded {
            self.counters.shed += 1;
            let tag = self.naming.tag_for(&name.branch, &origin.call_id, &origin.from_tag);
            let response = Response::to_request(&request, 503, "").with_to_tag(&tag);
            let seconds = 2 + self.naming.below(8);
            let response = response.with(HeaderName::RetryAfter, seconds.to_string());
            self.transmit_reply(source, reply_to(&via, source), response.to_bytes());
            return;
        }
        let merged = self.server_origins.get(&origin).copied();
        let key = self.begin_server(request, source, &via, name, origin);
        if self.refuse_unfit(key) {
            return;
        }
        let Some(transaction) = self.servers.get(&key) else { return };
        let has_to_tag = transaction.request.headers.to().is_ok_and(|to| to.tag().is_some());
        if transaction.request.method == Method::Cancel {
            self.receive_cancel(key);
        } else if has_to_tag {
            self.receive_within(key);
        } else if merged.is_some_and(|other| self.servers.contains_key(&other)) {
            // RFC 3261 §8.2.2.2: the same request has come by two ways.
            self.reply(key, 482);
        } else {
            self.receive_outside(key);
        }
    }

    fn begin_server(
        &mut self,
        request: Request,
        source: Source,
        via: &Via,
        name: ServerName,
        origin: Origin,
    ) -> ServerKey {
        self.last_server += 1;
        let key = self.last_server;
        let reliable = source.transport.is_reliable();
        let machine = if request.method == Method::Invite {
            Machine::Invite(InviteServer::new(reliable, self.timing))
        } else {
            Machine::Plain(Server::new(self.now, reliable, self.timing))
        };
        self.server_index.insert(name.clone(), key);
        self.server_origins.entry(origin.clone()).or_insert(key);
        let transaction = ServerTransaction {
            reply_to: reply_to(via, source),
            tag: self.naming.tag(),
            leg: None,
            is_trusted: false,
            last: None,
            request,
            source,
            machine,
            name,
            origin,
        };
        self.servers.insert(key, transaction);
        self.watch_server(key);
        key
    }

    /// The checks of RFC 3261 §8.2 that hold for every request. `true` if it was refused.
    fn refuse_unfit(&mut self, key: ServerKey) -> bool {
        let Some(transaction) = self.servers.get(&key) else { return true };
        let request = &transaction.request;
        let headers = &request.headers;
        let method = request.method.clone();
        let serves_register = self.config.registrar.is_some();
        let allow = if serves_register { ALLOW_WITH_REGISTER } else { ALLOW };
        let mut more: Option<(HeaderName, String)> = None;
        let status = match &method {
            Method::Other(_) => Some(501),
            Method::Refer | Method::Message | Method::Notify | Method::Prack
                if headers.to().is_ok_and(|to| to.tag().is_none()) =>
            {
                Some(405)
            }
            Method::Register if !serves_register => Some(405),
            Method::Subscribe | Method::Publish => Some(489),
            Method::Refer | Method::Message => Some(405),
            Method::Register
            | Method::Invite
            | Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Options
            | Method::Prack
            | Method::Notify
            | Method::Info
            | Method::Update => None,
        };
        let status = status.or_else(|| match &request.uri {
            uri if !uri.is_sip() => Some(416),
            _ if headers.max_forwards() == Ok(Some(0)) && method != Method::Cancel => Some(483),
            _ => None,
        });
        let status = status.or_else(|| {
            // RFC 3261 §8.2.2.3: CANCEL may not require anything.
            if method == Method::Cancel {
                return None;
            }
            let required = headers.require().ok()?;
            let unknown: Vec<_> = required
                .into_iter()
                .filter(|tag| {
                    let is_known = ["timer", "100rel"].iter().any(|known| tag.eq_ignore_ascii_case(known));
                    !(is_known || serves_register && tag.eq_ignore_ascii_case("path"))
                })
                .collect();
            (!unknown.is_empty()).then(|| {
                more = Some((HeaderName::Unsupported, unknown.join(", ")));
                420
            })
        });
        let status = status.or_else(|| {
            if request.body.is_empty() || !matches!(method, Method::Invite | Method::Update) {
                return None;
            }
            let is_sdp = headers.content_type().ok().flatten().is_some_and(|kind| kind.media == "application/sdp");
            let is_plain = headers
                .get_str(HeaderName::ContentEncoding)
                .is_none_or(|encoding| encoding.trim().eq_ignore_ascii_case("identity"));
            (!is_sdp || !is_plain).then(|| {
                more = Some((HeaderName::Accept, "application/sdp".to_owned()));
                415
            })
        });
        let Some(status) = status else { return false };
        if matches!(status, 405 | 501) {
            more = Some((HeaderName::Allow, allow.to_owned()));
        }
        if status == 489 {
            more = Some((HeaderName::AllowEvents, String::new()));
        }
        self.reply_with(key, status, |response| match more {
            Some((name, value)) => response.with(name, value),
            None => response,
        });
        true
    }

    /// A request outside of any dialog.
    fn receive_outside(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get(&key) else { return };
        match transaction.request.method.clone() {
            Method::Invite => {
                if self.is_draining || self.legs.len() >= self.config.legs_max {
                    self.counters.shed += 1;
                    self.reply_later(key, 503);
                } else {
                    match self.config.incoming {
                        IncomingPolicy::Refuse => self.reply(key, 403),
                        IncomingPolicy::Deliver => self.receive_call(key),
                    }
                }
            }
            Method::Options => self.reply_to_options(key),
            Method::Register => self.receive_register(key),
            // Everything else belongs into a dialog.
            Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Prack
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Info
            | Method::Update
            | Method::Message
            | Method::Publish
            | Method::Other(_) => self.reply(key, 481),
        }
    }

    /// OPTIONS says what we can, in the words of a 200 to INVITE (RFC 3261 §11.2).
    pub(super) fn reply_to_options(&mut self, key: ServerKey) {
        let serves_register = self.config.registrar.is_some();
        let allow = if serves_register { ALLOW_WITH_REGISTER } else { ALLOW };
        let supported = if serves_register { SUPPORTED_WITH_PATH } else { SUPPORTED_WITH_RELIABLE };
        self.reply_with(key, 200, |response| {
            response
                .with(HeaderName::Allow, allow)
                .with(HeaderName::Supported, supported)
                .with(HeaderName::Accept, "application/sdp")
        });
    }

    /// CANCEL ends an INVITE of the same branch that is still being answered (RFC 3261 §9.2).
    fn receive_cancel(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get(&key) else { return };
        let name = ServerName { method: Method::Invite, ..transaction.name.clone() };
        let from = transaction.source.address.ip();
        let cause = transaction.request.headers.reason().ok().flatten().and_then(|reason| reason.cause);
        let invite = self.server_index.get(&name).copied();
        // Hop by hop: whoever sent the INVITE sends its CANCEL, and nobody else has any business with it.
        let is_from_there =
            |invite: &ServerKey| self.servers.get(invite).is_some_and(|one| one.source.address.ip() == from);
        if invite.is_some_and(|invite| !is_from_there(&invite)) {
            self.counters.foreign_received += 1;
        }
        let Some(invite) = invite.filter(is_from_there) else {
            self.reply(key, 481);
            return;
        };
        let tag = self.servers.get(&invite).map(|transaction| transaction.tag.clone()).unwrap_or_default();
        if let Some(transaction) = self.servers.get_mut(&key) {
            // RFC 3261 §9.2: the To tag of both answers is the same.
            transaction.tag = tag;
            transaction.is_trusted = true;
        }
        self.reply(key, 200);
        if self.is_proceeding(invite) {
            self.invite_cancelled(invite, cause);
        }
    }

    fn failure_acknowledged(&mut self, key: ServerKey) {
        if let Some(Machine::Invite(machine)) = self.servers.get_mut(&key).map(|transaction| &mut transaction.machine) {
            machine.acknowledged(self.now);
        }
        self.watch_server(key);
    }

    /// The ACK of our 2xx: stops its repetition. Whether it is the first.
    pub(super) fn stop_repeating(&mut self, key: ServerKey) -> bool {
        let step = match self.servers.get_mut(&key).map(|transaction| &mut transaction.machine) {
            Some(Machine::Invite(machine)) => machine.acknowledged(self.now),
            Some(Machine::Plain(_)) | None => InviteServerStep::Nothing,
        };
        self.watch_server(key);
        step == InviteServerStep::Acknowledged
    }

    fn repeated(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get_mut(&key) else { return };
        let resend = match &mut transaction.machine {
            Machine::Invite(machine) => machine.repeated() == InviteServerStep::Resend,
            Machine::Plain(machine) => machine.repeated() == ServerStep::Resend,
        };
        if resend {
            self.resend(key);
        }
    }

    pub(super) fn resend(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get(&key) else { return };
        if let Some(bytes) = transaction.last.clone() {
            let (source, reply_to) = (transaction.source, transaction.reply_to);
            self.counters.retransmissions_sent += 1;
            self.transmit_reply(source, reply_to, bytes);
        }
    }

    /// Answers a request.
    pub(super) fn reply(&mut self, key: ServerKey, status: u16) {
        self.reply_with(key, status, |response| response);
    }

    /// Answers a request that may be tried again in a while.
    pub(super) fn reply_later(&mut self, key: ServerKey, status: u16) {
        let seconds = 2 + self.naming.below(8);
        self.reply_with(key, status, |response| response.with(HeaderName::RetryAfter, seconds.to_string()));
    }

    /// Answers a request, with more in the response.
    pub(super) fn reply_with(&mut self, key: ServerKey, status: u16, more: impl FnOnce(Response) -> Response) {
        let Some(transaction) = self.servers.get_mut(&key) else { return };
        let may_be_sent = match &mut transaction.machine {
            Machine::Invite(machine) => machine.respond(self.now, status),
            Machine::Plain(machine) => machine.respond(self.now, status),
        };
        if !may_be_sent {
            return;
        }
        let is_forgotten = status >= 200 && !transaction.is_trusted;
        if is_forgotten {
            // RFC 3261 §8.2.7: each time the same tag, although nothing is remembered.
            let (name, origin) = (&transaction.name, &transaction.origin);
            transaction.tag = self.naming.tag_for(&name.branch, &origin.call_id, &origin.from_tag);
        }
        let mut response = Response::to_request(&transaction.request, status, "");
        response = more(response);
        if status > 100 {
            response = response.with_to_tag(&transaction.tag);
        }
        let response = response.with(HeaderName::Server, self.config.user_agent.as_str());
        let bytes = response.to_bytes();
        if status >= 200 {
            transaction.request.body = Vec::new();
        }
        transaction.last = Some(bytes.clone());
        let (source, reply_to) = (transaction.source, transaction.reply_to);
        self.counters.responses_sent += 1;
        self.transmit_reply(source, reply_to, bytes);
        if is_forgotten {
            self.drop_server(key);
        } else {
            self.watch_server(key);
        }
    }

    /// The request comes from somebody we know.
    pub(super) fn trust(&mut self, key: ServerKey) {
        if let Some(transaction) = self.servers.get_mut(&key) {
            transaction.is_trusted = true;
        }
    }

    /// Time for one transaction.
    pub(super) fn server_time(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get_mut(&key) else { return };
        let (step, leg) = match &mut transaction.machine {
            Machine::Invite(machine) => (machine.time(self.now), transaction.leg),
            Machine::Plain(machine) => match machine.time(self.now) {
                ServerStep::Terminated => (InviteServerStep::Terminated, None),
                ServerStep::Nothing | ServerStep::Resend => (InviteServerStep::Nothing, None),
            },
        };
        match step {
            InviteServerStep::Resend => self.resend(key),
            InviteServerStep::NotAcknowledged => {
                let was_success = transaction.last.as_deref().is_some_and(|bytes| bytes.starts_with(b"SIP/2.0 2"));
                self.drop_server(key);
                if let (Some(leg), true) = (leg, was_success) {
                    self.not_acknowledged(leg, key);
                }
                return;
            }
            InviteServerStep::Terminated => {
                self.drop_server(key);
                return;
            }
            InviteServerStep::Nothing | InviteServerStep::Acknowledged => {}
        }
        self.watch_server(key);
    }

    fn watch_server(&mut self, key: ServerKey) {
        let Some(transaction) = self.servers.get(&key) else { return };
        let deadline = match &transaction.machine {
            Machine::Invite(machine) => machine.deadline(),
            Machine::Plain(machine) => machine.deadline(),
        };
        self.alarms.set(Due::Server(key), deadline);
    }

    pub(super) fn drop_server(&mut self, key: ServerKey) {
        self.alarms.set(Due::Server(key), None);
        let Some(transaction) = self.servers.remove(&key) else { return };
        self.server_index.remove(&transaction.name);
        if self.server_origins.get(&transaction.origin) == Some(&key) {
            self.server_origins.remove(&transaction.origin);
        }
    }

    fn is_accepted(&self, key: ServerKey) -> bool {
        self.servers.get(&key).is_some_and(|transaction| match &transaction.machine {
            Machine::Invite(machine) => machine.is_accepted(),
            Machine::Plain(_) => false,
        })
    }

    pub(super) fn is_proceeding(&self, key: ServerKey) -> bool {
        self.servers.get(&key).is_some_and(|transaction| match &transaction.machine {
            Machine::Invite(machine) => machine.is_proceeding(),
            Machine::Plain(_) => false,
        })
    }

    /// Responses go back by the flow the request came by. If a connection is gone, they are lost: the peer's
    /// transaction repeats or gives up.
    pub(super) fn transmit_reply(&mut self, source: Source, reply_to: SocketAddr, bytes: Vec<u8>) {
        let way = super::network::Way {
            flow: source.flow,
            transport: source.transport,
            destination: reply_to,
            advertised: source.advertised,
        };
        self.transmit(way, bytes);
    }
}

/// Our Contact in answers to a request from there.
pub(super) fn contact_for(user: &str, source: Source) -> Uri {
    super::clients::contact(Some(user), source.transport, source.advertised)
}

/// Where the response goes: RFC 3261 §18.2.2, RFC 3581 §4.
pub(super) fn reply_to(via: &Via, source: Source) -> SocketAddr {
    if source.transport.is_reliable() || via.has_rport() {
        return source.address;
    }
    SocketAddr::new(source.address.ip(), via.port_or_default())
}

fn names(request: &Request, via: &Via) -> Option<(ServerName, Origin)> {
    let headers = &request.headers;
    let cseq = headers.cseq().ok()?;
    let call_id = headers.call_id().ok()?.to_owned();
    let from_tag = headers.from().ok()?.tag().unwrap_or_default().to_owned();
    let sent_by = format!("{}:{}", via.host, via.port_or_default()).to_ascii_lowercase();
    let branch = match via.branch() {
        Some(branch) if via.has_unique_branch() => branch.to_owned(),
        // A peer of before RFC 3261: the request as a whole tells transactions apart.
        Some(_) | None => format!("{call_id} {from_tag} {} {}", cseq.number, request.uri),
    };
    let method = request.method.clone();
    let name = ServerName { branch, sent_by, method: method.clone() };
    Some((name, Origin { call_id, from_tag, number: cseq.number, method }))
}
