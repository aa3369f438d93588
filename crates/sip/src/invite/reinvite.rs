//! Within a dialog: whose offer is under way, and who keeps the session alive (RFC 3261 §14, RFC 4028).

use std::time::{Duration, Instant};

use crate::message::{Refresher, SessionExpires};

/// The shortest session interval we accept (RFC 4028 §4).
pub const MIN_SE: Duration = Duration::from_secs(90);

/// How often an offer that met the peer's own offer is repeated before it is given up.
pub const GLARE_MAX: u8 = 4;

/// How long the user of the agent has for the answer to an offer of the peer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What we answer as the called side (RFC 4028 §9): the peer's interval, and the refresher it wishes. A peer that
/// does not know session timers cannot refresh, so we do.
pub fn agree(asked: SessionExpires, peer_supports_timer: bool) -> SessionExpires {
    let refresher = match asked.refresher {
        Some(wished) if peer_supports_timer => wished,
        None if peer_supports_timer => Refresher::Uac,
        Some(_) | None => Refresher::Uas,
    };
    SessionExpires { refresher: Some(refresher), ..asked }
}

/// A running session timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    pub interval: Duration,
    /// We refresh; else the peer does, and we watch.
    pub ours: bool,
    since: Instant,
}

impl SessionTimer {
    /// Starts, or starts again, with the 2xx that carried it.
    pub fn starting(now: Instant, interval: Duration, ours: bool) -> Self {
        Self { interval, ours, since: now }
    }

    /// What is due next: our refresh at half the interval, or the end of a session nobody refreshed shortly before
    /// the interval is over (RFC 4028 §10).
    pub fn due_at(&self) -> Instant {
        if self.ours {
            return self.since + self.interval / 2;
        }
        self.ends_at()
    }

    /// When the session is ended without a refresh.
    pub fn ends_at(&self) -> Instant {
        self.since + self.interval.saturating_sub((self.interval / 3).min(Duration::from_secs(32)))
    }
}

/// Whether an offer may be made or taken, and what waits.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    local: Option<Local>,
    remote_pending: bool,
    waiting: Option<Vec<u8>>,
    glares: u8,
    retry_at: Option<Instant>,
}

/// Our own request that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// An offer that the user of the agent ordered.
    Ordered(Vec<u8>),
    /// A refresh by our current description, which changes nothing.
    Refresh,
}

/// What to do with a request of the peer that carries, or asks for, an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Take,
    /// 491: our own offer is under way (RFC 3261 §14.2).
    Glare,
    /// 500 with Retry-After: the peer's earlier offer is not answered yet.
    Later,
}

impl Offers {
    /// The peer asks.
    pub fn admit(&self) -> Admission {
        if self.local.is_some() {
            Admission::Glare
        } else if self.remote_pending {
            Admission::Later
        } else {
            Admission::Take
        }
    }

    /// The peer's offer was taken.
    pub fn remote_begins(&mut self) {
        self.remote_pending = true;
    }

    /// The peer's offer was answered or refused.
    pub fn remote_ends(&mut self) {
        self.remote_pending = false;
    }

    /// The peer's offer waits for our answer.
    pub fn is_remote_pending(&self) -> bool {
        self.remote_pending
    }

    /// The user of the agent has an offer; a newer one replaces one that still waits.
    pub fn wish(&mut self, offer: Vec<u8>) {
        self.waiting = Some(offer);
    }

    /// The next offer to send, if one may be sent now.
    pub fn begin(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.local.is_some() || self.remote_pending || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let offer = self.waiting.take()?;
        self.retry_at = None;
        self.local = Some(Local::Ordered(offer.clone()));
        Some(offer)
    }

    /// Begins a refresh, if nothing is under way.
    pub fn begin_refresh(&mut self) -> bool {
        let free = self.local.is_none() && !self.remote_pending;
        if free {
            self.local = Some(Local::Refresh);
        }
        free
    }

    /// Our request that is under way.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_ref()
    }

    /// Our request has ended, for good or ill.
    pub fn local_ends(&mut self) -> Option<Local> {
        self.glares = 0;
        self.local.take()
    }

    /// Our request met the peer's: it is tried again at `at`, unless it was tried too often, a newer offer waits, or
    /// it was a refresh. Gives back an offer that is given up.
    pub fn glare(&mut self, at: Instant) -> Option<Local> {
        self.glares += 1;
        match self.local.take()? {
            local if self.glares > GLARE_MAX => {
                self.glares = 0;
                Some(local)
            }
            Local::Ordered(offer) => {
                self.waiting.get_or_insert(offer);
                self.retry_at = Some(at);
                None
            }
            Local::Refresh => None,
        }
    }

    /// When a waiting offer may be sent.
    pub fn due_at(&self) -> Option<Instant> {
        self.waiting.as_ref().and(self.retry_at).filter(|_| self.local.is_none() && !self.remote_pending)
    }

    /// An offer is under way or waits.
    pub fn is_busy(&self) -> bool {
        self.local.is_some() || self.remote_pending || self.waiting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Admission, GLARE_MAX, Local, Offers, Refresher, SessionExpires, SessionTimer, agree};

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        Instant::now()
    }

    #[test]
    fn rfc4028_9_the_refresher_is_the_peers_wish_or_we() {
        let asked = |refresher| SessionExpires { seconds: 1800, refresher };
        assert_eq!(agree(asked(Some(Refresher::Uas)), true).refresher, Some(Refresher::Uas));
        assert_eq!(agree(asked(Some(Refresher::Uac)), false).refresher, Some(Refresher::Uas));
        assert_eq!(agree(asked(None), true).refresher, Some(Refresher::Uac));
    }

    #[test]
    fn rfc4028_10_a_session_is_refreshed_at_half_and_ended_before_its_end() {
        let now = start();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(SessionTimer::starting(now, Duration::from_mins(30), true).due_at(), at(900));
        assert_eq!(SessionTimer::starting(now, Duration::from_mins(30), false).due_at(), at(1768));
        assert_eq!(SessionTimer::starting(now, Duration::from_secs(90), false).due_at(), at(60));
    }

    #[test]
    fn rfc3261_14_2_one_offer_at_a_time() {
        let now = start();
        let mut offers = Offers::default();
        offers.wish(b"one".to_vec());
        assert_eq!(offers.begin(now), Some(b"one".to_vec()));
        assert_eq!(offers.admit(), Admission::Glare);
        offers.wish(b"two".to_vec());
        offers.wish(b"three".to_vec());
        assert_eq!(offers.begin(now), None);
        assert_eq!(offers.local_ends(), Some(Local::Ordered(b"one".to_vec())));
        assert_eq!(offers.begin(now), Some(b"three".to_vec()));
        offers.local_ends();
        offers.remote_begins();
        assert_eq!(offers.admit(), Admission::Later);
        assert!(!offers.begin_refresh());
        offers.remote_ends();
        assert_eq!(offers.admit(), Admission::Take);
    }

    #[test]
    fn glare_is_tried_again_but_not_for_ever() {
        let now = start();
        let later = now + Duration::from_secs(3);
        let mut offers = Offers::default();
        offers.wish(b"one".to_vec());
        for _ in 0..GLARE_MAX {
            assert!(offers.begin(later).is_some());
            assert_eq!(offers.glare(later), None);
            assert_eq!(offers.begin(now), None);
            assert_eq!(offers.due_at(), Some(later));
        }
        assert!(offers.begin(later).is_some());
        assert_eq!(offers.glare(later), Some(Local::Ordered(b"one".to_vec())));
        assert!(!offers.is_busy());
    }
}
