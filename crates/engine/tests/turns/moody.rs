//! A store that refuses commits when told to, and remembers those that it took.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use control::{AppId, CallId, ConferenceId, Event, TenantId, Timestamp, UserId};
use store::{
    Binding, Change, Commit, Committed, DeadLetter, Directory, DirectoryKey, DirectorySet, Keep, Loaded, Meeting,
    MeetingKey, NoticeId, Obtained, PendingNotice, Purpose, Settled, SigningKey, Store, StoreError, Swept,
};
use tokio::sync::{RwLock, watch};

pub(crate) struct Moody {
    inner: Arc<dyn Store>,
    mood: Mutex<Mood>,
    /// Nothing is written while somebody holds it.
    pub(crate) door: RwLock<()>,
    pub(crate) refusals: watch::Sender<usize>,
    pub(crate) unreadable: Mutex<Option<ConferenceId>>,
    /// That many of its next commits make whoever asks for them fall.
    pub(crate) cursed: Mutex<Option<(ConferenceId, usize)>>,
    pub(crate) taken: Mutex<Vec<(ConferenceId, Event)>>,
}

pub(crate) enum Mood {
    Takes,
    RefusesAll,
    /// Takes that many more, refuses one, and is well again.
    RefusesAfter(usize),
    /// Takes that many more, then none.
    DiesAfter(usize),
}

impl Moody {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        let (mood, refusals) = (Mutex::new(Mood::Takes), watch::Sender::new(0));
        Arc::new(Self {
            inner,
            mood,
            door: RwLock::default(),
            refusals,
            unreadable: Mutex::default(),
            cursed: Mutex::default(),
            taken: Mutex::default(),
        })
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn falls(&self, conference: ConferenceId) -> bool {
        match &mut *self.cursed.lock().unwrap() {
            Some((cursed, left)) if *cursed == conference && *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    fn refuses(&self) -> bool {
        let mut mood = self.mood.lock().unwrap();
        match &mut *mood {
            Mood::Takes => false,
            Mood::RefusesAll | Mood::DiesAfter(0) => true,
            Mood::RefusesAfter(0) => {
                *mood = Mood::Takes;
                true
            }
            Mood::RefusesAfter(left) | Mood::DiesAfter(left) => {
                *left -= 1;
                false
            }
        }
    }
}

#[async_trait]
impl Store for Moody {
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let _open = self.door.read().await;
        assert!(!self.falls(commit.conference), "told to fall");
        if self.refuses() {
            self.refusals.send_modify(|refusals| *refusals += 1);
            return Err(StoreError::Failed("no space left on device".to_owned()));
        }
        let events = commit.events.iter().map(|event| (commit.conference, event.clone())).collect::<Vec<_>>();
        let committed = self.inner.commit(commit).await?;
        self.taken.lock().unwrap().extend(events);
        Ok(committed)
    }

    async fn load(&self, conference: ConferenceId) -> Result<Option<Loaded>, StoreError> {
        if *self.unreadable.lock().unwrap() == Some(conference) {
            return Err(StoreError::Unreadable { conference, why: "event 0".to_owned() });
        }
        self.inner.load(conference).await
    }

    async fn live_conferences(&self) -> Result<Vec<ConferenceId>, StoreError> {
        self.inner.live_conferences().await
    }

    async fn conference_of(&self, call: CallId) -> Result<Option<ConferenceId>, StoreError> {
        self.inner.conference_of(call).await
    }

    async fn pending(&self, after: NoticeId, limit: usize) -> Result<Vec<PendingNotice>, StoreError> {
        self.inner.pending(after, limit).await
    }

    async fn settle(&self, at: Timestamp, settled: Vec<(NoticeId, Settled)>) -> Result<(), StoreError> {
        self.inner.settle(at, settled).await
    }

    async fn dead_letters(&self, app: Option<AppId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead_letters(app, limit).await
    }

    async fn dead_letter(&self, id: NoticeId) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_letter(id).await
    }

    async fn given_up(&self, app: Option<AppId>, after: NoticeId, limit: usize) -> Result<Vec<NoticeId>, StoreError> {
        self.inner.given_up(app, after, limit).await
    }

    async fn sweep(&self, now: Timestamp, keep: Keep) -> Result<Swept, StoreError> {
        self.inner.sweep(now, keep).await
    }

    async fn revive(&self, at: Timestamp, dead: Vec<NoticeId>) -> Result<usize, StoreError> {
        self.inner.revive(at, dead).await
    }

    async fn directory_version(&self) -> Result<i64, StoreError> {
        self.inner.directory_version().await
    }

    async fn directory(&self) -> Result<Directory, StoreError> {
        self.inner.directory().await
    }

    async fn apply(&self, set: DirectorySet, prune: bool) -> Result<Vec<Change>, StoreError> {
        self.inner.apply(set, prune).await
    }

    async fn delete(&self, key: DirectoryKey) -> Result<bool, StoreError> {
        self.inner.delete(key).await
    }

    async fn create_meeting(&self, meeting: Meeting) -> Result<(), StoreError> {
        self.inner.create_meeting(meeting).await
    }

    async fn create_or_get_meeting(&self, meeting: Meeting) -> Result<Obtained, StoreError> {
        self.inner.create_or_get_meeting(meeting).await
    }

    async fn update_meeting(&self, meeting: Meeting) -> Result<bool, StoreError> {
        self.inner.update_meeting(meeting).await
    }

    async fn delete_meeting(&self, id: ConferenceId) -> Result<bool, StoreError> {
        self.inner.delete_meeting(id).await
    }

    async fn meeting(&self, key: MeetingKey) -> Result<Option<Meeting>, StoreError> {
        self.inner.meeting(key).await
    }

    async fn meetings_of(
        &self,
        tenant: TenantId,
        organizer: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Meeting>, StoreError> {
        self.inner.meetings_of(tenant, organizer, limit).await
    }

    async fn put_bindings(&self, bindings: Vec<Binding>) -> Result<(), StoreError> {
        self.inner.put_bindings(bindings).await
    }

    async fn remove_bindings(&self, gone: Vec<(String, String)>) -> Result<(), StoreError> {
        self.inner.remove_bindings(gone).await
    }

    async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        self.inner.bindings().await
    }

    async fn keys(&self, purpose: Purpose) -> Result<Vec<SigningKey>, StoreError> {
        self.inner.keys(purpose).await
    }

    async fn add_key(&self, key: SigningKey) -> Result<(), StoreError> {
        self.inner.add_key(key).await
    }

    async fn retire_key(&self, kid: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.retire_key(kid, at).await
    }

    async fn forget_keys(&self, before: Timestamp) -> Result<(), StoreError> {
        self.inner.forget_keys(before).await
    }

    async fn secret(&self, name: &str) -> Result<[u8; 32], StoreError> {
        self.inner.secret(name).await
    }

    async fn next_process(&self, now: Timestamp) -> Result<u32, StoreError> {
        self.inner.next_process(now).await
    }
}
