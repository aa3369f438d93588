//! Two phones call each other over real sockets on loopback. Every wait is for an event.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::time::Duration;

use phone::{
    BankConfig, By, CallKey, CodecName, EndCause, Events, Happening, Line, LoadBank, LoadConfig, Phone, PhoneBank,
    PhoneConfig, PhoneEvent, PhoneOrder, Place, Reply, Say, Script, TrunkLine,
};

/// Nothing on loopback takes longer, on however busy a machine.
const SOON: Duration = Duration::from_secs(20);

/// A phone and what it tells.
struct Party {
    phone: Phone,
    events: Events,
}

impl Party {
    async fn start(name: &str, script: Script) -> Self {
        Self::start_with(
            BankConfig { hear: vec![440.0, 1000.0], tell_levels: true, ..BankConfig::default() },
            name,
            script,
        )
        .await
    }

    async fn start_with(bank: BankConfig, name: &str, script: Script) -> Self {
        let line = Line { name: name.to_owned(), place: Place::Direct, script };
        let phone = Phone::start(PhoneConfig { bank, line }).await.unwrap();
        let events = phone.subscribe();
        Self { phone, events }
    }

    fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.phone.bank().local_addr())
    }

    async fn order(&self, order: PhoneOrder) {
        self.phone.bank().order(order).await.unwrap();
    }

    async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Happening) -> bool) -> PhoneEvent {
        let found = self.events.wait_for(SOON, |event| wanted(&event.what)).await;
        (*found.unwrap_or_else(|| panic!("{what} did not happen"))).clone()
    }

    async fn until_answered(&mut self) -> CallKey {
        self.until("answer", |what| matches!(what, Happening::Answered { .. })).await.call.unwrap()
    }

    async fn until_ended(&mut self) -> (EndCause, Option<u16>) {
        match self.until("end", |what| matches!(what, Happening::Ended { .. })).await.what {
            Happening::Ended { cause, status, .. } => (cause, status),
            _ => unreachable!(),
        }
    }

    /// Waits until a tone is heard well and another is not.
    async fn until_hears(&mut self, wanted: f32, unwanted: f32) {
        self.until(&format!("{wanted} Hz"), |what| {
            level(what, wanted).is_some_and(|dbov| dbov > -28.0)
                && level(what, unwanted).is_some_and(|dbov| dbov < -55.0)
        })
        .await;
    }

    async fn stop(self) {
        self.phone.bank().shut_down(SOON).await;
    }
}

fn level(what: &Happening, hertz: f32) -> Option<f32> {
    let Happening::Hears { tones, .. } = what else { return None };
    tones.iter().find(|tone| (tone.hz - hertz).abs() < 0.5).map(|tone| tone.dbov)
}

fn says(hertz: f32) -> Script {
    Script { say: Say::Tone(hertz), ..Script::default() }
}

/// Alice calls Bob, who has this script.
async fn call(script: Script) -> (Party, Party, CallKey) {
    let alice = Party::start("alice", says(440.0)).await;
    let bob = Party::start("bob", script).await;
    let key = alice.phone.dial(&bob.uri("bob")).await.unwrap();
    (alice, bob, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phones_hear_each_other_in_every_codec() {
    for (codec, name) in
        [(CodecName::Pcmu, "PCMU"), (CodecName::Pcma, "PCMA"), (CodecName::G722, "G722"), (CodecName::Opus, "opus")]
    {
        let (mut alice, mut bob, _) = call(Script { codecs: vec![codec], ..says(1000.0) }).await;
        let answered = alice.until("answer", |what| matches!(what, Happening::Answered { .. })).await;
        assert_eq!(answered.what, Happening::Answered { codec: Some(name) });
        alice.until("media", |what| *what == Happening::MediaUp).await;
        alice.until_hears(1000.0, 440.0).await;
        bob.until_hears(440.0, 1000.0).await;
        alice.stop().await;
        assert_eq!(bob.until_ended().await, (EndCause::PeerHungUp, None));
        bob.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_come_with_their_status() {
    let refuse = |status| Script { reply: Reply::Refuse(status), ..Script::default() };
    for (script, cause, status) in [
        (refuse(486), EndCause::Rejected, 486),
        (refuse(603), EndCause::Rejected, 603),
        (Script { answer_after: Duration::from_millis(50), ..refuse(480) }, EndCause::NoAnswer, 480),
        (refuse(404), EndCause::Rejected, 404),
    ] {
        let (mut alice, mut bob, _) = call(script).await;
        assert_eq!(alice.until_ended().await, (cause, Some(status)));
        assert_eq!(bob.until_ended().await, (EndCause::Refused, None));
        alice.stop().await;
        bob.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_answers_rings_until_the_caller_gives_up() {
    let (mut alice, mut bob, key) = call(Script::manual()).await;
    let incoming = bob.until("call", |what| matches!(what, Happening::Incoming { .. })).await;
    let Happening::Incoming { from, number, .. } = incoming.what else { unreachable!() };
    assert!(from.starts_with("sip:alice@127.0.0.1"), "{from}");
    assert_eq!(number, "bob");
    alice.until("ringing", |what| *what == Happening::Ringing).await;
    alice.order(PhoneOrder::HangUp { call: key }).await;
    assert_eq!(alice.until_ended().await, (EndCause::HungUp, Some(487)));
    assert_eq!(bob.until_ended().await.0, EndCause::Cancelled);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_can_be_answered_by_hand_and_say_something_else() {
    let (mut alice, mut bob, _) = call(Script { reply: Reply::Ring, say: Say::Silence, ..Script::default() }).await;
    let ringing = bob.until("ringing", |what| *what == Happening::Ringing).await.call.unwrap();
    bob.order(PhoneOrder::Answer { call: ringing }).await;
    alice.until_answered().await;
    bob.order(PhoneOrder::Say { call: ringing, say: Say::Tone(1000.0) }).await;
    alice.until_hears(1000.0, 440.0).await;
    bob.order(PhoneOrder::HangUp { call: ringing }).await;
    assert_eq!(alice.until_ended().await, (EndCause::PeerHungUp, None));
    assert_eq!(bob.until_ended().await, (EndCause::HungUp, None));
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_hangs_up_by_itself_and_knows_what_it_received() {
    let (mut alice, mut bob, _) = call(Script { hangup_after: Some(Duration::from_millis(500)), ..says(1000.0) }).await;
    assert_eq!(alice.until_ended().await, (EndCause::PeerHungUp, None));
    let ended = bob.until("end", |what| matches!(what, Happening::Ended { .. })).await;
    let Happening::Ended { cause, statistics: Some(statistics), .. } = ended.what else { panic!("{ended:?}") };
    assert_eq!(cause, EndCause::HungUp);
    assert!(statistics.packets_in > 10 && statistics.packets_out > 10, "{statistics:?}");
    alice.stop().await;
    bob.stop().await;
}

#[test]
fn an_event_is_one_flat_line_of_json() {
    let event = PhoneEvent {
        at_ms: 7,
        line: "bob".into(),
        call: Some(CallKey([0xab; 16])),
        what: Happening::Dtmf { digit: '#' },
    };
    assert_eq!(
        serde_json::to_string(&event).unwrap(),
        r##"{"at_ms":7,"line":"bob","call":"abababababababababababababababab","event":"dtmf","digit":"#"}"##
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_arrive_in_order() {
    let (mut alice, bob, key) = call(Script { dtmf: "12#A".to_owned(), ..says(1000.0) }).await;
    let mut keys = String::new();
    while keys.len() < 4 {
        let pressed = alice.until("key", |what| matches!(what, Happening::Dtmf { .. })).await;
        let Happening::Dtmf { digit } = pressed.what else { unreachable!() };
        keys.push(digit);
    }
    assert_eq!(keys, "12#A");
    let mut bob = bob;
    alice.order(PhoneOrder::Press { call: key, keys: "9".to_owned() }).await;
    bob.until("key", |what| *what == Happening::Dtmf { digit: '9' }).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_rings_reliably_says_where_its_sound_is_and_the_answer_says_no_more() {
    let bank = BankConfig { trace: true, ..BankConfig::default() };
    let script = Script { answer_after: Duration::from_millis(300), reliable: true, early_media: true, ..says(1000.0) };
    let mut gateway = Party::start_with(bank, "gateway", script).await;
    let mut bob = Party::start("bob", says(440.0)).await;
    bob.phone.dial(&gateway.uri("gateway")).await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 4 {
        let traced = gateway.until("SIP", |what| matches!(what, Happening::Trace { .. })).await;
        let Happening::Trace { message, .. } = traced.what else { unreachable!() };
        let wanted = ["SIP/2.0 183", "PRACK", "SIP/2.0 200", "ACK"];
        if wanted.iter().any(|start| message.starts_with(start)) {
            let has_sdp = message.contains("m=audio");
            lines.push((message.split(' ').next().unwrap_or_default().to_owned(), has_sdp));
        }
    }
    let plain = |start: &str| (start.to_owned(), false);
    // The answer, its PRACK, the answer to that, and a 200 without SDP.
    assert_eq!(lines, [("SIP/2.0".to_owned(), true), plain("PRACK"), plain("SIP/2.0"), plain("SIP/2.0")]);
    bob.until_hears(1000.0, 440.0).await;
    gateway.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_stops_the_sound_and_a_resume_brings_it_back() {
    let (mut alice, mut bob, _) = call(Script {
        hold_after: Some(Duration::from_millis(400)),
        resume_after: Some(Duration::from_millis(600)),
        ..says(1000.0)
    })
    .await;
    alice.until_hears(1000.0, 440.0).await;
    alice.until("hold", |what| *what == Happening::Held { by: By::Peer }).await;
    alice.until("silence", |what| level(what, 1000.0).is_some_and(|dbov| dbov < -60.0)).await;
    alice.until("resume", |what| *what == Happening::Resumed { by: By::Peer }).await;
    alice.until_hears(1000.0, 440.0).await;
    bob.until("hold", |what| *what == Happening::Held { by: By::Us }).await;
    bob.until("silence", |what| level(what, 440.0).is_some_and(|dbov| dbov < -60.0)).await;
    bob.until("resume", |what| *what == Happening::Resumed { by: By::Us }).await;
    bob.until_hears(440.0, 1000.0).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_holds_the_tone_that_was_heard() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard.wav");
    let bank = BankConfig { record: Some(file.clone()), ..BankConfig::default() };
    let mut recorder = Party::start_with(bank, "recorder", says(440.0)).await;
    let mut bob = Party::start("bob", says(1000.0)).await;
    let key = bob.phone.dial(&recorder.uri("recorder")).await.unwrap();
    bob.until_hears(440.0, 1000.0).await;
    // As much again, so that there is a second of it.
    for _ in 0..5 {
        bob.until_hears(440.0, 1000.0).await;
    }
    bob.order(PhoneOrder::HangUp { call: key }).await;
    let recorded = recorder.until("recording", |what| matches!(what, Happening::Recorded { .. })).await;
    let Happening::Recorded { path, seconds } = recorded.what else { unreachable!() };
    assert_eq!(path, file);
    let reader = hound::WavReader::open(&file).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (16_000, 1));
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    assert!((samples.len() as f32 / 16_000.0 - seconds).abs() < 0.001);
    let mut ear = media::Goertzel::new(1000.0);
    // The first moments are the call's beginning.
    for chunk in samples[samples.len() / 2..].chunks_exact(media::SAMPLES) {
        ear.hear(&media::Frame(chunk.try_into().unwrap()));
    }
    let dbov = ear.take_level_dbov();
    assert!(dbov > -30.0, "{dbov}");
    recorder.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_without_a_common_codec_are_refused() {
    let mut alice = Party::start("alice", Script { codecs: vec![CodecName::Pcmu], ..says(440.0) }).await;
    let mut bob = Party::start("bob", Script { codecs: vec![CodecName::G722], ..says(1000.0) }).await;
    alice.phone.dial(&bob.uri("bob")).await.unwrap();
    assert_eq!(alice.until_ended().await, (EndCause::Rejected, Some(488)));
    assert_eq!(bob.until_ended().await.0, EndCause::NoCommonMedia);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunks_line_answers_any_number_and_changes_while_it_runs() {
    let bank = PhoneBank::start(BankConfig::default()).await.unwrap();
    let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind = probe.local_addr().unwrap();
    drop(probe);
    let line = |reply| Line {
        name: "carrier".to_owned(),
        place: Place::Trunk(TrunkLine { bind, challenge: None }),
        script: Script { reply, ..Script::default() },
    };
    assert!(bank.set(vec![line(Reply::Answer)]).await.is_empty());
    let mut events = bank.subscribe();
    let mut alice = Party::start("alice", says(440.0)).await;
    alice.phone.dial(&format!("sip:+12065550100@{bind}")).await.unwrap();
    alice.until_answered().await;
    let is_incoming =
        |event: &PhoneEvent| matches!(&event.what, Happening::Incoming { number, .. } if number == "+12065550100");
    assert!(events.wait_for(SOON, is_incoming).await.is_some());

    assert!(bank.set(vec![line(Reply::Refuse(486))]).await.is_empty());
    alice.phone.dial(&format!("sip:+12065550199@{bind}")).await.unwrap();
    assert_eq!(alice.until_ended().await, (EndCause::Rejected, Some(486)));

    // The line goes, and so does the first call.
    assert!(bank.set(Vec::new()).await.is_empty());
    assert_eq!(alice.until_ended().await, (EndCause::PeerHungUp, None));
    bank.shut_down(SOON).await;
    alice.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_fails_that_line_alone() {
    let bank = PhoneBank::start(BankConfig::default()).await.unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let trunk = TrunkLine { bind: taken.local_addr().unwrap(), challenge: None };
    let failed = bank
        .set(vec![
            Line { name: "carrier".to_owned(), place: Place::Trunk(trunk), script: Script::default() },
            Line { name: "desk".to_owned(), place: Place::Direct, script: Script::default() },
        ])
        .await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].to_string().starts_with("line carrier: cannot listen on 127.0.0.1:"), "{}", failed[0]);
    let mut alice = Party::start("alice", says(440.0)).await;
    alice.phone.dial(&format!("sip:desk@{}", bank.local_addr())).await.unwrap();
    alice.until_answered().await;
    bank.shut_down(SOON).await;
    assert_eq!(alice.until_ended().await, (EndCause::PeerHungUp, None));
    alice.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_bank_answers_hundreds_and_counts_them() {
    const CALLS: u64 = 300;
    let silent = || BankConfig { sound: false, ..BankConfig::default() };
    let load = LoadBank::start(LoadConfig {
        bank: silent(),
        users: Vec::new(),
        answer_after: Duration::ZERO,
        hangup_after: None,
    })
    .await
    .unwrap();
    let script = Script { hangup_after: Some(Duration::from_millis(20)), ..Script::default() };
    load.bank().set(vec![Line { name: "any".to_owned(), place: Place::Direct, script }]).await;
    let mut callers = Party::start_with(silent(), "caller", Script::default()).await;
    for _ in 0..CALLS {
        callers.phone.dial(&format!("sip:any@{}", load.bank().local_addr())).await.unwrap();
    }
    for _ in 0..CALLS {
        assert_eq!(callers.until_ended().await, (EndCause::PeerHungUp, None));
    }
    let placed = callers.phone.bank().counters();
    assert_eq!((placed.answered, placed.peer_hung_up, placed.unanswered), (CALLS, CALLS, 0));
    callers.stop().await;
    load.bank().shut_down(SOON).await;
    let taken = load.counters();
    assert_eq!((taken.incoming, taken.answered, taken.hung_up, taken.lost), (CALLS, CALLS, CALLS, 0));
}
