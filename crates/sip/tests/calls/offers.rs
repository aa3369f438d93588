//! Within a call: hold and resume, offers that meet, session timers, tones.

use sip::agent::{EndReason, Order, Report};

use crate::world::{ANSWER, LEG, OFFER, World, seconds};

const HOLD: &[u8] = b"v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";
const HELD: &[u8] = b"v=0\r\no=- 2 2 IN IP4 10.0.0.2\r\ns=-\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\na=recvonly\r\n";

fn exchange(world: &mut World, from: (usize, sip::agent::LegKey), to: (usize, sip::agent::LegKey), offer: &[u8]) {
    world.order(from.0, Order::Reinvite { leg: from.1, offer: offer.to_vec() });
    world.wait(to.0, |report| match report {
        Report::Offered { leg, sdp, .. } if *leg == to.1 && sdp == offer => Some(()),
        _ => None,
    });
    world.order(to.0, Order::AnswerOffer { leg: to.1, sdp: HELD.to_vec() });
    world.wait(from.0, |report| match report {
        Report::OfferAnswered { leg, sdp, .. } if *leg == from.1 && sdp == HELD => Some(()),
        _ => None,
    });
}

#[test]
fn either_side_holds_and_resumes() {
    let mut world = World::pair(1);
    let callee = world.connect(0, 1);
    exchange(&mut world, (0, LEG), (1, callee), HOLD);
    exchange(&mut world, (0, LEG), (1, callee), OFFER);
    world.run_for(seconds(1));
    exchange(&mut world, (1, callee), (0, LEG), HOLD);
    world.run_for(seconds(40));
    exchange(&mut world, (1, callee), (0, LEG), ANSWER);
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_refused_offer_leaves_the_call_as_it_was() {
    let mut world = World::pair(2);
    let callee = world.connect(0, 1);
    world.order(0, Order::Reinvite { leg: LEG, offer: HOLD.to_vec() });
    world.wait(1, |report| matches!(report, Report::Offered { .. }).then_some(()));
    world.order(1, Order::RefuseOffer { leg: callee, status: 488 });
    world.wait(0, |report| matches!(report, Report::OfferFailed { status: 488, .. }).then_some(()));
    exchange(&mut world, (0, LEG), (1, callee), HOLD);
    world.hang_up(1, callee);
    world.wait_ended(0);
    world.settle();
}

#[test]
fn an_offer_nobody_answers_is_refused_in_time() {
    let mut world = World::pair(3);
    world.connect(0, 1);
    world.order(0, Order::Reinvite { leg: LEG, offer: HOLD.to_vec() });
    world.wait(0, |report| matches!(report, Report::OfferFailed { status: 500, .. }).then_some(()));
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn rfc3261_14_1_two_offers_that_meet_are_both_made_in_the_end() {
    let mut world = World::pair(4);
    let callee = world.connect(0, 1);
    world.run_for(seconds(1));
    world.order(0, Order::Reinvite { leg: LEG, offer: HOLD.to_vec() });
    world.order(1, Order::Reinvite { leg: callee, offer: HOLD.to_vec() });
    let mut answered = [false; 2];
    while answered != [true; 2] {
        let until = world.now + seconds(60);
        assert!(world.step(until));
        for (node, leg) in [(0, LEG), (1, callee)] {
            for report in world.take(node) {
                match report {
                    Report::Offered { .. } => {
                        world.order(node, Order::AnswerOffer { leg, sdp: HELD.to_vec() });
                    }
                    Report::OfferAnswered { .. } => answered[node] = true,
                    Report::OfferFailed { .. } | Report::Ended { .. } => panic!("{report:?}"),
                    _ => {}
                }
            }
        }
    }
    assert_eq!((world.count_sent(0, "SIP/2.0 491"), world.count_sent(1, "SIP/2.0 491")), (1, 1));
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_second_offer_waits_for_the_first() {
    let mut world = World::pair(5);
    let callee = world.connect(0, 1);
    world.order(0, Order::Reinvite { leg: LEG, offer: HOLD.to_vec() });
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    for expected in [HOLD, OFFER] {
        world.wait(1, |report| matches!(report, Report::Offered { sdp, .. } if sdp == expected).then_some(()));
        world.order(1, Order::AnswerOffer { leg: callee, sdp: HELD.to_vec() });
    }
    world.wait(0, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
    world.wait(0, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn an_offer_answered_late_harms_nothing() {
    let mut world = World::pair(11);
    let callee = world.connect(0, 1);
    world.order(0, Order::Reinvite { leg: LEG, offer: HOLD.to_vec() });
    world.wait(1, |report| matches!(report, Report::Offered { .. }).then_some(()));
    world.run_for(seconds(9));
    world.order(1, Order::AnswerOffer { leg: callee, sdp: HELD.to_vec() });
    world.wait(0, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
    world.run_for(seconds(120));
    assert!(world.take(0).is_empty());
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_peer_that_lost_the_dialog_ends_the_leg() {
    let mut world = World::pair(6);
    world.connect(0, 1);
    world.restart(1, crate::world::config(2));
    world.order(0, Order::Reinvite { leg: LEG, offer: HOLD.to_vec() });
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Lost, .. }), "{ended:?}");
    world.settle();
}

/// A raw peer at 10.9.9.9 calls node 0 with these extra headers; gives back our To line.
fn raw_call(world: &mut World, more: &str) -> (sip::agent::LegKey, String) {
    let invite = raw("INVITE", 1, "<sip:user0@10.0.0.1>", more, "v=0\r\no=- 9 9 IN IP4 10.9.9.9\r\n");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), invite.as_bytes());
    let leg = world.wait_incoming(0);
    world.order(0, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let answer = world.find_sent(0, "SIP/2.0 200").to_owned();
    let to = answer.lines().find_map(|line| line.strip_prefix("To: ")).expect("a To").to_owned();
    let ack = raw("ACK", 1, &to, "", "");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), ack.as_bytes());
    world.wait(0, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    (leg, to)
}

fn raw(method: &str, number: u32, to: &str, more: &str, body: &str) -> String {
    let kind = if body.is_empty() || more.contains("Content-Type") { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:user0@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK{method}{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:raw@example.com>;tag=raw\r\nTo: {to}\r\nCall-ID: raw\r\n\
         CSeq: {number} {method}\r\nContact: <sip:raw@10.9.9.9>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn rfc4028_a_session_the_peer_does_not_refresh_is_ended() {
    let mut world = World::pair(7);
    let more = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n";
    let (_, to) = raw_call(&mut world, more);
    let answer = world.find_sent(0, "SIP/2.0 200");
    assert!(answer.contains("Session-Expires: 90;refresher=uac") && answer.contains("Require: timer"), "{answer}");
    world.run_for(seconds(50));
    let update = raw("UPDATE", 2, &to, more, "");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), update.as_bytes());
    world.run_for(seconds(50));
    assert!(world.take(0).is_empty());
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::SessionExpired, local: true, .. }), "{ended:?}");
    world.settle();
}

#[test]
fn rfc4028_we_refresh_when_the_peer_wants_us_to() {
    let mut world = World::pair(8);
    let (leg, _) = raw_call(&mut world, "Supported: timer\r\nAllow: UPDATE\r\nSession-Expires: 100;refresher=uas\r\n");
    world.run_for(seconds(51));
    let update = world.find_sent(0, "UPDATE").to_owned();
    assert!(update.contains("Session-Expires: 100;refresher=uac"), "{update}");
    world.hang_up(0, leg);
    world.settle();
}

#[test]
fn rfc3261_14_2_a_reinvite_without_an_offer_gets_ours() {
    let mut world = World::pair(9);
    let (_, to) = raw_call(&mut world, "");
    let reinvite = raw("INVITE", 2, &to, "", "");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), reinvite.as_bytes());
    let offer = world.nodes[0].sent.last().unwrap().1.clone();
    assert!(offer.starts_with("SIP/2.0 200") && offer.ends_with(std::str::from_utf8(ANSWER).unwrap()), "{offer}");
    let ack = raw("ACK", 2, &to, "", "v=0\r\nchanged");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), ack.as_bytes());
    world.wait(0, |report| match report {
        Report::OfferAnswered { sdp, .. } if sdp == b"v=0\r\nchanged" => Some(()),
        _ => None,
    });
    let bye = raw("BYE", 3, &to, "", "");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), bye.as_bytes());
    world.wait_ended(0);
    world.settle();
}

#[test]
fn tones_by_info_are_reported() {
    let mut world = World::pair(10);
    let (leg, to) = raw_call(&mut world, "");
    let info = raw("INFO", 2, &to, "Content-Type: application/dtmf-relay\r\n", "Signal=5\r\nDuration=160\r\n");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), info.as_bytes());
    let digit = world.wait(0, |report| match report {
        Report::Dtmf { tone, .. } => Some(tone.digit),
        _ => None,
    });
    assert_eq!(digit, '5');
    world.hang_up(0, leg);
    world.settle();
}

#[test]
fn rfc3311_an_offer_by_update_is_answered_within_its_200() {
    let mut world = World::pair(12);
    let (leg, to) = raw_call(&mut world, "");
    let update = raw("UPDATE", 2, &to, "", "v=0\r\nchanged");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), update.as_bytes());
    world.wait(0, |report| matches!(report, Report::Offered { sdp, .. } if sdp == b"v=0\r\nchanged").then_some(()));
    // One offer at a time: the peer's next one comes too early, ours waits.
    let again = raw("UPDATE", 3, &to, "", "v=0\r\nagain");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), again.as_bytes());
    assert!(world.find_sent(0, "SIP/2.0 500").contains("Retry-After"));
    world.order(0, Order::Reinvite { leg, offer: HOLD.to_vec() });
    assert_eq!(world.count_sent(0, "INVITE"), 0);
    world.order(0, Order::AnswerOffer { leg, sdp: HELD.to_vec() });
    assert!(world.nodes[0].sent.iter().any(|(_, text)| text.contains("CSeq: 2 UPDATE") && text.contains("a=recvonly")));
    assert_eq!(world.count_sent(0, "INVITE"), 1);
    // Meanwhile the peer's offer meets ours.
    let glare = raw("UPDATE", 4, &to, "", "v=0\r\nagain");
    world.inject(0, "10.9.9.9:5060".parse().expect("an address"), glare.as_bytes());
    assert_eq!(world.count_sent(0, "SIP/2.0 491"), 1);
    world.hang_up(0, leg);
    world.settle();
}
