//! The world: one process at a time, phones, bots, a network and a disk, in one thread, on virtual time.
//!
//! Time passes from one thing that happens to the next. First comes a storm in which a script is played and everything
//! goes wrong that can; then calm, after which everyone's view must agree; then everybody hangs up, after which nothing
//! may be left. Whatever happens follows from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use control::{ConferenceId, Effect, LegAction, LegNews, Signal};
use server::notify::courier::{Attempt, Input as CourierInput, Output as CourierOutput};
use sip::agent::Input as SipInput;
use store::{NoticeId, PendingNotice, Settled};
use switch::bare::{Input, Output};
use switch::{LegStatistics, Report};

use crate::bot::Bot;
use crate::cast::{self, Cast};
use crate::chance::Chance;
use crate::disk::Disk;
use crate::falls::{self, Falls};
use crate::hook;
use crate::net::{Datagram, Weather};
use crate::oracle::Oracle;
use crate::phone::{Phone, Temper, Wake, Want};
use crate::process::{FLOW, Made, Process, SERVER, Stopwatch, Woken};
use crate::script::Script;

/// What a seed came to.
#[derive(Debug)]
pub struct Ending {
    pub seed: u64,
    /// Laws that were broken; none in a good world.
    pub broken: Vec<String>,
    /// Everything that happened, a line each.
    pub trace: String,
    pub faults: Faults,
    /// How much time passed in it.
    pub virtual_ms: u64,
    pub operations: usize,
    pub calls: usize,
}

/// What was done to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub datagrams: u64,
    pub deaths: u64,
    pub disk: u64,
    pub hooks: u64,
    pub phones: u64,
    pub falls: u64,
}

impl Faults {
    pub fn sum(&self) -> u64 {
        self.datagrams + self.deaths + self.disk + self.hooks + self.phones + self.falls
    }
}

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Happens {
    Arrives(Datagram),
    /// A phone wakes, if its power was not off meanwhile.
    Wakes {
        phone: usize,
        boot: u64,
        what: Wake,
    },
    /// The script goes on.
    Step,
    Tick,
    Starts,
    /// A notification reaches a bot.
    Reaches {
        notice: Arc<PendingNotice>,
    },
    /// The courier of a process hears how a try ended.
    Tried {
        process: u64,
        notice: NoticeId,
        attempt: Attempt,
    },
    Settles {
        process: u64,
        notice: NoticeId,
        settled: Settled,
    },
    /// A bot makes a request, or makes it again.
    Asks {
        bot: usize,
        request: u64,
    },
    PowerOn {
        phone: usize,
    },
    Reconnects(std::net::IpAddr),
    Dies,
    DiskHeals,
    HooksHeal,
    WeatherClears,
}

pub(crate) struct World {
    pub(crate) now: u64,
    clock: Stopwatch,
    queue: BTreeMap<(u64, u64), Happens>,
    last: u64,
    pub(crate) chance: Chance,
    net_chance: Chance,
    cast: Arc<Cast>,
    switch_directory: Arc<ArcSwap<switch::Directory>>,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    processes: u64,
    pub(crate) weather: Weather,
    pub(crate) hooks: hook::Mood,
    pub(crate) phones: Vec<Phone>,
    boots: Vec<u64>,
    phone_of: BTreeMap<std::net::IpAddr, usize>,
    pub(crate) bots: Vec<Bot>,
    pub(crate) script: Script,
    pub(crate) oracle: Oracle,
    pub(crate) faults: Faults,
    trace: String,
    /// Audio flows until then; the rest of the time nobody listens, and it costs too much.
    audio_until: u64,
    ticking: bool,
    /// The process dies when it has let go of so many more effects.
    pub(crate) fatal_effect: Option<u64>,
    statistics: Option<Vec<LegStatistics>>,
    falls: Option<Arc<Falls>>,
}

impl World {
    pub(crate) fn new(seed: u64, cast: &Arc<Cast>) -> Self {
        let mut chance = Chance::new(seed);
        server::auth::seed_ids(chance.number());
        let disk = cast.disk(chance.branch());
        let temper = Script::temper(&mut chance);
        let phones: Vec<Phone> = cast::devices()
            .into_iter()
            .map(|(address, is_gateway)| Phone::new(address, is_gateway, temper, chance.branch()))
            .collect();
        let phone_of = phones.iter().enumerate().map(|(index, phone)| (phone.address.ip(), index)).collect();
        let bots = cast.tokens.iter().enumerate().map(|(index, token)| Bot::new(index, token.clone())).collect();
        let script = Script::new(&mut chance);
        Self {
            now: 0,
            clock: Stopwatch::new(),
            queue: BTreeMap::new(),
            last: 0,
            net_chance: chance.branch(),
            cast: Arc::clone(cast),
            switch_directory: Arc::new(ArcSwap::from_pointee(cast::switch_directory())),
            disk,
            process: None,
            processes: 0,
            weather: Weather::default(),
            hooks: hook::Mood::default(),
            boots: vec![0; phones.len()],
            phones,
            phone_of,
            bots,
            script,
            oracle: Oracle::default(),
            faults: Faults::default(),
            trace: String::new(),
            audio_until: 0,
            ticking: false,
            fatal_effect: None,
            statistics: None,
            falls: Falls::of(seed),
            chance,
        }
    }

    /// From the beginning to the end.
    pub(crate) fn play(mut self, seed: u64) -> Ending {
        self.note(|| format!("world {seed}"));
        self.start();
        self.after(1, Happens::Step);
        self.run_until(|world| world.script.is_over());
        self.calm();
        self.run_for(CALM_MS);
        self.check_agreement();
        self.farewell();
        self.run_for(FAREWELL_MS);
        if self.phones.iter().any(|phone| phone.forgotten > 0) {
            // RFC 4028: a leg whose phone knows nothing of it any more ends when its session is refreshed.
            self.run_for(SESSION_MS);
        }
        self.check_nothing_is_left();
        self.faults.phones = self.phones.iter().map(|phone| phone.faults).sum();
        {
            let platter = self.disk.platter();
            self.faults.disk = platter.refused + platter.stalled;
        }
        let fell = crate::log::take();
        for line in fell.into_iter().filter(|line| self.falls.is_none() || !falls::is_expected(line)) {
            self.oracle.broken(self.now, format!("logged as an error: {line}"));
        }
        Ending {
            seed,
            broken: self.oracle.take_broken(),
            trace: std::mem::take(&mut self.trace),
            faults: self.faults,
            virtual_ms: self.now,
            operations: self.oracle.operations(),
            calls: self.oracle.calls(),
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let _ = writeln!(self.trace, "{:>7} {}", self.now, what());
    }

    pub(crate) fn after(&mut self, ms: u64, what: Happens) {
        self.last += 1;
        self.queue.insert((self.now + ms, self.last), what);
    }

    fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        self.advance(until, |_| false);
    }

    fn run_until(&mut self, over: impl Fn(&Self) -> bool) {
        self.advance(u64::MAX, over);
    }

    fn advance(&mut self, until: u64, over: impl Fn(&Self) -> bool) {
        while !over(self) {
            let next = self.queue.first_key_value().map_or(until, |((at, _), _)| *at).min(until);
            if let Some(process) = &mut self.process {
                let operator = self.clock.ms(process.operator.deadline());
                let courier =
                    process.courier.deadline().map_or(u64::MAX, |at| (at.0 - crate::process::wall(0).0) as u64);
                let target = next.min(operator).min(courier).max(self.now);
                let (now, woken) = process.pass(target);
                self.now = now;
                for fall in self.falls.as_ref().map(|falls| falls.take()).unwrap_or_default() {
                    self.faults.falls += 1;
                    self.note(|| fall);
                }
                match woken {
                    Woken::Dies => {
                        if std::mem::take(&mut self.disk.platter().dying) {
                            self.die("in the middle of a commit");
                        }
                        continue;
                    }
                    Woken::Effect(conference, effect) => {
                        self.effect(conference, effect);
                        continue;
                    }
                    Woken::TakenUp => {
                        self.taken_up();
                        continue;
                    }
                    Woken::Answer(answer) => {
                        self.answered(&answer);
                        continue;
                    }
                    Woken::Notices => {
                        self.owed();
                        continue;
                    }
                    Woken::Due => {}
                }
                if operator <= self.now {
                    self.operate(Input::Time);
                }
                if courier <= self.now {
                    self.courier(CourierInput::Time);
                }
            } else {
                self.now = next;
            }
            if self.now >= until {
                return;
            }
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let what = entry.remove();
                self.happens(what);
            }
        }
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Arrives(datagram) => self.arrives(datagram),
            Happens::Wakes { phone, boot, what } => {
                if self.boots[phone] == boot {
                    self.phones[phone].wakes(&what);
                    self.grant(phone);
                }
            }
            Happens::Step => crate::script::step(self),
            Happens::Tick => self.tick(),
            Happens::Starts => {
                if self.process.is_none() {
                    self.start();
                }
            }
            Happens::Reaches { notice } => hook::reaches(self, &notice),
            Happens::Tried { process, notice, attempt } => {
                if self.is_process(process) {
                    self.courier(CourierInput::Tried(notice, attempt));
                }
            }
            Happens::Settles { process, notice, settled } => {
                if self.is_process(process) {
                    if let Settled::Dead { reason, .. } = &settled {
                        self.oracle.broken(self.now, format!("notice {notice} was given up: {reason}"));
                    }
                    self.disk.platter().settle(notice, settled);
                }
            }
            Happens::Asks { bot, request } => self.ask(bot, request),
            Happens::PowerOn { phone } => {
                self.phones[phone].power(true);
                self.note(|| format!("phone {phone} has power again"));
            }
            Happens::Reconnects(ip) => {
                self.weather.cut_off.remove(&ip);
            }
            Happens::Dies => self.die("at once"),
            Happens::DiskHeals => self.disk.platter().mood = crate::disk::Mood::default(),
            Happens::HooksHeal => self.hooks = hook::Mood::default(),
            Happens::WeatherClears => {
                let cut_off = std::mem::take(&mut self.weather.cut_off);
                self.weather = Weather { cut_off, ..Weather::default() };
            }
        }
    }

    fn is_process(&self, number: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.number == number)
    }

    // The process.

    fn start(&mut self) {
        self.processes += 1;
        self.disk.platter().dying = false;
        let process = Process::start(Made {
            number: self.processes,
            now_ms: self.now,
            clock: &self.clock,
            disk: &self.disk,
            keys: &self.cast.ring,
            switch_directory: &self.switch_directory,
            bindings: cast::bindings(),
            seed: self.chance.bytes(),
            chance: self.chance.number(),
            falls: self.falls.as_ref(),
        });
        self.process = Some(process);
        let number = self.processes;
        self.note(|| format!("process {number} starts"));
    }

    /// What the last process left goes on: bots may ask, and are told what is owed to them.
    fn taken_up(&mut self) {
        self.note(|| "all is taken up".to_owned());
        if let Some(process) = &mut self.process {
            process.is_ready = true;
        }
        self.operate(Input::TakenUp);
        self.owed();
    }

    /// All that was not written down is gone.
    pub(crate) fn die(&mut self, how: &str) {
        let Some(process) = self.process.take() else { return };
        drop(process);
        self.faults.deaths += 1;
        self.fatal_effect = None;
        self.disk.platter().fatal = None;
        self.note(|| format!("the process dies {how}"));
        for bot in 0..self.bots.len() {
            crate::script::lost(self, bot);
        }
        let at_most = *self.chance.pick(&[10, 100, 500, 3_000]).expect("a choice");
        let after = self.chance.between(1, at_most);
        self.after(after, Happens::Starts);
    }

    fn effect(&mut self, conference: ConferenceId, effect: Effect) {
        if let Some(left) = &mut self.fatal_effect {
            if *left == 0 {
                return self.die("before an effect");
            }
            *left -= 1;
        }
        self.note(|| format!("effect {} {}", short(conference), shown(&effect)));
        self.oracle.effect(self.now, &self.disk, &effect);
        self.operate(Input::Effect(conference, effect));
    }

    fn operate(&mut self, input: Input<'_>) {
        let Some(process) = &mut self.process else { return };
        process.operator.handle(self.clock.at(self.now), input);
        let mut ordered = false;
        loop {
            let Some(process) = &mut self.process else { return };
            while let Some((_, order)) = process.operator.poll_order() {
                process.ticking.order(order).expect("the queue is longer than any world");
                ordered = true;
            }
            let Some(output) = process.operator.poll_output() else { break };
            match output {
                Output::Transmit { destination, bytes, .. } => {
                    self.transmit(&Datagram { from: SERVER, to: destination, bytes });
                }
                Output::Signal(conference, signal) => {
                    self.note(|| format!("signal {} {}", short(conference), told(&signal)));
                    if let Some(process) = &mut self.process {
                        process.signal(conference, signal);
                    }
                }
                Output::Report(Report::Died { part }) => {
                    self.oracle.broken(self.now, format!("the {part} has died"));
                }
                Output::Statistics(figures) => self.statistics = Some(figures),
                Output::Report(_) | Output::Happening(_) | Output::Close(_) => {}
                Output::Connect { .. } | Output::LookUp { .. } => {
                    self.oracle
                        .broken(self.now, "a connection or a look-up, where all is UDP and addresses".to_owned());
                }
            }
        }
        if ordered {
            self.audio_for(400);
        }
    }

    // The network.

    fn transmit(&mut self, datagram: &Datagram) {
        let is_sip = datagram.to.port() == 5060;
        let arrivals = self.weather.carries(&mut self.net_chance, datagram);
        if arrivals.len() != 1 {
            self.faults.datagrams += 1;
        }
        if is_sip {
            if datagram.from == SERVER {
                self.oracle.says(self.now, &String::from_utf8_lossy(&datagram.bytes));
            }
            let lost = if arrivals.is_empty() { " (lost)" } else { "" };
            let line = first_line(&datagram.bytes);
            self.note(|| format!("{} > {} {line}{lost}", datagram.from.ip(), datagram.to.ip()));
        }
        for after in arrivals {
            self.after(after, Happens::Arrives(datagram.clone()));
        }
    }

    fn arrives(&mut self, datagram: Datagram) {
        if datagram.to.ip() == SERVER.ip() {
            if datagram.to == SERVER {
                let Datagram { from: source, bytes, .. } = &datagram;
                if self.process.is_some() {
                    self.oracle.hears(&String::from_utf8_lossy(bytes));
                }
                self.operate(Input::Sip(SipInput::Datagram { flow: FLOW, source: *source, bytes }));
            } else if let Some(process) = &self.process {
                process.host.arrives(datagram);
            }
            return;
        }
        let Some(index) = self.phone_of.get(&datagram.to.ip()).copied() else { return };
        self.phones[index].receives(datagram.from, datagram.to, &datagram.bytes);
        self.grant(index);
    }

    /// Does what a phone wants done.
    pub(crate) fn grant(&mut self, index: usize) {
        let wants = std::mem::take(&mut self.phones[index].wants);
        for want in wants {
            match want {
                Want::Send { to, from, bytes } => self.transmit(&Datagram { from, to, bytes }),
                Want::Wake { after_ms, what } => {
                    let boot = self.boots[index];
                    self.after(after_ms, Happens::Wakes { phone: index, boot, what });
                }
            }
        }
        for complaint in std::mem::take(&mut self.phones[index].complaints) {
            self.oracle.broken(self.now, format!("phone {index}: {complaint}"));
        }
    }

    /// How often a phone had to start again.
    pub(crate) fn boots(&self, phone: usize) -> u64 {
        self.boots[phone]
    }

    pub(crate) fn power_off(&mut self, phone: usize) {
        self.boots[phone] += 1;
        self.phones[phone].power(false);
        self.phones[phone].faults += 1;
        self.note(|| format!("phone {phone} loses its power"));
        let after = self.chance.between(500, 20_000);
        self.after(after, Happens::PowerOn { phone });
    }

    // Audio.

    pub(crate) fn audio_for(&mut self, ms: u64) {
        self.audio_until = self.audio_until.max(self.now + ms);
        if !std::mem::replace(&mut self.ticking, true) {
            self.after(TICK_MS - self.now % TICK_MS, Happens::Tick);
        }
    }

    fn tick(&mut self) {
        for index in 0..self.phones.len() {
            self.phones[index].speaks();
            self.grant(index);
        }
        let instant = self.clock.instant(self.now);
        let mut news = Vec::new();
        let mut sent = Vec::new();
        if let Some(process) = &mut self.process {
            process.ticking.tick(instant);
            news.extend(std::iter::from_fn(|| process.ticking.poll_news()));
            sent = std::mem::take(&mut process.host.ether().sent);
        }
        for datagram in sent {
            self.transmit(&datagram);
        }
        for news in news {
            self.operate(Input::Media(news));
        }
        if self.now < self.audio_until {
            self.after(TICK_MS, Happens::Tick);
        } else {
            self.ticking = false;
        }
    }

    // Notifications.

    /// Reads the outbox.
    fn owed(&mut self) {
        let Some(process) = self.process.as_ref().filter(|process| process.is_ready) else { return };
        let owed = self.disk.platter().pending(process.courier.seen());
        if !owed.is_empty() {
            self.courier(CourierInput::Owed(owed));
        }
    }

    fn courier(&mut self, input: CourierInput) {
        let Some(process) = &mut self.process else { return };
        process.courier.handle(crate::process::wall(self.now), input);
        let number = process.number;
        while let Some(output) = self.process.as_mut().and_then(|process| process.courier.poll_output()) {
            match output {
                CourierOutput::Send(notice) => hook::sent(self, number, notice),
                CourierOutput::Settle(notice, settled) => {
                    let after = self.chance.between(1, 5);
                    self.after(after, Happens::Settles { process: number, notice, settled });
                }
            }
        }
    }

    // Bots.

    fn ask(&mut self, bot: usize, number: u64) {
        let Some(request) = self.bots[bot].request(number) else { return };
        let what = format!("{} {}", request.method(), request.uri());
        if let Some(asked) = self.bots[bot].asked.get_mut(&number) {
            asked.tries += 1;
            asked.waiting += 1;
        }
        self.note(|| format!("bot {bot} asks {number}: {what}"));
        match self.process.as_mut().filter(|process| process.is_ready) {
            Some(process) => process.ask(number * 2 + bot as u64, request),
            None => crate::script::refused_connection(self, bot, number),
        }
    }

    fn answered(&mut self, answer: &crate::process::Answered) {
        let (bot, number) = ((answer.request % 2) as usize, answer.request / 2);
        let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
        let code = answer.body["error"]["code"].as_str().unwrap_or_default().to_owned();
        let status = answer.status;
        self.note(|| format!("bot {bot} is answered {number}: {status} {code}{id}"));
        crate::script::answered(self, bot, number, status, &answer.body);
    }

    // The end.

    /// Everything is well again.
    fn calm(&mut self) {
        self.note(|| "calm".to_owned());
        self.weather = Weather::default();
        self.hooks = hook::Mood::default();
        self.fatal_effect = None;
        if let Some(falls) = &self.falls {
            falls.end();
        }
        for bot in &mut self.bots {
            bot.down_until = 0;
        }
        {
            let mut platter = self.disk.platter();
            platter.mood = crate::disk::Mood::default();
            platter.fatal = None;
        }
        for phone in &mut self.phones {
            phone.temper = Temper::good();
            phone.power(true);
        }
    }

    /// Each leg with media, as the switch sees it.
    fn ask_statistics(&mut self) -> Vec<LegStatistics> {
        self.statistics = None;
        self.operate(Input::AskStatistics);
        self.audio_for(100);
        self.run_for(100);
        self.statistics.take().unwrap_or_default()
    }

    fn check_agreement(&mut self) {
        self.note(|| "does everybody agree?".to_owned());
        // Those who hold would hear nothing.
        for index in 0..self.phones.len() {
            let held: Vec<u64> =
                self.phones[index].calls.iter().filter(|(_, call)| call.holds).map(|(id, _)| *id).collect();
            for id in held {
                self.phones[index].changes(id, true);
            }
            self.grant(index);
        }
        let calls = self.phones.iter_mut().flat_map(|phone| phone.calls.values_mut()).filter(|call| call.is_up());
        for (tone, call) in (0..).zip(calls) {
            call.tone = tone;
        }
        self.audio_for(3_000);
        self.run_for(1_500);
        for call in self.phones.iter_mut().flat_map(|phone| phone.calls.values_mut()) {
            call.ear = crate::sound::Ear::default();
        }
        self.run_for(1_000);
        let mut heard: BTreeMap<SocketAddr, (u32, BTreeSet<u32>)> = BTreeMap::new();
        for call in self.phones.iter_mut().flat_map(|phone| phone.calls.values_mut()).filter(|call| call.is_up()) {
            heard.insert(call.rtp, (call.tone, call.ear.take().into_iter().collect()));
        }
        let figures = self.ask_statistics();
        let now = crate::process::wall(self.now);
        self.oracle.agreement(
            self.now,
            now,
            &self.disk,
            &figures,
            &heard,
            &self.phones,
            &self.bots,
            self.faults.deaths,
        );
    }

    /// Bots delete their calls, and people hang up, in no order.
    fn farewell(&mut self) {
        self.note(|| "farewell".to_owned());
        crate::script::farewell(self);
        for phone in 0..self.phones.len() {
            let calls: Vec<u64> = self.phones[phone].calls.keys().copied().collect();
            for call in calls {
                let (after, boot) = (self.chance.between(0, 20_000), self.boots[phone]);
                self.after(after, Happens::Wakes { phone, boot, what: Wake::HangUp(call) });
            }
        }
    }

    fn check_nothing_is_left(&mut self) {
        self.note(|| "is anything left?".to_owned());
        self.run_for(100);
        if let Some(process) = &self.process {
            let (settled, ports) = (process.operator.is_settled(), process.host.bound());
            if !settled {
                self.oracle.broken(self.now, "the switch still has legs or transactions".to_owned());
            }
            if ports > 0 {
                self.oracle.broken(self.now, format!("{ports} RTP ports are still bound"));
            }
            if process.engine.live() > 0 {
                self.oracle.broken(self.now, format!("{} conferences are still in memory", process.engine.live()));
            }
        }
        self.oracle.nothing_is_left(self.now, &self.disk, &self.phones, &self.bots);
    }
}

const TICK_MS: u64 = 20;

/// An invitee rings for a minute, a BYE is repeated for half of one, and a courier pauses for as long.
const CALM_MS: u64 = 150_000;
const FAREWELL_MS: u64 = 120_000;
const SESSION_MS: u64 = 1_800_000;

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let (cseq, call_id) = (value("CSeq: "), value("Call-ID: "));
    let line = text.lines().next().unwrap_or_default();
    format!("{} [{cseq}] {}", line.trim_end_matches(" SIP/2.0"), &call_id[..call_id.len().min(8)])
}

pub(crate) fn short(id: ConferenceId) -> String {
    id.to_string()[..8].to_owned()
}

fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Leg(leg, LegAction::Dial(target)) => format!("dial {leg} {:?}", target.destination),
        Effect::Leg(leg, LegAction::DialAgain(target)) => format!("dial again {leg} {:?}", target.destination),
        Effect::Leg(leg, LegAction::Resume { .. }) => format!("resume {leg}"),
        Effect::Leg(leg, LegAction::Confirm) => format!("confirm {leg}"),
        Effect::Leg(leg, LegAction::HangUp { cause, snapshot, target }) => {
            format!("hang up {leg} {cause:?} dialog={} target={}", snapshot.is_some(), target.is_some())
        }
        Effect::Mix(plan) => {
            let ports: Vec<String> = plan.ports.iter().map(|port| format!("{}@{}", port.leg, port.epoch)).collect();
            format!("mix {}", ports.join(" "))
        }
        Effect::Tell { to, number, .. } => format!("tell {} {number}", short(*to)),
    }
}

fn told(signal: &Signal) -> String {
    match signal {
        Signal::Leg(leg, LegNews::Connected(_)) => format!("{leg} connected"),
        Signal::Leg(leg, LegNews::Resumed(_)) => format!("{leg} resumed"),
        Signal::Leg(leg, LegNews::Reshaped(_)) => format!("{leg} reshaped"),
        Signal::Leg(leg, news) => format!("{leg} {news:?}"),
        other => format!("{other:?}"),
    }
}
