//! What keeps a session alive: the timer both sides agree on, our refreshes, and the end without one (RFC 4028).

use std::time::{Duration, Instant};

use super::{Owner, Session};
use crate::agent::servers::{ALLOW, SUPPORTED};
use crate::agent::vocabulary::LegKey;
use crate::agent::{Agent, Leg};
use crate::invite::reinvite::{Least, MIN_SE, SessionTimer, Wish, agree, seconds_of};
use crate::message::{HeaderName, Headers, Method, Refresher, Request, SessionExpires};

/// A refresh that failed is tried again after this, as long as the session lasts.
pub(super) const REFRESH_AGAIN: Duration = Duration::from_secs(5);

/// What the session timer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerStep {
    Nothing,
    Refresh,
    Expired,
}

impl Session {
    /// Takes from a 2xx to our request the session timer it agrees to (RFC 4028 §7.2), and whether the peer
    /// understands UPDATE. Whether anything changed.
    pub(in crate::agent) fn note_timer(&mut self, now: Instant, headers: &Headers) -> bool {
        let before = (self.dialog.timer, self.dialog.peer_updates);
        self.note_allow(headers);
        let agreed = headers.session_expires().ok().flatten();
        self.start_timer(now, agreed, Refresher::Uac);
        before != (self.dialog.timer, self.dialog.peer_updates)
    }

    pub(in crate::agent) fn note_allow(&mut self, headers: &Headers) {
        if let Ok(methods) = headers.allow()
            && !methods.is_empty()
        {
            self.dialog.peer_updates = methods.contains(&Method::Update);
        }
    }

    /// The session begins anew. `us` is what we are in the transaction that says so.
    pub(in crate::agent) fn start_timer(&mut self, now: Instant, agreed: Option<SessionExpires>, us: Refresher) {
        self.refreshed_at = now;
        self.refresh_at = None;
        self.dialog.timer = agreed.and_then(|agreed| SessionTimer::agreed(agreed, us));
    }

    /// The shortest interval that the way to the peer lets through, as the first INVITE has learnt.
    pub(in crate::agent) fn learn_least(&mut self, least: Least) {
        self.interval_least = least;
    }

    /// A 422 asks for a longer interval; whether it makes sense to ask again.
    pub(super) fn raise_interval(&mut self, headers: &Headers) -> bool {
        let Some(timer) = &mut self.dialog.timer else { return false };
        let mut wish = Wish { interval: timer.interval, least: self.interval_least };
        let is_longer = wish.raise(headers.min_se().ok().flatten());
        (timer.interval, self.interval_least) = (wish.interval, wish.least);
        is_longer
    }

    pub(super) fn timer_due(&self) -> Option<Instant> {
        let timer = self.dialog.timer?;
        let ends_at = timer.ends_at(self.refreshed_at);
        // What is under way refreshes the session too.
        let waits = !timer.ours || self.offers.is_busy() || self.parting.is_some();
        let due_at = self.refresh_at.unwrap_or(timer.due_at(self.refreshed_at));
        Some(if waits { ends_at } else { due_at.min(ends_at) })
    }

    pub(super) fn timer_step(&mut self, now: Instant) -> TimerStep {
        let Some(timer) = self.dialog.timer else { return TimerStep::Nothing };
        if timer.ends_at(self.refreshed_at) <= now {
            TimerStep::Expired
        } else if self.timer_due().is_some_and(|at| at <= now) {
            self.refresh_at = Some(now + REFRESH_AGAIN);
            TimerStep::Refresh
        } else {
            TimerStep::Nothing
        }
    }

    /// The headers of our re-INVITE or UPDATE: each of them refreshes the session.
    pub(super) fn with_timer(&self, mut request: Request) -> Request {
        request.headers.push(HeaderName::Allow, ALLOW);
        request.headers.push(HeaderName::Supported, SUPPORTED);
        if let Some(timer) = self.dialog.timer {
            let refresher = Some(if timer.ours { Refresher::Uac } else { Refresher::Uas });
            add_wish(&mut request, Wish { interval: timer.interval, least: self.interval_least }, refresher);
        }
        request
    }
}

impl Agent {
    /// Keeps the session alive: by UPDATE where the peer knows it, else by our description as it is.
    pub(super) fn send_refresh(&mut self, leg: LegKey) {
        let Some(session) = self.session(leg) else { return };
        if !session.offers.begin_refresh() {
            return;
        }
        if !session.dialog.peer_updates {
            let offer = session.local_sdp.clone();
            self.send_reinvite(leg, offer);
            return;
        }
        let request = session.dialog.request(&Method::Update);
        let request = session.with_timer(request);
        let key = self.send_within(leg, request, Owner::Within { leg });
        if let Some(session) = self.session(leg) {
            session.ours = key;
        }
    }

    /// What is agreed on with a peer that asks by INVITE or UPDATE (RFC 4028 §9). A running session keeps its
    /// interval when a peer that knows nothing of timers asks for something else.
    pub(in crate::agent) fn agreed_timer(&self, leg: LegKey, headers: &Headers) -> Option<SessionExpires> {
        let running = match self.legs.get(&leg) {
            Some(Leg::Talking(session)) => session.dialog.timer.map(|timer| timer.interval),
            Some(Leg::Calling(_) | Leg::Called(_)) | None => None,
        };
        let own = running.filter(|_| !self.config.session_expires.is_zero()).unwrap_or(self.config.session_expires);
        let asked = headers.session_expires().ok().flatten();
        agree(asked, headers.min_se().ok().flatten(), headers.supports("timer"), own)
    }
}

/// RFC 4028 §5: a shorter interval than we take is answered 422.
pub(in crate::agent) fn is_too_short(headers: &Headers) -> bool {
    let asked = headers.session_expires().ok().flatten();
    asked.is_some_and(|asked| u64::from(asked.seconds) < MIN_SE.as_secs())
}

/// Asks for a session timer.
pub(in crate::agent) fn add_wish(request: &mut Request, wish: Wish, refresher: Option<Refresher>) {
    if !wish.interval.is_zero() {
        let seconds = seconds_of(wish.interval);
        request.headers.push(HeaderName::SessionExpires, SessionExpires { seconds, refresher });
        request.headers.push(HeaderName::MinSe, seconds_of(wish.least.interval).to_string());
    }
}
