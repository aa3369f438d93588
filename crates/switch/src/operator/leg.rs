//! A leg as the operator knows it, and those it knew.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use control::{Cause, ConferenceId, LegId, Target, Timestamp};
use media::PortId;
use sip::agent::{Caller, LegKey};
use sip::sdp::{LocalMedia, Negotiation};

use crate::causes::Dialled;
use crate::dialing::Attempt;
use crate::media::rtp::RtpSockets;

/// A leg that is dialled, talks or ends.
#[derive(Debug)]
pub(super) struct Leg {
    /// Whom it connects, for people.
    pub(super) who: String,
    /// The conference that is told its news: the one whose mix plan named it with the newest epoch.
    pub(super) owner: ConferenceId,
    /// Whose it was before: what that one still orders is late.
    pub(super) former: Option<ConferenceId>,
    pub(super) epoch: u32,
    pub(super) dialled: Dialled,
    /// What the agent calls it.
    pub(super) key: LegKey,
    pub(super) state: LegState,
}

#[derive(Debug)]
pub(super) enum LegState {
    Dialing(Box<Dialing>),
    Talking(Box<Talking>),
    /// Told to end; the agent has yet to say that it has.
    Ending {
        cause: Cause,
        give_up_at: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Dialing {
    /// Those not tried yet.
    pub(super) attempts: VecDeque<Attempt>,
    pub(super) tried: usize,
    /// Who is called, and by whom.
    pub(super) target: Target,
    pub(super) caller: Caller,
    /// The attempt under way.
    pub(super) asked: Option<Attempt>,
    /// Redirections that were followed.
    pub(super) redirections: usize,
    pub(super) sockets: RtpSockets,
    /// Our side, at the address of the first branch.
    pub(super) local: LocalMedia,
    /// Our address towards each branch of the attempt under way.
    pub(super) addresses: Vec<IpAddr>,
    /// The conference knows that it rings.
    pub(super) rang: bool,
    /// An earlier process has dialled it: whoever answers may have answered an offer of that one.
    pub(super) again: bool,
}

#[derive(Debug)]
pub(super) struct Talking {
    pub(super) port: PortId,
    pub(super) negotiation: Negotiation,
    /// The dialog, as it was last told.
    pub(super) snapshot: sip::agent::Snapshot,
    pub(super) signalling: IpAddr,
    pub(super) seed: u64,
    pub(super) held: bool,
    /// No other device of the person can ring for this call any longer.
    pub(super) alone_from: Timestamp,
    /// Taken up from an earlier process; its phone has yet to say that it is still there.
    pub(super) resuming: Option<Resuming>,
    /// Until then, what the phone offers may be a copy of what it has offered to the earlier process.
    pub(super) copies_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Resuming {
    /// Our audio is not where the phone sends its own to.
    pub(super) moved: bool,
    /// Conferences that asked for the leg beside its owner: it was being handed over when the process died.
    pub(super) askers: BTreeSet<ConferenceId>,
}

/// Legs that have ended not long ago: orders for them are late, and no SIP is sent for them.
#[derive(Debug, Default)]
pub(super) struct Gone {
    order: VecDeque<LegId>,
    legs: BTreeSet<LegId>,
}

/// More than end while an effect is on its way.
const GONE_MAX: usize = 8_192;

impl Gone {
    pub(super) fn add(&mut self, leg: LegId) {
        if self.legs.insert(leg) {
            self.order.push_back(leg);
        }
        if self.order.len() > GONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.legs.remove(&oldest);
        }
    }

    pub(super) fn has(&self, leg: LegId) -> bool {
        self.legs.contains(&leg)
    }
}
