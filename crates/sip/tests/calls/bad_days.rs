//! Requests that do not fit, lost messages, crossing messages, restarts.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sip::agent::{CancelDerived, Dialled, EndReason, FailedBecause, HangUpCause, IncomingPolicy, Order, Report, Waits};

use crate::world::{ANSWER, CONTACT, LEG, OFFER, World, config, dial, seconds};

/// Loses the first `count` messages that begin like this.
fn lose(world: &mut World, start: &'static str, contains: &'static str, count: usize) {
    let mut left = count;
    world.filter = Some(Box::new(move |text| {
        let fits = left > 0 && text.starts_with(start) && text.contains(contains);
        left -= usize::from(fits);
        fits
    }));
}

#[test]
fn a_lost_200_is_repeated() {
    let mut world = World::pair(1);
    lose(&mut world, "SIP/2.0 200", "INVITE", 3);
    world.connect(0, 1);
    assert_eq!(world.count_sent(1, "SIP/2.0 200"), 4);
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_lost_ack_is_sent_again_for_each_repeated_200() {
    let mut world = World::pair(2);
    lose(&mut world, "ACK", "", 2);
    world.connect(0, 1);
    assert_eq!(world.count_sent(0, "ACK"), 3);
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_lost_ack_is_sent_again_after_a_reinvite_too() {
    // RFC 3261 §13.2.2.4
    let mut world = World::pair(2);
    let mut left = 1;
    world.filter = Some(Box::new(move |text| {
        let fits = left > 0 && text.starts_with("ACK") && text.contains("CSeq: 1 ACK");
        left -= usize::from(fits);
        fits
    }));
    let leg = world.answer(0, 1);
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    if world.wait(1, |report| matches!(report, Report::Offered { .. }).then_some(true)) {
        world.order(1, Order::AnswerOffer { leg, sdp: ANSWER.to_vec() });
    }
    world.run_for(seconds(40));
    assert_eq!(world.count_sent(1, "BYE"), 0, "its answer was acknowledged");
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn the_ack_waits_until_the_caller_confirms() {
    let mut world = World::pair(3);
    world.answer(0, 1);
    world.run_for(seconds(5));
    assert_eq!(world.count_sent(0, "ACK"), 0);
    assert!(world.count_sent(1, "SIP/2.0 200") >= 3);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn an_answer_nobody_confirms_is_ended() {
    let mut world = World::pair(4);
    world.answer(0, 1);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::NotConfirmed, .. }), "{ended:?}");
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_lost_bye_is_repeated_and_answered_once() {
    let mut world = World::pair(5);
    world.connect(0, 1);
    lose(&mut world, "BYE", "", 2);
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
    assert_eq!(world.count_sent(0, "BYE"), 3);
    assert_eq!(world.nodes[1].reports.len(), 0);
}

#[test]
fn who_stops_waits_for_the_answer_to_bye() {
    let mut world = World::pair(5);
    world.connect(0, 1);
    assert!(!world.nodes[0].agent.is_settled(), "a leg is up");
    lose(&mut world, "BYE", "", 1);
    world.hang_up(0, LEG);
    assert_eq!(world.nodes[0].agent.legs(), 0);
    assert!(!world.nodes[0].agent.is_settled(), "nobody has heard the BYE");
    // A process that dies here must not have said that the leg is over: nobody would say BYE again.
    assert!(world.nodes[0].reports.is_empty());
    world.wait_ended(1);
    world.wait_ended(0);
    world.run_for(seconds(1));
    assert!(world.nodes[0].agent.is_settled(), "what only lingers is nobody's loss");
    world.settle();
}

#[test]
fn who_stops_waits_for_the_487_and_acknowledges_it() {
    let mut world = World::pair(6);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(1));
    lose(&mut world, "CANCEL", "", 1);
    world.hang_up(0, LEG);
    assert!(!world.nodes[0].agent.is_settled(), "it still rings");
    world.wait_ended(0);
    assert_eq!(world.count_sent(0, "ACK"), 1);
    assert!(world.nodes[0].agent.is_settled());
    world.wait_ended(1);
    world.settle();
}

#[test]
fn whoever_hangs_up_a_phone_that_rings_is_told_when_it_has_stopped() {
    // A process that dies in between must not have said that the leg is over: nobody would cancel the INVITE.
    let mut world = World::pair(6);
    // While nothing provisional is heard, no CANCEL may be sent (RFC 3261 §9.1).
    world.filter = Some(Box::new(|text| text.starts_with("SIP/2.0 1")));
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.hang_up(0, LEG);
    world.run_for(seconds(1));
    assert_eq!((world.count_sent(0, "CANCEL"), world.nodes[0].reports.len()), (0, 0));
    world.filter = None;
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    lose(&mut world, "CANCEL", "", 2);
    world.run_for(seconds(1));
    assert!(world.count_sent(0, "CANCEL") > 0 && world.nodes[0].reports.is_empty(), "no CANCEL has arrived");
    let told = world.wait_ended(0);
    assert!(matches!(told, Report::Failed { because: FailedBecause::Cancelled, .. }), "{told:?}");
    assert_eq!(world.count_sent(1, "SIP/2.0 487"), 1);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn whoever_hangs_up_a_phone_that_answers_at_that_moment_is_told_when_the_bye_is_answered() {
    let mut world = World::pair(6);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(1));
    world.take(0);
    world.hang_up(0, LEG);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let mut byes = 2;
    world.filter = Some(Box::new(move |text| {
        let is_bye = byes > 0 && text.starts_with("BYE");
        byes -= usize::from(is_bye);
        text.starts_with("CANCEL") || is_bye
    }));
    world.run_for(Duration::from_millis(700));
    assert!(world.count_sent(0, "BYE") > 0 && world.nodes[0].reports.is_empty(), "no BYE has arrived");
    let told = world.wait_ended(0);
    assert!(matches!(told, Report::Failed { because: FailedBecause::Cancelled, .. }), "{told:?}");
    world.wait_ended(1);
    world.filter = None;
    world.settle();
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    let mut world = World::pair(6);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(1));
    world.hang_up(0, LEG);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 487, because: FailedBecause::Cancelled, .. }), "{ended:?}");
    world.wait_ended(1);
    world.settle();
    assert_eq!(world.count_sent(1, "SIP/2.0 487"), 1);
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut world = World::pair(7);
    // Nothing provisional gets through for a while, so CANCEL may not be sent (RFC 3261 §9.1).
    lose(&mut world, "SIP/2.0 100", "", 2);
    world.dial(0, LEG, &[1]);
    world.hang_up(0, LEG);
    world.run_for(seconds(1));
    assert_eq!(world.count_sent(0, "CANCEL"), 0);
    world.run_for(seconds(3));
    assert_eq!(world.count_sent(0, "CANCEL"), 1);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_200_that_crosses_cancel_is_acknowledged_and_ended() {
    let mut world = World::pair(8);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.run_for(seconds(1));
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.hang_up(0, LEG);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 487, .. }), "{ended:?}");
    world.wait(1, |report| matches!(report, Report::Ended { reason: EndReason::Bye { .. }, .. }).then_some(()));
    world.settle();
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (1, 1));
    // The invitation was withdrawn; nobody else has answered it.
    assert!(!world.find_sent(0, "BYE").contains("elsewhere"));
    assert!(world.nodes[0].reports.is_empty());
}

#[test]
fn rfc3261_16_7_a_200_that_comes_after_a_failure_is_acknowledged_and_ended() {
    // Of two phones behind a proxy one is cancelled, and the other has just been picked up.
    let mut world = World::pair(9);
    world.call_raw();
    world.answer_raw(0, "INVITE", "180 Ringing", "a", "", "");
    world.hang_up(0, LEG);
    world.answer_raw(0, "CANCEL", "200 OK", "a", "", "");
    world.answer_raw(0, "INVITE", "487 Request Terminated", "a", "", "");
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 487, .. }), "{ended:?}");
    let answer = std::str::from_utf8(ANSWER).expect("text");
    world.answer_raw(0, "INVITE", "200 OK", "b", CONTACT, answer);
    world.answer_raw(0, "INVITE", "200 OK", "b", CONTACT, answer);
    let acks = world.all_sent(0, "ACK");
    assert_eq!(acks.iter().filter(|ack| ack.contains("tag=b")).count(), 2, "one for each repetition: {acks:?}");
    assert!(world.find_sent(0, "BYE").contains("tag=b"));
    world.answer_raw(0, "BYE", "200 OK", "b", "", "");
    world.settle();
    assert_eq!(world.count_sent(0, "BYE"), 1);
}

#[test]
fn a_cancel_that_crosses_the_200_changes_nothing_for_the_callee() {
    let mut world = World::pair(9);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.run_for(seconds(1));
    world.hang_up(0, LEG);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(1, |report| matches!(report, Report::Ended { reason: EndReason::Bye { .. }, .. }).then_some(()));
    world.settle();
    assert_eq!(world.count_sent(1, "SIP/2.0 487"), 0);
}

#[test]
fn an_ack_that_never_comes_ends_the_call() {
    let mut world = World::pair(10);
    lose(&mut world, "ACK", "", 1000);
    world.answer(0, 1);
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::NotConfirmed, .. }), "{ended:?}");
    world.wait_ended(0);
    world.settle();
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let mut world = World::pair(11);
    let leg = world.answer(0, 1);
    world.hang_up(1, leg);
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    // RFC 3261 §15: the called side may not send BYE before the ACK.
    assert_eq!(world.count_sent(1, "BYE"), 0);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait_ended(0);
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::HungUp, local: true, .. }), "{ended:?}");
    world.settle();
    assert_eq!(world.count_sent(1, "BYE"), 1);
    assert!(world.nodes[1].reports.is_empty());
}

#[test]
fn a_later_process_ends_a_dialog_from_its_snapshot() {
    let mut world = World::pair(12);
    world.answer(0, 1);
    let snapshot = world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.restart(0, config(1));
    world.order(0, Order::HangUpSnapshot { leg: LEG, snapshot, cause: HangUpCause::because(500, "Restarted") });
    world.wait_ended(0);
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { cause: Some(500) }, .. }), "{ended:?}");
    assert!(world.find_sent(0, "BYE").contains("CSeq: 100002 BYE"));
    world.settle();
}

#[test]
fn a_later_process_cancels_what_an_earlier_one_began() {
    let mut world = World::pair(13);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(2));
    let dialled = dial(LEG, vec![sip::agent::Branch::to_uri(world.uri(1))], seconds(60));
    world.restart(0, config(1));
    world.order(
        0,
        Order::CancelDerived(Box::new(CancelDerived {
            leg: LEG,
            waits: Waits::End,
            caller: dialled.caller,
            calls: vec![Dialled { leg: LEG, branches: dialled.branches, has_credentials: false }],
            but: None,
            cause: HangUpCause::because(500, "Restarted"),
        })),
    );
    assert!(world.nodes[0].reports.is_empty(), "were this process to die now, another would have to say it");
    world.wait_ended(0);
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Cancelled { cause: Some(500) }, .. }), "{ended:?}");
    world.settle();
    // The phone might have asked for a second INVITE (422): that one is cancelled too, and it knows of none.
    assert_eq!((world.count_sent(0, "CANCEL sip:"), world.count_sent(1, "SIP/2.0 481")), (2, 1));
    // The 487 of the old INVITE is acknowledged although nobody knows the INVITE any longer.
    assert_eq!(world.count_sent(1, "SIP/2.0 487"), 1);
}

#[test]
fn a_2xx_to_an_invite_of_an_earlier_process_is_acknowledged_and_ended() {
    let mut world = World::pair(14);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.run_for(seconds(2));
    world.restart(0, config(1));
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait_ended(1);
    world.settle();
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (1, 1));
}

#[test]
fn calls_from_outside_are_refused_where_nobody_can_call() {
    let mut world = World::new(15);
    world.add(config(1));
    let mut closed = config(2);
    closed.incoming = IncomingPolicy::Refuse;
    world.add(closed);
    world.dial(0, LEG, &[1]);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 403, because: FailedBecause::Refused, .. }), "{ended:?}");
    world.settle();
}

#[test]
fn a_full_agent_answers_503_with_retry_after() {
    let mut world = World::new(16);
    world.add(config(1));
    let mut small = config(2);
    small.transactions_max = 0;
    world.add(small);
    world.dial(0, LEG, &[1]);
    let ended = world.wait_ended(0);
    let Report::Failed { status: 503, retry_after: Some(_), .. } = ended else { panic!("{ended:?}") };
    assert_eq!(world.nodes[1].agent.counters().shed, 1);
    world.settle();
}

#[test]
fn a_draining_agent_takes_no_more_calls_but_ends_those_it_has() {
    let mut world = World::pair(17);
    let callee = world.connect(0, 1);
    world.order(1, Order::Drain);
    let other = sip::agent::LegKey([9; 16]);
    world.dial(0, other, &[1]);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 503, .. }), "{ended:?}");
    world.hang_up(1, callee);
    world.wait_ended(0);
    world.settle();
}

/// Sends a request as it stands and gives back the first lines of the answers.
fn ask(request: &str) -> Vec<String> {
    let mut world = World::pair(18);
    let answers = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&answers);
    world.filter = Some(Box::new(move |text| {
        seen.borrow_mut().push(text.to_owned());
        false
    }));
    let request = request.replace('\n', "\r\n");
    world.inject(1, "10.9.9.9:5070".parse().expect("an address"), request.as_bytes());
    world.filter = None;
    answers.take()
}

fn request(method: &str, more: &str) -> String {
    format!(
        "{method} sip:user1@10.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP 10.9.9.9:5070;branch=z9hG4bKx;rport\n\
         From: <sip:a@example.com>;tag=1\nTo: <sip:user1@10.0.0.2>\nCall-ID: c\nCSeq: 1 {method}\n\
         Contact: <sip:a@10.9.9.9:5070>\n{more}\n"
    )
}

#[test]
fn what_cannot_be_served_gets_the_answer_the_rfc_asks_for() {
    let long = "Max-Forwards: 70\nContent-Length: 0\n";
    for (request, status, header) in [
        (request("OPTIONS", long), 200, "Allow: INVITE"),
        (request("OPTIONS", "Max-Forwards: 0\n"), 483, ""),
        (request("OPTIONS", "Require: teleport\n"), 420, "Unsupported: teleport"),
        (request("TELEPORT", long), 501, "Allow: INVITE"),
        (request("MESSAGE", long), 405, "Allow: INVITE"),
        (request("REFER", long), 405, "Allow: INVITE"),
        (request("REGISTER", long), 405, "Allow: INVITE"),
        (request("SUBSCRIBE", "Event: presence\n"), 489, "Allow-Events:"),
        (request("PUBLISH", "Event: presence\n"), 489, ""),
        (request("BYE", long), 481, ""),
        (request("CANCEL", long), 481, ""),
        (request("INFO", long), 481, ""),
        (request("INVITE", "Content-Type: text/plain\n\nhello"), 415, "Accept: application/sdp"),
        (request("INVITE", "Session-Expires: 30\n"), 422, "Min-SE: 90"),
        (request("BYE", long).replace("To: <sip:user1@10.0.0.2>", "To: <sip:user1@10.0.0.2>;tag=9"), 481, ""),
        (request("INVITE", long).replace("sip:user1@10.0.0.2 SIP", "nobody:home SIP"), 416, ""),
        (request("INVITE", long).replace("SIP/2.0\nVia", "SIP/7.0\nVia"), 505, ""),
        (request("INVITE", long).replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), 400, ""),
        (request("INVITE", long).replace("Contact: <sip:a@10.9.9.9:5070>\n", ""), 400, ""),
    ] {
        let answers = ask(&request);
        let answer = answers.first().unwrap_or_else(|| panic!("silence after {request}"));
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{answer} after {request}");
        assert!(answer.contains(header), "{answer} lacks {header}");
        assert!(answer.contains("rport=5070;received=10.9.9.9") || answer.contains("received=10.9.9.9"), "{answer}");
        let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
        assert!(to.contains(";tag="), "{answer}");
    }
}

#[test]
fn garbage_is_counted_and_not_answered() {
    for garbage in ["hello", "SIP/2.0 200 OK\n\n", "ACK sip:a SIP/2.0\n\n"] {
        assert!(ask(garbage).is_empty(), "{garbage}");
    }
}

#[test]
fn the_same_request_by_two_ways_is_merged() {
    let mut world = World::pair(19);
    let from = "10.9.9.9:5070".parse().unwrap();
    let one = request("INVITE", "Max-Forwards: 70\nContent-Length: 0\n").replace('\n', "\r\n");
    let two = one.replace("z9hG4bKx", "z9hG4bKy");
    world.inject(1, from, one.as_bytes());
    world.inject(1, from, one.as_bytes());
    world.inject(1, from, two.as_bytes());
    assert_eq!(world.count_sent(1, "SIP/2.0 100"), 2);
    assert_eq!(world.count_sent(1, "SIP/2.0 482"), 1);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Refuse { leg, status: 486 });
    world.settle();
}

#[test]
fn a_request_with_an_old_number_is_answered_500() {
    let mut world = World::pair(20);
    let from = "10.9.9.9:5070".parse().unwrap();
    let invite = request("INVITE", "Max-Forwards: 70\nContent-Length: 0\n").replace('\n', "\r\n");
    world.inject(1, from, invite.replace("CSeq: 1", "CSeq: 10").as_bytes());
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let answer = world.find_sent(1, "SIP/2.0 200").to_owned();
    let to = answer.lines().find(|line| line.starts_with("To:")).unwrap().to_owned();
    let bye = request("BYE", "Content-Length: 0\n").replace('\n', "\r\n");
    let bye = bye.replace("To: <sip:user1@10.0.0.2>", &to).replace("z9hG4bKx", "z9hG4bKz");
    world.inject(1, from, bye.replace("CSeq: 1 ", "CSeq: 9 ").as_bytes());
    assert_eq!(world.count_sent(1, "SIP/2.0 500"), 1);
    assert!(world.take(1).is_empty());
    let bye = bye.replace("CSeq: 1 ", "CSeq: 11 ").replace("z9hG4bKz", "z9hG4bKq");
    world.inject(1, from, bye.as_bytes());
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
    world.settle();
}
