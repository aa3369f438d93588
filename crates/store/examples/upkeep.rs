//! How long commits take while nothing else is done, while a backup is taken, and while a sweep goes on.
//!
//! `cargo run --release -p store --example upkeep [LETTERS]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring tool")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use control::{AppId, CallId, ChainId, ConferenceId, Event, Kind, ScenarioId, TenantId, Timestamp};
use store::sqlite::{Access, Existing, Sqlite, back_up};
use store::{Commit, Keep, OutgoingNotice, Settled, Store};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Turns a second, each of a conference of its own.
const RATE: u32 = 200;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn main() {
    let letters = std::env::args().nth(1).map_or(50_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(letters));
}

async fn run(letters: u128) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(folder.path(), Access::Serve).unwrap());
    for batch in 0..letters / 500 {
        let notices = (0..500).map(|number| notice(batch * 500 + number)).collect();
        let ids = store.commit(turn(1_000_000 + batch, notices)).await.unwrap().notices;
        let dead = |id| (id, Settled::Dead { status: None, reason: "no answer".to_owned(), attempts: 9 });
        store.settle(NOW, ids.into_iter().map(dead).collect()).await.unwrap();
    }
    println!("{letters} dead letters, {} MiB", size(folder.path()) >> 20);

    let measured = Load::start(&store, 0);
    tokio::time::sleep(Duration::from_secs(10)).await;
    measured.tell("nothing else").await;

    let measured = Load::start(&store, 100_000);
    let (data, file, began) = (folder.path().to_owned(), folder.path().join("backup"), Instant::now());
    let taken = tokio::task::spawn_blocking(move || back_up(&data, &file, &[], "1", NOW, Existing::Refuse));
    let taken = taken.await.unwrap().unwrap();
    measured.tell(&format!("a backup of {} MiB, {:.1} s", taken.bytes >> 20, began.elapsed().as_secs_f32())).await;

    let measured = Load::start(&store, 200_000);
    let (began, later, mut deleted) = (Instant::now(), NOW + Duration::from_hours(24 * 8), 0);
    loop {
        let swept = store.sweep(later, Keep::default()).await.unwrap();
        deleted += swept.dead_letters;
        if !swept.more {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    measured.tell(&format!("a sweep of {deleted} letters, {:.1} s", began.elapsed().as_secs_f32())).await;
    drop(store);
    println!("{} MiB after the sweep", size(folder.path()) >> 20);
}

/// Commits at a steady rate.
struct Load {
    running: Arc<AtomicBool>,
    /// How long each took, from when it was due.
    took: JoinHandle<Vec<Duration>>,
}

impl Load {
    fn start(store: &Arc<Sqlite>, first: u128) -> Self {
        let (store, running) = (Arc::clone(store), Arc::new(AtomicBool::new(true)));
        let took = tokio::spawn({
            let running = Arc::clone(&running);
            async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
                let (mut took, mut number) = (Vec::new(), first);
                while running.load(Ordering::Acquire) {
                    let due = ticks.tick().await;
                    number += 1;
                    store.commit(turn(number, vec![notice(number)])).await.unwrap();
                    took.push(due.elapsed());
                }
                took
            }
        });
        Self { running, took }
    }

    async fn tell(self, what: &str) {
        self.running.store(false, Ordering::Release);
        let mut took = self.took.await.unwrap();
        took.sort_unstable();
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64) * 1e3;
        let longest = took.last().map_or(0.0, Duration::as_secs_f64) * 1e3;
        println!(
            "{what}: {} commits, p50 {:.1} ms, p99 {:.1} ms, longest {longest:.1} ms",
            took.len(),
            at(0.5),
            at(0.99)
        );
    }
}

fn turn(conference: u128, notices: Vec<OutgoingNotice>) -> Commit {
    let opened = Event::Opened {
        at: NOW,
        tenant: TenantId(Uuid::from_u128(2)),
        kind: Kind::PeerToPeer,
        created_by: AppId(Uuid::from_u128(1)),
    };
    let conference = ConferenceId(Uuid::from_u128(conference));
    Commit { conference, position: 0, at: NOW, events: vec![opened], notices, snapshot: None }
}

fn notice(call: u128) -> OutgoingNotice {
    OutgoingNotice {
        call: CallId(Uuid::from_u128(call)),
        app: AppId(Uuid::from_u128(1)),
        tenant: TenantId(Uuid::from_u128(2)),
        callback: "https://bot.example/api/calls".to_owned(),
        scenario: ScenarioId(Uuid::from_u128(4)),
        chain: ChainId(Uuid::from_u128(5)),
        body: "x".repeat(1500),
        after: None,
        settles: None,
        full_roster: false,
        ends_call: false,
    }
}

fn size(folder: &Path) -> u64 {
    folder.join("convoke.db").metadata().map_or(0, |found| found.len())
}
