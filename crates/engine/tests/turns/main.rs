//! Turns of real conferences on a real database: commit before act, whatever the store, the clock or our own faults do.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod falls;
mod moody;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use control::{Cause, Effect, Event, LegAction, LegNews, Principal, Reach, Status};
use engine::CommandError;
use moody::{Mood, Moody};
use store::sqlite::{Access, Sqlite};
use store::{NoticeId, Store};
use world::{World, app, call, conference, connected, dial, id, leg};

#[tokio::test]
async fn nothing_is_done_before_it_is_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    let mut newest = world.engine.notices();

    world.store.is(Mood::RefusesAll);
    assert_eq!(world.place(1).await, Err(CommandError::Unavailable));
    assert!(world.effects.try_recv().is_err(), "no effect without its event");
    assert_eq!(world.read(1, |_| ()).await, Err(CommandError::NoSuchCall));
    while world.engine.live() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.store.live_conferences().await.unwrap().is_empty());
    assert!(!newest.has_changed().unwrap());

    world.store.is(Mood::Takes);
    assert_eq!(world.place(1).await, Ok(call(1)));
    assert_eq!(world.read(1, control::Conference::id).await, Ok(conference(1)));
    assert_eq!(world.store.conference_of(call(1)).await.unwrap(), Some(conference(1)));
    assert!(matches!(world.action(1).await, LegAction::Dial(_)));
    newest.changed().await.unwrap();
    let newest = *newest.borrow();
    assert_eq!(world.store.pending(NoticeId::NONE, 10).await.unwrap().last().unwrap().id, newest);
}

#[tokio::test]
async fn a_signal_is_offered_again_until_it_commits_and_commands_are_refused_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.place(1).await.unwrap();
    assert!(matches!(world.action(1).await, LegAction::Dial(_)));

    world.store.is(Mood::RefusesAll);
    world.news(1, connected()).await;
    world.store.refusals.subscribe().wait_for(|refusals| *refusals >= 2).await.unwrap();
    assert_eq!(world.hang_up(1).await, Err(CommandError::Unavailable));
    assert!(world.effects.try_recv().is_err(), "an answer that is not written down is not acknowledged");

    world.store.is(Mood::Takes);
    assert_eq!(world.action(1).await, LegAction::Confirm);
    assert_eq!(world.read(1, |conference| conference.roster().people().count()).await, Ok(1));
}

#[tokio::test]
async fn new_work_that_has_waited_too_long_is_refused_and_what_ends_work_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.talking(1).await;

    let store = Arc::clone(&world.store);
    let shut = store.door.write().await;
    let long = async {
        // Everything has been asked for by then, and the first of it is being written.
        tokio::task::yield_now().await;
        world.hand.turn(Duration::from_secs(3));
        drop(shut);
    };
    let asked = (world.invite(1, 2, dial(2)), world.invite(1, 3, dial(3)), world.hang_up(1));
    let (first, late, end, ()) = tokio::join!(asked.0, asked.1, asked.2, long);
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(late, Err(CommandError::Unavailable));
    assert_eq!(end, Ok(()));
    let started = world
        .store
        .taken
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, event)| matches!(event, Event::OperationStarted { .. }))
        .count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn other_applications_calls_do_not_exist() {
    // CALL-8
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path()).await;
    world.place(1).await.unwrap();
    let strangers =
        [Principal { app: control::AppId(id(7)), ..app() }, Principal { tenant: control::TenantId(id(7)), ..app() }];
    for stranger in &strangers {
        assert_eq!(world.engine.read(stranger, call(1), |_, _| ()).await, Err(CommandError::NoSuchCall));
        let place = engine::Place::Call(call(1));
        let keep_alive = control::Command::KeepAlive { call: call(1) };
        let kept = world.engine.command(stranger, place, keep_alive, |_, _, _| ()).await;
        assert_eq!(kept, Err(CommandError::NoSuchCall));
    }
    assert_eq!(world.engine.peek(call(1), |conference, _| conference.id()).await, Ok(conference(1)));
    assert_eq!(world.engine.peek(call(2), |_, _| ()).await, Err(CommandError::NoSuchCall));
}

#[tokio::test]
async fn a_deadline_fires_when_the_clock_reaches_it() {
    // INV-28
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.place(1).await.unwrap();
    assert!(matches!(world.action(1).await, LegAction::Dial(_)));
    world.hand.turn(Duration::from_secs(59));
    assert!(world.read(1, |_| ()).await.is_ok());
    // A refused command does not cost the deadline.
    world.store.is(Mood::RefusesAfter(0));
    assert_eq!(world.hang_up(1).await, Err(CommandError::Unavailable));
    world.hand.turn(Duration::from_secs(1));
    assert!(matches!(world.action(1).await, LegAction::HangUp { cause: Cause::NoAnswer, .. }));
    world.news(1, LegNews::HungUp(Cause::NoAnswer)).await;
    assert!(world.engine.drain(Duration::from_secs(10)).await);
    assert_eq!(world.read(1, |_| ()).await, Err(CommandError::NoSuchCall));
    assert!(world.store.live_conferences().await.unwrap().is_empty());
}

/// The person of call 1 is brought into call 2, whose own person is 2.
async fn replaced(world: &World) -> Result<(), CommandError> {
    let reach = Reach::Replace { conference: conference(1), call: call(1) };
    let operation = world.invite(2, 1, reach).await?;
    while let Ok(true) = world.read(2, move |conference| conference.operation(operation).unwrap().is_running()).await {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_moves_exactly_once_whichever_commit_is_refused_on_the_way() {
    // INV-14, INV-15
    for refused in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::open(directory.path()).await;
        world.talking(1).await;
        world.talking(2).await;
        world.store.is(Mood::RefusesAfter(refused));
        if replaced(&world).await == Err(CommandError::Unavailable) {
            replaced(&world).await.unwrap();
        }
        let (joined, status) = world
            .read(2, |conference| {
                let people = conference.roster().people().map(|(_, leg, _)| leg).collect::<BTreeSet<_>>();
                (people, conference.operations().next().unwrap().1.status.clone())
            })
            .await
            .unwrap();
        assert_eq!(joined, BTreeSet::from([leg(1), leg(2)]), "refused {refused}");
        assert!(matches!(status, Status::Completed { .. }));
        // The old conference has told everything and is gone.
        let mut waited = 0;
        while world.engine.live() > 1 {
            waited += 1;
            assert!(waited < 1_000_000, "refused {refused}: the old conference stays");
            tokio::task::yield_now().await;
        }
        assert_eq!(world.read(1, |_| ()).await, Err(CommandError::NoSuchCall));

        let taken = world.store.taken.lock().unwrap();
        let mut once = BTreeSet::new();
        for (conference, event) in taken.iter() {
            if let Event::MessageTaken { from, number } = event {
                assert!(once.insert((*conference, *from, *number)), "taken twice");
            }
        }
        let joined = |event: &Event| matches!(event, Event::ParticipantJoined { leg: theirs, .. } if *theirs == leg(1));
        let joins = taken.iter().filter(|(place, event)| *place == conference(2) && joined(event));
        assert_eq!(joins.count(), 1);
    }
}

#[tokio::test]
async fn whenever_the_process_dies_the_next_one_goes_on() {
    // INV-14, INV-15, OP-1, CALL-2
    for written in 0..6 {
        let directory = tempfile::tempdir().unwrap();
        let mut first = World::open(directory.path()).await;
        first.talking(1).await;
        first.talking(2).await;
        first.store.is(Mood::DiesAfter(written));
        let refusals = first.store.refusals.subscribe();
        let moving = tokio::time::timeout(Duration::from_secs(10), replaced(&first));
        let mut dying = refusals;
        tokio::select! {
            _ = moving => {}
            died = dying.wait_for(|refusals| *refusals > 0) => drop(died.unwrap()),
        }
        first.engine.stop().await;
        drop(first);

        let world = World::open(directory.path()).await;
        let early = world.read(2, |conference| conference.roster().people().count()).await;
        assert!(early.is_ok_and(|people| people >= 1), "whoever asks early waits until it is taken up");
        world.engine.taken_up().await;
        let settled = async {
            while let Ok(true) =
                world.read(2, |conference| conference.operations().any(|(_, it)| it.is_running())).await
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), settled).await.expect("an operation under way goes on");
        let (asked, people) = world
            .read(2, |conference| {
                let completed = conference.operations().filter(|(_, it)| matches!(it.status, Status::Completed { .. }));
                (completed.count(), conference.roster().people().map(|(_, leg, _)| leg).collect::<BTreeSet<_>>())
            })
            .await
            .unwrap();
        assert_eq!(asked == 1, people == BTreeSet::from([leg(1), leg(2)]), "after {written} commits: {people:?}");
        world.engine.end_all();
        let (engine, store, _hand) = world.obliging();
        assert!(engine.drain(Duration::from_secs(10)).await, "after {written} commits: {} are left", engine.live());
        assert!(store.live_conferences().await.unwrap().is_empty());
        let bodies = store.pending(NoticeId::NONE, 1000).await.unwrap();
        for n in [1, 2] {
            let ends = bodies.iter().filter(|pending| pending.notice.call == call(n));
            let ends = ends.filter(|pending| pending.notice.body.starts_with("Terminated")).count();
            assert_eq!(ends, 1, "CALL-2: after {written} commits");
        }
    }
}

#[tokio::test]
async fn a_restart_takes_up_every_phone() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = World::open(directory.path()).await;
    first.talking(1).await;
    first.engine.stop().await;
    assert_eq!(first.place(3).await, Err(CommandError::Unavailable));
    drop(first);

    let mut second = World::open(directory.path()).await;
    second.engine.taken_up().await;
    let action = second.action(1).await;
    let LegAction::Resume { snapshot, .. } = action else { panic!("{action:?}") };
    assert_eq!(snapshot, control::Snapshot("dialog".to_owned()), "the log alone finds the dialog");
    assert!(matches!(second.effect().await, (_, Effect::Mix(plan)) if plan.ports.len() == 1));
    let later = control::Snapshot("dialog, later".to_owned());
    second.news(1, LegNews::Resumed(later.clone())).await;
    let is_written = |conference: &control::Conference, later: &control::Snapshot| {
        conference.leg(leg(1)).unwrap().snapshot() == Some(later)
    };
    while {
        let later = later.clone();
        !second.read(1, move |conference| is_written(conference, &later)).await.unwrap()
    } {
        tokio::task::yield_now().await;
    }
    second.engine.end_all();
    let action = second.action(1).await;
    let LegAction::HangUp { cause, snapshot, .. } = action else { panic!("{action:?}") };
    assert_eq!(cause, Cause::ServiceRestarted);
    assert_eq!(snapshot, Some(later));
    second.news(1, LegNews::HungUp(Cause::ServiceRestarted)).await;
    assert!(second.engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_draining_engine_takes_nothing_new_and_ends_when_the_last_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.talking(1).await;
    assert!(!world.engine.drain(Duration::ZERO).await);
    assert_eq!(world.place(2).await, Err(CommandError::Unavailable));
    assert!(world.read(1, |_| ()).await.is_ok());
    world.engine.end_all();
    let (engine, ..) = world.obliging();
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_stray_leg_is_hung_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::open(directory.path()).await;
    world.news(5, connected()).await;
    let (place, effect) = world.effect().await;
    let expected = LegAction::HangUp {
        cause: Cause::Internal,
        snapshot: Some(control::Snapshot("dialog".to_owned())),
        target: None,
    };
    assert_eq!((place, effect), (conference(5), Effect::Leg(leg(5), expected)));
}

#[tokio::test]
async fn many_conferences_are_taken_up_at_once() {
    let directory = tempfile::tempdir().unwrap();
    {
        let world = World::on(Moody::new(Arc::new(Sqlite::open(directory.path(), Access::Serve).unwrap()))).await;
        for n in 100..200 {
            world.place(n).await.unwrap();
        }
        world.engine.stop().await;
    }
    let world = World::open(directory.path()).await;
    assert_eq!(world.engine.live(), 100);
    let (engine, ..) = world.obliging();
    engine.taken_up().await;
    engine.end_all();
    assert!(engine.drain(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_left_alone_and_nobody_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    {
        let world = World::open(directory.path()).await;
        world.place(1).await.unwrap();
        world.place(2).await.unwrap();
        world.engine.stop().await;
    }
    let store = Moody::new(Arc::new(Sqlite::open(directory.path(), Access::Serve).unwrap()));
    *store.unreadable.lock().unwrap() = Some(conference(1));
    let world = World::on(store).await;
    assert_eq!(world.read(1, |_| ()).await, Err(CommandError::Unavailable));
    world.news(1, connected()).await;
    let (engine, store, _hand) = world.obliging();
    engine.taken_up().await;
    engine.end_all();
    assert!(engine.drain(Duration::from_secs(10)).await, "the other one ends");
    assert_eq!(store.live_conferences().await.unwrap(), [conference(1)]);
}
