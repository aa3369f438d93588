//! Within a dialog: whose offer is under way, and who keeps the session alive (RFC 3261 §14, RFC 4028).

use std::time::{Duration, Instant};

use crate::message::{Refresher, SessionExpires};

/// The shortest session interval we accept (RFC 4028 §4).
pub const MIN_SE: Duration = Duration::from_secs(90);

/// How often an offer that met the peer's own offer is repeated before it is given up.
pub const GLARE_MAX: u8 = 4;

/// How long the user of the agent has for the answer to an offer of the peer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The longest session interval that is agreed on. A peer that names a longer one wants none.
pub const INTERVAL_MAX: Duration = Duration::from_hours(24);

/// How often one INVITE or dialog follows a 422 to a longer interval: each proxy of a long way may ask for one.
pub const RAISES_MAX: u8 = 4;

/// A session interval that has been asked for: ours, or one that a 422 made longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Zero for no session timer.
    pub interval: Duration,
    pub least: Least,
}

/// The shortest interval that the way to the peer lets through, for Min-SE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    pub interval: Duration,
    /// How often a 422 made it longer.
    raises: u8,
}

impl Default for Least {
    fn default() -> Self {
        Self { interval: MIN_SE, raises: 0 }
    }
}

impl Wish {
    /// What the configuration says; zero stays zero, everything else is brought into bounds.
    pub fn of(interval: Duration) -> Self {
        let interval = if interval.is_zero() { interval } else { interval.clamp(MIN_SE, INTERVAL_MAX) };
        Self { interval, least: Least::default() }
    }

    /// Answers a 422 with this Min-SE (RFC 4028 §7.4). `false` if there is nothing to ask for again.
    pub fn raise(&mut self, least: Option<u32>) -> bool {
        let Some(least) = least.map(|seconds| Duration::from_secs(seconds.into())) else { return false };
        let raises = self.least.raises + 1;
        if self.interval.is_zero() || least <= self.interval || least > INTERVAL_MAX || raises > RAISES_MAX {
            return false;
        }
        *self = Self { interval: least, least: Least { interval: least, raises } };
        true
    }
}

/// What we answer as the called side (RFC 4028 §9): the peer's interval, and the refresher it wishes. A peer that
/// does not know session timers cannot refresh, so we do; and one that asks for none gets `own`, if there is one.
/// `least` is its Min-SE.
pub fn agree(
    asked: Option<SessionExpires>,
    least: Option<u32>,
    peer_supports_timer: bool,
    own: Duration,
) -> Option<SessionExpires> {
    let Some(asked) = asked else {
        let seconds = seconds_of(Wish::of(own).interval).max(least.unwrap_or_default());
        return (!own.is_zero()).then_some(SessionExpires { seconds, refresher: Some(Refresher::Uas) });
    };
    let refresher = match asked.refresher {
        Some(wished) if peer_supports_timer => wished,
        None if peer_supports_timer => Refresher::Uac,
        Some(_) | None => Refresher::Uas,
    };
    Some(SessionExpires { refresher: Some(refresher), ..asked })
}

/// Whole seconds, as headers say them.
pub fn seconds_of(duration: Duration) -> u32 {
    duration.as_secs().min(u32::MAX.into()) as u32
}

/// What both sides agreed on: the session ends unless one of them refreshes it (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    pub interval: Duration,
    /// We refresh; else the peer does, and we watch.
    pub ours: bool,
}

impl SessionTimer {
    /// From a 2xx. Nothing below the least interval is believed: a peer cannot make us refresh all the time.
    pub fn agreed(agreed: SessionExpires, us: Refresher) -> Option<Self> {
        let interval = Duration::from_secs(agreed.seconds.into());
        let ours = agreed.refresher.unwrap_or(Refresher::Uac) == us;
        (!interval.is_zero() && interval <= INTERVAL_MAX).then(|| Self { interval: interval.max(MIN_SE), ours })
    }

    /// What is due next in a session refreshed at `since`: our refresh at half the interval, or its end.
    pub fn due_at(&self, since: Instant) -> Instant {
        if self.ours { since + self.interval / 2 } else { self.ends_at(since) }
    }

    /// When a session refreshed at `since` is ended without another refresh: shortly before the interval is over
    /// (RFC 4028 §10).
    pub fn ends_at(&self, since: Instant) -> Instant {
        since + self.interval.saturating_sub((self.interval / 3).min(Duration::from_secs(32)))
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

    use super::{Admission, GLARE_MAX, Local, Offers, Refresher, SessionExpires, SessionTimer, Wish, agree};

    const OFF: Duration = Duration::ZERO;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        Instant::now()
    }

    #[test]
    fn rfc4028_9_the_refresher_is_the_peers_wish_or_we() {
        let refresher = |refresher, knows| {
            let agreed = agree(Some(SessionExpires { seconds: 1800, refresher }), None, knows, OFF).unwrap();
            assert_eq!(agreed.seconds, 1800);
            agreed.refresher.unwrap()
        };
        assert_eq!(refresher(Some(Refresher::Uas), true), Refresher::Uas);
        assert_eq!(refresher(Some(Refresher::Uac), false), Refresher::Uas);
        assert_eq!(refresher(None, true), Refresher::Uac);
    }

    #[test]
    fn rfc4028_9_who_asks_for_no_timer_gets_ours_and_we_refresh() {
        assert_eq!(agree(None, None, true, OFF), None);
        let own = Duration::from_mins(10);
        let agreed = |seconds| Some(SessionExpires { seconds, refresher: Some(Refresher::Uas) });
        assert_eq!(agree(None, None, false, own), agreed(600));
        assert_eq!(agree(None, Some(900), true, own), agreed(900));
        assert_eq!(agree(None, None, true, Duration::from_secs(1)), agreed(90));
    }

    #[test]
    fn rfc4028_7_4_a_422_makes_the_interval_longer_and_never_the_same_again() {
        let mut wish = Wish::of(Duration::from_mins(5));
        assert!(!wish.raise(None) && !wish.raise(Some(300)) && !wish.raise(Some(100_000)));
        assert!(wish.raise(Some(400)) && !wish.raise(Some(400)));
        assert_eq!((wish.interval, wish.least.interval), (Duration::from_secs(400), Duration::from_secs(400)));
        assert!((401..404).all(|seconds| wish.raise(Some(seconds))) && !wish.raise(Some(500)));
        assert!(!Wish::of(OFF).raise(Some(90)));
    }

    #[test]
    fn an_interval_a_peer_names_is_brought_into_bounds() {
        let agreed = |seconds| {
            SessionTimer::agreed(SessionExpires { seconds, refresher: None }, Refresher::Uac)
                .map(|timer| timer.interval)
        };
        assert_eq!(agreed(0), None);
        assert_eq!(agreed(1), Some(Duration::from_secs(90)));
        assert_eq!(agreed(1800), Some(Duration::from_mins(30)));
        assert_eq!(agreed(u32::MAX), None);
    }

    #[test]
    fn rfc4028_10_a_session_is_refreshed_at_half_and_ended_before_its_end() {
        let now = start();
        let at = |seconds| now + Duration::from_secs(seconds);
        let timer = |seconds, ours| SessionTimer { interval: Duration::from_secs(seconds), ours };
        assert_eq!(timer(1800, true).due_at(now), at(900));
        assert_eq!(timer(1800, false).due_at(now), at(1768));
        assert_eq!(timer(90, false).due_at(now), at(60));
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
