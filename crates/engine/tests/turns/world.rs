//! An engine on a real database in a temporary directory, with a switch that is two channels and a clock that is turned.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::{
    Answer, AppId, CallFacts, CallId, Caller, ChainId, Command, Conference, ConferenceId, Destination, Effect, Event,
    Identity, Invite, InvitePolicy, Invitee, LegAction, LegId, LegNews, OperationId, ParticipantId, Principal, Reach,
    Repeat, ScenarioId, Signal, Snapshot, Surface, Target, TenantId, Timestamp, UserId, Who,
};
use engine::{Clock, CommandError, Detail, Engine, Hand, Place, Render};
use store::OutgoingNotice;
use store::sqlite::{Access, Sqlite};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::moody::Moody;

/// A conference, and what cannot be told of it.
type Broken = Arc<Mutex<Option<(ConferenceId, &'static [Detail])>>>;

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<Moody>,
    pub(crate) effects: mpsc::Receiver<(ConferenceId, Effect)>,
    pub(crate) signals: mpsc::Sender<(ConferenceId, Signal)>,
    pub(crate) hand: Hand,
    /// How many of the next renderings fall.
    pub(crate) falls: Arc<AtomicUsize>,
    /// All these renderings of it fall.
    pub(crate) broken: Broken,
}

impl World {
    /// In a directory that may hold what an earlier world left.
    pub(crate) async fn open(directory: &Path) -> Self {
        let store = Moody::new(Arc::new(Sqlite::open(directory, Access::Serve).unwrap()));
        Self::on(store).await
    }

    pub(crate) async fn on(store: Arc<Moody>) -> Self {
        let (outgoing, effects) = mpsc::channel(1024);
        let (signals, incoming) = mpsc::channel(1024);
        let (clock, hand) = Clock::turned(Timestamp(1_700_000_000_000));
        let (falls, broken) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let render = render(Arc::clone(&falls), Arc::clone(&broken));
        let engine = Engine::start_by(clock, Arc::clone(&store) as _, render, outgoing, incoming).await.unwrap();
        Self { engine, store, effects, signals, hand, falls, broken }
    }

    pub(crate) async fn place(&self, n: u128) -> Result<CallId, CommandError> {
        let targets = vec![invitee(n, Reach::Dial { leg: leg(n), target: target() })];
        let ring_for = Duration::from_mins(1);
        let command = Command::Place { call: call(n), facts: facts(), targets, ring_for };
        let place = Place::New(conference(n));
        self.engine.command(&app(), place, command, |_, _, answer| placed(answer)).await
    }

    /// Of a call that is up, another person, rung or brought from elsewhere.
    pub(crate) async fn invite(&self, into: u128, person: u128, reach: Reach) -> Result<OperationId, CommandError> {
        let operation = OperationId(id(person));
        let repeat = Repeat { fingerprint: person.to_string(), client_request_id: None };
        let invite = Invite {
            operation,
            invitees: vec![Invitee { participant: ParticipantId(id(9000 + person)), ..invitee(person, reach) }],
            client_context: Some("context".to_owned()),
            repeat,
            retried: false,
            policy: InvitePolicy::default(),
        };
        let command = Command::Invite { call: call(into), invite };
        self.engine.command(&app(), Place::Call(call(into)), command, move |_, _, _| operation).await
    }

    pub(crate) async fn hang_up(&self, n: u128) -> Result<(), CommandError> {
        let command = Command::HangUp { call: call(n) };
        self.engine.command(&app(), Place::Call(call(n)), command, |_, _, _| ()).await
    }

    pub(crate) async fn read<R: Send + 'static>(
        &self,
        n: u128,
        look: impl FnOnce(&Conference) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        self.engine.read(&app(), call(n), |conference, _| look(conference)).await
    }

    pub(crate) async fn news(&self, n: u128, news: LegNews) {
        self.signals.send((conference(n), Signal::Leg(leg(n), news))).await.unwrap();
    }

    pub(crate) async fn effect(&mut self) -> (ConferenceId, Effect) {
        let next = tokio::time::timeout(Duration::from_secs(20), self.effects.recv());
        next.await.expect("an effect in time").expect("an engine")
    }

    /// The next action on this leg; other effects are passed over.
    pub(crate) async fn action(&mut self, n: u128) -> LegAction {
        loop {
            match self.effect().await {
                (_, Effect::Leg(id, action)) if id == leg(n) => return action,
                _ => {}
            }
        }
    }

    /// A call to one person, who has answered.
    pub(crate) async fn talking(&mut self, n: u128) {
        self.place(n).await.unwrap();
        assert!(matches!(self.action(n).await, LegAction::Dial(_)));
        self.news(n, connected()).await;
        assert_eq!(self.action(n).await, LegAction::Confirm);
    }

    /// A switch whose phones are all still there, and that hangs up whatever it is told to.
    pub(crate) fn obliging(mut self) -> (Engine, Arc<Moody>, Hand) {
        let signals = self.signals;
        tokio::spawn(async move {
            while let Some((conference, effect)) = self.effects.recv().await {
                let Effect::Leg(leg, action) = effect else { continue };
                let news = match action {
                    LegAction::HangUp { cause, .. } => LegNews::HungUp(cause),
                    LegAction::Resume { snapshot, .. } => LegNews::Resumed(snapshot),
                    LegAction::Dial(_) | LegAction::DialAgain(_) | LegAction::Confirm => continue,
                };
                if signals.send((conference, Signal::Leg(leg, news))).await.is_err() {
                    return;
                }
            }
        });
        (self.engine, self.store, self.hand)
    }
}

fn render(falls: Arc<AtomicUsize>, broken: Broken) -> Render {
    Arc::new(move |conference: &Conference, events: &[Event], detail| {
        let falling = falls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let is_broken = broken.lock().unwrap().is_some_and(|(id, all)| id == conference.id() && all.contains(&detail));
        assert!(!falling && !is_broken, "told to fall");
        let notices = match detail {
            Detail::Whole => control::notices(conference, events),
            Detail::Ends => control::ends(conference, events),
        };
        let outgoing = notices.into_iter().map(|notice| OutgoingNotice {
            call: notice.call,
            app: app().app,
            tenant: app().tenant,
            callback: String::new(),
            scenario: ScenarioId(id(1)),
            chain: ChainId(id(1)),
            body: format!("{:?}", notice.news),
            after: notice.after,
            settles: None,
            full_roster: false,
            ends_call: false,
        });
        outgoing.collect()
    })
}

fn placed(answer: Answer) -> CallId {
    match answer {
        Answer::Call(call) => call,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(crate) fn app() -> Principal {
    Principal { app: AppId(id(1)), tenant: TenantId(id(2)) }
}

pub(crate) fn conference(n: u128) -> ConferenceId {
    ConferenceId(id(n))
}

pub(crate) fn call(n: u128) -> CallId {
    CallId(id(n))
}

pub(crate) fn leg(n: u128) -> LegId {
    LegId(id(n))
}

pub(crate) fn connected() -> LegNews {
    LegNews::Connected(Snapshot("dialog".to_owned()))
}

fn invitee(n: u128, reach: Reach) -> Invitee {
    let identity = Identity::new(Who::User(UserId(id(n))));
    Invitee { participant: ParticipantId(id(n)), identity, hidden: false, reach, echo: "{}".to_owned() }
}

pub(crate) fn dial(n: u128) -> Reach {
    Reach::Dial { leg: leg(n), target: target() }
}

fn target() -> Target {
    Target {
        tenant: app().tenant,
        destination: Destination::Line { username: "ann".to_owned(), domain: "contoso.example".to_owned() },
        caller: Caller { display_name: None, number: None, domain: "contoso.example".to_owned() },
    }
}

fn facts() -> Box<CallFacts> {
    Box::new(CallFacts {
        app: app().app,
        tenant: app().tenant,
        me: ParticipantId(id(8000)),
        identity: Identity::new(Who::Application(app().app)),
        callback: String::new(),
        surface: Surface::V1,
        scenario: ScenarioId(id(1)),
        chain: ChainId(id(1)),
        delta_roster: false,
        hide_after_escalation: false,
        echo: "{}".to_owned(),
    })
}
