//! Walks over zones that fit on a few lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::agent::limits::{ANSWERS_MAX, NEGATIVE_TTL_MAX};

/// A zone: a question, and its records.
struct Zone(BTreeMap<Question, Vec<Record>>);

impl Zone {
    /// Lines as in a zone file: `name NAPTR order preference service replacement`, `name SRV priority weight port target`,
    /// `name A address`.
    fn new(text: &str) -> Self {
        let mut zone = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| fields[at].parse().expect("a number");
            let (kind, record) = match fields[1] {
                "NAPTR" => {
                    let naptr = Naptr {
                        order: number(2),
                        preference: number(3),
                        flags: "s".to_owned(),
                        service: fields[4].to_owned(),
                        regexp: String::new(),
                        replacement: fields[5].to_owned(),
                    };
                    (RecordKind::Naptr, Record::Naptr(naptr))
                }
                "SRV" => {
                    let target = fields[5].trim_end_matches('.').to_owned();
                    let srv = Srv { priority: number(2), weight: number(3), port: number(4), target };
                    (RecordKind::Srv, Record::Srv(srv))
                }
                _ => (RecordKind::Address, Record::Address(fields[2].parse().expect("an address"))),
            };
            zone.entry(Question::new(kind, fields[0])).or_insert_with(Vec::new).push(record);
        }
        Self(zone)
    }

    /// Where a URI leads, what was asked on the way, and why nowhere.
    fn walk(&self, uri: &str, seed: u64) -> (Vec<String>, Vec<String>, Option<Nowhere>) {
        self.walk_around(uri, seed, |_, _| false)
    }

    fn walk_around(
        &self,
        uri: &str,
        seed: u64,
        is_shunned: impl Fn(Transport, SocketAddr) -> bool,
    ) -> (Vec<String>, Vec<String>, Option<Nowhere>) {
        let mut walk = Walk::to(&uri.parse().expect("a URI"), seed);
        let (mut targets, mut asked) = (Vec::new(), Vec::new());
        loop {
            match walk.next(&is_shunned) {
                Next::Target(transport, address) => targets.push(format!("{} {address}", transport.uri_name())),
                Next::Ask(question) => {
                    asked.push(format!("{:?} {}", question.kind, question.name));
                    let records = self.0.get(&question).cloned().unwrap_or_default();
                    walk.answer(&Answer { records, ttl: Duration::from_mins(1) });
                }
                Next::Over => return (targets, asked, walk.nowhere()),
            }
        }
    }
}

const PLAIN: &str = "host.example A 192.0.2.1";

#[test]
fn an_address_or_a_port_asks_for_no_service() {
    let zone = Zone::new(PLAIN);
    for (uri, targets, asked) in [
        ("sip:192.0.2.9", vec!["udp 192.0.2.9:5060"], vec![]),
        ("sip:[2001:db8::9]:5070;transport=tcp", vec!["tcp [2001:db8::9]:5070"], vec![]),
        ("sip:other.example;maddr=192.0.2.7", vec!["udp 192.0.2.7:5060"], vec![]),
        // RFC 3263 §4.2: a port that is said is used, and A and AAAA are all that is asked.
        ("sip:host.example:5080", vec!["udp 192.0.2.1:5080"], vec!["Address host.example"]),
        ("sip:HOST.example.:5080;transport=TCP", vec!["tcp 192.0.2.1:5080"], vec!["Address host.example"]),
        ("sip:localhost", vec![], vec!["Address localhost"]),
    ] {
        let (found, questions, _) = zone.walk(uri, 1);
        assert_eq!((found, questions), (texts(&targets), texts(&asked)), "{uri}");
    }
}

#[test]
fn without_any_service_the_host_itself_is_taken() {
    let (targets, asked, _) = Zone::new(PLAIN).walk("sip:host.example", 1);
    assert_eq!(targets, ["udp 192.0.2.1:5060"]);
    assert_eq!(
        asked,
        ["Naptr host.example", "Srv _sip._udp.host.example", "Srv _sip._tcp.host.example", "Address host.example"]
    );
    let (targets, asked, _) = Zone::new(PLAIN).walk("sip:host.example;transport=tcp", 1);
    assert_eq!(targets, ["tcp 192.0.2.1:5060"]);
    assert_eq!(asked, ["Srv _sip._tcp.host.example", "Address host.example"]);
}

#[test]
fn naptr_says_which_transports_and_in_which_order() {
    // RFC 3263 §4.1, with TLS wished most and not spoken here.
    let zone = Zone::new(
        "example.com NAPTR 50 50 SIPS+D2T _sips._tcp.example.com
         example.com NAPTR 100 50 SIP+D2U _sip._udp.example.com
         example.com NAPTR 90 50 sip+d2t tcp.elsewhere.example
         example.com NAPTR 90 40 E2U+sip nothing.example
         _sip._udp.example.com SRV 0 1 5060 u.example.com
         tcp.elsewhere.example SRV 0 1 5062 t.example.com
         u.example.com A 192.0.2.1
         t.example.com A 192.0.2.2",
    );
    let (targets, asked, _) = zone.walk("sip:example.com", 1);
    assert_eq!(targets, ["tcp 192.0.2.2:5062", "udp 192.0.2.1:5060"]);
    // What comes second is looked up only when the first has failed.
    assert_eq!(asked[..3], ["Naptr example.com", "Srv tcp.elsewhere.example", "Address t.example.com"]);
}

#[test]
fn a_domain_that_offers_only_tls_is_not_called_in_the_clear() {
    let zone = Zone::new(
        "example.com NAPTR 50 50 SIPS+D2T _sips._tcp.example.com
         example.com NAPTR 60 50 SIP+D2W _sip._ws.example.com
         example.com A 192.0.2.1",
    );
    let (targets, _, nowhere) = zone.walk("sip:example.com", 1);
    assert_eq!((targets.len(), nowhere), (0, Some(Nowhere::NoCommonTransport)));
    for (uri, reason) in [
        ("sips:example.com", Nowhere::NeedsTls),
        ("sips:192.0.2.1:5061", Nowhere::NeedsTls),
        ("sip:example.com;transport=tls", Nowhere::UnknownTransport),
        ("tel:+12065550100", Nowhere::NotSip),
        ("sip:nobody.example", Nowhere::NoAddress),
    ] {
        let (targets, _, nowhere) = zone.walk(uri, 1);
        assert_eq!((targets.len(), nowhere), (0, Some(reason)), "{uri}");
    }
}

#[test]
fn srv_without_a_service_is_a_no() {
    // RFC 2782: the target `.`; the host's own address is not taken then.
    let zone = Zone::new(
        "_sip._udp.example.com SRV 0 0 0 .
         _sip._tcp.example.com SRV 0 0 0 .
         example.com A 192.0.2.1",
    );
    let (targets, _, nowhere) = zone.walk("sip:example.com", 1);
    assert_eq!((targets.len(), nowhere), (0, Some(Nowhere::Declined)));
}

#[test]
fn priorities_come_in_order_and_weights_share_the_load() {
    let zone = Zone::new(
        "_sip._udp.example.com SRV 20 1 5060 last.example.com
         _sip._udp.example.com SRV 10 75 5060 big.example.com
         _sip._udp.example.com SRV 10 25 5060 small.example.com
         _sip._udp.example.com SRV 10 0 5060 rare.example.com
         big.example.com A 192.0.2.1
         small.example.com A 192.0.2.2
         rare.example.com A 192.0.2.3
         last.example.com A 192.0.2.9",
    );
    let mut first = BTreeMap::new();
    for seed in 0..4000 {
        let (targets, ..) = zone.walk("sip:example.com;transport=udp", seed);
        assert_eq!(targets.len(), 4);
        assert_eq!(targets[3], "udp 192.0.2.9:5060", "the higher priority number comes last");
        *first.entry(targets[0].clone()).or_insert(0) += 1;
        assert_eq!(zone.walk("sip:example.com;transport=udp", seed).0, targets, "chance is the seed's");
    }
    let share = |address: &str| first.get(&format!("udp {address}:5060")).copied().unwrap_or(0);
    assert!((2850..3150).contains(&share("192.0.2.1")), "{first:?}");
    assert!((850..1150).contains(&share("192.0.2.2")), "{first:?}");
    assert!((1..150).contains(&share("192.0.2.3")), "{first:?}");
}

#[test]
fn who_is_shunned_comes_last_but_comes() {
    let zone = Zone::new(
        "_sip._udp.example.com SRV 1 0 5060 a.example.com
         _sip._udp.example.com SRV 2 0 5060 b.example.com
         a.example.com A 192.0.2.1
         b.example.com A 192.0.2.2",
    );
    let dead: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
    let (targets, ..) = zone.walk_around("sip:example.com;transport=udp", 1, |_, address| address == dead);
    assert_eq!(targets, ["udp 192.0.2.2:5060", "udp 192.0.2.1:5060"]);
    let (targets, ..) = zone.walk_around("sip:example.com;transport=udp", 1, |_, _| true);
    assert_eq!(targets, ["udp 192.0.2.1:5060", "udp 192.0.2.2:5060"]);
}

#[test]
fn a_zone_without_end_is_left_after_a_bounded_way() {
    let mut lines = Vec::new();
    for service in 0..40 {
        lines.push(format!("example.com NAPTR {service} 0 SIP+D2U s{service}.example"));
        for server in 0..40 {
            lines.push(format!("s{service}.example SRV {server} 0 5060 h{service}-{server}.example"));
            for host in 0..40 {
                lines.push(format!("h{service}-{server}.example A 10.{service}.{server}.{host}"));
            }
        }
    }
    let (targets, asked, _) = Zone::new(&lines.join("\n")).walk("sip:example.com", 1);
    assert!(targets.len() <= TARGETS_MAX && asked.len() <= LOOKUPS_MAX, "{} {}", targets.len(), asked.len());
    // And one whose hosts have no address.
    let servers: Vec<String> = (0..40).map(|n| format!("_sip._udp.example.com SRV 0 0 1 h{n}.example")).collect();
    let (targets, asked, _) = Zone::new(&servers.join("\n")).walk("sip:example.com", 1);
    assert_eq!((targets.len(), asked.len()), (0, LOOKUPS_MAX));
}

#[test]
fn answers_hold_for_their_time_and_no_longer_than_is_sane() {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to turn a clock from")]
    let now = Instant::now();
    let mut answers = Answers::default();
    let question = |name: &str| Question::new(RecordKind::Address, name);
    let found = Answer::addresses(["192.0.2.1".parse().expect("an address")], Duration::from_hours(1000));
    answers.keep(now, question("long.example"), found.clone());
    answers.keep(now, question("none.example"), Answer::nothing(Duration::from_hours(1000)));
    answers.keep(now, question("never.example"), Answer { ttl: Duration::ZERO, ..found.clone() });
    assert_eq!(answers.find(now, &question("LONG.example.")), Some(&found));
    assert!(answers.find(now, &question("never.example")).is_none());
    assert!(answers.last(&question("never.example")).is_some());
    let soon = now + NEGATIVE_TTL_MAX.saturating_sub(Duration::from_secs(1));
    assert!(answers.find(soon, &question("none.example")).is_some());
    let later = now + NEGATIVE_TTL_MAX;
    assert!(answers.find(later, &question("none.example")).is_none());
    assert!(answers.find(later, &question("long.example")).is_some());
    assert!(answers.find(now + Duration::from_hours(1), &question("long.example")).is_none());
    for number in 0..2 * ANSWERS_MAX {
        answers.keep(now, question(&format!("{number}.example")), found.clone());
    }
    assert!(answers.find(now, &question(&format!("{}.example", 2 * ANSWERS_MAX - 1))).is_some());
    assert_eq!(answers.known.len(), ANSWERS_MAX);
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}
