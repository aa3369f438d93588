//! A raw peer that asks who we are, and says other things that need another try.

use std::net::SocketAddr;

use sip::agent::{Branch, Credentials, EndReason, FailedBecause, Order, Report};

use crate::world::{LEG, World, dial, seconds};

fn peer() -> SocketAddr {
    "10.9.9.9:5060".parse().expect("an address")
}

/// The last message node 0 sent that begins like this.
fn last(world: &World, start: &str) -> String {
    let found = world.nodes[0].sent.iter().rev().find(|(_, text)| text.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start}")).1.clone()
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The peer answers a request.
fn answer(world: &mut World, request: &str, status: &str, more: &str, body: &str) {
    let mut lines: Vec<_> = ["Via", "From", "To", "Call-ID", "CSeq"].iter().map(|name| header(request, name)).collect();
    let tagged = format!("{};tag=peer", lines[2]);
    if !lines[2].contains(";tag=") {
        lines[2] = &tagged;
    }
    let response = format!(
        "SIP/2.0 {status}\r\n{}\r\nContact: <sip:peer@10.9.9.9>\r\n{more}Content-Length: {}\r\n\r\n{body}",
        lines.join("\r\n"),
        body.len()
    );
    world.inject(0, peer(), response.as_bytes());
}

fn call(world: &mut World) {
    let branch = Branch::to_uri("sip:+12065550100@10.9.9.9".parse().expect("a URI"));
    let mut dial = dial(LEG, vec![branch], seconds(60));
    dial.credentials = Some(Credentials { username: "trunk".to_owned(), password: "only-for-tests".to_owned() });
    world.order(0, Order::Dial(Box::new(dial)));
}

const CHALLENGE: &str = "407 Proxy Authentication Required";
const ASK: &str = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
const STALE: &str =
    "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n2\", algorithm=MD5, qop=\"auth\", stale=true\r\n";
const SDP: &str = "Content-Type: application/sdp\r\n";

#[test]
fn a_trunk_that_asks_is_answered_in_the_call_and_in_its_end() {
    let mut world = World::pair(1);
    call(&mut world);
    let first = last(&world, "INVITE");
    answer(&mut world, &first, CHALLENGE, ASK, "");
    assert!(last(&world, "ACK").contains("CSeq: 1 ACK"));
    let second = last(&world, "INVITE");
    assert!(second.contains("CSeq: 2 INVITE") && second.contains("nonce=\"n1\""), "{second}");
    assert_eq!(header(&first, "Call-ID"), header(&second, "Call-ID"));
    assert_eq!(header(&first, "From"), header(&second, "From"));
    assert_ne!(header(&first, "Via"), header(&second, "Via"));
    answer(&mut world, &second, CHALLENGE, STALE, "");
    let third = last(&world, "INVITE");
    assert!(third.contains("CSeq: 3 INVITE") && third.contains("nonce=\"n2\""), "{third}");
    answer(&mut world, &third, "200 OK", SDP, "v=0\r\n");
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    assert!(last(&world, "ACK").contains("CSeq: 3 ACK"));
    world.hang_up(0, LEG);
    let bye = last(&world, "BYE");
    assert!(bye.contains("CSeq: 4 BYE"), "{bye}");
    answer(&mut world, &bye, CHALLENGE, STALE, "");
    let bye = last(&world, "BYE");
    assert!(bye.contains("CSeq: 5 BYE") && bye.contains("Proxy-Authorization: Digest"), "{bye}");
    answer(&mut world, &bye, "200 OK", "", "");
    world.settle();
}

#[test]
fn a_refused_password_ends_the_call() {
    let mut world = World::pair(2);
    call(&mut world);
    for _ in 0..2 {
        let invite = last(&world, "INVITE");
        answer(&mut world, &invite, CHALLENGE, ASK, "");
    }
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 407, because: FailedBecause::Refused, .. }), "{ended:?}");
    world.settle();
    assert_eq!(world.count_sent(0, "INVITE"), 2);
}

#[test]
fn a_peer_that_asks_for_another_realm_each_time_is_given_up() {
    let mut world = World::pair(3);
    call(&mut world);
    for number in 0..20 {
        let invite = last(&world, "INVITE");
        answer(&mut world, &invite, CHALLENGE, &ASK.replace("carrier", &number.to_string()), "");
    }
    world.wait_ended(0);
    assert_eq!(world.count_sent(0, "INVITE"), 5);
    world.settle();
}

#[test]
fn rfc3261_13_2_2_4_of_several_forks_that_answer_the_first_wins() {
    let mut world = World::pair(4);
    call(&mut world);
    let invite = last(&world, "INVITE");
    answer(&mut world, &invite, "180 Ringing", "", "");
    answer(&mut world, &invite, "200 OK", SDP, "v=0\r\n");
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    let other = invite.replace(header(&invite, "To"), &format!("{};tag=other", header(&invite, "To")));
    answer(&mut world, &other, "200 OK", SDP, "v=0\r\n");
    // The other fork is acknowledged and ended, the first stays.
    assert!(last(&world, "ACK").contains(";tag=other"));
    let bye = last(&world, "BYE");
    assert!(bye.contains(";tag=other"), "{bye}");
    answer(&mut world, &bye, "200 OK", "", "");
    // A repetition of either is acknowledged again, and nothing else.
    let (acks, byes) = (world.count_sent(0, "ACK"), world.count_sent(0, "BYE"));
    answer(&mut world, &other, "200 OK", SDP, "v=0\r\n");
    answer(&mut world, &invite, "200 OK", SDP, "v=0\r\n");
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (acks + 2, byes));
    // Long after the transaction is over the dialog still knows what to do.
    world.run_for(seconds(40));
    answer(&mut world, &invite, "200 OK", SDP, "v=0\r\n");
    assert_eq!(world.count_sent(0, "ACK"), acks + 3);
    world.hang_up(0, LEG);
    let bye = last(&world, "BYE");
    assert!(bye.contains(";tag=peer"), "{bye}");
    answer(&mut world, &bye, "200 OK", "", "");
    world.settle();
}

#[test]
fn routes_are_followed_loosely_and_strictly() {
    for (record, uri, route) in [
        ("<sip:10.9.9.8;lr>", "BYE sip:peer@10.9.9.9 SIP/2.0", "Route: <sip:10.9.9.8;lr>"),
        ("<sip:10.9.9.8>", "BYE sip:10.9.9.8 SIP/2.0", "Route: <sip:peer@10.9.9.9>"),
    ] {
        let mut world = World::pair(5);
        call(&mut world);
        let invite = last(&world, "INVITE");
        answer(&mut world, &invite, "200 OK", &format!("Record-Route: {record}\r\n{SDP}"), "v=0\r\n");
        world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
        world.order(0, Order::Confirm { leg: LEG });
        world.hang_up(0, LEG);
        let bye = last(&world, "BYE");
        assert!(bye.starts_with(uri), "{bye}");
        assert_eq!(header(&bye, "Route"), route);
        answer(&mut world, &bye, "200 OK", "", "");
        world.settle();
    }
}

#[test]
fn early_media_is_reported_and_stands_in_for_a_missing_answer() {
    let mut world = World::pair(6);
    call(&mut world);
    let invite = last(&world, "INVITE");
    answer(&mut world, &invite, "183 Session Progress", SDP, "v=0\r\nearly");
    world.wait(0, |report| match report {
        Report::Ringing { status: 183, early_sdp: Some(sdp), .. } if sdp == b"v=0\r\nearly" => Some(()),
        _ => None,
    });
    answer(&mut world, &invite, "200 OK", "", "");
    world.wait(0, |report| matches!(report, Report::Answered { sdp, .. } if sdp == b"v=0\r\nearly").then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.hang_up(0, LEG);
    world.settle();
}

#[test]
fn an_answer_without_a_description_is_acknowledged_and_ended() {
    let mut world = World::pair(7);
    call(&mut world);
    let invite = last(&world, "INVITE");
    answer(&mut world, &invite, "200 OK", "", "");
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Failed { status: 488, .. }), "{ended:?}");
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (1, 1));
    world.settle();
}

#[test]
fn rfc4028_the_caller_refreshes_when_the_callee_wants_it_to() {
    let mut world = World::pair(8);
    call(&mut world);
    let invite = last(&world, "INVITE");
    let timer = "Session-Expires: 90;refresher=uac\r\n";
    answer(&mut world, &invite, "200 OK", &format!("Require: timer\r\n{timer}{SDP}"), "v=0\r\n");
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    for _ in 0..5 {
        world.run_for(seconds(45));
        // The peer does not say that it knows UPDATE, so it is a re-INVITE that changes nothing.
        let refresh = last(&world, "INVITE");
        assert!(refresh.contains("Session-Expires: 90;refresher=uac") && refresh.contains("m=audio 4000"), "{refresh}");
        answer(&mut world, &refresh, "200 OK", &format!("{timer}{SDP}"), "v=0\r\n");
        assert!(world.take(0).is_empty());
    }
    // A refresh that fails is tried again, until the session is over.
    world.run_for(seconds(45));
    let refresh = last(&world, "INVITE");
    answer(&mut world, &refresh, "500 Server Internal Error", "", "");
    world.run_for(seconds(6));
    assert_ne!(header(&last(&world, "INVITE"), "CSeq"), header(&refresh, "CSeq"));
    let refresh = last(&world, "INVITE");
    answer(&mut world, &refresh, "500 Server Internal Error", "", "");
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::SessionExpired | EndReason::Lost, .. }), "{ended:?}");
    world.settle();
}
