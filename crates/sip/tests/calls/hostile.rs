//! Strangers: they guess, overhear, replay, forge addresses, send much and say little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::agent::limits::{MESSAGE_WITHIN, UNFINISHED_BYTES_MAX};
use sip::agent::{
    Agent, AgentConfig, Algorithm, Binding, EndReason, Flow, IncomingPolicy, Input, LegKey, Lookup, Order, Output,
    RegistrarConfig, Report, Transport, Users,
};
use sip::digest::DigestClient;
use sip::message::limits::MESSAGE_BYTES_MAX;
use sip::message::{HeaderName, Message, Request, Response, parse_datagram};

use crate::world::{ANSWER, CONTACT, EARLY, LEG, RAW, World, answer_to, config, dial, reliably, seconds};

const PASSWORD: &str = "only-for-tests";

struct Directory;

impl Users for Directory {
    fn ha1(&self, username: &str, domain: &str, algorithm: Algorithm) -> Lookup {
        match domain {
            "contoso.example" | "fabrikam.example" if !username.starts_with("no") => Lookup::Ha1 {
                ha1: sip::digest::ha1(algorithm, username, "convoke", &format!("{PASSWORD}{domain}{username}")),
                aor: format!("{username}@{domain}"),
            },
            _ => Lookup::Unknown,
        }
    }
}

fn server() -> AgentConfig {
    let mut server = config(1);
    server.incoming = IncomingPolicy::Refuse;
    server.registrar = Some(RegistrarConfig::default());
    server.users = Arc::new(Directory);
    server
}

/// A server at node 0, phones at the others.
fn world(phones: u8) -> World {
    let mut world = World::new(1);
    world.add(server());
    for phone in 0..phones {
        world.add(config(2 + phone));
    }
    world
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Somebody who makes requests by hand.
struct Stranger {
    address: SocketAddr,
    account: DigestClient,
    count: u32,
}

impl Stranger {
    fn new(address: &str, username: &str, password: &str) -> Self {
        let account = DigestClient::new(username, password);
        Self { address: at(address), account, count: 0 }
    }

    fn user(address: &str, username: &str) -> Self {
        Self::new(address, username, &format!("{PASSWORD}contoso.example{username}"))
    }

    fn request(&mut self, method: &str, to: &str, more: &str) -> Request {
        self.count += 1;
        let (address, count) = (self.address, self.count);
        let text = format!(
            "{method} sip:contoso.example SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{count}.{method}.{address};rport\r\n\
             From: <{to}>;tag=1\r\nTo: <{to}>\r\nCall-ID: {address}\r\nCSeq: {count} {method}\r\nMax-Forwards: 70\r\n\
             {more}Content-Length: 0\r\n\r\n"
        );
        read(&text)
    }

    fn register(&mut self, username: &str, more: &str) -> Request {
        let contact = format!("Contact: <sip:{username}@{}>\r\n", self.address);
        let more = if more.is_empty() { contact.as_str() } else { more };
        self.request("REGISTER", &format!("sip:{username}@contoso.example"), more)
    }

    /// What it is answered; nothing if it is not.
    fn ask(&self, world: &mut World, request: &Request) -> Option<Response> {
        let before = world.nodes[0].sent.len();
        world.inject(0, self.address, &request.to_bytes());
        let (_, answer) = world.nodes[0].sent.get(before..)?.first()?;
        match parse_datagram(answer.as_bytes()) {
            Ok(Message::Response(response)) => Some(response),
            other => panic!("{other:?}"),
        }
    }

    /// The request once more, with credentials for the challenge.
    fn answering(&mut self, challenge: &Response, mut request: Request) -> Option<Request> {
        self.count += 1;
        self.account.answer(challenge, &mut request, "c").ok()?;
        let via = request
            .headers
            .get_str(HeaderName::Via)?
            .replace("branch=z9hG4bK", &format!("branch=z9hG4bKa{}", self.count));
        request.headers.set(HeaderName::Via, via);
        let method = request.method.as_str().to_owned();
        request.headers.set(HeaderName::CSeq, format!("{} {method}", self.count));
        Some(request)
    }

    /// Registers, and gives back the last answer's status; nothing if there was none.
    fn try_to_register(&mut self, world: &mut World, username: &str, more: &str) -> Option<u16> {
        // Each time as if for the first time, as those do who guess.
        let request = self.register(username, more);
        let challenge = self.ask(world, &request)?;
        assert_eq!(challenge.status, 401);
        let again = self.answering(&challenge, request)?;
        self.ask(world, &again).map(|response| response.status)
    }
}

fn read(text: &str) -> Request {
    match parse_datagram(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?} of {text}"),
    }
}

fn guess(world: &mut World, address: &str, username: &str) -> Option<u16> {
    Stranger::new(address, username, "a guess").try_to_register(world, username, "")
}

// Passwords.

#[test]
fn who_guesses_is_refused_before_the_password_is_looked_at() {
    let mut world = world(0);
    for _ in 0..5 {
        assert_eq!(guess(&mut world, "10.9.9.9:5060", "desk"), Some(401));
    }
    // Right or wrong: nobody looks.
    let mut right = Stranger::user("10.9.9.9:5060", "desk");
    let request = right.register("desk", "");
    let challenge = right.ask(&mut world, &request).expect("a challenge");
    let again = right.answering(&challenge, request).expect("an answer");
    let refused = right.ask(&mut world, &again).expect("an answer");
    assert_eq!(refused.status, 503);
    let wait = refused.headers.retry_after().expect("a header").expect("a time");
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(world.nodes[0].agent.counters().guesses_refused, 1);
    // The same user from elsewhere, and after a while from here.
    assert_eq!(Stranger::user("10.8.8.8:5060", "desk").try_to_register(&mut world, "desk", ""), Some(200));
    world.run_for(seconds(wait.into()));
    assert_eq!(Stranger::user("10.9.9.9:5061", "desk").try_to_register(&mut world, "desk", ""), Some(200));
}

#[test]
fn a_registered_phone_is_listened_to_while_its_neighbour_guesses_at_it() {
    let mut world = world(0);
    let mut phone = Stranger::user("10.9.9.9:5060", "desk");
    assert_eq!(phone.try_to_register(&mut world, "desk", ""), Some(200));
    for _ in 0..40 {
        guess(&mut world, "10.9.9.9:6666", "desk");
        world.run_for(Duration::from_millis(100));
    }
    assert_ne!(Stranger::user("10.9.9.9:7777", "desk").try_to_register(&mut world, "desk", ""), Some(200));
    assert_eq!(phone.try_to_register(&mut world, "desk", ""), Some(200), "it is where it was");
}

#[test]
fn nobody_has_another_locked_out_by_forging_its_address() {
    let mut world = world(0);
    // The attacker's own nonce, and one that was never given, sent under the victim's address.
    for attempt in 0..50 {
        let mut attacker = Stranger::new("10.6.6.6:5060", "desk", "a guess");
        let request = attacker.register("desk", "");
        let challenge = attacker.ask(&mut world, &request).expect("a challenge");
        attacker.address = at("10.9.9.9:5060");
        let mut forged = attacker.answering(&challenge, request).expect("an answer");
        if attempt % 2 == 0 {
            let value = forged.headers.get_str(HeaderName::Authorization).expect("credentials");
            let value = value.replace("nonce=\"A", "nonce=\"B");
            forged.headers.set(HeaderName::Authorization, value);
        }
        let response = attacker.ask(&mut world, &forged).expect("a challenge");
        assert_eq!(response.status, 401);
    }
    assert_eq!(world.nodes[0].agent.counters().authentication_failed, 0);
    assert_eq!(Stranger::user("10.9.9.9:5060", "desk").try_to_register(&mut world, "desk", ""), Some(200));
}

#[test]
fn an_answer_that_was_overheard_is_worth_nothing() {
    let mut world = world(0);
    let mut phone = Stranger::user("10.9.9.9:5060", "desk");
    let request = phone.register("desk", "");
    let challenge = phone.ask(&mut world, &request).expect("a challenge");
    let right = phone.answering(&challenge, request).expect("an answer");
    assert_eq!(phone.ask(&mut world, &right).expect("an answer").status, 200);
    world.take(0);
    // Its own repetition is no replay: it gets the same answer.
    assert_eq!(phone.ask(&mut world, &right).expect("an answer").status, 200);
    world.run_for(seconds(40));
    // From elsewhere, and from its own address in a new transaction with another contact.
    for address in ["10.6.6.6:5060", "10.9.9.9:5060"] {
        let mut replay = right.clone();
        replay.headers.set(HeaderName::Contact, "<sip:desk@10.6.6.6>");
        let via = format!("SIP/2.0/UDP {address};branch=z9hG4bKreplay;rport");
        replay.headers.set(HeaderName::Via, via);
        phone.address = at(address);
        let response = phone.ask(&mut world, &replay).expect("an answer");
        assert_eq!(response.status, 401, "{address}");
        assert!(
            response.headers.get_str(HeaderName::WwwAuthenticate).is_some_and(|value| value.contains("stale=true"))
        );
    }
    assert!(world.take(0).is_empty());
    assert_eq!(world.nodes[0].agent.bindings("desk@contoso.example").len(), 1);
}

// Registrations.

#[test]
fn a_registration_is_its_users_own() {
    let mut world = world(0);
    let mut lobby = Stranger::user("10.9.9.9:5060", "lobby");
    assert_eq!(lobby.try_to_register(&mut world, "lobby", ""), Some(200));
    world.take(0);
    // Somebody with a password of his own.
    let mut desk = Stranger::user("10.6.6.6:5060", "desk");
    assert_eq!(desk.try_to_register(&mut world, "lobby", ""), Some(403));
    assert_eq!(desk.try_to_register(&mut world, "lobby", "Contact: *\r\nExpires: 0\r\n"), Some(403));
    // The same name in another tenant has another password.
    let request = desk.request("REGISTER", "sip:desk@fabrikam.example", "Contact: <sip:desk@10.6.6.6>\r\n");
    let challenge = desk.ask(&mut world, &request).expect("a challenge");
    let again = Stranger::user("10.6.6.6:5060", "desk").answering(&challenge, request).expect("an answer");
    assert_eq!(desk.ask(&mut world, &again).expect("an answer").status, 401);
    assert!(world.take(0).is_empty());
    assert_eq!(world.nodes[0].agent.bindings("lobby@contoso.example").len(), 1);
}

#[test]
fn a_star_removes_only_alone_and_only_with_expires_0() {
    let mut world = world(0);
    let mut desk = Stranger::user("10.9.9.9:5060", "desk");
    assert_eq!(desk.try_to_register(&mut world, "desk", ""), Some(200));
    for more in ["Contact: *\r\n", "Contact: *\r\nExpires: 60\r\n"] {
        assert_eq!(desk.try_to_register(&mut world, "desk", more), Some(400), "{more}");
        assert_eq!(world.nodes[0].agent.bindings("desk@contoso.example").len(), 1, "{more}");
    }
    // What is no list of contacts at all is refused before anybody is asked who he is.
    let well_formed = desk.register("desk", "Contact: *\r\nExpires: 0\r\n");
    for contacts in ["*, <sip:desk@10.9.9.9>", "*\r\nContact: <sip:desk@10.9.9.9>", "*;expires=0"] {
        let text = String::from_utf8(well_formed.to_bytes()).expect("text");
        let text = text.replace("Contact: *", &format!("Contact: {contacts}"));
        world.inject(0, desk.address, text.as_bytes());
        let (_, answer) = world.nodes[0].sent.last().expect("an answer");
        assert!(answer.starts_with("SIP/2.0 400"), "{answer}");
        assert_eq!(world.nodes[0].agent.bindings("desk@contoso.example").len(), 1, "{contacts}");
    }
    assert_eq!(desk.try_to_register(&mut world, "desk", "Contact: *\r\nExpires: 0\r\n"), Some(200));
    assert!(world.nodes[0].agent.bindings("desk@contoso.example").is_empty());
}

#[test]
fn calls_go_to_where_the_password_came_from_whatever_the_contact_says() {
    for more in [
        "Contact: <sip:desk@victim.example>\r\n",
        "Contact: <sip:desk@10.1.1.1:9>\r\n",
        "Contact: <sip:desk@10.9.9.9;maddr=10.1.1.1>\r\n",
        "Contact: <sip:desk@10.9.9.9>\r\nPath: <sip:10.1.1.1:9;lr>\r\nSupported: path\r\n",
    ] {
        let mut world = world(0);
        let mut desk = Stranger::user("10.9.9.9:5060", "desk");
        assert_eq!(desk.try_to_register(&mut world, "desk", more), Some(200), "{more}");
        let binding: Binding = world.nodes[0].agent.bindings("desk@contoso.example")[0].clone();
        assert_eq!(world.dial_and_see(0, binding.branch()), desk.address, "{more}");
        assert!(world.questions.is_empty(), "nobody is looked up for a stranger");
    }
}

// Calls.

/// A request of a dialog that somebody has overheard: of the callee's side.
fn overheard(world: &World, method: &str, number: u32, from: SocketAddr, body: &str) -> String {
    let answer = world.find_sent(1, "SIP/2.0 200").to_owned();
    let header = |name: &str| {
        let line = answer.lines().find(|line| line.starts_with(name)).expect("a header");
        line.split_once(": ").expect("a colon").1.to_owned()
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:convoke@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{method}{number};rport\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContact: <sip:evil@{from}>\r\nMax-Forwards: 70\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        header("To"),
        header("From"),
        header("Call-ID"),
        body.len()
    )
}

/// Where a stranger would like to have the audio.
const EVIL_SESSION: &str =
    "v=0\r\no=- 9 9 IN IP4 10.6.6.6\r\ns=-\r\nc=IN IP4 10.6.6.6\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

#[test]
fn who_has_overheard_a_call_cannot_end_or_change_it() {
    let mut world = World::pair(20);
    world.connect(0, 1);
    world.take(0);
    let evil = at("10.6.6.6:5060");
    for (number, method) in (100..).zip(["BYE", "INVITE", "UPDATE", "INFO", "OPTIONS"]) {
        let body = if matches!(method, "INVITE" | "UPDATE") { EVIL_SESSION } else { "" };
        let request = overheard(&world, method, number, evil, body);
        let before = world.nodes[0].sent.len();
        world.inject(0, evil, request.as_bytes());
        let answers = &world.nodes[0].sent[before..];
        assert!(matches!(answers, [(_, answer)] if answer.starts_with("SIP/2.0 403")), "{method}: {answers:?}");
    }
    assert_eq!(world.nodes[0].agent.counters().foreign_received, 5);
    // Nothing of it happened: not the end, no other session, no other target, and the peer's own numbers still count.
    world.run_for(seconds(40));
    assert!(world.take(0).is_empty());
    // The peer itself, from another port, as behind a NAT that has forgotten it.
    let bye = overheard(&world, "BYE", 3, world.nodes[1].address, "");
    world.inject(0, at("10.0.0.2:40000"), bye.as_bytes());
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
}

/// A request as it would come from the side that it went to.
fn the_other_way(request: &str) -> String {
    let swapped = request.replace("\r\nFrom: ", "\r\nFrom-before: ").replace("\r\nTo: ", "\r\nFrom: ");
    swapped.replace("\r\nFrom-before: ", "\r\nTo: ")
}

/// A request that was overheard, sent again by somebody else as a request of his own.
fn forged(overheard: &str, method: &str, number: u32, from: SocketAddr, body: &str) -> String {
    let (head, _) = overheard.split_once("\r\n\r\n").expect("a head");
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let lines = head.lines().map(|line| match line.split_once([' ', ':']).expect("a name").0 {
        "Via" => format!("Via: SIP/2.0/UDP {from};branch=z9hG4bK{method}{number}.{length};rport\r\n"),
        "CSeq" => format!("CSeq: {number} {method}\r\n"),
        "Contact" | "Content-Type" | "Content-Length" => String::new(),
        first if line.ends_with(" SIP/2.0") => format!("{}\r\n", line.replacen(first, method, 1)),
        _ => format!("{line}\r\n"),
    });
    let head: String = lines.collect();
    format!("{head}Contact: <sip:somebody@{from}>\r\n{kind}Content-Length: {length}\r\n\r\n{body}")
}

#[test]
fn who_has_overheard_a_call_that_rings_here_acknowledges_and_changes_nothing() {
    let mut world = World::pair(29);
    world.filter = Some(Box::new(|text| text.starts_with("PRACK")));
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(EARLY.to_vec()) });
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.run_for(seconds(1));
    let (evil, prack) = (at("10.6.6.6:5060"), world.find_sent(0, "PRACK").to_owned());
    for (number, method) in (100..).zip(["PRACK", "UPDATE", "INVITE", "INFO", "OPTIONS", "BYE"]) {
        for body in ["", EVIL_SESSION] {
            let request = forged(&prack, method, number, evil, body);
            let before = world.nodes[1].sent.len();
            world.inject(1, evil, request.as_bytes());
            let answers = &world.nodes[1].sent[before..];
            assert!(matches!(answers, [(_, answer)] if answer.starts_with("SIP/2.0 403")), "{method}: {answers:?}");
        }
    }
    assert_eq!(world.nodes[1].agent.counters().foreign_received, 12);
    // RFC 3262 §3: the response is still repeated, the 2xx waits, and the caller's own number is the next.
    let repeated = world.count_sent(1, "SIP/2.0 183");
    world.run_for(seconds(5));
    assert!(world.count_sent(1, "SIP/2.0 183") > repeated);
    assert_eq!(world.count_sent(1, "SIP/2.0 200"), 0);
    assert!(world.take(1).is_empty());
    world.filter = None;
    let answer = world.wait(0, |report| match report {
        Report::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(answer, EARLY);
    // What follows goes to the caller.
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.last_destinations(1);
    world.hang_up(1, leg);
    assert_eq!(world.last_destinations(1), [world.nodes[0].address]);
    world.wait_ended(0);
    world.settle();
}

#[test]
fn who_has_overheard_a_call_that_rings_elsewhere_tells_and_changes_nothing() {
    let mut world = World::pair(30);
    world.call_raw();
    world.answer_raw(0, "INVITE", "180 Ringing", "a", &reliably(1), "");
    world.answer_raw(0, "PRACK", "200 OK", "a", "", "");
    world.take(0);
    let (evil, before) = (at("10.6.6.6:5060"), world.nodes[0].sent.len());
    // In the dialog that is there, as another fork, and without asking to be acknowledged.
    let evil_contact = "Contact: <sip:evil@10.6.6.6>\r\n";
    let evil_reliably = reliably(2).replace(CONTACT, evil_contact);
    for (status, tag, more) in [
        ("183 Progress", "a", evil_reliably.as_str()),
        ("180 Ringing", "a", &evil_reliably),
        ("183 Progress", "evil", &evil_reliably),
        ("183 Progress", "a", evil_contact),
        ("180 Ringing", "evil", evil_contact),
    ] {
        let response = world.raw_answer(0, "INVITE", status, tag, more, EVIL_SESSION);
        world.inject(0, evil, response.as_bytes());
    }
    assert_eq!(world.nodes[0].agent.counters().foreign_received, 5);
    assert_eq!(world.nodes[0].sent.len(), before, "nobody is acknowledged");

    // Requests of the called side.
    let prack = world.find_sent(0, "PRACK").to_owned();
    let of_theirs = the_other_way(&prack);
    for (number, method) in (100..).zip(["UPDATE", "PRACK", "INFO", "OPTIONS", "INVITE", "BYE"]) {
        let before = world.nodes[0].sent.len();
        world.inject(0, evil, forged(&of_theirs, method, number, evil, "").as_bytes());
        let answers = &world.nodes[0].sent[before..];
        assert!(matches!(answers, [(_, answer)] if answer.starts_with("SIP/2.0 403")), "{method}: {answers:?}");
    }
    assert!(world.take(0).is_empty());

    // The peer's own number is the next, its next response is acknowledged, to it, and it alone answers.
    let raw = at(RAW);
    let update = forged(&of_theirs, "UPDATE", 1, raw, "");
    world.inject(0, raw, update.as_bytes());
    assert!(world.nodes[0].sent.last().expect("an answer").1.starts_with("SIP/2.0 200"));
    let text = |sdp: &[u8]| String::from_utf8_lossy(sdp).into_owned();
    world.last_destinations(0);
    world.answer_raw(0, "INVITE", "183 Progress", "a", &reliably(2), &text(EARLY));
    assert_eq!((world.count_sent(0, "PRACK"), world.last_destinations(0)), (2, vec![raw]));
    world.answer_raw(0, "INVITE", "200 OK", "a", CONTACT, "");
    let answer = world.wait(0, |report| match report {
        Report::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(answer, EARLY);
    world.order(0, Order::Confirm { leg: LEG });
    world.hang_up(0, LEG);
    assert!(world.last_destinations(0).iter().all(|destination| *destination == raw));
}

#[test]
fn an_ack_from_elsewhere_moves_no_audio() {
    let mut world = World::pair(21);
    // An INVITE without an offer: the answer comes with the ACK.
    let from = at("10.9.9.9:5060");
    let invite = format!(
        "INVITE sip:user1@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKi;rport\r\nFrom: <sip:a@b.example>;tag=1\r\n\
         To: <sip:user1@10.0.0.2>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{from}>\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    );
    world.inject(1, from, invite.as_bytes());
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let answer = world.find_sent(1, "SIP/2.0 200").to_owned();
    let to = answer.lines().find(|line| line.starts_with("To: ")).expect("To").to_owned();
    let ack = |port: u16| {
        let body = format!(
            "v=0\r\no=- 9 9 IN IP4 10.6.6.6\r\ns=-\r\nc=IN IP4 10.6.6.6\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        );
        invite
            .replace("INVITE", "ACK")
            .replace("z9hG4bKi", "z9hG4bKk")
            .replace("To: <sip:user1@10.0.0.2>", &to)
            .replace(
                "Content-Length: 0\r\n\r\n",
                &format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            )
    };
    world.inject(1, at("10.6.6.6:5060"), ack(666).as_bytes());
    assert!(world.take(1).is_empty());
    world.inject(1, at("10.9.9.9:7000"), ack(4000).as_bytes());
    let reports = world.take(1);
    let [Report::Confirmed { sdp: Some(sdp), .. }] = &reports[..] else { panic!("{reports:?}") };
    assert!(String::from_utf8_lossy(sdp).contains("m=audio 4000"));
}

#[test]
fn a_cancel_from_elsewhere_cancels_nothing() {
    let mut world = World::pair(22);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    let cancel = world.find_sent(0, "INVITE").replace("INVITE", "CANCEL");
    let (head, _) = cancel.split_once("\r\n\r\n").expect("a head");
    let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("Content-")).collect();
    let cancel = format!("{}\r\nContent-Length: 0\r\n\r\n", head.join("\r\n"));
    world.inject(1, at("10.6.6.6:5060"), cancel.as_bytes());
    assert_eq!(world.count_sent(1, "SIP/2.0 481"), 1);
    assert!(world.take(1).is_empty());
    world.inject(1, at("10.0.0.1:9999"), cancel.as_bytes());
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Cancelled { .. }, .. }), "{ended:?}");
}

#[test]
fn a_response_from_elsewhere_answers_nothing() {
    let mut world = World::pair(23);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.run_for(seconds(1));
    let trying = world.find_sent(1, "SIP/2.0 100").to_owned();
    let forged = trying
        .replace("SIP/2.0 100 Trying", "SIP/2.0 603 Decline")
        .replace("To: <sip:user1@10.0.0.2:5060>", "To: <sip:user1@10.0.0.2:5060>;tag=x");
    world.inject(0, at("10.6.6.6:5060"), forged.as_bytes());
    assert!(world.take(0).is_empty());
    assert_eq!(world.nodes[0].agent.counters().foreign_received, 1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
}

/// A phone that registered and is in a call; then it moves to another address.
fn moved() -> (World, Stranger) {
    let mut world = world(1);
    let phone = world.nodes[1].address.to_string();
    let mut desk = Stranger::user(&phone, "desk");
    assert_eq!(desk.try_to_register(&mut world, "desk", ""), Some(200));
    let binding = world.nodes[0].agent.bindings("desk@contoso.example")[0].clone();
    world.dial_branches(0, LEG, vec![binding.branch()], seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.take(0);
    (world, Stranger::user("10.5.5.5:5060", "desk"))
}

#[test]
fn a_phone_that_has_moved_is_believed_once_it_has_registered_from_there() {
    let (mut world, mut phone) = moved();
    assert_eq!(phone.try_to_register(&mut world, "desk", ""), Some(200));
    let bye = overheard(&world, "BYE", 9, phone.address, "");
    assert_eq!(phone.ask(&mut world, &read(&bye)).expect("an answer").status, 200);
}

#[test]
fn a_phone_that_has_moved_and_says_so_in_the_call_is_asked_for_its_password() {
    let (mut world, mut phone) = moved();
    let bye = read(&overheard(&world, "BYE", 9, phone.address, ""));
    let challenge = phone.ask(&mut world, &bye).expect("a challenge");
    assert_eq!(challenge.status, 401);
    // Somebody else with a password of his own is not the one who was called.
    let mut other = Stranger::user("10.5.5.5:5060", "lobby");
    let forged = other.answering(&challenge, bye.clone()).expect("an answer");
    assert_eq!(other.ask(&mut world, &forged).expect("an answer").status, 403);
    phone.count = 10;
    let challenge = phone.ask(&mut world, &bye).expect("a challenge");
    let right = phone.answering(&challenge, bye).expect("an answer");
    assert_eq!(phone.ask(&mut world, &right).expect("an answer").status, 200);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
}

#[test]
fn a_trunk_of_many_machines_may_speak_from_any_of_them() {
    let mut world = World::pair(24);
    let ip = world.nodes[1].address.ip();
    world.dns_servers("_sip._udp.carrier.example", &[(10, 5060, "a.carrier.example")]);
    world.dns_host("a.carrier.example", &[ip, at("10.7.7.7:1").ip()]);
    let target = "sip:+12065550100@carrier.example".parse().expect("a URI");
    world.dial_branches(0, LEG, vec![sip::agent::Branch::to_uri(target)], seconds(60));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    for (address, status) in [("10.6.6.6:5060", "403"), ("10.7.7.7:5060", "200")] {
        let bye = overheard(&world, "BYE", 9, at(address), "");
        let before = world.nodes[0].sent.len();
        world.inject(0, at(address), bye.as_bytes());
        assert!(world.nodes[0].sent[before].1.starts_with(&format!("SIP/2.0 {status}")), "{address}");
    }
}

// Floods.

#[test]
fn a_forged_address_gets_one_answer_to_each_packet_and_little_more_than_it_sent() {
    let mut world = world(0);
    let mut stranger = Stranger::new("10.6.6.6:5060", "desk", "a guess");
    let contact = "Contact: <sip:a@10.6.6.6>\r\n";
    let requests = [
        stranger.register("desk", ""),
        stranger.request("INVITE", "sip:desk@contoso.example", contact),
        stranger.request("OPTIONS", "sip:desk@contoso.example", ""),
        stranger.request("BYE", "sip:desk@contoso.example", ""),
        stranger.request("CANCEL", "sip:desk@contoso.example", ""),
        stranger.request("INVITE", "sip:desk@contoso.example", "Contact: <sip:a@10.6.6.6>\r\nRequire: teleport\r\n"),
    ];
    for request in requests {
        let before = world.nodes[0].sent.len();
        world.inject(0, stranger.address, &request.to_bytes());
        // RFC 3261 §17.2.1 would repeat the refusal of an INVITE for half a minute, to whoever's address it is.
        world.run_for(seconds(60));
        let sent = &world.nodes[0].sent[before..];
        assert_eq!(sent.len(), 1, "{} is answered once: {sent:?}", request.method.as_str());
        let (asked, answered) = (request.to_bytes().len(), sent[0].1.len());
        assert!(answered <= 3 * asked, "{} bytes for {asked} of {}", answered, request.method.as_str());
        assert!(world.nodes[0].agent.is_idle(), "and nothing is left of it");
    }
}

#[test]
fn a_flood_of_strangers_leaves_no_room_taken_and_calls_go_on() {
    let mut world = World::new(25);
    let mut small = server();
    small.transactions_max = 50;
    world.add(small);
    world.add(config(2));
    world.connect(0, 1);
    let mut strangers: Vec<Stranger> =
        (0..250).map(|n| Stranger::new(&format!("10.6.6.{n}:5060"), "desk", "a guess")).collect();
    for round in 0..4 {
        for stranger in &mut strangers {
            let contact = "Contact: <sip:a@10.6.6.6>\r\n";
            let request = match round % 2 {
                0 => stranger.request("INVITE", "sip:desk@contoso.example", contact),
                _ => stranger.register("desk", ""),
            };
            let status = stranger.ask(&mut world, &request).expect("an answer").status;
            assert!(matches!(status, 401 | 403), "{status}");
        }
    }
    assert_eq!(world.nodes[0].agent.counters().shed, 0);
    let mut phone = Stranger::user("10.9.9.9:5060", "lobby");
    assert_eq!(phone.try_to_register(&mut world, "lobby", ""), Some(200), "a phone registers meanwhile");
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn an_overloaded_server_says_503_before_it_does_anything_and_ends_calls_all_the_same() {
    let mut world = World::new(26);
    let mut open = server();
    open.incoming = IncomingPolicy::Deliver;
    world.add(open);
    world.add(config(2));
    world.connect(0, 1);
    world.take(0);
    world.order(0, Order::Overloaded(true));
    let mut phone = Stranger::user("10.9.9.9:5060", "desk");
    for request in [
        phone.register("desk", ""),
        phone.request("INVITE", "sip:desk@contoso.example", "Contact: <sip:a@10.9.9.9>\r\n"),
    ] {
        let refused = phone.ask(&mut world, &request).expect("an answer");
        assert_eq!(refused.status, 503);
        assert!(refused.headers.retry_after().expect("a header").is_some());
    }
    assert!(world.take(0).is_empty());
    assert_eq!(world.nodes[0].agent.legs(), 1);
    // What goes on goes on, and what ends calls gets through.
    let bye = overheard(&world, "BYE", 9, world.nodes[1].address, "");
    world.inject(0, world.nodes[1].address, bye.as_bytes());
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
    world.order(0, Order::Overloaded(false));
    assert_eq!(phone.try_to_register(&mut world, "desk", ""), Some(200));
}

#[test]
fn a_late_answer_of_an_old_call_cannot_make_us_shout_at_somebody() {
    let mut world = World::pair(27);
    world.answer(0, 1);
    let answer = world.find_sent(1, "SIP/2.0 200").to_owned();
    world.restart(0, config(1));
    world.nodes[1].is_down = true;
    world.last_destinations(0);
    let before = world.nodes[0].sent.len();
    // Whoever was once called knows a Call-ID of ours, and names a victim in Contact.
    let answer = answer.replace("Contact: <sip:", "Contact: <sip:x@10.1.1.1>\r\nX: <sip:");
    let evil = at("10.6.6.6:5060");
    for copy in 0..500 {
        let other = answer.replace(";tag=", &format!(";tag={}", copy / 5));
        world.inject(0, evil, other.as_bytes());
    }
    assert!(world.last_destinations(0).iter().all(|destination| *destination == evil));
    world.run_for(seconds(100));
    let sent = world.nodes[0].sent.len() - before;
    assert!(sent <= 64 * 12, "{sent} packets");
    assert!(world.last_destinations(0).iter().all(|destination| *destination == evil));
}

#[test]
fn a_leg_more_is_not_begun_by_a_stranger_who_repeats_himself() {
    let mut world = World::pair(28);
    let mut stranger = Stranger::new("10.6.6.6:5060", "desk", "");
    let invite = stranger.request("INVITE", "sip:user0@10.0.0.1", "Contact: <sip:a@10.6.6.6>\r\n");
    (0..20).for_each(|_| drop(stranger.ask(&mut world, &invite)));
    assert_eq!(world.nodes[0].agent.legs(), 1);
    let legs: Vec<LegKey> = world
        .take(0)
        .into_iter()
        .filter_map(|report| match report {
            Report::Incoming(incoming) => Some(incoming.leg),
            _ => None,
        })
        .collect();
    assert_eq!(legs.len(), 1);
}

// Connections.

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
