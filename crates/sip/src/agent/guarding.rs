//! Who guesses passwords is slowed down: each wrong answer to a challenge is held against where it came from.
//!
//! Only an answer to a nonce that we gave to that very address counts ([`crate::digest::Verdict::Wrong`]), so nobody can
//! have another address locked out by forging its packets. What counts:
//!
//! - the address together with the user: after a few wrong passwords that pair has to wait, twice as long each time;
//! - the address alone, for trying one user after the other. A user that was let in from there before is not held to
//!   that: behind one router a neighbour who guesses locks nobody out;
//! - the user alone, however many addresses guess at him: then each address has one try before it waits. A right
//!   password from any address that need not wait is taken.
//!
//! A contact that is registered from exactly this address and port is always listened to. Every wait is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::limits::{
    FORGET_AFTER, FRIENDS_MAX, GUESSED_USERS_MAX, GUESSING_PAIRS_MAX, GUESSING_SOURCES_MAX, KNOWN_FOR, REFUSALS_MAX,
};

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessLimits {
    /// Wrong passwords of one user from one address before it has to wait. 0 lets everybody guess.
    pub wrong_max: u32,
    /// The longest wait.
    pub wait_max: Duration,
}

impl Default for GuessLimits {
    fn default() -> Self {
        Self { wrong_max: 5, wait_max: Duration::from_mins(5) }
    }
}

/// What is to become of a request with credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Look at the password.
    Check,
    /// Say that it may come again after this.
    Wait(Duration),
    /// It does not listen: say nothing.
    Ignore,
}

/// Who has guessed.
#[derive(Debug)]
pub(super) struct Guard {
    limits: GuessLimits,
    pairs: Aged<(IpAddr, String), Tally>,
    sources: Aged<IpAddr, Tally>,
    users: Aged<String, u32>,
    friends: Aged<(IpAddr, String), ()>,
}

/// Wrong answers, and the wait they have earned.
#[derive(Clone, Copy, Debug)]
struct Tally {
    wrong: u32,
    wait_until: Instant,
    refused: u32,
}

/// Addresses that one guesser has anyway: a household's or a host's whole IPv6 network counts as one.
pub(super) fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

impl Guard {
    pub(super) fn new(limits: GuessLimits) -> Self {
        Self {
            limits,
            pairs: Aged::new(GUESSING_PAIRS_MAX),
            sources: Aged::new(GUESSING_SOURCES_MAX),
            users: Aged::new(GUESSED_USERS_MAX),
            friends: Aged::new(FRIENDS_MAX),
        }
    }

    /// Whether somebody's password is looked at.
    pub(super) fn admit(&mut self, now: Instant, source: IpAddr, user: &str) -> Admission {
        self.forget(now);
        let source = neighbourhood(source);
        let pair = (source, user.to_owned());
        let tally = match self.pairs.get_mut(&pair) {
            Some(tally) if tally.wait_until > now => Some(tally),
            Some(_) | None if self.friends.has(&pair) => None,
            Some(_) | None => self.sources.get_mut(&source).filter(|tally| tally.wait_until > now),
        };
        let Some(tally) = tally else { return Admission::Check };
        tally.refused += 1;
        if tally.refused > REFUSALS_MAX {
            return Admission::Ignore;
        }
        Admission::Wait(tally.wait_until.duration_since(now))
    }

    /// A wrong answer to a good nonce.
    pub(super) fn was_wrong(&mut self, now: Instant, source: IpAddr, user: &str) {
        if self.limits.wrong_max == 0 {
            return;
        }
        let source = neighbourhood(source);
        let guessed = self.users.touch(now, user.to_owned(), 0);
        *guessed += 1;
        let is_hunted = *guessed > self.limits.wrong_max.saturating_mul(HUNTED_AFTER);
        let pair = (source, user.to_owned());
        let free = if is_hunted && !self.friends.has(&pair) { 1 } else { self.limits.wrong_max };
        let fresh = Tally { wrong: 0, wait_until: now, refused: 0 };
        let pair = self.pairs.touch(now, pair, fresh);
        pair.punish(now, free, self.limits.wait_max);
        // A phone with an old password fails for ever; it is one user, and its neighbours are not to suffer.
        if pair.wrong <= self.limits.wrong_max {
            let free = self.limits.wrong_max.saturating_mul(USERS_FREE);
            self.sources.touch(now, source, fresh).punish(now, free, self.limits.wait_max);
        }
    }

    /// A right answer.
    pub(super) fn was_right(&mut self, now: Instant, source: IpAddr, user: &str) {
        let pair = (neighbourhood(source), user.to_owned());
        self.pairs.remove(&pair);
        self.friends.touch(now, pair, ());
    }

    fn forget(&mut self, now: Instant) {
        let (Some(guessed), Some(known)) = (now.checked_sub(FORGET_AFTER), now.checked_sub(KNOWN_FOR)) else { return };
        self.pairs.forget(guessed);
        self.sources.forget(guessed);
        self.users.forget(guessed);
        self.friends.forget(known);
    }
}

/// How many addresses may use up their tries at one user before the next have one each.
const HUNTED_AFTER: u32 = 4;

/// How many users one address may use up its tries at.
const USERS_FREE: u32 = 4;

impl Tally {
    fn punish(&mut self, now: Instant, free: u32, wait_max: Duration) {
        self.wrong = self.wrong.saturating_add(1);
        let Some(beyond) = self.wrong.checked_sub(free.max(1)) else { return };
        let wait = Duration::from_secs(1).saturating_mul(1 << beyond.min(20));
        self.wait_until = now + wait.min(wait_max);
        self.refused = 0;
    }
}

/// A bounded table that lets go of what was touched longest ago.
#[derive(Debug)]
struct Aged<K, V> {
    max: usize,
    values: BTreeMap<K, (Instant, V)>,
    ages: BTreeSet<(Instant, K)>,
}

impl<K: Clone + Ord, V> Aged<K, V> {
    fn new(max: usize) -> Self {
        Self { max, values: BTreeMap::new(), ages: BTreeSet::new() }
    }

    fn has(&self, key: &K) -> bool {
        self.values.contains_key(key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key).map(|(_, value)| value)
    }

    /// The value of a key, made if there is none, as of now.
    fn touch(&mut self, now: Instant, key: K, fresh: V) -> &mut V {
        if let Some((at, _)) = self.values.get(&key) {
            self.ages.remove(&(*at, key.clone()));
        } else if self.values.len() >= self.max
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.ages.insert((now, key.clone()));
        let entry = self.values.entry(key).or_insert((now, fresh));
        entry.0 = now;
        &mut entry.1
    }

    fn remove(&mut self, key: &K) {
        if let Some((at, _)) = self.values.remove(key) {
            self.ages.remove(&(at, key.clone()));
        }
    }

    /// Lets go of what was not touched since.
    fn forget(&mut self, since: Instant) {
        while let Some((at, _)) = self.ages.first() {
            if *at >= since {
                return;
            }
            if let Some((_, key)) = self.ages.pop_first() {
                self.values.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[expect(clippy::disallowed_methods, reason = "any instant will do to turn a clock from")]
    fn start() -> (Guard, Instant) {
        // Far from the clock's beginning, so that what is old can be told.
        (Guard::new(GuessLimits::default()), Instant::now() + Duration::from_hours(100))
    }

    /// Guesses as often and as early as it may for so long. How often that was.
    fn hammer(guard: &mut Guard, now: &mut Instant, source: IpAddr, user: &str, time: Duration) -> usize {
        let until = *now + time;
        let mut guesses = 0;
        while *now < until {
            match guard.admit(*now, source, user) {
                Admission::Check => {
                    guard.was_wrong(*now, source, user);
                    guesses += 1;
                    // A guess takes its time, so that a guard that never says no ends the day too.
                    *now += Duration::from_millis(10);
                }
                Admission::Wait(_) | Admission::Ignore => *now += Duration::from_millis(500),
            }
        }
        guesses
    }

    #[test]
    fn who_guesses_has_a_few_tries_and_then_waits_ever_longer() {
        let (mut guard, mut now) = start();
        assert!(hammer(&mut guard, &mut now, HOME, "desk", Duration::from_mins(1)) <= 11);
        let in_a_day = hammer(&mut guard, &mut now, HOME, "desk", Duration::from_hours(24));
        assert!((250..=300).contains(&in_a_day), "{in_a_day} guesses in a day");
        // It is never locked out for good: the next right password after a wait is taken.
        now += Duration::from_mins(5);
        assert_eq!(guard.admit(now, HOME, "desk"), Admission::Check);
        guard.was_right(now, HOME, "desk");
        guard.was_wrong(now, HOME, "desk");
        assert_eq!(guard.admit(now, HOME, "desk"), Admission::Check, "and its count begins anew");
    }

    #[test]
    fn others_are_not_held_to_it() {
        let (mut guard, mut now) = start();
        guard.was_right(now, HOME, "lobby");
        hammer(&mut guard, &mut now, HOME, "desk", Duration::from_mins(10));
        assert_eq!(guard.admit(now, OTHER, "desk"), Admission::Check, "the user from elsewhere");
        assert_eq!(guard.admit(now, HOME, "kitchen"), Admission::Check, "another user behind the same router");
        // One that tries user after user is stopped, but not those who were let in before.
        for user in 0..40 {
            if guard.admit(now, HOME, &user.to_string()) == Admission::Check {
                guard.was_wrong(now, HOME, &user.to_string());
            }
        }
        assert_ne!(guard.admit(now, HOME, "kitchen"), Admission::Check);
        assert_eq!(guard.admit(now, HOME, "lobby"), Admission::Check);
        now += Duration::from_mins(5);
        assert_eq!(guard.admit(now, HOME, "kitchen"), Admission::Check);
    }

    #[test]
    fn a_phone_with_an_old_password_does_not_use_up_its_neighbours_tries() {
        let (mut guard, mut now) = start();
        hammer(&mut guard, &mut now, HOME, "desk", Duration::from_hours(48));
        assert_eq!(guard.admit(now, HOME, "kitchen"), Admission::Check);
    }

    #[test]
    fn one_user_hunted_from_everywhere_has_one_try_per_address() {
        let (mut guard, now) = start();
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let mut guesses = 0;
        for n in 0..1000 {
            while guard.admit(now, address(n), "desk") == Admission::Check {
                guard.was_wrong(now, address(n), "desk");
                guesses += 1;
            }
        }
        assert!(guesses < 1000 + 20, "{guesses}");
        assert_eq!(guard.admit(now, OTHER, "desk"), Admission::Check, "the right password from elsewhere is looked at");
    }

    #[test]
    fn who_does_not_listen_is_not_spoken_to() {
        let (mut guard, now) = start();
        for _ in 0..5 {
            guard.was_wrong(now, HOME, "desk");
        }
        let answered = (0..100).filter(|_| matches!(guard.admit(now, HOME, "desk"), Admission::Wait(_))).count();
        assert_eq!(answered, REFUSALS_MAX as usize);
    }

    #[test]
    fn a_network_of_ipv6_is_one_neighbour() {
        let (mut guard, now) = start();
        for n in 0..5_u16 {
            guard.was_wrong(now, Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n, 0, 0, 1).into(), "desk");
        }
        let again = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9).into();
        assert!(matches!(guard.admit(now, again, "desk"), Admission::Wait(_)));
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1).into();
        assert_eq!(guard.admit(now, other, "desk"), Admission::Check);
    }

    #[test]
    fn the_tables_are_bounded_and_forget() {
        let (mut guard, now) = start();
        for n in 0..2 * GUESSING_PAIRS_MAX as u32 {
            let source = IpAddr::V4(Ipv4Addr::from_bits(n));
            guard.was_wrong(now + Duration::from_micros(n.into()), source, &n.to_string());
            guard.was_right(now + Duration::from_micros(n.into()), source, &format!("right {n}"));
        }
        assert_eq!(guard.pairs.values.len(), GUESSING_PAIRS_MAX);
        assert_eq!(guard.sources.values.len(), GUESSING_SOURCES_MAX);
        assert_eq!(guard.users.values.len(), GUESSED_USERS_MAX);
        assert_eq!(guard.friends.values.len(), FRIENDS_MAX);
        guard.admit(now + FORGET_AFTER + Duration::from_mins(1), HOME, "desk");
        assert!(guard.pairs.values.is_empty() && guard.pairs.ages.is_empty());
        assert_eq!(guard.friends.values.len(), FRIENDS_MAX);
    }

    #[test]
    fn an_operator_may_let_everybody_guess() {
        let (_, now) = start();
        let mut guard = Guard::new(GuessLimits { wrong_max: 0, ..GuessLimits::default() });
        (0..100).for_each(|_| guard.was_wrong(now, HOME, "desk"));
        assert_eq!(guard.admit(now, HOME, "desk"), Admission::Check);
    }
}
