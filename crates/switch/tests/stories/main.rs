//! What the switch does, told with real phones on loopback: SIP, RTP, mixers and all.

#![expect(clippy::unwrap_used, reason = "in a story, what fails should fail there and then")]

mod handset;
mod harness;
mod naming;
mod overload;
mod redirecting;
mod resuming;
mod torture;

use control::{Cause, LegNews};
use switch::{Directory, Report, TrunkCredentials, What};

use crate::handset::{Answer, Heard, Phone, Script};
use crate::harness::{PASSWORD, World, conference, fresh_leg, to_number, to_user, trunk};
use crate::redirecting::Redirecting;

async fn registered(world: &World, user: &str, script: Script) -> Phone {
    let mut phone = Phone::start(script.registering(user, PASSWORD, world.sip()));
    phone.registered().await;
    phone
}

/// The desk phone is called, answers, and hangs up.
async fn a_call_works(world: &mut World) {
    let mut phone = registered(world, "desk", Script::new(Answer::PickUp)).await;
    let (leg, _) = world.call(conference(1), "desk").await;
    phone.confirmed().await;
    assert_eq!(world.news(leg).await.1, LegNews::MediaUp);
    phone.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_phone_rings_answers_and_is_acknowledged_when_told() {
    let mut world = World::start(&["desk"], Vec::new());
    let mut phone = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let aor = world.report(|report| match report {
        Report::Bound(binding) => Some(binding.aor.clone()),
        _ => None,
    });
    assert_eq!(aor.await, "desk@contoso.example");

    let leg = world.dial(conference(1), to_user("desk")).await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::Ringing));
    let (_, LegNews::Connected(snapshot)) = world.news(leg).await else { panic!("connected") };
    assert!(snapshot.0.starts_with('{'));
    world.confirm(conference(1), leg).await;
    phone.confirmed().await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::MediaUp));

    world.hang_up(conference(1), leg, Some(snapshot), None).await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::HungUpByApp);
    phone.expect("a BYE", |heard| matches!(heard, Heard::Ended { by_peer: true, .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_in_one_mix_hear_each_other_and_not_themselves() {
    let mut world = World::start(&["a", "b"], Vec::new());
    let tones = [440.0, 700.0];
    let mut a = registered(&world, "a", Script::new(Answer::PickUp).saying(440.0).hearing(&tones)).await;
    let mut b = registered(&world, "b", Script::new(Answer::PickUp).saying(700.0).hearing(&tones)).await;
    let mut happenings = world.switch.happenings();
    let (leg_a, _) = world.call(conference(1), "a").await;
    let (leg_b, _) = world.call(conference(1), "b").await;
    world.mix(conference(1), &[(leg_a, 0), (leg_b, 0)]).await;
    a.hears_exactly(&[false, true]).await;
    b.hears_exactly(&[true, false]).await;

    let figures = world.switch.stats().await;
    assert_eq!(figures.len(), 2);
    assert!(figures.iter().all(|leg| leg.attached && leg.codec == "PCMU" && leg.packets_in > 0), "{figures:?}");
    assert!(figures.iter().all(|leg| leg.mos.is_some_and(|mos| mos > 3.0)), "{figures:?}");
    let mut lines = Vec::new();
    while let Ok(happening) = happenings.try_recv() {
        lines.push(happening.what);
    }
    for expected in [What::InviteSent { branches: 1 }, What::Rings { status: 180 }, What::Acknowledged, What::Attached]
    {
        assert!(lines.contains(&expected), "{expected:?} in {lines:?}");
    }

    // A plan without a leg takes it out of the mix; the leg stays up and hears nothing.
    world.mix(conference(1), &[(leg_a, 0)]).await;
    a.hears_exactly(&[false, false]).await;
    b.hears_exactly(&[false, false]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_registered_over_tcp_is_called_over_its_connection() {
    let mut world = World::start(&["desk"], Vec::new());
    let script = Script { tcp: true, ..Script::new(Answer::PickUp) };
    let mut phone = registered(&world, "desk", script).await;
    let (leg, _) = world.call(conference(1), "desk").await;
    phone.confirmed().await;
    phone.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_follows_its_phone_to_the_connection_it_makes_anew() {
    let mut world = World::start(&["desk"], Vec::new());
    let script = Script { tcp: true, ..Script::new(Answer::PickUp) };
    let mut phone = registered(&world, "desk", script).await;
    let (leg, snapshot) = world.call(conference(1), "desk").await;
    phone.confirmed().await;
    // Its Contact is the address of the connection: nobody listens there.
    phone.disconnect();
    phone.registered().await;
    world.hang_up(conference(1), leg, Some(snapshot), None).await;
    phone.expect("a BYE", |heard| matches!(heard, Heard::Ended { by_peer: true, .. }).then_some(())).await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::HungUpByApp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_forwarded_by_the_phone_that_is_called() {
    let away = Redirecting::start("<sip:lobby@wherever.example>");
    let mut world = World::start_with(&["desk", "lobby"], Vec::new(), vec![away.binding("desk")], |_| {});
    let mut lobby = registered(&world, "lobby", Script::new(Answer::PickUp)).await;
    world.call(conference(1), "desk").await;
    lobby.confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_forwarded_to_a_number_and_ends_where_nobody_can_be_called() {
    let carrier = Phone::start(Script::new(Answer::Refuse(486)));
    let (away, nowhere) = (Redirecting::start("<sip:+12065550123@x>"), Redirecting::start("<sip:eve@evil.example>"));
    let ring = Redirecting::start("<sip:circle@x>");
    let bindings = vec![away.binding("desk"), nowhere.binding("lobby"), ring.binding("circle")];
    let trunks = vec![trunk("carrier", carrier.address, &["+"])];
    let mut world = World::start_with(&["desk", "lobby", "circle"], trunks, bindings, |_| {});
    for (user, cause) in [("desk", Cause::Busy), ("lobby", Cause::Status(302)), ("circle", Cause::Status(302))] {
        let leg = world.dial(conference(1), to_user(user)).await;
        assert_eq!(world.expect_hung_up(leg).await, cause, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_sends_us_to_another_gateway() {
    let mut gateway = Phone::start(Script::new(Answer::PickUp));
    let carrier = Redirecting::start(&format!("<sip:+12065550123@{}>", gateway.address));
    let mut world = World::start(&[], vec![trunk("carrier", carrier.address, &["+"])]);
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    world.connected(conference(1), leg).await;
    gateway.confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_are_told_to_whoever_watches() {
    let mut world = World::start(&["desk"], Vec::new());
    let _phone = registered(&world, "desk", Script::new(Answer::PickUp).saying(440.0)).await;
    let mut happenings = world.switch.happenings();
    let (leg, _) = world.call(conference(1), "desk").await;
    world.mix(conference(1), &[(leg, 0)]).await;
    let loud = async {
        loop {
            let happening = happenings.recv().await.unwrap();
            if matches!(happening.what, What::Levels { speaks_dbov, .. } if speaks_dbov > -35.0) {
                return happening.to_string();
            }
        }
    };
    let line = tokio::time::timeout(std::time::Duration::from_secs(10), loud).await.expect("levels");
    assert!(line.starts_with("desk@contoso.example speaks at -2"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_to_ring_and_refusals_end_with_their_cause() {
    // Contract 6.3.
    let mut world = World::start(&["absent", "busy", "declines", "gone"], Vec::new());
    let leg = world.dial(conference(1), to_user("absent")).await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::HungUp(Cause::NotRegistered)));
    let leg = world.dial(conference(1), to_number("+49301234")).await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::HungUp(Cause::NoRoute)));

    for (user, status, cause) in
        [("busy", 486, Cause::Busy), ("declines", 603, Cause::Declined), ("gone", 480, Cause::Unavailable)]
    {
        let phone = registered(&world, user, Script::new(Answer::Refuse(status))).await;
        let leg = world.dial(conference(1), to_user(user)).await;
        assert_eq!(world.expect_hung_up(leg).await, cause, "{user} at {}", phone.address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_rings_is_withdrawn() {
    let mut world = World::start(&["desk"], Vec::new());
    let mut phone = registered(&world, "desk", Script::new(Answer::Ring)).await;
    let leg = world.dial(conference(1), to_user("desk")).await;
    assert_eq!(world.news(leg).await.1, LegNews::Ringing);
    world.hang_up(conference(1), leg, None, Some(to_user("desk"))).await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::HungUp(Cause::HungUpByApp)));
    phone.expect("a CANCEL", |heard| matches!(heard, Heard::Ended { cancelled: true, .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_rings_and_the_first_answer_wins() {
    let mut world = World::start(&["desk"], Vec::new());
    let mut rings = registered(&world, "desk", Script::new(Answer::Ring)).await;
    let mut answers = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    world.call(conference(1), "desk").await;
    answers.confirmed().await;
    rings.expect("a CANCEL", |heard| matches!(heard, Heard::Ended { cancelled: true, .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phone_hangs_up() {
    let mut world = World::start(&["desk"], Vec::new());
    let phone = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let (leg, _) = world.call(conference(1), "desk").await;
    phone.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
    // Late orders are answered, once each, and no SIP is sent for them.
    world.hang_up(conference(1), leg, None, None).await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::HungUp(Cause::HungUpByApp)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_puts_us_on_hold_and_takes_us_back() {
    let mut world = World::start(&["desk"], Vec::new());
    let mut phone = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let (leg, _) = world.call(conference(1), "desk").await;
    phone.confirmed().await;
    for held in [true, false] {
        phone.hold(held);
        let mut reshaped = false;
        loop {
            match world.news(leg).await.1 {
                LegNews::Reshaped(_) => reshaped = true,
                LegNews::Held(now) => {
                    assert_eq!(now, held);
                    break;
                }
                LegNews::MediaUp => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(reshaped);
        phone.expect("the answer", |heard| matches!(heard, Heard::Changed).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_usable_media_is_acknowledged_and_ended() {
    let mut world = World::start(&["desk"], Vec::new());
    let mut phone = registered(&world, "desk", Script::new(Answer::Nonsense)).await;
    let leg = world.dial(conference(1), to_user("desk")).await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::MediaFailed);
    phone.expect("a BYE", |heard| matches!(heard, Heard::Ended { by_peer: true, .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_rewritten_for_its_trunk_and_the_caller_is_asserted() {
    // INV-22: the application's number calls.
    let mut carrier = Phone::start(Script::new(Answer::PickUp));
    let mut national = trunk("national", carrier.address, &["+49"]);
    (national.strip, national.prepend) = (3, "0".to_owned());
    let world_wide = trunk("world", "127.0.0.1:9".parse().unwrap(), &["+"]);
    let mut world = World::start(&[], vec![world_wide, national]);
    let leg = world.dial(conference(1), to_number("+49301234")).await;
    let invited = carrier.expect("an INVITE", |heard| match heard {
        Heard::Invited { request_uri, from, asserted } => Some((request_uri.clone(), from.clone(), asserted.clone())),
        _ => None,
    });
    let (request_uri, from, asserted) = invited.await;
    assert!(request_uri.starts_with("sip:0301234@127.0.0.1"), "{request_uri}");
    assert!(from.starts_with("sip:+12065550100@contoso.example"), "{from}");
    assert!(asserted.is_some_and(|asserted| asserted.starts_with("sip:+12065550100@contoso.example")));
    world.connected(conference(1), leg).await;
    carrier.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: true });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_asks_who_calls_is_told() {
    let bank = phone::PhoneBank::start(phone::BankConfig::default()).await.unwrap();
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = |password: &str| phone::Line {
        name: "carrier".to_owned(),
        place: phone::Place::Trunk(phone::TrunkLine {
            bind: free,
            challenge: Some(("convoke".to_owned(), password.to_owned())),
        }),
        script: phone::Script::default(),
    };
    assert!(bank.set(vec![line("sesame")]).await.is_empty());
    let mut carrier = trunk("carrier", free, &["+"]);
    let credentials =
        |password: &str| TrunkCredentials { username: "convoke".to_owned(), password: password.to_owned() };
    carrier.credentials = Some(credentials("sesame"));
    let mut world = World::start(&[], vec![carrier.clone()]);
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    world.connected(conference(1), leg).await;

    carrier.credentials = Some(credentials("wrong"));
    world.directory.store(std::sync::Arc::new(Directory::new([], vec![carrier])));
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    assert!(matches!(world.expect_hung_up(leg).await, Cause::Status(401 | 403 | 407)));
    bank.shut_down(std::time::Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_on_this_machine_is_reached_whatever_the_public_address() {
    let mut world = World::start_with(&["desk"], Vec::new(), Vec::new(), |config| {
        config.sip.udp = vec!["0.0.0.0:0".parse().unwrap()];
        config.sip.public_address = Some("192.0.2.7".parse().unwrap());
        config.media.bind = None;
    });
    a_call_works(&mut world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_fails_or_is_silent_is_left_for_the_next() {
    let failing = Phone::start(Script::new(Answer::Refuse(503)));
    let silent = Phone::start(Script { deaf: true, ..Script::new(Answer::PickUp) });
    let working = Phone::start(Script::new(Answer::PickUp));
    let trunks = vec![
        trunk("failing", failing.address, &["+"]),
        trunk("silent", silent.address, &["+"]),
        trunk("working", working.address, &["+"]),
    ];
    let mut world = World::start(&[], trunks);
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    world.connected(conference(1), leg).await;

    world.directory.store(std::sync::Arc::new(Directory::new([], vec![trunk("failing", failing.address, &["+"])])));
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::NoRoute);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_moves_to_another_conference_and_its_sound_has_no_hole() {
    // INV-15: re-attached without ringing and without a new dialog.
    let mut world = World::start(&["moves", "stays", "waits"], Vec::new());
    let tones = [440.0, 700.0, 1000.0];
    let script = |hz| Script::new(Answer::PickUp).saying(hz).hearing(&tones);
    let mut moves = registered(&world, "moves", script(440.0)).await;
    let mut stays = registered(&world, "stays", script(700.0)).await;
    let mut waits = registered(&world, "waits", script(1000.0)).await;
    let (leg, _) = world.call(conference(1), "moves").await;
    let (stays_leg, _) = world.call(conference(1), "stays").await;
    let (waits_leg, _) = world.call(conference(2), "waits").await;
    world.mix(conference(1), &[(leg, 0), (stays_leg, 0)]).await;
    world.mix(conference(2), &[(waits_leg, 0)]).await;
    moves.hears_exactly(&[false, true, false]).await;
    stays.hears_exactly(&[true, false, false]).await;

    world.mix(conference(2), &[(waits_leg, 0), (leg, 1)]).await;
    // Late plans of the conference that had it change nothing.
    world.mix(conference(1), &[(leg, 0), (stays_leg, 0)]).await;
    world.mix(conference(1), &[(stays_leg, 0)]).await;
    moves.hears_exactly(&[false, false, true]).await;
    waits.hears_exactly(&[true, false, false]).await;
    stays.hears_exactly(&[false, false, false]).await;

    moves.count_packets();
    let (count, missing, longest_silence) = moves
        .expect("packets", |heard| match heard {
            Heard::Packets { count, missing, longest_silence } => Some((*count, *missing, *longest_silence)),
            _ => None,
        })
        .await;
    assert!(count >= 5, "{count} packets");
    assert_eq!(missing, 0, "no packet is missing of {count}");
    assert!(longest_silence <= 1, "at most one frame of 20 ms is lost, not {longest_silence}");

    // Its news goes to the conference that has it, and the one that had it cannot end it.
    world.hang_up(conference(1), leg, None, None).await;
    loop {
        match world.news(leg).await {
            (told, LegNews::HungUp(_)) => {
                assert_eq!(told, conference(1));
                break;
            }
            (_, LegNews::MediaUp) => {}
            other => panic!("{other:?}"),
        }
    }
    moves.hang_up();
    assert_eq!(world.news(leg).await, (conference(2), LegNews::HungUp(Cause::PeerHungUp { phone: false })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_a_leg_that_has_just_hung_up_is_told() {
    // INV-15: the one that had it may be closed by now, and pass nothing on.
    let mut world = World::start(&["moves"], Vec::new());
    let mut moves = registered(&world, "moves", Script::new(Answer::PickUp)).await;
    let (leg, _) = world.call(conference(1), "moves").await;
    moves.confirmed().await;
    moves.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
    world.mix(conference(2), &[(leg, 1)]).await;
    assert_eq!(world.news(leg).await, (conference(2), LegNews::HungUp(Cause::PeerHungUp { phone: false })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_legs_are_ended_from_their_snapshots_and_contacts_still_ring() {
    let mut world = World::start(&["desk", "lobby"], Vec::new());
    let mut desk = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let mut lobby = registered(&world, "lobby", Script::new(Answer::Ring)).await;
    let mut bindings = Vec::new();
    for _ in 0..2 {
        bindings.push(
            world
                .report(|report| match report {
                    Report::Bound(binding) => Some((**binding).clone()),
                    _ => None,
                })
                .await,
        );
    }
    let (leg, snapshot) = world.call(conference(1), "desk").await;
    desk.confirmed().await;
    let ringing = world.dial(conference(1), to_user("lobby")).await;
    assert_eq!(world.news(ringing).await.1, LegNews::Ringing);

    // The process dies without a word; another one begins at the same address.
    let sip = world.sip();
    drop(world);
    let mut world = World::restart(&["desk", "lobby"], bindings, sip).await;
    world.hang_up(conference(1), leg, Some(snapshot), Some(to_user("desk"))).await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::HungUpByApp);
    desk.expect("a BYE", |heard| matches!(heard, Heard::Ended { by_peer: true, .. }).then_some(())).await;
    world.hang_up(conference(1), ringing, None, Some(to_user("lobby"))).await;
    assert_eq!(world.expect_hung_up(ringing).await, Cause::HungUpByApp);
    lobby.expect("a CANCEL", |heard| matches!(heard, Heard::Ended { cancelled: true, .. }).then_some(())).await;
    // A leg that nobody knows is answered too.
    let unknown = fresh_leg();
    world.hang_up(conference(1), unknown, None, None).await;
    assert_eq!(world.news(unknown).await, (conference(1), LegNews::HungUp(Cause::HungUpByApp)));

    world.call(conference(2), "desk").await;
    world.switch.shutdown().await;
    desk.expect("a BYE", |heard| matches!(heard, Heard::Ended { by_peer: true, .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_leaves_the_directory_is_no_longer_rung() {
    let mut world = World::start(&["desk"], Vec::new());
    let _phone = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    world.directory.store(std::sync::Arc::new(Directory::default()));
    let gone = world.report(|report| match report {
        Report::Unbound { aor, .. } => Some(aor.clone()),
        _ => None,
    });
    assert_eq!(gone.await, "desk@contoso.example");
    let leg = world.dial(conference(1), to_user("desk")).await;
    assert_eq!(world.news(leg).await, (conference(1), LegNews::HungUp(Cause::NotRegistered)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunks_are_asked_whether_they_live() {
    let alive = Phone::start(Script::new(Answer::PickUp));
    let trunks = vec![trunk("alive", alive.address, &["+"])];
    let mut world = World::start_with(&[], trunks, Vec::new(), |config| {
        config.sip.ping_trunks_every = std::time::Duration::from_secs(1);
    });
    let report = world.report(|report| match report {
        Report::TrunkAlive { name } => Some(name.clone()),
        _ => None,
    });
    assert_eq!(report.await, "alive");
}
