//! RFC 4475 §3.2 to §3.4: messages that are well formed and mean something odd, or come from before RFC 3261.

use sip::message::{HeaderName, Scheme};

use super::{Answered, Case, Parses, SESSION, case, malformed, request, response};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // §3.2.1: a branch of nothing but the cookie.
        case(
            "badbranch",
            Parses,
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.org;tag=33242",
                b"Max-Forwards: 3",
                b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK",
                b"Accept: application/sdp",
                b"Call-ID: badbranch.sadonfo23i420jv0as0derf3j3n",
                b"CSeq: 8 OPTIONS",
                b"l: 0",
            ],
            b"",
        ),
        // §3.3.1: no Call-ID, From and To.
        case(
            "insuf",
            Answered(400),
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"CSeq: 193942 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf",
                b"Content-Type: application/sdp",
                b"l: 150",
            ],
            SESSION,
        ),
        // §3.3.2: a Request-URI of a scheme nobody knows; 416 is for those above.
        case(
            "unkscm",
            Parses,
            &[
                b"OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=384",
                b"Max-Forwards: 3",
                b"Call-ID: unkscm.nasdfasser0q239nwsdfasdkl34",
                b"CSeq: 3923423 OPTIONS",
                b"Via: SIP/2.0/TCP host9.example.com;branch=z9hG4bKkdjuw39234",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.3.3: a scheme that others know.
        case(
            "novelsc",
            Parses,
            &[
                b"OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=384",
                b"Max-Forwards: 3",
                b"Call-ID: novelsc.asdfasser0q239nwsdfasdkl34",
                b"CSeq: 3923423 OPTIONS",
                b"Via: SIP/2.0/TCP host9.example.com;branch=z9hG4bKkdjuw39234",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.3.4: unknown schemes in headers.
        case(
            "unksm2",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"To: isbn:2983792873",
                b"From: <http://www.example.com>;tag=3234233",
                b"Call-ID: unksm2.daksdj@hyphenated-host.example.com",
                b"CSeq: 234902 REGISTER",
                b"Max-Forwards: 70",
                b"Via: SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKkdjuw",
                b"Contact: <name:John_Smith>",
                b"l: 0",
            ],
            b"",
        ),
        // §3.3.5: extensions nobody has; 420 is for those above.
        case(
            "bext01",
            Parses,
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"To: sip:j_user@example.com",
                b"From: sip:caller@example.net;tag=242etr",
                b"Max-Forwards: 6",
                b"Call-ID: bext01.0ha0isndaksdj",
                b"Require: nothingSupportsThis, nothingSupportsThisEither",
                b"Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis",
                b"CSeq: 8 OPTIONS",
                b"Via: SIP/2.0/TLS fold-and-staple.example.com;branch=z9hG4bKkdjuw",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.3.6: a body of an unknown type; 415 is for those above.
        case(
            "invut",
            Parses,
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"Contact: <sip:caller@host5.example.net>",
                b"To: sip:j.user@example.com",
                b"From: sip:caller@example.net;tag=8392034",
                b"Max-Forwards: 70",
                b"Call-ID: invut.0ha0isndaksdjadsfij34n23d",
                b"CSeq: 235448 INVITE",
                b"Via: SIP/2.0/UDP somehost.example.com;branch=z9hG4bKkdjuw",
                b"Content-Type: application/unknownformat",
                b"Content-Length: 40",
            ],
            b"<audio>\r\n <pcmu port=\"443\"/>\r\n</audio>\r\n",
        ),
        // §3.3.7: credentials of an unknown scheme.
        case(
            "regaut01",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"To: sip:j.user@example.com",
                b"From: sip:j.user@example.com;tag=87321hj23128",
                b"Max-Forwards: 8",
                b"Call-ID: regaut01.0ha0isndaksdj",
                b"CSeq: 9338 REGISTER",
                b"Via: SIP/2.0/TCP 192.0.2.253;branch=z9hG4bKkdjuw",
                b"Authorization: NoOneKnowsThisScheme opaque-data=here",
                b"Content-Length:0",
            ],
            b"",
        ),
        // §3.3.8: headers twice that may stand once, with different values.
        case(
            "multi01",
            Answered(400),
            &[
                b"INVITE sip:user@company.com SIP/2.0",
                b"Contact: <sip:caller@host25.example.net>",
                b"Via: SIP/2.0/UDP 192.0.2.25;branch=z9hG4bKkdjuw",
                b"Max-Forwards: 70",
                b"CSeq: 5 INVITE",
                b"Call-ID: multi01.98asdh@192.0.2.1",
                b"CSeq: 59 INVITE",
                b"Call-ID: multi01.98asdh@192.0.2.2",
                b"From: sip:caller@example.com;tag=3413415",
                b"To: sip:user@example.com",
                b"To: sip:other@example.net",
                b"From: sip:caller@example.net;tag=2923420123",
                b"Content-Type: application/sdp",
                b"l: 150",
                b"Contact: <sip:caller@host36.example.net>",
                b"Max-Forwards: 5",
            ],
            SESSION,
        ),
        // §3.3.9: two lengths that differ.
        case(
            "mcl01",
            Answered(400),
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bK293423",
                b"To: sip:user@example.com",
                b"From: sip:other@example.net;tag=3923942",
                b"Call-ID: mcl01.fhn2323orihawfdoa3o4r52o3irsdf",
                b"CSeq: 15932 OPTIONS",
                b"Content-Length: 13",
                b"Max-Forwards: 60",
                b"Content-Length: 5",
                b"Content-Type: text/plain",
            ],
            b"There's no way to know how many octets are supposed to be here.\r\n",
        ),
        // §3.3.10: a response whose top Via is somebody else's; the one who looks for its transaction drops it.
        case(
            "bcast",
            Parses,
            &[
                b"SIP/2.0 200 OK",
                b"Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923",
                b"Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23",
                b"Call-ID: bcast.0384840201234ksdfak3j2erwedfsASdf",
                b"CSeq: 35 INVITE",
                b"From: sip:user@example.com;tag=11141343",
                b"To: sip:user@example.edu;tag=2229",
                b"Content-Length: 150",
                b"Content-Type: application/sdp",
                b"Contact: <sip:user@host28.example.com>",
            ],
            SESSION,
        ),
        // §3.3.11: no hops left, which matters to proxies only.
        case(
            "zeromf",
            Parses,
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:caller@example.net;tag=3ghsd41",
                b"Call-ID: zeromf.jfasdlfnm2o2l43r5u0asdfas",
                b"CSeq: 39234321 OPTIONS",
                b"Via: SIP/2.0/UDP host1.example.com;branch=z9hG4bKkdjuw2349i",
                b"Max-Forwards: 0",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.3.12: an unknown parameter behind a Contact without brackets is the header's.
        case(
            "cparam01",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"Via: SIP/2.0/UDP saturn.example.com:5060;branch=z9hG4bKkdjuw",
                b"Max-Forwards: 70",
                b"From: sip:watson@example.com;tag=DkfVgjkrtMwaerKKpe",
                b"To: sip:watson@example.com",
                b"Call-ID: cparam01.70710@saturn.example.com",
                b"CSeq: 2 REGISTER",
                b"Contact: sip:+19725552222@gw1.example.net;unknownparam",
                b"l: 0",
            ],
            b"",
        ),
        // §3.3.13: within the brackets it is the URI's.
        case(
            "cparam02",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"Via: SIP/2.0/UDP saturn.example.com:5060;branch=z9hG4bKkdjuw",
                b"Max-Forwards: 70",
                b"From: sip:watson@example.com;tag=838293",
                b"To: sip:watson@example.com",
                b"Call-ID: cparam02.70710@saturn.example.com",
                b"CSeq: 3 REGISTER",
                b"Contact: <sip:+19725552222@gw1.example.net;unknownparam>",
                b"l: 0",
            ],
            b"",
        ),
        // §3.3.14: headers in a Contact, within brackets.
        case(
            "regescrt",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: sip:user@example.com;tag=8",
                b"Max-Forwards: 70",
                b"Call-ID: regescrt.k345asrl3fdbv@192.0.2.1",
                b"CSeq: 14398234 REGISTER",
                b"Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw",
                b"M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>",
                b"L:0",
            ],
            b"",
        ),
        // §3.3.15: an Accept that excludes session descriptions; 406 is for those above.
        case(
            "sdp01",
            Parses,
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                b"To: sip:j_user@example.com",
                b"Contact: <sip:caller@host15.example.net>",
                b"From: sip:caller@example.net;tag=234",
                b"Max-Forwards: 5",
                b"Call-ID: sdp01.ndaksdj9342dasdd",
                b"Accept: text/nobodyKnowsThis",
                b"CSeq: 8 INVITE",
                b"Via: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw",
                b"Content-Length: 150",
                b"Content-Type: application/sdp",
            ],
            SESSION,
        ),
        // §3.4.1: a request of RFC 2543: no tag, no branch, no Max-Forwards, no Content-Length.
        case(
            "inv2543",
            Parses,
            &[
                b"INVITE sip:UserB@example.com SIP/2.0",
                b"Via: SIP/2.0/UDP iftgw.example.com",
                b"From: <sip:+13035551111@ift.client.example.net;user=phone>",
                b"Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>",
                b"To: sip:+16505552222@ss1.example.net;user=phone",
                b"Call-ID: inv2543.1717@ift.client.example.com",
                b"CSeq: 56 INVITE",
                b"Content-Type: application/sdp",
            ],
            SESSION,
        ),
    ]
}

#[test]
fn a_bare_cookie_names_no_transaction() {
    assert!(!request("badbranch").headers.top_via().unwrap().has_unique_branch());
}

#[test]
fn what_is_missing_is_left_out_of_the_answer() {
    let malformed = malformed("insuf");
    let names: Vec<_> = malformed.headers().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, [HeaderName::Via, HeaderName::CSeq]);
}

#[test]
fn unknown_schemes_are_uris() {
    assert_eq!(request("unkscm").uri.scheme, Scheme::Other("nobodyKnowsThisScheme".to_owned()));
    assert_eq!(request("novelsc").uri.to_string(), "soap.beep://192.0.2.103:3002");
    let registration = request("unksm2");
    assert_eq!(registration.headers.to().unwrap().uri.to_string(), "isbn:2983792873");
    assert_eq!(registration.headers.contacts().unwrap()[0].uri.to_string(), "name:John_Smith");
}

#[test]
fn those_above_find_what_they_need() {
    let extensions = request("bext01");
    assert_eq!(extensions.headers.require().unwrap(), ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert_eq!(extensions.headers.proxy_require().unwrap().len(), 2);
    assert_eq!(request("invut").headers.content_type().unwrap().unwrap().media, "application/unknownformat");
    assert_eq!(request("zeromf").headers.max_forwards(), Ok(Some(0)));
    assert_eq!(request("sdp01").headers.get("accept"), Some(&b"text/nobodyKnowsThis"[..]));
    assert_eq!(response("bcast").headers.vias().unwrap().len(), 2);
}

#[test]
fn parameters_belong_to_the_right_one() {
    let bare = &request("cparam01").headers.contacts().unwrap()[0];
    assert!(bare.params.has("unknownparam") && !bare.uri.params.has("unknownparam"));
    let bracketed = &request("cparam02").headers.contacts().unwrap()[0];
    assert!(!bracketed.params.has("unknownparam") && bracketed.uri.params.has("unknownparam"));
    let escaped = &request("regescrt").headers.contacts().unwrap()[0];
    assert_eq!(escaped.uri.headers.as_deref(), Some("Route=%3Csip:sip.example.com%3E"));
}

#[test]
fn the_old_kind_of_request_is_served() {
    let old = request("inv2543");
    assert_eq!(old.body, SESSION);
    assert_eq!(old.headers.top_via().unwrap().branch(), None);
    assert_eq!(old.headers.from().unwrap().tag(), None);
    assert_eq!(old.headers.record_routes().unwrap().len(), 1);
}
