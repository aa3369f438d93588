//! Invitations: so many people a second are invited into rooms of about ten, each by a request of its own; their phones
//! answer at once and hang up after a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use phone::{Account, BankConfig, Events, Happening, LoadBank, LoadConfig, Transport};
use serde::Serialize;
use tokio::task::JoinSet;

use super::client::{Answered, Bot, Invited, Webhook, user_id};
use super::machine::{Cores, GENERATOR_LATE_MAX_MS, STOLEN_MAX_PERCENT, percentile};
use super::server::{DOMAIN, PASSWORD, Prepared, Server, user_name};

/// How long each is in the call.
const STAY: Duration = Duration::from_secs(1);
/// What has not happened so long after the last request is lost.
const PATIENCE: Duration = Duration::from_secs(15);
const REGISTER_WITHIN: Duration = Duration::from_mins(1);

/// Phones, a bot and its webhook.
#[derive(Debug)]
pub(super) struct Inviting {
    pub(super) bot: Bot,
    pub(super) webhook: Webhook,
    phones: LoadBank,
    users: usize,
    /// The next to be invited.
    next: usize,
    invitations: u64,
}

/// A run of several rates without a pause between them.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) parts: Vec<Part>,
    /// In use at a time; every [`ROOM_USED_FOR_S`] seconds others are.
    pub(super) rooms: usize,
    pub(super) refused: Refused,
}

/// So many a second for so long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) rate: usize,
    pub(super) seconds: u64,
}

/// What a client does that is told to come again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    GoAway,
    /// As official SDKs do: after the time they are told, three times.
    ComeBack,
}

const COME_BACK_MAX: u32 = 3;

/// A conference remembers its ended operations for ten minutes, a thousand at most: in a long run, rooms are used for that
/// long only.
const ROOM_USED_FOR_S: u64 = 20;

impl Load {
    /// Which room is next, `seconds` after the beginning.
    fn room(&self, seconds: u64, number: u64) -> usize {
        (seconds / ROOM_USED_FOR_S) as usize * self.rooms + number as usize % self.rooms
    }

    fn rooms_in_all(&self) -> usize {
        let seconds: u64 = self.parts.iter().map(|part| part.seconds).sum();
        seconds.div_ceil(ROOM_USED_FOR_S) as usize * self.rooms
    }
}

/// One step of the ladder.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) offered_per_second: usize,
    pub(super) invited: usize,
    /// Whose operation completed, in their call's roster, told to the webhook.
    pub(super) joined: usize,
    pub(super) joined_per_second: f64,
    /// Told to come again later, for the last time.
    pub(super) refused: usize,
    /// When the last of them was, in seconds from the beginning.
    pub(super) last_refused_s: f64,
    /// Requests, those of clients that came back too.
    pub(super) requests: u64,
    /// Without any answer that is understood.
    pub(super) unanswered: usize,
    /// Operations that ended `failed`.
    pub(super) failed: usize,
    /// Completed, and in no roster that was told: newer ones had taken its place.
    pub(super) unrostered: usize,
    /// Operations of which no end was told.
    pub(super) unended: usize,
    /// Rooms in whose last roster somebody was left.
    pub(super) rooms_not_emptied: usize,
    pub(super) webhook_requests: u64,
    pub(super) reply_p50_ms: f64,
    pub(super) reply_p99_ms: f64,
    /// From sending the request to the phone's 200.
    pub(super) answered_p50_ms: f64,
    pub(super) answered_p99_ms: f64,
    /// From sending the request to the webhook's hearing that the operation is complete.
    pub(super) joined_p50_ms: f64,
    pub(super) joined_p99_ms: f64,
    /// The same up to the first roster with the participant.
    pub(super) rostered_p50_ms: f64,
    pub(super) rostered_p99_ms: f64,
    pub(super) cpu_ms_per_participant: f64,
    /// How late the requests were sent, ms: what the generator could not keep up with.
    pub(super) generator_late_p99_ms: f64,
    pub(super) stolen_percent: f64,
}

impl Step {
    /// Whether the generator or the hypervisor spoiled it, so that it says nothing about the server.
    pub(super) fn is_spoiled(&self) -> bool {
        self.generator_late_p99_ms > GENERATOR_LATE_MAX_MS || self.stolen_percent > STOLEN_MAX_PERCENT
    }

    /// Nobody lost, everything ended and told, and the rate kept.
    pub(super) fn holds(&self) -> bool {
        self.joined == self.invited
            && self.unended == 0
            && self.unrostered == 0
            && self.rooms_not_emptied == 0
            && self.joined_per_second >= 0.95 * self.offered_per_second as f64
    }
}

struct Asked {
    part: usize,
    user: usize,
    at: Instant,
    late: Duration,
    requests: u32,
    replied: Replied,
}

enum Replied {
    Taken(Instant, Invited),
    /// The time of the last refusal.
    Refused(Instant),
    Nothing,
}

impl Asked {
    fn taken(&self) -> Option<(Instant, &Invited)> {
        match &self.replied {
            Replied::Taken(at, invited) => Some((*at, invited)),
            Replied::Refused(_) | Replied::Nothing => None,
        }
    }
}

impl Inviting {
    pub(super) async fn start(server: &Prepared, webhook: Webhook, users: usize) -> Result<Self> {
        Self::start_staying(server, webhook, users, STAY).await
    }

    /// The same with phones that hang up after `stay`.
    pub(super) async fn start_staying(
        server: &Prepared,
        webhook: Webhook,
        users: usize,
        stay: Duration,
    ) -> Result<Self> {
        let account = |number| Account {
            server: server.sip.to_string(),
            transport: Transport::Udp,
            domain: DOMAIN.to_owned(),
            username: user_name(number),
            password: PASSWORD.to_owned(),
            display: None,
            expires: Duration::from_hours(1),
        };
        let phones = LoadBank::start(LoadConfig {
            bank: BankConfig { sound: false, ..BankConfig::default() },
            users: (0..users).map(account).collect(),
            answer_after: Duration::ZERO,
            hangup_after: Some(stay),
        })
        .await?;
        let began = Instant::now();
        while phones.counters().registered < users as u64 {
            ensure!(began.elapsed() < REGISTER_WITHIN, "phones do not register: {:?}", phones.counters());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let bot = Bot::new(server.api, webhook.callback()).await?;
        Ok(Self { bot, webhook, phones, users, next: 0, invitations: 0 })
    }

    pub(super) async fn step(&mut self, server: &Server, rate: usize, seconds: u64) -> Result<Step> {
        let load = Load { parts: vec![Part { rate, seconds }], rooms: (rate / 10).max(1), refused: Refused::GoAway };
        self.load(server, &load).await?.pop().context("one part, one step")
    }

    /// A step for each part; who was asked in it, whenever they joined. Processor time is that of the whole run.
    pub(super) async fn load(&mut self, server: &Server, load: &Load) -> Result<Vec<Step>> {
        let rooms = self.open_rooms(load.rooms_in_all()).await?;
        self.webhook.forget();
        let answers = Answers::default();
        let listening = tokio::spawn(answers.clone().listen(self.phones.bank().subscribe()));
        let (cores, used) = (Cores::now(), server.processor_time()?);
        let asked = self.ask_all(&rooms, load).await;
        self.settle(&asked, &rooms).await;
        let used = server.processor_time()?.saturating_sub(used);
        let stolen_percent = cores.stolen_percent();
        listening.abort();
        let joined = self.joined(&asked);
        let cpu_ms_per_participant = used.as_secs_f64() * 1000.0 / joined.max(1) as f64;
        let steps = load.parts.iter().enumerate().map(|(part, Part { rate, .. })| {
            let asked: Vec<&Asked> = asked.iter().filter(|asked| asked.part == part).collect();
            self.sum_up(*rate, &asked, &rooms, cpu_ms_per_participant, stolen_percent, &answers)
        });
        let steps = steps.collect();
        for room in &rooms {
            self.bot.close_room(room).await?;
        }
        Ok(steps)
    }

    async fn open_rooms(&self, count: usize) -> Result<Vec<String>> {
        let mut rooms = Vec::with_capacity(count);
        for _ in 0..count {
            rooms.push(self.bot.open_room().await?);
        }
        Ok(rooms)
    }

    /// Sends each request when it is due, whatever became of those before.
    async fn ask_all(&mut self, rooms: &[String], load: &Load) -> Vec<Asked> {
        let mut began = Instant::now();
        let mut under_way = JoinSet::new();
        let mut before = 0;
        for (part, &Part { rate, seconds }) in load.parts.iter().enumerate() {
            for number in 0..rate * seconds as usize {
                let due = began + Duration::from_secs_f64(number as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
                let (bot, user, refused) = (self.bot.clone(), self.next, load.refused);
                let room = rooms[load.room(before + (number / rate) as u64, self.invitations)].clone();
                self.next = (self.next + 1) % self.users;
                self.invitations += 1;
                let context = self.invitations;
                under_way.spawn(async move {
                    let at = Instant::now();
                    let late = at.saturating_duration_since(due);
                    let (requests, replied) = ask(&bot, &room, user, context, refused).await;
                    Asked { part, user, at, late, requests, replied }
                });
            }
            began += Duration::from_secs(seconds);
            before += seconds;
        }
        under_way.join_all().await
    }

    /// Waits until all operations have ended and everybody has left.
    async fn settle(&self, asked: &[Asked], rooms: &[String]) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let done = {
                let told = self.webhook.told();
                let ended = |asked: &Asked| {
                    asked.taken().is_none_or(|(_, invited)| told.operations.contains_key(&invited.operation))
                };
                asked.iter().all(ended) && rooms.iter().all(|room| is_empty(&told.sizes, room))
            };
            if done {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn joined(&self, asked: &[Asked]) -> usize {
        let told = self.webhook.told();
        let joined = |(_, invited): (Instant, &Invited)| {
            told.operations.get(&invited.operation).is_some_and(|(_, completed)| *completed)
        };
        asked.iter().filter(|asked| asked.taken().is_some_and(joined)).count()
    }

    fn sum_up(
        &self,
        rate: usize,
        asked: &[&Asked],
        rooms: &[String],
        cpu_ms_per_participant: f64,
        stolen_percent: f64,
        answers: &Answers,
    ) -> Step {
        let told = self.webhook.told();
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1000.0;
        let (mut replies, mut joins, mut rosters, mut answered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut unanswered, mut failed, mut unended, mut joined, mut unrostered) = (0, 0, 0, 0, 0);
        let mut refusals = Vec::new();
        let mut last_joined = None;
        for one in asked {
            let (replied, invited) = match &one.replied {
                Replied::Taken(at, invited) => (at, invited),
                Replied::Refused(at) => {
                    refusals.push(*at);
                    continue;
                }
                Replied::Nothing => {
                    unanswered += 1;
                    continue;
                }
            };
            replies.push(ms(one.at, *replied));
            answered.extend(answers.first_of(one.user, one.at).map(|at| ms(one.at, at)));
            match told.operations.get(&invited.operation) {
                Some((at, true)) => {
                    joined += 1;
                    joins.push(ms(one.at, *at));
                    last_joined = last_joined.max(Some(*at));
                }
                Some((_, false)) => failed += 1,
                None => unended += 1,
            }
            match invited.participants.first().and_then(|id| told.rostered.get(id)) {
                Some(at) => rosters.push(ms(one.at, *at)),
                None => unrostered += 1,
            }
        }
        let first = asked.iter().map(|one| one.at).min();
        let took = first.zip(last_joined).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let mut late: Vec<f64> = asked.iter().map(|one| one.late.as_secs_f64() * 1000.0).collect();
        for figures in [&mut replies, &mut joins, &mut rosters, &mut answered, &mut late] {
            figures.sort_by(f64::total_cmp);
        }
        Step {
            offered_per_second: rate,
            invited: asked.len(),
            joined,
            // The first of n comes at the beginning: n - 1 gaps.
            joined_per_second: joined.saturating_sub(1) as f64 / took.max(f64::EPSILON),
            refused: refusals.len(),
            last_refused_s: first.zip(refusals.iter().max()).map_or(0.0, |(first, last)| (*last - first).as_secs_f64()),
            requests: asked.iter().map(|one| u64::from(one.requests)).sum(),
            unanswered,
            failed,
            unrostered,
            unended,
            rooms_not_emptied: rooms.iter().filter(|room| !is_empty(&told.sizes, room)).count(),
            webhook_requests: told.requests,
            reply_p50_ms: percentile(&replies, 50.0),
            reply_p99_ms: percentile(&replies, 99.0),
            answered_p50_ms: percentile(&answered, 50.0),
            answered_p99_ms: percentile(&answered, 99.0),
            joined_p50_ms: percentile(&joins, 50.0),
            joined_p99_ms: percentile(&joins, 99.0),
            rostered_p50_ms: percentile(&rosters, 50.0),
            rostered_p99_ms: percentile(&rosters, 99.0),
            cpu_ms_per_participant,
            generator_late_p99_ms: percentile(&late, 99.0),
            stolen_percent,
        }
    }
}

/// Asks for one person; how many requests it took, and what came of them.
async fn ask(bot: &Bot, room: &str, user: usize, context: u64, refused: Refused) -> (u32, Replied) {
    let mut requests = 0;
    loop {
        requests += 1;
        match bot.invite_once(room, &user_id(user), context).await {
            Ok(Answered::Invited(invited)) => return (requests, Replied::Taken(Instant::now(), invited)),
            Ok(Answered::Later(_)) if refused == Refused::GoAway || requests > COME_BACK_MAX => {
                return (requests, Replied::Refused(Instant::now()));
            }
            Ok(Answered::Later(wait)) => tokio::time::sleep(wait).await,
            // Counted with the others; thousands of lines would say no more.
            Err(_) => return (requests, Replied::Nothing),
        }
    }
}

/// A room with the bot alone, as far as was told.
fn is_empty(sizes: &HashMap<String, usize>, room: &str) -> bool {
    sizes.get(room).is_none_or(|&size| size <= 1)
}

/// When phones answered, by user.
#[derive(Clone, Debug, Default)]
struct Answers {
    times: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
}

impl Answers {
    async fn listen(self, mut events: Events) {
        while let Some(event) = events.next().await {
            if matches!(event.what, Happening::Answered { .. }) {
                let user = event.line.split('@').next().unwrap_or_default().to_owned();
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                times.entry(user).or_default().push(Instant::now());
            }
        }
    }

    fn first_of(&self, user: usize, since: Instant) -> Option<Instant> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.get(&user_name(user))?.iter().copied().find(|at| *at >= since)
    }
}
