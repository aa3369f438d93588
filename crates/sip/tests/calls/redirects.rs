//! A peer that says where else it can be reached.

use sip::agent::{Branch, FailedBecause, REDIRECTS_MAX, Report};

use crate::world::{LEG, RAW, World, seconds};

fn redirected(seed: u64, status: &str, contact: &str) -> (u16, Vec<String>) {
    let mut world = World::pair(seed);
    let branch = Branch::to_uri(format!("sip:away@{RAW}").parse().expect("a URI"));
    world.dial_branches(0, LEG, vec![branch], seconds(30));
    world.answer_raw(0, "INVITE", status, "raw", &format!("Contact: {contact}\r\n"), "");
    let failed = world.wait_ended(0);
    let Report::Failed { status, because: FailedBecause::Refused, contacts, .. } = failed else {
        panic!("{failed:?}");
    };
    world.settle();
    assert_eq!((world.count_sent(0, "ACK"), world.count_sent(0, "INVITE")), (1, 1));
    (status, contacts.iter().map(ToString::to_string).collect())
}

#[test]
fn rfc3261_8_1_3_4_the_contacts_of_a_redirection_are_told_best_first() {
    let contacts = "<sip:desk@10.0.0.8>;q=0.1, \"Mobile\" <sip:+12065550100@gw.example;user=phone>;q=0.9";
    let (status, contacts) = redirected(1, "302 Moved Temporarily", contacts);
    assert_eq!(status, 302);
    assert_eq!(contacts, ["sip:+12065550100@gw.example;user=phone", "sip:desk@10.0.0.8"]);
}

#[test]
fn only_plain_sip_is_told_without_the_headers_it_asks_for() {
    let contacts = "<sip:a@10.0.0.8?Route=%3Csip:evil.example%3E>, <sips:b@10.0.0.8>, <tel:+12065550100>, \
        <http://c.example>, <sip:a@10.0.0.8>";
    assert_eq!(redirected(2, "300 Multiple Choices", contacts).1, ["sip:a@10.0.0.8"]);
    assert!(redirected(3, "302 Moved Temporarily", "<tel:+12065550100>").1.is_empty());
    // RFC 3261 §21.4.18 and others have Contacts too; nobody is sent there.
    assert!(redirected(4, "480 Temporarily Unavailable", "<sip:a@10.0.0.8>").1.is_empty());
    let many: Vec<_> = (0..40).map(|number| format!("<sip:{number}@10.0.0.8>")).collect();
    assert_eq!(redirected(5, "302 Moved Temporarily", &many.join(", ")).1.len(), REDIRECTS_MAX);
}
