//! The task around one conference: waits for what comes, for deadlines and for the store, and lets effects go.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use control::{
    Answer, CallId, Command, Conference, ConferenceId, Effect, Input, Principal, Refusal, Signal, Timestamp,
};
use metrics::{counter, histogram};
use store::StoreError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::limits::{MAILBOX_MAX, RESEND_EVERY, RETRY_FIRST, RETRY_LAST, STALE_AFTER, STUCK_FOR};
use crate::mailbox::{Mailbox, Turn};
use crate::peers::Sender;
use crate::registry::{Item, Looked, Reply, Shared, WhenMissing};
use crate::{CommandError, Detail};

/// How a conference came to be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody opens it.
    Command,
    /// An earlier process left it.
    Log,
    /// Its task fell.
    Fall,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    id: ConferenceId,
    mailbox: Mailbox,
    queue: mpsc::Receiver<Item>,
    /// Signals that come before those of the queue: put aside while the store refused, or told to itself.
    kept: VecDeque<Signal>,
    sender: Sender,
    tell_again_at: Instant,
    /// Deadlines count from here on at the earliest.
    not_before: Timestamp,
    /// Everything the index has of this conference.
    calls: Vec<CallId>,
    origin: Origin,
}

impl Drop for Driver {
    /// A fall that no turn has caught costs the conference as well: another task ends it. If that falls too, whoever asks is
    /// told to come back later, nobody waits for it to end, and the next process takes it up.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        tracing::error!(conference = %self.id, "a conference fell");
        match self.origin {
            Origin::Command | Origin::Log => self.shared.end_fallen(self.id),
            Origin::Fall => self.shared.registry.set_aside(self.id),
        }
    }
}

/// What woke the task.
#[expect(clippy::large_enum_variant, reason = "one at a time, handed on at once")]
enum Woken {
    Item(Item),
    Deadline,
    TellAgain,
    Stop,
}

/// Says when dropped that its conference has been taken up, or never will be.
struct TakenUp(Arc<Shared>);

impl Drop for TakenUp {
    fn drop(&mut self) {
        self.0.not_taken_up.send_modify(|left| *left = left.saturating_sub(1));
    }
}

/// Why a turn did not come about.
enum Failed {
    Refused(Refusal),
    /// The store refused: memory was dropped.
    NotWritten,
    /// A fault of ours: memory was dropped.
    Fell,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    /// It was taken, refused, or left to the next process.
    Settled,
    /// It made us fall twice.
    Dropped,
}

/// Why a conference is not in memory.
enum NotLoaded {
    /// The store refuses for now.
    Later,
    /// Its log does not read; it is left as it is.
    Never,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, id: ConferenceId, queue: mpsc::Receiver<Item>, origin: Origin) -> Self {
        let mailbox = match origin {
            Origin::Command => Mailbox::blank(id),
            Origin::Log | Origin::Fall => Mailbox::unknown(id),
        };
        Self {
            shared,
            id,
            mailbox,
            queue,
            kept: VecDeque::new(),
            sender: Sender::default(),
            tell_again_at: Instant::now() + RESEND_EVERY,
            not_before: Timestamp(i64::MIN),
            calls: Vec::new(),
            origin,
        }
    }

    pub(crate) async fn run(mut self) {
        if self.origin == Origin::Log {
            let shared = Arc::clone(&self.shared);
            let _taken_up = TakenUp(Arc::clone(&shared));
            let _permit = shared.taking_up.acquire().await;
            if shared.stopping.is_cancelled() {
                return;
            }
            self.signal(Signal::Restarted).await;
        }
        if self.origin == Origin::Fall && !self.shared.stopping.is_cancelled() {
            self.offer(Signal::Fell).await;
        }
        let mut pause = RETRY_FIRST;
        loop {
            // Also after a refused turn and with nothing to do: deadlines come from what is in memory.
            match self.load().await {
                Ok(()) => pause = RETRY_FIRST,
                Err(NotLoaded::Never) => self.shared.registry.set_aside(self.id),
                Err(NotLoaded::Later) => {
                    if !self.wait_for_the_store(&mut pause).await {
                        return;
                    }
                    continue;
                }
            }
            if self.may_go() {
                return;
            }
            match self.woken().await {
                Woken::Item(Item::Signal(signal)) => self.signal(signal).await,
                Woken::Item(Item::Command { posted, command, reply, .. })
                    if is_new_work(&command) && self.shared.clock.now().since(posted) > STALE_AFTER =>
                {
                    counter!("convoke_commands_stale_total").increment(1);
                    reply_with(reply, Err(CommandError::Unavailable));
                }
                Woken::Item(Item::Command { by, call, command, reply, .. }) => {
                    self.command(by, call, *command, reply).await;
                }
                Woken::Item(Item::Look { by, call, reply }) => self.look(by.as_ref(), call, reply).await,
                Woken::Deadline => self.time_passed().await,
                Woken::TellAgain => self.tell_again(),
                Woken::Stop => return,
            }
        }
    }

    /// Nobody is in, and nothing waits.
    fn may_go(&mut self) -> bool {
        let over = self.mailbox.conference().is_some_and(|conference| !conference.is_open());
        if !over {
            return false;
        }
        self.mailbox.closed();
        self.kept.is_empty() && self.shared.registry.retire(self.id, &self.calls, &self.queue)
    }

    async fn woken(&mut self) -> Woken {
        if let Some(signal) = self.kept.pop_front() {
            return Woken::Item(Item::Signal(signal));
        }
        let conference = self.mailbox.conference();
        let deadline = conference.and_then(Conference::deadline).map(|deadline| deadline.max(self.not_before));
        let owes = conference.is_some_and(|conference| conference.outgoing().next().is_some());
        tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => Woken::Stop,
            () = self.shared.clock.reaches(deadline.unwrap_or_default()), if deadline.is_some() => Woken::Deadline,
            () = tokio::time::sleep_until(self.tell_again_at), if owes => Woken::TellAgain,
            item = self.queue.recv() => item.map_or(Woken::Stop, Woken::Item),
        }
    }

    /// Takes a signal. One that makes us fall twice is lost, and what it said with it: the conference ends.
    async fn signal(&mut self, signal: Signal) {
        if self.offer(signal).await == Offered::Dropped {
            self.offer(Signal::Fell).await;
        }
    }

    /// Offers a signal until it commits.
    async fn offer(&mut self, signal: Signal) -> Offered {
        let told = match &signal {
            Signal::Told { from, number, .. } => Some((*from, *number)),
            _ => None,
        };
        let is_our_fault = matches!(signal, Signal::Fell);
        let input = Input::Signal(signal);
        let mut pause = RETRY_FIRST;
        let mut fell = false;
        loop {
            match self.load().await {
                Ok(()) => {}
                Err(NotLoaded::Never) => return Offered::Settled,
                Err(NotLoaded::Later) => {
                    if !self.wait_for_the_store(&mut pause).await {
                        return Offered::Settled;
                    }
                    continue;
                }
            }
            if let Some((from, number)) = told
                && !self.mailbox.is_open()
            {
                self.answer_peer(from, Signal::Undeliverable { to: self.id, number });
                return Offered::Settled;
            }
            let detail = if fell && is_our_fault { Detail::Ends } else { Detail::Whole };
            match self.turn(&input, detail).await {
                Ok(_) | Err(Failed::Refused(_)) => {
                    if let Some((from, number)) = told {
                        self.answer_peer(from, Signal::Acknowledged { by: self.id, number });
                    }
                    return Offered::Settled;
                }
                Err(Failed::NotWritten) => {
                    if !self.wait_for_the_store(&mut pause).await {
                        return Offered::Settled;
                    }
                }
                Err(Failed::Fell) if !fell => fell = true,
                Err(Failed::Fell) => {
                    tracing::error!(conference = %self.id, "a signal was dropped: it made us fall twice");
                    counter!("convoke_signals_dropped_total").increment(1);
                    if let Some((from, number)) = told {
                        self.answer_peer(from, Signal::Undeliverable { to: self.id, number });
                    }
                    return Offered::Dropped;
                }
            }
        }
    }

    /// Lost answers do not matter: the message comes again.
    fn answer_peer(&self, peer: ConferenceId, answer: Signal) {
        let _ = self.shared.post(peer, Item::Signal(answer), WhenMissing::GiveUp);
    }

    async fn command(&mut self, by: Principal, call: Option<CallId>, command: Command, reply: Reply) {
        if self.load().await.is_err() {
            return reply_with(reply, Err(CommandError::Unavailable));
        }
        let refused = match call {
            Some(call) if !self.owns(&by, call) => Some(CommandError::NoSuchCall),
            None if !self.mailbox.is_open() && self.shared.draining.load(Ordering::Relaxed) => {
                Some(CommandError::Unavailable)
            }
            Some(_) | None => None,
        };
        if let Some(error) = refused {
            return reply_with(reply, Err(error));
        }
        let done = self.turn(&Input::Command(by, command), Detail::Whole).await;
        let result = match (done, self.mailbox.conference()) {
            (Ok((at, answer)), Some(conference)) => Ok((conference, at, answer)),
            (Err(Failed::Refused(Refusal::NoSuchCall)), _) => Err(CommandError::NoSuchCall),
            (Err(Failed::Refused(refusal)), _) => Err(CommandError::Refused(refusal)),
            (Ok(_) | Err(Failed::NotWritten | Failed::Fell), _) => Err(CommandError::Unavailable),
        };
        reply_with(reply, result);
    }

    async fn look(&mut self, by: Option<&Principal>, call: CallId, reply: Looked) {
        let loaded = self.load().await;
        let now = self.shared.clock.now();
        let result = match self.mailbox.conference() {
            Some(conference) if loaded.is_ok() => {
                let seen = match by {
                    Some(by) => self.owns(by, call),
                    None => conference.call(call).is_some(),
                };
                if seen { Ok((conference, now)) } else { Err(CommandError::NoSuchCall) }
            }
            Some(_) | None => Err(CommandError::Unavailable),
        };
        if let Err(fall) = catch_unwind(AssertUnwindSafe(|| reply(result))) {
            fell(self.id, fall.as_ref());
        }
    }

    /// Anyone else's call does not exist (CALL-8).
    fn owns(&self, by: &Principal, call: CallId) -> bool {
        let call = self.mailbox.conference().and_then(|conference| conference.call(call));
        call.is_some_and(|call| call.facts.app == by.app && call.facts.tenant == by.tenant)
    }

    async fn time_passed(&mut self) {
        self.signal(Signal::Time).await;
        let now = self.shared.clock.now();
        // Not in memory after two falls: it will be loaded with the same deadline.
        let stands = self
            .mailbox
            .conference()
            .is_none_or(|conference| conference.deadline().is_some_and(|deadline| deadline <= now));
        if stands {
            tracing::debug!(conference = %self.id, "a deadline has passed and stands");
            self.not_before = now + STUCK_FOR;
        }
    }

    /// Decides, commits, and only then lets go what follows.
    async fn turn(&mut self, input: &Input, detail: Detail) -> Result<(Timestamp, Answer), Failed> {
        counter!("convoke_turns_total").increment(1);
        let now = self.shared.clock.now();
        let (mailbox, render) = (&mut self.mailbox, &self.shared.render);
        let decided = catch_unwind(AssertUnwindSafe(|| {
            mailbox.decide(now, input, |conference, events| render(conference, events, detail))
        }));
        let turn = match decided {
            Ok(Some(Ok(turn))) => turn,
            Ok(Some(Err(refusal))) => return Err(Failed::Refused(refusal)),
            Ok(None) => return Err(Failed::NotWritten),
            Err(fall) => {
                fell(self.id, fall.as_ref());
                self.mailbox.forget();
                return Err(Failed::Fell);
            }
        };
        let Turn { at, commit, effects, answer, placed } = turn;
        if let Some(commit) = commit {
            let begun = Instant::now();
            match self.shared.store.commit(commit).await {
                Ok(committed) => {
                    self.mailbox.committed(committed.position);
                    if let Some(newest) = committed.notices.last() {
                        self.shared.newest_notice.send_if_modified(|known| {
                            let newer = *newest > *known;
                            *known = (*known).max(*newest);
                            newer
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(conference = %self.id, %error, "a turn was not written");
                    counter!("convoke_commits_refused_total").increment(1);
                    self.mailbox.forget();
                    return Err(Failed::NotWritten);
                }
            }
            histogram!("convoke_commit_seconds").record(begun.elapsed().as_secs_f64());
        }
        self.index(placed);
        for effect in effects {
            self.let_go(effect).await;
        }
        Ok((at, answer))
    }

    fn index(&mut self, calls: impl IntoIterator<Item = CallId>) {
        for call in calls {
            self.shared.registry.index(call, self.id);
            self.calls.push(call);
        }
    }

    async fn let_go(&mut self, effect: Effect) {
        if let Effect::Tell { to, number, message } = &effect {
            self.kept.extend(self.sender.tell(&self.shared, self.id, *to, *number, message));
            self.tell_again_at = Instant::now() + RESEND_EVERY;
            return;
        }
        // The switch never waits for us. Once it is gone, or all stops, the next process sees to it.
        tokio::select! {
            biased;
            _ = self.shared.effects.send((self.id, effect)) => {}
            () = self.shared.stopping.cancelled() => {}
        }
    }

    fn tell_again(&mut self) {
        if let Some(conference) = self.mailbox.conference() {
            self.kept.extend(self.sender.tell_again(&self.shared, conference));
        }
        self.tell_again_at = Instant::now() + RESEND_EVERY;
    }

    /// Has the conference in memory as its log has it.
    async fn load(&mut self) -> Result<(), NotLoaded> {
        if self.mailbox.conference().is_some() {
            return Ok(());
        }
        match self.shared.store.load(self.id).await {
            Ok(found) => self.mailbox.loaded(found),
            Err(error @ (StoreError::Unreadable { .. } | StoreError::Corrupt { .. })) => {
                tracing::error!(conference = %self.id, %error, "a conference cannot be taken up; its log is left alone");
                return Err(NotLoaded::Never);
            }
            Err(error) => {
                tracing::warn!(conference = %self.id, %error, "a conference cannot be loaded yet");
                return Err(NotLoaded::Later);
            }
        }
        let calls: Vec<_> =
            self.mailbox.conference().into_iter().flat_map(Conference::calls).map(|call| call.id).collect();
        self.calls.clear();
        self.index(calls);
        // Before anything newer can be said.
        self.tell_again();
        Ok(())
    }

    /// Pauses before the next try. Commands that come meanwhile are unavailable, signals are put aside in order. `false`
    /// when all stops.
    async fn wait_for_the_store(&mut self, pause: &mut Duration) -> bool {
        let until = Instant::now() + *pause;
        *pause = (*pause * 2).min(RETRY_LAST);
        loop {
            let item = tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return false,
                () = tokio::time::sleep_until(until) => return true,
                item = self.queue.recv() => item,
            };
            match item {
                Some(Item::Signal(signal)) if self.kept.len() < MAILBOX_MAX => self.kept.push_back(signal),
                Some(Item::Signal(_)) => counter!("convoke_mailbox_overflow_total").increment(1),
                Some(Item::Command { reply, .. }) => reply_with(reply, Err(CommandError::Unavailable)),
                // What the log says can still be looked at, if it can be read.
                Some(Item::Look { by, call, reply }) => self.look(by.as_ref(), call, reply).await,
                None => return false,
            }
        }
    }
}

/// What rings phones. Commands that end or keep something are carried out, however late.
fn is_new_work(command: &Command) -> bool {
    match command {
        Command::Place { .. } | Command::Join { .. } | Command::Invite { .. } => true,
        Command::Remove { .. } | Command::KeepAlive { .. } | Command::HangUp { .. } => false,
    }
}

/// A reply that makes us fall costs its client an error, and nobody else anything.
fn reply_with(reply: Reply, result: Result<(&Conference, Timestamp, Answer), CommandError>) {
    if let Err(fall) = catch_unwind(AssertUnwindSafe(|| reply(result))) {
        let why = said(fall.as_ref());
        tracing::error!(why, "a reply could not be made");
    }
}

fn fell(conference: ConferenceId, fall: &(dyn Any + Send)) {
    let why = said(fall);
    tracing::error!(%conference, why, "a turn fell");
}

fn said(fall: &(dyn Any + Send)) -> &str {
    let text = fall.downcast_ref::<&str>().copied();
    text.or_else(|| fall.downcast_ref::<String>().map(String::as_str)).unwrap_or("for no stated reason")
}
