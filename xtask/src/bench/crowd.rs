//! Many call ends at once: each with a UDP port of its own, sending 50 packets a second of prepared sound and taking
//! down when each packet came, by the kernel's clock.
//!
//! One thread serves all, a twentieth of them each millisecond, so that packets come spread out as those of real phones
//! do. Sound is encoded before, so that the crowd is far lighter than what it measures.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use media::{Codec, Direction, Endpoint, Format, Port, PortConfig, Source, Speech};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde::Serialize;

use super::machine::percentile;

/// Names one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct End(pub(super) String);

/// One end as it begins.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) end: End,
    pub(super) socket: UdpSocket,
    pub(super) peer: SocketAddr,
    pub(super) payload_type: u8,
}

/// All ends of one codec.
#[derive(Debug)]
pub(super) struct Crowd {
    orders: Sender<Order>,
    members: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Join(Joining),
    TurnTo(End, SocketAddr),
    Leave(End),
    /// Tells when each end heard sound after this moment, by the kernel's clock.
    HearAgain {
        since_ns: i64,
        within: Duration,
        reply: tokio::sync::oneshot::Sender<Vec<Option<i64>>>,
    },
    Measure {
        window: Duration,
        reply: tokio::sync::oneshot::Sender<Heard>,
    },
    Stop,
}

/// What all ends heard in a window.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Heard {
    pub(super) streams: usize,
    /// Packets that were due.
    pub(super) due: u64,
    /// Packets that never came.
    pub(super) missing: u64,
    /// Packets more than 40 ms behind the clock of their stream.
    pub(super) late: u64,
    /// Both, percent of those due.
    pub(super) bad_percent: f64,
    /// How far packets are behind the clock of their stream, ms.
    pub(super) behind_p50_ms: f64,
    pub(super) behind_p99_ms: f64,
    /// Streams in which nothing but silence came.
    pub(super) silent_streams: usize,
    /// How late this generator itself was, ms: what it cannot keep up with is not the server's fault.
    pub(super) generator_late_p99_ms: f64,
}

/// Who speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Talking {
    Everybody,
    /// The first so many; the others send silence.
    First(usize),
}

const TICK_MS: u64 = 20;
/// Behind its stream's clock by more than that, a packet is late.
const LATE_MS: f64 = 40.0;
const VOICES: u64 = 8;
/// Ten seconds of sound, again and again.
const PACKETS: usize = 500;

impl Crowd {
    pub(super) fn start(codec: Codec, talking: Talking) -> Result<Self> {
        let voices = (1..=VOICES)
            .map(|seed| prepare(codec, Source::Speech(Box::new(Speech::new(seed)))))
            .collect::<Result<_>>()?;
        let silence = prepare(codec, Source::Silence)?;
        let members = Arc::new(AtomicUsize::new(0));
        let (orders, receiver) = channel();
        let mut stage = Stage {
            orders: receiver,
            members: Arc::clone(&members),
            codec,
            talking,
            voices,
            silence,
            joined: 0,
            slots: (0..TICK_MS).map(|_| Vec::new()).collect(),
            places: HashMap::new(),
            measuring: None,
            hearing_again: None,
            lateness_ms: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("crowd".to_owned()).spawn(move || stage.run())?;
        Ok(Self { orders, members, thread: Some(thread) })
    }

    pub(super) fn entrance(&self) -> Entrance {
        Entrance { orders: self.orders.clone() }
    }

    pub(super) fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// When each end heard sound after `since_ns`, nanoseconds of the kernel's clock; `None` for one that did not `within`
    /// that time.
    pub(super) async fn hear_again(&self, since_ns: i64, within: Duration) -> Result<Vec<Option<i64>>> {
        let (reply, heard) = tokio::sync::oneshot::channel();
        self.orders.send(Order::HearAgain { since_ns, within, reply }).ok().context("the crowd is gone")?;
        heard.await.context("the crowd is gone")
    }

    pub(super) async fn measure(&self, window: Duration) -> Result<Heard> {
        let (reply, heard) = tokio::sync::oneshot::channel();
        self.orders.send(Order::Measure { window, reply }).ok().context("the crowd is gone")?;
        heard.await.context("the crowd is gone")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lets ends in and out.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    orders: Sender<Order>,
}

impl Entrance {
    pub(super) fn join(&self, joining: Joining) {
        let _ = self.orders.send(Order::Join(joining));
    }

    /// The far end is at another address.
    pub(super) fn turn_to(&self, end: End, peer: SocketAddr) {
        let _ = self.orders.send(Order::TurnTo(end, peer));
    }

    pub(super) fn leave(&self, end: End) {
        let _ = self.orders.send(Order::Leave(end));
    }
}

/// A socket for one end: the kernel notes when each packet comes.
pub(super) fn socket() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// Encoded sound, packet by packet.
type Sound = Arc<Vec<Vec<u8>>>;

const RTP_HEADER: usize = 12;

fn prepare(codec: Codec, source: Source) -> Result<Sound> {
    let format = Format { payload_type: codec.static_payload_type().unwrap_or(111), codec };
    let port = Port::new(PortConfig {
        send: format,
        bitrate: None,
        receive: vec![format],
        tones_send: None,
        tones_receive: Vec::new(),
        direction: Direction::SendReceive,
        cname: "bench".to_owned(),
        seed: 1,
    })
    .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut endpoint = Endpoint::new(Box::new(port), source);
    let mut packets = Vec::with_capacity(PACKETS);
    let now = Instant::now();
    while packets.len() < PACKETS {
        endpoint.tick(now, &mut |packet| packets.extend(packet.get(RTP_HEADER..).map(<[u8]>::to_vec)));
    }
    Ok(Arc::new(packets))
}

struct Stage {
    orders: Receiver<Order>,
    members: Arc<AtomicUsize>,
    codec: Codec,
    talking: Talking,
    voices: Vec<Sound>,
    silence: Sound,
    joined: usize,
    slots: Vec<Vec<Member>>,
    places: HashMap<End, usize>,
    measuring: Option<Measuring>,
    hearing_again: Option<HearingAgain>,
    lateness_ms: Vec<f64>,
}

struct HearingAgain {
    since_ns: i64,
    until: Instant,
    reply: tokio::sync::oneshot::Sender<Vec<Option<i64>>>,
}

struct Measuring {
    from: Instant,
    until: Instant,
    window: Duration,
    reply: tokio::sync::oneshot::Sender<Heard>,
}

struct Member {
    end: End,
    socket: UdpSocket,
    peer: SocketAddr,
    sound: Sound,
    /// The next packet of the sound.
    at: usize,
    packet: Vec<u8>,
    sequence: u16,
    timestamp: u32,
    arrivals: Vec<Arrival>,
    heard_sound: bool,
    heard_again_ns: Option<i64>,
}

#[derive(Clone, Copy)]
struct Arrival {
    at_ns: i64,
    timestamp: u32,
}

impl Stage {
    fn run(&mut self) {
        let mut control = nix::cmsg_space!(TimeSpec);
        let mut buffer = [0; 2048];
        let mut due = Instant::now();
        let mut slot = 0;
        while self.obey() {
            let now = Instant::now();
            if self.measuring.as_ref().is_some_and(|measuring| now >= measuring.from && now < measuring.until) {
                self.lateness_ms.push(now.saturating_duration_since(due).as_secs_f64() * 1000.0);
            }
            let silent = silent_bytes(self.codec);
            let step = self.codec.clock_rate() / 50;
            for member in &mut self.slots[slot] {
                member.speak(step);
                let since_ns = self.hearing_again.as_ref().map(|hearing| hearing.since_ns);
                member.listen(&mut buffer, &mut control, silent, self.measuring.is_some(), since_ns);
            }
            slot = (slot + 1) % self.slots.len();
            self.conclude();
            due += Duration::from_millis(1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// Takes all orders that wait; false: the end.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Join(joining)) => self.let_in(joining),
                Ok(Order::TurnTo(end, peer)) => {
                    let slot = self.places.get(&end).copied();
                    let member = slot.and_then(|slot| self.slots[slot].iter_mut().find(|member| member.end == end));
                    if let Some(member) = member {
                        member.peer = peer;
                    }
                }
                Ok(Order::HearAgain { since_ns, within, reply }) => {
                    self.slots.iter_mut().flatten().for_each(|member| member.heard_again_ns = None);
                    self.hearing_again = Some(HearingAgain { since_ns, until: Instant::now() + within, reply });
                }
                Ok(Order::Leave(end)) => {
                    if let Some(slot) = self.places.remove(&end) {
                        self.slots[slot].retain(|member| member.end != end);
                        self.members.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                Ok(Order::Measure { window, reply }) => {
                    for member in self.slots.iter_mut().flatten() {
                        member.arrivals.clear();
                        member.arrivals.reserve(window.as_millis() as usize / TICK_MS as usize + 16);
                        member.heard_sound = false;
                    }
                    self.lateness_ms.clear();
                    // What waited in the sockets is read, and belongs to nobody, before the window begins.
                    let from = Instant::now() + Duration::from_millis(2 * TICK_MS);
                    let until = from + window + Duration::from_millis(2 * TICK_MS);
                    self.measuring = Some(Measuring { from, until, window, reply });
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn let_in(&mut self, joining: Joining) {
        if self.places.contains_key(&joining.end) {
            return;
        }
        let number = self.joined;
        self.joined += 1;
        let sound = match self.talking {
            Talking::First(talkers) if number >= talkers => &self.silence,
            Talking::Everybody | Talking::First(_) => &self.voices[number % self.voices.len()],
        };
        let slot = number % self.slots.len();
        let mut packet = vec![0; RTP_HEADER];
        packet[0] = 0x80;
        packet[1] = joining.payload_type;
        packet[8..].copy_from_slice(&(number as u32 + 1).to_be_bytes());
        self.places.insert(joining.end.clone(), slot);
        self.slots[slot].push(Member {
            end: joining.end,
            socket: joining.socket,
            peer: joining.peer,
            sound: Arc::clone(sound),
            // Nobody says the same at the same time.
            at: number * 37 % PACKETS,
            packet,
            sequence: 0,
            timestamp: 0,
            arrivals: Vec::new(),
            heard_sound: false,
            heard_again_ns: None,
        });
        self.members.fetch_add(1, Ordering::Relaxed);
    }

    fn conclude(&mut self) {
        let members = || self.slots.iter().flatten();
        let all = || members().all(|member| member.heard_again_ns.is_some());
        if let Some(hearing) = self.hearing_again.take_if(|hearing| Instant::now() >= hearing.until || all()) {
            let _ = hearing.reply.send(members().map(|member| member.heard_again_ns).collect());
        }
        if self.measuring.as_ref().is_none_or(|measuring| Instant::now() < measuring.until) {
            return;
        }
        let Some(measuring) = self.measuring.take() else { return };
        let heard = self.sum_up(measuring.window);
        let _ = measuring.reply.send(heard);
    }

    fn sum_up(&mut self, window: Duration) -> Heard {
        let (mut due, mut missing, mut late, mut silent_streams, mut streams) = (0, 0, 0, 0, 0);
        let mut behind = Vec::new();
        let per_ms = f64::from(self.codec.clock_rate()) / 1000.0;
        for member in self.slots.iter().flatten() {
            streams += 1;
            silent_streams += usize::from(!member.heard_sound);
            let expected = window.as_millis() as u64 / TICK_MS;
            due += expected;
            let Some(first) = member.arrivals.first().copied() else {
                missing += expected;
                continue;
            };
            // Windows of arrival: the same for all, counted from the stream's first packet in it.
            let within = |arrival: &&Arrival| arrival.at_ns - first.at_ns < window.as_nanos() as i64;
            let delays: Vec<f64> = member
                .arrivals
                .iter()
                .filter(within)
                .map(|arrival| {
                    let media_ms = f64::from(arrival.timestamp.wrapping_sub(first.timestamp) as i32) / per_ms;
                    (arrival.at_ns - first.at_ns) as f64 / 1e6 - media_ms
                })
                .collect();
            let least = delays.iter().copied().fold(f64::INFINITY, f64::min);
            // A packet that falls on the window's edge is no loss.
            let lacking = expected.saturating_sub(delays.len() as u64);
            missing += if lacking > 1 { lacking } else { 0 };
            late += delays.iter().filter(|delay| *delay - least > LATE_MS).count() as u64;
            behind.extend(delays.iter().map(|delay| delay - least));
        }
        behind.sort_by(f64::total_cmp);
        self.lateness_ms.sort_by(f64::total_cmp);
        Heard {
            streams,
            due,
            missing,
            late,
            bad_percent: 100.0 * (missing + late) as f64 / due.max(1) as f64,
            behind_p50_ms: percentile(&behind, 50.0),
            behind_p99_ms: percentile(&behind, 99.0),
            silent_streams,
            generator_late_p99_ms: percentile(&self.lateness_ms, 99.0),
        }
    }
}

/// A payload of a codec that is silence: all bytes alike in G.711, and a few bytes only in Opus.
fn silent_bytes(codec: Codec) -> fn(&[u8]) -> bool {
    match codec {
        Codec::Opus => |payload| payload.len() < 24,
        // The two zeros of µ-law, and the least of A-law.
        Codec::Pcmu | Codec::Pcma | Codec::G722 => {
            |payload| payload.iter().all(|byte| matches!(byte, 0xff | 0x7f | 0xd5 | 0x55))
        }
    }
}

impl Member {
    fn speak(&mut self, step: u32) {
        self.packet.truncate(RTP_HEADER);
        self.packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        self.packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        self.packet.extend_from_slice(&self.sound[self.at]);
        // What the network does not take is lost, like any packet.
        let _ = self.socket.send_to(&self.packet, self.peer);
        self.at = (self.at + 1) % self.sound.len();
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(step);
    }

    fn listen(
        &mut self,
        buffer: &mut [u8],
        control: &mut [u8],
        is_silent: fn(&[u8]) -> bool,
        note: bool,
        since_ns: Option<i64>,
    ) {
        loop {
            let mut slices = [IoSliceMut::new(buffer)];
            let descriptor = self.socket.as_raw_fd();
            let Ok(message) = recvmsg::<SockaddrIn>(descriptor, &mut slices, Some(control), MsgFlags::MSG_DONTWAIT)
            else {
                return;
            };
            let stamp = message.cmsgs().ok().and_then(|mut all| {
                all.find_map(|one| match one {
                    ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
                    _ => None,
                })
            });
            let length = message.bytes;
            let Some(stamp) = stamp else { continue };
            let packet = &buffer[..length];
            // RTCP that came to this port begins with types that RTP does not have.
            if length <= RTP_HEADER || (64..96).contains(&(packet[1] & 0x7f)) {
                continue;
            }
            let at_ns = stamp.tv_sec() * 1_000_000_000 + stamp.tv_nsec();
            if since_ns.is_some_and(|since| at_ns > since) && !is_silent(&packet[RTP_HEADER..]) {
                self.heard_again_ns.get_or_insert(at_ns);
            }
            if !note {
                continue;
            }
            let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            self.heard_sound = self.heard_sound || !is_silent(&packet[RTP_HEADER..]);
            self.arrivals.push(Arrival { at_ns, timestamp });
        }
    }
}
