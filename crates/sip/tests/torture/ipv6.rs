//! RFC 5118: where IPv6 addresses are easily misread.

use std::net::IpAddr;

use sip::message::{Host, Message, NameAddr, Request, Uri, Via, parse_datagram};
use sip::sdp::{LocalMedia, Negotiation};

fn request(uri: &str, via: &str, contact: &str) -> Result<Request, Option<u16>> {
    let text = format!(
        "REGISTER {uri} SIP/2.0\r\nTo: sip:user@example.com\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: {via}\r\n\
         Call-ID: SSG9559905523997077@hlau_4100\r\nContact: {contact}\r\nCSeq: 98176 REGISTER\r\nContent-Length: 0\r\n\r\n"
    );
    match parse_datagram(text.as_bytes()) {
        Ok(Message::Request(request)) => Ok(request),
        Ok(Message::Response(_)) => panic!("{text}"),
        Err(malformed) => Err(malformed.status()),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

const VIA: &str = "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "\"Caller\" <sip:caller@[2001:db8::1]>";

#[test]
fn addresses_in_a_uri_are_in_brackets() {
    // §4.1 and §4.2.
    assert_eq!(request("sip:[2001:db8::10]", VIA, CONTACT).unwrap().uri.host.ip(), Some(ip("2001:db8::10")));
    assert_eq!(request("sip:2001:db8::10", VIA, CONTACT), Err(Some(400)));
}

#[test]
fn a_port_is_where_the_brackets_are_not() {
    // §4.3: without a port after the brackets, 5070 belongs to the address.
    let inside: Uri = "sip:[2001:db8::10:5070]".parse().unwrap();
    assert_eq!((inside.host.ip(), inside.port), (Some(ip("2001:db8::10:5070")), None));
    // §4.4.
    let outside: Uri = "sip:[2001:db8::10]:5070".parse().unwrap();
    assert_eq!((outside.host.ip(), outside.port), (Some(ip("2001:db8::10")), Some(5070)));
}

#[test]
fn received_stands_with_and_without_brackets() {
    // §4.5.
    for received in ["[2001:db8::9:255]", "2001:db8::9:255"] {
        let via = Via::parse(format!("{VIA};received={received}").as_bytes()).unwrap();
        assert_eq!(via.received(), Some(ip("2001:db8::9:255")), "{received}");
    }
}

#[test]
fn zone_like_and_mapped_addresses() {
    // §4.6 to §4.10: two addresses in one message, mapped ones, and three colons, about which we do not guess.
    let mapped: Uri = "sip:user@[::ffff:192.0.2.10]:19823".parse().unwrap();
    assert_eq!((mapped.host.ip(), mapped.port), (Some(ip("::ffff:192.0.2.10")), Some(19823)));
    assert_eq!(request("sip:user@[2001:db8:::192.0.2.1]", VIA, CONTACT), Err(Some(400)));
    assert!("sip:user@[fe80::1%25eth0]".parse::<Uri>().is_err());
    let two = request("sip:example.com", &format!("{VIA}, SIP/2.0/UDP 192.0.2.1"), CONTACT).unwrap();
    let hosts: Vec<Host> = two.headers.vias().unwrap().into_iter().map(|via| via.host).collect();
    assert_eq!(hosts, [Host::Ip(ip("2001:db8::9:1")), Host::Ip(ip("192.0.2.1"))]);
    assert!(NameAddr::parse(b"<sip:caller@[2001:db8::1>").is_none());
}

#[test]
fn media_may_be_in_the_other_family_than_signalling() {
    // §4.7: only the address of the media counts for the media.
    let offer = b"v=0\r\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Live\r\nc=IN IP6 2001:db8::20\r\n\
        t=0 0\r\nm=audio 6000 RTP/AVP 0\r\n";
    let mut negotiation = Negotiation::new(LocalMedia::new(ip("2001:db8::1"), 20000, 1));
    assert_eq!(negotiation.answer(offer).unwrap().1.remote, "[2001:db8::20]:6000".parse().unwrap());
}
