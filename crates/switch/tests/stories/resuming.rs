//! The process dies, and another one goes on: the same dialogs, the same mix.

use std::time::Duration;

use control::{Cause, LegId, LegNews, Snapshot};
use sip::message::{Message, Method, Request, Response, parse_datagram};

use crate::handset::{Answer, Heard, Phone, Script};
use crate::harness::{World, conference};
use crate::registered;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_people_hear_each_other_again_in_the_same_dialogs() {
    let mut world = World::start(&["a", "b"], Vec::new());
    let tones = [440.0, 700.0];
    let mut a = registered(&world, "a", Script::new(Answer::PickUp).saying(440.0).hearing(&tones)).await;
    let mut b = registered(&world, "b", Script::new(Answer::PickUp).saying(700.0).hearing(&tones)).await;
    let bindings = world.bindings(2).await;
    let (leg_a, snapshot_a) = world.call(conference(1), "a").await;
    let (leg_b, snapshot_b) = world.call(conference(1), "b").await;
    world.mix(conference(1), &[(leg_a, 0), (leg_b, 0)]).await;
    a.hears_exactly(&[false, true]).await;
    b.hears_exactly(&[true, false]).await;

    let sip = world.sip();
    drop(world);
    for snapshot in [&snapshot_a, &snapshot_b] {
        drop(bound(port_of(snapshot)).await);
    }
    let mut world = World::restart(&["a", "b"], bindings.clone(), sip).await;
    world.resume(conference(1), leg_a, &snapshot_a, "a").await;
    world.resume(conference(1), leg_b, &snapshot_b, "b").await;
    world.mix(conference(1), &[(leg_a, 0), (leg_b, 0)]).await;
    world.switch.taken_up().await;
    // The same port and the same description: its version has not moved (RFC 3264 §8).
    a.expect("a re-INVITE", |heard| matches!(heard, Heard::Offered { version: 1, .. }).then_some(())).await;
    let resumed = world.resumed(2).await;
    let of = |leg| resumed.iter().find(|(resumed, owner, _)| *resumed == leg && *owner == conference(1)).unwrap();
    let (snapshot_a, snapshot_b) = (of(leg_a).2.clone(), of(leg_b).2.clone());
    a.hears_exactly(&[false, true]).await;
    b.hears_exactly(&[true, false]).await;

    // Once more, from what the second process has written down; one port is taken meanwhile.
    let port = port_of(&snapshot_a);
    drop(world);
    let taken = bound(port).await;
    let mut world = World::restart(&["a", "b"], bindings, sip).await;
    world.resume(conference(1), leg_a, &snapshot_a, "a").await;
    world.resume(conference(1), leg_b, &snapshot_b, "b").await;
    world.mix(conference(1), &[(leg_a, 0), (leg_b, 0)]).await;
    world.switch.taken_up().await;
    let moved = a.expect("a re-INVITE with another port", |heard| match heard {
        Heard::Offered { version: 2, to } => Some(to.port()),
        _ => None,
    });
    assert_ne!(moved.await, port);
    let resumed = world.resumed(2).await;
    assert!(resumed.iter().all(|(leg, _, snapshot)| *leg != leg_a || port_of(snapshot) != port));
    a.hears_exactly(&[false, true]).await;
    b.hears_exactly(&[true, false]).await;
    drop(taken);
    a.hang_up();
    assert_eq!(world.expect_hung_up(leg_a).await, Cause::PeerHungUp { phone: false });
}

/// The next process, which knows nothing of the call yet, and what the one before has written down.
async fn restarted_while_the_desk_talks() -> (World, Phone, LegId, Snapshot) {
    let mut world = World::start(&["desk"], Vec::new());
    let mut desk = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let bindings = world.bindings(1).await;
    let (leg, snapshot) = world.call(conference(1), "desk").await;
    desk.confirmed().await;
    let sip = world.sip();
    drop(world);
    (World::restart(&["desk"], bindings, sip).await, desk, leg, snapshot)
}

/// The port, once the process before has let go of it.
async fn bound(port: u16) -> std::net::UdpSocket {
    let free = async {
        loop {
            if let Ok(socket) = std::net::UdpSocket::bind(("127.0.0.1", port)) {
                return socket;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("the port is free again")
}

fn port_of(snapshot: &Snapshot) -> u16 {
    let stored: serde_json::Value = serde_json::from_str(&snapshot.0).unwrap();
    u16::try_from(stored["media"]["local_port"].as_u64().unwrap()).unwrap()
}

/// Of somebody who answered long ago no other device rings any more: none is asked to stop, and no end waits for one that is
/// not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_devices_are_stopped_by_the_next_process_as_long_as_they_may_ring() {
    let mut world = World::start(&["desk"], Vec::new());
    let mut desk = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let other = registered(&world, "desk", Script::new(Answer::Ring)).await;
    let bindings = world.bindings(2).await;
    let (leg, fresh) = world.call(conference(1), "desk").await;
    desk.confirmed().await;
    let address = other.address;
    drop(other);
    let silent = bound(address.port()).await;
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let cancelled = |silent: &std::net::UdpSocket| {
        let mut buffer = [0; 4096];
        silent.recv(&mut buffer).is_ok_and(|length| buffer[..length].starts_with(b"CANCEL "))
    };

    let sip = world.sip();
    drop(world);
    let mut world = World::restart(&["desk"], bindings.clone(), sip).await;
    world.resume(conference(1), leg, &fresh, "desk").await;
    assert!(cancelled(&silent));
    world.switch.taken_up().await;
    let resumed = world.resumed(1).await;

    drop(world);
    let mut old: serde_json::Value = serde_json::from_str(&resumed[0].2.0).unwrap();
    old["alone_from"] = serde_json::json!(0);
    silent.set_nonblocking(true).unwrap();
    while cancelled(&silent) {}
    let mut world = World::restart(&["desk"], bindings, sip).await;
    world.resume(conference(1), leg, &Snapshot(old.to_string()), "desk").await;
    world.switch.taken_up().await;
    world.resumed(1).await;
    desk.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
    assert!(!cancelled(&silent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_hung_up_meanwhile_is_heard_once_its_leg_is_taken_up() {
    let (mut world, mut desk, leg, snapshot) = restarted_while_the_desk_talks().await;
    // Its BYE may reach a process that does not know its dialog yet, and must not be told so.
    desk.hang_up();
    world.resume(conference(1), leg, &snapshot, "desk").await;
    world.switch.taken_up().await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
    desk.expect("it hung up", |heard| matches!(heard, Heard::Ended { by_peer: false, .. }).then_some(())).await;
}

/// What a phone offers shortly after a restart may be a copy of what it has offered before: its answer to a question of ours
/// is what counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_changes_the_session_right_after_a_restart_is_asked_how_it_is() {
    let (mut world, mut desk, leg, snapshot) = restarted_while_the_desk_talks().await;
    world.resume(conference(1), leg, &snapshot, "desk").await;
    world.switch.taken_up().await;
    world.resumed(1).await;
    desk.expect("a re-INVITE", |heard| matches!(heard, Heard::Offered { .. }).then_some(())).await;
    desk.hold_without_meaning_it();
    let mut held = Vec::new();
    desk.expect("the question", |heard| matches!(heard, Heard::Offered { .. }).then_some(())).await;
    while held.len() < 2 {
        if let LegNews::Held(now) = world.news(leg).await.1 {
            held.push(now);
        }
    }
    assert_eq!(held, [true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_is_gone_is_told_as_such_and_one_of_an_unknown_form_too() {
    let mut world = World::start(&["desk"], Vec::new());
    let desk = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let bindings = world.bindings(1).await;
    let (leg, snapshot) = world.call(conference(1), "desk").await;
    let sip = world.sip();
    drop(world);
    let mut world = World::restart(&["desk"], bindings, sip).await;
    let foreign = Snapshot("of another form".to_owned());
    let unknown = crate::fresh_leg();
    world.resume(conference(1), unknown, &foreign, "desk").await;
    assert_eq!(world.news(unknown).await, (conference(1), LegNews::HungUp(Cause::ServiceRestarted)));
    // It has forgotten the dialog, as a phone that was switched off and on.
    let address = desk.address;
    drop(desk);
    let blank = std::net::UdpSocket::bind(address).unwrap();
    world.resume(conference(1), leg, &snapshot, "desk").await;
    let mut buffer = [0; 4096];
    blank.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (length, source) = blank.recv_from(&mut buffer).unwrap();
    let invite = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(invite.starts_with("INVITE "), "{invite}");
    let echoed = |name: &str| invite.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let headers: Vec<String> = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].into_iter().map(echoed).collect();
    let refusal = format!("SIP/2.0 481 Gone\r\n{}\r\nContent-Length: 0\r\n\r\n", headers.join("\r\n"));
    blank.send_to(refusal.as_bytes(), source).unwrap();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_rings_on_through_a_restart_and_is_heard_when_it_answers() {
    let mut world = World::start(&["desk", "lobby"], Vec::new());
    let tones = [440.0, 700.0];
    let mut desk = registered(&world, "desk", Script::new(Answer::PickUp).saying(440.0).hearing(&tones)).await;
    let mut lobby = registered(&world, "lobby", Script::new(Answer::Ring).saying(700.0).hearing(&tones)).await;
    let bindings = world.bindings(2).await;
    let (leg, snapshot) = world.call(conference(1), "desk").await;
    let ringing = world.dial(conference(1), crate::to_user("lobby")).await;
    assert_eq!(world.news(ringing).await.1, LegNews::Ringing);
    lobby.expect("the INVITE", |heard| matches!(heard, Heard::Invited { .. }).then_some(())).await;
    let sip = world.sip();
    drop(world);
    let mut world = World::restart(&["desk", "lobby"], bindings, sip).await;
    world.resume(conference(1), leg, &snapshot, "desk").await;
    world.dial_again(conference(1), ringing, "lobby").await;
    world.switch.taken_up().await;
    assert_eq!(world.news(ringing).await.1, LegNews::Ringing);
    lobby.pick_up();
    // It answers what the first process offered, and hears of the second one by a re-INVITE with a newer description.
    world.connected(conference(1), ringing).await;
    world.mix(conference(1), &[(leg, 0), (ringing, 0)]).await;
    let invited = lobby.expect("a re-INVITE", |heard| match heard {
        Heard::Invited { .. } => panic!("it was invited again"),
        Heard::Offered { version, .. } => Some(*version),
        _ => None,
    });
    assert_eq!(invited.await, 2);
    desk.hears_exactly(&[false, true]).await;
    lobby.hears_exactly(&[true, false]).await;
}

/// What an earlier process made ring may be another INVITE than the one that is refused now, one after a 422 for instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_begun_again_has_failed_once_what_rang_before_is_known_to_have_stopped() {
    let mut world = World::start(&["lobby"], Vec::new());
    let lobby = registered(&world, "lobby", Script::new(Answer::Ring)).await;
    let bindings = world.bindings(1).await;
    let ringing = world.dial(conference(1), crate::to_user("lobby")).await;
    assert_eq!(world.news(ringing).await.1, LegNews::Ringing);
    let (sip, address) = (world.sip(), lobby.address);
    drop((world, lobby));
    let device = bound(address.port()).await;
    device.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let asked = |method: &Method| {
        let mut buffer = [0; 4096];
        loop {
            let length = device.recv(&mut buffer).expect("a request");
            if let Ok(Message::Request(request)) = parse_datagram(&buffer[..length])
                && request.method == *method
            {
                return request;
            }
        }
    };
    let answer = |request: &Request, status| {
        let response = Response::to_request(request, status, "").with_to_tag("device");
        device.send_to(&response.to_bytes(), sip).unwrap();
    };
    let mut world = World::restart(&["lobby"], bindings, sip).await;
    world.dial_again(conference(1), ringing, "lobby").await;
    world.switch.taken_up().await;
    answer(&asked(&Method::Invite), 486);
    let cancel = asked(&Method::Cancel);
    assert_eq!(asked(&Method::Cancel).to_bytes(), cancel.to_bytes(), "it is asked again");
    assert!(world.signals.try_recv().is_err());
    answer(&cancel, 481);
    assert_eq!(world.expect_hung_up(ringing).await, Cause::Busy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_two_conferences_ask_for_is_told_to_both_and_belongs_to_the_newer() {
    // INV-21
    let mut world = World::start(&["desk"], Vec::new());
    let desk = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let bindings = world.bindings(1).await;
    let (leg, snapshot) = world.call(conference(1), "desk").await;
    let sip = world.sip();
    drop(world);
    let mut world = World::restart(&["desk"], bindings, sip).await;
    world.resume(conference(2), leg, &snapshot, "desk").await;
    world.mix(conference(2), &[(leg, 1)]).await;
    world.resume(conference(1), leg, &snapshot, "desk").await;
    world.mix(conference(1), &[(leg, 0)]).await;
    world.switch.taken_up().await;
    let mut told: Vec<_> = world.resumed(2).await.into_iter().map(|(_, conference, _)| conference).collect();
    told.sort_unstable();
    assert_eq!(told, [conference(1), conference(2)]);
    desk.hang_up();
    loop {
        match world.news(leg).await {
            (owner, LegNews::HungUp(_)) => return assert_eq!(owner, conference(2)),
            (_, news) => assert_eq!(news, LegNews::MediaUp),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_is_handed_over_in_the_middle_of_the_restart_is_heard_where_it_was_taken_to() {
    // INV-21
    let mut world = World::start(&["moves", "stays"], Vec::new());
    let tones = [440.0, 700.0];
    let mut moves = registered(&world, "moves", Script::new(Answer::PickUp).saying(440.0).hearing(&tones)).await;
    let mut stays = registered(&world, "stays", Script::new(Answer::PickUp).saying(700.0).hearing(&tones)).await;
    let bindings = world.bindings(2).await;
    let (moving, snapshot) = world.call(conference(1), "moves").await;
    let (staying, other) = world.call(conference(2), "stays").await;
    let sip = world.sip();
    drop(world);
    let mut world = World::restart(&["moves", "stays"], bindings, sip).await;
    // The target takes it before the source, which lent it, has asked for it.
    world.resume(conference(2), staying, &other, "stays").await;
    world.mix(conference(2), &[(staying, 0), (moving, 1)]).await;
    world.resume(conference(1), moving, &snapshot, "moves").await;
    world.mix(conference(1), &[(moving, 0)]).await;
    world.mix(conference(1), &[]).await;
    world.switch.taken_up().await;
    world.resumed(2).await;
    moves.hears_exactly(&[false, true]).await;
    stays.hears_exactly(&[true, false]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_process_made_ring_stops_though_the_socket_listens_on_every_address() {
    // RFC 3261 §17.2.3: a CANCEL whose Via names another address than its INVITE's belongs to nothing.
    let everywhere =
        |config: &mut switch::SwitchConfig| config.sip.udp = vec!["0.0.0.0:0".parse().expect("an address")];
    let mut world = World::start_with(&["lobby"], Vec::new(), Vec::new(), everywhere);
    let mut lobby = registered(&world, "lobby", Script::new(Answer::Ring)).await;
    let bindings = world.bindings(1).await;
    let ringing = world.dial(conference(1), crate::to_user("lobby")).await;
    assert_eq!(world.news(ringing).await.1, LegNews::Ringing);
    let listening = world.switch.addresses().udp[0];
    assert!(listening.ip().is_unspecified());
    drop(world);
    let mut world = World::restart(&["lobby"], bindings, listening).await;
    world.hang_up(conference(1), ringing, None, Some(crate::to_user("lobby"))).await;
    lobby.expect("a CANCEL", |heard| matches!(heard, Heard::Ended { cancelled: true, .. }).then_some(())).await;
    assert_eq!(world.expect_hung_up(ringing).await, Cause::HungUpByApp);
}
