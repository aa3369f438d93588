//! The torture messages of RFC 4475 and RFC 5118, sent to a running switch over real sockets.
//!
//! Each is followed by a question that any live server answers: what was answered before that answer belongs to the
//! message. Over UDP our address is one of this machine's own that nobody else uses, because answers go to the port that
//! Via names.

#[path = "../../../sip/tests/torture/corpus.rs"]
mod corpus;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use sip::message::{Via, parse_datagram};

use self::corpus::{Case, Verdict, cases, ipv6_cases};
use crate::a_call_works;
use crate::harness::World;

/// Long enough for any machine; only a server that is dead keeps us waiting for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message, and the statuses it is answered with.
type Answered = (&'static str, &'static [u16], Option<&'static [u16]>);

/// What a server where nobody can call answers to each message: over UDP, and over TCP where that differs.
const ANSWERS: [Answered; 49] = [
    // A To tag of a dialog nobody has.
    ("wsinv", &[481], None),
    ("intmeth", &[501], None),
    ("esc01", &[403], None),
    ("escnull", &[401], None),
    ("esc02", &[501], None),
    ("lwsdisp", &[200], None),
    ("longreq", &[403], None),
    // Two requests: a datagram holds one, a stream both.
    ("dblreq", &[401], Some(&[401, 403])),
    ("semiuri", &[200], None),
    ("transports", &[200], None),
    ("mpart01", &[405], None),
    // Responses to nothing.
    ("unreason", &[], None),
    ("noreason", &[], None),
    ("badinv01", &[400], None),
    // A length that is longer than what follows: over a stream the rest is waited for.
    ("clerr", &[400], Some(&[])),
    ("ncl", &[400], None),
    ("scalar02", &[400], None),
    ("scalarlg", &[], None),
    ("quotbal", &[400], None),
    ("ltgtruri", &[400], None),
    ("lwsruri", &[400], None),
    ("lwsstart", &[400], None),
    ("trws", &[400], None),
    ("escruri", &[400], None),
    ("baddate", &[403], None),
    ("regbadct", &[400], None),
    ("badaspec", &[400], None),
    ("baddn", &[400], None),
    ("badvers", &[505], None),
    ("mismatch01", &[400], None),
    ("mismatch02", &[501], None),
    ("bigcode", &[], None),
    ("badbranch", &[200], None),
    ("insuf", &[400], None),
    ("unkscm", &[416], None),
    ("novelsc", &[416], None),
    ("unksm2", &[401], None),
    ("bext01", &[420], None),
    ("invut", &[415], None),
    ("regaut01", &[401], None),
    ("multi01", &[400], None),
    ("mcl01", &[400], None),
    ("bcast", &[], None),
    ("zeromf", &[483], None),
    ("cparam01", &[401], None),
    ("cparam02", &[401], None),
    ("regescrt", &[401], None),
    ("sdp01", &[403], None),
    // No Content-Length: over a stream it must be there (RFC 3261 §20.14).
    ("inv2543", &[403], Some(&[400])),
];

const IPV6_ANSWERS: [Answered; 13] = [
    ("ipv6-good", &[401], None),
    ("ipv6-bad", &[400], None),
    ("port-ambiguous", &[401], None),
    ("port-unambiguous", &[401], None),
    // Of no dialog.
    ("via-received-param-with-delim", &[481], None),
    ("via-received-param-no-delim", &[481], None),
    ("ipv6-in-sdp", &[403], None),
    ("mult-ip-in-header", &[481], None),
    ("mult-ip-in-sdp", &[403], None),
    ("ipv4-mapped-ipv6", &[403], None),
    ("ipv6-bug-abnf-3-colons", &[200], None),
    ("ipv6-correct-abnf-2-colons", &[200], None),
    ("ipv6-zone", &[400], None),
];

fn expected(name: &str) -> (&'static [u16], Option<&'static [u16]>) {
    let found = ANSWERS.iter().chain(&IPV6_ANSWERS).find(|(known, ..)| *known == name);
    let (_, udp, tcp) = found.unwrap_or_else(|| panic!("{name} has no answer"));
    (udp, *tcp)
}

fn all() -> Vec<Case> {
    let all: Vec<Case> = cases().into_iter().chain(ipv6_cases()).collect();
    assert_eq!(all.len(), ANSWERS.len() + IPV6_ANSWERS.len());
    all
}

/// The question after each message.
fn question(transport: &str, number: usize) -> String {
    format!(
        "OPTIONS sip:convoke@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1;branch=z9hG4bKlives{number};rport\r\n\
         From: <sip:a@b.example>;tag=1\r\nTo: <sip:convoke@127.0.0.1>\r\nCall-ID: lives{number}\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
    status.unwrap_or_else(|| panic!("no answer: {answer}")).parse().unwrap()
}

/// An address of this machine's that is ours alone, and a socket on each port that a message wants its answer at.
struct Sockets {
    address: Ipv4Addr,
    home: UdpSocket,
    others: BTreeMap<u16, UdpSocket>,
}

impl Sockets {
    fn new(server: SocketAddr) -> Self {
        let number = std::process::id();
        let address = Ipv4Addr::new(127, 80 + (number >> 16) as u8 % 100, (number >> 8) as u8, number as u8 | 2);
        let home = UdpSocket::bind((address, 0)).unwrap();
        home.connect(server).unwrap();
        home.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { address, home, others: BTreeMap::new() }
    }

    /// The port that answers to a message go to (RFC 3261 §18.2.2, RFC 3581 §4).
    fn expect_answer(&mut self, message: &[u8]) {
        let headers = match parse_datagram(message) {
            Ok(sip::message::Message::Request(request)) => request.headers,
            Ok(sip::message::Message::Response(_)) => return,
            Err(malformed) => match malformed.response() {
                Some(response) => response.headers,
                None => return,
            },
        };
        let Ok(via) = headers.top_via() else { return };
        if via.has_rport() {
            return;
        }
        let port = Via::port_or_default(&via);
        self.others.entry(port).or_insert_with(|| {
            let socket = UdpSocket::bind((self.address, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
    }

    /// The statuses that a message is answered with.
    fn ask(&mut self, number: usize, message: &[u8]) -> Vec<u16> {
        self.expect_answer(message);
        self.home.send(message).unwrap();
        self.home.send(question("UDP", number).as_bytes()).unwrap();
        let mut buffer = vec![0; 65_535];
        let mut statuses = Vec::new();
        loop {
            let length = self.home.recv(&mut buffer).expect("the server lives");
            let answer = String::from_utf8_lossy(&buffer[..length]);
            if answer.contains(&format!("Call-ID: lives{number}\r\n")) {
                assert_eq!(status(&answer), 200);
                break;
            }
            statuses.push(status(&answer));
        }
        // The server sends in order, so they are all here.
        for socket in self.others.values() {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => statuses.push(status(&String::from_utf8_lossy(&buffer[..length]))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        statuses
    }
}

/// The statuses that a message and the question behind it are answered with over a connection of their own.
fn ask_over_tcp(server: SocketAddr, number: usize, message: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(message).unwrap();
    // It may have been closed already.
    let _ = stream.write_all(question("TCP", number).as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the server lives: {error}"),
        Ok(_) | Err(_) => {}
    }
    let answers = String::from_utf8_lossy(&answers);
    answers.lines().filter(|line| line.starts_with("SIP/2.0 ")).map(status).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_torture_message_is_answered_over_udp_and_a_call_works_after_them() {
    let mut world = World::start(&["desk"], Vec::new());
    let server = world.sip();
    let asking = tokio::task::spawn_blocking(move || {
        let mut sockets = Sockets::new(server);
        for (number, case) in all().iter().enumerate() {
            let answers = sockets.ask(number, &case.bytes);
            assert_eq!(answers, expected(case.name).0, "{}", case.name);
            match case.verdict {
                Verdict::Answered(status) => assert_eq!(answers, [status], "{}", case.name),
                Verdict::Dropped => assert!(answers.is_empty(), "{}", case.name),
                Verdict::Parses => {}
            }
        }
    });
    asking.await.unwrap();
    a_call_works(&mut world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_torture_message_is_answered_over_tcp_and_a_call_works_after_them() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let mut world = World::start_with(&["desk"], Vec::new(), Vec::new(), |config| {
            config.sip.tcp = vec![SocketAddr::new(ip, 0)];
        });
        let server = world.switch.addresses().tcp[0];
        let asking = tokio::task::spawn_blocking(move || {
            for (number, case) in all().iter().enumerate() {
                let (udp, tcp) = expected(case.name);
                let answers = ask_over_tcp(server, number, &case.bytes);
                let own = tcp.unwrap_or(udp);
                // Behind a message whose end nobody knows the question is not heard, and the connection is closed.
                let heard = answers.strip_suffix(&[200]).filter(|rest| rest.len() >= own.len()).unwrap_or(&answers);
                assert_eq!(heard, own, "{} to {ip}: {answers:?}", case.name);
                let is_lost = matches!(case.name, "clerr" | "ncl" | "mcl01" | "inv2543");
                assert_eq!(heard.len() == answers.len(), is_lost, "{} to {ip}: {answers:?}", case.name);
            }
        });
        asking.await.unwrap();
        a_call_works(&mut world).await;
    }
}
