//! The whole SIP side of a server: orders, datagrams, connections and time in any order, and then everything has an end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::agent::{
    Agent, AgentConfig, Algorithm, Branch, Caller, Credentials, Dial, Flow, HangUpCause, Input, LegKey, Lookup, Order,
    Output, Register, RegistrarConfig, Report, Transport, Users,
};
use sip::digest::ha1;
use sip::locate::Answer;
use sip::message::Uri;

const UDP: Flow = Flow(1);
const STREAM: Flow = Flow(101);
const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.1\r\n";
/// Records of one input, so that none takes for ever.
const RECORDS_MAX: usize = 64;
/// Deadlines after the last record, by when all must be over: some thousands of retransmissions.
const DEADLINES_MAX: usize = 20_000;

/// Takes records that end with a zero byte; the first byte of each says what it is.
///
/// `d` a datagram of our usual peer, `e` one from elsewhere, `s` bytes on a connection, `x` its end, `t` time until the
/// next deadline; an order: `c` call, `f` call two at once, `k` confirm, `h` hang up, `i` re-INVITE, `a` accept, `b` ring,
/// `n` refuse, `o` answer an offer, `p` refuse one, `r` register, `u` unregister, `g` ping, `z` drain.
///
/// # Panics
/// When a leg ends never or twice, or something is left behind.
pub fn run(bytes: &[u8]) {
    let mut stage = Stage::new();
    for record in bytes.split(|byte| *byte == 0).take(RECORDS_MAX) {
        if let Some((&kind, body)) = record.split_first() {
            stage.take(kind, body);
        }
    }
    stage.settle();
}

struct Stage {
    agent: Agent,
    now: Instant,
    /// How often each leg has ended.
    legs: BTreeMap<LegKey, usize>,
    last: LegKey,
    dialled: u8,
}

struct Alice;

impl Users for Alice {
    fn ha1(&self, username: &str, _domain: &str, algorithm: Algorithm) -> Lookup {
        if username != "alice" {
            return Lookup::Unknown;
        }
        Lookup::Ha1 { ha1: ha1(algorithm, "alice", "convoke", "wonderland"), aor: "alice".to_owned() }
    }
}

fn ours() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5060))
}

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 5060))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 7777))
}

fn uri(text: &str) -> Uri {
    text.parse().expect("a URI")
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let mut config = AgentConfig::new("convoke-test/1", [1; 32], [101; 32]);
        config.registrar = Some(RegistrarConfig::default());
        config.users = Arc::new(Alice);
        let mut agent = Agent::new(config, now);
        for (flow, transport) in [(UDP, Transport::Udp), (Flow(2), Transport::Tcp)] {
            agent.handle(now, Input::Listening { flow, transport, local: ours(), advertised: ours() });
        }
        Self { agent, now, legs: BTreeMap::new(), last: LegKey([0; 16]), dialled: 0 }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        let leg = self.last;
        match kind {
            b'd' => self.give(Input::Datagram { flow: UDP, source: peer(), bytes: body }),
            b'e' => self.give(Input::Datagram { flow: UDP, source: stranger(), bytes: body }),
            b's' => self.give(Input::Stream { flow: STREAM, source: stranger(), local: ours(), bytes: body }),
            b'x' => self.give(Input::StreamClosed { flow: STREAM }),
            b't' => self.wait(),
            b'c' => self.dial(&["sip:user1@10.0.0.2:5060"]),
            b'f' => {
                self.dial(&["sip:user1@10.0.0.2:5060;transport=tcp", "sip:a@nowhere.example", "sip:user1@10.0.0.2"]);
            }
            b'k' => self.order(Order::Confirm { leg }),
            b'h' => self.order(Order::HangUp { leg, cause: HangUpCause::because(200, "enough") }),
            b'i' => self.order(Order::Reinvite { leg, offer: OFFER.to_vec() }),
            b'a' => self.order(Order::Accept { leg, sdp: OFFER.to_vec() }),
            b'b' => self.order(Order::Ring { leg, status: 180, sdp: None }),
            b'n' => self.order(Order::Refuse { leg, status: 486 }),
            b'o' => self.order(Order::AnswerOffer { leg, sdp: OFFER.to_vec() }),
            b'p' => self.order(Order::RefuseOffer { leg, status: 488 }),
            b'r' => self.order(Order::Register(Box::new(Register {
                key: 1,
                registrar: uri("sip:10.0.0.2"),
                aor: uri("sip:bot@10.0.0.2"),
                contact_user: "bot".to_owned(),
                credentials: Some(credentials()),
                expires: Duration::from_mins(2),
            }))),
            b'u' => self.order(Order::Unregister { key: 1 }),
            b'g' => self.order(Order::Ping { key: 2, target: uri("sip:10.0.0.2") }),
            b'z' => self.order(Order::Drain),
            _ => {}
        }
    }

    fn dial(&mut self, targets: &[&str]) {
        self.dialled += 1;
        let leg = LegKey([self.dialled; 16]);
        self.last = leg;
        self.legs.insert(leg, 0);
        self.order(Order::Dial(Box::new(Dial {
            leg,
            branches: targets.iter().map(|target| Branch::to_uri(uri(target))).collect(),
            caller: Caller { display: None, uri: uri("sip:bot@convoke.example"), asserted: None },
            offer: OFFER.to_vec(),
            ring_for: Duration::from_mins(1),
            credentials: Some(credentials()),
            extra_headers: Vec::new(),
        })));
    }

    fn order(&mut self, order: Order) {
        self.give(Input::Order(order));
    }

    fn wait(&mut self) {
        if let Some(deadline) = self.agent.deadline() {
            self.now = self.now.max(deadline);
            self.give(Input::Time);
        }
    }

    fn give(&mut self, input: Input<'_>) {
        self.agent.handle(self.now, input);
        while let Some(output) = self.agent.poll_output() {
            if let Output::Report(report) = output {
                self.hear(&report);
            } else if let Output::Connect { connect, .. } = output {
                self.agent.handle(self.now, Input::ConnectFailed { connect });
            } else if let Output::LookUp { query, .. } = output {
                self.agent.handle(self.now, Input::LookedUp { query, answer: Answer::failed() });
            } else if let Output::Transmit { bytes, .. } = output {
                assert!(!bytes.is_empty(), "nothing is no message");
            }
        }
    }

    fn hear(&mut self, report: &Report) {
        if let Report::Incoming(incoming) = report {
            self.last = incoming.leg;
            let before = self.legs.insert(incoming.leg, 0);
            assert_eq!(before, None, "a leg comes in once");
        } else if let Report::Failed { leg, .. } | Report::Ended { leg, .. } = report {
            let ended = self.legs.get_mut(leg).expect("a leg that ends was known");
            *ended += 1;
            assert_eq!(*ended, 1, "a leg ends once");
        }
    }

    /// Everybody hangs up, the connection breaks, time passes.
    fn settle(&mut self) {
        let legs: Vec<LegKey> = self.legs.keys().copied().collect();
        for leg in legs {
            self.order(Order::HangUp { leg, cause: HangUpCause::default() });
        }
        self.order(Order::Unregister { key: 1 });
        self.give(Input::StreamClosed { flow: STREAM });
        for _ in 0..DEADLINES_MAX {
            if self.agent.is_idle() {
                break;
            }
            self.wait();
        }
        assert!(self.agent.is_idle(), "something is left: {:?}", self.agent);
        assert!(self.legs.values().all(|&ended| ended == 1), "a leg has not ended");
    }
}

fn credentials() -> Credentials {
    Credentials { username: "bot".to_owned(), password: "wonderland".to_owned() }
}
