//! Phones register, prove who they are, are rung where they are, and are forgotten in time.

use std::sync::Arc;
use std::time::Duration;

use sip::agent::{
    AgentConfig, Algorithm, Binding, Credentials, EndReason, IncomingPolicy, Lookup, Order, Register, RegistrarConfig,
    Report, TakeUp, UnboundBecause, Users,
};
use sip::digest::ha1;

use crate::world::{ANSWER, LEG, World, config, seconds};

struct Directory;

impl Users for Directory {
    fn ha1(&self, username: &str, domain: &str, algorithm: Algorithm) -> Lookup {
        match (username, domain) {
            ("twin", _) => Lookup::Ambiguous,
            ("desk" | "user1", "contoso.example") => Lookup::Ha1 {
                ha1: ha1(algorithm, username, "convoke", "only-for-tests"),
                aor: format!("user:{username}"),
            },
            _ => Lookup::Unknown,
        }
    }
}

/// A server at node 0 and a phone at node 1.
pub(crate) fn world(seed: u64) -> World {
    asking(seed, &RegistrarConfig::default().algorithms)
}

/// The server's process.
pub(crate) fn server() -> AgentConfig {
    let mut server = config(1);
    server.incoming = IncomingPolicy::Refuse;
    server.registrar = Some(RegistrarConfig { realm: "convoke".to_owned(), ..RegistrarConfig::default() });
    server.users = Arc::new(Directory);
    server
}

/// The same, with a server that asks for these algorithms.
fn asking(seed: u64, algorithms: &[Algorithm]) -> World {
    let mut world = World::new(seed);
    let mut server = server();
    if let Some(registrar) = &mut server.registrar {
        registrar.algorithms = algorithms.to_vec();
    }
    world.add(server);
    world.add(config(2));
    world
}

fn registration(world: &World, username: &str, password: &str, expires: u64, transport: &str) -> Register {
    Register {
        key: 1,
        registrar: format!("sip:{}{transport}", world.nodes[0].address).parse().expect("a URI"),
        aor: format!("sip:{username}@contoso.example").parse().expect("a URI"),
        contact_user: username.to_owned(),
        credentials: Some(Credentials { username: username.to_owned(), password: password.to_owned() }),
        expires: seconds(expires),
    }
}

pub(crate) fn register(world: &mut World, username: &str, password: &str, expires: u64, transport: &str) {
    let register = registration(world, username, password, expires, transport);
    world.order(1, Order::Register(Box::new(register)));
}

pub(crate) fn wait_bound(world: &mut World) -> Binding {
    world.wait(0, |report| match report {
        Report::Bound(binding) => Some((**binding).clone()),
        _ => None,
    })
}

fn wait_registered(world: &mut World) -> Duration {
    world.wait(1, |report| match report {
        Report::Registered { key: 1, expires } => Some(*expires),
        Report::RegisterFailed { status, .. } => panic!("{status}"),
        _ => None,
    })
}

#[test]
fn a_phone_registers_and_is_rung() {
    let mut world = world(1);
    register(&mut world, "desk", "only-for-tests", 300, "");
    assert_eq!(wait_registered(&mut world), seconds(300));
    let binding = wait_bound(&mut world);
    assert_eq!(binding.aor, "user:desk");
    assert_eq!(binding.aor_uri.to_string(), "sip:desk@contoso.example");
    assert_eq!(binding.source, world.nodes[1].address);
    assert_eq!(binding.expires_at, world.nodes[0].agent.bindings("user:desk")[0].expires_at);
    // RFC 8760 §2.4: the strongest challenge is answered.
    let authorized = world.nodes[1].sent.iter().find(|(_, text)| text.contains("Authorization")).expect("an answer");
    assert!(authorized.1.contains("algorithm=SHA-256"), "{}", authorized.1);

    world.dial_branches(0, LEG, vec![binding.branch()], seconds(30));
    let leg = world.wait_incoming(1);
    assert!(world.find_sent(0, "INVITE").starts_with("INVITE sip:desk@10.0.0.2:5060 SIP/2.0"));
    assert!(world.find_sent(0, "INVITE").contains("To: <sip:desk@contoso.example>"));
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::Answered { .. }).then_some(()));
    world.order(0, Order::Confirm { leg: LEG });
    world.hang_up(0, LEG);
    world.wait(1, |report| matches!(report, Report::Ended { reason: EndReason::Bye { .. }, .. }).then_some(()));
    world.order(1, Order::Unregister { key: 1 });
    world.wait(1, |report| matches!(report, Report::Unregistered { key: 1 }).then_some(()));
    world.wait(0, |report| match report {
        Report::Unbound { aor, because: UnboundBecause::Unregistered, .. } if aor == "user:desk" => Some(()),
        _ => None,
    });
    world.settle();
}

#[test]
fn md5_is_answered_where_nothing_else_is_known() {
    let mut world = world(2);
    // A peer that forgets the stronger challenge: the phone sees only MD5.
    world.rewrite = Some(Box::new(|text| {
        let lines = text.split_inclusive("\r\n").filter(|line| !line.contains("algorithm=SHA-256, qop"));
        lines.collect::<String>().into_bytes()
    }));
    register(&mut world, "desk", "only-for-tests", 300, "");
    wait_registered(&mut world);
    let authorized = world.nodes[1].sent.iter().find(|(_, text)| text.contains("Authorization")).expect("an answer");
    assert!(authorized.1.contains("algorithm=MD5"), "{}", authorized.1);
    world.settle_but_registered();
}

#[test]
fn only_the_algorithms_of_the_configuration_are_offered() {
    let mut world = asking(11, &[Algorithm::Md5]);
    let from = "10.9.9.9:5060".parse().expect("an address");
    let request = "REGISTER sip:contoso.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK1\r\n\
                   From: <sip:desk@contoso.example>;tag=1\r\nTo: <sip:desk@contoso.example>\r\nCall-ID: old\r\n\
                   CSeq: 1 REGISTER\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    world.inject(0, from, request.as_bytes());
    let (_, answer) = world.nodes[0].sent.last().expect("an answer");
    assert!(answer.contains("algorithm=MD5") && !answer.contains("SHA-256"), "{answer}");
}

#[test]
fn a_wrong_password_an_unknown_and_an_ambiguous_user_fail_alike() {
    for (username, password) in [("desk", "guess"), ("nobody", "only-for-tests"), ("twin", "only-for-tests")] {
        let mut world = world(3);
        register(&mut world, username, password, 300, "");
        let status = world.wait(1, |report| match report {
            Report::RegisterFailed { status, .. } => Some(*status),
            _ => None,
        });
        assert_eq!(status, 401);
        // Nobody tries for ever.
        assert_eq!(world.count_sent(1, "REGISTER"), 2);
        assert!(world.take(0).is_empty());
        world.settle();
    }
}

#[test]
fn nobody_registers_for_somebody_else() {
    let mut world = world(4);
    let mut register = registration(&world, "desk", "only-for-tests", 300, "");
    register.aor = "sip:user1@contoso.example".parse().expect("a URI");
    world.order(1, Order::Register(Box::new(register)));
    let status = world.wait(1, |report| match report {
        Report::RegisterFailed { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 403);
    world.settle();
}

#[test]
fn a_registration_is_refreshed_and_a_stale_nonce_is_no_obstacle() {
    let mut world = world(5);
    register(&mut world, "desk", "only-for-tests", 3600, "");
    wait_registered(&mut world);
    wait_bound(&mut world);
    world.run_for(seconds(3541));
    wait_registered(&mut world);
    wait_bound(&mut world);
    assert!(world.take(0).iter().all(|report| !matches!(report, Report::Unbound { .. })));
    world.settle_but_registered();
}

#[test]
fn a_phone_that_falls_silent_is_forgotten_in_time() {
    let mut world = world(6);
    register(&mut world, "desk", "only-for-tests", 120, "");
    wait_bound(&mut world);
    world.nodes[1].is_down = true;
    world.run_for(seconds(119));
    assert!(world.take(0).is_empty());
    world.run_for(seconds(2));
    let reports = world.take(0);
    assert!(matches!(&reports[..], [Report::Unbound { because: UnboundBecause::Expired, .. }]), "{reports:?}");
    assert!(world.nodes[0].agent.bindings("user:desk").is_empty());
}

#[test]
fn a_wish_that_is_too_short_is_made_longer() {
    let mut world = world(7);
    register(&mut world, "desk", "only-for-tests", 10, "");
    assert_eq!(wait_registered(&mut world), seconds(60));
    assert_eq!(world.count_sent(0, "SIP/2.0 423"), 1);
}

#[test]
fn a_phone_over_tcp_is_rung_by_its_own_connection_and_registers_again_when_it_breaks() {
    let mut world = world(8);
    register(&mut world, "desk", "only-for-tests", 300, ";transport=tcp");
    wait_registered(&mut world);
    let binding = wait_bound(&mut world);
    world.dial_branches(0, LEG, vec![binding.branch()], seconds(30));
    let leg = world.wait_incoming(1);
    assert_eq!(world.connections(), 1);
    world.order(1, Order::Refuse { leg, status: 486 });
    world.wait_ended(0);
    world.cut_streams(1);
    wait_registered(&mut world);
    assert_eq!(world.connections(), 2);
}

#[test]
fn a_leg_of_a_phone_that_opened_its_connection_is_taken_up_at_its_contact() {
    let mut world = world(18);
    register(&mut world, "desk", "only-for-tests", 300, ";transport=tcp");
    wait_registered(&mut world);
    let mut branch = wait_bound(&mut world).branch();
    branch.request_uri = world.uri(1).with_param("transport", "tcp");
    world.dial_branches(0, LEG, vec![branch], seconds(30));
    let leg = world.wait_incoming(1);
    world.order(1, Order::Accept { leg, sdp: ANSWER.to_vec() });
    let snapshot = world.wait_answered(0);
    world.order(0, Order::Confirm { leg: LEG });
    world.wait(1, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
    assert_eq!(world.connections(), 1);
    world.cut_streams(0);
    world.restart(0, config(1));
    world.run_for(seconds(1));
    world.order(0, Order::TakeUp(Box::new(TakeUp { leg: LEG, snapshot, credentials: None })));
    world.order(0, Order::Reinvite { leg: LEG, offer: ANSWER.to_vec() });
    world.wait(1, |report| matches!(report, Report::Offered { .. }).then_some(()));
    world.order(1, Order::AnswerOffer { leg, sdp: ANSWER.to_vec() });
    world.wait(0, |report| matches!(report, Report::OfferAnswered { .. }).then_some(()));
}

#[test]
fn contacts_of_an_earlier_process_are_taken_back() {
    let mut world = world(9);
    register(&mut world, "desk", "only-for-tests", 300, "");
    let binding = wait_bound(&mut world);
    let mut server = config(1);
    server.registrar = Some(RegistrarConfig { realm: "convoke".to_owned(), ..RegistrarConfig::default() });
    server.users = Arc::new(Directory);
    world.restart(0, server);
    world.order(0, Order::RestoreBinding(Box::new(binding.clone())));
    assert_eq!(world.nodes[0].agent.bindings("user:desk"), [binding]);
    world.order(0, Order::RemoveBindings { aor: "user:desk".to_owned() });
    let reports = world.take(0);
    assert!(matches!(&reports[..], [Report::Unbound { because: UnboundBecause::Removed, .. }]), "{reports:?}");
}

#[test]
fn a_trunk_is_pinged() {
    let mut world = world(10);
    let target = world.uri(1);
    world.order(0, Order::Ping { key: 5, target: target.clone() });
    world.wait(0, |report| matches!(report, Report::Pinged { key: 5, alive: true }).then_some(()));
    world.nodes[1].is_down = true;
    world.order(0, Order::Ping { key: 6, target });
    world.wait(0, |report| matches!(report, Report::Pinged { key: 6, alive: false }).then_some(()));
}

#[test]
fn a_trace_shows_messages_but_no_credentials() {
    let mut world = World::new(12);
    let mut server = config(1);
    server.trace = true;
    server.registrar = Some(RegistrarConfig { realm: "convoke".to_owned(), ..RegistrarConfig::default() });
    server.users = Arc::new(Directory);
    world.add(server);
    world.add(config(2));
    register(&mut world, "desk", "only-for-tests", 300, "");
    wait_registered(&mut world);
    let authorized = world.nodes[1].sent.iter().find(|(_, text)| text.contains("Authorization")).expect("an answer");
    let response =
        authorized.1.split("response=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a response");
    let response = response.to_owned();
    let traced: Vec<_> = world
        .take(0)
        .into_iter()
        .filter_map(|report| match report {
            Report::Trace { bytes, .. } => Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(traced.len(), 4);
    assert!(traced[2].contains("REGISTER") && traced[2].contains("username=\"desk\""), "{}", traced[2]);
    assert!(traced.iter().all(|text| !text.contains(&response)));
}
