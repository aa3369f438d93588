//! Runs conferences: one mailbox each, one turn at a time, and nothing is done before it is written down.
//!
//! A turn takes one command or signal: `control` decides, the store commits the events and the notices they cause, and
//! only then are effects let go and the client answered. If the commit fails, the conference is dropped from memory and
//! loaded again: a command is refused, a signal is kept and offered again. A turn that yields no event commits nothing.
//!
//! A turn that panics is a failed commit, once. A signal that panics twice is lost, so the conference ends: its calls end with
//! [`control::Cause::Internal`]. So it does when its whole task panics. One that cannot even end is left as its log has it.
//!
//! `mailbox.rs` is a turn without the waiting, `driver.rs` the task around it, `registry.rs` finds a conference,
//! `peers.rs` carries messages between conferences, `recovery.rs` takes up what an earlier process left.

mod clock;
mod driver;
mod limits;
mod mailbox;
mod peers;
mod recovery;
mod registry;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use control::{
    Answer, CallId, Command, Conference, ConferenceId, Effect, Event, Principal, Refusal, Signal, Timestamp,
};
use store::{NoticeId, OutgoingNotice, Store, StoreError};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

pub use clock::{Clock, Hand};
use registry::{Item, NotPosted, Shared, WhenMissing};

/// Makes the notices of a turn, from its events and the conference after it.
pub type Render = Arc<dyn Fn(&Conference, &[Event], Detail) -> Vec<OutgoingNotice> + Send + Sync>;

/// How much of a turn is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Whole,
    /// Only the ends of operations and calls, each made of as little as possible: what is left to say when a conference
    /// ends by a fault of ours, and telling the whole is that fault.
    Ends,
}

/// Where a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the conference of a call that the asking application must own.
    Call(CallId),
    /// To a new conference, of this fresh id.
    New(ConferenceId),
    /// To a meeting's conference, which opens if nobody is in it yet.
    Meeting(ConferenceId),
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Unknown, ended, or of another application or tenant (CALL-8).
    #[error("Call not found.")]
    NoSuchCall,
    #[error(transparent)]
    Refused(Refusal),
    /// The store refused, there is too much to do, or the server is about to stop: to be asked again later.
    #[error("The service is temporarily unavailable.")]
    Unavailable,
}

/// All conferences of this server. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Takes up every conference of the log, in the background; a command to one of them waits until it is there.
    pub async fn start(
        store: Arc<dyn Store>,
        render: Render,
        effects: mpsc::Sender<(ConferenceId, Effect)>,
        signals: mpsc::Receiver<(ConferenceId, Signal)>,
    ) -> Result<Self, StoreError> {
        Self::start_by(Clock::running(), store, render, effects, signals).await
    }

    /// The same, by a clock of the caller's.
    pub async fn start_by(
        clock: Clock,
        store: Arc<dyn Store>,
        render: Render,
        effects: mpsc::Sender<(ConferenceId, Effect)>,
        signals: mpsc::Receiver<(ConferenceId, Signal)>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::new(clock, store, render, effects));
        recovery::take_up(&shared).await?;
        shared.tasks.spawn(registry::route(Arc::clone(&shared), signals));
        Ok(Self { shared })
    }

    /// Carries out a command. `render` makes the reply inside the turn, from the state after it, once that is on disk.
    pub async fn command<R: Send + 'static>(
        &self,
        by: &Principal,
        place: Place,
        command: Command,
        render: impl FnOnce(&Conference, Timestamp, Answer) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        let (conference, call, missing) = match place {
            Place::Call(call) => (self.conference_of(call).await?, Some(call), WhenMissing::GiveUp),
            Place::New(conference) | Place::Meeting(conference) => (conference, None, self.may_open()),
        };
        let (answer, answered) = oneshot::channel();
        let reply = move |result: Result<(&Conference, Timestamp, Answer), CommandError>| {
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(result.map(|(conference, at, answer)| render(conference, at, answer)));
        };
        let (by, command, posted) = (by.clone(), Box::new(command), self.now());
        let item = Item::Command { by, call, command, posted, reply: Box::new(reply) };
        let posted = self.shared.post(conference, item, missing);
        posted.map_err(|why| unposted(why, call))?;
        answered.await.unwrap_or(Err(CommandError::Unavailable))
    }

    /// Looks at a conference through a call of the asking application.
    pub async fn read<R: Send + 'static>(
        &self,
        by: &Principal,
        call: CallId,
        render: impl FnOnce(&Conference, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        self.look(Some(by.clone()), call, render).await
    }

    /// Looks at the conference of any call: to resolve a reference, never to answer with what is seen.
    pub async fn peek<R: Send + 'static>(
        &self,
        call: CallId,
        render: impl FnOnce(&Conference, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        self.look(None, call, render).await
    }

    async fn look<R: Send + 'static>(
        &self,
        by: Option<Principal>,
        call: CallId,
        render: impl FnOnce(&Conference, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        let conference = self.conference_of(call).await?;
        let (answer, answered) = oneshot::channel();
        let reply = move |result: Result<(&Conference, Timestamp), CommandError>| {
            let _ = answer.send(result.map(|(conference, at)| render(conference, at)));
        };
        let posted = self.shared.post(conference, Item::Look { by, call, reply: Box::new(reply) }, WhenMissing::GiveUp);
        posted.map_err(|why| unposted(why, Some(call)))?;
        answered.await.unwrap_or(Err(CommandError::Unavailable))
    }

    async fn conference_of(&self, call: CallId) -> Result<ConferenceId, CommandError> {
        if let Some(known) = self.shared.registry.conference_of(call) {
            return Ok(known);
        }
        // Not taken up yet, or ended, or never there.
        match self.shared.store.conference_of(call).await {
            Ok(found) => found.ok_or(CommandError::NoSuchCall),
            Err(error) => {
                tracing::warn!(%call, %error, "a call could not be looked up");
                Err(CommandError::Unavailable)
            }
        }
    }

    fn may_open(&self) -> WhenMissing {
        if self.shared.draining.load(Ordering::Relaxed) { WhenMissing::GiveUp } else { WhenMissing::Open }
    }

    /// The newest notice in the outbox; wakes the courier. At start it is [`NoticeId::NONE`]: read the outbox whole.
    pub fn notices(&self) -> watch::Receiver<NoticeId> {
        self.shared.newest_notice.subscribe()
    }

    /// The engine's clock: never goes back.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Waits until every conference of the log goes on from where it stood, and what is to be done for it has been let
    /// go; those whose log does not read do not count.
    pub async fn taken_up(&self) {
        let mut left = self.shared.not_taken_up.subscribe();
        // The sender lives as long as we do.
        let _ = left.wait_for(|left| *left == 0).await;
    }

    /// How many conferences are live.
    pub fn live(&self) -> usize {
        *self.shared.registry.live().borrow()
    }

    /// Refuses new conferences from here on; those that are there go on.
    pub fn refuse_new(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Ends every conference: operations fail, calls end, phones are hung up.
    pub fn end_all(&self) {
        for conference in self.shared.registry.all() {
            // One that closes by itself meanwhile is not missed.
            let _ = self.shared.post(conference, Item::Signal(Signal::Stopping), WhenMissing::GiveUp);
        }
    }

    /// Refuses new conferences and waits until none is left; `false` if some are after `within`.
    pub async fn drain(&self, within: Duration) -> bool {
        self.refuse_new();
        let mut live = self.shared.registry.live();
        let quiet = live.wait_for(|live| *live == 0);
        tokio::time::timeout(within, quiet).await.is_ok()
    }

    /// Stops all work where it stands, after the turns under way; what is live is taken up by the next process. Commands
    /// are unavailable from here on.
    pub async fn stop(&self) {
        self.refuse_new();
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// A call without its conference has ended; a conference that may not open is refused for now.
fn unposted(why: NotPosted, call: Option<CallId>) -> CommandError {
    match (why, call) {
        (NotPosted::Missing, Some(_)) => CommandError::NoSuchCall,
        (NotPosted::Missing | NotPosted::Full, _) => CommandError::Unavailable,
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("live", &self.live()).finish_non_exhaustive()
    }
}
