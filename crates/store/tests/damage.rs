//! A database that is broken, newer, or not ours: said in words, and left as it is to the byte.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use store::sqlite::{Access, Sqlite, back_up, examine};
use store::{DirectorySet, Store, StoreError, Tenant, User};
use uuid::Uuid;

/// A data directory with some hundred pages in its database.
async fn populated() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path(), Access::Serve).unwrap();
    let tenant = Tenant { id: control::TenantId(Uuid::from_u128(1)), domain: "contoso.example".to_owned() };
    let users = (0..500).map(|number| User {
        id: control::UserId(Uuid::from_u128(1000 + number)),
        tenant: tenant.id,
        name: format!("User {number} {}", "x".repeat(500)),
        upn: None,
        sip: None,
        line: None,
    });
    let set = DirectorySet { users: users.collect(), tenants: vec![tenant.clone()], ..DirectorySet::default() };
    store.apply(set, false).await.unwrap();
    drop(store);
    let path = directory.path().join("convoke.db");
    assert!(path.metadata().unwrap().len() > 200_000);
    (directory, path)
}

/// What opening it says, by whomever; the file stays the same.
fn refused(directory: &Path) -> StoreError {
    let path = directory.join("convoke.db");
    let before = fs::read(&path).ok();
    let error = Sqlite::open(directory, Access::Serve).unwrap_err();
    assert_eq!(Sqlite::open(directory, Access::Command).unwrap_err(), error);
    assert!(error.to_string().contains("Nothing was changed"), "{error}");
    assert_eq!(fs::read(&path).ok(), before, "nothing is overwritten");

    // Nor does it become a backup.
    let file = directory.join("backup");
    back_up(directory, &file, &[], "1", control::Timestamp(0), store::sqlite::Existing::Refuse).unwrap_err();
    let names: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("backup")), "{names:?}");
    assert_eq!(fs::read(&path).ok(), before);
    error
}

fn damaged(error: &StoreError, why: &str) {
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(why) && said.contains("convoke restore"), "{said}");
}

#[tokio::test]
async fn a_file_that_was_cut_short() {
    let (directory, path) = populated().await;
    let whole = fs::read(&path).unwrap();
    for length in [whole.len() / 2, 5000, 50] {
        fs::write(&path, &whole[..length]).unwrap();
        damaged(&refused(directory.path()), "it is damaged: ");
        assert!(examine(directory.path()).is_err());
    }
    fs::write(&path, b"").unwrap();
    damaged(&refused(directory.path()), "it is empty: it was cut short");
}

#[tokio::test]
async fn a_header_of_garbage() {
    let (directory, path) = populated().await;
    let mut bytes = fs::read(&path).unwrap();
    bytes[..100].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    damaged(&refused(directory.path()), "not a database");
}

#[tokio::test]
async fn pages_that_were_flipped() {
    let (directory, path) = populated().await;
    let whole = fs::read(&path).unwrap();
    for page in [whole.len() / 4096 / 2, whole.len() / 4096 - 2] {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].iter_mut().for_each(|byte| *byte ^= 0xFF);
        fs::write(&path, bytes).unwrap();
        damaged(&refused(directory.path()), "it is damaged: ");
        let examined = examine(directory.path()).unwrap().unwrap();
        assert!(!examined.damages.is_empty());
    }
    fs::write(&path, whole).unwrap();
    assert!(examine(directory.path()).unwrap().unwrap().damages.is_empty());
    Sqlite::open(directory.path(), Access::Serve).unwrap();
}

#[tokio::test]
async fn a_newer_version() {
    let (directory, path) = populated().await;
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = refused(directory.path());
    assert!(matches!(error, StoreError::Schema { .. }));
    assert!(error.to_string().contains("its schema is number 99, which this version of convoke does not know: use"));

    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    newer.execute("INSERT INTO migrations VALUES (99, '0099_later', '', 0)", []).unwrap();
    drop(newer);
    assert!(refused(directory.path()).to_string().contains("its schema is 0099_later, which this version"));

    let edited = Connection::open(&path).unwrap();
    edited
        .execute_batch("DELETE FROM migrations WHERE number = 99; UPDATE migrations SET checksum = 'edited'")
        .unwrap();
    drop(edited);
    assert!(refused(directory.path()).to_string().contains("its schema 0001_first is not the one"));
}

#[test]
fn a_database_of_somebody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("convoke.db");
    let foreign = Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE cats (name); INSERT INTO cats VALUES ('Tom')").unwrap();
    drop(foreign);
    let error = refused(directory.path());
    assert!(error.to_string().contains("this is not a convoke database"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_gone_while_its_log_is_there() {
    let (directory, path) = populated().await;
    fs::remove_file(&path).unwrap();
    fs::write(directory.path().join("convoke.db-wal"), [1; 5000]).unwrap();
    damaged(&refused(directory.path()), "it is missing, though its write-ahead log (-wal) is there");
    assert!(!path.exists());
}
