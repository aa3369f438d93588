//! The threads that touch the database: one that writes, in groups, and a few that read.
//!
//! A group is what queued up while the last one was being written: the writer never waits for company. Each member has a
//! savepoint of its own, so that one that is refused does not sink the others, and all of them share one fsync. Patient
//! work, which nobody acts on, waits a little for a group that must be written anyway.
//!
//! The writer keeps up as long as its groups take everything that waits. When one cannot, it is behind by how long the
//! newest member of that group has waited; and when the disk stands still, for as long as it does.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::StoreError;

/// What may wait to be written: a second's worth.
const QUEUE_MAX: usize = 4096;

/// So that the first of a group does not wait too long for the last.
const GROUP_MAX: usize = 256;

/// How long patient work waits: a few groups long, and nothing to a process that may die at any moment anyway.
const PATIENCE: Duration = Duration::from_millis(20);

/// A disk that takes longer for a group stands still: several times what the slowest disks take for a sync.
const STANDS_STILL_AFTER: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    Urgent,
    Patient,
}

/// One piece of work, and whoever waits for it.
trait Job: Send {
    fn haste(&self) -> Haste;
    /// When it began to wait.
    fn since(&self) -> Instant;
    /// Does it. `false`: what it has written must be undone.
    fn run(&mut self, db: &Connection) -> bool;
    /// Answers, once it is known whether the group is on disk.
    fn answer(self: Box<Self>, group: Result<(), StoreError>);
}

struct Waiting<W, T> {
    haste: Haste,
    since: Instant,
    work: Option<W>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Job for Waiting<W, T>
where
    W: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn haste(&self) -> Haste {
        self.haste
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn run(&mut self, db: &Connection) -> bool {
        let result = match self.work.take() {
            Some(work) => caught(|| work(db)),
            None => Err(StoreError::Closed),
        };
        let kept = result.is_ok();
        self.result = Some(result);
        kept
    }

    fn answer(self: Box<Self>, group: Result<(), StoreError>) {
        let result = match (self.result, group) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // Whoever asked may have gone: what was written stays written.
        let _ = self.reply.send(result);
    }
}

/// Work that falls costs whoever asked for it, and not the thread that everybody needs.
fn caught<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("a piece of work on the database fell");
        Err(StoreError::Failed("a fault of ours".to_owned()))
    })
}

/// Hands work to a thread and waits for its answer.
async fn ask<T: Send + 'static>(
    queue: Option<&SyncSender<Box<dyn Job>>>,
    haste: Haste,
    work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    let job = Box::new(Waiting { haste, since: Instant::now(), work: Some(work), result: None, reply });
    match queue.ok_or(StoreError::Closed)?.try_send(job) {
        Ok(()) => answer.await.unwrap_or(Err(StoreError::Closed)),
        Err(TrySendError::Full(_)) => Err(StoreError::Overloaded),
        Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
    }
}

pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    pace: Arc<Pace>,
    thread: Option<JoinHandle<()>>,
}

/// How the writer keeps up.
struct Pace {
    started: Instant,
    /// How long the newest of the last group had waited, microseconds; zero if the group took everything.
    waited_us: AtomicU64,
    /// When the group that is being written was begun, microseconds after `started`; zero: none is.
    begun_us: AtomicU64,
}

impl Pace {
    fn new() -> Self {
        Self { started: Instant::now(), waited_us: AtomicU64::new(0), begun_us: AtomicU64::new(0) }
    }

    fn begins(&self, group: &[Box<dyn Job>]) {
        let newest = group.last().filter(|_| group.len() == GROUP_MAX).map(|job| job.since());
        self.waited_us.store(newest.map_or(0, |since| micros(since.elapsed())), Ordering::Relaxed);
        self.begun_us.store(micros(self.started.elapsed()).max(1), Ordering::Relaxed);
    }

    fn ends(&self) {
        self.begun_us.store(0, Ordering::Relaxed);
    }

    fn behind(&self) -> Duration {
        let standing = match self.begun_us.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            begun => self.started.elapsed().saturating_sub(Duration::from_micros(begun)),
        };
        let waited = Duration::from_micros(self.waited_us.load(Ordering::Relaxed));
        if standing > STANDS_STILL_AFTER { standing.max(waited) } else { waited }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let pace = Arc::new(Pace::new());
        let noted = Arc::clone(&pace);
        let thread = spawn("store-writer", move || write(&connection, &jobs, &noted))?;
        Ok(Self { queue: Some(queue), pace, thread: Some(thread) })
    }

    /// How long work waits for its turn, beyond what it waits anyway to share a sync.
    pub(super) fn behind(&self) -> Duration {
        self.pace.behind()
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.queue.as_ref(), Haste::Urgent, work).await
    }

    /// The same for what may wait a little, because it is done again if it is lost.
    pub(super) async fn run_patiently<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.queue.as_ref(), Haste::Patient, work).await
    }
}

impl Drop for Writer {
    /// Writes what is queued, then ends.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(db: &Connection, jobs: &Receiver<Box<dyn Job>>, pace: &Pace) {
    while let Ok(first) = jobs.recv() {
        let mut group = gather(first, jobs);
        pace.begins(&group);
        let written = write_group(db, &mut group);
        if let Err(error) = &written {
            tracing::error!(%error, members = group.len(), "a group was not written");
        }
        pace.ends();
        for job in group {
            job.answer(written.clone());
        }
    }
}

fn gather(first: Box<dyn Job>, jobs: &Receiver<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    let until = Instant::now() + PATIENCE;
    let mut group = vec![first];
    while group.len() < GROUP_MAX && group.iter().all(|job| job.haste() == Haste::Patient) {
        match jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(job) => group.push(job),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    group.extend(jobs.try_iter().take(GROUP_MAX - group.len()));
    group
}

fn write_group(db: &Connection, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let execute = |sql: &str| -> Result<(), StoreError> {
        db.prepare_cached(sql)?.execute([])?;
        Ok(())
    };
    execute("BEGIN IMMEDIATE")?;
    let members = || {
        for job in group {
            execute("SAVEPOINT member")?;
            let kept = job.run(db);
            // A full disk makes SQLite roll the whole transaction back by itself.
            if db.is_autocommit() {
                return Err(StoreError::Failed("the transaction was rolled back".to_owned()));
            }
            if !kept {
                execute("ROLLBACK TO member")?;
            }
            execute("RELEASE member")?;
        }
        execute("COMMIT")
    };
    let written = members();
    if written.is_err() && !db.is_autocommit() {
        let _ = execute("ROLLBACK");
    }
    written
}

pub(super) struct Readers {
    queue: Option<SyncSender<Box<dyn Job>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(connections: Vec<Connection>) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = connections.into_iter().map(|connection| {
            let jobs = Arc::clone(&jobs);
            spawn("store-reader", move || read(&connection, &jobs))
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, queue: Some(queue) })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.queue.as_ref(), Haste::Urgent, work).await
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn read(db: &Connection, jobs: &Mutex<Receiver<Box<dyn Job>>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        // One transaction, so that several statements see one state.
        match db.unchecked_transaction() {
            Ok(_transaction) => {
                job.run(db);
                job.answer(Ok(()));
            }
            Err(error) => job.answer(Err(error.into())),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(count: usize, waited: Duration) -> Vec<Box<dyn Job>> {
        let since = Instant::now().checked_sub(waited).expect("the machine has run for longer");
        let job = |_| {
            let work = |_: &Connection| Ok(());
            let (reply, _) = oneshot::channel();
            Box::new(Waiting { haste: Haste::Urgent, since, work: Some(work), result: None, reply }) as Box<dyn Job>
        };
        (0..count).map(job).collect()
    }

    #[tokio::test]
    async fn work_that_falls_is_undone_and_neither_thread_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let connect = || Connection::open(directory.path().join("numbers.db")).unwrap();
        connect().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE numbers (number INTEGER)").unwrap();
        let writer = Writer::start(connect()).unwrap();
        let readers = Readers::start(vec![connect()]).unwrap();
        let insert = |db: &Connection| Ok(db.execute("INSERT INTO numbers VALUES (1)", [])?);
        let falls = |db: &Connection| -> Result<usize, StoreError> {
            db.execute("INSERT INTO numbers VALUES (2)", [])?;
            panic!("told to fall");
        };
        for _ in 0..3 {
            assert!(matches!(writer.run(falls).await, Err(StoreError::Failed(_))));
            let looked: Result<(), _> = readers.run(|_| panic!("told to fall")).await;
            assert!(matches!(looked, Err(StoreError::Failed(_))));
            writer.run(insert).await.unwrap();
        }
        let sum =
            |db: &Connection| Ok(db.query_row("SELECT sum(number) FROM numbers", [], |row| row.get::<_, i64>(0))?);
        assert_eq!(readers.run(sum).await, Ok(3));
    }

    #[test]
    fn it_is_behind_when_a_group_cannot_take_everything() {
        let (pace, waited) = (Pace::new(), Duration::from_millis(40));
        pace.begins(&jobs(GROUP_MAX - 1, waited));
        pace.ends();
        assert_eq!(pace.behind(), Duration::ZERO, "to share a sync is no delay");
        pace.begins(&jobs(GROUP_MAX, waited));
        pace.ends();
        assert!(pace.behind() >= waited);
        pace.begins(&jobs(1, waited));
        pace.ends();
        assert_eq!(pace.behind(), Duration::ZERO);
    }
}
