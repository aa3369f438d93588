//! RFC 4475 §3.1.1: valid messages, however they look.

use sip::message::{HeaderName, Host, Message, Method, TransportName, parse_datagram};

use super::{Case, Parses, SESSION, case, request, response};

pub(crate) fn cases() -> Vec<Case> {
    let long = |word: &str, times: usize| word.repeat(times);
    vec![
        // §3.1.1.1: folding, white space wherever the grammar lets it be, odd case, leading zeros, compact names.
        case(
            "wsinv",
            Parses,
            &[
                b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0",
                b"TO :",
                b" sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n",
                b"from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>",
                b"  ;",
                b"  tag = 98asjd8",
                b"MaX-fOrWaRdS: 0068",
                b"Call-ID: wsinv.ndaksdj@192.0.2.1",
                b"Content-Length   : 150",
                b"cseq: 0009",
                b"  INVITE",
                b"Via  : SIP  /   2.0",
                b" /UDP",
                b"    192.0.2.2;branch=390skdjuw",
                b"s :",
                b"NewFangledHeader:   newfangled value",
                b" continued newfangled value",
                b"UnknownHeaderWithUnusualValue: ;;,,;;,;",
                b"Content-Type: application/sdp",
                b"Route:",
                b" <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
                b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;",
                b"  branch  =   z9hG4bK9ikj8  ,",
                b" SIP  /    2.0   / UDP  192.168.255.111   ; branch=",
                b" z9hG4bK30239",
                b"m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =",
                b"      newvalue ;",
                b"  secondparam ; q = 0.33",
            ],
            SESSION,
        ),
        // §3.1.1.2: every byte that a method, a user part, a quoted string, a token and a header name may hold.
        case(
            "intmeth",
            Parses,
            &[
                b"!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0",
                b"Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~",
                b"To: \"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>",
                b"From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"\xd1\x80\xd0\xb0\xd0\xb1\xd0\xbe\xd1\x82\xd0\xb0\xd1\x8e\xd1\x89\xd0\xb8\xd0\xb9\";tag=_token~1'+`*%!-.",
                b"Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
                b"CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~",
                b"Max-Forwards: 255",
                b"extensionHeader-!.%*+_`'~:\xef\xbb\xbf\xe5\xa4\xa7\xe5\x81\x9c\xe9\x9b\xbb",
                b"Content-Length: 0",
            ],
            b"",
        ),
        // §3.1.1.3: an escaped `@` and `:` in the user part.
        case(
            "esc01",
            Parses,
            &[
                b"INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
                b"To: sip:%75se%72@example.com",
                b"From: <sip:I%20have%20spaces@example.net>;tag=938",
                b"Max-Forwards: 87",
                b"i: esc01.239409asdfakjkn23onasd0-3234",
                b"CSeq: 234234 INVITE",
                b"Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw",
                b"C: application/sdp",
                b"Contact:",
                b"  <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>",
                b"Content-Length: 150",
            ],
            SESSION,
        ),
        // §3.1.1.4: escaped zeros are bytes like any other.
        case(
            "escnull",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"To: sip:null-%00-null@example.com",
                b"From: sip:null-%00-null@example.com;tag=839923423",
                b"Max-Forwards: 70",
                b"Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd",
                b"CSeq: 14398234 REGISTER",
                b"Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw",
                b"Contact: <sip:%00@host5.example.com>",
                b"Contact: <sip:%00%00@host5.example.com>",
                b"L:0",
            ],
            b"",
        ),
        // §3.1.1.5: a percent sign in a method escapes nothing, nor in a display name.
        case(
            "esc02",
            Parses,
            &[
                b"RE%47IST%45R sip:registrar.example.com SIP/2.0",
                b"To: \"%Z%45\" <sip:resource@example.com>",
                b"From: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23",
                b"Call-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf",
                b"Via: SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234",
                b"CSeq: 29344 RE%47IST%45R",
                b"Max-Forwards: 70",
                b"Contact: <sip:alias1@host1.example.com>",
                b"C%6Fntact: <sip:alias2@host2.example.com>",
                b"Contact: <sip:alias3@host3.example.com>",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.1.6: no white space between display name and bracket.
        case(
            "lwsdisp",
            Parses,
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: caller<sip:caller@example.com>;tag=323",
                b"Max-Forwards: 70",
                b"Call-ID: lwsdisp.1234abcd@funky.example.com",
                b"CSeq: 60 OPTIONS",
                b"Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.1.7: long values of everything, and many Via.
        case(
            "longreq",
            Parses,
            &[
                b"INVITE sip:user@example.com SIP/2.0",
                format!(
                    "To: \"I have a user name of {} proportion\"<sip:user@example.com:6000;unknownparam1=very{}value;{}paramname=shortvalue;very{}ParameterNameWithNoValue>",
                    long("extreme", 40), long("long", 60), long("longparam", 30), long("long", 40)
                ).as_bytes(),
                format!(
                    "F: sip:{}callername@example.net;tag=12{}424;unknownheaderparam{}name=unknown{}value;unknownValueless{}paramname",
                    long("amazinglylong", 20), long("982", 50), long("long", 30), long("long", 30), long("long", 30)
                ).as_bytes(),
                format!("Call-ID: longreq.one{}longcallid", long("really", 40)).as_bytes(),
                b"CSeq: 3882340 INVITE",
                format!("Unknown-{}-Name: unknown-{}-value; unknown-{}-parameter-name = unknown-{}-parameter-value",
                    long("Long", 40), long("long", 40), long("long", 40), long("long", 40)).as_bytes(),
                b"Via: SIP/2.0/TCP sip33.example.com",
                b"v: SIP/2.0/TCP sip32.example.com",
                b"V: SIP/2.0/TCP sip31.example.com",
                long("Via: SIP/2.0/TCP sip30.example.com\r\n", 30).trim_end().as_bytes(),
                format!("Via: SIP/2.0/TCP host.example.com;received=192.0.2.5;branch=very{}branchvalue", long("long", 60)).as_bytes(),
                b"Max-Forwards: 70",
                format!("Contact: <sip:{}contact@host5.example.net>", long("amazinglylong", 30)).as_bytes(),
                b"Content-Type: application/sdp",
                b"l: 150",
            ],
            SESSION,
        ),
        // §3.1.1.8: what follows the body of a datagram is no message.
        case(
            "dblreq",
            Parses,
            &[
                b"REGISTER sip:example.com SIP/2.0",
                b"To: sip:j.user@example.com",
                b"From: sip:j.user@example.com;tag=43251j3j324",
                b"Max-Forwards: 8",
                b"I: dblreq.0ha0isndaksdj99sdfafnl3lk233412",
                b"Contact: sip:j.user@host.example.com",
                b"CSeq: 8 REGISTER",
                b"Via: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492",
                b"Content-Length: 0",
            ],
            b"\r\nINVITE sip:joe@example.com SIP/2.0\r\nt: sip:joe@example.com\r\n\
              From: sip:caller@example.net;tag=141334\r\nMax-Forwards: 8\r\n\
              Call-ID: dblreq.0ha0isnda977644900765@192.0.2.15\r\nCSeq: 8 INVITE\r\n\
              Via: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw380234\r\nContent-Type: application/sdp\r\n\
              Content-Length: 0\r\n\r\n",
        ),
        // §3.1.1.9: parameters in the user part.
        case(
            "semiuri",
            Parses,
            &[
                b"OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0",
                b"To: sip:j_user@example.com",
                b"From: sip:caller@example.org;tag=33242",
                b"Max-Forwards: 3",
                b"Call-ID: semiuri.0ha0isndaksdj",
                b"CSeq: 8 OPTIONS",
                b"Accept: application/sdp, application/pkcs7-mime,",
                b"        multipart/mixed, multipart/signed,",
                b"        message/sip, message/sipfrag",
                b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.1.10: transports known and unknown.
        case(
            "transports",
            Parses,
            &[
                b"OPTIONS sip:user@example.com SIP/2.0",
                b"To: sip:user@example.com",
                b"From: <sip:caller@example.com>;tag=323",
                b"Max-Forwards: 70",
                b"Call-ID:  transports.kijh4akdnaqjkwendsasfdj",
                b"Accept: application/sdp",
                b"CSeq: 60 OPTIONS",
                b"Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw",
                b"Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf",
                b"Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj",
                b"Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en",
                b"Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee",
                b"l: 0",
            ],
            b"",
        ),
        // §3.1.1.11: a body in parts, one of them binary.
        case(
            "mpart01",
            Parses,
            &[
                b"MESSAGE sip:kumiko@example.org SIP/2.0",
                b"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-;rport",
                b"Max-Forwards: 70",
                b"Route: <sip:127.0.0.1:5080>",
                b"Identity: r5mwreLuyDRYBi/0TiPwEsY3rEVsk/G2WxhgTV1PF7hHuLIK0YWVKZhKv9Mj8UeXqkMVbnVq37CD+813gvYjcBUaZngQmXc9WNZSDNGCzA+fWl9MEUHWIZo1CeJebdY/XlgKeTa0Olvq0rt70Q5jiSfbqMJmQFteeivUhkMWYUA=",
                b"Contact: <sip:fluffy@127.0.0.1:5070>",
                b"To: <sip:kumiko@example.org>",
                b"From: <sip:fluffy@example.com>;tag=2fb0dcc9",
                b"Call-ID: 3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..",
                b"CSeq: 1 MESSAGE",
                b"Content-Transfer-Encoding: binary",
                b"Content-Type: multipart/mixed;boundary=7a9cbec02ceef655",
                b"Date: Sat, 15 Oct 2005 04:44:56 GMT",
                b"User-Agent: SIPimp.org/0.2.5 (curses)",
                b"Content-Length: 189",
            ],
            b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nHello\r\n\
              --7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\n\r\n\x30\x82\x01\x52\x00\xff\r\n\x0d\x0a\x0a\x00\xfe\r\n\
              --7a9cbec02ceef655--\r\n",
        ),
        // §3.1.1.12: a reason phrase in several scripts.
        case(
            "unreason",
            Parses,
            &[
                "SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e} \u{441}\u{442}\u{43e} \u{434}\u{435}\u{432}\u{44f}\u{43d}\u{43e}\u{441}\u{442}\u{43e} \u{434}\u{435}\u{432}\u{44f}\u{442}\u{44c} - \u{43f}\u{440}\u{43e}\u{441}\u{442}\u{43e}\u{435}".as_bytes(),
                b"Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923",
                b"Call-ID: unreason.1234ksdfak3j2erwedfsASdf",
                b"CSeq: 35 INVITE",
                b"From: sip:user@example.com;tag=11141343",
                b"To: sip:user@example.edu;tag=2229",
                b"Content-Length: 150",
                b"Content-Type: application/sdp",
                b"Contact: <sip:user@host198.example.com>",
            ],
            SESSION,
        ),
        // §3.1.1.13: an empty reason phrase.
        case(
            "noreason",
            Parses,
            &[
                b"SIP/2.0 100 ",
                b"Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe",
                b"Call-ID: noreason.asndj203insdf99223ndf",
                b"CSeq: 35 INVITE",
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
fn white_space_hides_nothing() {
    let request = request("wsinv");
    let headers = &request.headers;
    assert_eq!(headers.to().unwrap().tag(), Some("1918181833n"));
    let from = headers.from().unwrap();
    assert_eq!((from.display.as_deref(), from.tag()), (Some(&b"J Rosenberg \\\""[..]), Some("98asjd8")));
    assert_eq!(headers.max_forwards(), Ok(Some(68)));
    assert_eq!(headers.cseq().unwrap().number, 9);
    let vias = headers.vias().unwrap();
    let branches: Vec<_> = vias.iter().map(|via| via.branch().unwrap()).collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert_eq!(vias[1].transport, TransportName::Tcp);
    assert_eq!(headers.get("NewFangledHeader"), Some(&b"newfangled value continued newfangled value"[..]));
    assert_eq!(headers.get("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
    assert_eq!(headers.get(HeaderName::Subject), Some(&b""[..]));
    let contact = &headers.contacts().unwrap()[0];
    assert_eq!(contact.display.as_deref(), Some(&b"Quoted string \"\""[..]));
    assert_eq!((contact.q_thousandths(), contact.params.get("newparam")), (330, Some("newvalue")));
    assert!(headers.routes().unwrap()[0].uri.is_loose_router());
    assert_eq!(request.body.len(), 150);
}

#[test]
fn every_legal_byte_comes_through() {
    let request = request("intmeth");
    assert_eq!(request.method, Method::Other("!interesting-Method0123456789_*+`.%indeed'~".to_owned()));
    assert_eq!(request.uri.user.as_deref(), Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    assert_eq!(request.uri.password.as_deref(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(request.uri.host, Host::Domain("example.com".to_owned()));
    let to = request.headers.to().unwrap();
    assert_eq!(to.display.as_deref(), Some(&b"BEL:\x07 NUL:\x00 DEL:\x7f"[..]));
    assert_eq!(request.headers.from().unwrap().tag(), Some("_token~1'+`*%!-."));
    assert_eq!(request.headers.get("extensionHeader-!.%*+_`'~").unwrap().len(), 12);
}

#[test]
fn escapes_stay_where_they_are() {
    let escaped = request("esc01");
    assert_eq!(escaped.uri.user_text().as_deref(), Some("sips:user@example.com"));
    assert_eq!(escaped.headers.to().unwrap().uri.user_text().as_deref(), Some("user"));
    // An escaped `lr` is the parameter `%6C%72`; comparing names without escapes is for those who wish.
    assert!(escaped.headers.contacts().unwrap()[0].uri.params.has("%6C%72"));
    let zeros = request("escnull").headers.contacts().unwrap();
    assert_eq!((zeros.len(), zeros[1].uri.user_text().as_deref()), (2, Some("\0\0")));
    assert!(!zeros[0].uri.is_same(&zeros[1].uri));
    let method = request("esc02");
    assert_eq!(method.method.as_str(), "RE%47IST%45R");
    assert_eq!(method.headers.contacts().unwrap().len(), 2);
    assert_eq!(request("semiuri").uri.user.as_deref(), Some("user;par=u%40example.net"));
}

#[test]
fn long_values_are_whole() {
    let request = request("longreq");
    assert_eq!(request.headers.vias().unwrap().len(), 34);
    assert_eq!(request.headers.to().unwrap().uri.port, Some(6000));
    assert_eq!(request.body.len(), 150);
}

#[test]
fn one_datagram_is_one_message() {
    let request = request("dblreq");
    assert_eq!(request.method, Method::Register);
    assert!(request.body.is_empty());
}

#[test]
fn transports_and_parts_are_read() {
    let transports: Vec<_> =
        request("transports").headers.vias().unwrap().into_iter().map(|via| via.transport).collect();
    assert_eq!(transports[1], TransportName::Sctp);
    assert_eq!(transports[3], TransportName::Other("UNKNOWN".to_owned()));
    let parts = request("mpart01");
    assert_eq!(parts.headers.content_type().unwrap().unwrap().media, "multipart/mixed");
    assert!(parts.body.ends_with(b"--7a9cbec02ceef655--\r\n"));
    assert_eq!(request("lwsdisp").headers.from().unwrap().display.as_deref(), Some(&b"caller"[..]));
}

#[test]
fn reasons_are_bytes() {
    let spoken = response("unreason");
    assert!(
        std::str::from_utf8(&spoken.reason).unwrap().ends_with("\u{43f}\u{440}\u{43e}\u{441}\u{442}\u{43e}\u{435}")
    );
    assert_eq!(response("noreason").reason, b"");
    assert!(spoken.to_bytes().starts_with(b"SIP/2.0 200 = 2**3 * 5**2 "));
}

#[test]
fn what_parses_prints_and_parses_to_the_same() {
    for case in super::cases() {
        let Ok(message) = parse_datagram(&case.bytes) else { continue };
        let printed = message.to_bytes();
        let mut again = parse_datagram(&printed).unwrap();
        if message.headers().content_length() == Ok(None) {
            match &mut again {
                Message::Request(request) => request.headers.remove(HeaderName::ContentLength),
                Message::Response(response) => response.headers.remove(HeaderName::ContentLength),
            }
        }
        assert_eq!(message, again, "{}", case.name);
    }
}
