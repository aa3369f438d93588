//! A stage for stories: conferences, the messages between them, and a log that must rebuild each of them.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part of the stage")]

use std::collections::BTreeMap;
use std::time::Duration;

use control::{
    AppId, CallFacts, CallId, Caller, Cause, ChainId, Command, Conference, ConferenceId, Destination, Effect, Event,
    Identity, Input, Invite, InvitePolicy, Invitee, LegAction, LegId, LegNews, Meeting, News, OperationId,
    ParticipantId, Principal, Reach, Refusal, Repeat, ScenarioId, Signal, Snapshot, Surface, Target, TenantId,
    Timestamp, UserId, Who, notices,
};
use uuid::Uuid;

pub(crate) const TENANT: TenantId = TenantId(Uuid::from_u128(0x7e));
pub(crate) const APP: AppId = AppId(Uuid::from_u128(0xa0));
pub(crate) const OTHER_APP: AppId = AppId(Uuid::from_u128(0xa1));

pub(crate) struct Stage {
    pub(crate) now: Timestamp,
    pub(crate) conferences: BTreeMap<ConferenceId, Conference>,
    /// What the log alone makes of each.
    replayed: BTreeMap<ConferenceId, Conference>,
    /// Everything that was told, in words: `call N: …`.
    pub(crate) told: Vec<String>,
    pub(crate) effects: Vec<String>,
    pub(crate) events: Vec<Event>,
    /// Messages on their way.
    pub(crate) mail: Vec<(ConferenceId, ConferenceId, u64, control::Message)>,
    pub(crate) deliver: bool,
}

pub(crate) fn by(app: AppId) -> Principal {
    Principal { app, tenant: TENANT }
}
pub(crate) fn conference(n: u128) -> ConferenceId {
    ConferenceId(Uuid::from_u128(n))
}
pub(crate) fn call(n: u128) -> CallId {
    CallId(Uuid::from_u128(n))
}
pub(crate) fn leg(n: u128) -> LegId {
    LegId(Uuid::from_u128(n))
}
pub(crate) fn person(n: u128) -> ParticipantId {
    ParticipantId(Uuid::from_u128(n))
}
pub(crate) fn operation(n: u128) -> OperationId {
    OperationId(Uuid::from_u128(n))
}
pub(crate) fn user(n: u128) -> Identity {
    Identity { tenant: Some(TENANT), ..Identity::new(Who::User(UserId(Uuid::from_u128(n)))) }
}
pub(crate) fn snapshot(n: u128) -> Snapshot {
    Snapshot(format!("dialog {n}"))
}

fn short(id: Uuid) -> u128 {
    id.as_u128()
}

pub(crate) fn target(n: u128) -> Target {
    Target {
        tenant: TENANT,
        destination: Destination::Line { username: format!("user{n}"), domain: "contoso.example".to_owned() },
        caller: Caller { display_name: None, number: None, domain: "contoso.example".to_owned() },
    }
}

/// User `n`, dialled over leg `n`, to become participant `n`.
pub(crate) fn ring(n: u128) -> Invitee {
    Invitee {
        participant: person(n),
        identity: user(n),
        hidden: false,
        reach: Reach::Dial { leg: leg(n), target: target(n) },
        echo: "{}".to_owned(),
    }
}

/// User `n`, to become participant `p`, out of a conference.
pub(crate) fn replacing(n: u128, p: u128, from: u128, replaced: u128) -> Invitee {
    Invitee {
        participant: person(p),
        reach: Reach::Replace { conference: conference(from), call: call(replaced) },
        ..ring(n)
    }
}

pub(crate) fn moving(n: u128, p: u128, from: u128, source_call: u128) -> Invitee {
    Invitee {
        participant: person(p),
        reach: Reach::Move { conference: conference(from), call: call(source_call), participant: person(n) },
        ..ring(n)
    }
}

pub(crate) fn facts(app: AppId, n: u128) -> Box<CallFacts> {
    Box::new(CallFacts {
        app,
        tenant: TENANT,
        me: person(n + 1000),
        identity: Identity::new(Who::Application(app)),
        callback: "https://bot.example/api?x=1".to_owned(),
        surface: Surface::Beta,
        scenario: ScenarioId(Uuid::from_u128(n)),
        chain: ChainId(Uuid::from_u128(n)),
        delta_roster: false,
        hide_after_escalation: false,
        echo: "{}".to_owned(),
    })
}

pub(crate) fn invite(n: u128, invitees: Vec<Invitee>) -> Invite {
    Invite {
        operation: operation(n),
        invitees,
        client_context: Some(format!("context {n}")),
        repeat: Repeat { fingerprint: format!("body {n}"), client_request_id: None },
        retried: false,
        policy: InvitePolicy::default(),
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            now: Timestamp(1_000_000),
            conferences: BTreeMap::new(),
            replayed: BTreeMap::new(),
            told: Vec::new(),
            effects: Vec::new(),
            events: Vec::new(),
            mail: Vec::new(),
            deliver: true,
        }
    }

    pub(crate) fn at(&self, id: u128) -> &Conference {
        &self.conferences[&conference(id)]
    }

    /// One turn. The log of it must rebuild the conference, and a refusal must change nothing.
    pub(crate) fn turn(&mut self, id: ConferenceId, input: &Input) -> Result<control::Outcome, Refusal> {
        let now = self.now;
        let live = self.conferences.entry(id).or_insert_with(|| Conference::new(id));
        let before = live.clone();
        let outcome = match live.handle(now, input) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                assert_eq!(*live, before, "a refused input changes nothing");
                return Err(refusal);
            }
        };
        let replayed = self.replayed.entry(id).or_insert_with(|| Conference::new(id));
        outcome.events.iter().for_each(|event| replayed.apply(event));
        assert_eq!(replayed, live, "the log alone rebuilds the conference");
        if outcome.events.is_empty() {
            assert_eq!(*live, before, "what is not written down has not happened");
        }
        for notice in notices(live, &outcome.events) {
            let after = notice.after.map(|op| format!(" after op {}", short(op.0))).unwrap_or_default();
            self.told.push(format!(
                "call {}: {}{after}",
                short(notice.call.0),
                in_words(live, notice.call, &notice.news)
            ));
        }
        for effect in &outcome.effects {
            match effect {
                Effect::Leg(leg, LegAction::Dial(_)) => self.effects.push(format!("dial {}", short(leg.0))),
                Effect::Leg(leg, LegAction::DialAgain(_)) => {
                    self.effects.push(format!("dial {} again", short(leg.0)));
                }
                Effect::Leg(leg, LegAction::Resume { snapshot, .. }) => {
                    self.effects.push(format!("resume {} {}", short(leg.0), snapshot.0));
                }
                Effect::Leg(leg, LegAction::Confirm) => self.effects.push(format!("confirm {}", short(leg.0))),
                Effect::Leg(leg, LegAction::HangUp { cause, .. }) => {
                    self.effects.push(format!("hang up {} {cause:?}", short(leg.0)));
                }
                Effect::Mix(plan) => {
                    let ports: Vec<_> = plan.ports.iter().map(|port| short(port.leg.0)).collect();
                    self.effects.push(format!("mix {} {ports:?}", short(id.0)));
                }
                Effect::Tell { to, number, message } => self.mail.push((id, *to, *number, message.clone())),
            }
        }
        self.events.extend(outcome.events.iter().cloned());
        if self.deliver {
            self.post();
        }
        Ok(outcome)
    }

    /// Delivers all mail and its acknowledgements.
    pub(crate) fn post(&mut self) {
        while !self.mail.is_empty() {
            let (from, to, number, message) = self.mail.remove(0);
            let there = self.conferences.get(&to).is_some_and(Conference::is_open);
            let reply = if there {
                self.signal_to(to, Signal::Told { from, number, message });
                Signal::Acknowledged { by: to, number }
            } else {
                Signal::Undeliverable { to, number }
            };
            self.signal_to(from, reply);
        }
    }

    pub(crate) fn signal_to(&mut self, id: ConferenceId, signal: Signal) {
        self.turn(id, &Input::Signal(signal)).expect("signals are never refused");
    }

    pub(crate) fn command(&mut self, id: u128, app: AppId, command: Command) -> Result<control::Outcome, Refusal> {
        self.turn(conference(id), &Input::Command(by(app), command))
    }

    pub(crate) fn place(&mut self, id: u128, app: AppId, targets: Vec<Invitee>) {
        let place = Command::Place { call: call(id), facts: facts(app, id), targets, ring_for: Duration::from_mins(1) };
        self.command(id, app, place).expect("placed");
    }

    pub(crate) fn join(&mut self, meeting: u128, app: AppId, n: u128) {
        let facts = facts(app, n);
        let meeting_facts = Meeting { organizer: None, created_by: APP, thread: "19:meeting_x@thread.v2".to_owned() };
        self.command(meeting, app, Command::Join { call: call(n), facts, meeting: meeting_facts }).expect("joined");
    }

    pub(crate) fn invite(&mut self, id: u128, call_id: u128, invite: Invite) -> Result<control::Outcome, Refusal> {
        self.command(id, APP, Command::Invite { call: call(call_id), invite })
    }

    pub(crate) fn news(&mut self, id: u128, n: u128, news: LegNews) {
        self.signal_to(conference(id), Signal::Leg(leg(n), news));
    }

    pub(crate) fn answer(&mut self, id: u128, n: u128) {
        self.news(id, n, LegNews::Connected(snapshot(n)));
    }

    /// An established peer-to-peer call in conference `id` with user `n`.
    pub(crate) fn talking(&mut self, id: u128, n: u128) {
        self.place(id, APP, vec![ring(n)]);
        self.answer(id, n);
        self.news(id, n, LegNews::MediaUp);
    }

    /// A group call in conference `id`, with these users in it.
    pub(crate) fn group(&mut self, id: u128, users: &[u128]) {
        self.place(id, APP, users.iter().map(|n| ring(*n)).collect());
        for n in users {
            self.answer(id, *n);
        }
        self.news(id, users[0], LegNews::MediaUp);
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        loop {
            let next = self.conferences.iter().filter_map(|(id, c)| c.deadline().map(|at| (at, *id))).min();
            match next {
                Some((at, id)) if at <= until => {
                    self.now = self.now.max(at);
                    self.signal_to(id, Signal::Time);
                    assert!(
                        self.conferences[&id].deadline().is_none_or(|next| next > at),
                        "a deadline was not used up"
                    );
                }
                Some(_) | None => break,
            }
        }
        self.now = until;
    }

    /// What was told since the last look.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub(crate) fn effects(&mut self) -> Vec<String> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn roster(&self, id: u128) -> Vec<u128> {
        self.at(id).roster().iter().map(|(id, _)| short(id.0)).collect()
    }
}

fn in_words(conference: &Conference, call: CallId, news: &News) -> String {
    match news {
        News::State(shown) => format!("{shown:?}").to_lowercase(),
        News::Audio { active, held } => format!("audio active={active} held={held}"),
        News::Chat => "chat".to_owned(),
        News::Operation(id) => {
            let operation = conference.operation(*id).expect("told of");
            format!(
                "op {} {}",
                short(id.0),
                match &operation.status {
                    control::Status::Running => "running".to_owned(),
                    control::Status::Completed { .. } => "completed".to_owned(),
                    control::Status::Failed { because, .. } => {
                        let fates: Vec<&Cause> = operation
                            .invited
                            .iter()
                            .filter_map(|invited| match &invited.fate {
                                control::Fate::Missed(cause) => Some(cause),
                                control::Fate::Pending | control::Fate::Joined => None,
                            })
                            .collect();
                        because
                            .as_ref()
                            .map_or_else(|| format!("failed {fates:?}"), |cause| format!("failed by {cause:?}"))
                    }
                }
            )
        }
        News::Roster { delta: None } => {
            let me = conference.call_or_ended(call).expect("told").facts.me;
            let seen: Vec<_> = conference.roster().seen_by(me).map(|(id, _)| short(id.0)).collect();
            format!("roster {seen:?}")
        }
        News::Roster { delta: Some(delta) } => {
            let changed: Vec<_> = delta.changed.iter().map(|id| short(id.0)).collect();
            let removed: Vec<_> = delta.removed.iter().map(|(id, ..)| short(id.0)).collect();
            format!("delta {} {changed:?} -{removed:?}", delta.sequence)
        }
        News::Terminated(cause) => format!("terminated {cause:?}"),
    }
}
