//! Trunks that are known by name: services and servers in DNS, and the next one when one fails.

use sip::agent::{Branch, FailedBecause, LegKey, Order, Report};
use sip::locate::RecordKind;

use crate::world::{ANSWER, LEG, World, config, seconds};

const OTHER: LegKey = LegKey([8; 16]);

/// A caller at node 0, and two servers of one domain: node 1 first, node 2 second.
fn world(seed: u64) -> World {
    let mut world = World::pair(seed);
    world.add(config(3));
    world.dns_servers("_sip._udp.carrier.example", &[(10, 5060, "a.carrier.example"), (20, 5060, "b.carrier.example")]);
    for (node, name) in [(1, "a.carrier.example"), (2, "b.carrier.example")] {
        let ip = world.nodes[node].address.ip();
        world.dns_host(name, &[ip]);
    }
    world
}

fn call(world: &mut World, leg: LegKey) {
    let target = "sip:+12065550100@carrier.example".parse().expect("a URI");
    world.dial_branches(0, leg, vec![Branch::to_uri(target)], seconds(60));
}

/// The values of a header in all INVITEs that a node sent.
fn values(world: &World, name: &str) -> Vec<String> {
    let invites = world.nodes[0].sent.iter().filter(|(_, text)| text.starts_with("INVITE"));
    invites.filter_map(|(_, text)| text.lines().find(|line| line.starts_with(name)).map(str::to_owned)).collect()
}

#[test]
fn servers_are_tried_by_their_priority() {
    let mut world = world(1);
    call(&mut world, LEG);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Refuse { leg, status: 486 });
    world.wait_ended(0);
    assert_eq!(world.count_sent(2, "SIP/2.0"), 0);
    world.settle();
}

#[test]
fn an_overloaded_server_is_left_for_the_next_and_left_alone_for_a_while() {
    let mut world = world(2);
    world.order(1, Order::Drain);
    call(&mut world, LEG);
    let leg = world.wait_incoming(2);
    // RFC 3263 §4.3: the same request in a new transaction.
    for (name, is_same) in [("Call-ID:", true), ("CSeq:", true), ("From:", true), ("Via:", false)] {
        let values = values(&world, name);
        assert_eq!((values.len(), values[0] == values[1]), (2, is_same), "{name} {values:?}");
    }
    world.order(2, Order::Refuse { leg, status: 486 });
    world.wait_ended(0);
    // RFC 3261 §21.5.4: its Retry-After is respected while there is another.
    call(&mut world, OTHER);
    let leg = world.wait_incoming(2);
    assert_eq!(world.count_sent(1, "SIP/2.0 503"), 1);
    world.order(2, Order::Refuse { leg, status: 486 });
    world.settle();
}

#[test]
fn a_silent_server_is_left_after_seconds_and_its_late_ringing_cancelled() {
    let mut world = world(3);
    let mut lost = 5;
    // Requests get through, but for a while nothing comes back.
    world.filter = Some(Box::new(move |text| {
        let fits = lost > 0 && text.starts_with("SIP/2.0 1");
        lost -= i32::from(fits);
        fits
    }));
    call(&mut world, LEG);
    let rings = world.wait_incoming(1);
    world.order(1, Order::Ring { leg: rings, status: 180, sdp: None });
    let leg = world.wait_incoming(2);
    assert_eq!(world.now.duration_since(world.start).as_secs(), 4);
    world.order(2, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    let ended = world.wait_ended(1);
    assert!(matches!(ended, Report::Ended { leg, .. } if leg == rings), "{ended:?}");
    assert_eq!(world.count_sent(0, "CANCEL"), 1);
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn every_server_down_is_said_once_all_were_tried() {
    let mut world = world(4);
    world.nodes[1].is_down = true;
    world.nodes[2].is_down = true;
    call(&mut world, LEG);
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 408, because: FailedBecause::Unreachable, .. }), "{ended:?}");
    let elapsed = world.now.duration_since(world.start).as_secs();
    assert_eq!(elapsed, 36, "4 s for the first, a whole transaction for the last");
    world.settle();
}

#[test]
fn the_transport_is_the_domains_choice() {
    let mut world = world(5);
    world.dns_services(
        "carrier.example",
        &[
            (1, "SIPS+D2T", "_sips._tcp.carrier.example"),
            (2, "SIP+D2T", "_sip._tcp.carrier.example"),
            (3, "SIP+D2U", "_sip._udp.carrier.example"),
        ],
    );
    world.dns_servers("_sip._tcp.carrier.example", &[(10, 5060, "b.carrier.example")]);
    call(&mut world, LEG);
    let leg = world.wait_incoming(2);
    assert_eq!(world.connections(), 1);
    assert!(world.find_sent(0, "INVITE").contains("Via: SIP/2.0/TCP"));
    world.order(2, Order::Refuse { leg, status: 486 });
    world.settle();
}

#[test]
fn a_domain_with_nothing_but_tls_is_not_called_in_the_clear() {
    let mut world = world(6);
    world.dns_services("carrier.example", &[(1, "SIPS+D2T", "_sips._tcp.carrier.example")]);
    call(&mut world, LEG);
    let ended = world.wait_ended(0);
    let Report::Failed { status: 503, because: FailedBecause::Unreachable, phrase, .. } = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(phrase, "the domain offers neither UDP nor TCP");
    assert_eq!(world.count_sent(0, "INVITE"), 0);
    world.settle();
}

#[test]
fn dns_is_asked_once_by_many_and_again_when_its_answer_is_over() {
    let mut world = world(7);
    call(&mut world, LEG);
    let asked = world.questions.len();
    let kinds: Vec<RecordKind> = world.questions.iter().map(|question| question.kind).collect();
    assert_eq!(kinds, [RecordKind::Naptr, RecordKind::Srv, RecordKind::Address]);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Refuse { leg, status: 486 });
    call(&mut world, OTHER);
    let leg = world.wait_incoming(1);
    world.order(1, Order::Refuse { leg, status: 486 });
    assert_eq!(world.questions.len(), asked, "what is known is not asked");
    world.run_for(seconds(301));
    call(&mut world, LegKey([9; 16]));
    assert_eq!(world.questions.len(), 2 * asked, "an answer holds as long as its TTL says");
    world.settle();
}

#[test]
fn a_registration_goes_on_to_the_next_server_too() {
    let mut world = world(8);
    world.nodes[1].is_down = true;
    world.order(0, Order::Ping { key: 5, target: "sip:carrier.example".parse().expect("a URI") });
    world.wait(0, |report| matches!(report, Report::Pinged { key: 5, alive: true }).then_some(()));
    assert_eq!(world.now.duration_since(world.start).as_secs(), 4);
    world.settle();
}
