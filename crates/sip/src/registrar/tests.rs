//! Phones that come, stay and go, on a clock that we turn.

use std::time::{Duration, Instant};

use super::*;
use crate::message::{Method, TransportName, Uri};

const AOR: &str = "front-desk";

#[expect(clippy::disallowed_methods, reason = "any instant will do to turn a clock from")]
fn some_instant() -> Instant {
    Instant::now()
}

struct World {
    now: Instant,
    registrar: Registrar,
    cseq: u32,
}

fn udp(address: &str) -> Source {
    Source { address: address.parse().unwrap(), transport: TransportName::Udp, flow: None }
}

fn tcp(address: &str, flow: u64) -> Source {
    Source { address: address.parse().unwrap(), transport: TransportName::Tcp, flow: Some(flow) }
}

fn request(call_id: &str, cseq: u32, headers: &[(&str, &str)]) -> Request {
    let request = Request::new(Method::Register, "sip:contoso.example".parse::<Uri>().unwrap())
        .with("Via", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1")
        .with("From", "<sip:front-desk@contoso.example>;tag=1")
        .with("To", "<sip:front-desk@contoso.example>")
        .with("Call-ID", call_id)
        .with("CSeq", format!("{cseq} REGISTER"));
    headers.iter().fold(request, |request, (name, value)| request.with(*name, *value))
}

impl World {
    fn new() -> World {
        let config = RegistrarConfig { contacts_max: 3, ..RegistrarConfig::default() };
        World { now: some_instant(), registrar: Registrar::new(config), cseq: 0 }
    }

    /// Registers from the contact's usual address; the status and the listed contacts.
    fn register(&mut self, headers: &[(&str, &str)]) -> (u16, Vec<String>) {
        self.register_from(&udp("10.0.0.1:5060"), headers)
    }

    fn register_from(&mut self, source: &Source, headers: &[(&str, &str)]) -> (u16, Vec<String>) {
        self.cseq += 1;
        let registered = self.registrar.register(self.now, AOR, &request("c1", self.cseq, headers), source);
        listed(&registered.response)
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn rung(&self) -> Vec<String> {
        self.registrar.targets(self.now, AOR).iter().map(|target| target.uri.to_string()).collect()
    }
}

fn listed(response: &Response) -> (u16, Vec<String>) {
    let contacts = response.headers.get_all("Contact").map(|value| String::from_utf8(value.to_vec()).unwrap());
    (response.status, contacts.collect())
}

#[test]
fn a_phone_registers_refreshes_and_leaves() {
    let mut world = World::new();
    assert_eq!(world.register(&[]), (200, vec![]));
    let contact = ("Contact", "<sip:a@10.0.0.1:5060>");
    assert_eq!(world.register(&[contact]).1, ["<sip:a@10.0.0.1:5060>;expires=3600"]);
    world.later(1000);
    assert_eq!(world.register(&[]).1, ["<sip:a@10.0.0.1:5060>;expires=2600"]);
    assert_eq!(world.register(&[contact, ("Expires", "600")]).1, ["<sip:a@10.0.0.1:5060>;expires=600"]);
    assert_eq!(world.rung(), ["sip:a@10.0.0.1:5060"]);
    assert_eq!(world.register(&[contact, ("Expires", "0")]), (200, vec![]));
    assert_eq!(world.rung(), [""; 0]);
    assert_eq!(world.registrar.deadline(), None);
}

#[test]
fn bindings_expire_by_themselves() {
    let mut world = World::new();
    world.register(&[("Contact", "<sip:a@10.0.0.1>;expires=60, <sip:b@10.0.0.1>;expires=120")]);
    assert_eq!(world.registrar.deadline(), Some(world.now + Duration::from_mins(1)));
    world.later(60);
    assert_eq!(world.rung(), ["sip:b@10.0.0.1"]);
    let gone = |contact: &str| Change::Unbound { aor: AOR.to_owned(), contact: contact.to_owned() };
    assert_eq!(world.registrar.expire(world.now), [gone("<sip:a@10.0.0.1>")]);
    world.later(60);
    // Whoever comes first finds what is over.
    let registered = world.registrar.register(world.now, AOR, &request("c9", 1, &[]), &udp("10.0.0.1:5060"));
    assert_eq!(registered.changes, [gone("<sip:b@10.0.0.1>")]);
    assert_eq!(world.registrar.deadline(), None);
}

#[test]
fn wishes_are_bounded() {
    let mut world = World::new();
    let response = |world: &mut World, wish: &str| {
        world.cseq += 1;
        let asked = request("c1", world.cseq, &[("Contact", &format!("<sip:a@10.0.0.1>;expires={wish}"))]);
        world.registrar.register(world.now, AOR, &asked, &udp("10.0.0.1:5060")).response
    };
    let refused = response(&mut world, "59");
    assert_eq!((refused.status, refused.headers.min_expires()), (423, Ok(Some(60))));
    assert_eq!(listed(&response(&mut world, "60")).1, ["<sip:a@10.0.0.1>;expires=60"]);
    assert_eq!(listed(&response(&mut world, "280297596632815")).1, ["<sip:a@10.0.0.1>;expires=7200"]);
    assert_eq!(listed(&response(&mut world, "soon")).1, ["<sip:a@10.0.0.1>;expires=3600"]);
}

#[test]
fn the_same_contact_is_bound_once() {
    let mut world = World::new();
    world.register(&[("Contact", "<sip:%61@HOST.example;transport=UDP>")]);
    let (_, contacts) = world.register(&[("Contact", "<sip:a@host.example;transport=udp;x=1>;q=0.5")]);
    assert_eq!(contacts, ["<sip:a@host.example;transport=udp;x=1>;q=0.5;expires=3600"]);
}

#[test]
fn the_same_device_is_bound_once() {
    let mut world = World::new();
    let device = ";+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    world.register(&[("Contact", &format!("<sip:a@10.0.0.1:1111>{device}"))]);
    world.cseq += 1;
    let moved = request("c2", 1, &[("Contact", &format!("<sip:a@10.0.0.1:2222>{device}"))]);
    let registered = world.registrar.register(world.now, AOR, &moved, &udp("10.0.0.1:2222"));
    assert_eq!(world.rung(), ["sip:a@10.0.0.1:2222"]);
    assert!(matches!(&registered.changes[..], [Change::Unbound { .. }, Change::Bound(_)]), "{:?}", registered.changes);
}

#[test]
fn overtaken_requests_change_nothing() {
    let mut world = World::new();
    let register = |world: &mut World, call_id: &str, cseq: u32, headers: &[(&str, &str)]| {
        let source = udp("10.0.0.1:5060");
        world.registrar.register(world.now, AOR, &request(call_id, cseq, headers), &source).response.status
    };
    let (one, two) = (("Contact", "<sip:a@10.0.0.1>"), ("Contact", "<sip:b@10.0.0.1>"));
    assert_eq!(register(&mut world, "c1", 5, &[one]), 200);
    assert_eq!(register(&mut world, "c1", 5, &[one, ("Expires", "0")]), 500);
    assert_eq!(register(&mut world, "c1", 4, &[two, one]), 500);
    assert_eq!(register(&mut world, "c1", 4, &[("Contact", "*"), ("Expires", "0")]), 500);
    assert_eq!(world.rung(), ["sip:a@10.0.0.1"]);
    // After a restart a phone counts from the beginning, with another Call-ID.
    assert_eq!(register(&mut world, "c2", 1, &[one, two]), 200);
    assert_eq!(register(&mut world, "c2", 2, &[("Contact", "*"), ("Expires", "0")]), 200);
    assert_eq!(world.rung(), [""; 0]);
}

#[test]
fn a_star_stands_alone_and_removes() {
    let mut world = World::new();
    world.register(&[("Contact", "<sip:a@10.0.0.1>, <sip:b@10.0.0.1>")]);
    for headers in [
        &[("Contact", "*")][..],
        &[("Contact", "*"), ("Expires", "60")],
        &[("Contact", "*, <sip:a@10.0.0.1>"), ("Expires", "0")],
        &[("Contact", "*"), ("Contact", "<sip:a@10.0.0.1>"), ("Expires", "0")],
    ] {
        assert_eq!(world.register(headers).0, 400, "{headers:?}");
    }
    assert_eq!(world.rung().len(), 2);
    assert_eq!(world.register(&[("Contact", "*"), ("Expires", "0")]), (200, vec![]));
    assert_eq!(world.rung(), [""; 0]);
}

#[test]
fn contacts_that_cannot_be_rung_are_refused() {
    let mut world = World::new();
    for contact in ["<name:John_Smith>", "<mailto:a@b>", "<tel:+1>", "sip:a@b?Route=%3Csip:c%3E", "<sip:a@b>;q=\""] {
        assert_eq!(world.register(&[("Contact", contact)]).0, 400, "{contact}");
    }
}

#[test]
fn contacts_are_bounded() {
    let mut world = World::new();
    let many = (0..4).map(|port| format!("<sip:a@10.0.0.1:{}>", 6000 + port)).collect::<Vec<_>>().join(",");
    assert_eq!(world.register(&[("Contact", &many)]).0, 403);
    for port in 0..5 {
        world.register(&[("Contact", &format!("<sip:a@10.0.0.1:{}>", 7000 + port))]);
        world.later(1);
    }
    // The three that came last, the last one first.
    assert_eq!(world.rung(), ["sip:a@10.0.0.1:7004", "sip:a@10.0.0.1:7003", "sip:a@10.0.0.1:7002"]);
}

#[test]
fn the_most_wanted_contact_comes_first() {
    let mut world = World::new();
    world.register(&[("Contact", "<sip:a@10.0.0.1>;q=0.1, <sip:b@10.0.0.1>, <sip:c@10.0.0.1>;q=0.75")]);
    assert_eq!(world.rung(), ["sip:b@10.0.0.1", "sip:c@10.0.0.1", "sip:a@10.0.0.1"]);
}

#[test]
fn phones_behind_a_nat_are_rung_where_they_are() {
    let mut world = World::new();
    let destination = |world: &World| world.registrar.targets(world.now, AOR)[0].destination;
    world.register_from(&udp("198.51.100.7:40000"), &[("Contact", "<sip:a@192.168.1.2:5060>")]);
    assert_eq!(destination(&world), "198.51.100.7:40000".parse().ok());
    world.register(&[("Contact", "*"), ("Expires", "0")]);
    // On the same host but another port, the phone listens where it says.
    world.register_from(&udp("10.0.0.1:40000"), &[("Contact", "<sip:a@10.0.0.1:5060>")]);
    assert_eq!(destination(&world), None);
    world.register(&[("Contact", "*"), ("Expires", "0")]);
    // A proxy in front knows the way.
    world.register_from(
        &udp("203.0.113.1:5060"),
        &[("Contact", "<sip:a@192.168.1.2>"), ("Path", "<sip:edge.example;lr>")],
    );
    let target = world.registrar.targets(world.now, AOR).remove(0);
    assert_eq!(target.destination, None);
    assert_eq!(target.route[0].uri.to_string(), "sip:edge.example;lr");
}

#[test]
fn the_path_is_kept_and_shown() {
    let mut world = World::new();
    let asked =
        request("c1", 1, &[("Contact", "<sip:a@b>"), ("Path", "<sip:p1;lr>,<sip:p2;lr>"), ("Path", "<sip:p3;lr>")]);
    let registered = world.registrar.register(world.now, AOR, &asked, &udp("10.0.0.9:5060"));
    assert_eq!(registered.response.headers.paths().unwrap().len(), 3);
    let Change::Bound(stored) = &registered.changes[0] else { panic!("{registered:?}") };
    assert_eq!(stored.path, ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]);
}

#[test]
fn connections_carry_bindings() {
    let mut world = World::new();
    world.register_from(&tcp("198.51.100.7:40000", 5), &[("Contact", "<sip:a@192.168.1.2;transport=tcp>")]);
    world.register_from(&tcp("10.0.0.1:40000", 6), &[("Contact", "<sip:b@10.0.0.1;transport=tcp>")]);
    let flows =
        |world: &World| world.registrar.targets(world.now, AOR).iter().map(|target| target.flow).collect::<Vec<_>>();
    assert_eq!(flows(&world), [Some(6), Some(5)]);
    // Behind the NAT there is no other way in; the other can be called back.
    assert!(matches!(&world.registrar.flow_closed(world.now, 5)[..], [Change::Unbound { .. }]));
    assert!(matches!(
        &world.registrar.flow_closed(world.now, 6)[..],
        [Change::Bound(StoredBinding { flow: None, .. })]
    ));
    assert_eq!(flows(&world), [None]);
    assert_eq!(world.registrar.flow_closed(world.now, 6), []);
}

#[test]
fn bindings_survive_a_restart() {
    let mut world = World::new();
    let asked = [("Contact", "\"J\u{f6}rg\" <sip:a@192.168.1.2>;q=0.5"), ("User-Agent", "Phone/1"), ("Expires", "600")];
    let before = world.registrar.register(world.now, AOR, &request("c1", 7, &asked), &udp("198.51.100.7:40000"));
    let Change::Bound(mut stored) = before.changes[0].clone() else { panic!("{before:?}") };
    assert_eq!((stored.expires_in, stored.cseq), (Duration::from_mins(10), 7));
    let targets = world.registrar.targets(world.now, AOR);

    let mut after = World::new();
    stored.expires_in = Duration::from_secs(400);
    assert!(after.registrar.load(after.now, &stored));
    assert_eq!(after.registrar.targets(after.now, AOR), targets);
    assert_eq!(after.registrar.all(after.now).collect::<Vec<_>>(), [stored.clone()]);
    assert_eq!(after.registrar.deadline(), Some(after.now + Duration::from_secs(400)));
    let stale = after.registrar.register(after.now, AOR, &request("c1", 7, &asked), &udp("198.51.100.7:40000"));
    assert_eq!(stale.response.status, 500);
    // What cannot be read is left out.
    stored.contact = "nonsense".to_owned();
    assert!(!after.registrar.load(after.now, &stored));
}

#[test]
fn removing_a_user_removes_the_bindings() {
    let mut world = World::new();
    world.register(&[("Contact", "<sip:a@10.0.0.1>, <sip:b@10.0.0.1>")]);
    assert!(world.registrar.is_bound(world.now, AOR));
    assert_eq!(world.registrar.remove_all(AOR).len(), 2);
    assert!(!world.registrar.is_bound(world.now, AOR));
    assert_eq!(world.registrar.remove_all("nobody"), []);
}
