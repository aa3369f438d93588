//! A process dies, and another one of the same node takes its legs up: one of two agents is rebuilt from snapshots.

use sip::agent::{
    Agent, AgentConfig, Branch, CancelDerived, Credentials, Dial, Dialled, EndReason, FailedBecause, HangUpCause,
    LegKey, Order, Report, Snapshot, TakeUp, Waits,
};

use super::world::{ANSWER, LEG, OFFER, RAW, World, config, dial, seconds};

/// The node that dies is 0, its phone 1.
fn answered(world: &mut World) -> (LegKey, Snapshot) {
    let leg = world.answer(0, 1);
    let snapshot = world.wait_answered(0);
    (leg, snapshot)
}

fn talking(world: &mut World) -> (LegKey, Snapshot) {
    let answered = answered(world);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    answered
}

/// What the next process is told.
fn later() -> AgentConfig {
    let mut later = config(1);
    later.seed = [200; 32];
    later.take_up_within = Some(seconds(10));
    later
}

fn take_up(world: &mut World, snapshot: &Snapshot) {
    let order = TakeUp { leg: LEG, snapshot: snapshot.clone(), credentials: None };
    world.order(0, Order::TakeUp(Box::new(order)));
}

fn wait_offer_answered(world: &mut World) -> Snapshot {
    world.wait(0, |report| match report {
        Report::OfferAnswered { leg: LEG, snapshot, .. } => Some(snapshot.clone()),
        Report::Ended { reason, .. } => panic!("ended: {reason:?}"),
        _ => None,
    })
}

fn header<'a>(message: &'a str, name: &str) -> &'a str {
    message.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// The phone takes a re-INVITE.
fn accept_offer(world: &mut World, leg: LegKey) {
    world.wait(1, |report| matches!(report, Report::Offered { .. }).then_some(()));
    world.order(1, Order::AnswerOffer { leg, sdp: ANSWER.to_vec() });
}

#[test]
fn a_dialog_is_gone_on_with() {
    let mut world = World::pair(60);
    let (leg, snapshot) = talking(&mut world);
    let first = world.find_sent(0, "INVITE").to_owned();
    let tag = header(world.find_sent(1, "SIP/2.0 200"), "To:").to_owned();
    world.restart(0, later());
    world.nodes[0].sent.clear();
    take_up(&mut world, &snapshot);
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    world.order(0, Order::TakenUp);
    accept_offer(&mut world, leg);
    let second = wait_offer_answered(&mut world);
    let invite = world.find_sent(0, "INVITE").to_owned();
    for name in ["Call-ID:", "From:"] {
        assert_eq!(header(&invite, name), header(&first, name));
    }
    assert_eq!(header(&invite, "To:"), tag);
    // RFC 3261 §12.2.1.1: above anything that the first process may have sent.
    assert_eq!(header(&invite, "CSeq:"), "CSeq: 100002 INVITE");

    // And once more, from the later snapshot; then the phone hangs up.
    world.restart(0, AgentConfig { seed: [201; 32], ..later() });
    world.nodes[0].sent.clear();
    take_up(&mut world, &second);
    world.order(0, Order::TakenUp);
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    accept_offer(&mut world, leg);
    wait_offer_answered(&mut world);
    assert_eq!(header(world.find_sent(0, "INVITE"), "CSeq:"), "CSeq: 200003 INVITE");
    world.hang_up(1, leg);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, local: false, .. }), "{ended:?}");
    world.settle();
    assert_eq!(world.count_sent(1, "BYE"), 1);
    assert_eq!(world.count_sent(0, "SIP/2.0 481"), 0);
}

/// RFC 3261 §12.2.1.1: a number that comes again is refused by the phone.
#[test]
fn processes_that_begin_with_the_same_snapshot_do_not_say_the_same_number() {
    let mut world = World::pair(61);
    let (leg, first) = talking(&mut world);
    let mut number = |process: u32, snapshot: &Snapshot| {
        let seed = [u8::try_from(process % 251).unwrap(); 32];
        world.restart(0, AgentConfig { process, seed, ..later() });
        world.nodes[0].sent.clear();
        take_up(&mut world, snapshot);
        world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
        world.order(0, Order::TakenUp);
        accept_offer(&mut world, leg);
        let next = wait_offer_answered(&mut world);
        let invite = header(world.find_sent(0, "INVITE"), "CSeq:").to_owned();
        // Its ACK arrives.
        world.run_for(seconds(1));
        (invite, next)
    };
    assert_eq!(number(1_000_000, &first).0, "CSeq: 1000001 INVITE");
    let (second, snapshot) = number(1_000_016, &first);
    assert_eq!(second, "CSeq: 1000017 INVITE");
    assert_eq!(number(1_000, &snapshot).0, "CSeq: 1000018 INVITE", "a clock that was set back takes no number back");
}

#[test]
fn a_phone_that_hangs_up_before_its_leg_is_taken_up_is_not_told_that_there_is_none() {
    let mut world = World::pair(61);
    let (leg, snapshot) = talking(&mut world);
    world.restart(0, later());
    world.hang_up(1, leg);
    world.run_for(seconds(2));
    assert_eq!(world.count_sent(0, "SIP/2.0 481"), 0);
    take_up(&mut world, &snapshot);
    world.order(0, Order::TakenUp);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, local: false, .. }), "{ended:?}");
    world.settle();
    assert_eq!(world.count_sent(0, "SIP/2.0 481"), 0);
    assert!(world.count_sent(0, "SIP/2.0 200") >= 1);
}

#[test]
fn a_phone_that_changes_the_session_before_its_leg_is_taken_up_is_answered_after() {
    let mut world = World::pair(62);
    let (leg, snapshot) = talking(&mut world);
    world.restart(0, later());
    world.order(1, Order::Reinvite { leg, offer: ANSWER.to_vec() });
    world.run_for(seconds(1));
    take_up(&mut world, &snapshot);
    world.order(0, Order::TakenUp);
    world.wait(0, |report| matches!(report, Report::Offered { leg: LEG, .. }).then_some(()));
    world.order(0, Order::AnswerOffer { leg: LEG, sdp: OFFER.to_vec() });
    world.wait(1, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn an_answer_that_was_written_down_but_not_acknowledged_is_acknowledged_by_the_next_process() {
    let mut world = World::pair(63);
    let (leg, snapshot) = answered(&mut world);
    world.restart(0, later());
    world.run_for(seconds(1));
    take_up(&mut world, &snapshot);
    world.order(0, Order::TakenUp);
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    assert!(world.find_sent(0, "ACK").contains("CSeq: 1 ACK"));
    world.run_for(seconds(60));
    assert_eq!(world.count_sent(0, "BYE") + world.count_sent(1, "BYE"), 0, "they talk");
    world.hang_up(1, leg);
    world.wait_ended(0);
    world.settle();
}

/// The phone's request may be a copy of one that the earlier process has answered: then there is no ACK for ours, and nothing
/// wrong either.
#[test]
fn rfc3261_13_3_1_4_without_an_ack_the_peer_of_an_earlier_process_is_asked_before_anything_is_ended() {
    let lose = |starts: &'static str| Some(Box::new(move |text: &str| text.starts_with(starts)) as _);
    for offers in [false, true] {
        let mut world = World::pair(65);
        let (leg, snapshot) = talking(&mut world);
        world.restart(0, later());
        take_up(&mut world, &snapshot);
        world.order(0, Order::TakenUp);
        world.filter = lose("ACK");
        world.order(1, Order::Reinvite { leg, offer: ANSWER.to_vec() });
        world.wait(0, |report| matches!(report, Report::Offered { leg: LEG, .. }).then_some(()));
        world.order(0, Order::AnswerOffer { leg: LEG, sdp: OFFER.to_vec() });
        if offers {
            world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
        }
        world.wait(1, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
        world.nodes[0].sent.clear();
        let asked = |world: &World| (world.count_sent(0, "INVITE"), world.count_sent(0, "UPDATE"));
        world.run_for(seconds(31));
        assert_eq!(asked(&world), (0, 0));
        world.run_for(seconds(1));
        world.filter = None;
        if offers {
            accept_offer(&mut world, leg);
            wait_offer_answered(&mut world);
        }
        world.run_for(seconds(10));
        assert_eq!(asked(&world), (offers.into(), (!offers).into()));
        assert_eq!(world.count_sent(0, "BYE"), 0);
        world.hang_up(1, leg);
        world.wait_ended(0);
        world.settle();
    }
}

#[test]
fn a_phone_that_rings_goes_on_ringing() {
    let mut world = World::pair(64);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(5));
    let first = world.find_sent(0, "INVITE").to_owned();
    world.restart(0, later());
    world.nodes[0].sent.clear();
    world.dial(0, LEG, &[1]);
    world.order(0, Order::TakenUp);
    world.wait(0, |report| matches!(report, Report::Ringing { status: 180, .. }).then_some(()));
    let again = world.find_sent(0, "INVITE").to_owned();
    for name in ["Via:", "Call-ID:", "From:", "CSeq:"] {
        assert_eq!(header(&again, name), header(&first, name), "RFC 3261 §17.2.1: a repetition");
    }
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    // Whoever was answered confirms, and says where it is now.
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    assert_eq!(world.count_sent(0, "INVITE"), 1, "not before the ACK");
    world.order(0, Order::Confirm { leg: LEG });
    accept_offer(&mut world, leg);
    wait_offer_answered(&mut world);
    assert!(world.take(1).iter().all(|report| !matches!(report, Report::Incoming(_))), "it rang once");
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_phone_that_rings_reliably_goes_on_ringing() {
    let mut world = World::pair(71);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    for status in [180, 182] {
        world.order(1, Order::RingReliably { leg, status, sdp: None });
        world.run_for(seconds(1));
    }
    assert_eq!(world.count_sent(0, "PRACK"), 2);
    world.restart(0, later());
    let branches = vec![Branch::to_uri(world.uri(1))];
    let again = dial(LEG, branches, seconds(60));
    world.order(0, Order::DialAgain(Box::new(again)));
    world.order(0, Order::TakenUp);
    world.wait(0, |report| matches!(report, Report::Ringing { status: 182, .. }).then_some(()));
    // RFC 3261 §12.2.2: the phone knows the numbers that the earlier process has used.
    world.order(1, Order::RingReliably { leg, status: 183, sdp: Some(ANSWER.to_vec()) });
    world.wait(0, |report| matches!(report, Report::Ringing { status: 183, .. }).then_some(()));
    world.run_for(seconds(1));
    assert_eq!(world.count_sent(1, "SIP/2.0 500"), 0);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.hang_up(0, LEG);
    world.wait(1, |report| matches!(report, Report::Ended { reason: EndReason::Bye { .. }, .. }).then_some(()));
    world.settle();
}

#[test]
fn a_phone_that_answers_while_nobody_is_there_is_met() {
    // Its 200 comes before the INVITE is sent again, or after, or is lost once more.
    for (seed, pause) in [(65, 0), (66, 3), (67, 20)] {
        let mut world = World::pair(seed);
        world.dial(0, LEG, &[1]);
        let leg = world.wait_incoming(1);
        world.order(1, Order::Ring { leg, status: 180, sdp: None });
        world.run_for(seconds(2));
        world.nodes[0].is_down = true;
        world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
        world.run_for(seconds(pause));
        world.nodes[0].is_down = false;
        world.restart(0, later());
        world.run_for(seconds(4));
        world.dial(0, LEG, &[1]);
        world.order(0, Order::TakenUp);
        world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
        world.order(0, Order::Confirm { leg: LEG });
        world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
        assert_eq!(world.count_sent(0, "BYE"), 0);
        world.hang_up(0, LEG);
        world.wait_ended(1);
        world.settle();
    }
}

#[test]
fn an_answer_that_waits_behind_a_challenge_is_met_by_the_invite_that_follows() {
    let mut world = World::pair(66);
    let trunk = Branch::to_uri(format!("sip:+12065550100@{RAW}").parse().expect("a URI"));
    let order = || {
        let credentials = Some(Credentials { username: "trunk".to_owned(), password: "only-for-tests".to_owned() });
        Box::new(Dial { credentials, ..dial(LEG, vec![trunk.clone()], seconds(60)) })
    };
    let ask = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    let contact = format!("Contact: <sip:raw@{RAW}>\r\n");
    world.order(0, Order::Dial(order()));
    let challenge = world.raw_answer(0, "INVITE", "407 Proxy Authentication Required", "raw", ask, "");
    world.inject(0, RAW.parse().expect("an address"), challenge.as_bytes());
    let text = std::str::from_utf8(ANSWER).expect("text");
    let answer = world.raw_answer(0, "INVITE", "200 OK", "raw", &contact, text);
    // Processes have come and gone that have asked, and have not heard.
    world.restart(0, later());
    for message in [&challenge, &answer] {
        world.inject(0, RAW.parse().expect("an address"), message.as_bytes());
    }
    world.order(0, Order::DialAgain(order()));
    world.order(0, Order::TakenUp);
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (2, 0), "both challenges");
    world.inject(0, RAW.parse().expect("an address"), answer.as_bytes());
    world.wait_answered(0);
}

#[test]
fn a_phone_that_declines_while_nobody_is_there_does_not_ring_again() {
    let mut world = World::pair(68);
    world.dial(0, LEG, &[1]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(2));
    world.restart(0, later());
    world.order(1, Order::Refuse { leg, status: 486 });
    world.run_for(seconds(2));
    world.take(1);
    world.dial(0, LEG, &[1]);
    world.order(0, Order::TakenUp);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 486, because: FailedBecause::Refused, .. }), "{ended:?}");
    world.settle();
    assert!(world.take(1).is_empty());
}

#[test]
fn what_rang_for_an_earlier_process_is_waited_for_though_it_is_silent_now() {
    // Were the end told before, and this process died too, nobody would stop it.
    let mut world = World::new(70);
    (1..=3).map(config).for_each(|config| _ = world.add(config));
    world.dial(0, LEG, &[1, 2]);
    let [declines, rings] = [1, 2].map(|node| world.ring(node));
    world.run_for(seconds(2));
    world.nodes[0].is_down = true;
    world.order(1, Order::Refuse { leg: declines, status: 603 });
    world.run_for(seconds(0));
    world.nodes[0].is_down = false;
    world.restart(0, later());
    let mut unheard = 0;
    world.filter = Some(Box::new(move |text| {
        unheard += usize::from(text.starts_with("SIP/2.0 180"));
        text.starts_with("SIP/2.0 180") && unheard < 3
    }));
    let branches = vec![Branch::to_uri(world.uri(1)), Branch::to_uri(world.uri(2))];
    world.order(0, Order::DialAgain(Box::new(dial(LEG, branches, seconds(60)))));
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 603, .. }), "{ended:?}");
    let cancelled = |report: &Report| matches!(report, Report::Ended { leg, .. } if *leg == rings);
    assert!(world.take(2).iter().any(cancelled));
    world.settle();
}

#[test]
fn a_phone_that_has_lost_the_dialog_or_is_silent_has_left() {
    // RFC 3261 §12.2.1.2.
    for silent in [false, true] {
        let mut world = World::pair(69);
        let (_, snapshot) = talking(&mut world);
        world.restart(0, later());
        world.nodes[1].agent = Agent::new(config(2), world.now);
        world.restart(1, config(2));
        world.nodes[1].is_down = silent;
        take_up(&mut world, &snapshot);
        world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
        world.order(0, Order::TakenUp);
        let ended = world.wait_ended(0);
        assert!(matches!(ended, Report::Ended { reason: EndReason::Lost, .. }), "{ended:?}");
        assert!(world.now <= world.start + seconds(50));
        world.settle();
    }
}

#[test]
fn a_taking_up_that_nobody_ends_is_over_after_a_while() {
    let mut world = World::pair(70);
    let (leg, _) = talking(&mut world);
    world.restart(0, later());
    world.hang_up(1, leg);
    world.run_for(seconds(9));
    assert_eq!(world.count_sent(0, "SIP/2.0 481"), 0);
    world.run_for(seconds(2));
    assert!(world.count_sent(0, "SIP/2.0 481") >= 1);
    world.settle();
}

#[test]
fn an_unreadable_snapshot_is_said_to_be_lost() {
    let mut world = World::pair(71);
    take_up(&mut world, &Snapshot(vec![1, 2, 3]));
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { leg: LEG, reason: EndReason::Lost, local: true }), "{ended:?}");
    world.order(0, Order::HangUp { leg: LEG, cause: HangUpCause::default() });
    world.settle();
}

/// Node 0 has called 1, which has answered, and 2, which rings yet: its CANCEL did not arrive, and the process died. Gives back
/// the leg of 1, whose dialog the next process has taken up; that process has sent its CANCEL.
fn taken_up_while_another_rings(world: &mut World) -> LegKey {
    (1..=3).map(config).for_each(|config| _ = world.add(config));
    world.dial(0, LEG, &[1, 2]);
    let answers = world.wait_incoming(1);
    world.ring(2);
    world.run_for(seconds(1));
    world.filter = Some(Box::new(|text| text.starts_with("CANCEL")));
    world.order(1, Order::Accept { leg: answers, sdp: ANSWER.to_vec() });
    let snapshot = world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    world.run_for(seconds(1));
    world.restart(0, later());
    world.nodes[0].sent.clear();
    let branches = [1, 2].map(|node| Branch::to_uri(world.uri(node))).to_vec();
    let dialled = dial(LEG, branches, seconds(60));
    take_up(world, &snapshot);
    world.order(
        0,
        Order::CancelDerived(Box::new(CancelDerived {
            leg: LEG,
            waits: Waits::Leg,
            caller: dialled.caller,
            calls: vec![Dialled { leg: LEG, branches: dialled.branches, has_credentials: false }],
            but: Some(snapshot),
            cause: HangUpCause::because(200, "Call completed elsewhere"),
        })),
    );
    world.order(0, Order::TakenUp);
    answers
}

#[test]
fn who_takes_a_leg_up_stops_the_other_devices_that_may_still_ring_and_nobody_else() {
    let mut world = World::new(71);
    taken_up_while_another_rings(&mut world);
    world.filter = None;
    let ended = world.wait_ended(2);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Cancelled { cause: Some(200) }, .. }), "{ended:?}");
    world.run_for(seconds(2));
    assert_eq!(world.count_sent(1, "SIP/2.0 481"), 0, "who has answered is left alone");
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_leg_that_was_taken_up_has_not_ended_while_another_device_may_ring() {
    let mut world = World::new(72);
    let answered = taken_up_while_another_rings(&mut world);
    world.hang_up(1, answered);
    world.wait_ended(1);
    world.run_for(seconds(5));
    // Were its end told, a process that died now would leave the phone ringing.
    assert!(world.nodes[0].reports.is_empty(), "{:?}", world.nodes[0].reports);
    world.filter = None;
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
    assert!(matches!(world.wait_ended(2), Report::Ended { reason: EndReason::Cancelled { .. }, .. }));
    world.settle();
}
