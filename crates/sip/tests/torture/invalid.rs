//! RFC 4475 §3.1.2: messages that break the grammar.

use sip::message::{HeaderName, Message, Problem, parse_datagram};

use super::{Answered, Case, Dropped, Parses, SESSION, case, malformed};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // §3.1.2.1: separators that separate nothing.
        case(
            "badinv01",
            Answered(400),
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"To: sip:j.user@example.com",
                b"From: sip:caller@example.net;tag=134161461246",
                b"Max-Forwards: 7",
                b"Call-ID: badinv01.0ha0isndaksdjasdf3234nas",
                b"CSeq: 8 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.15;;,;,,",
                b"Contact: \"Joe\" <sip:joe@example.org>;;;;",
                b"Content-Length: 150",
                b"Content-Type: application/sdp",
            ],
            SESSION,
        ),
        // §3.1.2.2: a Content-Length beyond the end.
        case(
            "clerr",
            Answered(400),
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"Max-Forwards: 80",
                b"To: sip:j.user@example.com",
                b"From: sip:caller@example.net;tag=93942939o2",
                b"Contact: <sip:caller@hungry.example.net>",
                b"Call-ID: clerr.0ha0isndaksdjweiafasdk3",
                b"CSeq: 8 INVITE",
                b"Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bK-39234-23523",
                b"Content-Type: application/sdp",
                b"Content-Length: 9999",
            ],
            SESSION,
        ),
        // §3.1.2.3: a negative Content-Length.
        case(
            "ncl",
            Answered(400),
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"Max-Forwards: 254",
                b"To: sip:j.user@example.com",
                b"From: sip:caller@example.net;tag=32394234",
                b"Call-ID: ncl.0ha0isndaksdj2193423r542w35",
                b"CSeq: 0 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.53;branch=z9hG4bKkdjuw",
                b"Contact: <sip:caller@example53.example.net>",
                b"Content-Type: application/sdp",
                b"Content-Length: -999",
            ],
            SESSION,
        ),
        // §3.1.2.4: numbers that are too large, in a request.
        case(
            "scalar02",
            Answered(400),
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"Via: SIP/2.0/TCP host129.example.com;branch=z9hG4bK342sdfoi3",
                b"To: <sip:user@example.com>",
                b"From: <sip:user@example.com>;tag=239232jh3",
                b"CSeq: 36893488147419103232 REGISTER",
                b"Call-ID: scalar02.23o0pd9vanlq3wnrlnewofjas9ui32",
                b"Max-Forwards: 300",
                b"Expires: 10000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
                b"Contact: <sip:user@host129.example.com>",
                b"  ;expires=280297596632815",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.1.2.5: the same in a response, which nobody answers.
        case(
            "scalarlg",
            Dropped,
            &[
                b"SIP/2.0 503 Service Unavailable",
                b"Via: SIP/2.0/TCP host129.example.com;branch=z9hG4bKzzxdiwo34sw;received=192.0.2.129",
                b"To: <sip:user@example.com>",
                b"From: <sip:other@example.net>;tag=2easdjfejw",
                b"CSeq: 9292394834772304023312 OPTIONS",
                b"Call-ID: scalarlg.noase0of0234hn2qofoaf0232aewf2394r",
                b"Retry-After: 949302838503028349304023988",
                b"Warning: 1812 overture \"In Progress\"",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.1.2.6: a quoted string without its end.
        case(
            "quotbal",
            Answered(400),
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"To: \"Mr. J. User <sip:j.user@example.com>",
                b"From: sip:caller@example.net;tag=93334",
                b"Max-Forwards: 10",
                b"Call-ID: quotbal.aksdj",
                b"Contact: <sip:caller@host59.example.net>",
                b"CSeq: 8 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.59:5050;branch=z9hG4bKkdjuw39234",
                b"Content-Type: application/sdp",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.2.7: brackets around the Request-URI.
        case(
            "ltgtruri",
            Answered(400),
            &[
                b"INVITE <sip:user@example.com> SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=39291",
                b"Max-Forwards: 23",
                b"Call-ID: ltgtruri.1@192.0.2.5",
                b"CSeq: 1 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.5",
                b"Contact: <sip:caller@host5.example.net>",
                b"Content-Type: application/sdp",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.2.8: white space within the Request-URI.
        case(
            "lwsruri",
            Answered(400),
            &[
                b"INVITE sip:user@example.com; lr SIP/2.0",
                b"To: sip:user@example.com;tag=3xfe-9921883-z9f",
                b"From: sip:caller@example.net;tag=231413434",
                b"Max-Forwards: 5",
                b"Call-ID: lwsruri.asdfasdoeoi2323-asdfwrn23-asd834rk423",
                b"CSeq: 2130706432 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKkdjuw2395",
                b"Contact: <sip:caller@host1.example.net>",
                b"Content-Type: application/sdp",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.2.9: several spaces in the request line. We refuse, as the RFC expects of most.
        case(
            "lwsstart",
            Answered(400),
            &[
                b"INVITE  sip:user@example.com  SIP/2.0",
                b"Max-Forwards: 8",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=8814",
                b"Call-ID: lwsstart.dfknq234oi243099adsdfnawe3@example.com",
                b"CSeq: 1893884 INVITE",
                b"Via: SIP/2.0/UDP host1.example.com;branch=z9hG4bKkdjuw3923",
                b"Contact: <sip:caller@host1.example.net>",
                b"Content-Type: application/sdp",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.2.10: white space behind the request line. We refuse this one too.
        case(
            "trws",
            Answered(400),
            &[
                b"OPTIONS sip:remote-target@example.com SIP/2.0  ",
                b"Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK299342093",
                b"To: <sip:remote-target@example.com>",
                b"From: <sip:local-resource@example.com>;tag=329429089",
                b"Call-ID: trws.oicu34958239neffasdhr2345r",
                b"Accept: application/sdp",
                b"CSeq: 238923 OPTIONS",
                b"Max-Forwards: 70",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.1.2.11: headers in the Request-URI. They could be left aside; refusing them leaves nothing to be obeyed later.
        case(
            "escruri",
            Answered(400),
            &[
                b"INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=341518",
                b"Max-Forwards: 7",
                b"Contact: <sip:caller@host39923.example.net>",
                b"Call-ID: escruri.23940-asdfhj-aje3br-234q098w-fawerh2q-h4n5",
                b"CSeq: 149209342 INVITE",
                b"Via: SIP/2.0/UDP host-of-the-hour.example.com;branch=z9hG4bKkdjuw",
                b"Content-Type: application/sdp",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.2.12: a time zone that Date does not know. We do not read Date, and may leave it aside.
        case(
            "baddate",
            Parses,
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=2234923",
                b"Max-Forwards: 70",
                b"Call-ID: baddate.239423mnsadf3j23lj42--sedfnm234",
                b"CSeq: 1392934 INVITE",
                b"Via: SIP/2.0/UDP host.example.com;branch=z9hG4bKkdjuw",
                b"Date: Fri, 01 Jan 2010 16:00:00 EST",
                b"Contact: <sip:caller@host5.example.net>",
                b"Content-Type: application/sdp",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.2.13: a Contact with headers that needs brackets and has none.
        case(
            "regbadct",
            Answered(400),
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:user@example.com;tag=998332",
                b"Max-Forwards: 70",
                b"Call-ID: regbadct.k345asrl3fdbv@10.0.0.1",
                b"CSeq: 1 REGISTER",
                b"Via: SIP/2.0/UDP 135.180.130.133:5060;branch=z9hG4bKkdjuw",
                b"Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.2.14: white space within the brackets.
        case(
            "badaspec",
            Answered(400),
            &[
                b"OPTIONS sip:user@example.org SIP/2.0",
                b"Via: SIP/2.0/UDP host4.example.com:5060;branch=z9hG4bKkdju43234",
                b"Max-Forwards: 70",
                b"From: \"Bell, Alexander\" <sip:a.g.bell@example.com>;tag=433423",
                b"To: \"Watson, Thomas\" < sip:t.watson@example.org >",
                b"Call-ID: badaspec.sdf0234n2nds0a099u23h3hnnw009cdkne3",
                b"Accept: application/sdp",
                b"CSeq: 3923239 OPTIONS",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.2.15: a comma in a display name without quotation marks.
        case(
            "baddn",
            Answered(400),
            &[
                b"OPTIONS sip:t.watson@example.org SIP/2.0",
                b"Via:     SIP/2.0/UDP c.example.com:5060;branch=z9hG4bKkdjuw",
                b"Max-Forwards:      70",
                b"From:    Bell, Alexander <sip:a.g.bell@example.com>;tag=43",
                b"To:      Watson, Thomas <sip:t.watson@example.org>",
                b"Call-ID: baddn.31415@c.example.com",
                b"Accept: application/sdp",
                b"CSeq:    3923239 OPTIONS",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.2.16: another version.
        case(
            "badvers",
            Answered(505),
            &[
                b"OPTIONS sip:t.watson@example.org SIP/7.0",
                b"Via:     SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw",
                b"Max-Forwards:     70",
                b"From:    A. Bell <sip:a.g.bell@example.com>;tag=qweoiqpe",
                b"To:      T. Watson <sip:t.watson@example.org>",
                b"Call-ID: badvers.31417@c.example.com",
                b"CSeq:    1 OPTIONS",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.2.17: CSeq with another method.
        case(
            "mismatch01",
            Answered(400),
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"To: sip:j.user@example.com",
                b"From: sip:caller@example.net;tag=34525",
                b"Max-Forwards: 6",
                b"Call-ID: mismatch01.dj0234sxdfl3",
                b"CSeq: 8 INVITE",
                b"Via: SIP/2.0/UDP host.example.com;branch=z9hG4bKkdjuw",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.2.18: the same with a method nobody knows, where 501 says more.
        case(
            "mismatch02",
            Answered(501),
            &[
                b"NEWMETHOD sip:user@example.com SIP/2.0",
                b"To: sip:j.user@example.com",
                b"From: sip:caller@example.net;tag=34525",
                b"Max-Forwards: 6",
                b"Call-ID: mismatch02.dj0234sxdfl3",
                b"CSeq: 8 INVITE",
                b"Contact: <sip:caller@host.example.net>",
                b"Via: SIP/2.0/UDP host.example.net;branch=z9hG4bKkdjuw",
                b"Content-Type: application/sdp",
                b"l: 150",
            ],
            SESSION,
        ),
        // §3.1.2.19: a status with too many digits, which 32 bits would make a 5.
        case(
            "bigcode",
            Dropped,
            &[
                b"SIP/2.0 4294967301 better not break the receiver",
                b"Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe",
                b"Call-ID: bigcode.asdof3uj203asdnf3429uasdhfas3ehjasdfas9i",
                b"CSeq: 353494 INVITE",
                b"From: <sip:user@example.com>;tag=39ansfi3",
                b"To: <sip:user@example.edu>;tag=902jndnke3",
                b"Content-Length: 0",
                b"Contact: <sip:user@host105.example.com>",
            ],
            b"",
        ),
    ]
}

#[test]
fn answers_carry_what_could_be_read() {
    for case in super::cases() {
        let Err(malformed) = parse_datagram(&case.bytes) else { continue };
        let Some(response) = malformed.response() else { continue };
        for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
            let ours: Vec<_> = response.headers.get_all(&name).collect();
            let theirs: Vec<_> = malformed.headers().get_all(&name).collect();
            assert_eq!(ours, theirs, "{}: {name}", case.name);
        }
        // The same request again, the same answer again.
        assert_eq!(parse_datagram(&case.bytes).unwrap_err().response(), Some(response), "{}", case.name);
    }
}

#[test]
fn answers_to_readable_requests_are_responses() {
    for name in
        ["clerr", "ncl", "ltgtruri", "lwsruri", "lwsstart", "trws", "escruri", "regbadct", "mismatch01", "mismatch02"]
    {
        let response = malformed(name).response().unwrap();
        let Ok(Message::Response(read)) = parse_datagram(&response.to_bytes()) else { panic!("{name}") };
        assert!(read.headers.to().unwrap().tag().is_some(), "{name}");
    }
}

#[test]
fn the_problem_is_named() {
    for (name, problem) in [
        ("clerr", Problem::BodyTooShort),
        ("ltgtruri", Problem::RequestUri),
        ("lwsruri", Problem::RequestLine),
        ("escruri", Problem::RequestUriHeaders),
        ("badvers", Problem::Version),
        ("mismatch02", Problem::MethodMismatch),
        ("bigcode", Problem::StatusLine),
    ] {
        assert_eq!(malformed(name).problem(), &problem, "{name}");
    }
}

#[test]
fn nobody_answers_an_ack() {
    let ack = String::from_utf8(super::find("quotbal").bytes).unwrap().replace("INVITE", "ACK");
    let malformed = parse_datagram(ack.as_bytes()).unwrap_err();
    assert_eq!((malformed.status(), malformed.response()), (None, None));
}
