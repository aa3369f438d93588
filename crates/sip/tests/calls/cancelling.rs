//! A process dies while something rings, and a later one stops it: it knows the leg and whom it was for, and neither how
//! far the earlier process had come nor in which order it tried.

use sip::agent::{
    Branch, CancelDerived, Credentials, Dialled, EndReason, HangUpCause, Hint, LegKey, Order, Registered, Report,
    Transport, Waits,
};

use crate::sessions::pair;
use crate::world::{ANSWER, LEG, RAW, World, config, dial, seconds};

fn to(uri: &str) -> Branch {
    Branch::to_uri(uri.parse().expect("a URI"))
}

/// Another process of node 0 is told to stop what may ring for the leg.
fn die_and_cancel(world: &mut World, branches: Vec<Branch>, has_credentials: bool) {
    world.restart(0, config(1));
    let dialled = dial(LEG, branches, seconds(60));
    world.order(
        0,
        Order::CancelDerived(Box::new(CancelDerived {
            leg: LEG,
            waits: Waits::End,
            caller: dialled.caller,
            calls: vec![Dialled { leg: LEG, branches: dialled.branches, has_credentials }],
            but: None,
            cause: HangUpCause::because(500, "Restarted"),
        })),
    );
    world.run_for(seconds(0));
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// RFC 3261 §9.1: what a CANCEL has in common with its INVITE. A peer that finds a difference knows nothing of it.
fn cancels(world: &World, invite: &str) -> usize {
    let same = |cancel: &&str| {
        ["Via:", "From:", "To:", "Call-ID:"].iter().all(|name| header(cancel, name) == header(invite, name))
            && header(invite, "CSeq:").replace("INVITE", "CANCEL") == header(cancel, "CSeq:")
            && invite.lines().next().map(|line| line.replace("INVITE", "CANCEL")).as_deref() == cancel.lines().next()
    };
    world.all_sent(0, "CANCEL").iter().filter(|cancel| same(cancel)).count()
}

fn last_invite(world: &World) -> String {
    (*world.all_sent(0, "INVITE").last().expect("an INVITE")).to_owned()
}

#[test]
fn rfc4028_7_4_what_rings_after_a_422_is_cancelled() {
    let mut world = pair(1, 1800);
    let phone = to(&format!("sip:raw@{RAW}"));
    world.dial_branches(0, LEG, vec![phone.clone()], seconds(60));
    world.answer_raw(0, "INVITE", "422 Session Interval Too Small", "raw", "Min-SE: 3600\r\n", "");
    let rings = last_invite(&world);
    assert!(rings.contains("CSeq: 2 INVITE"), "{rings}");
    die_and_cancel(&mut world, vec![phone], false);
    assert_eq!(cancels(&world, &rings), 1);
}

#[test]
fn nothing_is_cancelled_in_a_call_that_was_answered() {
    let mut world = pair(1, 1800);
    let phone = to(&format!("sip:raw@{RAW}"));
    world.dial_branches(0, LEG, vec![phone.clone()], seconds(60));
    let asked = last_invite(&world);
    world.answer_raw(0, "INVITE", "422 Session Interval Too Small", "raw", "Min-SE: 3600\r\n", "");
    let rings = last_invite(&world);
    // There are phones that know a CANCEL by its Call-ID alone, SIPp for one: they would hang up.
    world.restart(0, config(1));
    let again = dial(LEG, vec![phone.clone()], seconds(60));
    let caller = again.caller.clone();
    world.order(0, Order::DialAgain(Box::new(again)));
    let contact = format!("Contact: <sip:raw@{RAW}>\r\n");
    world.answer_raw(0, "INVITE", "200 OK", "raw", &contact, std::str::from_utf8(ANSWER).expect("text"));
    let answered = world.wait_answered(0);
    let calls = vec![Dialled { leg: LEG, branches: vec![phone], has_credentials: false }];
    let (waits, cause) = (Waits::Leg, HangUpCause::because(200, "Call completed elsewhere"));
    let others = CancelDerived { leg: LEG, waits, caller, calls, but: Some(answered), cause };
    world.order(0, Order::CancelDerived(Box::new(others)));
    world.run_for(seconds(0));
    assert_eq!((cancels(&world, &rings), cancels(&world, &asked)), (0, 0));
}

#[test]
fn what_rings_after_a_422_and_a_challenge_is_cancelled() {
    let mut world = pair(2, 1800);
    let trunk = to(&format!("sip:+12065550100@{RAW}"));
    let mut order = dial(LEG, vec![trunk.clone()], seconds(60));
    order.credentials = Some(Credentials { username: "trunk".to_owned(), password: "only-for-tests".to_owned() });
    world.order(0, Order::Dial(Box::new(order)));
    let ask = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    world.answer_raw(0, "INVITE", "407 Proxy Authentication Required", "raw", ask, "");
    world.answer_raw(0, "INVITE", "422 Session Interval Too Small", "raw", "Min-SE: 3600\r\n", "");
    // RFC 4028 §7.4 makes it another request: it is challenged anew.
    world.answer_raw(0, "INVITE", "407 Proxy Authentication Required", "raw", ask, "");
    let rings = last_invite(&world);
    assert!(rings.contains("CSeq: 4 INVITE"), "{rings}");
    die_and_cancel(&mut world, vec![trunk], true);
    assert_eq!(cancels(&world, &rings), 1);
}

#[test]
fn an_alternative_that_rings_is_cancelled_whichever_the_later_process_would_try_first() {
    let mut world = World::pair(3);
    let (first, second) = (format!("sip:+12065550100@{RAW}"), "sip:+12065550100@10.9.9.8");
    let branch = Branch { alternatives: vec![second.parse().expect("a URI")], ..to(&first) };
    world.dial_branches(0, LEG, vec![branch], seconds(60));
    world.answer_raw(0, "INVITE", "503 Service Unavailable", "raw", "", "");
    let rings = last_invite(&world);
    assert!(rings.starts_with("INVITE sip:+12065550100@10.9.9.8 "), "{rings}");
    let reversed = Branch { alternatives: vec![first.parse().expect("a URI")], ..to(second) };
    die_and_cancel(&mut world, vec![reversed], false);
    assert_eq!(cancels(&world, &rings), 1);
}

#[test]
fn rfc3263_4_3_a_server_that_was_the_second_choice_is_cancelled() {
    let mut world = World::pair(4);
    world.add(config(3));
    let names = ["a.carrier.example", "b.carrier.example"];
    world.dns_servers("_sip._udp.carrier.example", &[(10, 5060, names[0]), (20, 5060, names[1])]);
    for (node, name) in (1..).zip(names) {
        let ip = world.nodes[node].address.ip();
        world.dns_host(name, &[ip]);
    }
    world.order(1, Order::Drain);
    let carrier = to("sip:+12065550100@carrier.example");
    world.dial_branches(0, LEG, vec![carrier.clone()], seconds(60));
    let leg = world.wait_incoming(2);
    world.order(2, Order::Ring { leg, status: 180, sdp: None });
    world.run_for(seconds(1));
    die_and_cancel(&mut world, vec![carrier], false);
    let ended = world.wait_ended(2);
    assert!(matches!(ended, Report::Ended { reason: EndReason::Cancelled { cause: Some(500) }, .. }), "{ended:?}");
    world.wait_ended(0);
    world.settle();
}

#[test]
fn devices_are_known_by_their_instance_and_in_any_order() {
    let mut world = World::pair(5);
    let device = |contact: &str, instance: &str, at: &str| Branch {
        hint: Some(Hint { flow: None, transport: Transport::Udp, destination: at.parse().expect("an address") }),
        registered: Some(Registered { aor: "user:desk".to_owned(), instance: Some(instance.to_owned()) }),
        ..to(contact)
    };
    let (desk, mobile) = ("<urn:uuid:1>", "<urn:uuid:2>");
    let contact = "sip:ada@192.168.1.5";
    // Two routers, behind each of which a device has the same address.
    let before = vec![device(contact, desk, "10.9.9.8:1024"), device(contact, mobile, RAW)];
    world.dial_branches(0, LEG, before, seconds(60));
    let invites: Vec<String> = world.all_sent(0, "INVITE").iter().map(|invite| (*invite).to_owned()).collect();
    assert_eq!(invites.len(), 2);
    assert_ne!(header(&invites[0], "Call-ID"), header(&invites[1], "Call-ID"));
    let after = vec![device(contact, mobile, RAW), device(contact, desk, "10.9.9.8:1025")];
    die_and_cancel(&mut world, after, false);
    assert_eq!(invites.iter().map(|invite| cancels(&world, invite)).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn contacts_that_are_all_the_same_are_calls_of_their_own() {
    let mut world = World::pair(6);
    let phone = to(&format!("sip:raw@{RAW}"));
    world.dial_branches(0, LEG, vec![phone.clone(), phone], seconds(60));
    let invites = world.all_sent(0, "INVITE");
    assert_ne!(header(invites[0], "Call-ID"), header(invites[1], "Call-ID"));
    world.order(0, Order::HangUp { leg: LEG, cause: HangUpCause::default() });
}

#[test]
fn rfc3261_13_2_1_an_invite_says_how_long_it_rings() {
    // Where no later process ever comes, this is what stops it.
    let mut world = World::pair(7);
    world.dial_branches(0, LegKey([5; 16]), vec![to(&format!("sip:raw@{RAW}"))], seconds(45));
    assert_eq!(header(&last_invite(&world), "Expires:"), "Expires: 45");
}

#[test]
fn what_rings_for_a_call_that_is_forgotten_is_cancelled() {
    // It was of no use any longer, and had not said a word, when the process died that had called it.
    let mut world = pair(1, 1800);
    world.dial_branches(0, LEG, vec![to(&format!("sip:raw@{RAW}"))], seconds(60));
    let invite = last_invite(&world);
    world.restart(0, config(1));
    let contact = format!("Contact: <sip:raw@{RAW}>\r\n");
    for _ in 0..2 {
        world.answer_raw(0, "INVITE", "180 Ringing", "raw", &contact, "");
    }
    assert_eq!(cancels(&world, &invite), 1, "{invite}\n{:?}", world.all_sent(0, "CANCEL"));
    // Somebody who has only overheard that there are calls gets nothing.
    let foreign = world.raw_answer(0, "INVITE", "180 Ringing", "raw", &contact, "").replace("Call-ID: ", "Call-ID: 0");
    world.inject(0, RAW.parse().expect("an address"), foreign.as_bytes());
    assert_eq!(world.count_sent(0, "CANCEL"), 1);
    // The CANCEL of the process between has overtaken the INVITE: this one is that one again, and answered as such.
    world.answer_raw(0, "CANCEL", "481 Call/Transaction Does Not Exist", "raw", "", "");
    // RFC 3261 §15: the caller may end an early dialog.
    let bye = world.find_sent(0, "BYE").to_owned();
    assert_eq!(world.count_sent(0, "BYE"), 1);
    assert!(header(&bye, "To:").contains(";tag=raw"), "{bye}");
    assert!(["From:", "Call-ID:"].iter().all(|name| header(&bye, name) == header(&invite, name)), "{bye}");
    assert!(!header(&bye, "CSeq:").contains(": 1 "), "{bye}");
    // Another device behind the same proxy has an early dialog of its own.
    world.answer_raw(0, "INVITE", "180 Ringing", "other", &contact, "");
    assert_eq!((world.count_sent(0, "CANCEL"), world.count_sent(0, "BYE")), (1, 2));
    world.answer_raw(0, "BYE", "200 OK", "other", "", "");
    // One that picks up in that moment is met as ever.
    world.answer_raw(0, "INVITE", "200 OK", "raw", &contact, std::str::from_utf8(ANSWER).expect("text"));
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (1, 3));
    let number = |bye: &str| header(bye, "CSeq:").split(' ').nth(1).and_then(|number| number.parse::<u32>().ok());
    let last = world.all_sent(0, "BYE")[2].to_owned();
    assert!(number(&last) > number(&bye), "{last}");
    world.answer_raw(0, "BYE", "200 OK", "raw", "", "");
    world.run_for(seconds(40));
    world.settle();
}

#[test]
fn what_rings_behind_a_cancel_of_an_earlier_process_is_ended_by_a_bye() {
    // That process had cancelled what the one before might have sent, and had not: to the phone, ours is its CANCEL again.
    let mut world = pair(1, 1800);
    let again = dial(LEG, vec![to(&format!("sip:raw@{RAW}"))], seconds(60));
    world.order(0, Order::DialAgain(Box::new(again)));
    let contact = format!("Contact: <sip:raw@{RAW}>\r\n");
    world.answer_raw(0, "INVITE", "180 Ringing", "raw", &contact, "");
    world.hang_up(0, LEG);
    world.run_for(seconds(0));
    assert_eq!((world.count_sent(0, "CANCEL"), world.count_sent(0, "BYE")), (1, 0));
    for _ in 0..2 {
        world.answer_raw(0, "CANCEL", "481 Call/Transaction Does Not Exist", "raw", "", "");
    }
    assert_eq!((world.count_sent(0, "CANCEL"), world.count_sent(0, "BYE")), (1, 1));
    assert!(header(world.find_sent(0, "BYE"), "To:").contains(";tag=raw"));
    assert!(world.nodes[0].reports.iter().all(|report| !matches!(report, Report::Failed { .. })), "it may ring");
    world.answer_raw(0, "BYE", "200 OK", "raw", "", "");
    world.answer_raw(0, "INVITE", "487 Request Terminated", "raw", "", "");
    world.wait(0, |report| matches!(report, Report::Failed { leg: LEG, .. }).then_some(()));
    world.settle();
}

#[test]
fn a_dialog_that_was_hung_up_on_is_not_gone_on_with() {
    // An earlier process had come to another trunk, which answers before this one has come there.
    let mut world = pair(1, 1800);
    let second = "sip:second@10.9.9.8".parse().expect("a URI");
    let branch = Branch { alternatives: vec![second], ..to(&format!("sip:raw@{RAW}")) };
    let order = || Box::new(dial(LEG, vec![branch.clone()], seconds(60)));
    world.order(0, Order::Dial(order()));
    let contact = format!("Contact: <sip:raw@{RAW}>\r\n");
    let answer = world.raw_answer(0, "INVITE", "200 OK", "raw", &contact, std::str::from_utf8(ANSWER).expect("text"));
    world.restart(0, config(1));
    world.inject(0, RAW.parse().expect("an address"), answer.as_bytes());
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "BYE")), (1, 1));
    world.order(0, Order::DialAgain(order()));
    // The phone repeats what it has said to that INVITE, and once more.
    for _ in 0..2 {
        world.inject(0, RAW.parse().expect("an address"), answer.as_bytes());
    }
    assert_eq!(world.count_sent(0, "ACK"), 3);
    assert!(last_invite(&world).starts_with("INVITE sip:second@"));
    let contact = "Contact: <sip:second@10.9.9.8>\r\n";
    let other = world.raw_answer(0, "INVITE", "200 OK", "second", contact, std::str::from_utf8(ANSWER).expect("text"));
    world.inject(0, "10.9.9.8:5060".parse().expect("an address"), other.as_bytes());
    let answered = world.wait(0, |report| match report {
        Report::Answered { .. } => Some(true),
        Report::Failed { .. } => Some(false),
        _ => None,
    });
    assert!(answered);
    assert!(last_invite(&world).starts_with("INVITE sip:second@"));
}

#[test]
fn nothing_is_cancelled_within_a_dialog_that_goes_on() {
    let mut world = pair(1, 1800);
    world.dial_branches(0, LEG, vec![to(&format!("sip:raw@{RAW}"))], seconds(60));
    let contact = format!("Contact: <sip:raw@{RAW}>\r\n");
    world.answer_raw(0, "INVITE", "200 OK", "raw", &contact, std::str::from_utf8(ANSWER).expect("text"));
    world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    // A late word on a re-INVITE of an earlier process.
    let late = world.raw_answer(0, "INVITE", "180 Ringing", "raw", &contact, "").replace("z9hG4bK", "z9hG4bKx");
    world.inject(0, RAW.parse().expect("an address"), late.as_bytes());
    assert_eq!(world.count_sent(0, "CANCEL"), 0);
    world.hang_up(0, LEG);
    world.answer_raw(0, "BYE", "200 OK", "raw", "", "");
    world.settle();
}

#[test]
fn an_end_waits_for_a_device_that_rings_while_the_bye_is_under_way() {
    let mut world = World::new(8);
    (1..=3).map(config).for_each(|config| _ = world.add(config));
    let lose = |starts: &'static [&'static str]| {
        Some(Box::new(move |text: &str| starts.iter().any(|start| text.starts_with(start))) as _)
    };
    world.filter = lose(&["SIP/2.0 100", "SIP/2.0 180"]);
    world.dial(0, LEG, &[1, 2]);
    let answers = world.wait_incoming(1);
    world.ring(2);
    world.order(1, Order::Accept { leg: answers, sdp: ANSWER.to_vec() });
    world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    // Until here nobody knows that the other device is there at all.
    world.filter = lose(&["BYE", "CANCEL"]);
    world.hang_up(0, LEG);
    world.run_for(seconds(5));
    assert_ne!(world.count_sent(0, "CANCEL"), 0, "it rings");
    world.filter = lose(&["CANCEL"]);
    world.wait_ended(1);
    world.run_for(seconds(5));
    assert!(world.nodes[0].reports.is_empty(), "{:?}", world.nodes[0].reports);
    world.filter = None;
    let ended = world.wait_ended(0);
    assert!(matches!(ended, Report::Ended { reason: EndReason::HungUp, .. }), "{ended:?}");
    assert!(matches!(world.wait_ended(2), Report::Ended { reason: EndReason::Cancelled { .. }, .. }));
    world.settle();
}
