//! What is sent next, what is sent again, and what is given up: the order of notifications, decided without a socket.
//!
//! The notices of one call go out one at a time, in order; whoever heads the queue blocks what follows (CALL-3). Calls
//! do not wait for each other, with one exception: a notice may name an operation whose last notice must be settled
//! first. Time and chance come in as arguments.
//!
//! ```text
//!            gate shut               turn comes          2xx
//!   queued ------------> waiting ------------> sent ------------> settled: delivered
//!      |                                       | ^
//!      | a newer whole roster    try again:    | | pause over
//!      v                         5xx, timeout  v |
//!   settled: superseded                     pausing --- too old, or 4xx ---> settled: dead
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use control::{CallId, OperationId, Timestamp};
use store::{NoticeId, PendingNotice, Settled};

/// How patient the courier is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Age at which a notice is not tried again (OQ-9).
    pub retry_for: Duration,
    /// The longest pause between two tries.
    pub backoff_max: Duration,
    /// Notices under way at once to one origin.
    pub origin_max: usize,
}

/// What the world tells the courier.
#[derive(Debug)]
pub enum Input {
    /// Notices of the outbox, in the order of their ids. Those it has seen before are passed over.
    Owed(Vec<PendingNotice>),
    /// How a try ended. Each [`Output::Send`] is answered by exactly one.
    Tried(NoticeId, Attempt),
    /// A deadline has passed.
    Time,
}

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    Answered(u16),
    /// No answer: the connection failed or the time was up. A sentence for the operator.
    Unanswered(String),
    /// It may not be sent at all. A sentence for the operator.
    Forbidden(String),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Output {
    Send(Arc<PendingNotice>),
    Settle(NoticeId, Settled),
}

/// Everything that is owed, and how far each of it is.
#[derive(Debug)]
pub struct Courier {
    patience: Patience,
    chance: u64,
    seen: NoticeId,
    held: usize,
    queues: BTreeMap<CallId, Queue>,
    /// Where notices go, by scheme, host and port.
    lanes: BTreeMap<String, Lane>,
    /// Whose notice each one under way is.
    under_way: BTreeMap<NoticeId, CallId>,
    /// Calls whose head pauses, by the end of the pause.
    pauses: BTreeSet<(Timestamp, CallId)>,
    /// Calls whose head waits for an operation.
    gated: BTreeMap<OperationId, BTreeSet<CallId>>,
    /// Notices that settle an operation and are not settled themselves.
    settling: BTreeMap<OperationId, BTreeSet<NoticeId>>,
    outputs: VecDeque<Output>,
}

/// The notices of one call; the first is its head.
#[derive(Debug, Default)]
struct Queue {
    notices: VecDeque<Queued>,
}

#[derive(Debug)]
struct Queued {
    notice: Arc<PendingNotice>,
    attempts: u32,
}

#[derive(Debug, Default)]
struct Lane {
    under_way: usize,
    ready: VecDeque<CallId>,
}

/// Notices held in memory at once; the rest wait in the outbox. At a few KiB each this stays below half a GiB.
pub const HELD_MAX: usize = 100_000;

/// The first pause between two tries; it doubles from there.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

impl Courier {
    /// `chance` seeds the variation of pauses.
    pub fn new(patience: Patience, chance: u64) -> Self {
        Self {
            patience,
            chance,
            seen: NoticeId::NONE,
            held: 0,
            queues: BTreeMap::new(),
            lanes: BTreeMap::new(),
            under_way: BTreeMap::new(),
            pauses: BTreeSet::new(),
            gated: BTreeMap::new(),
            settling: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input to its consequences, which [`Courier::poll_output`] then gives out.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Owed(notices) => notices.into_iter().for_each(|notice| self.enqueue(notice)),
            Input::Tried(id, attempt) => self.tried(now, id, attempt),
            Input::Time => {}
        }
        while let Some(&(until, call)) = self.pauses.first() {
            if until > now {
                break;
            }
            self.pauses.pop_first();
            self.look_at_head(call);
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.pauses.first().map(|(until, _)| *until)
    }

    /// The newest notice it was given: the outbox is read on from there.
    pub fn seen(&self) -> NoticeId {
        self.seen
    }

    /// How many more notices it can hold.
    pub fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.held)
    }

    /// How many notices are not settled.
    pub fn held(&self) -> usize {
        self.held
    }

    fn enqueue(&mut self, notice: PendingNotice) {
        if notice.id <= self.seen {
            return;
        }
        self.seen = notice.id;
        self.held += 1;
        if let Some(operation) = notice.notice.settles {
            self.settling.entry(operation).or_default().insert(notice.id);
        }
        let call = notice.notice.call;
        let queue = self.queues.entry(call).or_default();
        let (notice, was_empty) = (Arc::new(notice), queue.notices.is_empty());
        if let Some(older) = queue.superseded_by(&notice) {
            let superseded = std::mem::replace(&mut queue.notices[older].notice, notice);
            self.held -= 1;
            self.outputs.push_back(Output::Settle(superseded.id, Settled::Superseded));
            return;
        }
        queue.notices.push_back(Queued { notice, attempts: 0 });
        if was_empty {
            self.look_at_head(call);
        }
    }

    /// Finds out what the head of a queue waits for, and lets it go if that is nothing.
    fn look_at_head(&mut self, call: CallId) {
        let Some(queue) = self.queues.get(&call) else { return };
        let Some(first) = queue.notices.front() else {
            self.queues.remove(&call);
            return;
        };
        if let Some(operation) = first.notice.notice.after
            && self.settling.get(&operation).is_some_and(|settling| settling.first() < Some(&first.notice.id))
        {
            // Only ever for an older notice: so the oldest of all never waits, and no two wait for each other.
            self.gated.entry(operation).or_default().insert(call);
            return;
        }
        let origin = origin(&first.notice.notice.callback).to_owned();
        self.lanes.entry(origin.clone()).or_default().ready.push_back(call);
        self.let_go(&origin);
    }

    /// Sends what is ready in a lane, as far as there is room.
    fn let_go(&mut self, origin: &str) {
        let Some(lane) = self.lanes.get_mut(origin) else { return };
        while lane.under_way < self.patience.origin_max
            && let Some(call) = lane.ready.pop_front()
        {
            let Some(queue) = self.queues.get_mut(&call) else { continue };
            let Some(first) = queue.notices.front_mut() else { continue };
            first.attempts = first.attempts.saturating_add(1);
            lane.under_way += 1;
            self.under_way.insert(first.notice.id, call);
            self.outputs.push_back(Output::Send(first.notice.clone()));
        }
        if lane.under_way == 0 && lane.ready.is_empty() {
            self.lanes.remove(origin);
        }
    }

    fn tried(&mut self, now: Timestamp, id: NoticeId, attempt: Attempt) {
        let Some(call) = self.under_way.remove(&id) else { return };
        let Some(first) = self.queues.get(&call).and_then(|queue| queue.notices.front()) else { return };
        let (notice, attempts) = (first.notice.clone(), first.attempts);
        let origin = origin(&notice.notice.callback).to_owned();
        if let Some(lane) = self.lanes.get_mut(&origin) {
            lane.under_way -= 1;
        }
        match verdict(attempt) {
            Verdict::Delivered => self.settle(call, &notice, Settled::Delivered),
            Verdict::GiveUp { status, reason } => {
                self.settle(call, &notice, Settled::Dead { status, reason, attempts });
            }
            Verdict::TryAgain { status, reason } => {
                let give_up_at = notice.created + self.patience.retry_for;
                if now >= give_up_at {
                    self.settle(call, &notice, Settled::Dead { status, reason, attempts });
                } else {
                    // The last try falls on the end of its time, not past it.
                    let until = (now + self.pause(attempts)).min(give_up_at);
                    self.pauses.insert((until, call));
                }
            }
        }
        self.let_go(&origin);
    }

    fn settle(&mut self, call: CallId, notice: &PendingNotice, settled: Settled) {
        self.outputs.push_back(Output::Settle(notice.id, settled));
        self.held -= 1;
        if let Some(queue) = self.queues.get_mut(&call) {
            queue.notices.pop_front();
        }
        self.look_at_head(call);
        let Some(operation) = notice.notice.settles else { return };
        if let Some(settling) = self.settling.get_mut(&operation) {
            settling.remove(&notice.id);
            if settling.is_empty() {
                self.settling.remove(&operation);
            }
        }
        for waiting in self.gated.remove(&operation).unwrap_or_default() {
            self.look_at_head(waiting);
        }
    }

    /// 1, 2, 4 … seconds up to the longest, each between three and five quarters of that.
    fn pause(&mut self, attempts: u32) -> Duration {
        let whole =
            BACKOFF_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(self.patience.backoff_max);
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let part = 0.75 + 0.5 * (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        whole.mul_f64(part).min(self.patience.backoff_max)
    }
}

impl Queue {
    /// Which queued whole roster a new notice takes the place of, by its index: only the one right before it, and only
    /// if that was never sent.
    fn superseded_by(&self, newer: &PendingNotice) -> Option<usize> {
        let last = self.notices.len().checked_sub(1)?;
        let older = &self.notices[last];
        let (one, other) = (&older.notice.notice, &newer.notice);
        let sent = older.attempts > 0;
        let plain = |notice: &store::OutgoingNotice| {
            notice.full_roster && notice.after.is_none() && notice.settles.is_none() && !notice.ends_call
        };
        (!sent && plain(one) && plain(other) && one.callback == other.callback).then_some(last)
    }
}

/// What an ended try means for its notice (OQ-9).
enum Verdict {
    Delivered,
    TryAgain { status: Option<u16>, reason: String },
    GiveUp { status: Option<u16>, reason: String },
}

fn verdict(attempt: Attempt) -> Verdict {
    match attempt {
        Attempt::Answered(200..=299) => Verdict::Delivered,
        Attempt::Answered(status @ (408 | 429 | 500..=599)) => {
            Verdict::TryAgain { status: Some(status), reason: format!("the webhook answered {status} until the end") }
        }
        Attempt::Answered(status @ (401 | 403)) => Verdict::GiveUp {
            status: Some(status),
            reason: format!("the webhook answered {status}: it did not accept our token"),
        },
        Attempt::Answered(status @ 300..=399) => Verdict::GiveUp {
            status: Some(status),
            reason: format!("the webhook answered {status}: redirects are followed within its own host only"),
        },
        Attempt::Answered(status) => {
            Verdict::GiveUp { status: Some(status), reason: format!("the webhook answered {status}") }
        }
        Attempt::Unanswered(reason) => Verdict::TryAgain { status: None, reason },
        Attempt::Forbidden(reason) => Verdict::GiveUp { status: None, reason },
    }
}

/// Scheme, host and port: everything before the path.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use control::{AppId, ChainId, ScenarioId, TenantId};
    use store::OutgoingNotice;
    use uuid::Uuid;

    use super::*;

    const PATIENCE: Patience =
        Patience { retry_for: Duration::from_mins(10), backoff_max: Duration::from_secs(30), origin_max: 4 };

    #[derive(Clone, Copy)]
    enum Kind {
        Plain,
        Roster,
        Settles(u128),
        After(u128),
    }

    fn notice(id: i64, call: u128, kind: Kind) -> PendingNotice {
        let notice = OutgoingNotice {
            call: CallId(Uuid::from_u128(call)),
            app: AppId(Uuid::nil()),
            tenant: TenantId(Uuid::nil()),
            callback: "https://bot.example:9443/api/calls?webInstanceId=local".to_owned(),
            scenario: ScenarioId(Uuid::nil()),
            chain: ChainId(Uuid::nil()),
            body: "{}".to_owned(),
            after: None,
            settles: None,
            full_roster: matches!(kind, Kind::Roster),
            ends_call: false,
        };
        let operation = |number| Some(OperationId(Uuid::from_u128(number)));
        let notice = match kind {
            Kind::Plain | Kind::Roster => notice,
            Kind::Settles(number) => OutgoingNotice { settles: operation(number), ..notice },
            Kind::After(number) => OutgoingNotice { after: operation(number), ..notice },
        };
        PendingNotice {
            id: NoticeId(id),
            message_id: Uuid::from_u128(id as u128),
            created: Timestamp::default(),
            notice,
        }
    }

    /// A courier, its clock, and what it did.
    struct Bench {
        courier: Courier,
        now: Timestamp,
        done: Vec<String>,
    }

    impl Bench {
        fn with(notices: Vec<PendingNotice>) -> Self {
            let mut bench = Self { courier: Courier::new(PATIENCE, 7), now: Timestamp::default(), done: Vec::new() };
            bench.does(Input::Owed(notices));
            bench
        }

        fn does(&mut self, input: Input) {
            self.courier.handle(self.now, input);
            while let Some(output) = self.courier.poll_output() {
                self.done.push(match output {
                    Output::Send(notice) => format!("send {}", notice.id),
                    Output::Settle(id, Settled::Delivered) => format!("{id} delivered"),
                    Output::Settle(id, Settled::Superseded) => format!("{id} superseded"),
                    Output::Settle(id, Settled::Dead { reason, attempts, .. }) => {
                        format!("{id} dead after {attempts}: {reason}")
                    }
                });
            }
        }

        fn tried(&mut self, id: i64, status: u16) -> &mut Self {
            self.does(Input::Tried(NoticeId(id), Attempt::Answered(status)));
            self
        }

        /// Turns the clock to the next deadline; says how far that was.
        fn wait(&mut self) -> Duration {
            let deadline = self.courier.deadline().unwrap();
            let span = deadline.since(self.now);
            self.now = deadline;
            self.does(Input::Time);
            span
        }

        fn take(&mut self) -> Vec<String> {
            std::mem::take(&mut self.done)
        }
    }

    #[test]
    fn the_notices_of_a_call_go_out_one_at_a_time_and_calls_do_not_wait_for_each_other() {
        // CALL-3
        let mut bench =
            Bench::with(vec![notice(1, 1, Kind::Plain), notice(2, 1, Kind::Plain), notice(3, 2, Kind::Plain)]);
        assert_eq!(bench.take(), ["send 1", "send 3"]);
        bench.tried(1, 503);
        assert_eq!(bench.take(), Vec::<String>::new(), "the head blocks what follows");
        bench.tried(3, 202);
        assert_eq!(bench.take(), ["3 delivered"]);
        bench.wait();
        bench.tried(1, 204);
        assert_eq!(bench.take(), ["send 1", "1 delivered", "send 2"]);
        bench.tried(2, 200);
        assert_eq!(bench.take(), ["2 delivered"]);
        assert_eq!((bench.courier.held(), bench.courier.deadline()), (0, None));
        assert!(bench.courier.queues.is_empty() && bench.courier.lanes.is_empty());
    }

    #[test]
    fn a_notice_that_waits_for_an_operation_goes_out_once_that_is_answered_or_given_up() {
        // INV-16, CALL-3: the old call's `deleted` follows the new call's operation.
        for status in [200, 404] {
            let mut bench = Bench::with(vec![
                notice(1, 1, Kind::Plain),
                notice(2, 1, Kind::Settles(9)),
                notice(3, 2, Kind::After(9)),
            ]);
            assert_eq!(bench.take(), ["send 1"]);
            bench.tried(1, 200);
            assert_eq!(bench.take(), ["1 delivered", "send 2"]);
            bench.tried(2, 500);
            assert_eq!(bench.take(), Vec::<String>::new());
            bench.wait();
            bench.take();
            bench.tried(2, status);
            assert_eq!(bench.take().last().unwrap(), "send 3");
        }
        let mut settled_before_the_start = Bench::with(vec![notice(3, 2, Kind::After(9))]);
        assert_eq!(settled_before_the_start.take(), ["send 3"]);
    }

    #[test]
    fn a_whole_roster_that_was_not_sent_gives_way_to_the_next_one() {
        let mut bench = Bench::with(vec![
            notice(1, 1, Kind::Roster),
            notice(2, 1, Kind::Roster),
            notice(3, 1, Kind::Roster),
            notice(4, 1, Kind::Plain),
            notice(5, 1, Kind::Roster),
        ]);
        assert_eq!(bench.take(), ["send 1", "2 superseded"], "what is under way stays, and so does the order");
        bench.tried(1, 200).tried(3, 200).tried(4, 200).tried(5, 200);
        assert_eq!(
            bench.take(),
            ["1 delivered", "send 3", "3 delivered", "send 4", "4 delivered", "send 5", "5 delivered"]
        );
    }

    #[test]
    fn what_fails_is_tried_again_with_growing_pauses_for_ten_minutes() {
        // OQ-9
        let mut bench = Bench::with(vec![notice(1, 1, Kind::Plain)]);
        let mut pauses = Vec::new();
        for status in [500, 503, 408, 429].into_iter().cycle() {
            bench.tried(1, status);
            if bench.courier.deadline().is_none() {
                break;
            }
            pauses.push(bench.wait());
        }
        for (pause, whole) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30]) {
            let whole = Duration::from_secs(whole);
            assert!(*pause >= whole.mul_f64(0.75) && *pause <= whole.mul_f64(1.25), "{pauses:?}");
            assert!(*pause <= PATIENCE.backoff_max, "{pauses:?}");
        }
        assert_eq!(pauses.iter().sum::<Duration>(), PATIENCE.retry_for, "the last try falls on the end");
        let last = bench.take().pop().unwrap();
        assert!(last.starts_with(&format!("1 dead after {}: the webhook answered ", pauses.len() + 1)), "{last}");
    }

    #[test]
    fn a_notice_that_is_too_old_when_its_turn_comes_gets_one_try() {
        // OQ-9
        let mut bench = Bench::with(Vec::new());
        bench.now = Timestamp::default() + Duration::from_hours(1);
        bench.does(Input::Owed(vec![notice(1, 1, Kind::Plain), notice(2, 1, Kind::Plain)]));
        bench.does(Input::Tried(NoticeId(1), Attempt::Unanswered("no answer within 10s".to_owned())));
        bench.tried(2, 202);
        assert_eq!(bench.take(), ["send 1", "1 dead after 1: no answer within 10s", "send 2", "2 delivered"]);
    }

    #[test]
    fn an_answer_that_another_try_would_not_change_is_final() {
        // OQ-9: no retry on other 4xx; nothing is dropped silently.
        for status in [302, 400, 401, 403, 404, 410] {
            let mut bench = Bench::with(vec![notice(1, 1, Kind::Plain)]);
            bench.tried(1, status);
            let done = bench.take();
            assert!(done[1].starts_with(&format!("1 dead after 1: the webhook answered {status}")), "{done:?}");
        }
    }

    #[test]
    fn a_slow_host_does_not_get_more_than_its_share() {
        let mut bench = Bench::with((1..=6).map(|id| notice(id, id as u128, Kind::Plain)).collect());
        assert_eq!(bench.take(), ["send 1", "send 2", "send 3", "send 4"]);
        bench.tried(2, 500);
        assert_eq!(bench.take(), ["send 5"], "a pause gives its place to the next");
        let other = PendingNotice { id: NoticeId(7), ..notice(7, 7, Kind::Plain) };
        let mut other = other;
        other.notice.callback = "https://other.example".to_owned();
        bench.does(Input::Owed(vec![other]));
        assert_eq!(bench.take(), ["send 7"]);
    }

    #[test]
    fn an_origin_is_what_stands_before_the_path() {
        assert_eq!(origin("https://a.example:9443/x?y=https://b"), "https://a.example:9443");
        assert_eq!(origin("https://a.example?x"), "https://a.example");
        assert_eq!(origin("nonsense"), "nonsense");
    }

    /// A world of bad webhooks. Panics when a law is broken; a failing seed says so.
    fn random_run(seed: u64) {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut courier = Courier::new(Patience { origin_max: 3, ..PATIENCE }, seed);
        let mut now = Timestamp::default();
        let mut all: BTreeMap<i64, PendingNotice> = BTreeMap::new();
        let mut under_way: BTreeMap<i64, CallId> = BTreeMap::new();
        let mut sent: BTreeSet<i64> = BTreeSet::new();
        let mut settled: BTreeMap<i64, Settled> = BTreeMap::new();
        let (mut next, mut steps) = (1, 0);
        while next <= 120 || courier.held() > 0 {
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: it never ends");
            match roll(3) {
                0 if next <= 120 => {
                    let owed: Vec<_> = (0..=roll(3))
                        .map(|_| {
                            let kind = match roll(6) {
                                0 => Kind::Settles(next as u128),
                                1 => Kind::After(1 + u128::from(roll(next as u64))),
                                2..4 => Kind::Roster,
                                _ => Kind::Plain,
                            };
                            let mut notice = notice(next, u128::from(roll(5)), kind);
                            notice.created = now;
                            all.insert(next, notice.clone());
                            next += 1;
                            notice
                        })
                        .collect();
                    courier.handle(now, Input::Owed(owed));
                }
                1 if !under_way.is_empty() => {
                    let id = *under_way.keys().nth(roll(under_way.len() as u64) as usize).unwrap();
                    under_way.remove(&id);
                    let attempt = match roll(6) {
                        0 => Attempt::Answered(503),
                        1 => Attempt::Unanswered("gone".to_owned()),
                        2 => Attempt::Answered(404),
                        _ => Attempt::Answered(202),
                    };
                    courier.handle(now, Input::Tried(NoticeId(id), attempt));
                }
                _ => {
                    now = now + Duration::from_millis(roll(90_000));
                    courier.handle(now, Input::Time);
                }
            }
            while let Some(output) = courier.poll_output() {
                match output {
                    Output::Send(notice) => {
                        let (id, call) = (notice.id.0, notice.notice.call);
                        assert!(!settled.contains_key(&id), "seed {seed}: {id} was settled");
                        assert!(!under_way.values().any(|each| *each == call), "seed {seed}: two of one call");
                        let before = all.values().filter(|each| each.notice.call == call && each.id.0 < id);
                        before.for_each(|each| {
                            assert!(settled.contains_key(&each.id.0), "seed {seed}: {id} overtook {}", each.id);
                        });
                        let gate = all.values().filter(|each| {
                            notice.notice.after.is_some()
                                && each.notice.settles == notice.notice.after
                                && each.id.0 < id
                        });
                        gate.for_each(|each| {
                            assert!(settled.contains_key(&each.id.0), "seed {seed}: {id} did not wait for {}", each.id);
                        });
                        under_way.insert(id, call);
                        sent.insert(id);
                    }
                    Output::Settle(id, end) => {
                        let notice = &all[&id.0];
                        match &end {
                            Settled::Superseded => {
                                assert!(!sent.contains(&id.0), "seed {seed}: {id} was sent");
                                let follower = all
                                    .values()
                                    .find(|each| each.notice.call == notice.notice.call && each.id > id)
                                    .unwrap();
                                assert!(notice.notice.full_roster && follower.notice.full_roster, "seed {seed}");
                            }
                            Settled::Dead { status, .. } => {
                                assert!(
                                    *status == Some(404) || now.since(notice.created) >= PATIENCE.retry_for,
                                    "seed {seed}: {id} was given up early"
                                );
                            }
                            Settled::Delivered => {}
                        }
                        assert!(settled.insert(id.0, end).is_none(), "seed {seed}: {id} was settled twice");
                    }
                }
            }
            let of_origin = under_way.len();
            assert!(of_origin <= 3, "seed {seed}: {of_origin} under way");
        }
        assert_eq!(settled.len(), all.len(), "seed {seed}: something was lost");
        assert!(courier.queues.is_empty() && courier.lanes.is_empty() && courier.gated.is_empty(), "seed {seed}");
        assert!(courier.settling.is_empty() && courier.under_way.is_empty() && courier.pauses.is_empty());
    }

    #[test]
    fn whatever_webhooks_do_order_is_kept_and_everything_ends_once() {
        // CALL-3, OQ-9
        (0..500).for_each(random_run);
    }
}
