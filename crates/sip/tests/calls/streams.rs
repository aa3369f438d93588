//! Calls over TCP: connections are made when needed, used again, and lost.

use sip::agent::{Branch, EndReason, FailedBecause, Order, Report};
use sip::message::Uri;

use crate::registering::{register, wait_bound, world as registered};
use crate::world::{ANSWER, LEG, OFFER, World, seconds};

fn over_tcp(world: &World, node: usize) -> Uri {
    world.uri(node).with_param("transport", "tcp")
}

#[test]
fn a_call_over_tcp_uses_one_connection_both_ways() {
    let mut world = World::pair(1);
    let branches = vec![Branch::to_uri(over_tcp(&world, 1))];
    world.dial_branches(0, LEG, branches, seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    assert!(world.find_sent(0, "INVITE").contains("Via: SIP/2.0/TCP"));
    assert!(world.find_sent(0, "INVITE").contains("transport=tcp>"));
    world.hang_up(1, leg);
    world.wait(0, |report| matches!(report, Report::Ended { reason: EndReason::Bye { .. }, .. }).then_some(()));
    assert_eq!(world.connections(), 1);
    world.settle();
}

#[test]
fn a_dialog_outlives_its_connection() {
    let mut world = World::pair(2);
    let branches = vec![Branch::to_uri(over_tcp(&world, 1))];
    world.dial_branches(0, LEG, branches, seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.cut_streams(0);
    world.run_for(seconds(1));
    world.hang_up(1, leg);
    world.wait_ended(0);
    world.settle();
    assert_eq!(world.connections(), 2);
}

#[test]
fn nobody_listening_is_unreachable_at_once() {
    let mut world = World::pair(3);
    world.nodes[1].is_down = true;
    let branches = vec![Branch::to_uri(over_tcp(&world, 1))];
    world.dial_branches(0, LEG, branches, seconds(30));
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 503, because: FailedBecause::Unreachable, .. }), "{ended:?}");
    assert!(world.now < world.start + seconds(1));
    world.settle();
}

#[test]
fn a_name_is_looked_up_and_its_addresses_tried_in_turn() {
    let mut world = World::pair(4);
    let (dead, alive) = ("10.0.0.99".parse().expect("an address"), world.nodes[1].address.ip());
    world.dns_host("carrier.example", &[dead, alive]);
    let target = "sip:+12065550100@carrier.example;transport=tcp".parse().expect("a URI");
    world.dial_branches(0, LEG, vec![Branch::to_uri(target)], seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Refuse { leg, status: 486 });
    world.wait_ended(0);
    world.settle();
}

#[test]
fn a_name_nobody_knows_is_unreachable() {
    let mut world = World::pair(5);
    let target = "sip:+12065550100@nowhere.example".parse().expect("a URI");
    world.dial_branches(0, LEG, vec![Branch::to_uri(target)], seconds(30));
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 503, because: FailedBecause::Unreachable, .. }), "{ended:?}");
    world.settle();
}

#[test]
fn a_silent_or_failing_target_is_replaced_by_its_alternative() {
    let mut world = World::pair(6);
    let dead: Uri = "sip:gone@10.0.0.99".parse().expect("a URI");
    let branch = Branch { alternatives: vec![world.uri(1)], ..Branch::to_uri(dead) };
    world.dial_branches(0, LEG, vec![branch], seconds(30));
    let leg = world.wait_incoming(1);
    assert_eq!(world.now.duration_since(world.start).as_secs(), 4);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.hang_up(0, LEG);
    world.settle();

    let mut world = World::pair(7);
    world.add(crate::world::config(3));
    world.order(1, Order::Drain);
    let branch = Branch { alternatives: vec![world.uri(2)], ..Branch::to_uri(world.uri(1)) };
    world.dial_branches(0, LEG, vec![branch], seconds(30));
    let leg = world.wait_incoming(2);
    world.order(2, Order::Refuse { leg, status: 486 });
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 486, .. }), "{ended:?}");
    world.settle();
}

/// A phone behind a NAT registers over TCP, is called and answers; gives back its leg.
fn call_behind_a_nat(world: &mut World) -> sip::agent::LegKey {
    world.nodes[1].is_hidden = true;
    register(world, "desk", "only-for-tests", 300, ";transport=tcp");
    let binding = wait_bound(world);
    world.dial_branches(0, LEG, vec![binding.branch()], seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    leg
}

fn wait_bye(world: &mut World, wanted: sip::agent::LegKey) {
    world.wait(1, |report| match report {
        Report::Ended { leg, reason: EndReason::Bye { .. }, local: false } if *leg == wanted => Some(()),
        _ => None,
    });
}

#[test]
fn rfc5626_a_call_follows_its_phone_to_the_connection_it_makes_anew() {
    let mut world = registered(8);
    let leg = call_behind_a_nat(&mut world);
    world.cut_streams(1);
    world.run_for(seconds(5));
    assert_eq!(world.connections(), 2, "the phone has registered again");
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    world.wait(1, |report| matches!(report, Report::Offered { .. }).then_some(()));
    world.order(1, Order::AnswerOffer { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
    world.hang_up(0, LEG);
    wait_bye(&mut world, leg);
    assert_eq!((world.connections(), world.count_sent(0, "BYE")), (2, 1));
    world.settle_but_registered();
}

#[test]
fn what_cannot_be_sent_waits_for_the_phone_to_come_back() {
    let mut world = registered(9);
    let leg = call_behind_a_nat(&mut world);
    world.cut_streams(1);
    world.run_for(std::time::Duration::from_millis(10));
    world.hang_up(0, LEG);
    wait_bye(&mut world, leg);
    assert!(world.now < world.start + seconds(5));
    world.settle_but_registered();
}

#[test]
fn what_was_sent_by_a_connection_that_broke_is_sent_again() {
    let mut world = registered(10);
    let leg = call_behind_a_nat(&mut world);
    // The BYE is on its way when the connection breaks.
    world.filter = Some(Box::new(|text| text.starts_with("BYE")));
    world.hang_up(0, LEG);
    world.filter = None;
    world.cut_streams(1);
    wait_bye(&mut world, leg);
    let byes = world.all_sent(0, "BYE");
    assert!(byes.len() == 2 && byes[0].contains("CSeq: 2 BYE") && byes[1].contains("CSeq: 3 BYE"), "{byes:?}");
    world.settle_but_registered();
}

#[test]
fn a_phone_that_does_not_come_back_is_given_up() {
    let mut world = registered(11);
    call_behind_a_nat(&mut world);
    world.nodes[1].is_down = true;
    world.cut_streams(1);
    world.run_for(seconds(1));
    world.order(0, Order::Reinvite { leg: LEG, offer: OFFER.to_vec() });
    world.run_for(seconds(2));
    assert!(!world.nodes[0].agent.is_idle());
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Lost, .. }), "{ended:?}");
    world.settle();
}

#[test]
fn a_later_process_reaches_a_phone_that_registers_again() {
    let mut world = registered(12);
    world.nodes[1].is_hidden = true;
    register(&mut world, "desk", "only-for-tests", 300, ";transport=tcp");
    let binding = wait_bound(&mut world);
    world.dial_branches(0, LEG, vec![binding.branch()], seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let snapshot = world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    world.restart(0, crate::registering::server());
    world.order(0, Order::HangUpSnapshot { leg: LEG, snapshot, cause: sip::agent::HangUpCause::default() });
    world.cut_streams(1);
    wait_bye(&mut world, leg);
    world.settle_but_registered();
}
