//! What the agent reports, as signals, and as reports to the server.

use std::time::Instant;

use control::{Cause, LegId, LegNews};
use media::{Port, PortId};
use sip::agent::{
    Binding as SipBinding, Direction, EndReason, FailedBecause, HangUpCause, LegKey, Order, Report as Told, Snapshot,
    Transport, Waits,
};
use sip::message::Uri;
use sip::sdp::{Agreed, Negotiation, NegotiationError};

use super::Operator;
use super::leg::{Dialing, Leg, LegState, Talking};
use crate::causes::{Dialled, cause_of};
use crate::happening::What;
use crate::media::rtp::Peer;
use crate::media::tick::{MediaLeg, Renegotiated};
use crate::session::{Here, holds, port_config, sendable, store};
use crate::{Binding, Report};

impl Operator {
    pub(super) fn agent_reports(&mut self, told: Told) {
        match told {
            Told::Ringing { leg, status, .. } => self.rings(leg, status),
            Told::Answered { leg, branch, sdp, snapshot, source } => {
                self.answered(leg, branch, &sdp, snapshot, source.ip());
            }
            Told::Failed { leg, status, because, contacts, .. } => self.failed(leg, status, because, &contacts),
            Told::Offered { leg, sdp, snapshot } => self.offered(leg, &sdp, snapshot),
            Told::OfferAnswered { leg, sdp, snapshot } => self.offer_answered(leg, &sdp, snapshot),
            Told::OfferFailed { leg, .. } => self.offer_failed(leg),
            Told::Reshaped { leg, snapshot } => self.reshaped(leg, snapshot),
            Told::Ended { leg, reason, local } => self.ended(leg, &reason, local),
            // Calls that others place are refused by the agent's own policy, and so never get here.
            Told::Incoming(incoming) => self.order(Order::Refuse { leg: incoming.leg, status: 403 }),
            Told::Confirmed { .. } => {}
            Told::Dtmf { leg, tone } => {
                if let Some(id) = self.by_key.get(&leg).copied() {
                    metrics::counter!("convoke_switch_tones_total").increment(1);
                    self.happen(id, What::Tone(tone.digit));
                }
            }
            Told::Registered { key, expires } => self.trunk_registered(key, expires),
            Told::RegisterFailed { key, status } => self.trunk_refused(key, status),
            Told::Unregistered { .. } => {}
            Told::Pinged { key, alive } => self.trunk_pinged(key, alive),
            Told::Bound(binding) => self.bound(&binding),
            Told::Unbound { aor, contact, because } => {
                tracing::info!(aor, %contact, ?because, "a contact is gone");
                self.report(Report::Unbound { aor, contact: contact.to_string() });
            }
            Told::Trace { direction, transport, peer, bytes } => {
                let arrow = match direction {
                    Direction::Received => "from",
                    Direction::Sent => "to",
                };
                let message = String::from_utf8_lossy(&bytes);
                tracing::info!(target: "switch::trace", "{} {arrow} {peer}\n{message}", transport.via_name());
            }
        }
    }

    fn rings(&mut self, key: LegKey, status: u16) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let Some(Leg { owner, state: LegState::Dialing(dialing), .. }) = self.legs.get_mut(&id) else { return };
        let first = !std::mem::replace(&mut dialing.rang, true);
        let owner = *owner;
        self.happen(id, What::Rings { status });
        if first {
            self.signal(owner, id, LegNews::Ringing);
        }
    }

    fn answered(&mut self, key: LegKey, branch: usize, sdp: &[u8], snapshot: Snapshot, signalling: std::net::IpAddr) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let now = self.now.instant;
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let owner = leg.owner;
        // What is not being dialled is being hung up, and the agent ends what answers nevertheless.
        if !matches!(leg.state, LegState::Dialing(_)) {
            return;
        }
        let ending = LegState::Ending { cause: Cause::MediaFailed, give_up_at: now + super::effects::END_WITHIN };
        let LegState::Dialing(dialing) = std::mem::replace(&mut leg.state, ending) else { return };
        let seed = self.seeds.next();
        let again = dialing.again;
        let rang = again.then(|| (dialing.target.clone(), snapshot.clone()));
        match Opened::agree(*dialing, branch, sdp, signalling, seed, PortId(self.next_port)) {
            Ok(opened) => {
                let Opened { media, agreed, mut negotiation } = opened;
                let (port, codec) = (media.id, agreed.codec.as_str());
                self.next_port += 1;
                self.by_port.insert(port, id);
                let local = negotiation.local();
                let alone_from = self.now.wall + super::effects::BESIDE_FOR;
                let here = Here { address: local.address, port: local.port, signalling, seed, alone_from };
                let stored = store(&snapshot, &agreed, here);
                let held = holds(&agreed);
                let anew = again.then(|| {
                    negotiation.say_anew();
                    negotiation.offer()
                });
                leg.state = LegState::Talking(Box::new(Talking {
                    port,
                    negotiation,
                    snapshot,
                    signalling,
                    seed,
                    held,
                    alone_from,
                    resuming: None,
                    copies_until: None,
                }));
                self.threads.open(owner, media);
                tracing::info!(leg = %id, conference = %owner, codec, "connected");
                self.happen(id, What::Answered { codec });
                self.signal(owner, id, LegNews::Connected(stored));
                if held {
                    self.signal(owner, id, LegNews::Held(true));
                }
                if let Some(offer) = anew {
                    // It waits for the ACK.
                    self.order(Order::Reinvite { leg: key, offer });
                }
            }
            Err(error) => {
                tracing::warn!(leg = %id, %error, "answered, but not with media that we can use");
                self.order(Order::Confirm { leg: key });
                self.order(Order::HangUp { leg: key, cause: HangUpCause::because(488, "No common media") });
            }
        }
        if let Some((target, answered)) = rang {
            // What the earlier process made ring is not all that this one has.
            let elsewhere = HangUpCause::because(200, "Call completed elsewhere");
            let others = self.cancel_of((id, key), Waits::Leg, &target, Some(answered), elsewhere);
            self.order(others);
        }
    }

    fn failed(&mut self, key: LegKey, status: u16, because: FailedBecause, contacts: &[Uri]) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let Some(leg) = self.legs.get(&id) else { return };
        let cause = match &leg.state {
            LegState::Ending { cause, .. } => cause.clone(),
            LegState::Dialing(_) | LegState::Talking(_) => {
                self.happen(id, What::Refused { status });
                self.follow(id, contacts);
                if self.may_be_luckier(id, status, because) && self.try_next(id) {
                    return;
                }
                metrics::counter!("convoke_switch_dial_failures_total", "status" => status.to_string()).increment(1);
                let Some(leg) = self.legs.get_mut(&id) else { return };
                let cause = cause_of(leg.dialled, status, because);
                if let LegState::Dialing(dialing) = &leg.state
                    && dialing.again
                {
                    // What the earlier process made ring is stopped before the end is told.
                    let target = dialing.target.clone();
                    leg.state = LegState::Ending { cause, give_up_at: self.now.instant + super::effects::END_WITHIN };
                    let said = HangUpCause::because(status, "Not reached");
                    let others = self.cancel_of((id, key), Waits::End, &target, None, said);
                    self.order(others);
                    return;
                }
                cause
            }
        };
        self.gone_with(id, cause);
    }

    fn ended(&mut self, key: LegKey, reason: &EndReason, local: bool) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let Some(leg) = self.legs.get(&id) else { return };
        let phone = leg.dialled == Dialled::Number;
        let cause = match (&leg.state, reason) {
            (LegState::Ending { cause, .. }, _) => cause.clone(),
            (_, EndReason::Bye { .. }) => {
                self.happen(id, What::HungUp { by_peer: true });
                Cause::PeerHungUp { phone }
            }
            // It fell silent: for the conference this is a person who has left.
            (_, EndReason::SessionExpired | EndReason::Lost) => Cause::PeerHungUp { phone },
            (_, EndReason::HungUp | EndReason::Cancelled { .. }) => Cause::Cancelled,
            (_, EndReason::NotConfirmed | EndReason::NotAnswered) => Cause::Internal,
        };
        tracing::debug!(leg = %id, ?reason, local, "ended");
        self.gone_with(id, cause);
    }

    /// The last of a leg: its media is closed, and its conference told.
    pub(super) fn gone_with(&mut self, id: LegId, cause: Cause) {
        let Some(leg) = self.legs.remove(&id) else { return };
        self.by_key.remove(&leg.key);
        if let LegState::Talking(talking) = &leg.state {
            self.threads.close(talking.port);
            self.not_resumed(id, talking.resuming.as_ref(), &cause);
        }
        self.gone.add(id);
        tracing::info!(leg = %id, conference = %leg.owner, ?cause, "hung up");
        self.signal(leg.owner, id, LegNews::HungUp(cause));
    }

    /// The peer changes the session.
    fn offered(&mut self, key: LegKey, sdp: &[u8], snapshot: Snapshot) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let now = self.now.instant;
        let Some(Leg { state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) else {
            self.order(Order::RefuseOffer { leg: key, status: 488 });
            return;
        };
        if sdp.is_empty() {
            // An INVITE without an offer asks for ours; the answer comes with the ACK.
            let offer = talking.negotiation.offer();
            talking.snapshot = snapshot;
            self.order(Order::AnswerOffer { leg: key, sdp: offer });
            return;
        }
        match talking.negotiation.answer(sdp) {
            Ok((answer, agreed)) => {
                // If this was a copy, the phone has changed nothing. Its answer to an offer of ours tells.
                let asks = talking.copies_until.is_some_and(|until| now < until);
                let offer = asks.then(|| talking.negotiation.offer());
                self.order(Order::AnswerOffer { leg: key, sdp: answer });
                self.reshape(id, &agreed, snapshot);
                if let Some(offer) = offer {
                    // It waits for the ACK.
                    self.order(Order::Reinvite { leg: key, offer });
                }
            }
            Err(error) => {
                tracing::debug!(leg = %id, %error, "a changed session is refused");
                self.order(Order::RefuseOffer { leg: key, status: error.status() });
            }
        }
    }

    fn offer_answered(&mut self, key: LegKey, sdp: &[u8], snapshot: Snapshot) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let Some(Leg { state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) else { return };
        if !talking.negotiation.is_offer_pending() {
            // A refresh of the agent's own: it offered what we last said.
            talking.negotiation.offer();
        }
        match talking.negotiation.accept_answer(sdp) {
            Ok(agreed) => self.reshape(id, &agreed, snapshot),
            Err(error) => {
                tracing::warn!(leg = %id, %error, "an answer that we cannot use");
                talking.negotiation.withdraw_offer();
            }
        }
    }

    fn offer_failed(&mut self, key: LegKey) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        if let Some(Leg { state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) {
            talking.negotiation.withdraw_offer();
            self.resumed_as_it_was(id);
        }
    }

    /// A session agreed again: media follows, and the conference is told what it must know.
    fn reshape(&mut self, id: LegId, agreed: &Agreed, snapshot: Snapshot) {
        let Some(Leg { owner, state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) else { return };
        let owner = *owner;
        let held = holds(agreed);
        let held_changed = held != std::mem::replace(&mut talking.held, held);
        talking.snapshot = snapshot;
        let stored = talking.stored(agreed);
        let session = Renegotiated {
            config: port_config(agreed, talking.seed),
            rtp: sendable(agreed.remote),
            rtcp: sendable(agreed.remote_rtcp),
            muxed: agreed.rtcp_mux,
        };
        let (port, resuming) = (talking.port, talking.resuming.take());
        self.threads.renegotiate(port, Box::new(session));
        match resuming {
            Some(resuming) => self.resumed(id, resuming, &stored),
            None => self.signal(owner, id, LegNews::Reshaped(stored)),
        }
        if held_changed {
            self.happen(id, What::Held(held));
            self.signal(owner, id, LegNews::Held(held));
        }
    }

    fn reshaped(&mut self, key: LegKey, snapshot: Snapshot) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let Some(Leg { owner, state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) else { return };
        talking.snapshot = snapshot;
        let Some(agreed) = talking.negotiation.agreed().cloned() else { return };
        let (owner, stored) = (*owner, talking.stored(&agreed));
        self.signal(owner, id, LegNews::Reshaped(stored));
    }

    fn bound(&mut self, binding: &SipBinding) {
        let left = binding.expires_at.saturating_duration_since(self.now.instant);
        self.bound.insert(binding.aor.clone());
        self.report(Report::Bound(Box::new(Binding {
            aor: binding.aor.clone(),
            aor_uri: binding.aor_uri.to_string(),
            contact: binding.contact.to_string(),
            path: binding.path.iter().map(ToString::to_string).collect(),
            source: binding.source,
            transport: binding.transport.uri_name().to_owned(),
            call_id: binding.call_id.clone(),
            cseq: binding.cseq,
            q_thousandths: binding.q_thousandths,
            user_agent: binding.user_agent.clone(),
            instance: binding.instance.clone(),
            expires_at: self.now.wall + left,
        })));
    }

    /// Takes a contact of an earlier process back. One that we cannot read or that is over is left out.
    pub(super) fn restore(&mut self, stored: &Binding) {
        let left = stored.expires_at.since(self.now.wall);
        let transport = Transport::from_name(&stored.transport);
        let uris = (stored.aor_uri.parse(), stored.contact.parse());
        let (Some(transport), (Ok(aor_uri), Ok(contact))) = (transport, uris) else {
            tracing::warn!(aor = stored.aor, "a stored contact cannot be read");
            return;
        };
        if left.is_zero() {
            return self.report(Report::Unbound { aor: stored.aor.clone(), contact: stored.contact.clone() });
        }
        let binding = SipBinding {
            aor: stored.aor.clone(),
            aor_uri,
            contact,
            path: stored.path.iter().filter_map(|route| route.parse().ok()).collect(),
            source: stored.source,
            transport,
            flow: self.flow_of(transport),
            call_id: stored.call_id.clone(),
            cseq: stored.cseq,
            q_thousandths: stored.q_thousandths,
            user_agent: stored.user_agent.clone(),
            instance: stored.instance.clone(),
            expires_at: self.now.instant + left,
        };
        self.bound.insert(stored.aor.clone());
        self.order(Order::RestoreBinding(Box::new(binding)));
    }

    /// Contacts of users that are no longer in the directory are forgotten.
    pub(super) fn forget_former_users(&mut self) {
        let directory = self.directory.load();
        let former: Vec<String> = self
            .bound
            .iter()
            .filter(|aor| match aor.rsplit_once('@') {
                Some((username, domain)) => directory.user_exactly(username, domain).is_none(),
                None => true,
            })
            .cloned()
            .collect();
        for aor in former {
            self.bound.remove(&aor);
            self.order(Order::RemoveBindings { aor });
        }
    }

    /// Legs whose end the agent never confirmed.
    pub(super) fn give_up_late_legs(&mut self, now: Instant) {
        let late: Vec<(LegId, Cause)> = self
            .legs
            .iter()
            .filter_map(|(id, leg)| match &leg.state {
                LegState::Ending { cause, give_up_at } if *give_up_at <= now => Some((*id, cause.clone())),
                LegState::Ending { .. } | LegState::Dialing(_) | LegState::Talking(_) => None,
            })
            .collect();
        for (id, cause) in late {
            tracing::warn!(leg = %id, "its end was never confirmed");
            self.gone_with(id, cause);
        }
    }
}

impl Talking {
    pub(super) fn stored(&self, agreed: &Agreed) -> control::Snapshot {
        let local = self.negotiation.local();
        let &Self { signalling, seed, alone_from, .. } = self;
        let here = Here { address: local.address, port: local.port, signalling, seed, alone_from };
        store(&self.snapshot, agreed, here)
    }
}

/// A session that was agreed on, and the media leg for it.
struct Opened {
    media: Box<MediaLeg>,
    agreed: Agreed,
    negotiation: Negotiation,
}

/// Why an answered leg has no media.
#[derive(Debug, thiserror::Error)]
enum NoMedia {
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    #[error(transparent)]
    Port(#[from] media::PortError),
}

impl Opened {
    fn agree(
        dialing: Dialing,
        branch: usize,
        sdp: &[u8],
        signalling: std::net::IpAddr,
        seed: u64,
        id: PortId,
    ) -> Result<Self, NoMedia> {
        let Dialing { sockets, mut local, addresses, .. } = dialing;
        local.address = addresses.get(branch).copied().unwrap_or(local.address);
        local.peer = Some(signalling);
        let mut negotiation = Negotiation::new(local);
        // The same offer as was sent: it depends on nothing else.
        negotiation.offer();
        let agreed = negotiation.accept_answer(sdp)?;
        let media = MediaLeg {
            id,
            sockets,
            rtp_peer: Peer::new(sendable(agreed.remote), signalling),
            rtcp_peer: Peer::new(sendable(agreed.remote_rtcp), signalling),
            muxed: agreed.rtcp_mux,
            port: Some(Box::new(Port::new(port_config(&agreed, seed))?)),
            room: None,
        };
        Ok(Self { media: Box::new(media), agreed, negotiation })
    }
}
