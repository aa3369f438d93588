//! Backups: taken while turns are written, checked to the bit, and restored without losing what was there.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use control::{AppId, CallId, ChainId, ConferenceId, Event, Kind, ScenarioId, TenantId, Timestamp};
use rusqlite::Connection;
use store::sqlite::{Access, Backup, BackupError, Existing, Sqlite, back_up, examine, inspect_backup, restore};
use store::{Commit, NoticeId, OutgoingNotice, Store, StoreError};
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

const BESIDE: [&str; 2] = ["ca.pem", "ca-key.pem"];

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A turn that adds one event to a conference, and one notice with a long body.
fn turn(conference: u128, position: u64) -> Commit {
    let event = if position == 0 {
        Event::Opened { at: NOW, tenant: TenantId(id(2)), kind: Kind::PeerToPeer, created_by: AppId(id(1)) }
    } else {
        Event::KeptAlive { call: CallId(id(conference)), keep_alive_by: NOW }
    };
    let notice = OutgoingNotice {
        call: CallId(id(conference)),
        app: AppId(id(1)),
        tenant: TenantId(id(2)),
        callback: "https://bot.example/".to_owned(),
        scenario: ScenarioId(id(4)),
        chain: ChainId(id(5)),
        body: format!("{{\"of\":{conference},\"number\":{position},\"filler\":\"{}\"}}", "x".repeat(3000)),
        after: None,
        settles: None,
        full_roster: false,
        ends_call: false,
    };
    Commit {
        conference: ConferenceId(id(conference)),
        position,
        at: NOW,
        events: vec![event],
        notices: vec![notice],
        snapshot: None,
    }
}

fn take(data: &Path, file: &Path, existing: Existing) -> Result<Backup, BackupError> {
    back_up(data, file, &BESIDE, "1.2.3", NOW, existing)
}

/// A data directory with a few conferences and an authority, and nobody that serves from it.
async fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path(), Access::Serve).unwrap();
    for conference in 100..120 {
        store.commit(turn(conference, 0)).await.unwrap();
    }
    fs::write(folder.path().join("ca.pem"), "certificate").unwrap();
    fs::write(folder.path().join("ca-key.pem"), "key").unwrap();
    fs::set_permissions(folder.path().join("ca.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(folder.path().join("ca-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_load_holds_all_that_was_committed_before_it() {
    const WRITERS: u128 = 8;
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(folder.path(), Access::Serve).unwrap());
    // Large enough for turns to come in between.
    for conference in 1000..3000 {
        store.commit(turn(conference, 0)).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let newest: Arc<[AtomicI64]> = (0..WRITERS).map(|_| AtomicI64::new(0)).collect();
    let committed = Arc::new(AtomicI64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, stop, newest, committed) = (store.clone(), stop.clone(), newest.clone(), committed.clone());
            tokio::spawn(async move {
                let mut position = 0;
                while !stop.load(Ordering::Acquire) {
                    let done = store.commit(turn(10 + writer, position)).await.unwrap();
                    position = done.position;
                    newest[writer as usize].store(position as i64, Ordering::Release);
                    committed.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();

    let elsewhere = tempfile::tempdir().unwrap();
    for round in 0..4 {
        while newest.iter().any(|position| position.load(Ordering::Acquire) <= round) {
            tokio::task::yield_now().await;
        }
        let before: Vec<_> = newest.iter().map(|position| position.load(Ordering::Acquire)).collect();
        let at_start = committed.load(Ordering::Acquire);
        let (data, file) = (folder.path().to_owned(), elsewhere.path().join(format!("{round}.backup")));
        let taken = {
            let file = file.clone();
            tokio::task::spawn_blocking(move || take(&data, &file, Existing::Refuse).unwrap()).await.unwrap()
        };
        assert!(committed.load(Ordering::Acquire) > at_start, "turns are written meanwhile");
        assert_eq!(inspect_backup(&file).unwrap(), taken);

        let restored = elsewhere.path().join(format!("data-{round}"));
        restore(&file, &restored, &[], Existing::Refuse).unwrap();
        assert_eq!(examine(&restored).unwrap().unwrap().damages, Vec::<String>::new());
        let store = Sqlite::open(&restored, Access::Serve).unwrap();
        assert_eq!(store.live_conferences().await.unwrap().len(), 2000 + WRITERS as usize);
        let mut owed = 0;
        for (writer, before) in before.iter().enumerate() {
            let loaded = store.load(ConferenceId(id(10 + writer as u128))).await.unwrap().unwrap();
            assert!(loaded.position as i64 >= *before, "{writer}: {} of {before}", loaded.position);
            owed += loaded.position as usize;
        }
        // One moment: a notice for each turn, and no more.
        assert_eq!(store.pending(NoticeId::NONE, 1_000_000).await.unwrap().len(), 2000 + owed);
    }
    stop.store(true, Ordering::Release);
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_is_one_file_that_replaces_nothing_unasked() {
    let folder = data().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("convoke.backup");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(take(folder.path(), &file, Existing::Refuse), Err(BackupError::Exists(_))));
    assert_eq!(fs::read(&file).unwrap(), b"precious");

    // What a killed backup left does not stand in the way.
    fs::write(elsewhere.path().join(".convoke.backup.partial"), "half").unwrap();
    let backup = take(folder.path(), &file, Existing::Replace).unwrap();
    assert_eq!(names(elsewhere.path()), ["convoke.backup"]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "nobody else reads the keys");
    assert_eq!((backup.made, backup.by.as_str(), backup.schema.as_str()), (NOW, "1.2.3", "0003_processes"));
    assert_eq!(backup.files, ["ca-key.pem", "ca.pem"]);

    // A second one at the same moment is told.
    let under_way = fs::File::create(elsewhere.path().join(".convoke.backup.partial")).unwrap();
    under_way.lock().unwrap();
    assert!(matches!(take(folder.path(), &file, Existing::Replace), Err(BackupError::UnderWay(_))));

    let nothing = tempfile::tempdir().unwrap();
    let error = take(nothing.path(), &elsewhere.path().join("none"), Existing::Refuse).unwrap_err();
    assert!(error.to_string().starts_with("there is no database in "), "{error}");
    assert!(names(nothing.path()).is_empty());
}

#[tokio::test]
async fn a_backup_that_fails_leaves_what_was_there() {
    let folder = data().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("convoke.backup");
    take(folder.path(), &file, Existing::Refuse).unwrap();
    let good = fs::read(&file).unwrap();
    let path = folder.path().join("convoke.db");
    let mut bytes = fs::read(&path).unwrap();
    let page = bytes.len() / 4096 / 2;
    bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let error = take(folder.path(), &file, Existing::Replace).unwrap_err();
    assert!(matches!(error, BackupError::Store(StoreError::Damaged { .. })), "{error:?}");
    assert!(fs::read(&file).unwrap() == good);
    assert_eq!(names(elsewhere.path()), ["convoke.backup"]);
}

#[tokio::test]
async fn a_backup_that_is_not_sound_is_not_restored() {
    let folder = data().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("convoke.backup");
    take(folder.path(), &file, Existing::Refuse).unwrap();
    let good = fs::read(&file).unwrap();
    let to = elsewhere.path().join("data");
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = restore(&file, &to, &[], Existing::Refuse).unwrap_err();
        assert!(!to.exists(), "nothing is made: {error}");
        error
    };
    // One bit of one body: no structure of SQLite's tells, but the checksum does.
    let mut flipped = good.clone();
    for at in 0..good.len() - 11 {
        // A page may hold remains of a row that has moved: every place is flipped.
        if good[at..].starts_with(b"\"number\":0,") {
            flipped[at + 9] ^= 1;
        }
    }
    let error = refused(&flipped);
    assert!(error.to_string().contains("its rows are not those that were written"), "{error}");
    assert!(matches!(refused(&good[..good.len() / 2]), BackupError::Damaged { .. }));
    assert!(matches!(refused(b"not a database at all, but long enough to look like one"), BackupError::Damaged { .. }));

    // The database itself is no backup, and says what to do.
    drop(Sqlite::open(folder.path(), Access::Command).unwrap());
    let error = refused(&fs::read(folder.path().join("convoke.db")).unwrap());
    assert!(error.to_string().ends_with("is not a backup of convoke: make one with `convoke backup`"), "{error}");

    fs::write(&file, &good).unwrap();
    let newer = Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = restore(&file, &to, &[], Existing::Refuse).unwrap_err();
    assert!(error.to_string().contains("use the version that made it"), "{error}");

    fs::write(&file, &good).unwrap();
    let sly = Connection::open(&file).unwrap();
    sly.execute("UPDATE backup_files SET name = '../ca.pem' WHERE name = 'ca.pem'", []).unwrap();
    drop(sly);
    assert!(matches!(restore(&file, &to, &[], Existing::Refuse), Err(BackupError::NotABackup { .. })));
    assert!(!to.exists());
}

#[tokio::test]
async fn a_restore_takes_the_place_of_what_was_there_only_when_asked_and_keeps_it() {
    let folder = data().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("convoke.backup");
    take(folder.path(), &file, Existing::Refuse).unwrap();

    let to: PathBuf = elsewhere.path().join("data");
    let restored = restore(&file, &to, &["server.pem"], Existing::Refuse).unwrap();
    assert_eq!(restored.aside, None);
    assert_eq!(names(&to), ["ca-key.pem", "ca.pem", "convoke.db", "serve.lock"]);
    assert_eq!(fs::read(to.join("ca-key.pem")).unwrap(), b"key");
    let mode = |name: &str| to.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.pem"), mode("ca-key.pem"), mode("convoke.db")), (0o644, 0o600, 0o600));
    let tables: i64 = Connection::open(to.join("convoke.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'backup%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 0);

    // It is lived in: another conference, another certificate, a file of the operator's.
    let server = Sqlite::open(&to, Access::Serve).unwrap();
    server.commit(turn(500, 0)).await.unwrap();
    fs::write(to.join("server.pem"), "server").unwrap();
    fs::write(to.join("notes.txt"), "mine").unwrap();
    assert!(matches!(restore(&file, &to, &["server.pem"], Existing::Refuse), Err(BackupError::NotEmpty(_))));
    let error = restore(&file, &to, &["server.pem"], Existing::Replace).unwrap_err();
    assert!(matches!(error, BackupError::Store(StoreError::InUse { .. })), "{error:?}");
    assert_eq!(server.live_conferences().await.unwrap().len(), 21, "a running server is left alone");
    drop(server);

    let restored = restore(&file, &to, &["server.pem"], Existing::Replace).unwrap();
    let aside = restored.aside.unwrap();
    assert_eq!(names(&aside), ["ca-key.pem", "ca.pem", "convoke.db", "server.pem"]);
    assert_eq!(names(&to), ["before-restore-1", "ca-key.pem", "ca.pem", "convoke.db", "notes.txt", "serve.lock"]);
    let live = |folder: &Path| Sqlite::open(folder, Access::Serve).unwrap();
    assert_eq!(live(&to).live_conferences().await.unwrap().len(), 20);
    assert_eq!(live(&aside).live_conferences().await.unwrap().len(), 21, "what was there is kept");
}

#[tokio::test]
async fn a_restore_that_was_cut_short_is_not_taken_for_an_empty_directory() {
    let folder = data().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("convoke.backup");
    take(folder.path(), &file, Existing::Refuse).unwrap();
    let to = elsewhere.path().join("data");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("convoke.db.restoring"), "half").unwrap();
    let error = Sqlite::open(&to, Access::Serve).unwrap_err();
    assert!(error.to_string().contains("a restore was cut short"), "{error}");
    assert!(!to.join("convoke.db").exists());
    restore(&file, &to, &[], Existing::Refuse).unwrap();
    assert_eq!(names(&to), ["ca-key.pem", "ca.pem", "convoke.db", "serve.lock"]);
    assert_eq!(Sqlite::open(&to, Access::Serve).unwrap().live_conferences().await.unwrap().len(), 20);
}
