//! Strangers: they guess, overhear, replay, forge addresses, send much and say little. Here: what passwords and registrations
//! are held against.

mod calls;
mod connections;
mod floods;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sip::agent::{AgentConfig, Algorithm, Binding, IncomingPolicy, Lookup, RegistrarConfig, Users};
use sip::digest::DigestClient;
use sip::message::{HeaderName, Message, Request, Response, parse_datagram};

use crate::world::{World, config, seconds};

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
