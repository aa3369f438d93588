//! Laws that hold whatever happens: replay rebuilds and a refusal changes nothing (the stage checks both in every turn),
//! nothing waits for ever, everything that began ends exactly once, and nobody is in two rosters.

mod stage;

use std::collections::BTreeMap;

use control::{Cause, Command, Event, Invitee, LegNews, Reach, Signal};
use proptest::prelude::*;
use stage::{APP, Stage, call, conference, invite, leg, moving, operation, person, replacing, ring};

#[derive(Clone, Debug)]
enum Step {
    Place { id: u8, two: bool },
    Join { meeting: u8 },
    Ring { into: u8, again: bool },
    Bring { into: u8, from: u8, whom: u8, whole: bool },
    News { whom: u8, kind: u8 },
    Remove { from: u8, whom: u8 },
    HangUp { id: u8 },
    Post { count: u8 },
    PostTwice,
    Wait { seconds: u8 },
    Restart { id: u8 },
    Stop { id: u8 },
    Fall { id: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 1..5_u8;
    let step = prop_oneof![
        3 => (id(), any::<bool>()).prop_map(|(id, two)| Step::Place { id, two }),
        2 => id().prop_map(|meeting| Step::Join { meeting }),
        4 => (id(), any::<bool>()).prop_map(|(into, again)| Step::Ring { into, again }),
        5 => (id(), id(), any::<u8>(), any::<bool>())
            .prop_map(|(into, from, whom, whole)| Step::Bring { into, from, whom, whole }),
        12 => (any::<u8>(), 0..7_u8).prop_map(|(whom, kind)| Step::News { whom, kind }),
        1 => (id(), any::<u8>()).prop_map(|(from, whom)| Step::Remove { from, whom }),
        1 => id().prop_map(|id| Step::HangUp { id }),
        6 => (1..4_u8).prop_map(|count| Step::Post { count }),
        1 => Just(Step::PostTwice),
        2 => (0..30_u8).prop_map(|seconds| Step::Wait { seconds }),
        2 => id().prop_map(|id| Step::Restart { id }),
        1 => id().prop_map(|id| Step::Stop { id }),
        1 => id().prop_map(|id| Step::Fall { id }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Who plays: everybody gets a number of their own, so that a leg is known by its person.
struct Play {
    stage: Stage,
    people: Vec<u128>,
    next: u128,
    calls: BTreeMap<u8, u128>,
}

impl Play {
    fn new() -> Self {
        let mut stage = Stage::new();
        stage.deliver = false;
        Self { stage, people: Vec::new(), next: 100, calls: BTreeMap::new() }
    }

    fn fresh(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    fn newcomer(&mut self) -> Invitee {
        let n = self.fresh();
        self.people.push(n);
        ring(n)
    }

    fn is_open(&self, id: u8) -> bool {
        self.stage.conferences.get(&conference(id.into())).is_some_and(control::Conference::is_open)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Place { id, two } if !self.is_open(id) => {
                let n = self.fresh();
                let mut targets = vec![self.newcomer()];
                if two {
                    targets.push(self.newcomer());
                }
                let ring_for = std::time::Duration::from_mins(1);
                let place = Command::Place { call: call(n), facts: stage::facts(APP, n), targets, ring_for };
                self.calls.insert(id, n);
                self.stage.command(id.into(), APP, place).expect("placed");
            }
            Step::Place { .. } => {}
            Step::Join { meeting } => {
                let open = self.stage.conferences.get(&conference(meeting.into()));
                let is_meeting = |c: &control::Conference| {
                    matches!(c.opened().map(|opened| &opened.kind), Some(control::Kind::Meeting(_)))
                };
                if open.is_none_or(|c| !c.is_open() || is_meeting(c)) {
                    let n = self.fresh();
                    self.calls.insert(meeting, n);
                    self.stage.join(meeting.into(), APP, n);
                }
            }
            Step::Ring { into, again } => {
                let Some(by) = self.calls.get(&into).copied() else { return };
                let mut invitees = vec![self.newcomer()];
                if again && let Some(known) = self.people.first().copied() {
                    let p = self.fresh();
                    let duplicate = Reach::Dial { leg: leg(p), target: stage::target(known) };
                    invitees.push(Invitee { participant: person(p), reach: duplicate, ..ring(known) });
                }
                let n = self.fresh();
                let _refused_or_not = self.stage.invite(into.into(), by, invite(n, invitees));
            }
            Step::Bring { into, from, whom, whole } => {
                let (Some(by), Some(there)) = (self.calls.get(&into).copied(), self.calls.get(&from).copied()) else {
                    return;
                };
                if into == from || self.people.is_empty() {
                    return;
                }
                let user = self.people[usize::from(whom) % self.people.len()];
                let (p, n) = (self.fresh(), self.fresh());
                let invitee = if whole {
                    replacing(user, p, from.into(), there)
                } else {
                    let place = self.stage.conferences.get(&conference(from.into())).and_then(|c| {
                        c.roster().people().find(|(.., person)| person.identity == stage::user(user)).map(|(id, ..)| id)
                    });
                    let participant = place.unwrap_or_else(|| person(user));
                    let reach = Reach::Move { conference: conference(from.into()), call: call(there), participant };
                    Invitee { reach, ..moving(user, p, from.into(), there) }
                };
                let _refused_or_not = self.stage.invite(into.into(), by, invite(n, vec![invitee]));
            }
            Step::News { whom, kind } => {
                if self.people.is_empty() {
                    return;
                }
                let n = self.people[usize::from(whom) % self.people.len()];
                let news = match kind {
                    0 => LegNews::Ringing,
                    1..=3 => LegNews::Connected(stage::snapshot(n)),
                    4 => LegNews::MediaUp,
                    5 => LegNews::Resumed(stage::snapshot(n)),
                    _ => LegNews::HungUp(Cause::PeerHungUp { phone: false }),
                };
                let owners: Vec<_> =
                    self.stage.conferences.iter().filter(|(_, c)| c.leg(leg(n)).is_some()).map(|(id, _)| *id).collect();
                for id in owners {
                    self.stage.signal_to(id, Signal::Leg(leg(n), news.clone()));
                }
            }
            Step::Remove { from, whom } => {
                if let (Some(by), false) = (self.calls.get(&from).copied(), self.people.is_empty()) {
                    let participant = person(self.people[usize::from(whom) % self.people.len()]);
                    let remove = Command::Remove { call: call(by), participant };
                    let _refused_or_not = self.stage.command(from.into(), APP, remove);
                }
            }
            Step::HangUp { id } => {
                if let Some(by) = self.calls.get(&id).copied() {
                    let _refused_or_not = self.stage.command(id.into(), APP, Command::HangUp { call: call(by) });
                }
            }
            Step::Post { count } => {
                for _ in 0..count {
                    self.post_one(false);
                }
            }
            Step::PostTwice => self.post_one(true),
            Step::Wait { seconds } => self.stage.wait(seconds.into()),
            Step::Restart { id } => {
                if self.is_open(id) {
                    self.stage.signal_to(conference(id.into()), Signal::Restarted);
                }
            }
            Step::Stop { id } => {
                if self.is_open(id) {
                    self.stage.signal_to(conference(id.into()), Signal::Stopping);
                }
            }
            Step::Fall { id } => {
                if self.is_open(id) {
                    self.stage.signal_to(conference(id.into()), Signal::Fell);
                }
            }
        }
    }

    fn post_one(&mut self, twice: bool) {
        if self.stage.mail.is_empty() {
            return;
        }
        let letter = self.stage.mail.remove(0);
        let rest = std::mem::take(&mut self.stage.mail);
        if twice {
            self.stage.mail.push(letter.clone());
        }
        self.stage.mail.push(letter);
        self.stage.mail.extend(rest);
        let mut count = if twice { 2 } else { 1 };
        while count > 0 && !self.stage.mail.is_empty() {
            count -= 1;
            let (from, to, number, message) = self.stage.mail.remove(0);
            let there = self.stage.conferences.get(&to).is_some_and(control::Conference::is_open);
            let reply = if there {
                self.stage.signal_to(to, Signal::Told { from, number, message });
                Signal::Acknowledged { by: to, number }
            } else {
                Signal::Undeliverable { to, number }
            };
            self.stage.signal_to(from, reply);
        }
    }

    /// Everyone hangs up, all mail arrives, and time passes.
    fn end(&mut self) {
        self.stage.deliver = true;
        self.stage.post();
        self.nobody_is_in_two_rosters();
        for (id, by) in self.calls.clone() {
            let _gone_or_not = self.stage.command(id.into(), APP, Command::HangUp { call: call(by) });
        }
        let talking: Vec<_> = self
            .stage
            .conferences
            .iter()
            .flat_map(|(id, c)| c.roster().people().map(|(_, leg, _)| (*id, leg)).collect::<Vec<_>>())
            .collect();
        for (id, leg) in talking {
            self.stage.signal_to(id, Signal::Leg(leg, LegNews::HungUp(Cause::PeerHungUp { phone: false })));
        }
        self.stage.wait(2 * 3600);
    }

    fn nobody_is_in_two_rosters(&self) {
        let mut seen = BTreeMap::new();
        for (id, conference) in &self.stage.conferences {
            for (_, leg, _) in conference.roster().people() {
                if let Some(other) = seen.insert(leg, *id) {
                    // Both believe in it only while one has offered it to the other.
                    let lent = [other, *id].iter().any(|id| {
                        let leg = self.stage.conferences[id].leg(leg);
                        matches!(leg.map(|leg| &leg.state), Some(control::LegState::Lent { .. }))
                    });
                    assert!(lent, "{leg} is in {other} and {id}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn everything_that_began_ends_once(steps in steps()) {
        let mut play = Play::new();
        for step in &steps {
            play.step(step);
        }
        play.end();
        for (id, conference) in &play.stage.conferences {
            prop_assert!(!conference.is_open(), "{id} is still open: {conference:?}");
        }
        let count = |wanted: &dyn Fn(&Event) -> bool| play.stage.events.iter().filter(|event| wanted(event)).count();
        for event in &play.stage.events {
            match event {
                // OP-1
                Event::OperationStarted { operation: id, .. } => {
                    let ended = count(&|event| matches!(event,
                        Event::OperationCompleted { operation, .. } | Event::OperationFailed { operation, .. } if operation == id));
                    prop_assert_eq!(ended, 1, "operation {}", id);
                }
                // CALL-2
                Event::CallPlaced { call: id, .. } => {
                    let ended = count(&|event| matches!(event, Event::CallTerminated { call, .. } if call == id));
                    prop_assert_eq!(ended, 1, "call {}", id);
                }
                Event::ParticipantJoined { participant: id, .. } => {
                    let left = count(&|event| matches!(event, Event::ParticipantLeft { participant, .. } if participant == id));
                    prop_assert_eq!(left, 1, "participant {}", id);
                }
                _ => {}
            }
        }
        let _numbers = operation(0);
    }
}
