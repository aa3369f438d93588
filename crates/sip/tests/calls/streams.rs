//! Calls over TCP: connections are made when needed, used again, and lost.

use sip::agent::{Branch, EndReason, FailedBecause, Order, Report};
use sip::message::Uri;

use crate::world::{ANSWER, LEG, World, seconds};

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
