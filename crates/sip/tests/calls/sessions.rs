//! Sessions that somebody has to keep alive (RFC 4028), where we are the ones who ask for it.

use sip::agent::{AgentConfig, Branch, EndReason, Order, Report};

use crate::world::{ANSWER, LEG, OFFER, RAW, World, config, seconds};

fn asking(seed: u8, interval: u64) -> AgentConfig {
    AgentConfig { session_expires: seconds(interval), ..config(seed) }
}

pub(crate) fn pair(seed: u64, interval: u64) -> World {
    let mut world = World::new(seed);
    world.add(asking(1, interval));
    world.add(config(2));
    world
}

/// Node 0 calls a peer that is no agent, which answers with these headers.
fn raw_call(world: &mut World, more: &str) {
    let branch = Branch::to_uri(format!("sip:raw@{RAW}").parse().expect("a URI"));
    world.dial_branches(0, LEG, vec![branch], seconds(60));
    raw_answer(world, more);
}

fn raw_answer(world: &mut World, more: &str) {
    let more = format!("Contact: <sip:raw@10.9.9.9>\r\n{more}");
    world.answer_raw(0, "INVITE", "200 OK", "raw", &more, std::str::from_utf8(ANSWER).expect("text"));
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
}

/// Runs until node 0 has sent so many messages that begin like this.
fn run_until_sent(world: &mut World, start: &str, count: usize) {
    let until = world.now + seconds(4000);
    while world.count_sent(0, start) < count {
        assert!(world.step(until), "{start} was never sent {count} times");
    }
}

fn without_update(text: &str) -> Vec<u8> {
    text.replace(", UPDATE", "").into_bytes()
}

#[test]
fn we_ask_for_a_session_timer_and_refresh_it_ourselves() {
    let mut world = pair(1, 1800);
    world.connect(0, 1);
    let invite = world.find_sent(0, "INVITE");
    assert!(invite.contains("Session-Expires: 1800;refresher=uac") && invite.contains("Min-SE: 90"), "{invite}");
    let answer = world.find_sent(1, "SIP/2.0 200");
    assert!(answer.contains("Require: timer") && answer.contains("Session-Expires: 1800;refresher=uac"), "{answer}");
    world.run_for(seconds(899));
    assert_eq!(world.count_sent(0, "UPDATE"), 0);
    world.run_for(seconds(2));
    assert!(world.find_sent(0, "UPDATE").contains("Session-Expires: 1800;refresher=uac"));
    world.run_for(seconds(7200));
    assert_eq!(world.count_sent(0, "UPDATE"), 9);
    assert!(world.take(0).is_empty() && world.take(1).is_empty());
    world.hang_up(0, LEG);
    world.wait_ended(1);
    world.settle();
}

#[test]
fn a_peer_without_update_is_offered_what_is_agreed_already() {
    let mut world = pair(2, 1800);
    world.rewrite = Some(Box::new(without_update));
    let callee = world.connect(0, 1);
    world.run_for(seconds(901));
    let again = world.all_sent(0, "INVITE");
    let sdp = |text: &str| text.split_once("\r\n\r\n").expect("a body").1.to_owned();
    assert_eq!((again.len(), sdp(again[1]).as_bytes()), (2, OFFER));
    world.wait(1, |report| matches!(report, Report::Offered { sdp, .. } if sdp == OFFER).then_some(()));
    world.order(1, Order::AnswerOffer { leg: callee, sdp: ANSWER.to_vec() });
    world.run_for(seconds(60));
    // Nothing has changed, and nobody is told of anything.
    assert!(world.take(0).is_empty());
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_refresh_that_meets_the_peers_offer_is_made_in_the_end() {
    let mut world = pair(3, 1800);
    world.rewrite = Some(Box::new(without_update));
    let callee = world.connect(0, 1);
    let since = world.now;
    run_until_sent(&mut world, "INVITE", 2);
    world.order(1, Order::Reinvite { leg: callee, offer: ANSWER.to_vec() });
    world.run_for(seconds(1));
    assert_eq!((world.count_sent(0, "SIP/2.0 491"), world.count_sent(1, "SIP/2.0 491")), (1, 1));
    let mut offers = 0;
    // The peer's offer refreshes the session too, so that ours is due half an interval later.
    let until = since + seconds(1900);
    while world.step(until) {
        for (node, leg) in [(0, LEG), (1, callee)] {
            for report in world.take(node) {
                match report {
                    Report::Offered { .. } => {
                        offers += 1;
                        let sdp = if node == 0 { OFFER } else { ANSWER };
                        world.order(node, Order::AnswerOffer { leg, sdp: sdp.to_vec() });
                    }
                    Report::Ended { .. } | Report::OfferFailed { .. } => panic!("{report:?}"),
                    _ => {}
                }
            }
        }
    }
    assert_eq!(offers, 2);
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn rfc4028_7_4_a_422_is_answered_with_the_interval_that_it_asks_for() {
    let mut world = pair(4, 1800);
    let branch = Branch::to_uri(format!("sip:raw@{RAW}").parse().expect("a URI"));
    world.dial_branches(0, LEG, vec![branch], seconds(60));
    world.answer_raw(0, "INVITE", "422 Session Interval Too Small", "raw", "Min-SE: 3600\r\n", "");
    let invites = world.all_sent(0, "INVITE");
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert_eq!(line(invites[0], "Call-ID"), line(invites[1], "Call-ID"));
    assert!(invites[1].contains("CSeq: 2 INVITE"), "{}", invites[1]);
    assert!(invites[1].contains("Session-Expires: 3600;refresher=uac\r\nMin-SE: 3600"), "{}", invites[1]);
    raw_answer(&mut world, "Session-Expires: 3600;refresher=uac\r\nRequire: timer\r\nAllow: UPDATE\r\n");
    run_until_sent(&mut world, "UPDATE", 1);
    assert!(world.find_sent(0, "UPDATE").contains("Session-Expires: 3600;refresher=uac\r\nMin-SE: 3600"));
    // A longer one still; what is asked for again and again is not granted again and again.
    for expected in [2, 2] {
        world.answer_raw(0, "UPDATE", "422 Session Interval Too Small", "raw", "Min-SE: 4000\r\n", "");
        world.run_for(seconds(0));
        assert_eq!(world.count_sent(0, "UPDATE"), expected);
    }
    assert!(world.all_sent(0, "UPDATE")[1].contains("Session-Expires: 4000;refresher=uac\r\nMin-SE: 4000"));
    let refused_at = world.now;
    run_until_sent(&mut world, "UPDATE", 3);
    assert_eq!(world.now.duration_since(refused_at).as_secs(), 5);
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_422_that_asks_for_nothing_longer_is_a_refusal() {
    for min_se in ["", "Min-SE: 1800\r\n", "Min-SE: 4000000000\r\n"] {
        let mut world = pair(5, 1800);
        let branch = Branch::to_uri(format!("sip:raw@{RAW}").parse().expect("a URI"));
        world.dial_branches(0, LEG, vec![branch], seconds(60));
        world.answer_raw(0, "INVITE", "422 Session Interval Too Small", "raw", min_se, "");
        let failed = world.wait_ended(0);
        assert!(matches!(failed, Report::Failed { status: 422, .. }), "{failed:?}");
        world.settle();
    }
}

#[test]
fn a_peer_that_does_not_refresh_though_it_should_is_hung_up_on() {
    let mut world = pair(6, 1800);
    raw_call(&mut world, "Session-Expires: 90;refresher=uas\r\n");
    let since = world.now;
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::SessionExpired, local: true, .. }), "{ended:?}");
    // RFC 4028 §10: a third of the interval before its end.
    assert_eq!(world.now.duration_since(since).as_secs(), 60);
    assert!(world.find_sent(0, "BYE").contains("Reason: SIP;cause=408;text=\"Session timer expired\""));
    world.settle();
}

#[test]
fn a_peer_that_is_gone_is_noticed_by_our_refresh() {
    let mut world = pair(7, 90);
    world.connect(0, 1);
    world.nodes[1].is_down = true;
    let since = world.now;
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::SessionExpired | EndReason::Lost, .. }), "{ended:?}");
    assert!(world.now.duration_since(since) <= seconds(90));
    world.settle();
}

#[test]
fn rfc4028_7_2_a_peer_that_knows_no_timers_is_left_alone() {
    let mut world = pair(8, 90);
    raw_call(&mut world, "");
    world.run_for(seconds(4000));
    assert!(world.take(0).is_empty());
    assert_eq!((world.count_sent(0, "UPDATE"), world.count_sent(0, "INVITE")), (0, 1));
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_peer_that_asks_for_a_refresh_all_the_time_gets_one_every_45_seconds() {
    let mut world = pair(9, 1800);
    raw_call(&mut world, "Session-Expires: 1;refresher=uac\r\nAllow: UPDATE\r\n");
    world.run_for(seconds(44));
    assert_eq!(world.count_sent(0, "UPDATE"), 0);
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn a_caller_that_asks_for_no_timer_gets_ours() {
    let mut world = World::new(10);
    world.add(config(1));
    world.add(asking(2, 600));
    let callee = world.connect(0, 1);
    assert!(!world.find_sent(0, "INVITE").contains("Session-Expires"));
    assert!(world.find_sent(1, "SIP/2.0 200").contains("Session-Expires: 600;refresher=uas"));
    world.run_for(seconds(301));
    assert!(world.find_sent(1, "UPDATE").contains("Session-Expires: 600;refresher=uac"));
    world.hang_up(1, callee);
    world.settle();
}
