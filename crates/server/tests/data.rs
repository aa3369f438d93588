//! What the operator does with the data: the binary's commands beside a running server, and on bad days of the disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{AppId, CallId, ConferenceId, TenantId, Timestamp};
use server::auth::{fresh_id, wall_clock};
use server::boot::{self, Server};
use server::config::Span;
use server::hook::{Hook, Manners};
use store::sqlite::{Access, Sqlite, examine};
use store::{Fate, Meeting, MeetingKey, NoticeId, OutgoingNotice, Settled, Store};
use tokio::net::TcpListener;
use world::{PATIENCE, free_ports, notice, turn};

fn convoke(arguments: &[&str], data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_convoke"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env_remove("CONVOKE_CONFIG")
        .output()
        .unwrap()
}

/// What a command printed that should succeed.
fn done(arguments: &[&str], data: &Path) -> String {
    let output = convoke(arguments, data);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn serve(data: &Path) -> Server {
    boot::start(&free_ports(data)).await.unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{what} in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_replayed_to_a_webhook_that_has_recovered() {
    // OQ-9, CALL-3
    let folder = tempfile::tempdir().unwrap();
    let mut config = free_ports(folder.path());
    // One try each.
    config.notify.retry_for = Span(Duration::from_millis(1));
    let server = boot::start(&config).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut hook = Hook::start(listener, None, None, Manners { fail: 4, ..Manners::default() }).unwrap();
    let callback = format!("http://127.0.0.1:{}/calls", hook.address.port());
    let store = Arc::clone(&server.store);
    let (one, other) = (CallId(fresh_id()), CallId(fresh_id()));
    let notices = [(one, 1), (one, 2), (one, 3), (other, 4)].map(|(call, number)| notice(call, &callback, number));
    store.commit(turn(wall_clock(), notices.to_vec())).await.unwrap();
    let mut failed = Vec::new();
    for _ in 0..4 {
        let received = tokio::time::timeout(PATIENCE, hook.next()).await.unwrap().unwrap();
        assert_eq!(received.answered, 503);
        failed.push((received.body["number"].as_u64().unwrap(), received.original.unwrap()));
    }
    failed.sort();
    until("all are given up", async || store.given_up(None, NoticeId::NONE, 10).await.unwrap().len() == 4).await;
    let ids = store.given_up(None, NoticeId::NONE, 10).await.unwrap();

    // One by name, which does not exist, replays nothing; then the third of the first call; then all.
    let missing = convoke(&["deadletter", "replay", "999", &ids[0].to_string()], folder.path());
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing).contains("there is no dead letter 999; nothing is sent again"), "{}", said(&missing));
    assert_eq!(store.given_up(None, NoticeId::NONE, 10).await.unwrap(), ids);

    let began = Instant::now();
    assert_eq!(done(&["deadletter", "replay", "--all"], folder.path()), "4 notifications are sent again.\n");
    let committed = Instant::now();
    let mut replayed = Vec::new();
    for _ in 0..4 {
        let received = tokio::time::timeout(PATIENCE, hook.next()).await.unwrap().unwrap();
        assert_eq!(received.answered, 202);
        replayed.push((received.body["number"].as_u64().unwrap(), received.original.unwrap()));
        if replayed.len() == 1 {
            // The machine may be busy; the promise is a second from when the command has ended.
            assert!(committed.elapsed() < Duration::from_secs(3), "{:?} since {began:?}", committed.elapsed());
        }
    }
    let of_one: Vec<_> = replayed.iter().map(|(number, _)| *number).filter(|number| *number < 4).collect();
    assert_eq!(of_one, [1, 2, 3], "in the order of the call");
    replayed.sort();
    assert_eq!(replayed, failed, "the same notifications");

    until("the letters say so", async || {
        let letters = store.dead_letters(None, 10).await.unwrap();
        letters.iter().all(|letter| matches!(letter.fate, Fate::Delivered(_)))
    })
    .await;
    let list = done(&["deadletter", "list"], folder.path());
    assert_eq!(list.lines().filter(|line| line.contains("503 until the end  delivered 20")).count(), 4, "{list}");
    assert_eq!(done(&["deadletter", "replay", "--all"], folder.path()), "0 notifications are sent again.\n");
    let again = done(&["deadletter", "replay", &ids[0].to_string()], folder.path());
    assert!(again.contains(" is left alone: delivered "), "{again}");
    server.drain().await;
    assert!(store.pending(NoticeId::NONE, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_are_replayed_while_no_server_runs_go_out_at_the_next_start() {
    // OQ-9
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut hook = Hook::start(listener, None, None, Manners::default()).unwrap();
    let callback = format!("http://127.0.0.1:{}/", hook.address.port());
    let (app, letters) = {
        let store = Sqlite::open(folder.path(), Access::Command).unwrap();
        let notices = vec![notice(CallId(fresh_id()), &callback, 1), notice(CallId(fresh_id()), &callback, 2)];
        let app = notices[0].app;
        let letters = store.commit(turn(wall_clock(), notices)).await.unwrap().notices;
        let dead = |id: &NoticeId| (*id, Settled::Dead { status: None, reason: "refused".to_owned(), attempts: 9 });
        store.settle(wall_clock(), letters.iter().map(dead).collect()).await.unwrap();
        (app, letters)
    };
    let of_app = ["deadletter", "replay", "--app", &app.to_string()];
    assert_eq!(done(&of_app, folder.path()), "1 notifications are sent again.\n");
    assert_eq!(done(&of_app, folder.path()), "0 notifications are sent again.\n");
    let shown = done(&["deadletter", "show", &letters[0].to_string()], folder.path());
    assert!(shown.contains("on its way again since 20"), "{shown}");
    let server = serve(folder.path()).await;
    let received = tokio::time::timeout(PATIENCE, hook.next()).await.unwrap().unwrap();
    assert_eq!(received.body["number"], 1);
    assert_eq!(server.store.given_up(None, NoticeId::NONE, 10).await.unwrap(), letters[1..]);
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_sweeps_what_was_kept_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (now, day) = (wall_clock(), Duration::from_hours(24));
    let meeting = |number: u32, end: Timestamp| Meeting {
        id: ConferenceId(fresh_id()),
        tenant: TenantId(fresh_id()),
        organizer: None,
        created_by: AppId(fresh_id()),
        created: now - day * 100,
        subject: None,
        start: end,
        end,
        thread: format!("19:meeting_{number}@thread.v2"),
        join_meeting_id: format!("{number:012}"),
        passcode: None,
        external_id: None,
        vtc_id: None,
        body: serde_json::Value::Null,
    };
    {
        let store = Sqlite::open(folder.path(), Access::Command).unwrap();
        let notices = (0..350).map(|number| notice(CallId(fresh_id()), "https://bot.example/", number)).collect();
        let letters = store.commit(turn(now, notices)).await.unwrap().notices;
        let dead = |id: &NoticeId| (*id, Settled::Dead { status: None, reason: "refused".to_owned(), attempts: 9 });
        store.settle(now - day * 8, letters[..349].iter().map(dead).collect()).await.unwrap();
        store.settle(now - day * 6, vec![dead(&letters[349])]).await.unwrap();
        store.create_meeting(meeting(1, now - day * 61)).await.unwrap();
        store.create_meeting(meeting(2, now - day * 59)).await.unwrap();
    }
    let server = serve(folder.path()).await;
    let store = Arc::clone(&server.store);
    until("the old letters go", async || store.dead_letters(None, 1000).await.unwrap().len() == 1).await;
    let thread = |number| MeetingKey::Thread(format!("19:meeting_{number}@thread.v2"));
    assert_eq!(store.meeting(thread(1)).await.unwrap(), None);
    assert!(store.meeting(thread(2)).await.unwrap().is_some());
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_is_restored_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = serve(&data).await;
    let callback = "https://localhost:1/";
    server.store.commit(turn(wall_clock(), vec![notice(CallId(fresh_id()), callback, 1)])).await.unwrap();
    let secret = server.store.secret("sip").await.unwrap();
    let file = folder.path().join("convoke.backup");
    let name = file.to_str().unwrap();
    let printed = done(&["backup", name], &data);
    assert!(printed.contains("ca-key.pem ca.pem"), "{printed}");
    let refused = convoke(&["backup", name], &data);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("exists already: name another file, or replace it with --force"));
    done(&["backup", name, "--force"], &data);

    // Not over a running server, whatever is asked.
    let refused = convoke(&["restore", name, "--force"], &data);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is in use by another convoke server"), "{}", said(&refused));
    assert!(done(&["restore", name, "--check"], &data).ends_with("It is sound.\n"));

    let restored = folder.path().join("restored");
    done(&["restore", name], &restored);
    let refused = convoke(&["restore", name], &restored);
    assert!(said(&refused).contains("is not empty: name another directory"), "{}", said(&refused));
    let second = serve(&restored).await;
    assert_eq!(second.authority.pem(), server.authority.pem());
    assert_eq!(second.store.secret("sip").await.unwrap(), secret);
    assert_eq!(second.store.pending(NoticeId::NONE, 10).await.unwrap().len(), 1, "what was owed is owed");
    server.drain().await;
    second.drain().await;

    let printed = done(&["restore", name, "--force"], &restored);
    assert!(printed.contains("before-restore-1"), "{printed}");
    assert!(
        restored.join("before-restore-1/server.pem").exists(),
        "a certificate of the replaced authority goes along"
    );
    serve(&restored).await.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_looks_into_the_database_whether_a_server_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let free = ["--set", "http.listen=127.0.0.1:0", "--set", "sip.udp_listen=127.0.0.1:0"];
    let doctor = |data: &Path| {
        let output = convoke(&[&["doctor", "--set", "sip.tcp_listen=127.0.0.1:0"][..], &free].concat(), data);
        let lines = String::from_utf8(output.stdout).unwrap();
        let line = |what: &str| {
            let found = lines.lines().find(|line| line.split_whitespace().nth(1) == Some(what));
            found.unwrap_or_else(|| panic!("{what} in {lines}")).to_owned()
        };
        (output.status.code(), line("database"), line("disk"), lines.clone())
    };
    let server = serve(data).await;
    let (_, database, disk, _) = doctor(data);
    assert!(database.starts_with("ok ") && database.contains("is sound: schema 0003_processes"), "{database}");
    assert!(disk.contains(" MiB are free"), "{disk}");
    server.drain().await;
    let (_, database, ..) = doctor(data);
    assert!(database.starts_with("ok ") && database.contains("0 notifications owed"), "{database}");

    let path = data.join("convoke.db");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let page = bytes.len() / 4096 / 2;
    bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let (code, database, _, lines) = doctor(data);
    assert_eq!(code, Some(1));
    assert!(database.starts_with("WRONG") && database.contains("is damaged: "), "{database}");
    assert!(lines.contains("→ stop the server, keep a copy of the data directory, then `convoke restore"), "{lines}");
    assert!(fs::read(&path).unwrap() == bytes, "the doctor changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_touches_a_database_that_is_damaged_or_newer() {
    let folder = tempfile::tempdir().unwrap();
    serve(folder.path()).await.drain().await;
    let path = folder.path().join("convoke.db");
    let whole = fs::read(&path).unwrap();
    let newer = {
        // The header's user version, big-endian (SQLite's file format, §1.3).
        let mut bytes = whole.clone();
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        bytes
    };
    let mut garbage = whole.clone();
    garbage[..16].fill(0);
    let cases = [
        (&whole[..whole.len() / 2], "is damaged"),
        (&garbage[..], "file is not a database"),
        (
            &newer[..],
            "its schema is number 99, which this version of convoke does not know: use the version that made it",
        ),
        (&[][..], "it is empty: it was cut short"),
    ];
    for (bytes, why) in cases {
        fs::write(&path, bytes).unwrap();
        let backup = folder.path().join("backup");
        for command in
            [&["serve"][..], &["directory", "show"], &["deadletter", "list"], &["backup", backup.to_str().unwrap()]]
        {
            let output = convoke(command, folder.path());
            assert_eq!(output.status.code(), Some(1), "{command:?}");
            let said = said(&output);
            assert!(said.starts_with("convoke: ") && said.contains(why), "{command:?}: {said}");
            assert!(said.contains("Nothing was changed"), "{command:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(fs::read(&path).unwrap() == bytes, "{command:?}");
            assert!(!backup.exists());
        }
    }
}

/// Runs the binary where no file may grow beyond so many KiB: a full disk, without needing one.
fn on_a_full_disk(kib: u64, arguments: &[&str], data: &Path) -> Command {
    let mut command = Command::new("sh");
    // POSIX counts in blocks of 512 bytes; the signal would kill it before it could see the error.
    command
        .arg("-c")
        .arg(format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2))
        .arg(env!("CARGO_BIN_EXE_convoke"))
        .args(arguments)
        .arg("--data")
        .arg(data);
    command
}

/// A database of some MiB, most of which could be swept.
async fn full_of_letters(data: &Path) {
    let store = Sqlite::open(data, Access::Command).unwrap();
    let long = "x".repeat(4000);
    let notices = (0..1500).map(|number| OutgoingNotice {
        body: long.clone(),
        ..notice(CallId(fresh_id()), "https://bot.example/", number)
    });
    let letters = store.commit(turn(wall_clock(), notices.collect())).await.unwrap().notices;
    let dead = |id: &NoticeId| (*id, Settled::Dead { status: None, reason: "refused".to_owned(), attempts: 9 });
    let old = wall_clock() - Duration::from_hours(24 * 8);
    store.settle(old, letters.iter().map(dead).collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_finds_the_disk_full_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    full_of_letters(&data).await;
    let elsewhere = folder.path().join("backups");
    fs::create_dir(&elsewhere).unwrap();
    let file = elsewhere.join("convoke.backup");
    fs::write(&file, "the last good one").unwrap();
    let output = on_a_full_disk(1024, &["backup", file.to_str().unwrap(), "--force"], &data).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.starts_with("convoke: the backup could not be written: "), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"the last good one");
    assert_eq!(elsewhere.read_dir().unwrap().count(), 1);

    // A restore that finds no room leaves a directory that is not taken for a new one.
    done(&["backup", file.to_str().unwrap(), "--force"], &data);
    let to = folder.path().join("to");
    let output = on_a_full_disk(1024, &["restore", file.to_str().unwrap()], &to).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!to.join("convoke.db").exists());
    done(&["restore", file.to_str().unwrap()], &to);
    assert!(examine(&to).unwrap().unwrap().damages.is_empty());
}

/// Killed when it goes.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_finds_the_disk_full_does_no_harm_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    // Keys and certificates are made while there is room.
    serve(data).await.drain().await;
    full_of_letters(data).await;
    let log = folder.path().join("serve.log");
    let here = ["http.listen", "http.plain_listen", "sip.udp_listen", "sip.tcp_listen"]
        .map(|key| format!("{key}=127.0.0.1:0"));
    let arguments: Vec<&str> =
        ["serve"].into_iter().chain(here.iter().flat_map(|setting| ["--set", setting.as_str()])).collect();
    {
        // The write-ahead log of a sweep needs more than that.
        let mut command = on_a_full_disk(64, &arguments, data);
        let child = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut process = Process(child);
        until("the sweep fails", async || {
            fs::read_to_string(&log).unwrap().contains("what was kept long enough cannot be deleted")
        })
        .await;
        assert!(process.0.try_wait().unwrap().is_none(), "the server goes on");
    }
    let left = examine(data).unwrap().unwrap();
    assert!(left.damages.is_empty() && left.given_up > 1000, "{left:?}");

    let server = serve(data).await;
    until("there is room again", async || server.store.dead_letters(None, 10).await.unwrap().is_empty()).await;
    server.drain().await;
    assert!(examine(data).unwrap().unwrap().damages.is_empty());
}
