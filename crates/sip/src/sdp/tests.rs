//! What real phones say, and two of us talking to each other.

use std::net::IpAddr;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn local() -> LocalMedia {
    LocalMedia::new(HERE, 20000, 77)
}

fn answering(offer: &str) -> Result<(String, Agreed), NegotiationError> {
    let (answer, agreed) = Negotiation::new(local()).answer(offer.as_bytes())?;
    Ok((String::from_utf8(answer).unwrap(), agreed))
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

/// An offer of one audio line, with everything after its port.
fn audio(rest: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\nm=audio 4000 {rest}")
}

#[test]
fn our_offer_reads_well() {
    let offer = String::from_utf8(Negotiation::new(local()).offer()).unwrap();
    assert_eq!(
        offer,
        "v=0\r\no=- 77 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 96 9 0 8 101 102\r\n\
         a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=rtpmap:102 telephone-event/48000\r\na=fmtp:102 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    );
}

#[test]
fn two_of_us_agree() {
    let mut caller = Negotiation::new(local());
    let mut callee = Negotiation::new(LocalMedia::new("192.0.2.2".parse().unwrap(), 30000, 5));
    let (answer, theirs) = callee.answer(&caller.offer()).unwrap();
    assert!(caller.is_offer_pending());
    let ours = caller.accept_answer(&answer).unwrap();
    assert!(!caller.is_offer_pending());
    assert_eq!((ours.codec, theirs.codec), (CodecName::Opus, CodecName::Opus));
    assert_eq!(ours.remote, "192.0.2.2:30000".parse().unwrap());
    assert_eq!(theirs.remote_rtcp, "192.0.2.1:20001".parse().unwrap());
    let event = TelephoneEvent { payload_type_send: 102, payload_type_receive: 102, clock: 48000 };
    assert_eq!(ours.telephone_event, Some(event));
    assert_eq!(ours.fmtp.as_deref(), Some("useinbandfec=1"));
}

#[test]
fn their_numbers_are_kept() {
    let offer = audio("RTP/AVP 111 0 97\r\na=rtpmap:111 OPUS/48000/2\r\na=rtpmap:97 telephone-event/48000\r\n");
    let (answer, agreed) = answering(&offer).unwrap();
    assert_eq!(lines(&answer, "m="), ["m=audio 20000 RTP/AVP 111 97"]);
    assert_eq!((agreed.payload_type_send, agreed.payload_type_receive), (111, 111));
    assert_eq!(agreed.telephone_event.map(|event| event.payload_type_send), Some(97));
}

#[test]
fn each_sends_with_the_numbers_of_the_other() {
    let mut caller = Negotiation::new(local());
    caller.offer();
    let answer =
        audio("RTP/AVP 120 8 99\r\na=rtpmap:120 opus/48000/2\r\na=rtpmap:99 telephone-event/8000\r\na=ptime:40\r\n");
    let agreed = caller.accept_answer(answer.as_bytes()).unwrap();
    assert_eq!((agreed.payload_type_send, agreed.payload_type_receive), (120, 96));
    assert_eq!(agreed.receivable, [(96, CodecName::Opus), (8, CodecName::Pcma)]);
    let event = TelephoneEvent { payload_type_send: 99, payload_type_receive: 101, clock: 8000 };
    assert_eq!(agreed.telephone_event, Some(event));
    assert_eq!(agreed.ptime_ms, 40);
}

#[test]
fn preference_is_theirs_or_ours() {
    let offer = audio("RTP/AVP 8 0 9\r\n");
    assert_eq!(answering(&offer).unwrap().1.codec, CodecName::Pcma);
    let ours = LocalMedia { preference: Preference::Ours, ..local() };
    assert_eq!(Negotiation::new(ours).answer(offer.as_bytes()).unwrap().1.codec, CodecName::G722);
}

#[test]
fn real_world_descriptions_are_read() {
    let codec = |offer: &str| answering(offer).map(|(_, agreed)| agreed.codec);
    // Bare line feeds, no s= and t=, no o=, a trailing empty line.
    assert_eq!(codec("v=0\nc=IN IP4 203.0.113.5\nm=audio 4000 RTP/AVP 0\n\n"), Ok(CodecName::Pcmu));
    // Double and trailing spaces, an unknown line, bandwidth nobody can read, a session name in Latin-1.
    let odd = b"v=0 \r\no=x 1  1 IN IP4 203.0.113.5\r\ns=J\xf6rg\r\nb=what\r\ny=1\r\nc=IN  IP4 203.0.113.5\r\nt=now\r\nm=audio  4000  RTP/AVP  9   0 \r\n";
    assert_eq!(Negotiation::new(local()).answer(odd).unwrap().1.codec, CodecName::G722);
    // A session id and version beyond 64 bits.
    let huge = "v=0\r\no=- 99999999999999999999999 99999999999999999999999 IN IP4 h\r\nc=IN IP4 203.0.113.5\r\nm=audio 4000 RTP/AVP 8\r\n";
    assert_eq!(codec(huge), Ok(CodecName::Pcma));
    // A wrong clock is another codec, and Opus with one channel is still Opus.
    assert_eq!(
        codec(&audio("RTP/AVP 97 98\r\na=rtpmap:97 PCMU/16000\r\na=rtpmap:98 opus/48000\r\n")),
        Ok(CodecName::Opus)
    );
    // The profile with feedback, echoed.
    let (answer, _) = answering(&audio("RTP/AVPF 0\r\n")).unwrap();
    assert_eq!(lines(&answer, "m="), ["m=audio 20000 RTP/AVPF 0"]);
    // Keys over plain RTP: SRTP is wished for, not demanded.
    assert_eq!(codec(&audio("RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\n")), Ok(CodecName::Pcmu));
}

#[test]
fn other_lines_are_refused_in_place() {
    let offer = format!(
        "{}m=image 5000 udptl t38\r\nm=video 6000 RTP/AVP 97 98\r\nm=audio 7000 RTP/AVP 8\r\n",
        audio("RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\n")
    );
    let (answer, agreed) = answering(&offer).unwrap();
    assert_eq!(
        lines(&answer, "m="),
        ["m=audio 0 RTP/SAVP 0", "m=image 0 udptl t38", "m=video 0 RTP/AVP 97 98", "m=audio 20000 RTP/AVP 8"]
    );
    assert_eq!(agreed.remote.port(), 7000);
}

#[test]
fn what_cannot_be_agreed_says_why() {
    let status = |offer: &str| answering(offer).map_err(|error| error.status()).map(|(_, agreed)| agreed);
    for (offer, expected) in [
        (audio("RTP/AVP 18\r\n"), 488),
        (audio("RTP/SAVP 0\r\n"), 488),
        ("v=0\r\nc=IN IP4 203.0.113.5\r\nm=image 5000 udptl t38\r\n".to_owned(), 488),
        ("v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio 0 RTP/AVP 0\r\n".to_owned(), 488),
        ("v=0\r\nm=audio 4000 RTP/AVP 0\r\n".to_owned(), 400),
        ("hello".to_owned(), 400),
        (String::new(), 400),
        ("v=0\r\nc=IN IP6 2001:db8::5\r\nm=audio 4000 RTP/AVP 0\r\n".to_owned(), 606),
        ("v=0\r\nc=IN IP4 224.2.1.1/127\r\nm=audio 4000 RTP/AVP 0\r\n".to_owned(), 606),
        ("v=0\r\nc=IN IP4 pc33.example.com\r\nm=audio 4000 RTP/AVP 0\r\n".to_owned(), 606),
        (format!("v=0\r\nc=IN IP4 1.2.3.4\r\n{}", "m=audio 4000 RTP/AVP 0\r\n".repeat(33)), 400),
    ] {
        assert_eq!(status(&offer), Err(expected), "{offer}");
    }
}

#[test]
fn a_host_name_is_where_the_peer_is() {
    let local = LocalMedia { peer: "198.51.100.9".parse().ok(), ..local() };
    let offer = b"v=0\r\nc=IN IP4 pc33.example.com\r\nm=audio 4000 RTP/AVP 0\r\n";
    assert_eq!(Negotiation::new(local).answer(offer).unwrap().1.remote, "198.51.100.9:4000".parse().unwrap());
}

#[test]
fn rtcp_goes_where_it_is_wanted() {
    let rtcp = |rest: &str| answering(&audio(rest)).unwrap().1.remote_rtcp.to_string();
    assert_eq!(rtcp("RTP/AVP 0\r\n"), "203.0.113.5:4001");
    assert_eq!(rtcp("RTP/AVP 0\r\na=rtcp:4444\r\n"), "203.0.113.5:4444");
    assert_eq!(rtcp("RTP/AVP 0\r\na=rtcp:4444 IN IP4 203.0.113.6\r\n"), "203.0.113.6:4444");
    let mut negotiation = Negotiation::new(LocalMedia { rtcp_mux: true, ..local() });
    let (answer, agreed) = negotiation.answer(audio("RTP/AVP 0\r\na=rtcp-mux\r\n").as_bytes()).unwrap();
    assert!(agreed.rtcp_mux && agreed.remote_rtcp == agreed.remote);
    assert_eq!(lines(std::str::from_utf8(&answer).unwrap(), "a=rtcp-mux").len(), 1);
}

#[test]
fn holds_are_understood() {
    let held = |rest: &str| {
        let (answer, agreed) = answering(rest).unwrap();
        (agreed.direction, lines(&answer, "a=").last().copied().unwrap_or_default().to_owned())
    };
    assert_eq!(held(&audio("RTP/AVP 0\r\na=sendonly\r\n")), (Direction::RecvOnly, "a=recvonly".to_owned()));
    assert_eq!(held(&audio("RTP/AVP 0\r\na=inactive\r\n")), (Direction::Inactive, "a=inactive".to_owned()));
    assert_eq!(held(&audio("RTP/AVP 0\r\na=recvonly\r\n")), (Direction::SendOnly, "a=sendonly".to_owned()));
    // The old kind, and a direction for the whole session.
    let old = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 4000 RTP/AVP 0\r\n";
    assert_eq!(held(old), (Direction::RecvOnly, "a=recvonly".to_owned()));
    let session = "v=0\r\nc=IN IP4 203.0.113.5\r\na=inactive\r\nm=audio 4000 RTP/AVP 0\r\n";
    assert_eq!(held(session).0, Direction::Inactive);
    let overruled = "v=0\r\nc=IN IP4 203.0.113.5\r\na=inactive\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n";
    assert_eq!(held(overruled).0, Direction::SendRecv);
}

#[test]
fn hold_and_resume_change_only_what_they_must() {
    let mut caller = Negotiation::new(local());
    let mut callee = Negotiation::new(LocalMedia::new("192.0.2.2".parse().unwrap(), 30000, 5));
    let version = |body: &[u8]| SessionDescription::parse(body).unwrap().version;
    let first = caller.offer();
    let (answer, _) = callee.answer(&first).unwrap();
    caller.accept_answer(&answer).unwrap();
    // A refresh is the same description with the same version, and so is the answer to it.
    let refresh = caller.offer();
    assert_eq!(refresh, first);
    assert_eq!(callee.answer(&refresh).unwrap().0, answer);
    caller.accept_answer(&answer).unwrap();
    // Hold.
    caller.set_direction(Direction::SendOnly);
    let hold = caller.offer();
    assert_eq!((version(&first), version(&hold)), (1, 2));
    let (held, theirs) = callee.answer(&hold).unwrap();
    assert_eq!(theirs.direction, Direction::RecvOnly);
    assert_eq!(caller.accept_answer(&held).unwrap().direction, Direction::SendOnly);
    assert_eq!(version(&held), 2);
    // Resume.
    caller.set_direction(Direction::SendRecv);
    let (resumed, theirs) = callee.answer(&caller.offer()).unwrap();
    assert_eq!(theirs.direction, Direction::SendRecv);
    assert_eq!(caller.accept_answer(&resumed).unwrap().direction, Direction::SendRecv);
    assert_eq!(version(&resumed), 3);
    // The one who was called offers the lines and numbers of the session.
    let offer = callee.offer();
    assert_eq!(lines(std::str::from_utf8(&offer).unwrap(), "m="), ["m=audio 30000 RTP/AVP 96 102"]);
    assert_eq!(offer, resumed);
}

#[test]
fn a_refused_offer_leaves_the_session() {
    let mut caller = Negotiation::new(local());
    caller.offer();
    let agreed = caller.accept_answer(audio("RTP/AVP 0\r\n").as_bytes()).unwrap();
    caller.set_direction(Direction::Inactive);
    caller.offer();
    assert_eq!(caller.answer(audio("RTP/AVP 0\r\n").as_bytes()).unwrap_err(), NegotiationError::OfferPending);
    caller.withdraw_offer();
    assert_eq!(caller.agreed(), Some(&agreed));
    assert_eq!(caller.accept_answer(audio("RTP/AVP 0\r\n").as_bytes()), Err(NegotiationError::NoOffer));
    assert!(caller.answer(audio("RTP/AVP 0\r\n").as_bytes()).is_ok());
}

#[test]
fn early_media_may_be_answered_again() {
    let mut caller = Negotiation::new(local());
    caller.offer();
    assert_eq!(caller.accept_answer(audio("RTP/AVP 0\r\n").as_bytes()).unwrap().codec, CodecName::Pcmu);
    assert_eq!(caller.accept_answer(audio("RTP/AVP 8\r\n").as_bytes()).unwrap().codec, CodecName::Pcma);
}

#[test]
fn answers_that_do_not_fit_are_errors() {
    let answered = |answer: &str| {
        let mut caller = Negotiation::new(local());
        caller.offer();
        caller.accept_answer(answer.as_bytes()).unwrap_err()
    };
    assert_eq!(answered("v=0\r\nc=IN IP4 1.2.3.4\r\nm=audio 0 RTP/AVP 0\r\n"), NegotiationError::Refused);
    assert_eq!(answered("v=0\r\nc=IN IP4 1.2.3.4\r\nm=video 9 RTP/AVP 0\r\n"), NegotiationError::AnswerMismatch);
    assert_eq!(answered("v=0\r\nc=IN IP4 1.2.3.4\r\n"), NegotiationError::AnswerMismatch);
    assert_eq!(answered(&audio("RTP/AVP 18\r\n")), NegotiationError::NoCommonCodec);
    assert_eq!(answered("x"), NegotiationError::Unreadable);
    assert_eq!(Negotiation::new(local()).accept_answer(b"v=0"), Err(NegotiationError::NoOffer));
}

#[test]
fn a_session_keeps_its_lines_whoever_offers() {
    let mut callee = Negotiation::new(local());
    let offer =
        format!("{}m=video 6000 RTP/AVP 97\r\n", audio("RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"));
    callee.answer(offer.as_bytes()).unwrap();
    callee.set_direction(Direction::SendOnly);
    let hold = String::from_utf8(callee.offer()).unwrap();
    assert_eq!(lines(&hold, "m="), ["m=audio 20000 RTP/AVP 0 101", "m=video 0 RTP/AVP 97"]);
    assert_eq!(lines(&hold, "o="), ["o=- 77 2 IN IP4 192.0.2.1"]);
    let answer = format!(
        "{}a=recvonly\r\nm=video 0 RTP/AVP 97\r\n",
        audio("RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n")
    );
    assert_eq!(callee.accept_answer(answer.as_bytes()).unwrap().direction, Direction::SendOnly);
}

#[test]
fn ipv6_is_as_good() {
    let mut caller = Negotiation::new(LocalMedia::new("2001:db8::1".parse().unwrap(), 20000, 1));
    let offer = String::from_utf8(caller.offer()).unwrap();
    assert_eq!(lines(&offer, "c="), ["c=IN IP6 2001:db8::1"]);
    let agreed = caller.accept_answer(b"v=0\r\nc=IN IP6 2001:db8::5\r\nm=audio 4000 RTP/AVP 0\r\n").unwrap();
    assert_eq!(agreed.remote, "[2001:db8::5]:4000".parse().unwrap());
}

#[test]
fn garbage_never_panics() {
    use proptest::prelude::*;
    let seed = format!(
        "{}a=rtcp:4444 IN IP4 1.2.3.4\r\na=fmtp:96 x\r\na=sendonly\r\n",
        audio("RTP/AVP 96 0\r\na=rtpmap:96 opus/48000/2\r\n")
    );
    proptest!(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }, |(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..12)
    )| {
        let mut bytes = seed.clone().into_bytes();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut answerer = Negotiation::new(local());
        if let Ok((answer, _)) = answerer.answer(&bytes) {
            prop_assert!(SessionDescription::parse(&answer).is_ok());
        }
        let mut offerer = Negotiation::new(local());
        offerer.offer();
        let _ = offerer.accept_answer(&bytes);
    });
}

#[test]
fn a_later_process_goes_on_with_a_negotiation() {
    let mut caller = Negotiation::new(LocalMedia { rtcp_mux: true, ..local() });
    let offer = caller.offer();
    let answer =
        audio("RTP/AVP 111 97\r\na=rtpmap:111 OPUS/48000/2\r\na=rtpmap:97 telephone-event/48000\r\na=rtcp-mux\r\n");
    let agreed = caller.accept_answer(answer.as_bytes()).unwrap();
    // It knows where it is; everything else is in the descriptions.
    let here = LocalMedia { session_id: 0, rtcp_mux: true, ..local() };
    let mut later = Negotiation::restore(here.clone(), &offer, answer.as_bytes()).unwrap();
    assert_eq!(later.agreed(), Some(&agreed));
    assert_eq!(later.offer(), offer, "RFC 3264 §8: the same words, the same version");
    assert_eq!(later.accept_answer(answer.as_bytes()).unwrap(), agreed);
    later.say_anew();
    assert!(String::from_utf8(later.offer()).unwrap().contains("o=- 77 2 IN"));

    let mut moved = Negotiation::restore(LocalMedia { port: 30000, ..here }, &offer, answer.as_bytes()).unwrap();
    let moved = String::from_utf8(moved.offer()).unwrap();
    assert!(moved.contains("o=- 77 2 IN") && moved.contains("m=audio 30000 "), "{moved}");
}

#[test]
fn a_later_process_goes_on_with_a_session_that_the_peer_changed() {
    let mut callee = Negotiation::new(local());
    let video = "m=video 4002 RTP/AVP 34\r\n";
    let hold = audio(&format!("RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n{video}"));
    let (answer, agreed) = callee.answer(hold.as_bytes()).unwrap();
    assert_eq!(agreed.direction, Direction::RecvOnly);
    let mut later = Negotiation::restore(local(), &answer, hold.as_bytes()).unwrap();
    assert_eq!(later.agreed(), Some(&agreed), "what was held is held");
    let offer = String::from_utf8(later.offer()).unwrap();
    assert!(offer.contains("o=- 77 2 IN") && offer.contains("a=sendrecv"), "{offer}");
    assert_eq!(lines(&offer, "m="), ["m=audio 20000 RTP/AVP 0 101", "m=video 0 RTP/AVP 34"]);
    assert_eq!(Negotiation::restore(local(), b"junk", hold.as_bytes()), Err(NegotiationError::Unreadable));
}
