//! A database of every version that was ever released, opened by this one: nothing is lost, and a copy is kept.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::{AppId, CallId, ConferenceId, PhoneNumber, Timestamp};
use rusqlite::Connection;
use store::sqlite::{Access, Sqlite, examine};
use store::{Fate, Keep, MeetingKey, NoticeId, Purpose, Settled, Store, StoreError, process_after};
use uuid::Uuid;

/// Each version that was released: what it added to the schema, and what it left in a database.
const RELEASED: [(&str, &str, &str); 3] = [
    ("0001_first", include_str!("../src/sqlite/migrations/0001_first.sql"), include_str!("schemas/0001_first.sql")),
    (
        "0002_retention",
        include_str!("../src/sqlite/migrations/0002_retention.sql"),
        include_str!("schemas/0002_retention.sql"),
    ),
    (
        "0003_processes",
        include_str!("../src/sqlite/migrations/0003_processes.sql"),
        include_str!("schemas/0003_processes.sql"),
    ),
];

const NOW: Timestamp = Timestamp(1_767_300_000_000);

/// A data directory as the version of that number left it.
fn left_by(number: usize) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("convoke.db");
    let old = Connection::open(&path).unwrap();
    if number >= 2 {
        old.pragma_update(None, "auto_vacuum", 2).unwrap();
        old.pragma_update(None, "application_id", 0x636e_766b).unwrap();
        old.pragma_update(None, "user_version", number as i64).unwrap();
    }
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(
        "CREATE TABLE migrations (
             number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )
    .unwrap();
    for (_, schema, rows) in &RELEASED[..number] {
        old.execute_batch(schema).unwrap();
        old.execute_batch(rows).unwrap();
    }
    drop(old);
    (directory, path)
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn every_version_has_its_rows_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sqlite/migrations");
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        RELEASED.map(|(name, ..)| format!("{name}.sql")),
        "add it to RELEASED, with rows in tests/schemas"
    );
}

#[tokio::test]
async fn whatever_a_version_left_is_there_after_it_was_brought_up_to_date() {
    for version in 1..=RELEASED.len() {
        let (directory, path) = left_by(version);
        let store = Sqlite::open(directory.path(), Access::Serve).unwrap();
        let examined = examine(directory.path()).unwrap().unwrap();
        assert!(examined.damages.is_empty() && examined.current, "{version}: {examined:?}");
        assert_eq!(number(&path, "PRAGMA user_version"), RELEASED.len() as i64);
        assert_eq!(number(&path, "PRAGMA auto_vacuum"), 2, "the file can shrink");

        let conference = ConferenceId(id(10));
        assert_eq!(store.live_conferences().await.unwrap(), [conference]);
        let loaded = store.load(conference).await.unwrap().unwrap();
        assert_eq!((loaded.position, loaded.conference.calls().count()), (2, 1));
        assert_eq!(store.conference_of(CallId(id(11))).await.unwrap(), Some(conference));

        let owed = store.pending(NoticeId::NONE, 10).await.unwrap();
        assert_eq!((owed[0].id, owed[0].message_id), (NoticeId(4), id(104)));
        let letters = store.dead_letters(Some(AppId(id(20))), 10).await.unwrap();
        assert_eq!(letters.iter().map(|letter| letter.message_id).collect::<Vec<_>>(), [id(103), id(102)]);

        let directory_rows = store.directory().await.unwrap();
        assert_eq!(directory_rows.user_by_address("ann", "contoso.example").unwrap().name, "Ann");
        assert_eq!(directory_rows.app_by_number(&PhoneNumber::parse("+12065550100").unwrap()).unwrap().name, "Bot");
        assert_eq!(directory_rows.trunks().count(), 1);
        let thread = MeetingKey::Thread("19:meeting_40@thread.v2".to_owned());
        assert_eq!(store.meeting(thread.clone()).await.unwrap().unwrap().subject.as_deref(), Some("Standup"));
        assert_eq!(store.bindings().await.unwrap()[0].cseq, 7);
        assert_eq!(store.keys(Purpose::Access).await.unwrap()[0].private, [1, 2, 3]);
        assert_eq!(store.secret("node").await.unwrap(), [7; 32]);
        let last = if version < 3 { None } else { Some(200_000_000) };
        assert_eq!(store.next_process(NOW).await.unwrap(), process_after(last, NOW));

        // What the newer schema is for works on what the older one left.
        if version == 1 {
            assert!(letters.iter().all(|letter| letter.fate == Fate::GivenUp && letter.replays == 0));
            assert_eq!(store.revive(NOW, vec![NoticeId(3), NoticeId(2)]).await.unwrap(), 2);
        } else {
            let since = Timestamp(1_767_225_900_000);
            assert_eq!(letters[0].fate, Fate::Delivered(since));
            assert_eq!(letters[1].fate, Fate::PutBack(since));
            store.settle(NOW, vec![(NoticeId(5), Settled::Delivered)]).await.unwrap();
            assert_eq!(store.dead_letter(NoticeId(2)).await.unwrap().unwrap().fate, Fate::Delivered(NOW));
        }
        let keep = Keep { meetings: Duration::from_hours(24), ..Keep::default() };
        let (ended, held) = (Timestamp(1_767_229_200_000), Timestamp(1_767_232_800_000));
        let last = if version == 1 { ended } else { held };
        store.sweep(last + Duration::from_hours(24), keep).await.unwrap();
        assert!(store.meeting(thread.clone()).await.unwrap().is_some(), "{version}");
        store.sweep(last + Duration::from_hours(24) + Duration::from_millis(1), keep).await.unwrap();
        assert!(store.meeting(thread).await.unwrap().is_none(), "{version}");
    }
}

#[test]
fn a_copy_is_kept_of_what_an_older_version_left() {
    use std::os::unix::fs::PermissionsExt as _;
    for (version, (next, ..)) in RELEASED.iter().enumerate().skip(1) {
        let (directory, path) = left_by(version);
        drop(Sqlite::open(directory.path(), Access::Command).unwrap());
        let copy = directory.path().join(format!("convoke.db.before-{next}"));
        assert_eq!(number(&copy, "SELECT count(*) FROM migrations"), version as i64, "it is as it was");
        assert_eq!(number(&copy, "SELECT count(*) FROM keys"), 1);
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o077, 0, "nobody else reads the keys");
        // The older version takes the copy for its own.
        std::fs::rename(&copy, &path).unwrap();
        drop(Sqlite::open(directory.path(), Access::Serve).unwrap());
    }
}

#[test]
fn a_migration_that_fails_leaves_everything_as_it_was() {
    let (directory, path) = left_by(1);
    Connection::open(&path).unwrap().execute_batch("CREATE INDEX meetings_by_end ON meetings (created)").unwrap();
    for _ in 0..2 {
        let error = Sqlite::open(directory.path(), Access::Serve).unwrap_err();
        assert!(matches!(&error, StoreError::Schema { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("cannot be brought from 0001_first to 0003_processes"), "{said}");
        assert!(said.ends_with("It is as it was: go on with the version of convoke that made it"), "{said}");
        assert_eq!(number(&path, "SELECT count(*) FROM migrations"), 1);
        assert_eq!(number(&path, "PRAGMA user_version"), 0);
        assert_eq!(number(&path, "SELECT count(*) FROM pragma_table_info('meetings') WHERE name = 'ends'"), 0);
    }
    Connection::open(&path).unwrap().execute_batch("DROP INDEX meetings_by_end").unwrap();
    drop(Sqlite::open(directory.path(), Access::Serve).unwrap());
    assert_eq!(number(&path, "PRAGMA user_version"), RELEASED.len() as i64);
}

#[test]
fn no_command_migrates_what_an_older_server_serves() {
    let (directory, path) = left_by(1);
    let older = std::fs::File::create(directory.path().join("serve.lock")).unwrap();
    older.lock().unwrap();
    let error = Sqlite::open(directory.path(), Access::Command).unwrap_err();
    assert!(error.to_string().contains("an older convoke serves it: stop that one first"), "{error}");
    assert_eq!(number(&path, "SELECT count(*) FROM migrations"), 1);
    assert!(matches!(Sqlite::open(directory.path(), Access::Serve), Err(StoreError::InUse { .. })));
    drop(older);
    drop(Sqlite::open(directory.path(), Access::Command).unwrap());
    assert_eq!(number(&path, "PRAGMA user_version"), RELEASED.len() as i64);
}

#[test]
fn several_may_bring_it_up_to_date_at_once() {
    for version in [None, Some(1)] {
        let directory = version.map_or_else(|| tempfile::tempdir().unwrap(), |version| left_by(version).0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| drop(Sqlite::open(directory.path(), Access::Command).unwrap()));
            }
        });
        let names: Vec<_> = directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().contains(".new-")), "{names:?}");
        assert!(examine(directory.path()).unwrap().unwrap().damages.is_empty());
    }
}
