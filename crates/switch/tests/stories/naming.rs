//! Trunks that are known by name: a small DNS server on loopback, and carriers that it leads to.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use control::Cause;

use crate::handset::{Answer, Phone, Script};
use crate::harness::{World, conference, to_number, trunk};

const A: u16 = 1;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

/// Answers what it is asked from a table, and says of everything else that there is none (RFC 1035 §4).
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Table = BTreeMap<(String, u16), Vec<Vec<u8>>>;

impl NameServer {
    fn start(table: Table) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noting, ends) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let (name, kind, end) = question(&buffer[..length]);
                let records = table.get(&(name.clone(), kind)).cloned().unwrap_or_default();
                noting.lock().unwrap().push((name, kind));
                let mut answer = buffer[..end].to_vec();
                // A response, recursion available; no error; one question, so many answers and nothing else.
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[6..12].copy_from_slice(&[0, records.len() as u8, 0, 0, 0, 0]);
                for data in records {
                    // The name of the question, the kind, class IN, a minute to live.
                    answer.extend([0xc0, 12]);
                    answer.extend(kind.to_be_bytes());
                    answer.extend([0, 1, 0, 0, 0, 60]);
                    answer.extend((data.len() as u16).to_be_bytes());
                    answer.extend(data);
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Name and kind of a question, and where it ends.
fn question(message: &[u8]) -> (String, u16, usize) {
    let mut at = 12;
    let mut labels = Vec::new();
    while message[at] > 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), u16::from_be_bytes([message[at + 1], message[at + 2]]), at + 5)
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn srv(priority: u16, port: u16, target: &str) -> Vec<u8> {
    let numbers = [priority, 0, port].map(u16::to_be_bytes).concat();
    [numbers, wire_name(target)].concat()
}

fn naptr(order: u16, service: &str, replacement: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    let numbers = [order, 10].map(u16::to_be_bytes).concat();
    [numbers, text("s"), text(service), text(""), wire_name(replacement)].concat()
}

fn world(dns: &NameServer) -> World {
    let mut carrier = trunk("carrier", "127.0.0.1:9".parse().unwrap(), &["+"]);
    "sip:carrier.example".clone_into(&mut carrier.uri);
    World::start_with(&[], vec![carrier], Vec::new(), |config| config.sip.resolver = Some(dns.address))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_is_found_by_its_services_and_the_next_server_stands_in_for_a_silent_one() {
    let silent = Phone::start(Script { deaf: true, ..Script::new(Answer::PickUp) });
    let failing = Phone::start(Script::new(Answer::Refuse(503)));
    let working = Phone::start(Script::new(Answer::PickUp));
    let here = || vec![Ipv4Addr::LOCALHOST.octets().to_vec()];
    let dns = NameServer::start(BTreeMap::from([
        (
            ("carrier.example".to_owned(), NAPTR),
            vec![naptr(10, "SIPS+D2T", "_sips._tcp.carrier.example"), naptr(20, "SIP+D2U", "udp.carrier.example")],
        ),
        (
            ("udp.carrier.example".to_owned(), SRV),
            vec![
                srv(30, working.address.port(), "c.carrier.example"),
                srv(10, silent.address.port(), "a.carrier.example"),
                srv(20, failing.address.port(), "b.carrier.example"),
            ],
        ),
        (("a.carrier.example".to_owned(), A), here()),
        (("b.carrier.example".to_owned(), A), here()),
        (("c.carrier.example".to_owned(), A), here()),
    ]));
    let mut world = world(&dns);
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    world.connected(conference(1), leg).await;
    let asked = dns.asked();
    assert_eq!(asked[..2], [("carrier.example".to_owned(), NAPTR), ("udp.carrier.example".to_owned(), SRV)]);
    assert!(!asked.iter().any(|(name, _)| name.contains("_sips")), "TLS is not spoken: {asked:?}");

    // What is known is not asked again.
    let leg = world.dial(conference(1), to_number("+12065550124")).await;
    world.connected(conference(1), leg).await;
    assert_eq!(dns.asked(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_without_services_is_taken_at_its_name_and_one_without_a_name_has_no_route() {
    let working = Phone::start(Script::new(Answer::PickUp));
    let here = vec![Ipv4Addr::LOCALHOST.octets().to_vec()];
    let dns = NameServer::start(BTreeMap::from([(("carrier.example".to_owned(), A), here)]));
    let mut carrier = trunk("carrier", "127.0.0.1:9".parse().unwrap(), &["+"]);
    carrier.uri = format!("sip:carrier.example:{}", working.address.port());
    let mut nameless = trunk("nameless", "127.0.0.1:9".parse().unwrap(), &["+49"]);
    "sip:nobody.example".clone_into(&mut nameless.uri);
    let mut world =
        World::start_with(&[], vec![carrier, nameless], Vec::new(), |config| config.sip.resolver = Some(dns.address));
    let leg = world.dial(conference(1), to_number("+12065550123")).await;
    world.connected(conference(1), leg).await;
    assert!(dns.asked().iter().all(|(_, kind)| !matches!(*kind, SRV | NAPTR)), "a port is said: {:?}", dns.asked());

    world.directory.store(Arc::new(switch::Directory::new([], world.directory.load().trunks()[1..].to_vec())));
    let leg = world.dial(conference(1), to_number("+49301234")).await;
    assert_eq!(world.expect_hung_up(leg).await, Cause::NoRoute);
}
