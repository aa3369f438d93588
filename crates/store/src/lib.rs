//! Remembers: the log of each conference, the notices that are owed, the directory, meetings, registrations and keys.
//!
//! [`Store`] is the whole of it; [`sqlite::Sqlite`] is the one behind it. What is committed is on disk when the call
//! returns. The log is right and memory may be wrong: whoever gets an error from [`Store::commit`] drops what it
//! believed and [`Store::load`]s again. SQL stops here.

mod binding;
mod directory;
mod error;
mod key;
pub mod limits;
mod log;
mod meeting;
mod outbox;
mod process;
mod retention;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use control::{AppId, CallId, ConferenceId, TenantId, Timestamp, UserId};

pub use binding::Binding;
pub use directory::{App, Change, Directory, DirectoryKey, DirectorySet, SipAccount, Tenant, Trunk, User, Verb};
pub use error::StoreError;
pub use key::{Purpose, SigningKey};
pub use log::{Commit, Committed, Loaded, SNAPSHOT_EVERY, wants_snapshot};
pub use meeting::{Meeting, MeetingKey, Obtained};
pub use outbox::{DeadLetter, Fate, NoticeId, OutgoingNotice, PendingNotice, Settled};
pub use process::{PROCESSES_APART, process_after};
pub use retention::{Keep, Swept};

/// Everything that outlives the process.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// How long what it is asked to write waits for its turn, beyond what it waits anyway to share a sync: zero while it
    /// keeps up.
    fn behind(&self) -> Duration {
        Duration::ZERO
    }

    // Conferences.

    /// Writes down a turn: its events, its notices, and the index of its calls, in one transaction. A refused commit
    /// leaves nothing behind.
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError>;

    /// A live conference as its log has it; `None` when there is none, also after it has closed.
    async fn load(&self, conference: ConferenceId) -> Result<Option<Loaded>, StoreError>;

    /// Every conference that has not closed, in order of id.
    async fn live_conferences(&self) -> Result<Vec<ConferenceId>, StoreError>;

    /// The live conference that a call belongs or belonged to.
    async fn conference_of(&self, call: CallId) -> Result<Option<ConferenceId>, StoreError>;

    // The outbox.

    /// Notices that are neither delivered nor given up, after `after`, at most `limit` of them, oldest first.
    ///
    /// At start, `after` is [`NoticeId::NONE`]. Ids grow in the order of commits and are never used again.
    async fn pending(&self, after: NoticeId, limit: usize) -> Result<Vec<PendingNotice>, StoreError>;

    /// Notes what became of notices; those that are unknown or settled already are passed over. May take a few
    /// milliseconds longer than its disk needs, so that it shares an fsync with turns.
    async fn settle(&self, at: Timestamp, settled: Vec<(NoticeId, Settled)>) -> Result<(), StoreError>;

    /// What was given up, newest first, of one application or of all, whatever became of it since.
    async fn dead_letters(&self, app: Option<AppId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// One of them.
    async fn dead_letter(&self, id: NoticeId) -> Result<Option<DeadLetter>, StoreError>;

    /// The ids of dead letters that [`Store::revive`] would put back, after `after`, in their order, of one application or
    /// of all.
    async fn given_up(&self, app: Option<AppId>, after: NoticeId, limit: usize) -> Result<Vec<NoticeId>, StoreError>;

    /// Puts dead letters back into the outbox, in the order of their ids whichever way they are given, as new notices that
    /// wait for nothing, with the message ids they had. Those that are unknown, on their way or delivered are passed over.
    /// Answers how many were put back.
    async fn revive(&self, at: Timestamp, dead: Vec<NoticeId>) -> Result<usize, StoreError>;

    // Upkeep.

    /// Deletes a little of what was kept long enough, and gives a little space back. May take a few milliseconds longer
    /// than its disk needs, so that it shares an fsync with turns.
    async fn sweep(&self, now: Timestamp, keep: Keep) -> Result<Swept, StoreError>;

    // The directory.

    /// Changes with every change of the directory, by whichever process. Cheap: made to be polled.
    async fn directory_version(&self) -> Result<i64, StoreError>;

    /// The whole directory.
    async fn directory(&self) -> Result<Directory, StoreError>;

    /// Creates and updates what `set` holds and, if `prune`, deletes everything else, all or nothing.
    async fn apply(&self, set: DirectorySet, prune: bool) -> Result<Vec<Change>, StoreError>;

    /// Deletes one entry; `false` if there was none. A tenant that still has applications or users stays, with an error.
    async fn delete(&self, key: DirectoryKey) -> Result<bool, StoreError>;

    // Meetings.

    /// Fails with [`StoreError::Taken`] when an id, thread, join id or VTC id is taken.
    async fn create_meeting(&self, meeting: Meeting) -> Result<(), StoreError>;

    /// The organizer's meeting with the same `external_id`, or else this one, created.
    async fn create_or_get_meeting(&self, meeting: Meeting) -> Result<Obtained, StoreError>;

    /// Replaces a meeting; `false` if there is none with its id.
    async fn update_meeting(&self, meeting: Meeting) -> Result<bool, StoreError>;

    async fn delete_meeting(&self, id: ConferenceId) -> Result<bool, StoreError>;

    async fn meeting(&self, key: MeetingKey) -> Result<Option<Meeting>, StoreError>;

    /// The meetings of an organizer (`None`: those without one), newest first.
    async fn meetings_of(
        &self,
        tenant: TenantId,
        organizer: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Meeting>, StoreError>;

    // Registrations.

    /// Inserts or replaces bindings, by address of record and contact.
    async fn put_bindings(&self, bindings: Vec<Binding>) -> Result<(), StoreError>;

    /// Removes bindings by address of record and contact.
    async fn remove_bindings(&self, gone: Vec<(String, String)>) -> Result<(), StoreError>;

    /// All bindings, those that have expired too.
    async fn bindings(&self) -> Result<Vec<Binding>, StoreError>;

    // Keys.

    /// The signing keys of a purpose, oldest first, retired ones too.
    async fn keys(&self, purpose: Purpose) -> Result<Vec<SigningKey>, StoreError>;

    async fn add_key(&self, key: SigningKey) -> Result<(), StoreError>;

    /// Says when a key stops being published; `false` if there is no such key.
    async fn retire_key(&self, kid: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// Deletes the keys that were to be retired before `at`.
    async fn forget_keys(&self, before: Timestamp) -> Result<(), StoreError>;

    /// A secret of this node: made at random when first asked for, the same ever after.
    async fn secret(&self, name: &str) -> Result<[u8; 32], StoreError>;

    /// Numbers the process of this node that starts now: [`process_after`] the one that started last.
    async fn next_process(&self, now: Timestamp) -> Result<u32, StoreError>;
}
