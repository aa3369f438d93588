//! The sound of all calls of a bank: one thread, one tick every 20 ms by absolute deadlines.
//!
//! Each call has an RTP socket of its own. In a tick the thread takes the orders that came, reads each socket until it
//! is empty, lets each endpoint hear and say 20 ms, and goes to sleep until the next deadline. It never waits for
//! anything else: events are dropped into a ring, recordings are written by other threads. Without a call it sleeps.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use media::{Endpoint, Frame, Goertzel, Port, PortConfig, Source, TICK, Tone};

use crate::event::{CallKey, Happening, Statistics, ToneLevel};
use crate::phone::{BankConfig, Teller};
use crate::record::Recorder;

/// What a call's sound needs to begin.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) call: CallKey,
    pub(crate) line: Arc<str>,
    pub(crate) socket: UdpSocket,
    pub(crate) path: Path,
    pub(crate) port: PortConfig,
    pub(crate) source: Source,
}

/// Where the peer's sound is sent and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The address in the peer's SDP.
    pub(crate) rtp: SocketAddr,
    pub(crate) rtcp: SocketAddr,
    /// Where the peer's SIP comes from: its RTP may come from there too, if it does not know its own address.
    pub(crate) signalling: IpAddr,
}

enum Command {
    Begin(Box<Begin>),
    Change { call: CallKey, path: Path, port: PortConfig },
    Press { call: CallKey, tone: Tone },
    Say { call: CallKey, source: Source },
    End { call: CallKey, line: Arc<str>, ended: Happening },
    Stop,
}

/// Owns the thread.
#[derive(Debug)]
pub(crate) struct TalkThread {
    handle: TalkHandle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl TalkThread {
    pub(crate) fn start(config: &BankConfig, teller: Teller) -> io::Result<Self> {
        let (commands, receiver) = sync_channel(COMMANDS_MAX);
        let ticker = Ticker {
            commands: receiver,
            teller,
            tell_levels: config.tell_levels,
            frequencies: config.hear.iter().copied().take(FREQUENCIES_MAX).collect(),
            record: config.record.clone(),
            recordings: 0,
            recorders: Vec::new(),
            talks: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("phone-sound".to_owned()).spawn(move || ticker.run())?;
        Ok(Self { handle: TalkHandle { commands }, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn handle(&self) -> TalkHandle {
        self.handle.clone()
    }

    /// Ends all sound and waits until every recording is complete on disk.
    pub(crate) fn stop(&self) {
        self.handle.give(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread for sound has panicked");
        }
    }
}

/// Gives orders to the thread.
#[derive(Clone, Debug)]
pub(crate) struct TalkHandle {
    commands: SyncSender<Command>,
}

impl TalkHandle {
    pub(crate) fn begin(&self, begin: Begin) {
        self.give(Command::Begin(Box::new(begin)));
    }

    pub(crate) fn change(&self, call: CallKey, path: Path, port: PortConfig) {
        self.give(Command::Change { call, path, port });
    }

    pub(crate) fn press(&self, call: CallKey, tone: Tone) {
        self.give(Command::Press { call, tone });
    }

    pub(crate) fn say(&self, call: CallKey, source: Source) {
        self.give(Command::Say { call, source });
    }

    /// Ends a call's sound. `ended` is told with the call's figures added, and also if there is no sound.
    pub(crate) fn end(&self, call: CallKey, line: Arc<str>, ended: Happening) {
        self.give(Command::End { call, line, ended });
    }

    fn give(&self, command: Command) {
        // The thread empties the queue every 20 ms: waiting for room is short, and losing an order is not an option.
        // It is gone only after the shut-down.
        let _ = self.commands.send(command);
    }
}

/// More than are given within a tick.
const COMMANDS_MAX: usize = 16_384;
/// Frequencies that are listened for in each call; each costs about a microsecond a tick.
const FREQUENCIES_MAX: usize = 32;
/// Ticks between two [`Happening::Hears`]: 200 ms.
const TICKS_PER_LEVEL: u32 = 10;
/// Packets read from one socket in one tick; what is beyond stays for the next.
const PACKETS_PER_TICK: usize = 32;
/// Later than this, missed ticks are left out: sending them all at once would help nobody.
const LATE_MAX: Duration = Duration::from_millis(200);

struct Ticker {
    commands: Receiver<Command>,
    teller: Teller,
    tell_levels: bool,
    frequencies: Vec<f32>,
    record: Option<PathBuf>,
    recordings: u32,
    recorders: Vec<JoinHandle<()>>,
    talks: BTreeMap<CallKey, Talk>,
}

/// The sound of one call.
struct Talk {
    line: Arc<str>,
    socket: UdpSocket,
    path: Path,
    endpoint: Endpoint,
    ears: Ears,
    recorder: Option<Recorder>,
}

/// How loud it is, and how loud each frequency.
struct Ears {
    frequencies: Vec<(f32, Goertzel)>,
    squares: f32,
    ticks: u32,
}

impl Ticker {
    fn run(mut self) {
        let mut deadline = Instant::now();
        while self.take_commands(&mut deadline) {
            let now = Instant::now();
            for (call, talk) in &mut self.talks {
                talk.tick(*call, now, &self.teller, self.tell_levels);
            }
            deadline += TICK;
            let now = Instant::now();
            if now > deadline + LATE_MAX {
                tracing::warn!(late_ms = (now - deadline).as_millis() as u64, "sound came too late");
                deadline = now;
            }
            std::thread::sleep(deadline.saturating_duration_since(now));
        }
        for (_, talk) in std::mem::take(&mut self.talks) {
            talk.end();
        }
        for recorder in self.recorders {
            if recorder.join().is_err() {
                tracing::error!("a recording has panicked");
            }
        }
    }

    /// Takes all orders that wait; without a call it waits for one. False: the end.
    fn take_commands(&mut self, deadline: &mut Instant) -> bool {
        loop {
            let command = if self.talks.is_empty() {
                let command = self.commands.recv().map_err(|RecvError| TryRecvError::Disconnected);
                *deadline = Instant::now();
                command
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(command) => self.perform(command),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Begin(begin) => self.begin(*begin),
            Command::Change { call, path, port } => {
                if let Some(talk) = self.talks.get_mut(&call) {
                    talk.path = path;
                    if let Err(error) = talk.endpoint.port_mut().reconfigure(port) {
                        tracing::warn!(%call, %error, "the changed session cannot be played");
                    }
                }
            }
            Command::Press { call, tone } => {
                if let Some(talk) = self.talks.get_mut(&call)
                    && !talk.endpoint.send_tone(tone, KEY_MS)
                {
                    tracing::debug!(%call, "the peer takes no keys");
                }
            }
            Command::Say { call, source } => {
                if let Some(talk) = self.talks.get_mut(&call) {
                    talk.endpoint.say(source);
                }
            }
            Command::End { call, line, mut ended } => {
                if let Some(talk) = self.talks.remove(&call) {
                    let figures = talk.end();
                    if let Happening::Ended { statistics, .. } = &mut ended {
                        *statistics = Some(figures);
                    }
                }
                self.teller.tell(&line, Some(call), || ended);
                self.recorders.retain(|recorder| !recorder.is_finished());
            }
            Command::Stop => {}
        }
    }

    fn begin(&mut self, begin: Begin) {
        let Begin { call, line, socket, path, port, source } = begin;
        let port = match Port::new(port) {
            Ok(port) => Box::new(port),
            Err(error) => {
                tracing::warn!(%call, %error, "a call stays silent");
                return;
            }
        };
        let recorder = self.record.as_deref().and_then(|template| {
            self.recordings += 1;
            let path = Recorder::path(template, self.recordings);
            let (recorder, thread) = Recorder::start(path, Arc::clone(&line), call, self.teller.clone())?;
            self.recorders.push(thread);
            Some(recorder)
        });
        let ears = Ears {
            frequencies: self.frequencies.iter().map(|&hertz| (hertz, Goertzel::new(hertz))).collect(),
            squares: 0.0,
            ticks: 0,
        };
        let endpoint = Endpoint::new(port, source);
        self.talks.insert(call, Talk { line, socket, path, endpoint, ears, recorder });
    }
}

impl Talk {
    fn tick(&mut self, call: CallKey, now: Instant, teller: &Teller, tell_levels: bool) {
        self.receive(now);
        let Self { socket, path, endpoint, .. } = self;
        // A packet that the network does not take is lost, like any other.
        endpoint.tick(now, &mut |packet| drop(socket.send_to(packet, path.rtp)));
        if let Some(packet) = endpoint.port_mut().rtcp(now) {
            let _ = socket.send_to(packet, path.rtcp);
        }
        let events = self.endpoint.take_events();
        if events.media_up {
            teller.tell(&self.line, Some(call), || Happening::MediaUp);
        }
        for tone in events.tones() {
            teller.tell(&self.line, Some(call), || Happening::Dtmf { digit: tone.key() });
        }
        let heard = self.endpoint.heard();
        if let Some(recorder) = &mut self.recorder {
            recorder.write(heard);
        }
        if tell_levels && let Some(hears) = self.ears.hear(heard) {
            teller.tell(&self.line, Some(call), || hears);
        }
    }

    fn receive(&mut self, now: Instant) {
        let mut packet = [0; 2048];
        for _ in 0..PACKETS_PER_TICK {
            match self.socket.recv_from(&mut packet) {
                Ok((length, source)) if self.path.admits(source.ip()) => {
                    self.endpoint.receive(now, &packet[..length]);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn end(mut self) -> Statistics {
        let packet = self.endpoint.port_mut().rtcp_bye(Instant::now());
        if !packet.is_empty() {
            let _ = self.socket.send_to(packet, self.path.rtcp);
        }
        let stats = self.endpoint.stats();
        Statistics {
            packets_in: stats.packets_in,
            packets_out: stats.packets_out,
            lost: stats.lost,
            late: stats.late,
            concealed: stats.concealed,
            jitter_ms: stats.jitter_ms,
        }
    }
}

/// How long a key is pressed; 40 ms is the shortest that is recognised everywhere.
pub(crate) const KEY_MS: u32 = 100;

impl Path {
    fn admits(&self, source: IpAddr) -> bool {
        source == self.rtp.ip() || source == self.signalling
    }
}

impl Ears {
    /// Listens for 20 ms more; says what it heard when it has listened for 200.
    fn hear(&mut self, frame: &Frame) -> Option<Happening> {
        self.squares += media::frame::mean_square(frame.samples());
        self.frequencies.iter_mut().for_each(|(_, ear)| ear.hear(frame));
        self.ticks += 1;
        if self.ticks < TICKS_PER_LEVEL {
            return None;
        }
        let level_dbov = media::frame::dbov(self.squares / TICKS_PER_LEVEL as f32);
        (self.squares, self.ticks) = (0.0, 0);
        let tones =
            self.frequencies.iter_mut().map(|(hz, ear)| ToneLevel { hz: *hz, dbov: ear.take_level_dbov() }).collect();
        Some(Happening::Hears { level_dbov, tones })
    }
}

/// An RTP socket at an even port, as RFC 3550 §11 has it; RTCP of the peer then goes to an odd one, where no call
/// of ours listens for sound.
pub(crate) fn bind_rtp(address: IpAddr) -> io::Result<UdpSocket> {
    let mut odd = Vec::new();
    loop {
        let socket = UdpSocket::bind((address, 0))?;
        if socket.local_addr()?.port() % 2 == 0 {
            socket.set_nonblocking(true)?;
            return Ok(socket);
        }
        if odd.len() == ODD_PORTS_MAX {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // Kept until an even one is found, so that the system does not offer it again.
        odd.push(socket);
    }
}

/// The system chooses by chance; so many odd ports in a row do not happen while even ones are free.
const ODD_PORTS_MAX: usize = 32;
