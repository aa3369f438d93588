//! The disk: a store in memory that outlives processes, and that refuses, stalls, and loses what was not synced.
//!
//! A commit takes a few milliseconds. It becomes durable at one moment within them: a process that dies before has
//! written nothing, one that dies after has written everything and was never told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use control::{AppId, CallId, Conference, ConferenceId, Event, TenantId, Timestamp, UserId};
use store::{
    Binding, Change, Commit, Committed, DeadLetter, Directory, DirectoryKey, DirectorySet, Keep, Loaded, Meeting,
    MeetingKey, NoticeId, Obtained, OutgoingNotice, PendingNotice, Purpose, Settled, SigningKey, Store, StoreError,
    Swept,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::chance::Chance;

/// One disk; clones are the same one.
#[derive(Clone)]
pub(crate) struct Disk {
    platter: Arc<Mutex<Platter>>,
    /// A process is to die at this very moment.
    pub(crate) death: Arc<Notify>,
}

pub(crate) struct Platter {
    chance: Chance,
    logs: BTreeMap<ConferenceId, Log>,
    calls: BTreeMap<CallId, ConferenceId>,
    pub(crate) outbox: BTreeMap<i64, PendingNotice>,
    last_notice: i64,
    last_process: Option<u32>,
    pub(crate) directory: Directory,
    pub(crate) meetings: Vec<Meeting>,
    keys: Vec<SigningKey>,
    pub(crate) mood: Mood,
    /// The process dies with the commit after so many others; `true`: once it is durable.
    pub(crate) fatal: Option<(u64, bool)>,
    /// It has killed its process.
    pub(crate) dying: bool,
    /// Everything that was ever made durable, for whoever watches.
    pub(crate) history: Vec<Written>,
    pub(crate) settled: BTreeMap<i64, Settled>,
    pub(crate) refused: u64,
    pub(crate) stalled: u64,
}

/// How well it works.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    pub(crate) refuses_permille: u64,
    pub(crate) stalls_permille: u64,
}

/// A turn, as it was made durable.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) conference: ConferenceId,
    pub(crate) events: Vec<Event>,
    pub(crate) notices: Vec<(NoticeId, OutgoingNotice)>,
}

#[derive(Default)]
struct Log {
    turns: Vec<(u64, String)>,
    snapshot: Option<(u64, String)>,
    position: u64,
}

/// What becomes of a commit.
enum Fate {
    Written { dies: bool },
    Refused,
    Dies,
}

impl Disk {
    pub(crate) fn new(chance: Chance, directory: Directory, keys: Vec<SigningKey>, meetings: Vec<Meeting>) -> Self {
        let platter = Platter {
            chance,
            logs: BTreeMap::new(),
            calls: BTreeMap::new(),
            outbox: BTreeMap::new(),
            last_notice: 0,
            last_process: None,
            directory,
            meetings,
            keys,
            mood: Mood::default(),
            fatal: None,
            dying: false,
            history: Vec::new(),
            settled: BTreeMap::new(),
            refused: 0,
            stalled: 0,
        };
        Self { platter: Arc::new(Mutex::new(platter)), death: Arc::new(Notify::new()) }
    }

    pub(crate) fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("nothing falls while it writes")
    }

    /// Every live conference, as its log has it.
    pub(crate) fn conferences(&self) -> Vec<Conference> {
        let platter = self.platter();
        platter.logs.iter().filter_map(|(id, log)| log.replay(*id).ok()).map(|loaded| loaded.conference).collect()
    }

    /// Waits as long as a write takes, and decides how it ends.
    async fn write(&self) -> Fate {
        let (before, fate) = {
            let mut platter = self.platter();
            let mood = platter.mood;
            let fatal = match &mut platter.fatal {
                Some((0, durable)) => Some(*durable),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            if fatal.is_some() {
                platter.fatal = None;
            }
            let mut before = platter.chance.between(0, 4);
            if platter.chance.permille(mood.stalls_permille) {
                before += platter.chance.between(100, 6_000);
                platter.stalled += 1;
            }
            let fate = match fatal {
                Some(true) => Fate::Written { dies: true },
                Some(false) => Fate::Dies,
                None if platter.chance.permille(mood.refuses_permille) => {
                    platter.refused += 1;
                    Fate::Refused
                }
                None => Fate::Written { dies: false },
            };
            (before, fate)
        };
        takes(before).await;
        fate
    }

    /// The process that asked is gone: it gets no answer.
    async fn die(&self) -> ! {
        self.platter().dying = true;
        self.death.notify_one();
        std::future::pending::<()>().await;
        unreachable!("nothing is pending for ever and then over")
    }

    async fn reading(&self) -> Result<(), StoreError> {
        let refuses = {
            let mut platter = self.platter();
            let permille = platter.mood.refuses_permille / 2;
            platter.chance.permille(permille)
        };
        takes(1).await;
        if refuses { Err(StoreError::Failed("the disk refuses to be read".to_owned())) } else { Ok(()) }
    }
}

impl Platter {
    fn append(&mut self, commit: Commit) -> Result<Committed, StoreError> {
        let json = |error: serde_json::Error| StoreError::Failed(error.to_string());
        let events = serde_json::to_string(&commit.events).map_err(json)?;
        let id = commit.conference;
        let known = self.logs.get(&id).map_or(0, |log| log.position);
        if known != commit.position {
            return Err(StoreError::Diverged(id));
        }
        let position = commit.position + commit.events.len() as u64;
        if commit.events.iter().any(|event| matches!(event, Event::Closed)) {
            self.logs.remove(&id);
            self.calls.retain(|_, conference| *conference != id);
        } else {
            let log = self.logs.entry(id).or_default();
            log.turns.push((commit.position, events));
            log.position = position;
            if let Some(snapshot) = &commit.snapshot {
                log.snapshot = Some((position, serde_json::to_string(snapshot).map_err(json)?));
            }
            for event in &commit.events {
                if let Event::CallPlaced { call, .. } = event {
                    self.calls.insert(*call, id);
                }
            }
        }
        let mut notices = Vec::new();
        for notice in commit.notices {
            self.last_notice += 1;
            let id = NoticeId(self.last_notice);
            let message_id = Uuid::from_u64_pair(self.chance.number(), self.chance.number());
            let pending = PendingNotice { id, message_id, created: commit.at, notice: notice.clone() };
            self.outbox.insert(id.0, pending);
            notices.push((id, notice));
        }
        let ids = notices.iter().map(|(id, _)| *id).collect();
        self.history.push(Written { conference: id, events: commit.events, notices });
        Ok(Committed { position, notices: ids })
    }

    pub(crate) fn pending(&self, after: NoticeId) -> Vec<PendingNotice> {
        self.outbox.range(after.0 + 1..).map(|(_, notice)| notice.clone()).collect()
    }

    pub(crate) fn settle(&mut self, id: NoticeId, settled: Settled) {
        if self.outbox.remove(&id.0).is_some() {
            self.settled.insert(id.0, settled);
        }
    }
}

impl Log {
    fn replay(&self, id: ConferenceId) -> Result<Loaded, StoreError> {
        let unreadable = |error: serde_json::Error| StoreError::Unreadable { conference: id, why: error.to_string() };
        let (mut at, mut conference) = match &self.snapshot {
            Some((at, body)) => (*at, serde_json::from_str(body).map_err(unreadable)?),
            None => (0, Conference::new(id)),
        };
        for (position, events) in self.turns.iter().filter(|(position, _)| *position >= at).collect::<Vec<_>>() {
            assert_eq!(*position, at, "the log has a hole");
            let events: Vec<Event> = serde_json::from_str(events).map_err(unreadable)?;
            for event in &events {
                conference.apply(event);
            }
            at += events.len() as u64;
        }
        Ok(Loaded { conference, position: at })
    }
}

#[async_trait]
impl Store for Disk {
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        match self.write().await {
            Fate::Refused => Err(StoreError::Failed("the disk refuses".to_owned())),
            Fate::Dies => self.die().await,
            Fate::Written { dies } => {
                let (written, after) = {
                    let mut platter = self.platter();
                    (platter.append(commit), platter.chance.between(0, 3))
                };
                if dies {
                    self.die().await;
                }
                takes(after).await;
                written
            }
        }
    }

    async fn load(&self, conference: ConferenceId) -> Result<Option<Loaded>, StoreError> {
        self.reading().await?;
        let platter = self.platter();
        platter.logs.get(&conference).map(|log| log.replay(conference)).transpose()
    }

    async fn live_conferences(&self) -> Result<Vec<ConferenceId>, StoreError> {
        Ok(self.platter().logs.keys().copied().collect())
    }

    async fn conference_of(&self, call: CallId) -> Result<Option<ConferenceId>, StoreError> {
        self.reading().await?;
        Ok(self.platter().calls.get(&call).copied())
    }

    async fn pending(&self, after: NoticeId, limit: usize) -> Result<Vec<PendingNotice>, StoreError> {
        let mut pending = self.platter().pending(after);
        pending.truncate(limit);
        Ok(pending)
    }

    async fn settle(&self, _at: Timestamp, settled: Vec<(NoticeId, Settled)>) -> Result<(), StoreError> {
        let mut platter = self.platter();
        for (id, how) in settled {
            platter.settle(id, how);
        }
        Ok(())
    }

    async fn dead_letters(&self, _app: Option<AppId>, _limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(Vec::new())
    }

    async fn dead_letter(&self, _id: NoticeId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(None)
    }

    async fn given_up(
        &self,
        _app: Option<AppId>,
        _after: NoticeId,
        _limit: usize,
    ) -> Result<Vec<NoticeId>, StoreError> {
        Ok(Vec::new())
    }

    async fn sweep(&self, _now: Timestamp, _keep: Keep) -> Result<Swept, StoreError> {
        Err(never())
    }

    async fn revive(&self, _at: Timestamp, _dead: Vec<NoticeId>) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn directory_version(&self) -> Result<i64, StoreError> {
        Ok(self.platter().directory.version())
    }

    async fn directory(&self) -> Result<Directory, StoreError> {
        Ok(self.platter().directory.clone())
    }

    async fn apply(&self, _set: DirectorySet, _prune: bool) -> Result<Vec<Change>, StoreError> {
        Err(never())
    }

    async fn delete(&self, _key: DirectoryKey) -> Result<bool, StoreError> {
        Err(never())
    }

    async fn create_meeting(&self, meeting: Meeting) -> Result<(), StoreError> {
        self.platter().meetings.push(meeting);
        Ok(())
    }

    async fn create_or_get_meeting(&self, meeting: Meeting) -> Result<Obtained, StoreError> {
        self.platter().meetings.push(meeting.clone());
        Ok(Obtained { meeting, created: true })
    }

    async fn update_meeting(&self, _meeting: Meeting) -> Result<bool, StoreError> {
        Err(never())
    }

    async fn delete_meeting(&self, _id: ConferenceId) -> Result<bool, StoreError> {
        Err(never())
    }

    async fn meeting(&self, key: MeetingKey) -> Result<Option<Meeting>, StoreError> {
        self.reading().await?;
        let platter = self.platter();
        let found = platter.meetings.iter().find(|meeting| match &key {
            MeetingKey::Id(id) => meeting.id == *id,
            MeetingKey::Thread(thread) => meeting.thread == *thread,
            MeetingKey::JoinMeetingId(id) => meeting.join_meeting_id == *id,
            MeetingKey::VtcId(id) => meeting.vtc_id.as_ref() == Some(id),
        });
        Ok(found.cloned())
    }

    async fn meetings_of(
        &self,
        tenant: TenantId,
        organizer: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Meeting>, StoreError> {
        let platter = self.platter();
        let of = platter.meetings.iter().filter(|meeting| meeting.tenant == tenant && meeting.organizer == organizer);
        Ok(of.take(limit).cloned().collect())
    }

    async fn put_bindings(&self, _bindings: Vec<Binding>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn remove_bindings(&self, _gone: Vec<(String, String)>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        Ok(Vec::new())
    }

    async fn keys(&self, purpose: Purpose) -> Result<Vec<SigningKey>, StoreError> {
        Ok(self.platter().keys.iter().filter(|key| key.purpose == purpose).cloned().collect())
    }

    async fn add_key(&self, key: SigningKey) -> Result<(), StoreError> {
        self.platter().keys.push(key);
        Ok(())
    }

    async fn retire_key(&self, _kid: &str, _at: Timestamp) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn forget_keys(&self, _before: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn secret(&self, _name: &str) -> Result<[u8; 32], StoreError> {
        Ok([7; 32])
    }

    async fn next_process(&self, now: Timestamp) -> Result<u32, StoreError> {
        let mut platter = self.platter();
        let next = store::process_after(platter.last_process, now);
        platter.last_process = Some(next);
        Ok(next)
    }
}

/// So many milliseconds of the world's clock pass: the disk's own work, which nothing could announce.
async fn takes(ms: u64) {
    let done = Instant::now() + Duration::from_millis(ms);
    tokio::time::sleep_until(done).await;
}

/// Nothing in this world does it.
fn never() -> StoreError {
    StoreError::Failed("this disk does not".to_owned())
}
