//! A world of agents in one thread: a clock we turn, and a network that loses, repeats and reorders by a seed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sip::agent::{
    Agent, AgentConfig, Branch, Caller, ConnectId, Dial, Flow, HangUpCause, Input, LegKey, Order, Output, Report,
    Snapshot, Transport,
};
use sip::locate::{Answer, Naptr, Question, Record, RecordKind, Srv};
use sip::message::Uri;

pub(crate) const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.1\r\n";
pub(crate) const ANSWER: &[u8] =
    b"v=0\r\no=- 2 1 IN IP4 10.0.0.2\r\ns=-\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\nc=IN IP4 10.0.0.2\r\n";
/// What the called side says before it answers.
pub(crate) const EARLY: &[u8] =
    b"v=0\r\no=- 2 1 IN IP4 10.0.0.2\r\ns=-\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\nc=IN IP4 10.0.0.3\r\n";
pub(crate) const LEG: LegKey = LegKey([7; 16]);

/// The address of a peer that is no agent: a test speaks for it.
pub(crate) const RAW: &str = "10.9.9.9:5060";
pub(crate) const CONTACT: &str = "Contact: <sip:raw@10.9.9.9>\r\n";

/// The UDP flow of each node; connections are numbered from 100.
const UDP: Flow = Flow(1);
const TCP_LISTENER: Flow = Flow(2);

/// How bad the network is, in percent and milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) repeats: u64,
    pub(crate) delay_max: u64,
}

pub(crate) const FINE: Weather = Weather { loss: 0, repeats: 0, delay_max: 1 };

pub(crate) struct Node {
    pub(crate) agent: Agent,
    pub(crate) address: SocketAddr,
    pub(crate) reports: Vec<Report>,
    /// Every message it sent, as text, with the time.
    pub(crate) sent: Vec<(Instant, String)>,
    /// Where each of them went.
    destinations: Vec<SocketAddr>,
    /// Connections: our flow, and the peer's node and flow.
    streams: BTreeMap<Flow, (usize, Flow)>,
    pub(crate) is_down: bool,
    /// It is behind a NAT: nobody can connect to it.
    pub(crate) is_hidden: bool,
}

enum Parcel {
    Datagram { to: SocketAddr, from: SocketAddr, bytes: Vec<u8> },
    Stream { node: usize, flow: Flow, from: SocketAddr, bytes: Vec<u8> },
    Connected { node: usize, connect: ConnectId, destination: SocketAddr },
    Closed { node: usize, flow: Flow },
    Order { node: usize, order: Order },
}

/// What stops a message: given its text, whether it is lost.
type Filter = Box<dyn FnMut(&str) -> bool>;

pub(crate) type Rewrite = Box<dyn FnMut(&str) -> Vec<u8>>;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Weather,
    pub(crate) filter: Option<Filter>,
    /// Changes messages on their way.
    pub(crate) rewrite: Option<Rewrite>,
    /// What DNS says; of everything else that there is none.
    pub(crate) zone: BTreeMap<Question, Answer>,
    /// What DNS was asked.
    pub(crate) questions: Vec<Question>,
    parcels: BTreeMap<(Instant, u64), Parcel>,
    count: u64,
    random: u64,
    next_flow: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let now = Instant::now();
        Self {
            now,
            start: now,
            nodes: Vec::new(),
            weather: FINE,
            filter: None,
            rewrite: None,
            zone: BTreeMap::new(),
            questions: Vec::new(),
            parcels: BTreeMap::new(),
            count: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            next_flow: 100,
        }
    }

    /// Two nodes with the defaults: a caller and a callee.
    pub(crate) fn pair(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.add(config(1));
        world.add(config(2));
        world
    }

    pub(crate) fn add(&mut self, config: AgentConfig) -> usize {
        let index = self.nodes.len();
        let address = SocketAddr::from(([10, 0, 0, index as u8 + 1], 5060));
        let mut agent = Agent::new(config, self.now);
        listen(&mut agent, self.now, address);
        self.nodes.push(Node {
            agent,
            address,
            reports: Vec::new(),
            sent: Vec::new(),
            destinations: Vec::new(),
            streams: BTreeMap::new(),
            is_down: false,
            is_hidden: false,
        });
        index
    }

    /// The node's process dies and another takes its place, with the same secret and address.
    pub(crate) fn restart(&mut self, node: usize, config: AgentConfig) {
        self.nodes[node].agent = Agent::new(config, self.now);
        let address = self.nodes[node].address;
        listen(&mut self.nodes[node].agent, self.now, address);
        self.nodes[node].reports.clear();
    }

    /// DNS knows an address of a name.
    pub(crate) fn dns_host(&mut self, name: &str, addresses: &[IpAddr]) {
        let question = Question::new(RecordKind::Address, name);
        self.zone.insert(question, Answer::addresses(addresses.iter().copied(), seconds(300)));
    }

    /// DNS knows servers: priority, port and host of each.
    pub(crate) fn dns_servers(&mut self, name: &str, servers: &[(u16, u16, &str)]) {
        let record = |&(priority, port, target): &(u16, u16, &str)| {
            Record::Srv(Srv { priority, weight: 0, port, target: target.to_owned() })
        };
        let answer = Answer { records: servers.iter().map(record).collect(), ttl: seconds(300) };
        self.zone.insert(Question::new(RecordKind::Srv, name), answer);
    }

    /// DNS knows services: preference, service and where its servers are listed.
    pub(crate) fn dns_services(&mut self, name: &str, services: &[(u16, &str, &str)]) {
        let record = |&(preference, service, replacement): &(u16, &str, &str)| {
            Record::Naptr(Naptr {
                order: 10,
                preference,
                flags: "S".to_owned(),
                service: service.to_owned(),
                regexp: String::new(),
                replacement: replacement.to_owned(),
            })
        };
        let answer = Answer { records: services.iter().map(record).collect(), ttl: seconds(300) };
        self.zone.insert(Question::new(RecordKind::Naptr, name), answer);
    }

    pub(crate) fn uri(&self, node: usize) -> Uri {
        format!("sip:user{node}@{}", self.nodes[node].address).parse().expect("a URI")
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below.max(1)
    }

    pub(crate) fn order(&mut self, node: usize, order: Order) {
        self.nodes[node].agent.handle(self.now, Input::Order(order));
        self.pump(node);
    }

    /// The order is given after a while.
    pub(crate) fn order_in(&mut self, delay: Duration, node: usize, order: Order) {
        self.post(delay, Parcel::Order { node, order });
    }

    pub(crate) fn dial(&mut self, node: usize, leg: LegKey, callees: &[usize]) {
        let branches = callees.iter().map(|&callee| Branch::to_uri(self.uri(callee))).collect();
        self.dial_branches(node, leg, branches, Duration::from_mins(1));
    }

    pub(crate) fn dial_branches(&mut self, node: usize, leg: LegKey, branches: Vec<Branch>, ring_for: Duration) {
        self.order(node, Order::Dial(Box::new(dial(leg, branches, ring_for))));
    }

    /// Dials one branch and gives back where its INVITE goes first.
    pub(crate) fn dial_and_see(&mut self, node: usize, branch: Branch) -> SocketAddr {
        self.dial_branches(node, LEG, vec![branch], seconds(30));
        *self.nodes[node].destinations.last().expect("an INVITE")
    }

    /// Where a node's messages went since it was last asked.
    pub(crate) fn last_destinations(&mut self, node: usize) -> Vec<SocketAddr> {
        std::mem::take(&mut self.nodes[node].destinations)
    }

    pub(crate) fn hang_up(&mut self, node: usize, leg: LegKey) {
        self.order(node, Order::HangUp { leg, cause: HangUpCause::default() });
    }

    /// Raw bytes from elsewhere reach a node.
    pub(crate) fn inject(&mut self, node: usize, from: SocketAddr, bytes: &[u8]) {
        self.nodes[node].agent.handle(self.now, Input::Datagram { flow: UDP, source: from, bytes });
        self.pump(node);
    }

    /// Node 0 calls a peer that is no agent.
    pub(crate) fn call_raw(&mut self) {
        let branch = Branch::to_uri(format!("sip:raw@{RAW}").parse().expect("a URI"));
        self.dial_branches(0, LEG, vec![branch], seconds(60));
    }

    /// A peer that is no agent answers the last request of this method that a node sent. `more` are header lines.
    pub(crate) fn answer_raw(&mut self, node: usize, method: &str, status: &str, tag: &str, more: &str, body: &str) {
        let answer = self.raw_answer(node, method, status, tag, more, body);
        self.inject(node, RAW.parse().expect("an address"), answer.as_bytes());
    }

    /// Such an answer, of whoever has seen the request.
    pub(crate) fn raw_answer(
        &self,
        node: usize,
        method: &str,
        status: &str,
        tag: &str,
        more: &str,
        body: &str,
    ) -> String {
        let sent = self.nodes[node].sent.iter().rev();
        let mut requests = sent.map(|(_, text)| text).filter(|text| text.starts_with(method));
        let request = requests.next().unwrap_or_else(|| panic!("node {node} never sent {method}"));
        answer_to(request, status, tag, more, body)
    }

    /// All messages of a node that begin like this.
    pub(crate) fn all_sent(&self, node: usize, start: &str) -> Vec<&str> {
        let sent = self.nodes[node].sent.iter().map(|(_, text)| text.as_str());
        sent.filter(|text| text.starts_with(start)).collect()
    }

    /// Reports since the last time, taken away.
    pub(crate) fn take(&mut self, node: usize) -> Vec<Report> {
        std::mem::take(&mut self.nodes[node].reports)
    }

    /// Runs until a node has a report that fits; gives it back. Earlier reports of that node are gone.
    pub(crate) fn wait<T>(&mut self, node: usize, mut fits: impl FnMut(&Report) -> Option<T>) -> T {
        let until = self.now + Duration::from_secs(4000);
        loop {
            while !self.nodes[node].reports.is_empty() {
                let report = self.nodes[node].reports.remove(0);
                if let Some(found) = fits(&report) {
                    return found;
                }
            }
            assert!(self.step(until), "node {node} never reported what was waited for");
        }
    }

    pub(crate) fn wait_incoming(&mut self, node: usize) -> LegKey {
        self.wait(node, |report| match report {
            Report::Incoming(incoming) => Some(incoming.leg),
            _ => None,
        })
    }

    /// The call that comes to a node rings there.
    pub(crate) fn ring(&mut self, node: usize) -> LegKey {
        let leg = self.wait_incoming(node);
        self.order(node, Order::Ring { leg, status: 180, sdp: None });
        leg
    }

    /// The dialog of the call that a node has placed, once it is answered.
    pub(crate) fn wait_answered(&mut self, node: usize) -> Snapshot {
        self.wait(node, |report| match report {
            Report::Answered { snapshot, .. } => Some(snapshot.clone()),
            _ => None,
        })
    }

    pub(crate) fn wait_ended(&mut self, node: usize) -> Report {
        self.wait(node, |report| matches!(report, Report::Failed { .. } | Report::Ended { .. }).then(|| report.clone()))
    }

    /// A call from one node to another, answered and not yet confirmed; gives back the callee's leg.
    pub(crate) fn answer(&mut self, caller: usize, callee: usize) -> LegKey {
        self.dial(caller, LEG, &[callee]);
        let leg = self.wait_incoming(callee);
        self.order(callee, Order::Accept { leg, sdp: ANSWER.to_vec() });
        leg
    }

    /// The same, confirmed.
    pub(crate) fn connect(&mut self, caller: usize, callee: usize) -> LegKey {
        let leg = self.answer(caller, callee);
        self.wait(caller, |report| matches!(report, Report::Answered { .. }).then_some(()));
        self.order(caller, Order::Confirm { leg: LEG });
        self.wait(callee, |report| matches!(report, Report::Confirmed { .. }).then_some(()));
        leg
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until nobody waits for anything, and says so if that takes too long.
    pub(crate) fn settle(&mut self) {
        self.run_for(Duration::from_secs(200));
        for (index, node) in self.nodes.iter().enumerate() {
            assert!(node.is_down || node.agent.is_idle(), "node {index} is not idle: {:#?}", node.agent);
        }
    }

    /// As [`Self::settle`], where a registration goes on for ever.
    pub(crate) fn settle_but_registered(&mut self) {
        self.order(1, Order::Unregister { key: 1 });
        self.settle();
    }

    /// The next thing that happens until then; `false` if there is none.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        let parcel_at = self.parcels.keys().next().map(|&(at, _)| at);
        let due = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_down);
        let due = due.filter_map(|(index, node)| Some((node.agent.deadline()?, index))).min();
        let parcel_first = match (parcel_at, due) {
            (Some(at), Some((deadline, _))) => at <= deadline,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if parcel_first {
            let (&(at, number), _) = self.parcels.iter().next().expect("one was seen");
            if at > until {
                return false;
            }
            self.now = self.now.max(at);
            let parcel = self.parcels.remove(&(at, number)).expect("it is there");
            self.deliver(parcel);
            return true;
        }
        let Some((deadline, index)) = due else { return false };
        if deadline > until {
            return false;
        }
        self.now = self.now.max(deadline);
        self.nodes[index].agent.handle(self.now, Input::Time);
        self.pump(index);
        true
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Datagram { to, from, bytes } => {
                let Some(index) = self.nodes.iter().position(|node| node.address == to && !node.is_down) else {
                    return;
                };
                self.nodes[index].agent.handle(self.now, Input::Datagram { flow: UDP, source: from, bytes: &bytes });
                self.pump(index);
            }
            Parcel::Stream { node, flow, from, bytes } => {
                if self.nodes[node].streams.contains_key(&flow) {
                    let local = self.nodes[node].address;
                    // Streams have no frames: the reader gets whatever pieces there are.
                    for piece in bytes.chunks(700) {
                        let input = Input::Stream { flow, source: from, local, bytes: piece };
                        self.nodes[node].agent.handle(self.now, input);
                    }
                    self.pump(node);
                }
            }
            Parcel::Connected { node, connect, destination } => {
                let is_there = |other: &Node| other.address == destination && !other.is_down && !other.is_hidden;
                let peer = self.nodes.iter().position(is_there);
                let input = match peer {
                    Some(peer) => {
                        let (ours, theirs) = (Flow(self.next_flow), Flow(self.next_flow + 1));
                        self.next_flow += 2;
                        self.nodes[node].streams.insert(ours, (peer, theirs));
                        self.nodes[peer].streams.insert(theirs, (node, ours));
                        let mut local = self.nodes[node].address;
                        local.set_port(40000 + ours.0 as u16);
                        Input::Connected { connect, flow: ours, local, remote: destination }
                    }
                    None => Input::ConnectFailed { connect },
                };
                self.nodes[node].agent.handle(self.now, input);
                self.pump(node);
            }
            Parcel::Closed { node, flow } => {
                if self.nodes[node].streams.remove(&flow).is_some() {
                    self.nodes[node].agent.handle(self.now, Input::StreamClosed { flow });
                    self.pump(node);
                }
            }
            Parcel::Order { node, order } => self.order(node, order),
        }
    }

    /// How many connections were ever made.
    pub(crate) fn connections(&self) -> u64 {
        (self.next_flow - 100) / 2
    }

    /// Breaks all connections of a node.
    pub(crate) fn cut_streams(&mut self, node: usize) {
        let streams: Vec<_> = self.nodes[node].streams.iter().map(|(&ours, &peer)| (ours, peer)).collect();
        for (ours, (peer, theirs)) in streams {
            self.post(Duration::ZERO, Parcel::Closed { node, flow: ours });
            self.post(Duration::ZERO, Parcel::Closed { node: peer, flow: theirs });
        }
    }

    fn post(&mut self, delay: Duration, parcel: Parcel) {
        self.count += 1;
        self.parcels.insert((self.now + delay, self.count), parcel);
    }

    fn pump(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].agent.poll_output() {
            match output {
                Output::Transmit { flow, destination, bytes } => self.transmit(index, flow, destination, bytes),
                Output::Connect { connect, transport, destination } => {
                    assert_eq!(transport, Transport::Tcp);
                    let parcel = Parcel::Connected { node: index, connect, destination };
                    self.post(Duration::from_millis(1), parcel);
                }
                Output::CloseFlow(flow) => {
                    if let Some((peer, theirs)) = self.nodes[index].streams.remove(&flow) {
                        self.post(Duration::from_millis(1), Parcel::Closed { node: peer, flow: theirs });
                    }
                }
                Output::LookUp { query, question } => {
                    let answer = self.zone.get(&question).cloned().unwrap_or_else(|| Answer::nothing(seconds(60)));
                    self.questions.push(question);
                    self.nodes[index].agent.handle(self.now, Input::LookedUp { query, answer });
                }
                Output::Report(report) => self.nodes[index].reports.push(report),
            }
        }
    }

    fn transmit(&mut self, index: usize, flow: Flow, destination: SocketAddr, mut bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(rewrite) = &mut self.rewrite {
            bytes = rewrite(&text);
        }
        let is_lost = self.filter.as_mut().is_some_and(|filter| filter(&text));
        self.nodes[index].sent.push((self.now, text));
        self.nodes[index].destinations.push(destination);
        if is_lost || self.nodes[index].is_down {
            return;
        }
        if flow == UDP {
            let from = self.nodes[index].address;
            let copies = if self.random(100) < self.weather.repeats { 2 } else { 1 };
            for _ in 0..copies {
                if self.random(100) >= self.weather.loss {
                    let delay = Duration::from_micros(500 + self.random(self.weather.delay_max * 1000));
                    self.post(delay, Parcel::Datagram { to: destination, from, bytes: bytes.clone() });
                }
            }
            return;
        }
        if let Some(&(peer, theirs)) = self.nodes[index].streams.get(&flow) {
            let mut from = self.nodes[index].address;
            // The side that connected has another port than the one it listens on.
            if flow.0.is_multiple_of(2) {
                from.set_port(40000 + flow.0 as u16);
            }
            self.post(Duration::from_millis(1), Parcel::Stream { node: peer, flow: theirs, from, bytes });
        }
    }

    /// How many messages of a node begin like this.
    pub(crate) fn count_sent(&self, node: usize, start: &str) -> usize {
        self.nodes[node].sent.iter().filter(|(_, text)| text.starts_with(start)).count()
    }

    pub(crate) fn find_sent(&self, node: usize, start: &str) -> &str {
        let found = self.nodes[node].sent.iter().find(|(_, text)| text.starts_with(start));
        &found.unwrap_or_else(|| panic!("node {node} never sent {start}")).1
    }
}

fn listen(agent: &mut Agent, now: Instant, address: SocketAddr) {
    let udp = Input::Listening { flow: UDP, transport: Transport::Udp, local: address, advertised: address };
    agent.handle(now, udp);
    let tcp = Input::Listening { flow: TCP_LISTENER, transport: Transport::Tcp, local: address, advertised: address };
    agent.handle(now, tcp);
}

pub(crate) fn config(seed: u8) -> AgentConfig {
    AgentConfig::new("convoke-test/1", [seed; 32], [seed.wrapping_add(100); 32])
}

pub(crate) fn dial(leg: LegKey, branches: Vec<Branch>, ring_for: Duration) -> Dial {
    Dial {
        leg,
        branches,
        caller: Caller {
            display: Some("Incident bot".to_owned()),
            uri: "sip:bot@convoke.example".parse().expect("a URI"),
            asserted: None,
        },
        offer: OFFER.to_vec(),
        ring_for,
        credentials: None,
        extra_headers: Vec::new(),
    }
}

/// A response to a request, with a tag if it has none yet. `more` are header lines.
pub(crate) fn answer_to(request: &str, status: &str, tag: &str, more: &str, body: &str) -> String {
    let copied = ["Via:", "From:", "Call-ID:", "CSeq:"];
    let lines = request.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let untagged = line.starts_with("To:") && !line.contains(";tag=");
        let is_copied = line.starts_with("To:") || copied.iter().any(|name| line.starts_with(name));
        is_copied.then(|| if untagged { format!("{line};tag={tag}\r\n") } else { format!("{line}\r\n") })
    });
    let (head, length): (String, _) = (lines.collect(), body.len());
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("SIP/2.0 {status}\r\n{head}{more}{kind}Content-Length: {length}\r\n\r\n{body}")
}

/// The header lines of a provisional response that is to be acknowledged.
pub(crate) fn reliably(rseq: u32) -> String {
    format!("{CONTACT}Require: 100rel\r\nRSeq: {rseq}\r\n")
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
