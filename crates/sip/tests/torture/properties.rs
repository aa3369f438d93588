//! What holds for any bytes: nothing panics, printing and reading agree, and a stream yields the same however it is cut.

use proptest::prelude::*;
use proptest::sample::Index;
use sip::message::{
    HeaderName, Headers, Message, Method, Request, StreamItem, StreamParser, Uri, limits, mask_credentials,
    parse_datagram,
};

use crate::corpus::{cases, find};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// One thing done to a message on its way.
#[derive(Debug, Clone)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let tokens = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b",",
        b";",
        b"\"",
        b"<",
        b">",
        b"\\",
        b"%",
        b"%4",
        b"\x00",
        b"\xff",
        b":",
        b"=",
        b"@",
        b" ",
        b"\t",
        b"99999999999999999999",
        b"SIP/2.0",
        b"Content-Length: 3\r\n",
        b"*",
        b"[::1]",
        b"l:-1\r\n",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), tokens).prop_map(|(at, token)| Damage::Insert(at, token.to_vec())),
        (any::<Index>(), 0..40_u8).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<Index>(), 0..40_u8).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

fn damaged(mut bytes: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for damage in all {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::Insert(at, token) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, token.iter().copied());
            }
            Damage::Remove(at, count) => {
                let at = at.index(bytes.len());
                let end = (at + usize::from(*count)).min(bytes.len());
                bytes.drain(at..end);
            }
            Damage::Repeat(at, count) => {
                let at = at.index(bytes.len());
                let end = (at + usize::from(*count)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}

/// Asks for everything that can be asked for.
fn read_all(headers: &Headers) {
    let _ = (headers.from(), headers.to(), headers.cseq(), headers.call_id(), headers.vias(), headers.top_via());
    let _ =
        (headers.contacts(), headers.routes(), headers.record_routes(), headers.paths(), headers.asserted_identities());
    let _ = (headers.max_forwards(), headers.content_length(), headers.content_type(), headers.expires());
    let _ = (headers.require(), headers.supported(), headers.allow(), headers.retry_after(), headers.session_expires());
    let _ = (headers.min_se(), headers.reasons(), headers.rseq(), headers.rack(), headers.refer_to());
    for contact in headers.contacts().unwrap_or_default() {
        let _ =
            (contact.q_thousandths(), contact.expires(), contact.uri.user_text(), contact.uri.is_same(&contact.uri));
    }
}

proptest! {
    #![proptest_config(config(2048))]

    #[test]
    fn damaged_messages_do_no_harm(which in any::<Index>(), damage in prop::collection::vec(damage(), 0..8)) {
        let mut all = cases();
        let case = all.swap_remove(which.index(all.len()));
        let bytes = damaged(case.bytes, &damage);
        let _ = mask_credentials(&bytes);
        match parse_datagram(&bytes) {
            Ok(message) => {
                read_all(message.headers());
                // What we print we read again, and print the same.
                let printed = message.to_bytes();
                let again = parse_datagram(&printed);
                prop_assert!(again.is_ok(), "{:?} from {}", again, String::from_utf8_lossy(&printed));
                prop_assert_eq!(again.unwrap().to_bytes(), printed);
            }
            Err(malformed) => {
                read_all(malformed.headers());
                if let Some(response) = malformed.response() {
                    prop_assert!(response.to_bytes().starts_with(b"SIP/2.0 "));
                }
            }
        }
        let mut stream = StreamParser::new();
        stream.push(&bytes);
        for _ in 0..bytes.len() + 2 {
            if stream.take().is_none() {
                break;
            }
        }
        prop_assert!(stream.take().is_none());
    }

    #[test]
    fn values_come_back_byte_for_byte(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut request = usual_request();
        for value in values {
            // Line ends become spaces, and white space at the ends is not part of a value.
            let text: Vec<u8> = value.into_iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b'.' } else { byte }).collect();
            request.headers.push("X-Value", text.trim_ascii());
        }
        request.body = body;
        let Ok(Message::Request(mut read)) = parse_datagram(&request.to_bytes()) else { panic!("{request:?}") };
        read.headers.remove(HeaderName::ContentLength);
        prop_assert_eq!(read, request);
    }

    #[test]
    fn a_user_comes_back_whoever_it_is(user in "\\PC{1,20}", host in "[a-z]{1,10}(\\.[a-z]{1,5})?", port in prop::option::of(1..u16::MAX)) {
        let uri = Uri::sip(Some(&user), host.as_str(), port);
        let read: Uri = uri.to_string().parse().unwrap();
        prop_assert_eq!(read.user_text(), Some(user));
        prop_assert_eq!(read, uri);
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut(which in prop::collection::vec(any::<Index>(), 1..6), cuts in prop::collection::vec(1..700_usize, 1..20)) {
        let framed: Vec<_> = cases().into_iter().filter(|case| is_framed(case.name)).collect();
        let bytes: Vec<u8> = which.iter().flat_map(|index| framed[index.index(framed.len())].bytes.clone()).collect();
        let whole = taken(&[&bytes]);
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(taken(&pieces), whole);
    }
}

fn usual_request() -> Request {
    Request::new(Method::Options, "sip:a@b".parse().expect("a URI"))
        .with("Via", "SIP/2.0/TCP h;branch=z9hG4bK1")
        .with("From", "<sip:a@b>;tag=1")
        .with("To", "<sip:a@b>")
        .with("Call-ID", "1")
        .with("CSeq", "1 OPTIONS")
}

/// Whether a stream knows where the message ends.
fn is_framed(name: &str) -> bool {
    // A length beyond the end, a negative one, two of them, and none.
    !["clerr", "ncl", "mcl01", "inv2543", "dblreq"].contains(&name)
}

fn taken(pieces: &[&[u8]]) -> Vec<StreamItem> {
    let mut stream = StreamParser::new();
    let mut items = Vec::new();
    for piece in pieces {
        stream.push(piece);
        while let Some(item) = stream.take() {
            items.push(item);
        }
    }
    items
}

#[test]
fn a_bad_message_does_not_lose_the_next() {
    let good = usual_request();
    for case in cases().into_iter().filter(|case| is_framed(case.name)) {
        let items = taken(&[&case.bytes, &good.to_bytes()]);
        assert_eq!(items.len(), 2, "{}", case.name);
        assert!(
            matches!(&items[1], StreamItem::Message(Message::Request(request)) if request.method == Method::Options)
        );
        assert_eq!(matches!(items[0], StreamItem::Message(_)), parse_datagram(&case.bytes).is_ok(), "{}", case.name);
    }
}

#[test]
fn a_stream_without_lengths_is_lost() {
    for name in ["ncl", "mcl01", "inv2543"] {
        let mut stream = StreamParser::new();
        stream.push(&find(name).bytes);
        let Some(StreamItem::Lost(malformed)) = stream.take() else { panic!("{name}") };
        assert_eq!(malformed.status(), Some(400), "{name}");
        stream.push(&usual_request().to_bytes());
        assert!(stream.is_lost() && stream.take().is_none());
    }
    // A length beyond what has come is just not there yet.
    assert_eq!(taken(&[&find("clerr").bytes]), []);
    // Over a stream, what follows a body is the next message.
    assert_eq!(taken(&[&find("dblreq").bytes]).len(), 3);
}

#[test]
fn byte_by_byte_is_enough() {
    let bytes = [find("wsinv").bytes, find("quotbal").bytes, usual_request().to_bytes()].concat();
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(taken(&pieces), taken(&[&bytes]));
    assert_eq!(taken(&pieces).len(), 3);
}

#[test]
fn bare_line_feeds_are_line_ends() {
    let mut request = usual_request();
    request.body = b"hi".to_vec();
    let bytes = String::from_utf8(request.to_bytes()).unwrap().replace("\r\n", "\n").into_bytes();
    let read = parse_datagram(&bytes).unwrap();
    assert_eq!(read.body(), b"hi");
    assert_eq!(taken(&[&bytes, b"\n", &bytes]), [StreamItem::Message(read.clone()), StreamItem::Message(read)]);
}

#[test]
fn a_body_ends_where_its_length_says() {
    let mut bytes = usual_request().to_bytes();
    bytes.extend_from_slice(b"left over");
    assert_eq!(parse_datagram(&bytes).unwrap().body(), b"");
    let open = String::from_utf8(bytes).unwrap().replace("Content-Length: 0\r\n", "");
    assert_eq!(parse_datagram(open.as_bytes()).unwrap().body(), b"left over");
}

#[test]
fn keep_alives_are_told_apart() {
    let message = usual_request().to_bytes();
    assert_eq!(taken(&[b"\r\n\r\n"]), [StreamItem::Ping]);
    assert_eq!(taken(&[b"\r\n"]), [StreamItem::Pong]);
    assert_eq!(taken(&[b"\r", b"\n"]), [StreamItem::Pong]);
    // Half a ping looks like a pong until the other half comes.
    assert_eq!(taken(&[b"\r\n", b"\r\n"]), [StreamItem::Pong, StreamItem::Ping]);
    // Two pings are two, however they are cut.
    for cut in [&[&b"\r\n"[..], b"\r\n\r\n", b"\r\n"][..], &[b"\r\n", b"\r\n\r\n\r\n"], &[b"\r\n\r\n\r", b"\n\r\n"]] {
        let pings = taken(cut).into_iter().filter(|item| *item == StreamItem::Ping).count();
        assert_eq!(pings, 2, "{cut:?}");
    }
    let items = taken(&[&[b"\r\n\r\n", &message[..], b"\r\n\r\n"].concat()]);
    assert!(matches!(items[..], [StreamItem::Ping, StreamItem::Message(_), StreamItem::Ping]), "{items:?}");
    assert_eq!(parse_datagram(b"\r\n\r\n").unwrap_err().status(), None);
}

#[test]
fn memory_is_bounded() {
    // A head without end.
    let items = taken(&vec![&[b'x'; 4096][..]; 20]);
    assert!(matches!(items[..], [StreamItem::Lost(_)]), "{items:?}");
    // A reader that does not take.
    let mut stream = StreamParser::new();
    for _ in 0..2 * limits::STREAM_BYTES_MAX / 1000 {
        stream.push(&[b'\r'; 1000]);
    }
    assert!(matches!(stream.take(), Some(StreamItem::Lost(_))));
    // A body longer than we read is refused and skipped.
    let mut long = usual_request();
    long.body = vec![b'b'; limits::MESSAGE_BYTES_MAX + 1];
    let bytes = [long.to_bytes(), usual_request().to_bytes()].concat();
    let pieces: Vec<&[u8]> = bytes.chunks(1500).collect();
    let items = taken(&pieces);
    let [StreamItem::Malformed(refused), StreamItem::Message(_)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(refused.status(), Some(513));
}

#[test]
fn limits_hold() {
    let status = |request: &Request| parse_datagram(&request.to_bytes()).err().map(|malformed| malformed.status());
    let mut many = usual_request();
    for _ in many.headers.len()..limits::HEADERS_MAX - 1 {
        many.headers.push("X", "y");
    }
    assert_eq!(status(&many), None);
    many.headers.push("X", "y");
    assert_eq!(status(&many), Some(Some(400)));
    let with_value = |length: usize| usual_request().with("X", vec![b'y'; length]);
    assert_eq!(status(&with_value(limits::HEADER_BYTES_MAX)), None);
    assert_eq!(status(&with_value(limits::HEADER_BYTES_MAX + 1)), Some(Some(400)));
    let mut far = usual_request();
    far.uri.user = Some("a".repeat(limits::URI_BYTES_MAX));
    assert_eq!(status(&far), Some(Some(414)));
    let mut last = usual_request();
    last.headers.set("CSeq", "2147483647 OPTIONS");
    assert_eq!(status(&last), None);
    last.headers.set("CSeq", "2147483648 OPTIONS");
    assert_eq!(status(&last), Some(Some(400)));
}
