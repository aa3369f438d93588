//! Strangers who have overheard a call, and phones that have moved: who is believed within a dialog.

use std::net::SocketAddr;

use sip::agent::{EndReason, Order, Report};

use super::{Stranger, at, read, world};
use crate::world::{ANSWER, CONTACT, EARLY, LEG, RAW, World, reliably, seconds};

/// A request of a dialog that somebody has overheard: of the callee's side.
pub(super) fn overheard(world: &World, method: &str, number: u32, from: SocketAddr, body: &str) -> String {
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
pub(super) fn the_other_way(request: &str) -> String {
    let swapped = request.replace("\r\nFrom: ", "\r\nFrom-before: ").replace("\r\nTo: ", "\r\nFrom: ");
    swapped.replace("\r\nFrom-before: ", "\r\nTo: ")
}

/// A request that was overheard, sent again by somebody else as a request of his own.
pub(super) fn forged(overheard: &str, method: &str, number: u32, from: SocketAddr, body: &str) -> String {
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
