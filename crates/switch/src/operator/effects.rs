//! Effects: dial, confirm, hang up, mix.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use control::{
    Cause, ConferenceId, Destination, Effect, LegAction, LegId, LegNews, MixPlan, Snapshot, Target, Timestamp,
};
use sip::agent::{Branch, CancelDerived, Dial, HangUpCause, LegKey, Order, Transport, Waits};
use sip::sdp::{LocalMedia, Negotiation, Preference};

use super::Operator;
use super::leg::{Dialing, Leg, LegState};
use crate::causes::Dialled;
use crate::dialing::{self, Attempt, caller, first_hop, key_of, peer_of, transport_of};
use crate::directory::aor;
use crate::happening::What;
use crate::media::seats::Seated;
use crate::session::{Stored, restore};

/// Control owns the deadline and withdraws the call; this one is for a control that has forgotten.
const RING_FOR: Duration = Duration::from_mins(4);

/// What rings beside a device that answers has stopped by itself after this: its INVITE says how long it rings, and may have
/// arrived as late as SIP sends it again.
pub(super) const BESIDE_FOR: Duration = RING_FOR.saturating_add(Duration::from_secs(32));

/// A leg whose end nobody confirms is reported gone: SIP's timers end every transaction after 32 s.
pub(super) const END_WITHIN: Duration = Duration::from_secs(34);

impl Operator {
    pub(super) fn perform(&mut self, conference: ConferenceId, effect: Effect) {
        match effect {
            Effect::Leg(leg, LegAction::Dial(target)) => self.dial(conference, leg, &target, Which::First),
            Effect::Leg(leg, LegAction::DialAgain(target)) => self.dial(conference, leg, &target, Which::Again),
            Effect::Leg(leg, LegAction::Resume { snapshot, target }) => {
                self.resume(conference, leg, &snapshot, &target);
            }
            Effect::Leg(leg, LegAction::Confirm) => self.confirm(leg),
            Effect::Leg(leg, LegAction::HangUp { cause, snapshot, target }) => {
                self.hang_up(conference, leg, cause, snapshot.as_ref(), target.as_ref());
            }
            Effect::Mix(plan) => self.mix(conference, &plan),
            // Conferences talk through the engine.
            Effect::Tell { .. } => {}
        }
    }

    fn dial(&mut self, conference: ConferenceId, leg: LegId, target: &Target, which: Which) {
        if self.legs.contains_key(&leg) {
            tracing::warn!(%leg, "dialled twice");
            return;
        }
        match self.prepare(conference, leg, target, which) {
            Ok(prepared) => {
                metrics::counter!("convoke_switch_dials_total").increment(1);
                self.legs.insert(leg, prepared);
                self.try_next(leg);
            }
            Err(cause) => {
                tracing::info!(%leg, ?cause, "cannot be dialled");
                metrics::counter!("convoke_switch_dial_failures_total", "status" => "none").increment(1);
                self.gone.add(leg);
                self.signal(conference, leg, LegNews::HungUp(cause));
            }
        }
    }

    fn prepare(&mut self, conference: ConferenceId, leg: LegId, target: &Target, which: Which) -> Result<Leg, Cause> {
        if self.draining || self.legs.len() >= self.config.legs_max {
            return Err(Cause::Internal);
        }
        let (attempts, dialled, who) = self.attempts(target);
        let Some(first) = attempts.front() else {
            return Err(match dialled {
                Dialled::Line => Cause::NotRegistered,
                Dialled::Number => Cause::NoRoute,
            });
        };
        let address = self.address_towards(first, 0);
        let sockets = self.machine.bind().map_err(|error| {
            tracing::error!(%error, "no RTP port for a leg");
            Cause::Internal
        })?;
        let mut local = LocalMedia::new(address, sockets.port, session_of(leg));
        local.codecs.clone_from(&self.codecs);
        local.preference = Preference::Theirs;
        local.rtcp_mux = true;
        let dialing = Dialing {
            attempts,
            tried: 0,
            target: target.clone(),
            caller: caller(&target.caller, CONTACT_USER, dialled == Dialled::Number),
            asked: None,
            redirections: 0,
            sockets,
            local,
            addresses: Vec::new(),
            rang: false,
            again: which == Which::Again,
        };
        Ok(Leg {
            who,
            owner: conference,
            former: None,
            epoch: 0,
            dialled,
            key: key_of(leg, 0),
            state: LegState::Dialing(Box::new(dialing)),
        })
    }

    pub(super) fn attempts(&self, target: &Target) -> (VecDeque<Attempt>, Dialled, String) {
        match &target.destination {
            Destination::Line { username, domain } => {
                let aor = aor(username, domain);
                let bindings = self.agent.bindings(&aor);
                (dialing::line(&bindings), Dialled::Line, aor)
            }
            Destination::Number(number) => {
                let directory = self.directory.load();
                let attempts = dialing::number(&directory, target.tenant, number, &self.trunks.dead());
                (attempts, Dialled::Number, number.as_str().to_owned())
            }
        }
    }

    /// Our address, as the peer of a branch should see it: for Via, Contact and SDP.
    fn address_towards(&self, attempt: &Attempt, branch: usize) -> IpAddr {
        let branch = attempt.branches.get(branch);
        let peer =
            branch.and_then(|branch| peer_of(branch).or_else(|| Some(self.agent.address_of(first_hop(branch))?.ip())));
        self.address_for(peer)
    }

    /// Our address, as a peer there should see it.
    pub(super) fn address_for(&self, peer: Option<IpAddr>) -> IpAddr {
        let bound = self.config.media.bind.filter(|bound| !bound.is_unspecified());
        // The public address may be that of a router, which a peer on this machine cannot reach us by.
        let is_local = peer.is_some_and(|peer| peer.is_loopback()) && bound.is_none_or(|bound| bound.is_loopback());
        let said = self.config.sip.public_address.filter(|_| !is_local).or(bound);
        said.or_else(|| peer.and_then(|peer| self.machine.route_to(peer)))
            .unwrap_or_else(|| self.machine.default_route())
    }

    /// Begins the next attempt of a leg that is being dialled. False: none is left.
    pub(super) fn try_next(&mut self, id: LegId) -> bool {
        let Some(Leg { state: LegState::Dialing(dialing), .. }) = self.legs.get_mut(&id) else { return false };
        let Some(mut attempt) = dialing.attempts.pop_front() else { return false };
        let number = dialing.tried;
        dialing.tried += 1;
        let (template, mut caller) = (dialing.local.clone(), dialing.caller.clone());
        caller.asserted = caller.asserted.filter(|_| attempt.asserts);
        dialing.asked = Some(attempt.clone());
        let addresses = self.advertise_to(&mut attempt);
        let first = addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
        let offer = |address| Negotiation::new(LocalMedia { address, ..template.clone() }).offer();
        for (branch, address) in attempt.branches.iter_mut().zip(&addresses) {
            branch.offer = (*address != first).then(|| offer(*address));
        }
        let key = key_of(id, number);
        let dial = Dial {
            leg: key,
            branches: attempt.branches,
            caller,
            offer: offer(first),
            ring_for: RING_FOR,
            credentials: attempt.credentials,
            extra_headers: Vec::new(),
        };
        let branches = dial.branches.len();
        let mut again = false;
        if let Some(leg) = self.legs.get_mut(&id) {
            self.by_key.remove(&leg.key);
            leg.key = key;
            if let LegState::Dialing(dialing) = &mut leg.state {
                dialing.addresses = addresses;
                again = dialing.again;
            }
        }
        self.by_key.insert(key, id);
        self.order(if again { Order::DialAgain(Box::new(dial)) } else { Order::Dial(Box::new(dial)) });
        self.happen(id, What::InviteSent { branches });
        true
    }

    /// Sets what each branch is told of where we are; gives our address as each of them sees it.
    fn advertise_to(&self, attempt: &mut Attempt) -> Vec<IpAddr> {
        let addresses: Vec<IpAddr> =
            (0..attempt.branches.len()).map(|branch| self.address_towards(attempt, branch)).collect();
        for (branch, address) in attempt.branches.iter_mut().zip(&addresses) {
            branch.advertised = self.advertised(transport_of(branch), *address);
        }
        addresses
    }

    /// What to say in Via and Contact where our socket listens on every address.
    fn advertised(&self, transport: Transport, address: IpAddr) -> Option<SocketAddr> {
        let listening = self.listening.iter().find(|listening| listening.transport == transport)?;
        let everywhere = listening.local.ip().is_unspecified();
        let differs = self.config.sip.public_address.is_none_or(|public| public != address);
        (everywhere && differs).then(|| SocketAddr::new(address, listening.local.port()))
    }

    fn confirm(&mut self, id: LegId) {
        let Some(Leg { key, state: LegState::Talking(_), .. }) = self.legs.get(&id) else { return };
        let key = *key;
        self.order(Order::Confirm { leg: key });
        self.happen(id, What::Acknowledged);
    }

    fn hang_up(
        &mut self,
        conference: ConferenceId,
        id: LegId,
        cause: Cause,
        snapshot: Option<&Snapshot>,
        target: Option<&Target>,
    ) {
        let Some(leg) = self.legs.get(&id) else {
            self.hang_up_unknown(conference, id, cause, snapshot, target);
            return;
        };
        if leg.former == Some(conference) {
            // It was given away: the one who has it now decides, and the asker only hears that it is rid of it.
            tracing::warn!(leg = %id, "hung up by a conference that has given it away");
            self.signal(conference, id, LegNews::HungUp(cause));
            return;
        }
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.owner = conference;
        }
        self.end(id, cause);
    }

    /// Ends a leg that we know; its `HungUp` follows when the agent says that it is over.
    pub(super) fn end(&mut self, id: LegId, cause: Cause) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let key = leg.key;
        let mut rang = None;
        let (port, resuming) = match &mut leg.state {
            LegState::Dialing(dialing) => {
                rang = dialing.again.then(|| dialing.target.clone());
                (None, None)
            }
            LegState::Talking(talking) => (Some(talking.port), talking.resuming.take()),
            LegState::Ending { .. } => return,
        };
        let what = if port.is_some() { What::HungUp { by_peer: false } } else { What::Cancelled };
        let said = reason_of(&cause);
        self.not_resumed(id, resuming.as_ref(), &cause);
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.state = LegState::Ending { cause, give_up_at: self.now.instant + END_WITHIN };
        }
        if let Some(port) = port {
            self.threads.close(port);
        }
        self.order(Order::HangUp { leg: key, cause: said.clone() });
        if let Some(target) = rang {
            // The earlier process may have come further than we have.
            let others = self.cancel_of((id, key), Waits::Leg, &target, None, said);
            self.order(others);
        }
        self.happen(id, what);
    }

    /// A leg of an earlier process, or one that has just ended, or none at all: always answered.
    pub(super) fn hang_up_unknown(
        &mut self,
        conference: ConferenceId,
        id: LegId,
        cause: Cause,
        snapshot: Option<&Snapshot>,
        target: Option<&Target>,
    ) {
        let stored = snapshot.filter(|_| !self.gone.has(id)).and_then(restore);
        let rang = target.filter(|_| snapshot.is_none() && !self.gone.has(id));
        let key = key_of(id, 0);
        let said = reason_of(&cause);
        let orders = match (stored, rang) {
            (Some(Stored { dialog, alone_from, .. }), _) => {
                let others = target.and_then(|target| self.cancel_beside((id, key), target, &dialog, alone_from));
                let bye = Order::HangUpSnapshot { leg: key, snapshot: dialog, cause: said };
                std::iter::once(bye).chain(others).collect()
            }
            (None, Some(target)) => vec![self.cancel_of((id, key), Waits::End, target, None, said)],
            (None, None) => Vec::new(),
        };
        if !orders.is_empty() {
            let leg = Leg {
                who: target.map_or_else(|| id.to_string(), who_of),
                owner: conference,
                former: None,
                epoch: 0,
                dialled: Dialled::Line,
                key,
                state: LegState::Ending { cause, give_up_at: self.now.instant + END_WITHIN },
            };
            self.legs.insert(id, leg);
            self.by_key.insert(key, id);
            self.happen(id, if rang.is_some() { What::Cancelled } else { What::HungUp { by_peer: false } });
            for order in orders {
                self.order(order);
            }
            return;
        }
        self.gone.add(id);
        self.signal(conference, id, LegNews::HungUp(cause));
    }

    /// Stops whatever an earlier process may have made ring for a leg, but the device that has answered. In which order that
    /// process tried the trunks, and which of them together, is not known: it depends on which it held to be dead.
    pub(super) fn cancel_of(
        &self,
        (id, key): (LegId, LegKey),
        waits: Waits,
        target: &Target,
        but: Option<sip::agent::Snapshot>,
        cause: HangUpCause,
    ) -> Order {
        let (mut attempts, dialled, _) = self.attempts(target);
        let caller = caller(&target.caller, CONTACT_USER, dialled == Dialled::Number);
        for attempt in &mut attempts {
            self.advertise_to(attempt);
        }
        let has_credentials = attempts.iter().any(|attempt| attempt.credentials.is_some());
        let branches: Vec<Branch> = attempts.into_iter().flat_map(|attempt| attempt.branches).collect();
        let most = match dialled {
            Dialled::Line => branches.len().min(1),
            Dialled::Number => branches.iter().map(|branch| 1 + branch.alternatives.len()).sum(),
        };
        let call =
            |number| sip::agent::Dialled { leg: key_of(id, number), branches: branches.clone(), has_credentials };
        let calls = (0..most).map(call).collect();
        Order::CancelDerived(Box::new(CancelDerived { leg: key, waits, caller, calls, but, cause }))
    }

    /// The process that a leg was answered in may have died before the other devices had stopped ringing.
    pub(super) fn cancel_beside(
        &self,
        leg: (LegId, LegKey),
        target: &Target,
        answered: &sip::agent::Snapshot,
        alone_from: Timestamp,
    ) -> Option<Order> {
        let elsewhere = HangUpCause::because(200, "Call completed elsewhere");
        (self.now.wall < alone_from).then(|| self.cancel_of(leg, Waits::Leg, target, Some(answered.clone()), elsewhere))
    }

    pub(super) fn hang_up_everything(&mut self) {
        let legs: Vec<LegId> = self.legs.keys().copied().collect();
        for leg in legs {
            self.end(leg, Cause::ServiceRestarted);
        }
    }

    /// Makes a conference's room what the plan says, and takes over the legs that it names with a newer epoch.
    pub(super) fn mix(&mut self, conference: ConferenceId, plan: &MixPlan) {
        let is_early = plan.ports.iter().any(|port| !self.legs.contains_key(&port.leg) && !self.gone.has(port.leg));
        self.resumes.keep_early(conference, plan, is_early);
        let mut named = BTreeSet::new();
        for port in &plan.ports {
            let Some(leg) = self.legs.get_mut(&port.leg) else {
                // Its phone hung up while it was handed over. Whoever had it was told, and may be closed by now.
                if self.gone.has(port.leg) {
                    self.signal(conference, port.leg, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
                }
                continue;
            };
            let stale = port.epoch < leg.epoch || (port.epoch == leg.epoch && leg.owner != conference);
            if stale {
                continue;
            }
            if leg.owner != conference {
                leg.former = Some(leg.owner);
                leg.owner = conference;
            }
            leg.epoch = port.epoch;
            named.insert(port.leg);
            let LegState::Talking(talking) = &leg.state else { continue };
            match self.threads.attach(talking.port, conference, port.speaks, port.hears) {
                Seated::First => self.happen(port.leg, What::Attached),
                Seated::From(from) => self.happen(port.leg, What::Reattached { from }),
                Seated::Again | Seated::Unknown => {}
            }
        }
        // Those in this room that the plan leaves out, and that no newer epoch has put elsewhere: they would not be
        // seated here any more.
        for port in self.threads.seated_in(conference) {
            if self.by_port.get(&port).is_none_or(|leg| !named.contains(leg)) {
                self.threads.detach(port);
            }
        }
    }
}

/// The user part of our Contact, and of From where the caller has no number.
pub(super) const CONTACT_USER: &str = "convoke";

/// Whether an earlier process has dialled the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    First,
    Again,
}

/// The session id of a leg's description: a later process that dials it again says the same.
fn session_of(leg: LegId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&leg.0.as_bytes()[8..]);
    u64::from_be_bytes(bytes) >> 1
}

pub(super) fn who_of(target: &Target) -> String {
    match &target.destination {
        Destination::Line { username, domain } => aor(username, domain),
        Destination::Number(number) => number.as_str().to_owned(),
    }
}

/// The Reason header of our CANCEL or BYE (RFC 3326): what a phone may show or log.
fn reason_of(cause: &Cause) -> HangUpCause {
    match cause {
        Cause::NoAnswer => HangUpCause::because(480, "No answer"),
        Cause::ServiceRestarted => HangUpCause::because(503, "Service restarted"),
        Cause::MediaFailed => HangUpCause::because(488, "No common media"),
        Cause::Internal => HangUpCause::because(500, "Internal error"),
        _ => HangUpCause::default(),
    }
}
