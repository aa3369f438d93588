//! RFC 5118: messages with addresses of IPv6.

use super::{Answered, Case, Parses, case};

/// The session description of the messages that have one.
const SESSION: &[u8] =
    b"v=0\r\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Live video feed for today's meeting\r\n\
    c=IN IP6 2001:db8::20\r\nt=3338481189 3370017201\r\nm=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\n\
    m=video 6024 RTP/AVP 107\r\na=rtpmap:107 H263-1998/90000\r\n";

/// Two streams, each with an address of its own family.
const BOTH: &[u8] =
    b"v=0\r\no=bob 280744730 28977631 IN IP4 host.example.com\r\ns=\r\nt=0 0\r\nm=audio 22334 RTP/AVP 0\r\n\
    c=IN IP4 192.0.2.1\r\nm=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n";

/// An address of IPv4 in the clothes of IPv6.
const MAPPED: &[u8] =
    b"v=0\r\no=bob 280744730 28977631 IN IP6 ::ffff:192.0.2.2\r\ns=\r\nc=IN IP6 ::ffff:192.0.2.2\r\nt=0 0\r\n\
    m=audio 22334 RTP/AVP 0\r\n";

/// A request; `uri` and `via` are what the section is about.
fn request(name: &'static str, method: &str, uri: &str, via: &str, more: &[&str], body: &[u8]) -> Case {
    let mut lines = vec![
        format!("{method} {uri} SIP/2.0"),
        "To: sip:user@example.com".to_owned(),
        "From: sip:user@example.com;tag=81x2".to_owned(),
        via.to_owned(),
        format!("Call-ID: {name}.SSG95523997077@hlau_4100"),
        "Max-Forwards: 70".to_owned(),
        format!("CSeq: 8912 {method}"),
    ];
    lines.extend(more.iter().map(|&line| line.to_owned()));
    lines.push(format!("Content-Length: {}", body.len()));
    let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
    case(name, Parses, &lines, body)
}

const VIA: &str = "Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "Contact: \"Caller\" <sip:caller@[2001:db8::1]>";
const SDP: &str = "Content-Type: application/sdp";

pub(crate) fn cases() -> Vec<Case> {
    let register = |name, uri| request(name, "REGISTER", uri, VIA, &[CONTACT], b"");
    let bye = |name, received| {
        let via = format!("Via: SIP/2.0/UDP [2001:db8::9:1];received={received};branch=z9hG4bKas3-111");
        request(name, "BYE", "sip:[2001:db8::10]", &via, &[], b"")
    };
    vec![
        // §4.1: a reference in brackets.
        register("ipv6-good", "sip:[2001:db8::10]"),
        // §4.2: one without. Nobody can say where the address ends and the port begins.
        Case { verdict: Answered(400), ..register("ipv6-bad", "sip:2001:db8::10") },
        // §4.3: a port inside the brackets is the end of the address.
        register("port-ambiguous", "sip:[2001:db8::10:5070]"),
        // §4.4: behind them it is a port.
        register("port-unambiguous", "sip:[2001:db8::10]:5070"),
        // §4.5: `received` with brackets, which RFC 3261's grammar forbids and some send, and without.
        bye("via-received-param-with-delim", "[2001:db8::9:255]"),
        bye("via-received-param-no-delim", "2001:db8::9:255"),
        // §4.6: a session on IPv6.
        request("ipv6-in-sdp", "INVITE", "sip:user@[2001:db8::10]", VIA, &[CONTACT, SDP], SESSION),
        // §4.7: hops of both families.
        request(
            "mult-ip-in-header",
            "BYE",
            "sip:user@host.example.net",
            "Via: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111",
            &[
                "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144",
                "Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200",
            ],
            b"",
        ),
        // §4.8: streams of both families.
        request("mult-ip-in-sdp", "INVITE", "sip:user@[2001:db8::10]", VIA, &[CONTACT, SDP], BOTH),
        // §4.9: mapped addresses, wherever one can stand.
        request(
            "ipv4-mapped-ipv6",
            "INVITE",
            "sip:user@example.com",
            "Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19",
            &[
                "Via: SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111",
                "Contact: \"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>",
                SDP,
            ],
            MAPPED,
        ),
        // §4.10: three colons before an address of IPv4, as RFC 3261's grammar has it by mistake; both are tolerated.
        request("ipv6-bug-abnf-3-colons", "OPTIONS", "sip:user@[2001:db8:::192.0.2.1]", VIA, &[CONTACT], b""),
        request("ipv6-correct-abnf-2-colons", "OPTIONS", "sip:user@[2001:db8::192.0.2.1]", VIA, &[CONTACT], b""),
        // And a zone, which is no business of anybody else's (RFC 4007 §11.2).
        Case { verdict: Answered(400), ..request("ipv6-zone", "OPTIONS", "sip:user@[fe80::1%25eth0]", VIA, &[], b"") },
    ]
}

#[test]
fn addresses_and_ports_are_told_apart() {
    use sip::message::{Message, Uri, parse_datagram};

    let uri = |name: &str| -> Uri {
        let case = cases().into_iter().find(|case| case.name == name).expect("a case");
        match parse_datagram(&case.bytes) {
            Ok(Message::Request(request)) => request.uri,
            other => panic!("{other:?}"),
        }
    };
    let ip = |text: &str| Some(text.parse().expect("an address"));
    let ambiguous = uri("port-ambiguous");
    assert_eq!((ambiguous.host.ip(), ambiguous.port), (ip("2001:db8::10:5070"), None));
    let unambiguous = uri("port-unambiguous");
    assert_eq!((unambiguous.host.ip(), unambiguous.port), (ip("2001:db8::10"), Some(5070)));
    for name in ["ipv6-correct-abnf-2-colons", "ipv6-bug-abnf-3-colons"] {
        assert_eq!(uri(name).host.ip(), ip("2001:db8::192.0.2.1"), "{name}");
    }
    // Three colons anywhere else are none of that.
    for text in ["sip:[2001:::1]", "sip:[2001:::db8::192.0.2.1]", "sip:[:::]", "sip:[1:::192.0.2.1:2]"] {
        assert!(text.parse::<Uri>().is_err(), "{text}");
    }
}

#[test]
fn hops_of_both_families_and_every_way_of_received_are_read() {
    use sip::message::{Message, parse_datagram};

    for case in
        cases().into_iter().filter(|case| case.name.starts_with("via-") || case.name.starts_with("mult-ip-in-h"))
    {
        let Ok(Message::Request(request)) = parse_datagram(&case.bytes) else { panic!("{}", case.name) };
        let vias = request.headers.vias().expect("a way");
        assert_eq!(vias[0].host.ip(), Some("2001:db8::9:1".parse().expect("an address")), "{}", case.name);
        assert_eq!(vias.len(), if case.name.starts_with("via-") { 1 } else { 3 });
    }
}
