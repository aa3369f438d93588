//! Requests we send: from the hop through look-up, connection and transaction to the one who asked for them.

mod answers;
mod early;
mod strays;
mod unwanted;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::early::Early;
use super::limits::SHUN_FOR;
use super::network::{Hop, Reach, Way};
use super::reaching::Phone;
use super::vocabulary::{ConnectId, Flow, HangUpCause, Hint, LegKey, Output, QueryId, Transport};
use super::{Agent, Due};
use crate::dialog::Dialog;
use crate::digest::DigestClient;
use crate::locate::{Answer, Next, Nowhere, Question, Walk};
use crate::message::{CSeq, HeaderName, Method, NameAddr, Reason, Request, Response, TransportName, Uri, Via};
use crate::transaction::{Client, ClientStep, InviteClient, InviteClientStep};

/// Names a client transaction within the agent.
pub(super) type ClientKey = u64;

/// Most answers of different peers to one INVITE that are remembered.
const FORKS_MAX: usize = 16;

/// Who asked for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The INVITE of one attempt of a leg that is being dialled.
    Attempt {
        leg: LegKey,
        attempt: usize,
    },
    /// The INVITE that made the leg's dialog: repeated 2xx are acknowledged again.
    Won {
        leg: LegKey,
    },
    /// An INVITE nobody waits for: a 2xx is acknowledged and ended at once.
    Adrift,
    /// An INVITE that nobody wants any more and of which nothing is heard. Should it ring after all, the end of its leg waits
    /// until that has stopped, if it is not told yet.
    Silent {
        leg: LegKey,
    },
    /// A re-INVITE, or an UPDATE, within the leg's dialog.
    Within {
        leg: LegKey,
    },
    /// Acknowledges a provisional response within an early dialog of this INVITE.
    Prack {
        invite: ClientKey,
        to_tag: String,
    },
    /// The ACK of a 2xx within the leg's dialog.
    Ack {
        leg: LegKey,
    },
    /// The ACK of a 2xx to an INVITE that is adrift.
    AckAdrift {
        invite: ClientKey,
        to_tag: String,
    },
    Registration {
        key: u64,
    },
    Ping {
        key: u64,
    },
    /// An INVITE of a leg that was hung up while it rang: its end is told once this one has ended.
    Withdrawn {
        leg: LegKey,
    },
    /// The BYE that ends a leg, and the CANCEL or the BYE that ends such an INVITE where that is all there is to wait for.
    Parting {
        leg: LegKey,
    },
    /// A CANCEL of an INVITE that is waited for itself, and the BYE of what nobody knows of: whatever becomes of them,
    /// nobody is told.
    Nobody,
}

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Not a word within the transaction's time.
    Silent,
    /// No connection.
    Unreachable,
    /// Not even an address.
    Nowhere(Nowhere),
}

/// Whether an INVITE is to be cancelled (RFC 3261 §9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cancelling {
    No,
    /// As soon as something provisional is heard.
    Wanted(HangUpCause),
    Sent(HangUpCause),
}

/// How the Via branch of a request is found when its way is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ViaBranch {
    /// Nobody else has to know it.
    Fresh,
    /// That of its INVITE.
    Fixed(String),
    /// That of an INVITE which a later process may have to cancel: derived from its Call-ID and number and, unless it goes
    /// to a phone that is where it was last heard, from the address.
    Derived { by_address: bool },
}

impl ViaBranch {
    /// Of an INVITE that goes there, and of a CANCEL for it.
    pub(super) fn of_invite(hop: &Hop) -> Self {
        Self::Derived { by_address: hop.hint.is_none() }
    }
}

#[derive(Debug)]
enum Stage {
    Resolving,
    /// No address is tried yet, or a connection is being made.
    Waiting,
    Invite(InviteClient),
    Plain(Client),
}

/// One request under way.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    pub(super) owner: Owner,
    pub(super) request: Request,
    pub(super) hop: Hop,
    stage: Stage,
    pub(super) branch: ViaBranch,
    /// Set as our Contact when the way is known.
    contact_user: Option<String>,
    /// The targets that are still to be tried.
    pub(super) walk: Walk,
    pub(super) way: Option<Way>,
    bytes: Vec<u8>,
    /// Early dialogs, by To tag.
    pub(super) early: BTreeMap<String, Early>,
    /// The ACK of each 2xx, by To tag.
    acks: BTreeMap<String, Option<(Way, Vec<u8>)>>,
    cancelling: Cancelling,
    abandon_at: Option<Instant>,
    /// If nothing is heard by then, the next target is tried.
    move_on_at: Option<Instant>,
    /// Who we are, for a peer that asks.
    pub(super) account: Option<DigestClient>,
    pub(super) challenges: u8,
    /// The phone it is for, if it may come back from elsewhere.
    pub(super) phone: Option<Phone>,
    /// How often it had to be sent another way because the one it went is gone.
    pub(super) detours: u8,
    /// Up to this, an earlier process may have used numbers within the dialogs of this INVITE.
    pub(super) untold: u32,
    /// The early dialogs of an INVITE that an earlier process may have sent, and cancelled, too; by To tag.
    ringing: BTreeMap<String, Dialog>,
}

/// A request to be sent.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) request: Request,
    pub(super) hop: Hop,
    pub(super) owner: Owner,
    pub(super) branch: ViaBranch,
    pub(super) contact_user: Option<String>,
    pub(super) account: Option<DigestClient>,
    pub(super) challenges: u8,
    /// A way that is known already, in place of the hop's.
    pub(super) walk: Option<Walk>,
    pub(super) phone: Option<Phone>,
    pub(super) untold: u32,
}

impl Sending {
    pub(super) fn new(request: Request, hop: Hop, owner: Owner) -> Self {
        Self {
            request,
            hop,
            owner,
            branch: ViaBranch::Fresh,
            contact_user: None,
            account: None,
            challenges: 0,
            walk: None,
            phone: None,
            untold: 0,
        }
    }
}

impl ClientTransaction {
    /// Whether anybody wants it to arrive, by whatever way.
    pub(super) fn is_wanted(&self) -> bool {
        self.cancelling == Cancelling::No
            && !matches!(self.owner, Owner::Adrift | Owner::Silent { .. } | Owner::Withdrawn { .. })
    }

    /// Whether it begins a dialog, or belongs to one (RFC 3261 §12.2: then the peer's tag is in it).
    fn is_initial(&self) -> bool {
        self.request.headers.to().is_ok_and(|to| to.tag().is_none())
    }

    /// A leg's request that still waits for its final response.
    pub(super) fn is_owed(&self) -> bool {
        let is_of_a_leg = !matches!(self.owner, Owner::Registration { .. } | Owner::Ping { .. } | Owner::Prack { .. });
        is_of_a_leg
            && match &self.stage {
                Stage::Resolving | Stage::Waiting => true,
                Stage::Invite(machine) => machine.is_pending(),
                Stage::Plain(machine) => machine.is_pending(),
            }
    }
}

impl Agent {
    /// Begins to send a request. Its outcome reaches the owner, but not before this returns.
    pub(super) fn send(&mut self, sending: Sending) -> ClientKey {
        let key = self.enter(sending);
        self.unsent.push_back(key);
        key
    }

    /// Makes the transaction of a request.
    fn enter(&mut self, sending: Sending) -> ClientKey {
        self.last_client += 1;
        let key = self.last_client;
        let walk = sending.walk.unwrap_or_else(|| {
            // The same call finds the same server, in this process and in a later one.
            let seed = self.naming.chance_of(sending.request.headers.call_id().unwrap_or_default());
            self.network.walk(&sending.hop, seed)
        });
        let transaction = ClientTransaction {
            owner: sending.owner,
            request: sending.request,
            hop: sending.hop,
            stage: Stage::Waiting,
            branch: sending.branch,
            contact_user: sending.contact_user,
            walk,
            way: None,
            bytes: Vec::new(),
            early: BTreeMap::new(),
            acks: BTreeMap::new(),
            cancelling: Cancelling::No,
            abandon_at: None,
            move_on_at: None,
            account: sending.account,
            challenges: sending.challenges,
            phone: sending.phone,
            detours: 0,
            untold: sending.untold,
            ringing: BTreeMap::new(),
        };
        self.clients.insert(key, transaction);
        key
    }

    /// Sends what waits for its first step; called once at the end of each input, so that the owner of a request
    /// knows its key before its outcome.
    pub(super) fn send_waiting(&mut self) {
        while let Some(key) = self.unsent.pop_front() {
            self.try_next_target_of(key);
        }
    }

    /// Sends to the next target there is, or gives up.
    fn try_next_target_of(&mut self, key: ClientKey) {
        let now = self.now;
        while let Some(transaction) = self.clients.get_mut(&key) {
            let network = &self.network;
            match transaction.walk.next(|transport, address| network.is_shunned(now, (transport, address))) {
                Next::Target(transport, destination) => {
                    if self.reach_out(key, (transport, destination)) {
                        return;
                    }
                }
                Next::Ask(question) => match self.answers.find(now, &question) {
                    Some(answer) => transaction.walk.answer(answer),
                    None => return self.look_up(key, question),
                },
                Next::Over => {
                    let lost = transaction.walk.nowhere().map_or(Lost::Unreachable, Lost::Nowhere);
                    return self.lose(key, lost);
                }
            }
        }
    }

    /// Sends to a target, or makes a connection first. `false` if it cannot be reached.
    fn reach_out(&mut self, key: ClientKey, target: (Transport, SocketAddr)) -> bool {
        let Some(transaction) = self.clients.get_mut(&key) else { return true };
        let preferred = transaction.hop.hint.and_then(|hint| hint.flow);
        match self.network.reach(self.now, target, preferred, transaction.hop.advertised) {
            Reach::Now(way) => self.run(key, way),
            Reach::Soon(connect) => {
                transaction.stage = Stage::Waiting;
                self.waiting_connects.entry(connect).or_default().push(key);
                if let Some((transport, destination, until)) = self.network.ask_connect(connect) {
                    self.alarms.set(Due::Connect(connect), Some(until));
                    self.outputs.push_back(Output::Connect { connect, transport, destination });
                }
            }
            Reach::Never => return false,
        }
        true
    }

    /// Asks DNS, once for everybody who wants to know the same.
    fn look_up(&mut self, key: ClientKey, question: Question) {
        if let Some(transaction) = self.clients.get_mut(&key) {
            transaction.stage = Stage::Resolving;
        }
        if let Some((_, waiting)) = self.waiting_queries.values_mut().find(|(asked, _)| *asked == question) {
            waiting.push(key);
            return;
        }
        let (query, until) = self.network.query(self.now);
        self.alarms.set(Due::Query(query), Some(until));
        self.waiting_queries.insert(query, (question.clone(), vec![key]));
        self.outputs.push_back(Output::LookUp { query, question });
    }

    /// A look-up is answered, or given up.
    pub(super) fn looked_up(&mut self, query: QueryId, answer: Answer) {
        self.network.answered(query);
        self.alarms.set(Due::Query(query), None);
        let Some((question, waiting)) = self.waiting_queries.remove(&query) else { return };
        for key in waiting {
            if let Some(transaction) = self.clients.get_mut(&key) {
                transaction.walk.answer(&answer);
                self.unsent.push_back(key);
            }
        }
        self.answers.keep(self.now, question, answer);
    }

    /// The first address that a URI leads to by what is known without asking: the last answers of DNS, whether they
    /// still hold or not.
    pub fn address_of(&self, uri: &Uri) -> Option<SocketAddr> {
        let mut walk = Walk::to(uri, 0);
        loop {
            match walk.next(|_, _| false) {
                Next::Target(_, address) => return Some(address),
                Next::Ask(question) => walk.answer(self.answers.last(&question).unwrap_or(&Answer::failed())),
                Next::Over => return None,
            }
        }
    }

    /// The way is known: completes the request, sends it and starts its transaction.
    fn run(&mut self, key: ClientKey, way: Way) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        let branch = match &transaction.branch {
            ViaBranch::Fresh => self.naming.via_branch(),
            ViaBranch::Fixed(branch) => branch.clone(),
            ViaBranch::Derived { by_address } => {
                let headers = &transaction.request.headers;
                let (call_id, number) =
                    (headers.call_id().unwrap_or_default(), headers.cseq().map_or(0, |it| it.number));
                self.naming.invite_branch(call_id, number, by_address.then_some(way.destination))
            }
        };
        let is_derived = matches!(transaction.branch, ViaBranch::Derived { .. });
        if is_derived
            && transaction.request.method == Method::Cancel
            && self.client_index.contains_key(&(branch.clone(), Method::Invite))
        {
            // The INVITE is known here too, and is cancelled if it has to be.
            return self.lose(key, Lost::Silent);
        }
        let request = &mut transaction.request;
        let name = TransportName::parse(way.transport.via_name());
        let via = Via::new(name, way.advertised.ip(), Some(way.advertised.port()), &branch);
        request.headers.remove(HeaderName::Via);
        request.headers.push_front(HeaderName::Via, via);
        if let Some(user) = &transaction.contact_user {
            request.headers.set(HeaderName::Contact, NameAddr::new(contact(Some(user), way.transport, way.advertised)));
        }
        request.headers.set(HeaderName::UserAgent, self.config.user_agent.as_str());
        transaction.bytes = request.to_bytes();
        transaction.way = Some(way);
        let method = request.method.clone();
        let bytes = transaction.bytes.clone();
        let reliable = way.transport.is_reliable();
        if matches!(transaction.owner, Owner::Within { .. }) {
            // Nobody rings within a dialog: a peer that takes longer has lost our request or its answer.
            transaction.abandon_at = Some(self.now + self.timing.give_up() * 3 / 2);
        } else if transaction.walk.has_more() {
            // RFC 3263 §4.3 waits for the transaction's end, 32 s; nobody who calls does.
            transaction.move_on_at = Some(self.now + self.config.failover_after);
        }
        transaction.stage = match method {
            Method::Invite => Stage::Invite(InviteClient::new(self.now, reliable, self.timing)),
            Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Register
            | Method::Options
            | Method::Prack
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Info
            | Method::Update
            | Method::Message
            | Method::Publish
            | Method::Other(_) => Stage::Plain(Client::new(self.now, reliable, self.timing)),
        };
        self.counters.requests_sent += 1;
        self.transmit(way, bytes);
        if method == Method::Ack {
            self.acknowledged(key);
            return;
        }
        self.client_index.insert((branch, method), key);
        self.watch_client(key);
    }

    /// An ACK is on its way: it is remembered for repeated 2xx and needs no transaction.
    fn acknowledged(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.remove(&key) else { return };
        let Some(way) = transaction.way else { return };
        match transaction.owner {
            Owner::Ack { leg } => self.ack_was_sent(leg, way, transaction.bytes),
            Owner::AckAdrift { invite, to_tag } => {
                if let Some(invite) = self.clients.get_mut(&invite) {
                    invite.acks.insert(to_tag, Some((way, transaction.bytes)));
                }
            }
            Owner::Attempt { .. }
            | Owner::Won { .. }
            | Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Withdrawn { .. }
            | Owner::Parting { .. }
            | Owner::Within { .. }
            | Owner::Prack { .. }
            | Owner::Registration { .. }
            | Owner::Ping { .. }
            | Owner::Nobody => {}
        }
    }

    /// A connection stands, or without a flow does not: those who wait for it go on.
    pub(super) fn connect_ended(&mut self, connect: ConnectId, flow: Option<Flow>) {
        let Some((transport, destination)) = self.network.connected(connect) else {
            if let Some(flow) = flow {
                // Nobody waits for it any longer.
                self.outputs.push_back(Output::CloseFlow(flow));
                self.stream_closed(flow);
            }
            return;
        };
        self.alarms.set(Due::Connect(connect), None);
        if flow.is_none() {
            self.network.shun(self.now, (transport, destination), SHUN_FOR);
        }
        for key in self.waiting_connects.remove(&connect).unwrap_or_default() {
            let Some(transaction) = self.clients.get_mut(&key) else { continue };
            match flow.and_then(|flow| self.network.advertised(flow).map(|own| (flow, own))) {
                Some((flow, own)) => {
                    let said = transaction.hop.advertised;
                    let advertised = said.map_or(own, |said| SocketAddr::new(said.ip(), own.port()));
                    self.run(key, Way { flow, transport, destination, advertised });
                }
                None => self.unsent.push_back(key),
            }
        }
    }

    /// A connection has gone: what was sent over it without a word in return is lost. Within a dialog the word that
    /// counts is the final one.
    pub(super) fn client_flow_closed(&mut self, flow: Flow) {
        let silent = |transaction: &ClientTransaction| {
            transaction.way.is_some_and(|way| way.flow == flow)
                && match &transaction.stage {
                    Stage::Invite(machine) => {
                        let is_within = matches!(transaction.owner, Owner::Within { .. });
                        machine.is_silent() || is_within && machine.is_pending()
                    }
                    Stage::Plain(machine) => machine.is_pending(),
                    Stage::Resolving | Stage::Waiting => false,
                }
        };
        let lost: Vec<_> = self.clients.iter().filter(|(_, one)| silent(one)).map(|(&key, _)| key).collect();
        for key in lost {
            self.lose_or_try_on(key, Lost::Unreachable);
        }
    }

    /// Nothing was heard, and there is another target (RFC 3263 §4.3: a new transaction, and nothing else is new).
    fn move_on(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        transaction.move_on_at = None;
        let Some(way) = transaction.way else { return };
        match &transaction.stage {
            Stage::Invite(machine) if machine.is_silent() => {
                let Owner::Attempt { leg, attempt } = transaction.owner else { return };
                let sending = Sending {
                    branch: transaction.branch.clone(),
                    contact_user: transaction.contact_user.clone(),
                    account: transaction.account.clone(),
                    challenges: transaction.challenges,
                    walk: Some(transaction.walk.clone()),
                    ..Sending::new(transaction.request.clone(), transaction.hop.clone(), transaction.owner.clone())
                };
                // It may be ringing there, with its answers lost: then it is to stop.
                self.leave_silent(key, leg, &HangUpCause::because(408, "No response"));
                let again = self.send(sending);
                self.attempt_moved(leg, attempt, again);
            }
            Stage::Plain(machine) if machine.is_pending() => {
                self.unindex(key);
                self.unsent.push_back(key);
            }
            Stage::Invite(_) | Stage::Plain(_) | Stage::Resolving | Stage::Waiting => return,
        }
        self.network.shun(self.now, (way.transport, way.destination), SHUN_FOR);
    }

    /// Goes on to the next address of the hop, or tells the owner.
    fn lose_or_try_on(&mut self, key: ClientKey, lost: Lost) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        if let Some(way) = transaction.way {
            self.network.shun(self.now, (way.transport, way.destination), SHUN_FOR);
        }
        if transaction.is_wanted() && transaction.walk.has_more() {
            transaction.abandon_at = None;
            self.unindex(key);
            self.unsent.push_back(key);
        } else {
            self.lose(key, lost);
        }
    }

    fn lose(&mut self, key: ClientKey, lost: Lost) {
        self.unindex(key);
        if lost == Lost::Unreachable && self.is_sent_otherwise(key) {
            return;
        }
        self.unlist_early(key);
        let Some(transaction) = self.clients.remove(&key) else { return };
        self.forget_stranded(key, transaction.phone.as_ref());
        match transaction.owner {
            Owner::Attempt { leg, attempt } => self.attempt_lost(leg, attempt, lost),
            Owner::Within { leg } => self.within_lost(leg, Some(key)),
            Owner::Ack { leg } => self.within_lost(leg, None),
            Owner::Registration { key: registration } => self.registration_lost(key, registration, lost),
            Owner::Ping { key } => self.ping_ended(key, false),
            Owner::Withdrawn { leg } | Owner::Parting { leg } => self.withdrawn_ended(leg),
            Owner::Won { .. }
            | Owner::Adrift
            | Owner::Silent { .. }
            | Owner::Prack { .. }
            | Owner::AckAdrift { .. }
            | Owner::Nobody => {}
        }
    }

    /// Time for one transaction.
    pub(super) fn client_time(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        if transaction.abandon_at.is_some_and(|at| at <= self.now) {
            self.lose(key, Lost::Silent);
            return;
        }
        if transaction.move_on_at.is_some_and(|at| at <= self.now) {
            self.move_on(key);
            self.watch_client(key);
            return;
        }
        enum Step {
            Nothing,
            Resend,
            TimedOut,
            Terminated,
        }
        let step = match &mut transaction.stage {
            Stage::Invite(machine) => match machine.time(self.now) {
                InviteClientStep::Resend => Step::Resend,
                InviteClientStep::TimedOut => Step::TimedOut,
                InviteClientStep::Terminated => Step::Terminated,
                InviteClientStep::Nothing
                | InviteClientStep::Provisional
                | InviteClientStep::Success
                | InviteClientStep::Failure
                | InviteClientStep::Acknowledge
                | InviteClientStep::Late => Step::Nothing,
            },
            Stage::Plain(machine) => match machine.time(self.now) {
                ClientStep::Resend => Step::Resend,
                ClientStep::TimedOut => Step::TimedOut,
                ClientStep::Terminated => Step::Terminated,
                ClientStep::Nothing | ClientStep::Provisional | ClientStep::Final => Step::Nothing,
            },
            Stage::Resolving | Stage::Waiting => Step::Nothing,
        };
        match step {
            Step::Nothing => {}
            Step::Resend => {
                if let Some(way) = transaction.way {
                    let bytes = transaction.bytes.clone();
                    self.counters.retransmissions_sent += 1;
                    self.transmit(way, bytes);
                }
            }
            Step::TimedOut => {
                self.lose_or_try_on(key, Lost::Silent);
                return;
            }
            Step::Terminated => {
                self.drop_client(key);
                return;
            }
        }
        self.watch_client(key);
    }

    /// A request waits for its phone until then.
    pub(super) fn strand(&mut self, key: ClientKey, until: Instant) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        transaction.stage = Stage::Waiting;
        transaction.abandon_at = Some(until);
        transaction.move_on_at = None;
        self.watch_client(key);
    }

    /// A request goes to the address that it was given.
    pub(super) fn unstrand(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get_mut(&key) else { return };
        transaction.stage = Stage::Waiting;
        transaction.abandon_at = None;
        transaction.move_on_at = None;
        self.watch_client(key);
        self.unsent.push_back(key);
    }

    fn watch_client(&mut self, key: ClientKey) {
        let Some(transaction) = self.clients.get(&key) else { return };
        let machine = match &transaction.stage {
            Stage::Invite(machine) => machine.deadline(),
            Stage::Plain(machine) => machine.deadline(),
            Stage::Resolving | Stage::Waiting => None,
        };
        let deadline = machine.into_iter().chain(transaction.abandon_at).chain(transaction.move_on_at).min();
        self.alarms.set(Due::Client(key), deadline);
    }

    fn drop_client(&mut self, key: ClientKey) {
        self.unindex(key);
        self.unlist_early(key);
        let phone = self.clients.remove(&key).and_then(|transaction| transaction.phone);
        self.forget_stranded(key, phone.as_ref());
    }

    fn unindex(&mut self, key: ClientKey) {
        self.alarms.set(Due::Client(key), None);
        let Some(transaction) = self.clients.get(&key) else { return };
        let branch = transaction.request.headers.top_via().ok();
        let branch = branch.as_ref().and_then(Via::branch);
        if let Some(branch) = branch {
            self.client_index.remove(&(branch.to_owned(), transaction.request.method.clone()));
        }
    }

    /// Nothing has been heard of it, neither here nor by an earlier process that may have sent it too.
    pub(super) fn invite_never_rang(&self, key: ClientKey) -> bool {
        self.invite_is_silent(key) && self.clients.get(&key).is_some_and(|transaction| transaction.untold == 0)
    }

    /// Its address is looked up, or a connection made.
    pub(super) fn invite_is_unsent(&self, key: ClientKey) -> bool {
        self.clients.get(&key).is_some_and(|it| matches!(it.stage, Stage::Resolving | Stage::Waiting))
    }

    /// A transaction's deadline to be cut short: the owner tries elsewhere.
    pub(super) fn invite_is_silent(&self, key: ClientKey) -> bool {
        self.clients.get(&key).is_some_and(|transaction| match &transaction.stage {
            Stage::Invite(machine) => machine.is_silent(),
            Stage::Resolving | Stage::Waiting => true,
            Stage::Plain(_) => false,
        })
    }
}

impl Way {
    pub(super) fn hint(self) -> Hint {
        Hint { flow: Some(self.flow), transport: self.transport, destination: self.destination }
    }
}

/// Our Contact at an address.
pub(super) fn contact(user: Option<&str>, transport: Transport, advertised: SocketAddr) -> Uri {
    let uri = Uri::sip(user, advertised.ip(), Some(advertised.port()));
    match transport {
        Transport::Udp => uri,
        Transport::Tcp => uri.with_param("transport", transport.uri_name()),
    }
}

/// ACK of a failure, or CANCEL: the INVITE's own Via, Route, From, Call-ID and number (RFC 3261 §9.1, §17.1.1.3).
pub(super) fn with_same_branch(invite: &Request, method: Method, to: Option<&[u8]>) -> Request {
    let mut request = Request::new(method.clone(), invite.uri.clone());
    if let Ok(via) = invite.headers.top_via() {
        request.headers.push(HeaderName::Via, via);
    }
    request.headers.push(HeaderName::MaxForwards, "70");
    for route in invite.headers.get_all(HeaderName::Route) {
        request.headers.push(HeaderName::Route, route);
    }
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
        let own = invite.headers.get(name.clone()).unwrap_or_default();
        let value = if name == HeaderName::To { to.unwrap_or(own) } else { own };
        request.headers.push(name, value);
    }
    let number = invite.headers.cseq().map_or(1, |cseq| cseq.number);
    request.headers.push(HeaderName::CSeq, CSeq { number, method });
    request
}

/// `Reason: SIP;cause=…;text="…"` (RFC 3326).
pub(super) fn add_reason(request: &mut Request, cause: &HangUpCause) {
    if let Some((number, text)) = &cause.reason {
        let text = (!text.is_empty()).then(|| text.clone().into_bytes());
        request.headers.push(HeaderName::Reason, Reason { protocol: "SIP".to_owned(), cause: Some(*number), text });
    }
}

/// Seconds of a Retry-After header.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    response.headers.retry_after().ok().flatten().map(|seconds| Duration::from_secs(seconds.into()))
}
