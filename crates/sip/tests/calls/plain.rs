//! Calls on a fine day: ringing, answering, refusing, hanging up.

use sip::agent::{Branch, EndReason, FailedBecause, HangUpCause, Order, Report};

use crate::world::{ANSWER, LEG, OFFER, World, config, seconds};

#[test]
fn a_call_rings_is_answered_and_hung_up_by_the_caller() {
    let mut world = World::pair(1);
    world.dial(0, LEG, &[1]);
    let callee = world.wait(1, |report| match report {
        Report::Incoming(incoming) => {
            assert_eq!(incoming.sdp.as_deref(), Some(OFFER));
            assert_eq!(incoming.from.to_string(), "sip:bot@convoke.example");
            assert_eq!(incoming.from_display.as_deref(), Some("Incident bot"));
            assert_eq!(incoming.request_uri.user_text().as_deref(), Some("user1"));
            Some(incoming.leg)
        }
        _ => None,
    });
    world.order(1, Order::Ring { leg: callee, status: 180, sdp: None });
    world.wait(0, |report| match report {
        Report::Ringing { leg, status: 180, early_sdp: None } if *leg == LEG => Some(()),
        _ => None,
    });
    world.order(1, Order::Accept { leg: callee, sdp: ANSWER.to_vec() });
    world.wait(0, |report| match report {
        Report::Answered { leg, sdp, branch: 0, source, .. } if *leg == LEG => {
            assert_eq!(sdp, ANSWER);
            assert_eq!(source.to_string(), "10.0.0.2:5060");
            Some(())
        }
        _ => None,
    });
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { sdp: None, .. }).then_some(()));
    world.order(0, Order::HangUp { leg: LEG, cause: HangUpCause::because(200, "Call ended") });
    world
        .wait(0, |report| matches!(report, Report::Ended { reason: EndReason::HungUp, local: true, .. }).then_some(()));
    world.wait(1, |report| match report {
        Report::Ended { leg, reason: EndReason::Bye { cause: Some(200) }, local: false } if *leg == callee => Some(()),
        _ => None,
    });
    assert!(world.find_sent(0, "BYE").contains("Reason: SIP;cause=200;text=\"Call ended\""));
    world.settle();
    assert_eq!(world.count_sent(0, "INVITE"), 1);
    assert_eq!(world.count_sent(0, "ACK"), 1);
    assert_eq!(world.count_sent(1, "SIP/2.0 200"), 2);
}

#[test]
fn the_callee_hangs_up() {
    let mut world = World::pair(2);
    let callee = world.connect(0, 1);
    world.hang_up(1, callee);
    world.wait(0, |report| match report {
        Report::Ended { leg, reason: EndReason::Bye { cause: None }, local: false } if *leg == LEG => Some(()),
        _ => None,
    });
    world.settle();
}

#[test]
fn busy_and_declined_are_reported_as_such() {
    for status in [486, 603, 404, 480] {
        let mut world = World::pair(3);
        world.dial(0, LEG, &[1]);
        let leg = world.wait_incoming(1);
        world.order(1, Order::Refuse { leg, status });
        world.wait(0, |report| match report {
            Report::Failed { status: told, because: FailedBecause::Refused, .. } => {
                assert_eq!(*told, status);
                Some(())
            }
            _ => None,
        });
        world.wait(1, |report| matches!(report, Report::Ended { local: true, .. }).then_some(()));
        world.settle();
        assert_eq!(world.count_sent(0, "ACK"), 1);
    }
}

#[test]
fn a_call_nobody_answers_ends_by_its_deadline() {
    let mut world = World::pair(4);
    let branches = vec![Branch::to_uri(world.uri(1))];
    world.dial_branches(0, LEG, branches, seconds(20));
    let callee = world.wait_incoming(1);
    world.order(1, Order::Ring { leg: callee, status: 180, sdp: None });
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 408, because: FailedBecause::RingTimeout, .. }), "{ended:?}");
    assert_eq!(world.now.duration_since(world.start).as_secs(), 20);
    let cancelled = |report: &Report| matches!(report, Report::Ended { reason: EndReason::Cancelled { .. }, .. });
    assert!(world.take(1).iter().any(cancelled), "it is told when the phone has stopped");
    world.settle();
}

#[test]
fn a_leg_that_one_device_declines_has_failed_when_the_others_have_stopped() {
    // Were it told before, and the process died, nobody would stop them.
    let mut world = World::new(6);
    (1..=4).map(config).for_each(|config| _ = world.add(config));
    world.nodes[3].is_down = true;
    world.dial(0, LEG, &[1, 2, 3]);
    let [declines, rings] = [1, 2].map(|node| world.ring(node));
    world.run_for(seconds(1));
    let mut lost = false;
    world.filter = Some(Box::new(move |text| text.starts_with("CANCEL") && !std::mem::replace(&mut lost, true)));
    world.order(1, Order::Refuse { leg: declines, status: 603 });
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 603, .. }), "{ended:?}");
    let cancelled = |report: &Report| matches!(report, Report::Ended { leg, .. } if *leg == rings);
    assert!(world.take(2).iter().any(cancelled));
    // Whoever says nothing at all is not waited for.
    assert!(world.now < world.start + seconds(3));
    world.settle();
}

#[test]
fn a_leg_that_one_device_answered_has_ended_when_the_others_have_stopped() {
    let mut world = World::new(7);
    (1..=4).map(config).for_each(|config| _ = world.add(config));
    world.nodes[3].is_down = true;
    world.dial(0, LEG, &[1, 2, 3]);
    let [answers, rings] = [1, 2].map(|node| world.ring(node));
    world.run_for(seconds(1));
    let mut lost = 0;
    world.filter = Some(Box::new(move |text| {
        lost += usize::from(text.starts_with("CANCEL"));
        text.starts_with("CANCEL") && lost <= 2
    }));
    world.order(1, Order::Accept { leg: answers, sdp: ANSWER.to_vec() });
    world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.hang_up(1, answers);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
    let cancelled = |report: &Report| matches!(report, Report::Ended { leg, .. } if *leg == rings);
    assert!(world.take(2).iter().any(cancelled));
    // Whoever says nothing at all is not waited for.
    assert!(world.now < world.start + seconds(4));
    world.settle();
}

#[test]
fn a_peer_that_is_not_there_is_unreachable() {
    let mut world = World::pair(5);
    world.nodes[1].is_down = true;
    world.dial(0, LEG, &[1]);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 408, because: FailedBecause::Unreachable, .. }), "{ended:?}");
    // RFC 3261 §17.1.1.2: timer B.
    assert_eq!(world.now, world.start + seconds(32));
    assert_eq!(world.count_sent(0, "INVITE"), 7);
    world.settle();
}

#[test]
fn an_invite_without_an_offer_is_answered_with_one() {
    let mut world = World::pair(6);
    let mut dial = crate::world::dial(LEG, vec![Branch::to_uri(world.uri(1))], seconds(60));
    dial.offer.clear();
    world.order(0, Order::Dial(Box::new(dial)));
    let leg = world.wait(1, |report| match report {
        Report::Incoming(incoming) if incoming.sdp.is_none() => Some(incoming.leg),
        _ => None,
    });
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    // The agent as a caller always offers, so its ACK brings no answer and the callee ends the call.
    world.wait(1, |report| matches!(report, Report::Ended { reason: EndReason::NotConfirmed, .. }).then_some(()));
    world.wait_ended(0);
    world.settle();
}

#[test]
fn all_contacts_ring_and_the_first_answer_wins() {
    let mut world = World::new(7);
    (1..=4).map(config).for_each(|config| _ = world.add(config));
    world.dial(0, LEG, &[1, 2, 3]);
    let legs: Vec<_> = (1..4).map(|node| world.wait_incoming(node)).collect();
    for (index, &leg) in legs.iter().enumerate() {
        world.order(index + 1, Order::Ring { leg, status: 180, sdp: None });
    }
    world.order_in(seconds(1), 2, Order::Accept { leg: legs[1], sdp: ANSWER.to_vec() });
    let branch = world.wait(0, |report| match report {
        Report::Answered { branch, .. } => Some(*branch),
        _ => None,
    });
    assert_eq!(branch, 1);
    world.order(0, Order::Confirm { leg: LEG });
    for node in [1, 3] {
        let ended = world.wait_ended(node);
        let Report::Ended { reason: EndReason::Cancelled { cause }, .. } = ended else { panic!("{ended:?}") };
        assert_eq!(cause, Some(200));
    }
    // RFC 3326: a phone need not show a missed call.
    assert!(world.find_sent(0, "CANCEL").contains("Reason: SIP;cause=200;text=\"Call completed elsewhere\""));
    world.wait(2, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    let names = |start| {
        let sent = world.nodes[0].sent.iter().filter(move |(_, text)| text.starts_with(start));
        let lines = sent.map(|(_, text)| text.lines().find(|line| line.starts_with("Call-ID")).unwrap().to_owned());
        lines.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names("INVITE").len(), 3);
    world.hang_up(0, LEG);
    world.wait_ended(2);
    world.settle();
}

#[test]
fn a_6xx_of_one_device_speaks_for_the_person() {
    let mut world = World::new(8);
    (1..=3).map(config).for_each(|config| _ = world.add(config));
    world.dial(0, LEG, &[1, 2]);
    let (one, two) = (world.wait_incoming(1), world.wait_incoming(2));
    world.order(1, Order::Refuse { leg: one, status: 486 });
    world.run_for(seconds(1));
    assert!(world.take(0).is_empty());
    world.order(2, Order::Refuse { leg: two, status: 603 });
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 603, .. }), "{ended:?}");
    world.settle();
}
