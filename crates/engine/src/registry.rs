//! Where each conference is: its mailbox's queue, and the index of calls.
//!
//! Everything is posted under the registry's lock, which is never held across an await; so a conference that finds its
//! queue empty under that lock can go without missing anything.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::{
    Answer, CallId, Cause, Command, Conference, ConferenceId, Effect, LegAction, LegNews, Principal, Signal, Timestamp,
};
use metrics::{counter, gauge};
use store::{NoticeId, Store};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::driver::{Driver, Origin};
use crate::limits::{COMMANDS_MAX, MAILBOX_MAX, TAKEN_UP_AT_ONCE};
use crate::{Clock, CommandError, Render};

/// What all conferences of an engine share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) render: Render,
    pub(crate) effects: mpsc::Sender<(ConferenceId, Effect)>,
    pub(crate) registry: Registry,
    pub(crate) newest_notice: watch::Sender<NoticeId>,
    /// No new conferences.
    pub(crate) draining: AtomicBool,
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Bounds how many logs are read at once when taking up.
    pub(crate) taking_up: Semaphore,
    /// Conferences of the log that have not been told of the restart yet.
    pub(crate) not_taken_up: watch::Sender<usize>,
}

/// What is put into a mailbox.
pub(crate) enum Item {
    Signal(Signal),
    Command {
        by: Principal,
        /// The call that `by` must own, unless the command opens or joins.
        call: Option<CallId>,
        command: Box<Command>,
        posted: Timestamp,
        reply: Reply,
    },
    Look {
        by: Option<Principal>,
        call: CallId,
        reply: Looked,
    },
}

pub(crate) type Reply = Box<dyn FnOnce(Result<(&Conference, Timestamp, Answer), CommandError>) + Send>;
pub(crate) type Looked = Box<dyn FnOnce(Result<(&Conference, Timestamp), CommandError>) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenMissing {
    Open,
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotPosted {
    /// There is no such conference.
    Missing,
    /// Too much waits for it already.
    Full,
}

impl Shared {
    pub(crate) fn new(
        clock: Clock,
        store: Arc<dyn Store>,
        render: Render,
        effects: mpsc::Sender<(ConferenceId, Effect)>,
    ) -> Self {
        Self {
            clock,
            store,
            render,
            effects,
            registry: Registry::default(),
            newest_notice: watch::Sender::new(NoticeId::NONE),
            draining: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            taking_up: Semaphore::new(TAKEN_UP_AT_ONCE),
            not_taken_up: watch::Sender::new(0),
        }
    }

    /// Puts something into a conference's mailbox.
    pub(crate) fn post(self: &Arc<Self>, id: ConferenceId, item: Item, missing: WhenMissing) -> Result<(), NotPosted> {
        let mut mailboxes = self.registry.lock();
        if !mailboxes.queues.contains_key(&id) {
            if missing == WhenMissing::GiveUp || self.stopping.is_cancelled() {
                return Err(NotPosted::Missing);
            }
            self.open(&mut mailboxes, id, Origin::Command);
        }
        let queue = mailboxes.queues.get(&id).ok_or(NotPosted::Missing)?;
        let waiting = queue.max_capacity() - queue.capacity();
        let room = match item {
            Item::Signal(_) => true,
            Item::Command { .. } | Item::Look { .. } => waiting < COMMANDS_MAX,
        };
        if room && queue.try_send(item).is_ok() {
            return Ok(());
        }
        counter!("convoke_mailbox_overflow_total").increment(1);
        Err(NotPosted::Full)
    }

    /// Makes room for a conference that the log knows, unless it is there already.
    pub(crate) fn take_up(self: &Arc<Self>, id: ConferenceId) {
        let mut mailboxes = self.registry.lock();
        if !mailboxes.queues.contains_key(&id) {
            self.not_taken_up.send_modify(|left| *left += 1);
            self.open(&mut mailboxes, id, Origin::Log);
        }
    }

    /// Gives a conference whose task has fallen another one, which ends it. What waited for the first is lost with it.
    pub(crate) fn end_fallen(self: &Arc<Self>, id: ConferenceId) {
        let (queue, items) = mpsc::channel(MAILBOX_MAX);
        self.registry.lock().queues.insert(id, queue);
        let driver = Driver::new(Arc::clone(self), id, items, Origin::Fall);
        // Not under the lock: where there is no runtime any more the driver falls at once, and takes the lock itself.
        if let Ok(runtime) = Handle::try_current() {
            self.tasks.spawn_on(driver.run(), &runtime);
        }
    }

    fn open(self: &Arc<Self>, mailboxes: &mut Mailboxes, id: ConferenceId, origin: Origin) {
        let (queue, items) = mpsc::channel(MAILBOX_MAX);
        mailboxes.queues.insert(id, queue);
        self.registry.count(mailboxes);
        self.tasks.spawn(Driver::new(Arc::clone(self), id, items, origin).run());
    }
}

pub(crate) struct Registry {
    mailboxes: Mutex<Mailboxes>,
    live: watch::Sender<usize>,
}

#[derive(Default)]
pub(crate) struct Mailboxes {
    queues: HashMap<ConferenceId, mpsc::Sender<Item>>,
    calls: HashMap<CallId, ConferenceId>,
    /// Those whose log does not read, or whose task fell: not live, and not to be opened anew either.
    unreadable: HashSet<ConferenceId>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { mailboxes: Mutex::default(), live: watch::Sender::new(0) }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Mailboxes> {
        // Nothing that could fall halfway is done under the lock.
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, mailboxes: &Mailboxes) {
        let live = mailboxes.queues.len() - mailboxes.unreadable.len();
        self.live.send_replace(live);
        gauge!("convoke_conferences_live").set(live as f64);
    }

    pub(crate) fn live(&self) -> watch::Receiver<usize> {
        self.live.subscribe()
    }

    pub(crate) fn all(&self) -> Vec<ConferenceId> {
        let mut all: Vec<_> = self.lock().queues.keys().copied().collect();
        // In an order that does not depend on the hash.
        all.sort_unstable();
        all
    }

    pub(crate) fn conference_of(&self, call: CallId) -> Option<ConferenceId> {
        self.lock().calls.get(&call).copied()
    }

    pub(crate) fn index(&self, call: CallId, conference: ConferenceId) {
        self.lock().calls.insert(call, conference);
    }

    /// Nobody waits for this conference to end: it cannot.
    pub(crate) fn set_aside(&self, id: ConferenceId) {
        let mut mailboxes = self.lock();
        mailboxes.unreadable.insert(id);
        self.count(&mailboxes);
    }

    /// Takes a conference out if nothing waits for it; `false` if something does.
    pub(crate) fn retire(&self, id: ConferenceId, calls: &[CallId], queue: &mpsc::Receiver<Item>) -> bool {
        let mut mailboxes = self.lock();
        if !queue.is_empty() {
            return false;
        }
        mailboxes.queues.remove(&id);
        mailboxes.unreadable.remove(&id);
        for call in calls {
            mailboxes.calls.remove(call);
        }
        self.count(&mailboxes);
        true
    }
}

/// Takes the switch's signals to their conferences. It never waits for a conference, so that the switch never waits for
/// the engine while the engine waits for the switch.
pub(crate) async fn route(shared: Arc<Shared>, mut signals: mpsc::Receiver<(ConferenceId, Signal)>) {
    loop {
        let signal = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            signal = signals.recv() => signal,
        };
        let Some((conference, signal)) = signal else { return };
        let stray = match &signal {
            Signal::Leg(leg, LegNews::Connected(snapshot)) => Some((*leg, snapshot.clone())),
            _ => None,
        };
        match shared.post(conference, Item::Signal(signal), WhenMissing::GiveUp) {
            Ok(()) => {}
            Err(NotPosted::Full) => tracing::warn!(%conference, "a signal was lost: too many wait already"),
            Err(NotPosted::Missing) => {
                // Somebody talks in a conference that no log has: hung up, as nobody else will.
                let Some((leg, snapshot)) = stray else { continue };
                let action = LegAction::HangUp { cause: Cause::Internal, snapshot: Some(snapshot), target: None };
                if shared.effects.try_send((conference, Effect::Leg(leg, action))).is_err() {
                    tracing::warn!(%conference, %leg, "a stray leg was not hung up: the switch is behind");
                }
            }
        }
    }
}
