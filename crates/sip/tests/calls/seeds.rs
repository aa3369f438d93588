//! Many days of bad weather: whatever is lost, repeated or late, each leg ends exactly once and nothing stays behind.

use std::collections::BTreeMap;
use std::time::Duration;

use sip::agent::{AgentConfig, Branch, HangUpCause, LegKey, Order, Report};

use crate::world::{ANSWER, OFFER, Rewrite, Weather, World, config, dial, seconds};

const SEEDS: u64 = 300;

/// What is known of one leg of one node.
#[derive(Default)]
struct Watched {
    ends: usize,
    reports_after_end: usize,
}

struct Day {
    world: World,
    legs: BTreeMap<(usize, LegKey), Watched>,
    connected: usize,
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        // Two of them ask for session timers.
        let interval = |node: u8| seconds(if node <= 2 { 90 } else { 0 });
        let configs = (1..=4).map(|node| AgentConfig { session_expires: interval(node), ..config(node) });
        configs.for_each(|config| _ = world.add(config));
        // The first numbers of the generator are alike for neighbouring seeds.
        (0..20).for_each(|_| _ = world.random(2));
        world.weather = Weather {
            loss: [0, 5, 20, 40][world.random(4) as usize],
            repeats: [0, 10, 30][world.random(3) as usize],
            delay_max: [1, 50, 900][world.random(3) as usize],
        };
        Self { world, legs: BTreeMap::new(), connected: 0 }
    }

    fn soon(&mut self) -> Duration {
        let max = [20, 600, 6000, 40_000][self.world.random(4) as usize];
        Duration::from_millis(self.world.random(max))
    }

    fn place_calls(&mut self) {
        for number in 0..3 {
            let leg = LegKey([number + 1; 16]);
            let node = self.world.random(4) as usize;
            let mut branches: Vec<_> = (0..=self.world.random(3))
                .map(|_| {
                    let callee = self.world.random(4) as usize;
                    let uri = self.world.uri(callee);
                    let over_tcp = self.world.random(4) == 0;
                    Branch::to_uri(if over_tcp { uri.with_param("transport", "tcp") } else { uri })
                })
                .collect();
            if self.world.random(4) == 0 {
                branches[0].alternatives = vec![self.world.uri(node)];
            }
            let ring_for = seconds(5 + self.world.random(40));
            let delay = self.soon();
            self.legs.insert((node, leg), Watched::default());
            self.world.order_in(delay, node, Order::Dial(Box::new(dial(leg, branches, ring_for))));
            if self.world.random(3) == 0 {
                let late = delay + self.soon();
                self.world.order_in(late, node, Order::HangUp { leg, cause: HangUpCause::default() });
            }
        }
    }

    fn watch(&mut self) {
        for node in 0..self.world.nodes.len() {
            for report in self.world.take(node) {
                self.react(node, &report);
            }
        }
    }

    fn react(&mut self, node: usize, report: &Report) {
        if let Some(leg) = leg_of(report)
            && let Some(watched) = self.legs.get_mut(&(node, leg))
            && watched.ends > 0
        {
            watched.reports_after_end += 1;
        }
        match report {
            Report::Incoming(incoming) => {
                let leg = incoming.leg;
                self.legs.insert((node, leg), Watched::default());
                let (ring, answer) = (self.soon(), self.soon());
                let order = match self.world.random(4) {
                    0 => Order::Ring { leg, status: 180, sdp: None },
                    1 => Order::Ring { leg, status: 183, sdp: Some(ANSWER.to_vec()) },
                    2 => Order::RingReliably { leg, status: 180, sdp: None },
                    _ => Order::RingReliably { leg, status: 183, sdp: Some(ANSWER.to_vec()) },
                };
                self.world.order_in(ring, node, order);
                match self.world.random(8) {
                    0 => self.world.order_in(answer, node, Order::Refuse { leg, status: 486 }),
                    1 => self.world.order_in(answer, node, Order::Refuse { leg, status: 603 }),
                    2 => {}
                    _ => self.world.order_in(answer, node, Order::Accept { leg, sdp: ANSWER.to_vec() }),
                }
                if self.world.random(3) == 0 {
                    let late = answer + self.soon();
                    self.world.order_in(late, node, Order::HangUp { leg, cause: HangUpCause::default() });
                }
            }
            Report::Answered { leg, .. } => {
                let soon = if self.world.random(2) == 0 { Duration::ZERO } else { self.soon() };
                self.world.order_in(soon, node, Order::Confirm { leg: *leg });
                self.play(node, *leg);
            }
            Report::Confirmed { leg, .. } => {
                self.connected += 1;
                self.play(node, *leg);
            }
            Report::Offered { leg, .. } => {
                let soon = self.soon();
                let order = if self.world.random(5) == 0 {
                    Order::RefuseOffer { leg: *leg, status: 488 }
                } else {
                    Order::AnswerOffer { leg: *leg, sdp: ANSWER.to_vec() }
                };
                self.world.order_in(soon, node, order);
            }
            Report::Failed { leg, .. } | Report::Ended { leg, .. } => {
                self.legs.entry((node, *leg)).or_default().ends += 1;
            }
            _ => {}
        }
    }

    /// Offers and a hang-up for a leg that is connected.
    fn play(&mut self, node: usize, leg: LegKey) {
        for _ in 0..self.world.random(3) {
            let soon = self.soon();
            self.world.order_in(soon, node, Order::Reinvite { leg, offer: OFFER.to_vec() });
        }
        if self.world.random(2) == 0 {
            let late = self.soon();
            self.world.order_in(late, node, Order::HangUp { leg, cause: HangUpCause::default() });
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let until = self.world.now + duration;
        while self.world.step(until) {
            self.watch();
        }
        self.world.now = until;
    }

    /// A process dies, and its legs with it; the next one knows nothing but the node's secret.
    fn restart(&mut self) {
        let node = self.world.random(4) as usize;
        self.world.cut_streams(node);
        self.world.restart(node, config(node as u8 + 1));
        self.legs.retain(|&(owner, _), watched| owner != node || watched.ends > 0);
    }

    fn hang_up_all(&mut self) {
        let open: Vec<_> = self.legs.iter().filter(|(_, watched)| watched.ends == 0).map(|(&key, _)| key).collect();
        for (node, leg) in open {
            self.world.hang_up(node, leg);
        }
        self.watch();
    }
}

fn leg_of(report: &Report) -> Option<LegKey> {
    match report {
        Report::Ringing { leg, .. }
        | Report::Answered { leg, .. }
        | Report::Failed { leg, .. }
        | Report::Offered { leg, .. }
        | Report::OfferAnswered { leg, .. }
        | Report::OfferFailed { leg, .. }
        | Report::Reshaped { leg, .. }
        | Report::Ended { leg, .. }
        | Report::Confirmed { leg, .. }
        | Report::Dtmf { leg, .. } => Some(*leg),
        Report::Incoming(incoming) => Some(incoming.leg),
        _ => None,
    }
}

/// What befalls the day besides the weather.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    None,
    ProcessDies,
    ConnectionsBreak,
}

fn live(seed: u64, harm: Option<Rewrite>, blow: Blow) -> usize {
    let mut day = Day::new(seed);
    day.world.rewrite = harm;
    day.place_calls();
    match blow {
        Blow::None => {}
        Blow::ProcessDies => {
            let alive = day.soon();
            day.run_for(alive);
            day.restart();
        }
        Blow::ConnectionsBreak => {
            for _ in 0..4 {
                let whole = day.soon();
                day.run_for(whole);
                let node = day.world.random(4) as usize;
                day.world.cut_streams(node);
            }
        }
    }
    day.run_for(seconds(150));
    // A BYE may be lost every time it is sent, and then one side waits for ever: only its user can know.
    day.hang_up_all();
    day.world.weather.loss = 0;
    day.world.rewrite = None;
    day.run_for(seconds(200));
    for ((node, leg), watched) in &day.legs {
        assert_eq!(watched.ends, 1, "seed {seed}: leg {leg} of node {node}");
        assert_eq!(watched.reports_after_end, 0, "seed {seed}: leg {leg} of node {node}");
    }
    for (index, node) in day.world.nodes.iter().enumerate() {
        assert!(node.agent.is_idle(), "seed {seed}: node {index} is not idle: {:#?}", node.agent);
    }
    day.connected
}

#[test]
fn each_leg_ends_exactly_once_and_nothing_stays_behind() {
    let connected: usize = (0..SEEDS).map(|seed| live(seed, None, Blow::None)).sum();
    // The weather leaves room for something to happen.
    assert!(connected as u64 > SEEDS, "{connected}");
}

#[test]
fn a_process_that_dies_leaves_nothing_ringing_and_nothing_talking() {
    (0..SEEDS / 2).for_each(|seed| _ = live(seed, None, Blow::ProcessDies));
}

#[test]
fn connections_that_break_harm_nobody() {
    (0..SEEDS / 2).for_each(|seed| _ = live(seed, None, Blow::ConnectionsBreak));
}

/// A tenth of all messages has a few bytes changed, missing or doubled.
#[test]
fn damaged_messages_harm_nobody() {
    for seed in 0..SEEDS / 2 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = move |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as usize % bound.max(1)
        };
        let harm = move |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            if below(10) > 0 {
                return bytes;
            }
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes[at] = below(256) as u8,
                    1 => bytes.truncate(at.max(1)),
                    2 => _ = bytes.remove(at),
                    _ => {
                        let end = (at + below(40)).min(bytes.len());
                        let again = bytes[at..end].to_vec();
                        bytes.splice(at..at, again);
                    }
                }
                if bytes.is_empty() {
                    bytes.push(b'x');
                }
            }
            bytes
        };
        live(seed, Some(Box::new(harm)), Blow::None);
    }
}

/// The same seed is the same day, message for message: nothing depends on the hour or on the order of a hash.
#[test]
fn a_day_can_be_lived_again() {
    let story = |seed| {
        let mut day = Day::new(seed);
        day.place_calls();
        day.run_for(seconds(100));
        let sent = day.world.nodes.into_iter().flat_map(|node| node.sent);
        sent.map(|(at, text)| (at.duration_since(day.world.start), text)).collect::<Vec<_>>()
    };
    assert_eq!(story(17), story(17));
}
