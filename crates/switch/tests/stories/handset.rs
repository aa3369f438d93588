//! A phone for stories: the real agent and a real media endpoint on one thread, loopback sockets, one script.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use media::{Codec, Endpoint, Format, Goertzel, Port, PortConfig, Sine, Source, TICK};
use sip::agent::{
    Agent, AgentConfig, Credentials, Flow, HangUpCause, Input, LegKey, Order, Output, Register, Report, Transport,
};

use sip::message::Uri;
use sip::sdp::{Agreed, CodecName, Direction, LocalMedia, Negotiation, SessionDescription};
use tokio::sync::mpsc as events;

/// What the phone does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 180, then 200.
    PickUp,
    /// 180, and nothing more.
    Ring,
    /// A final refusal.
    Refuse(u16),
    /// 200 with SDP that no offer of ours fits.
    Nonsense,
}

/// A phone's script.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) answer: Answer,
    /// The tone that it says.
    pub(crate) tone_hz: f32,
    /// The tones it listens for.
    pub(crate) hear_hz: Vec<f32>,
    /// User, password and registrar, if it registers.
    pub(crate) account: Option<(String, String, SocketAddr)>,
    /// It says no word, not even SIP.
    pub(crate) deaf: bool,
    /// It registers over TCP.
    pub(crate) tcp: bool,
}

impl Script {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, tone_hz: 0.0, hear_hz: Vec::new(), account: None, deaf: false, tcp: false }
    }

    pub(crate) fn saying(mut self, tone_hz: f32) -> Self {
        self.tone_hz = tone_hz;
        self
    }

    pub(crate) fn hearing(mut self, hear_hz: &[f32]) -> Self {
        self.hear_hz = hear_hz.to_vec();
        self
    }

    pub(crate) fn registering(mut self, user: &str, password: &str, registrar: SocketAddr) -> Self {
        self.account = Some((user.to_owned(), password.to_owned(), registrar));
        self
    }
}

/// What it tells.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Registered,
    RegisterFailed(u16),
    Invited {
        request_uri: String,
        from: String,
        asserted: Option<String>,
    },
    /// The ACK came.
    Confirmed,
    Ended {
        cancelled: bool,
        by_peer: bool,
    },
    /// Every 100 ms of a call: the level of each tone it listens for, dBov.
    Tones(Vec<f32>),
    /// The re-INVITE was answered.
    Changed,
    /// A re-INVITE came: the version of its description, and where audio is to go.
    Offered {
        version: u64,
        to: SocketAddr,
    },
    /// On request: packets received, sequence numbers missing, and the longest run of packets that were silent after
    /// the first that was not.
    Packets {
        count: usize,
        missing: usize,
        longest_silence: usize,
    },
}

enum Do {
    /// Its connection breaks; it makes another one by itself.
    Disconnect,
    HangUp,
    PickUp,
    Hold(bool),
    OfferHold,
    CountPackets,
    Stop,
}

/// A phone at work.
pub(crate) struct Phone {
    pub(crate) address: SocketAddr,
    pub(crate) heard: events::UnboundedReceiver<Heard>,
    orders: mpsc::Sender<Do>,
    thread: Option<JoinHandle<()>>,
}

impl Phone {
    pub(crate) fn start(script: Script) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, heard) = events::unbounded_channel();
        let (orders, told) = mpsc::channel();
        let thread = std::thread::spawn(move || Work::new(script, socket, tell).run(&told));
        Self { address, heard, orders, thread: Some(thread) }
    }

    pub(crate) fn hang_up(&self) {
        self.orders.send(Do::HangUp).unwrap();
    }

    /// Answers what rings.
    pub(crate) fn pick_up(&self) {
        self.orders.send(Do::PickUp).unwrap();
    }

    pub(crate) fn disconnect(&self) {
        self.orders.send(Do::Disconnect).unwrap();
    }

    pub(crate) fn hold(&self, held: bool) {
        self.orders.send(Do::Hold(held)).unwrap();
    }

    /// Offers to hold, as a copy of an old request does, and does not hold.
    pub(crate) fn hold_without_meaning_it(&self) {
        self.orders.send(Do::OfferHold).unwrap();
    }

    pub(crate) fn count_packets(&self) {
        self.orders.send(Do::CountPackets).unwrap();
    }

    /// The next thing it tells that `pick` picks, within ten seconds.
    pub(crate) async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Heard) -> Option<T>) -> T {
        let wait = async {
            loop {
                let heard = self.heard.recv().await.expect("the phone works");
                if let Some(picked) = pick(&heard) {
                    return picked;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        waited.unwrap_or_else(|_| panic!("the phone was expected to tell: {what}"))
    }

    /// The ACK of what it answered has come.
    pub(crate) async fn confirmed(&mut self) {
        self.expect("the ACK", |heard| matches!(heard, Heard::Confirmed).then_some(())).await;
    }

    pub(crate) async fn registered(&mut self) {
        self.expect("registered", |heard| match heard {
            Heard::Registered => Some(()),
            Heard::RegisterFailed(status) => panic!("registration refused with {status}"),
            _ => None,
        })
        .await;
    }

    /// Waits until the tones it hears are these and no others of those it listens for.
    pub(crate) async fn hears_exactly(&mut self, expected: &[bool]) {
        let mut last = Vec::new();
        let wait = async {
            loop {
                if let Heard::Tones(levels) = self.heard.recv().await.expect("the phone works") {
                    let now: Vec<bool> = levels.iter().map(|level| *level > AUDIBLE_DBOV).collect();
                    last = levels;
                    if now == expected {
                        return;
                    }
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(waited.is_ok(), "expected {expected:?}, heard {last:?}");
    }
}

/// A tone at −20 dBov that went through G.711 and a mixer is louder than that, leakage from others is not.
const AUDIBLE_DBOV: f32 = -35.0;

impl Drop for Phone {
    fn drop(&mut self) {
        let _ = self.orders.send(Do::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    script: Script,
    agent: Agent,
    socket: UdpSocket,
    tell: events::UnboundedSender<Heard>,
    calls: BTreeMap<LegKey, Call>,
    stream: Option<TcpStream>,
    /// Of the connection; the next one has the next number.
    stream_flow: Flow,
}

struct Call {
    rtp: UdpSocket,
    negotiation: Negotiation,
    talk: Option<Talk>,
    /// What picking up says.
    answer: Vec<u8>,
}

struct Talk {
    endpoint: Endpoint,
    remote: SocketAddr,
    ears: Vec<Goertzel>,
    frames: usize,
    /// Of each packet received: its sequence number and whether it was silent.
    packets: BTreeMap<u16, bool>,
}

const FLOW: Flow = Flow(1);
const FIRST_STREAM: Flow = Flow(2);

impl Work {
    fn new(script: Script, socket: UdpSocket, tell: events::UnboundedSender<Heard>) -> Self {
        let now = Instant::now();
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&socket.local_addr().unwrap().port().to_be_bytes());
        let mut agent = Agent::new(AgentConfig::new("story-phone", seed, seed), now);
        let local = socket.local_addr().unwrap();
        agent.handle(now, Input::Listening { flow: FLOW, transport: Transport::Udp, local, advertised: local });
        if let Some((user, password, registrar)) = &script.account {
            let host = registrar.ip();
            agent.handle(
                now,
                Input::Order(Order::Register(Box::new(Register {
                    key: 1,
                    registrar: Uri::sip(None, host, Some(registrar.port()))
                        .with_param("transport", if script.tcp { "tcp" } else { "udp" }),
                    aor: Uri::sip(Some(user), "contoso.example", None),
                    contact_user: user.clone(),
                    credentials: Some(Credentials { username: user.clone(), password: password.clone() }),
                    expires: Duration::from_mins(10),
                }))),
            );
        }
        Self { script, agent, socket, tell, calls: BTreeMap::new(), stream: None, stream_flow: FIRST_STREAM }
    }

    fn run(mut self, told: &mpsc::Receiver<Do>) {
        let mut buffer = [0; 4096];
        let mut tick_at = Instant::now();
        loop {
            loop {
                match told.try_recv() {
                    Ok(Do::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                    Ok(order) => self.obey(&order),
                    Err(mpsc::TryRecvError::Empty) => break,
                }
            }
            if let Ok((length, source)) = self.socket.recv_from(&mut buffer)
                && !self.script.deaf
            {
                let datagram = Input::Datagram { flow: FLOW, source, bytes: &buffer[..length] };
                self.agent.handle(Instant::now(), datagram);
            }
            if let Some(stream) = &mut self.stream
                && let Ok(length) = stream.read(&mut buffer)
            {
                let (source, local) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
                let bytes = Input::Stream { flow: self.stream_flow, source, local, bytes: &buffer[..length] };
                self.agent.handle(Instant::now(), bytes);
            }
            if self.agent.deadline().is_some_and(|at| at <= Instant::now()) {
                self.agent.handle(Instant::now(), Input::Time);
            }
            self.pump();
            let now = Instant::now();
            while tick_at <= now {
                tick_at += TICK;
                self.tick(now, &mut buffer);
            }
        }
    }

    fn obey(&mut self, order: &Do) {
        if matches!(order, Do::Disconnect) {
            self.stream = None;
            self.agent.handle(Instant::now(), Input::StreamClosed { flow: self.stream_flow });
            return;
        }
        let legs: Vec<LegKey> = self.calls.keys().copied().collect();
        for leg in legs {
            let order = match order {
                Do::HangUp => Order::HangUp { leg, cause: HangUpCause::default() },
                Do::PickUp => {
                    let agreed = self.calls[&leg].negotiation.agreed().unwrap().clone();
                    let talk = self.talk(&agreed);
                    let call = self.calls.get_mut(&leg).unwrap();
                    call.talk = Some(talk);
                    Order::Accept { leg, sdp: call.answer.clone() }
                }
                Do::Hold(held) => {
                    let call = self.calls.get_mut(&leg).unwrap();
                    call.negotiation.set_direction(if *held { Direction::SendOnly } else { Direction::SendRecv });
                    Order::Reinvite { leg, offer: call.negotiation.offer() }
                }
                Do::OfferHold => {
                    let negotiation = &mut self.calls.get_mut(&leg).unwrap().negotiation;
                    negotiation.set_direction(Direction::SendOnly);
                    let offer = negotiation.offer();
                    negotiation.set_direction(Direction::SendRecv);
                    Order::Reinvite { leg, offer }
                }
                Do::CountPackets => {
                    if let Some(talk) = &self.calls[&leg].talk {
                        let _ = self.tell.send(talk.count());
                    }
                    continue;
                }
                Do::Disconnect | Do::Stop => return,
            };
            self.agent.handle(Instant::now(), Input::Order(order));
        }
    }

    fn pump(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Transmit { flow: FLOW, destination, bytes } => {
                    let _ = self.socket.send_to(&bytes, destination);
                }
                Output::Transmit { bytes, .. } => {
                    let stream = self.stream.as_mut().expect("a connection");
                    stream.write_all(&bytes).unwrap();
                }
                Output::LookUp { query, .. } => {
                    let answer = sip::locate::Answer::failed();
                    self.agent.handle(Instant::now(), Input::LookedUp { query, answer });
                }
                Output::Connect { connect, destination, .. } => {
                    let stream = TcpStream::connect(destination).unwrap();
                    stream.set_nonblocking(true).unwrap();
                    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                    self.stream = Some(stream);
                    self.stream_flow = Flow(self.stream_flow.0 + 1);
                    let connected = Input::Connected { connect, flow: self.stream_flow, local, remote };
                    self.agent.handle(Instant::now(), connected);
                }
                Output::CloseFlow(_) => {}
                Output::Report(report) => self.report(report),
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Registered { .. } => drop(self.tell.send(Heard::Registered)),
            Report::RegisterFailed { status, .. } => drop(self.tell.send(Heard::RegisterFailed(status))),
            Report::Incoming(incoming) => {
                let _ = self.tell.send(Heard::Invited {
                    request_uri: incoming.request_uri.to_string(),
                    from: incoming.from.to_string(),
                    asserted: incoming.asserted.as_ref().map(ToString::to_string),
                });
                self.take(incoming.leg, &incoming.sdp.expect("an offer"));
            }
            Report::Confirmed { .. } => drop(self.tell.send(Heard::Confirmed)),
            Report::Ended { leg, reason, local } => {
                self.calls.remove(&leg);
                let cancelled = matches!(reason, sip::agent::EndReason::Cancelled { .. });
                let _ = self.tell.send(Heard::Ended { cancelled, by_peer: !local });
            }
            Report::Offered { leg, sdp, .. } => {
                let call = self.calls.get_mut(&leg).unwrap();
                let (answer, agreed) = call.negotiation.answer(&sdp).unwrap();
                if let Some(talk) = &mut call.talk {
                    talk.remote = agreed.remote;
                }
                self.agent.handle(Instant::now(), Input::Order(Order::AnswerOffer { leg, sdp: answer }));
                let version = SessionDescription::parse(&sdp).unwrap().version;
                let _ = self.tell.send(Heard::Offered { version, to: agreed.remote });
            }
            Report::OfferAnswered { leg, sdp, .. } => {
                let call = self.calls.get_mut(&leg).unwrap();
                call.negotiation.accept_answer(&sdp).unwrap();
                let _ = self.tell.send(Heard::Changed);
            }
            _ => {}
        }
    }

    fn take(&mut self, leg: LegKey, offer: &[u8]) {
        let now = Instant::now();
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rtp.set_nonblocking(true).unwrap();
        let mut local = LocalMedia::new(Ipv4Addr::LOCALHOST.into(), rtp.local_addr().unwrap().port(), 1);
        local.codecs = vec![CodecName::Pcmu];
        let mut negotiation = Negotiation::new(local);
        let (answer, agreed) = negotiation.answer(offer).unwrap();
        let orders = match self.script.answer {
            Answer::PickUp => {
                vec![Order::Ring { leg, status: 180, sdp: None }, Order::Accept { leg, sdp: answer.clone() }]
            }
            Answer::Ring => vec![Order::Ring { leg, status: 180, sdp: None }],
            Answer::Refuse(status) => vec![Order::Refuse { leg, status }],
            Answer::Nonsense => vec![Order::Accept { leg, sdp: b"v=0\r\nm=audio 0 RTP/AVP 0\r\n".to_vec() }],
        };
        let talk = (self.script.answer == Answer::PickUp).then(|| self.talk(&agreed));
        self.calls.insert(leg, Call { rtp, negotiation, talk, answer });
        for order in orders {
            self.agent.handle(now, Input::Order(order));
        }
    }

    fn talk(&self, agreed: &Agreed) -> Talk {
        let format = Format { payload_type: agreed.payload_type_send, codec: Codec::Pcmu };
        let port = Port::new(PortConfig::new(format, 1)).unwrap();
        let source = if self.script.tone_hz > 0.0 {
            Source::Tone(Sine::new(self.script.tone_hz, -20.0))
        } else {
            Source::Silence
        };
        Talk {
            endpoint: Endpoint::new(Box::new(port), source),
            remote: agreed.remote,
            ears: self.script.hear_hz.iter().map(|hz| Goertzel::new(*hz)).collect(),
            frames: 0,
            packets: BTreeMap::new(),
        }
    }

    fn tick(&mut self, now: Instant, buffer: &mut [u8]) {
        for Call { rtp, talk, .. } in self.calls.values_mut() {
            let Some(talk) = talk else { continue };
            while let Ok((length, _)) = rtp.recv_from(buffer) {
                let packet = &buffer[..length];
                if length > 12 && packet[1].trailing_zeros() >= 7 {
                    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                    talk.packets.insert(sequence, is_silent(&packet[12..]));
                }
                talk.endpoint.receive(now, packet);
            }
            let remote = talk.remote;
            talk.endpoint.tick(now, &mut |packet| drop(rtp.send_to(packet, remote)));
            let heard = *talk.endpoint.heard();
            talk.ears.iter_mut().for_each(|ear| ear.hear(&heard));
            talk.frames += 1;
            if talk.frames.is_multiple_of(5) && !talk.ears.is_empty() {
                let _ = self.tell.send(Heard::Tones(talk.ears.iter_mut().map(Goertzel::take_level_dbov).collect()));
            }
        }
    }
}

impl Talk {
    fn count(&self) -> Heard {
        let numbers: Vec<u16> = self.packets.keys().copied().collect();
        let missing = numbers.windows(2).map(|pair| usize::from(pair[1] - pair[0]) - 1).sum();
        let silences = self.packets.values().skip_while(|silent| **silent);
        let (mut longest_silence, mut run) = (0, 0);
        for silent in silences {
            run = if *silent { run + 1 } else { 0 };
            longest_silence = longest_silence.max(run);
        }
        Heard::Packets { count: numbers.len(), missing, longest_silence }
    }
}

/// Whether a packet of µ-law is near silence: its inverted magnitude bits then stay small.
fn is_silent(payload: &[u8]) -> bool {
    payload.iter().all(|byte| !byte & 0x7f < 0x20)
}
