//! How many people a second can be invited, join and leave, each turn on disk and each notice settled.
//!
//! `cargo run --release -p engine --example invites -- [SECONDS] [CONFERENCES]`; for one core, put `taskset -c 0` before
//! it. The switch is a task that answers at once, so the figure is that of engine, control and store alone. Prints one
//! line of JSON.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring tool")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use control::{
    AppId, CallFacts, CallId, Caller, ChainId, Command, Conference, ConferenceId, Destination, Effect, Event, Identity,
    Invite, InvitePolicy, Invitee, LegAction, LegId, LegNews, Meeting, OperationId, ParticipantId, Principal, Reach,
    Repeat, ScenarioId, Signal, Snapshot, Surface, Target, TenantId, UserId, Who,
};
use engine::{Detail, Engine, Place};
use store::sqlite::{Access, Sqlite};
use store::{NoticeId, OutgoingNotice, Settled, Store};
use tokio::sync::mpsc;
use uuid::Uuid;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let seconds = arguments.next().unwrap_or(10);
    let conferences = arguments.next().unwrap_or(64);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(Duration::from_secs(seconds), conferences));
}

async fn measure(span: Duration, conferences: u64) {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(directory.path(), Access::Serve).unwrap());
    let commits = Arc::new(AtomicUsize::new(0));
    let (effects, orders) = mpsc::channel(1024);
    let (news, signals) = mpsc::channel(1024);
    let render = {
        let commits = Arc::clone(&commits);
        Arc::new(move |conference: &Conference, events: &[Event], _: Detail| {
            commits.fetch_add(1, Ordering::Relaxed);
            control::notices(conference, events).into_iter().map(|notice| rendered(notice.call)).collect()
        })
    };
    let engine = Engine::start(Arc::clone(&store), render, effects, signals).await.unwrap();
    tokio::spawn(switch(orders, news));
    let settled = Arc::new(AtomicUsize::new(0));
    tokio::spawn(courier(engine.clone(), Arc::clone(&store), Arc::clone(&settled)));

    let until = Instant::now() + span;
    let next = Arc::new(AtomicU64::new(1));
    let workers = (0..conferences).map(|number| tokio::spawn(steer(engine.clone(), number, until, Arc::clone(&next))));
    let mut latencies = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        latencies.extend(worker.await.unwrap());
    }
    latencies.sort_unstable();
    let joined = latencies.len();
    let at = |share: f64| latencies.get((joined as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64) * 1000.0;
    println!(
        "{{\"joined\":{joined},\"joined_per_s\":{:.0},\"commits\":{},\"notices_settled\":{},\"p50_ms\":{:.1},\"p99_ms\":{:.1}}}",
        joined as f64 / span.as_secs_f64(),
        commits.load(Ordering::Relaxed),
        settled.load(Ordering::Relaxed),
        at(0.5),
        at(0.99),
    );
}

/// Invites one person after another, each of whom joins, is seen on the roster, and is removed.
async fn steer(engine: Engine, number: u64, until: Instant, next: Arc<AtomicU64>) -> Vec<Duration> {
    let (by, call) = (principal(), CallId(id(1_000_000 + number)));
    let meeting = Meeting { organizer: None, created_by: by.app, thread: format!("19:{number}@thread.v2") };
    let join = Command::Join { call, facts: facts(number), meeting };
    engine.command(&by, Place::Meeting(ConferenceId(id(number))), join, |_, _, _| ()).await.unwrap();
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let n = 10_000_000 + next.fetch_add(1, Ordering::Relaxed);
        let (operation, participant) = (OperationId(id(n)), ParticipantId(id(n)));
        let begun = Instant::now();
        let command = Command::Invite { call, invite: invite(n) };
        engine.command(&by, Place::Call(call), command, |_, _, _| ()).await.unwrap();
        let here = move |conference: &Conference, _| {
            let ended = conference.operation(operation).is_none_or(|operation| !operation.is_running());
            ended && conference.roster().get(participant).is_some()
        };
        while !engine.read(&by, call, here).await.unwrap() {
            tokio::task::yield_now().await;
        }
        latencies.push(begun.elapsed());
        let remove = Command::Remove { call, participant };
        engine.command(&by, Place::Call(call), remove, |_, _, _| ()).await.unwrap();
    }
    latencies
}

/// Every phone rings, answers and hangs up at once.
async fn switch(mut orders: mpsc::Receiver<(ConferenceId, Effect)>, news: mpsc::Sender<(ConferenceId, Signal)>) {
    while let Some((conference, effect)) = orders.recv().await {
        let Effect::Leg(leg, action) = effect else { continue };
        let heard = match action {
            LegAction::Dial(_) | LegAction::DialAgain(_) => {
                vec![LegNews::Ringing, LegNews::Connected(Snapshot("x".repeat(400)))]
            }
            LegAction::Confirm => vec![LegNews::MediaUp],
            LegAction::Resume { snapshot, .. } => vec![LegNews::Resumed(snapshot)],
            LegAction::HangUp { cause, .. } => vec![LegNews::HungUp(cause)],
        };
        for heard in heard {
            if news.send((conference, Signal::Leg(leg, heard))).await.is_err() {
                return;
            }
        }
    }
}

/// Every callback answers at once.
async fn courier(engine: Engine, store: Arc<dyn Store>, count: Arc<AtomicUsize>) {
    let mut newest = engine.notices();
    let mut last = NoticeId::NONE;
    while newest.changed().await.is_ok() {
        loop {
            let pending = store.pending(last, 256).await.unwrap();
            let Some(end) = pending.last() else { break };
            last = end.id;
            count.fetch_add(pending.len(), Ordering::Relaxed);
            let settled = pending.iter().map(|pending| (pending.id, Settled::Delivered)).collect();
            store.settle(engine.now(), settled).await.unwrap();
        }
    }
}

fn id(n: u64) -> Uuid {
    // Spread as random ids are: the tables are in order of id.
    Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n)
}

fn principal() -> Principal {
    Principal { app: AppId(id(1)), tenant: TenantId(id(2)) }
}

fn rendered(call: CallId) -> OutgoingNotice {
    OutgoingNotice {
        call,
        app: principal().app,
        tenant: principal().tenant,
        callback: "https://bot.example/api/calls".to_owned(),
        scenario: ScenarioId(id(1)),
        chain: ChainId(id(1)),
        body: "x".repeat(1400),
        after: None,
        settles: None,
        full_roster: false,
        ends_call: false,
    }
}

fn invite(n: u64) -> Invite {
    let target = Target {
        tenant: principal().tenant,
        destination: Destination::Line { username: "ann".to_owned(), domain: "contoso.example".to_owned() },
        caller: Caller { display_name: None, number: None, domain: "contoso.example".to_owned() },
    };
    let invitee = Invitee {
        participant: ParticipantId(id(n)),
        identity: Identity::new(Who::User(UserId(id(n)))),
        hidden: false,
        reach: Reach::Dial { leg: LegId(id(n)), target },
        echo: "{}".to_owned(),
    };
    Invite {
        operation: OperationId(id(n)),
        invitees: vec![invitee],
        client_context: None,
        repeat: Repeat { fingerprint: n.to_string(), client_request_id: None },
        retried: false,
        policy: InvitePolicy::default(),
    }
}

fn facts(n: u64) -> Box<CallFacts> {
    Box::new(CallFacts {
        app: principal().app,
        tenant: principal().tenant,
        me: ParticipantId(id(n)),
        identity: Identity::new(Who::Application(principal().app)),
        callback: "https://bot.example/api/calls".to_owned(),
        surface: Surface::V1,
        scenario: ScenarioId(id(1)),
        chain: ChainId(id(1)),
        delta_roster: false,
        hide_after_escalation: false,
        echo: "{}".to_owned(),
    })
}
