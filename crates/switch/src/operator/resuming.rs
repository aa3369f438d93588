//! Legs of an earlier process are taken up: audio at once, and a re-INVITE that tells whether the phone is still there.
//!
//! Our SDP and the phone's are in the dialog's snapshot, so the session is negotiated as it was; with the same port audio
//! flows before anybody has said a word. The re-INVITEs leave in small lots: a server that comes back must not flood.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use control::{Cause, ConferenceId, LegId, LegNews, MixPlan, Snapshot, Target};
use media::{Port, PortId};
use sip::agent::{Order, TakeUp};
use sip::sdp::{LocalMedia, Negotiation, NegotiationError, Preference};
use thiserror::Error;

use super::Operator;
use super::effects::who_of;
use super::leg::{Leg, LegState, Resuming, Talking};
use crate::causes::Dialled;
use crate::dialing::key_of;
use crate::happening::What;
use crate::media::rtp::Peer;
use crate::media::tick::MediaLeg;
use crate::session::{Stored, holds, port_config, restore, sendable};

/// Re-INVITEs sent together, and the pause after them: a thousand a second, which a phone system answers and a LAN
/// carries.
const RESUMES_AT_ONCE: usize = 20;
const RESUME_EVERY: Duration = Duration::from_millis(20);

/// How long a message stays in the network (RFC 3261 §17.1.1.1, T4).
const COPIES_FOR: Duration = Duration::from_secs(5);

/// Legs whose re-INVITE waits for its turn.
#[derive(Debug)]
pub(super) struct Resumes {
    waiting: VecDeque<LegId>,
    next_at: Instant,
    /// Until everything is taken up: the newest plan of each conference that names a leg we do not know yet. It was handed
    /// over to that conference in the middle of the restart, and the one that had it is yet to say `Resume`.
    early_plans: Option<BTreeMap<ConferenceId, MixPlan>>,
}

/// Why a leg cannot be gone on with.
#[derive(Debug, Error)]
enum NotResumed {
    #[error("its snapshot is of a form we do not know")]
    Unreadable,
    #[error("there are too many legs")]
    Full,
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    #[error("no RTP port: {0}")]
    Socket(#[from] std::io::Error),
    #[error(transparent)]
    Port(#[from] media::PortError),
}

impl Resumes {
    pub(super) fn new(now: Instant, is_taking_up: bool) -> Self {
        Self { waiting: VecDeque::new(), next_at: now, early_plans: is_taking_up.then(BTreeMap::new) }
    }

    /// Keeps a plan if it comes too early, in place of the one before.
    pub(super) fn keep_early(&mut self, conference: ConferenceId, plan: &MixPlan, is_early: bool) {
        let Some(plans) = &mut self.early_plans else { return };
        if is_early {
            plans.insert(conference, plan.clone());
        } else {
            plans.remove(&conference);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }
}

impl Operator {
    /// Goes on with a leg. Answered by `Resumed` or `HungUp`, to everyone who asked.
    pub(super) fn resume(&mut self, conference: ConferenceId, id: LegId, snapshot: &Snapshot, target: &Target) {
        if self.legs.contains_key(&id) {
            return self.asked_again(conference, id);
        }
        let (_, dialled, _) = self.attempts(target);
        if self.gone.has(id) {
            let cause = Cause::PeerHungUp { phone: dialled == Dialled::Number };
            return self.signal(conference, id, LegNews::HungUp(cause));
        }
        if let Err(error) = self.take_up(conference, id, snapshot, target, dialled) {
            tracing::warn!(leg = %id, %error, "cannot be taken up");
            self.hang_up_unknown(conference, id, Cause::ServiceRestarted, Some(snapshot), Some(target));
        }
    }

    /// The other one of two conferences that were handing it over.
    fn asked_again(&mut self, conference: ConferenceId, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let news = match &mut leg.state {
            LegState::Talking(talking) => match &mut talking.resuming {
                Some(resuming) => {
                    resuming.askers.insert(conference);
                    return;
                }
                None => talking.negotiation.agreed().map(|agreed| LegNews::Resumed(talking.stored(agreed))),
            },
            LegState::Ending { cause, .. } => Some(LegNews::HungUp(cause.clone())),
            LegState::Dialing(_) => None,
        };
        if let Some(news) = news {
            self.signal(conference, id, news);
        }
    }

    fn take_up(
        &mut self,
        conference: ConferenceId,
        id: LegId,
        snapshot: &Snapshot,
        target: &Target,
        dialled: Dialled,
    ) -> Result<(), NotResumed> {
        let Stored { dialog, address, port, signalling, alone_from } =
            restore(snapshot).ok_or(NotResumed::Unreadable)?;
        let (ours, theirs) = dialog.descriptions().ok_or(NotResumed::Unreadable)?;
        if self.draining || self.legs.len() >= self.config.legs_max {
            return Err(NotResumed::Full);
        }
        let here = if self.is_ours(address) { address } else { self.address_for(Some(signalling)) };
        let sockets = self.machine.bind_again(port)?;
        let moved = (here, sockets.port) != (address, port);
        let mut local = LocalMedia::new(here, sockets.port, 0);
        local.codecs.clone_from(&self.codecs);
        local.preference = Preference::Theirs;
        local.rtcp_mux = true;
        local.peer = Some(signalling);
        let negotiation = Negotiation::restore(local, &ours, &theirs)?;
        let agreed = negotiation.agreed().cloned().ok_or(NegotiationError::NoOffer)?;
        // Another SSRC: numbers of ours that began again under the old one would look like packets of long ago.
        let seed = self.seeds.next();
        let media_port = PortId(self.next_port);
        let media = MediaLeg {
            id: media_port,
            sockets,
            rtp_peer: Peer::new(sendable(agreed.remote), signalling),
            rtcp_peer: Peer::new(sendable(agreed.remote_rtcp), signalling),
            muxed: agreed.rtcp_mux,
            port: Some(Box::new(Port::new(port_config(&agreed, seed))?)),
            room: None,
        };
        self.next_port += 1;
        let key = key_of(id, 0);
        let credentials = self.attempts(target).0.into_iter().find_map(|attempt| attempt.credentials);
        let talking = Talking {
            port: media_port,
            negotiation,
            snapshot: dialog.clone(),
            signalling,
            seed,
            held: holds(&agreed),
            alone_from,
            resuming: Some(Resuming { moved, askers: BTreeSet::new() }),
            copies_until: Some(self.now.instant + COPIES_FOR),
        };
        let leg = Leg {
            who: who_of(target),
            owner: conference,
            former: None,
            epoch: 0,
            dialled,
            key,
            state: LegState::Talking(Box::new(talking)),
        };
        self.legs.insert(id, leg);
        self.by_key.insert(key, id);
        self.by_port.insert(media_port, id);
        self.threads.open(conference, Box::new(media));
        let others = self.cancel_beside((id, key), target, &dialog, alone_from);
        self.order(Order::TakeUp(Box::new(TakeUp { leg: key, snapshot: dialog, credentials })));
        if let Some(others) = others {
            self.order(others);
        }
        self.resumes.waiting.push_back(id);
        Ok(())
    }

    /// Whether our audio may still be said to be there.
    fn is_ours(&self, address: IpAddr) -> bool {
        self.config.sip.public_address == Some(address) || self.machine.has(address)
    }

    /// Sends the next lot of re-INVITEs.
    pub(super) fn send_resumes(&mut self, now: Instant) {
        if self.resumes.waiting.is_empty() || now < self.resumes.next_at {
            return;
        }
        self.resumes.next_at = now + RESUME_EVERY;
        for _ in 0..RESUMES_AT_ONCE {
            let Some(id) = self.resumes.waiting.pop_front() else { return };
            // One whose phone has spoken meanwhile needs no question.
            let Some(Leg { key, state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) else { continue };
            if talking.resuming.is_some() {
                let (leg, offer) = (*key, talking.negotiation.offer());
                self.order(Order::Reinvite { leg, offer });
            }
        }
    }

    /// The phone has agreed on the session again.
    pub(super) fn resumed(&mut self, id: LegId, resuming: Resuming, stored: &Snapshot) {
        let Some(owner) = self.legs.get(&id).map(|leg| leg.owner) else { return };
        metrics::counter!("convoke_switch_resumed_total").increment(1);
        tracing::info!(leg = %id, conference = %owner, moved = resuming.moved, "taken up");
        self.happen(id, What::Resumed);
        let askers = resuming.askers.into_iter().filter(|asker| *asker != owner);
        for conference in askers.chain([owner]) {
            self.signal(conference, id, LegNews::Resumed(stored.clone()));
        }
    }

    /// A leg is over: whoever asked for it beside its owner is told here.
    pub(super) fn not_resumed(&mut self, id: LegId, resuming: Option<&Resuming>, cause: &Cause) {
        let owner = self.legs.get(&id).map(|leg| leg.owner);
        for asker in resuming.into_iter().flat_map(|resuming| &resuming.askers) {
            if Some(*asker) != owner {
                self.signal(*asker, id, LegNews::HungUp(cause.clone()));
            }
        }
    }

    /// The phone refused the re-INVITE, and thereby is there; the session stays as it was, if it can.
    pub(super) fn resumed_as_it_was(&mut self, id: LegId) {
        let Some(Leg { state: LegState::Talking(talking), .. }) = self.legs.get_mut(&id) else { return };
        let Some(resuming) = talking.resuming.take() else { return };
        let stored = talking.negotiation.agreed().map(|agreed| talking.stored(agreed));
        match stored {
            Some(stored) if !resuming.moved => self.resumed(id, resuming, &stored),
            Some(_) | None => {
                talking.resuming = Some(resuming);
                self.end(id, Cause::MediaFailed);
            }
        }
    }

    /// All effects of the restart are performed.
    pub(super) fn taken_up(&mut self) {
        for (conference, plan) in self.resumes.early_plans.take().unwrap_or_default() {
            self.mix(conference, &plan);
        }
        self.order(Order::TakenUp);
    }
}
