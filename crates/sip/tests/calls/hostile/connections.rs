//! Strangers who connect: they say nothing, or little, or without end.

use std::time::{Duration, Instant};

use sip::agent::limits::{MESSAGE_WITHIN, UNFINISHED_BYTES_MAX};
use sip::agent::{Agent, Flow, Input, Order, Output, Transport};
use sip::message::limits::MESSAGE_BYTES_MAX;
use sip::message::{Message, Request, parse_datagram};

use super::calls::{forged, the_other_way};
use super::{Stranger, at, server, world};
use crate::world::{ANSWER, LEG, answer_to, dial, seconds};

/// A server alone, with few connections, and its clock.
struct Door {
    agent: Agent,
    now: Instant,
    closed: Vec<Flow>,
    sent: Vec<(Flow, String)>,
}

impl Door {
    fn new() -> Self {
        Self::with_connections(20, 5)
    }

    fn with_connections(streams_max: usize, streams_per_address_max: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let now = Instant::now();
        let mut config = server();
        (config.streams_max, config.streams_per_address_max) = (streams_max, streams_per_address_max);
        let agent = Agent::new(config, now);
        let mut door = Self { agent, now, closed: Vec::new(), sent: Vec::new() };
        let local = at("10.0.0.1:5060");
        door.give(Input::Listening { flow: Flow(0), transport: Transport::Tcp, local, advertised: local });
        door
    }

    fn give(&mut self, input: Input<'_>) {
        self.agent.handle(self.now, input);
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::CloseFlow(flow) => self.closed.push(flow),
                Output::Transmit { flow, bytes, .. } => {
                    self.sent.push((flow, String::from_utf8_lossy(&bytes).into_owned()));
                }
                Output::Connect { .. } | Output::LookUp { .. } | Output::Report(_) => {}
            }
        }
    }

    fn open(&mut self, flow: u64, address: &str) {
        self.give(Input::Accepted { flow: Flow(flow), source: at(address), local: at("10.0.0.1:5060") });
    }

    fn say(&mut self, flow: u64, address: &str, text: &str) {
        let (source, local) = (at(address), at("10.0.0.1:5060"));
        self.give(Input::Stream { flow: Flow(flow), source, local, bytes: text.as_bytes() });
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.agent.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.give(Input::Time);
        }
        self.now = until;
    }

    /// Registers over a connection.
    fn register(&mut self, flow: u64, address: &str, username: &str) {
        let mut phone = Stranger::user(address, username);
        let over_tcp =
            |request: &Request| String::from_utf8_lossy(&request.to_bytes()).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let request = phone.register(username, "");
        self.say(flow, address, &over_tcp(&request));
        let (_, challenge) = self.sent.last().expect("a challenge").clone();
        let Ok(Message::Response(challenge)) = parse_datagram(challenge.as_bytes()) else { panic!("{challenge}") };
        let again = phone.answering(&challenge, request).expect("an answer");
        self.say(flow, address, &over_tcp(&again));
        assert!(self.sent.last().expect("an answer").1.starts_with("SIP/2.0 200"));
    }
}

const OPTIONS: &str = "OPTIONS sip:convoke@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 10.9.9.9;branch=z9hG4bKo\r\nFrom: <sip:a@b.example>;tag=1\r\n\
    To: <sip:convoke@10.0.0.1>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

#[test]
fn who_connects_and_says_nothing_is_shown_out() {
    let mut door = Door::new();
    door.open(1, "10.6.6.6:1");
    door.open(2, "10.6.6.6:2");
    door.say(2, "10.6.6.6:2", "\r\n\r\n");
    door.open(3, "10.9.9.9:3");
    door.say(3, "10.9.9.9:3", OPTIONS);
    door.wait(MESSAGE_WITHIN);
    assert_eq!(door.closed, [Flow(1), Flow(2)], "a keep-alive is no message");
    assert_eq!(door.agent.counters().streams_evicted, 2);
}

#[test]
fn who_sends_byte_by_byte_is_shown_out_even_if_he_is_registered() {
    let mut door = Door::new();
    door.open(1, "10.9.9.9:1");
    door.register(1, "10.9.9.9:1", "desk");
    // Slow, but whole in time.
    for piece in OPTIONS.as_bytes().chunks(40) {
        door.say(1, "10.9.9.9:1", std::str::from_utf8(piece).expect("text"));
        door.wait(seconds(2));
    }
    assert!(door.sent.last().expect("an answer").1.starts_with("SIP/2.0 200"));
    assert!(door.closed.is_empty());
    for byte in OPTIONS.as_bytes().chunks(1).take(60) {
        door.say(1, "10.9.9.9:1", std::str::from_utf8(byte).expect("text"));
        door.wait(seconds(1));
    }
    assert_eq!(door.closed, [Flow(1)]);
}

#[test]
fn connections_of_one_address_make_room_among_themselves_and_the_useful_stay() {
    let mut door = Door::new();
    door.open(100, "10.9.9.9:5060");
    door.say(100, "10.9.9.9:5060", OPTIONS);
    for flow in 1..=5 {
        door.open(flow, &format!("10.6.6.6:{flow}"));
        door.say(flow, &format!("10.6.6.6:{flow}"), OPTIONS);
        door.wait(seconds(1));
    }
    door.register(1, "10.6.6.6:1", "desk");
    door.say(2, "10.6.6.6:2", OPTIONS);
    for flow in 6..=9 {
        door.open(flow, &format!("10.6.6.6:{flow}"));
    }
    // The one that registered stays; of the others the longest silent go; nobody from elsewhere does.
    assert_eq!(door.closed, [Flow(3), Flow(4), Flow(5), Flow(2)]);
    // All of them registered: there is no room for one more, and it alone is closed.
    let mut door = Door::new();
    for flow in 1..=5 {
        door.open(flow, &format!("10.6.6.6:{flow}"));
        door.register(flow, &format!("10.6.6.6:{flow}"), &format!("user{flow}"));
    }
    door.open(6, "10.6.6.6:6");
    assert_eq!(door.closed, [Flow(6)]);
    assert_eq!(door.agent.counters().shed, 1);
}

#[test]
fn when_all_connections_are_taken_the_idlest_goes() {
    let mut door = Door::new();
    for flow in 1..=20 {
        door.open(flow, &format!("10.6.{flow}.6:1"));
        door.wait(Duration::from_millis(100));
    }
    door.say(1, "10.6.1.6:1", OPTIONS);
    door.open(21, "10.9.9.9:1");
    assert_eq!(door.closed, [Flow(2)]);
    door.register(21, "10.9.9.9:1", "desk");
}

#[test]
fn strangers_hold_64_mib_of_unfinished_messages_at_most_and_calls_go_on_beside_them() {
    let mut door = Door::with_connections(10_000, 1_000);
    let desk = "10.9.9.9:5060";
    door.open(0, desk);
    door.register(0, desk, "desk");
    // It holds the beginning of a message for longer than any of them.
    let (begun, rest) = OPTIONS.split_at(100);
    door.say(0, desk, begun);
    // A body that never becomes whole, as long as a message may be.
    let unfinished = OPTIONS.replace("Content-Length: 0", "Content-Length: 65000") + &"x".repeat(64_999);
    assert!(unfinished.len() < MESSAGE_BYTES_MAX);
    let fitting = (UNFINISHED_BYTES_MAX / unfinished.len()) as u64;
    let stranger = |flow: u64| format!("10.6.{}.6:{}", flow / 500, 1000 + flow);
    for flow in 1..=fitting + 100 {
        door.open(flow, &stranger(flow));
        door.say(flow, &stranger(flow), &unfinished);
        door.wait(Duration::from_millis(1));
        let longest: Vec<_> = (1..=flow.saturating_sub(fitting)).map(Flow).collect();
        assert_eq!(door.closed, longest, "who has held his for longest goes, and nobody else");
    }
    // To the last byte.
    let (last, left) = (fitting + 101, UNFINISHED_BYTES_MAX % unfinished.len() - begun.len());
    door.open(last, &stranger(last));
    door.say(last, &stranger(last), &unfinished[..left]);
    assert_eq!(door.agent.counters().streams_evicted, 100);
    door.say(0, desk, rest);
    assert!(door.sent.last().expect("an answer").1.starts_with("SIP/2.0 200"));
    let full = last + 1;
    door.open(full, &stranger(full));
    door.say(full, &stranger(full), &unfinished[..begun.len()]);

    // The phone is called, and hangs up; all that it says comes in pieces.
    let branch = door.agent.bindings("desk@contoso.example")[0].branch();
    door.give(Input::Order(Order::Dial(Box::new(dial(LEG, vec![branch], seconds(30))))));
    let (flow, invite) = door.sent.last().expect("an INVITE").clone();
    assert_eq!((flow, &invite[..6]), (Flow(0), "INVITE"));
    let in_pieces = |door: &mut Door, text: &str| {
        for piece in text.as_bytes().chunks(100) {
            door.say(0, desk, std::str::from_utf8(piece).expect("text"));
        }
    };
    let contact = format!("Contact: <sip:desk@{desk};transport=tcp>\r\n");
    let answer = std::str::from_utf8(ANSWER).expect("text");
    in_pieces(&mut door, &answer_to(&invite, "200 OK", "d", &contact, answer));
    door.give(Input::Order(Order::Confirm { leg: LEG }));
    let (_, ack) = door.sent.last().expect("an ACK").clone();
    assert!(ack.starts_with("ACK"), "{ack}");
    let bye = forged(&the_other_way(&ack), "BYE", 1, at(desk), "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    in_pieces(&mut door, &bye);
    assert!(door.sent.last().expect("an answer").1.starts_with("SIP/2.0 200"));
    assert_eq!(door.agent.legs(), 0);
    assert!(!door.closed.contains(&Flow(0)));
    // What was held is given back.
    door.wait(MESSAGE_WITHIN);
    assert_eq!(door.closed.len() as u64, full);
}

#[test]
fn a_header_without_end_and_a_length_that_lies_end_the_connection() {
    for (text, status) in [
        ("OPTIONS sip:a SIP/2.0\r\nX: ".to_owned() + &"y".repeat(70_000), "513"),
        (OPTIONS.replace("Content-Length: 0", "Content-Length: 99999999999"), "513"),
        (OPTIONS.replace("Content-Length: 0", "Content-Length: -1"), "400"),
        (OPTIONS.replace("Content-Length: 0\r\n", ""), "400"),
        (OPTIONS.replace("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 9"), "400"),
    ] {
        let mut door = Door::new();
        door.open(1, "10.6.6.6:1");
        for piece in text.as_bytes().chunks(1400) {
            door.say(1, "10.6.6.6:1", std::str::from_utf8(piece).expect("text"));
        }
        assert_eq!(door.closed, [Flow(1)], "{text:.60}");
        if let Some((_, answer)) = door.sent.first() {
            assert!(answer.starts_with(&format!("SIP/2.0 {status}")), "{answer}");
        }
        assert!(door.sent.len() <= 1);
    }
}

#[test]
fn a_body_that_is_shorter_than_it_says_swallows_the_next_message_and_no_more() {
    let mut door = Door::new();
    door.open(1, "10.6.6.6:1");
    let longer = OPTIONS.replace("Content-Length: 0", &format!("Content-Length: {}", OPTIONS.len()));
    door.say(1, "10.6.6.6:1", &(longer + OPTIONS + OPTIONS));
    assert_eq!(door.sent.iter().filter(|(_, text)| text.starts_with("SIP/2.0 200")).count(), 2);
    assert!(door.closed.is_empty());
}

#[test]
fn a_peer_that_sends_nothing_but_garbage_is_shown_out() {
    let mut door = Door::new();
    door.open(1, "10.6.6.6:1");
    for _ in 0..100 {
        door.say(1, "10.6.6.6:1", "HELLO\r\nContent-Length: 0\r\n\r\n");
    }
    assert_eq!(door.closed.first(), Some(&Flow(1)));
    assert_eq!(door.agent.counters().malformed_received % 32, 100 % 32, "each connection has its 32");
}

#[test]
fn headers_in_masses_cost_their_sender_more_than_us() {
    let mut world = world(0);
    let many = |line: &str, count: usize| line.repeat(count);
    let deep = format!("Contact: {}<sip:a@b.example>\r\n", "(".repeat(5_000));
    for (more, is_answered) in [
        (many("X: y\r\n", 10_000), true),
        (many("Via: SIP/2.0/UDP 10.6.6.6;branch=z9hG4bKb\r\n", 1_300), true),
        (format!("Contact: {}\r\n", many("<sip:a@b.example>,", 3_000)), true),
        (format!("X: {}\r\n", many("y", 60_000)), true),
        (format!("Authorization: Digest realm=\"convoke\"{}\r\n", many(", a=b", 1_600)), true),
        (many("Authorization: Digest realm=\"convoke\", username=\"a\"\r\n", 120), true),
        (deep, true),
        (format!("Supported: {}\r\n", many("a,", 4_000)), true),
    ] {
        let stranger = Stranger::new("10.6.6.6:5060", "desk", "");
        let text = OPTIONS.replace("OPTIONS", "REGISTER").replace("TCP", "UDP").replace("Content-Length: 0\r\n", &more);
        let before = world.nodes[0].sent.len();
        world.inject(0, stranger.address, text.as_bytes());
        let sent = &world.nodes[0].sent[before..];
        assert_eq!(sent.len(), usize::from(is_answered), "{more:.60}");
        for (_, answer) in sent {
            assert!(answer.len() <= 2 * text.len(), "{} for {}", answer.len(), text.len());
        }
        assert!(world.nodes[0].agent.is_idle(), "{more:.60}");
    }
}
