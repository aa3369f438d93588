//! Strangers who send much: amplification, floods, and what is shed.

use sip::agent::{EndReason, IncomingPolicy, LegKey, Order, Report};

use super::calls::overheard;
use super::{Stranger, at, server, world};
use crate::world::{LEG, World, config, seconds};

#[test]
fn a_forged_address_gets_one_answer_to_each_packet_and_little_more_than_it_sent() {
    let mut world = world(0);
    let mut stranger = Stranger::new("10.6.6.6:5060", "desk", "a guess");
    let contact = "Contact: <sip:a@10.6.6.6>\r\n";
    let requests = [
        stranger.register("desk", ""),
        stranger.request("INVITE", "sip:desk@contoso.example", contact),
        stranger.request("OPTIONS", "sip:desk@contoso.example", ""),
        stranger.request("BYE", "sip:desk@contoso.example", ""),
        stranger.request("CANCEL", "sip:desk@contoso.example", ""),
        stranger.request("INVITE", "sip:desk@contoso.example", "Contact: <sip:a@10.6.6.6>\r\nRequire: teleport\r\n"),
    ];
    for request in requests {
        let before = world.nodes[0].sent.len();
        world.inject(0, stranger.address, &request.to_bytes());
        // RFC 3261 §17.2.1 would repeat the refusal of an INVITE for half a minute, to whoever's address it is.
        world.run_for(seconds(60));
        let sent = &world.nodes[0].sent[before..];
        assert_eq!(sent.len(), 1, "{} is answered once: {sent:?}", request.method.as_str());
        let (asked, answered) = (request.to_bytes().len(), sent[0].1.len());
        assert!(answered <= 3 * asked, "{} bytes for {asked} of {}", answered, request.method.as_str());
        assert!(world.nodes[0].agent.is_idle(), "and nothing is left of it");
    }
}

#[test]
fn a_flood_of_strangers_leaves_no_room_taken_and_calls_go_on() {
    let mut world = World::new(25);
    let mut small = server();
    small.transactions_max = 50;
    world.add(small);
    world.add(config(2));
    world.connect(0, 1);
    let mut strangers: Vec<Stranger> =
        (0..250).map(|n| Stranger::new(&format!("10.6.6.{n}:5060"), "desk", "a guess")).collect();
    for round in 0..4 {
        for stranger in &mut strangers {
            let contact = "Contact: <sip:a@10.6.6.6>\r\n";
            let request = match round % 2 {
                0 => stranger.request("INVITE", "sip:desk@contoso.example", contact),
                _ => stranger.register("desk", ""),
            };
            let status = stranger.ask(&mut world, &request).expect("an answer").status;
            assert!(matches!(status, 401 | 403), "{status}");
        }
    }
    assert_eq!(world.nodes[0].agent.counters().shed, 0);
    let mut phone = Stranger::user("10.9.9.9:5060", "lobby");
    assert_eq!(phone.try_to_register(&mut world, "lobby", ""), Some(200), "a phone registers meanwhile");
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn an_overloaded_server_says_503_before_it_does_anything_and_ends_calls_all_the_same() {
    let mut world = World::new(26);
    let mut open = server();
    open.incoming = IncomingPolicy::Deliver;
    world.add(open);
    world.add(config(2));
    world.connect(0, 1);
    world.take(0);
    world.order(0, Order::Overloaded(true));
    let mut phone = Stranger::user("10.9.9.9:5060", "desk");
    for request in [
        phone.register("desk", ""),
        phone.request("INVITE", "sip:desk@contoso.example", "Contact: <sip:a@10.9.9.9>\r\n"),
    ] {
        let refused = phone.ask(&mut world, &request).expect("an answer");
        assert_eq!(refused.status, 503);
        assert!(refused.headers.retry_after().expect("a header").is_some());
    }
    assert!(world.take(0).is_empty());
    assert_eq!(world.nodes[0].agent.legs(), 1);
    // What goes on goes on, and what ends calls gets through.
    let bye = overheard(&world, "BYE", 9, world.nodes[1].address, "");
    world.inject(0, world.nodes[1].address, bye.as_bytes());
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Bye { .. }, .. }), "{ended:?}");
    world.order(0, Order::Overloaded(false));
    assert_eq!(phone.try_to_register(&mut world, "desk", ""), Some(200));
}

#[test]
fn a_late_answer_of_an_old_call_cannot_make_us_shout_at_somebody() {
    let mut world = World::pair(27);
    world.answer(0, 1);
    let answer = world.find_sent(1, "SIP/2.0 200").to_owned();
    world.restart(0, config(1));
    world.nodes[1].is_down = true;
    world.last_destinations(0);
    let before = world.nodes[0].sent.len();
    // Whoever was once called knows a Call-ID of ours, and names a victim in Contact.
    let answer = answer.replace("Contact: <sip:", "Contact: <sip:x@10.1.1.1>\r\nX: <sip:");
    let evil = at("10.6.6.6:5060");
    for copy in 0..500 {
        let other = answer.replace(";tag=", &format!(";tag={}", copy / 5));
        world.inject(0, evil, other.as_bytes());
    }
    assert!(world.last_destinations(0).iter().all(|destination| *destination == evil));
    world.run_for(seconds(100));
    let sent = world.nodes[0].sent.len() - before;
    assert!(sent <= 64 * 12, "{sent} packets");
    assert!(world.last_destinations(0).iter().all(|destination| *destination == evil));
}

#[test]
fn a_leg_more_is_not_begun_by_a_stranger_who_repeats_himself() {
    let mut world = World::pair(28);
    let mut stranger = Stranger::new("10.6.6.6:5060", "desk", "");
    let invite = stranger.request("INVITE", "sip:user0@10.0.0.1", "Contact: <sip:a@10.6.6.6>\r\n");
    (0..20).for_each(|_| drop(stranger.ask(&mut world, &invite)));
    assert_eq!(world.nodes[0].agent.legs(), 1);
    let legs: Vec<LegKey> = world
        .take(0)
        .into_iter()
        .filter_map(|report| match report {
            Report::Incoming(incoming) => Some(incoming.leg),
            _ => None,
        })
        .collect();
    assert_eq!(legs.len(), 1);
}
