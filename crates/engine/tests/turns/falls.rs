//! Faults of ours: each costs one conference at most, whose calls end and are told so.

use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use control::{Cause, Event, LegAction, LegNews, News};
use engine::{CommandError, Detail};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, LocalRecorderGuard, Metadata, Recorder, SharedString, Unit};
use store::{NoticeId, Store};

use crate::world::{World, call, conference, connected, dial};

/// Two conferences that are as they should be.
async fn two_talking(directory: &Path) -> World {
    let mut world = World::open(directory).await;
    world.talking(1).await;
    world.talking(2).await;
    world
}

#[tokio::test]
async fn a_fall_costs_a_command_its_answer_and_a_signal_a_second_try() {
    let faults = Faults::default();
    let _counting = faults.counting();
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.falls.store(1, Ordering::SeqCst);
    assert_eq!(world.place(1).await, Err(CommandError::Unavailable));
    world.place(1).await.unwrap();
    assert!(matches!(world.action(1).await, LegAction::Dial(_)));

    // The conference is loaded and the signal offered again.
    world.falls.store(1, Ordering::SeqCst);
    world.news(1, connected()).await;
    assert_eq!(world.action(1).await, LegAction::Confirm);
    assert_eq!((faults.panics(), faults.dropped()), (2, 0));
}

#[tokio::test]
async fn a_signal_that_makes_us_fall_twice_ends_its_conference_with_notices_and_no_other() {
    let faults = Faults::default();
    let _counting = faults.counting();
    let directory = tempfile::tempdir().unwrap();
    let mut world = two_talking(directory.path()).await;
    world.falls.store(2, Ordering::SeqCst);
    world.news(1, LegNews::Held(true)).await;
    let LegAction::HangUp { cause, .. } = world.action(1).await else { panic!("not hung up") };
    assert_eq!(cause, Cause::Internal);
    assert_eq!((faults.panics(), faults.dropped()), (2, 1));

    // CALL-2: its call has ended and its application hears so; what the signal said never happened.
    assert_eq!(world.hang_up(1).await, Err(CommandError::NoSuchCall));
    let ends = world.ends().await;
    assert!(matches!(&ends[..], [(ended, news)] if *ended == call(1) && news.contains("Internal")), "{ends:?}");
    let held = |(_, event): &(_, Event)| matches!(event, Event::CallHeld { .. });
    assert!(!world.store.taken.lock().unwrap().iter().any(held));
    world.news(1, LegNews::HungUp(Cause::Internal)).await;
    until(async || world.engine.live() == 1).await;

    // The others are as they were, and new ones come.
    assert_eq!(world.read(2, |conference| conference.roster().people().count()).await, Ok(1));
    world.talking(3).await;
    world.hang_up(2).await.unwrap();
    assert!(matches!(world.action(2).await, LegAction::HangUp { .. }));
}

#[tokio::test]
async fn a_fault_at_a_deadline_is_tried_again_later_and_does_not_spin() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.place(1).await.unwrap();
    assert!(matches!(world.action(1).await, LegAction::Dial(_)));
    // The deadline twice, and the end that follows from that twice.
    world.falls.store(4, Ordering::SeqCst);
    world.hand.turn(Duration::from_mins(1));
    until(async || world.falls.load(Ordering::SeqCst) == 0).await;
    assert!(world.read(1, |_| ()).await.is_ok());
    assert!(world.effects.try_recv().is_err(), "not before a second has passed");
    world.hand.turn(Duration::from_secs(1));
    assert!(matches!(world.action(1).await, LegAction::HangUp { cause: Cause::NoAnswer, .. }));
}

#[tokio::test]
async fn a_conference_that_falls_whatever_happens_costs_no_other_anything_and_no_server_its_start() {
    let directory = tempfile::tempdir().unwrap();
    {
        let mut world = World::open(directory.path()).await;
        world.talking(1).await;
        world.talking(2).await;
        *world.broken.lock().unwrap() = Some((conference(1), &[Detail::Whole, Detail::Ends]));
        for held in [true, false] {
            world.news(1, LegNews::Held(held)).await;
            assert_eq!(world.hang_up(1).await, Err(CommandError::Unavailable));
        }
        world.news(2, LegNews::Held(true)).await;
        until(async || world.store.taken.lock().unwrap().iter().any(|(place, _)| *place == conference(2))).await;
        world.talking(3).await;
        world.engine.stop().await;
    }
    // The next process has the same fault: it is up all the same.
    {
        let faults = Faults::default();
        let _counting = faults.counting();
        let mut world = World::open(directory.path()).await;
        *world.broken.lock().unwrap() = Some((conference(1), &[Detail::Whole, Detail::Ends]));
        world.engine.taken_up().await;
        assert_eq!((faults.panics(), faults.dropped()), (4, 2), "its restart, and its end");
        assert!(matches!(world.action(2).await, LegAction::Resume { .. }));
        assert_eq!(world.hang_up(1).await, Err(CommandError::Unavailable));
        world.hang_up(2).await.unwrap();
        world.talking(4).await;
        world.engine.stop().await;
    }
    // The one that has it no longer goes on from the log.
    let mut world = World::open(directory.path()).await;
    assert!(matches!(world.action(1).await, LegAction::Resume { .. }));
    world.hang_up(1).await.unwrap();
    assert!(matches!(world.action(1).await, LegAction::HangUp { .. }));
}

#[tokio::test]
async fn a_conference_of_which_nothing_can_be_told_but_its_end_ends() {
    let faults = Faults::default();
    let _counting = faults.counting();
    let directory = tempfile::tempdir().unwrap();
    let mut world = two_talking(directory.path()).await;
    let operation = world.invite(1, 9, dial(9)).await.unwrap();
    assert!(matches!(world.action(9).await, LegAction::Dial(_)));
    *world.broken.lock().unwrap() = Some((conference(1), &[Detail::Whole]));
    world.news(1, LegNews::Held(true)).await;
    let LegAction::HangUp { cause, .. } = world.action(1).await else { panic!("not hung up") };
    assert_eq!(cause, Cause::Internal);
    assert_eq!((faults.panics(), faults.dropped()), (3, 1), "what it was told, twice, and its end, once");

    // INV-26, CALL-2: the operation has ended and then its call, and the application hears of both.
    let told = world.ends().await;
    let of_operation = format!("{:?}", News::Operation(operation));
    assert!(
        matches!(&told[..], [(one, end), (other, last)] if *one == call(1) && *end == of_operation
        && *other == call(1) && last.starts_with("Terminated(Internal")),
        "{told:?}"
    );
    assert_eq!(world.hang_up(1).await, Err(CommandError::NoSuchCall));
    assert_eq!(world.read(2, |conference| conference.roster().people().count()).await, Ok(1));
}

#[tokio::test]
async fn a_conference_whose_task_falls_is_ended_by_another_with_notices() {
    let faults = Faults::default();
    let _counting = faults.counting();
    let directory = tempfile::tempdir().unwrap();
    let mut world = two_talking(directory.path()).await;
    *world.store.cursed.lock().unwrap() = Some((conference(1), 1));
    world.news(1, LegNews::Held(true)).await;
    let LegAction::HangUp { cause, .. } = world.action(1).await else { panic!("not hung up") };
    assert_eq!((cause, faults.panics()), (Cause::Internal, 1));
    assert_eq!(world.hang_up(1).await, Err(CommandError::NoSuchCall));
    let ends = world.ends().await;
    assert!(matches!(&ends[..], [(ended, news)] if *ended == call(1) && news.contains("Internal")), "{ends:?}");
    world.news(1, LegNews::HungUp(Cause::Internal)).await;
    until(async || world.engine.live() == 1).await;
    assert_eq!(world.read(2, |conference| conference.roster().people().count()).await, Ok(1));

    // A command that nobody can answer any more, of a conference that nobody has heard of.
    *world.store.cursed.lock().unwrap() = Some((conference(3), 1));
    assert_eq!(world.place(3).await, Err(CommandError::Unavailable));
    until(async || world.engine.live() == 1).await;
    world.talking(3).await;
}

#[tokio::test]
async fn a_conference_whose_end_falls_too_is_left_to_the_next_process_and_nobody_waits_for_it() {
    let faults = Faults::default();
    let _counting = faults.counting();
    let directory = tempfile::tempdir().unwrap();
    let world = two_talking(directory.path()).await;
    *world.store.cursed.lock().unwrap() = Some((conference(1), 2));
    world.news(1, LegNews::Held(true)).await;
    until(async || faults.panics() == 2).await;
    world.news(1, LegNews::Held(false)).await;
    assert_eq!(world.hang_up(1).await, Err(CommandError::Unavailable));
    assert_eq!(world.read(1, |_| ()).await, Err(CommandError::Unavailable));
    assert_eq!(world.engine.live(), 1);

    // The other one goes on and ends, and the log of the first is there for the next process.
    world.engine.end_all();
    let (engine, store, _hand) = world.obliging();
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(store.live_conferences().await.unwrap(), [conference(1)]);
}

impl World {
    /// What applications are told of the ends of operations and calls, and in which call.
    async fn ends(&self) -> Vec<(control::CallId, String)> {
        let owed = self.store.pending(NoticeId::NONE, 1000).await.unwrap().into_iter();
        let told = owed.map(|pending| (pending.notice.call, pending.notice.body));
        told.filter(|(_, news)| ["Operation", "Terminated"].iter().any(|end| news.starts_with(end))).collect()
    }
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("in time");
}

/// Counts faults of the thread that a test and all its tasks run on.
#[derive(Default)]
struct Faults {
    dropped: Arc<AtomicU64>,
    /// What the thread had counted before it is asked to count.
    before: Cell<u64>,
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

impl Faults {
    fn counting(&self) -> LocalRecorderGuard<'_> {
        self.before.set(PANICS.get());
        static HOOKED: Once = Once::new();
        HOOKED.call_once(|| {
            let said = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICS.set(PANICS.get() + 1);
                said(panic);
            }));
        });
        metrics::set_default_local_recorder(self)
    }

    fn panics(&self) -> u64 {
        PANICS.get() - self.before.get()
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }
}

impl Recorder for Faults {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "convoke_signals_dropped_total" => Counter::from_arc(Arc::clone(&self.dropped)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
