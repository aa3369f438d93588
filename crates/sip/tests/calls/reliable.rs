//! Provisional responses that have to arrive: PRACK (RFC 3262).

use sip::agent::{Branch, EndReason, FailedBecause, LegKey, Order, Report};

use crate::world::{ANSWER, CONTACT, EARLY, LEG, RAW, World, dial, reliably, seconds};

/// Loses the first `count` messages that begin like this, and contain that.
fn lose(world: &mut World, start: &'static str, contains: &'static str, count: usize) {
    let mut left = count;
    world.filter = Some(Box::new(move |text| {
        let fits = left > 0 && text.starts_with(start) && text.contains(contains);
        left -= usize::from(fits);
        fits
    }));
}

fn called(world: &mut World) -> LegKey {
    world.dial(0, LEG, &[1]);
    world.wait_incoming(1)
}

fn rings(world: &mut World, wanted: u16) -> Option<Vec<u8>> {
    world.wait(0, |report| match report {
        Report::Ringing { status, early_sdp, .. } if *status == wanted => Some(early_sdp.clone()),
        _ => None,
    })
}

/// The called side answers, and the caller confirms; gives back the answer.
fn answered(world: &mut World, leg: LegKey) -> Vec<u8> {
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let answer = world.wait(0, |report| match report {
        Report::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    answer
}

fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let value = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in {message}"))
}

#[test]
fn a_reliable_180_is_acknowledged_once_and_the_dialog_counts_on() {
    let mut world = World::pair(1);
    let leg = called(&mut world);
    assert!(world.find_sent(0, "INVITE").contains("Supported: timer, 100rel"));
    world.order(1, Order::RingReliably { leg, status: 180, sdp: None });
    assert_eq!(rings(&mut world, 180), None);
    world.run_for(seconds(40));
    let ringing = world.find_sent(1, "SIP/2.0 180");
    assert_eq!(header(ringing, "Require"), "100rel");
    let prack = world.find_sent(0, "PRACK");
    assert_eq!(header(prack, "RAck"), format!("{} 1 INVITE", header(ringing, "RSeq")));
    assert_eq!(header(prack, "CSeq"), "2 PRACK");
    assert_eq!((world.count_sent(1, "SIP/2.0 180"), world.count_sent(0, "PRACK")), (1, 1));
    assert_eq!(answered(&mut world, leg), ANSWER);
    assert_eq!(header(world.find_sent(0, "ACK"), "CSeq"), "1 ACK");
    world.hang_up(0, LEG);
    world.wait_ended(1);
    assert_eq!(header(world.find_sent(0, "BYE"), "CSeq"), "3 BYE");
    world.settle();
}

#[test]
fn what_is_lost_is_repeated_and_told_once() {
    let mut world = World::pair(2);
    let leg = called(&mut world);
    lose(&mut world, "SIP/2.0 180", "", 2);
    world.order(1, Order::RingReliably { leg, status: 180, sdp: None });
    rings(&mut world, 180);
    // RFC 3262 §3: after T1, and after twice that.
    assert_eq!(world.now.duration_since(world.start).as_millis() / 100, 15);
    let mut world = World::pair(3);
    let leg = called(&mut world);
    lose(&mut world, "PRACK", "", 2);
    world.order(1, Order::RingReliably { leg, status: 180, sdp: None });
    rings(&mut world, 180);
    world.run_for(seconds(10));
    assert!(world.take(0).is_empty());
    let numbers: std::collections::BTreeSet<_> =
        world.all_sent(0, "PRACK").into_iter().map(|prack| header(prack, "Via")).collect();
    assert_eq!(numbers.len(), 1, "one transaction, whatever was repeated");
    assert!(world.count_sent(1, "SIP/2.0 180") >= 2);
    assert_eq!(world.count_sent(1, "SIP/2.0 481"), 0);
    answered(&mut world, leg);
    world.hang_up(1, leg);
    world.wait_ended(0);
    world.settle();
}

#[test]
fn rfc3262_5_an_answer_in_a_reliable_183_is_the_answer() {
    let mut world = World::pair(4);
    let leg = called(&mut world);
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(EARLY.to_vec()) });
    assert_eq!(rings(&mut world, 183).as_deref(), Some(EARLY));
    assert_eq!(answered(&mut world, leg), EARLY);
    let success = world.all_sent(1, "SIP/2.0 200").into_iter().find(|text| text.contains("1 INVITE"));
    assert!(success.expect("a 200").contains("Content-Length: 0"));
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn rfc3261_13_2_1_another_answer_after_a_reliable_one_is_ignored() {
    let mut world = World::pair(5);
    world.call_raw();
    let early = std::str::from_utf8(EARLY).expect("text");
    world.answer_raw(0, "INVITE", "183 Progress", "a", &reliably(7), early);
    world.answer_raw(0, "INVITE", "200 OK", "a", CONTACT, std::str::from_utf8(ANSWER).expect("text"));
    let sdp = world.wait(0, |report| match report {
        Report::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(sdp, EARLY);
}

#[test]
fn rfc3262_3_a_200_waits_until_the_answer_has_arrived() {
    let mut world = World::pair(6);
    let leg = called(&mut world);
    lose(&mut world, "PRACK", "", 2);
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(EARLY.to_vec()) });
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.run_for(seconds(1));
    assert_eq!(world.count_sent(1, "SIP/2.0 200"), 0);
    assert_eq!(answered(&mut world, leg), EARLY);
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_200_does_not_wait_for_the_prack_of_a_180_and_the_prack_is_answered_nevertheless() {
    let mut world = World::pair(7);
    let leg = called(&mut world);
    lose(&mut world, "PRACK", "", 2);
    world.order(1, Order::RingReliably { leg, status: 180, sdp: None });
    world.run_for(seconds(1));
    assert_eq!(answered(&mut world, leg), ANSWER);
    assert_eq!(world.count_sent(1, "SIP/2.0 481"), 0);
    world.run_for(seconds(10));
    assert!(world.all_sent(1, "SIP/2.0 200").iter().any(|text| text.contains("2 PRACK")));
    assert_eq!(world.count_sent(1, "SIP/2.0 481"), 0);
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn the_next_response_is_sent_when_the_one_before_has_arrived() {
    let mut world = World::pair(8);
    let leg = called(&mut world);
    lose(&mut world, "PRACK", "", 1);
    world.order(1, Order::RingReliably { leg, status: 180, sdp: None });
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(EARLY.to_vec()) });
    assert_eq!(world.count_sent(1, "SIP/2.0 183"), 0);
    rings(&mut world, 180);
    rings(&mut world, 183);
    let rseq = |start| header(world.find_sent(1, start), "RSeq").parse::<u32>().expect("a number");
    assert_eq!(rseq("SIP/2.0 180") + 1, rseq("SIP/2.0 183"));
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn who_insists_gets_reliable_responses_and_who_does_not_know_them_gets_plain_ones() {
    let mut world = World::pair(9);
    let mut insisting = dial(LEG, vec![Branch::to_uri(world.uri(1))], seconds(60));
    insisting.extra_headers.push(("Require".to_owned(), "100rel".to_owned()));
    world.order(0, Order::Dial(Box::new(insisting)));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    rings(&mut world, 180);
    assert_eq!(world.count_sent(0, "PRACK"), 1);
    world.hang_up(0, LEG);
    world.settle();

    let mut world = World::pair(10);
    // Without an offer nothing reliable is asked for.
    let mut silent = dial(LEG, vec![Branch::to_uri(world.uri(1))], seconds(60));
    silent.offer.clear();
    world.order(0, Order::Dial(Box::new(silent)));
    let leg = world.wait_incoming(1);
    world.order(1, Order::RingReliably { leg, status: 180, sdp: None });
    rings(&mut world, 180);
    assert!(!world.find_sent(1, "SIP/2.0 180").contains("RSeq"));
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_caller_that_never_acknowledges_is_refused() {
    let mut world = World::pair(11);
    let leg = called(&mut world);
    lose(&mut world, "PRACK", "", usize::MAX);
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(EARLY.to_vec()) });
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Lost, local: true, .. }), "{ended:?}");
    assert_eq!(world.now.duration_since(world.start).as_secs(), 32);
    let failed = world.wait_ended(0);
    assert!(matches!(failed, Report::Failed { status: 504, because: FailedBecause::Refused, .. }), "{failed:?}");
    world.settle();
}

#[test]
fn a_call_is_cancelled_before_its_prack_arrives() {
    let mut world = World::pair(12);
    let leg = called(&mut world);
    lose(&mut world, "PRACK", "", usize::MAX);
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(EARLY.to_vec()) });
    rings(&mut world, 183);
    world.hang_up(0, LEG);
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Cancelled { .. }, .. }), "{ended:?}");
    world.settle();
    assert_eq!(world.count_sent(1, "SIP/2.0 487"), 1);
}

#[test]
fn rfc3262_4_each_fork_counts_by_itself_and_only_the_next_response_is_taken() {
    let mut world = World::pair(13);
    world.call_raw();
    let early = std::str::from_utf8(EARLY).expect("text");
    world.answer_raw(0, "INVITE", "180 Ringing", "a", &reliably(1), "");
    world.answer_raw(0, "INVITE", "183 Progress", "b", &reliably(900), early);
    // Repeated, too early, of another fork's numbers: neither acknowledged nor told.
    for (tag, rseq) in [("a", 1), ("a", 3), ("b", 2), ("b", 900)] {
        world.answer_raw(0, "INVITE", "182 Queued", tag, &reliably(rseq), "");
    }
    world.answer_raw(0, "INVITE", "180 Ringing", "a", &reliably(2), "");
    let pracks: Vec<_> = world
        .all_sent(0, "PRACK")
        .into_iter()
        .map(|prack| format!("{} | {} | {}", header(prack, "To"), header(prack, "RAck"), header(prack, "CSeq")))
        .collect();
    assert_eq!(
        pracks,
        [
            "<sip:raw@10.9.9.9:5060>;tag=a | 1 1 INVITE | 2 PRACK",
            "<sip:raw@10.9.9.9:5060>;tag=b | 900 1 INVITE | 2 PRACK",
            "<sip:raw@10.9.9.9:5060>;tag=a | 2 1 INVITE | 3 PRACK",
        ]
    );
    let statuses: Vec<_> = world
        .take(0)
        .iter()
        .filter_map(|report| match report {
            Report::Ringing { status, .. } => Some(*status),
            _ => None,
        })
        .collect();
    assert_eq!(statuses, [180, 183]);
    // The fork that has answered reliably says nothing more in its 200.
    world.answer_raw(0, "INVITE", "200 OK", "b", CONTACT, "");
    let sdp = world.wait(0, |report| match report {
        Report::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(sdp, EARLY);
    world.order(0, Order::Confirm { leg: LEG });
    // The other one answers too, and is ended with a number that it has not seen.
    world.answer_raw(0, "INVITE", "200 OK", "a", CONTACT, std::str::from_utf8(ANSWER).expect("text"));
    let bye = world.find_sent(0, "BYE");
    assert!(header(bye, "To").ends_with(";tag=a"));
    assert_eq!(header(bye, "CSeq"), "4 BYE");
    world.hang_up(0, LEG);
    let byes = world.all_sent(0, "BYE");
    assert!(header(byes[1], "To").ends_with(";tag=b"));
    assert_eq!(header(byes[1], "CSeq"), "3 BYE");
    world.settle();
}

#[test]
fn a_prack_that_is_refused_or_not_answered_does_not_end_the_call() {
    for refused in [true, false] {
        let mut world = World::pair(14);
        world.call_raw();
        world.answer_raw(0, "INVITE", "180 Ringing", "a", &reliably(1), "");
        if refused {
            world.answer_raw(0, "PRACK", "481 Call Does Not Exist", "a", "", "");
        } else {
            world.run_for(seconds(40));
        }
        assert!(world.take(0).iter().all(|report| matches!(report, Report::Ringing { .. })));
        world.answer_raw(0, "INVITE", "200 OK", "a", CONTACT, std::str::from_utf8(ANSWER).expect("text"));
        world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
        world.order(0, Order::Confirm { leg: LEG });
        world.hang_up(0, LEG);
        world.settle();
    }
}

#[test]
fn what_the_peer_asks_in_an_early_dialog_is_answered() {
    let mut world = World::pair(15);
    world.call_raw();
    world.answer_raw(0, "INVITE", "180 Ringing", "a", &reliably(1), "");
    let from = header(world.find_sent(0, "INVITE"), "From").to_owned();
    let call_id = header(world.find_sent(0, "INVITE"), "Call-ID").to_owned();
    let ask = |world: &mut World, number: u32, tag: &str, method: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let request = format!(
            "{method} sip:convoke@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {RAW};branch=z9hG4bK{number}{tag}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:raw@{RAW}>;tag={tag}\r\nTo: {from}\r\nCall-ID: {call_id}\r\n\
             CSeq: {number} {method}\r\n{CONTACT}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        world.inject(0, RAW.parse().expect("an address"), request.as_bytes());
        world.nodes[0].sent.last().expect("an answer").1[8..11].to_owned()
    };
    // RFC 3311 §5.2: an offer that cannot be answered yet, and one that does not have to be.
    assert_eq!(ask(&mut world, 1, "a", "UPDATE", "v=0\r\n"), "500");
    assert_eq!(ask(&mut world, 2, "a", "UPDATE", ""), "200");
    assert_eq!(ask(&mut world, 3, "b", "UPDATE", ""), "481");
    world.hang_up(0, LEG);
    assert_eq!(ask(&mut world, 4, "a", "UPDATE", ""), "481");
    world.settle();
}
