//! The power goes while the log is written: whatever sectors of it arrived, what was acknowledged is there, whole turns
//! and nothing else, and the next process goes on from them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod events;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use control::{AppId, CallId, ChainId, Conference, ConferenceId, Event, ScenarioId, TenantId, Timestamp, UserId};
use store::sqlite::{Access, Sqlite, examine};
use store::{
    Commit, DeadLetter, DirectorySet, Loaded, Meeting, NoticeId, OutgoingNotice, PendingNotice, Settled, Store, Tenant,
    User,
};

use crate::events::{NOW, id, opened, placed};

const CONFERENCES: u128 = 4;

/// Turns of each conference; between them other things are written.
const ROUNDS: u128 = 6;

/// Of the write-ahead log: a header, then frames of a page each (SQLite's file format, §4.1 and §4.2).
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + 4096;

const SECTOR: usize = 512;

#[tokio::test]
async fn wherever_the_log_ends_what_was_acknowledged_is_there_and_nothing_in_part() {
    let story = Story::tell().await;
    let mut chance = Chance(41);
    let edges = story.moments.iter().map(|moment| moment.acknowledged_at);
    let mut cuts: BTreeSet<usize> = edges.flat_map(|edge| [edge.saturating_sub(1), edge]).collect();
    cuts.extend([1, LOG_HEADER - 1, LOG_HEADER]);
    cuts.extend((0..20).map(|_| chance.below(story.log.len())));
    for cut in cuts {
        story.survives(&format!("cut at {cut}"), &story.database, &story.log[..cut]).await;
    }
}

#[tokio::test]
async fn whichever_sectors_of_the_log_did_not_arrive_what_was_acknowledged_is_there_and_nothing_in_part() {
    let story = Story::tell().await;
    let mut chance = Chance(42);
    let edges = story.moments.iter().map(|moment| moment.acknowledged_at);
    let mut places: BTreeSet<usize> =
        edges.flat_map(|edge| [edge.saturating_sub(FRAME), edge, edge + FRAME_HEADER]).collect();
    places.extend((0..30).map(|_| chance.below(story.log.len())));
    for (number, place) in places.into_iter().filter(|place| *place < story.log.len()).enumerate() {
        let (how, torn) = story.torn(place, number, &mut chance);
        story.survives(&format!("{how} at {place}"), &story.database, &torn).await;
    }
}

#[tokio::test]
async fn a_database_that_is_half_written_back_is_whole_again_by_its_log() {
    let story = Story::tell().await;
    let new = story.written_back();
    let mut chance = Chance(43);
    for round in 0..12 {
        // Sectors arrive in whatever order; those of a longer file only up to some length.
        let length = story.database.len() + chance.below(new.len() - story.database.len() + 1);
        let mut mixed = story.database.clone();
        mixed.resize(length, 0);
        for (old, new) in mixed.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
            if chance.below(2) == 0 {
                old.copy_from_slice(&new[..old.len()]);
            }
        }
        story.survives(&format!("mixture {round}"), &mixed, &story.log).await;
    }
}

/// Everything that can be read from a store.
#[derive(Debug, PartialEq)]
struct Kept {
    conferences: Vec<Loaded>,
    owed: Vec<PendingNotice>,
    dead: Vec<DeadLetter>,
    meetings: Vec<Meeting>,
    users: usize,
}

impl Kept {
    async fn by(store: &dyn Store) -> Self {
        let mut conferences = Vec::new();
        for conference in store.live_conferences().await.unwrap() {
            let loaded = store.load(conference).await.unwrap().unwrap();
            for call in loaded.conference.calls() {
                assert_eq!(store.conference_of(call.id).await.unwrap(), Some(conference));
            }
            conferences.push(loaded);
        }
        Self {
            conferences,
            owed: store.pending(NoticeId::NONE, 1000).await.unwrap(),
            dead: store.dead_letters(None, 1000).await.unwrap(),
            meetings: store.meetings_of(TenantId(id(2)), None, 1000).await.unwrap(),
            users: store.directory().await.unwrap().users().count(),
        }
    }
}

/// What was there after each thing that was acknowledged, and how long the log was then.
struct Moment {
    acknowledged_at: usize,
    kept: Kept,
}

/// A process that wrote a while, and what lay on the disk in the middle of it.
struct Story {
    moments: Vec<Moment>,
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Story {
    async fn tell() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path(), Access::Serve).unwrap();
        let database = fs::read(database_in(folder.path())).unwrap();
        let mut story = Self { moments: Vec::new(), database, log: Vec::new() };
        story.acknowledged(folder.path(), &store).await;
        let mut writers: Vec<_> = (0..CONFERENCES).map(|number| Writer::new(100 + number)).collect();
        for round in 0..ROUNDS {
            for writer in &mut writers {
                writer.take_a_turn(&store, round).await;
                story.acknowledged(folder.path(), &store).await;
                let last = &story.moments[story.moments.len() - 1].kept.conferences;
                let ours = last.iter().find(|loaded| loaded.conference.id() == writer.conference.id());
                assert_eq!(ours.map(|loaded| &loaded.conference), writer.is_open.then_some(&writer.conference));
            }
            write_something_else(&store, round).await;
            story.acknowledged(folder.path(), &store).await;
        }
        story.log = fs::read(log_in(folder.path())).unwrap();
        let unchanged = fs::read(database_in(folder.path())).unwrap() == story.database;
        assert!(unchanged, "nothing is written back yet: the log alone has it all");
        story
    }

    async fn acknowledged(&mut self, folder: &Path, store: &Sqlite) {
        let acknowledged_at = fs::metadata(log_in(folder)).map_or(0, |log| log.len() as usize);
        self.moments.push(Moment { acknowledged_at, kept: Kept::by(store).await });
    }

    /// The log with what follows a place zeroed, garbled and then missing, or there but for one sector: by turns.
    fn torn(&self, place: usize, number: usize, chance: &mut Chance) -> (&'static str, Vec<u8>) {
        let mut torn = self.log.clone();
        let some_sectors = (place + SECTOR * (1 + chance.below(16))).min(torn.len());
        let one_sector = (place + SECTOR).min(torn.len());
        let mut garble = |bytes: &mut [u8]| bytes.fill_with(|| chance.below(256) as u8);
        match number % 3 {
            0 => {
                torn[place..].fill(0);
                ("zeroed", torn)
            }
            1 => {
                torn.truncate(some_sectors);
                garble(&mut torn[place..]);
                ("garbled", torn)
            }
            _ => {
                garble(&mut torn[place..one_sector]);
                ("a sector lost", torn)
            }
        }
    }

    /// The database as it is when the whole log has been written back.
    fn written_back(&self) -> Vec<u8> {
        let folder = left_behind(&self.database, &self.log);
        drop(Sqlite::open(folder.path(), Access::Serve).unwrap());
        let database = fs::read(database_in(folder.path())).unwrap();
        assert_ne!(database, self.database);
        database
    }

    /// The next process finds exactly what was acknowledged by the bytes that are as they were written, and goes on.
    async fn survives(&self, how: &str, database: &[u8], log: &[u8]) {
        let intact = log.iter().zip(&self.log).take_while(|(found, written)| found == written).count();
        let moment = self.moments.iter().rfind(|moment| moment.acknowledged_at <= intact);
        // Before the first of them there was an empty database.
        let expected = &moment.unwrap_or(&self.moments[0]).kept;
        let folder = left_behind(database, log);
        let store = Sqlite::open(folder.path(), Access::Serve).unwrap_or_else(|error| panic!("{how}: {error}"));
        let found = Kept::by(&store).await;
        if found != *expected {
            let as_of = |kept: &Kept| self.moments.iter().position(|moment| moment.kept == *kept);
            panic!("{how}: what is there is of moment {:?}, not of {:?}", as_of(&found), as_of(expected));
        }

        let mut next = Writer::new(200);
        next.take_a_turn(&store, 0).await;
        assert_eq!(Kept::by(&store).await.conferences.len(), expected.conferences.len() + 1, "{how}");
        drop(store);
        assert_eq!(examine(folder.path()).unwrap().unwrap().damages, [""; 0], "{how}");
    }
}

/// A data directory as a process that died leaves it.
fn left_behind(database: &[u8], log: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(database_in(folder.path()), database).unwrap();
    fs::write(log_in(folder.path()), log).unwrap();
    folder
}

/// A conference as its writer has it.
struct Writer {
    conference: Conference,
    position: u64,
    is_open: bool,
}

impl Writer {
    fn new(number: u128) -> Self {
        Self { conference: Conference::new(ConferenceId(id(number))), position: 0, is_open: true }
    }

    /// One or more events, with no notice, a short one, or several that take pages of their own.
    async fn take_a_turn(&mut self, store: &dyn Store, round: u128) {
        if !self.is_open {
            return;
        }
        let number = self.conference.id().0.as_u128();
        let call = CallId(id(1000 + number));
        let events = match round {
            0 => vec![opened(), placed(call)],
            1 => vec![Event::CallEstablished { call, at: NOW, keep_alive_by: NOW, audio_by: NOW }],
            // Every other one ends before the story does.
            _ if round == ROUNDS - 2 && number.is_multiple_of(2) => vec![Event::Closed],
            _ => vec![Event::KeptAlive { call, keep_alive_by: Timestamp(NOW.0 + round as i64) }],
        };
        self.is_open = !events.contains(&Event::Closed);
        for event in &events {
            self.conference.apply(event);
        }
        let lengths: &[usize] = match (number + round) % 3 {
            0 => &[40],
            1 => &[900, 20_000, 6_000],
            _ => &[],
        };
        let notices = lengths.iter().map(|length| notice(call, "x".repeat(*length))).collect();
        let (conference, position) = (self.conference.id(), self.position);
        self.position += events.len() as u64;
        let commit = Commit { conference, position, at: NOW, events, notices, snapshot: None };
        store.commit(commit).await.unwrap();
    }
}

/// Notices are settled, and what the operator and the API change is changed.
async fn write_something_else(store: &dyn Store, round: u128) {
    match round % 3 {
        0 => {
            let owed = store.pending(NoticeId::NONE, 3).await.unwrap();
            let dead = Settled::Dead { status: Some(503), reason: "busy".to_owned(), attempts: 9 };
            let fates = [Settled::Delivered, dead, Settled::Superseded];
            store.settle(NOW, owed.into_iter().map(|notice| notice.id).zip(fates).collect()).await.unwrap();
        }
        1 => store.create_meeting(meeting(round)).await.unwrap(),
        _ => {
            let tenant = Tenant { id: TenantId(id(2)), domain: "contoso.example".to_owned() };
            let users = (0..40 + round).map(|number| user(tenant.id, number)).collect();
            let set = DirectorySet { users, tenants: vec![tenant], ..DirectorySet::default() };
            store.apply(set, false).await.unwrap();
        }
    }
}

fn notice(call: CallId, body: String) -> OutgoingNotice {
    OutgoingNotice {
        call,
        app: AppId(id(1)),
        tenant: TenantId(id(2)),
        callback: "https://bot.example/".to_owned(),
        scenario: ScenarioId(id(4)),
        chain: ChainId(id(5)),
        body,
        after: None,
        settles: None,
        full_roster: false,
        ends_call: false,
    }
}

fn meeting(number: u128) -> Meeting {
    Meeting {
        id: ConferenceId(id(500 + number)),
        tenant: TenantId(id(2)),
        organizer: None,
        created_by: AppId(id(1)),
        created: NOW,
        subject: None,
        start: NOW,
        end: NOW,
        thread: format!("19:meeting_{number}@thread.v2"),
        join_meeting_id: format!("{number:012}"),
        passcode: None,
        external_id: None,
        vtc_id: None,
        body: serde_json::json!({}),
    }
}

fn user(tenant: TenantId, number: u128) -> User {
    let name = format!("User {number}");
    User { id: UserId(id(700 + number)), tenant, name, upn: None, sip: None, line: None }
}

fn database_in(folder: &Path) -> PathBuf {
    folder.join("convoke.db")
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("convoke.db-wal")
}

/// Xorshift: the same cuts each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}
