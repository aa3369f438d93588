//! Invitations: so many people a second are invited into rooms of about ten, each by a request of its own; their phones
//! answer at once and hang up after a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use phone::{Account, BankConfig, Events, Happening, LoadBank, LoadConfig, Transport};
use serde::Serialize;
use tokio::task::JoinSet;

use super::client::{Bot, Invited, Webhook, user_id};
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

/// One step of the ladder.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) offered_per_second: usize,
    pub(super) invited: usize,
    /// Whose operation completed, in their call's roster, told to the webhook.
    pub(super) joined: usize,
    pub(super) joined_per_second: f64,
    pub(super) refused: usize,
    /// Operations that ended `failed`.
    pub(super) failed: usize,
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
            && self.rooms_not_emptied == 0
            && self.joined_per_second >= 0.95 * self.offered_per_second as f64
    }
}

struct Asked {
    user: usize,
    at: Instant,
    late: Duration,
    replied: Option<(Instant, Invited)>,
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
        let rooms = self.open_rooms((rate / 10).max(1)).await?;
        self.webhook.forget();
        let answers = Answers::default();
        let listening = tokio::spawn(answers.clone().listen(self.phones.bank().subscribe()));
        let (cores, used) = (Cores::now(), server.processor_time()?);
        let asked = self.ask_all(&rooms, rate, rate * seconds as usize).await;
        self.settle(&asked, &rooms).await;
        let used = server.processor_time()?.saturating_sub(used);
        let stolen_percent = cores.stolen_percent();
        listening.abort();
        let step = self.sum_up(rate, &asked, &rooms, used, stolen_percent, &answers);
        for room in &rooms {
            self.bot.close_room(room).await?;
        }
        Ok(step)
    }

    async fn open_rooms(&self, count: usize) -> Result<Vec<String>> {
        let mut rooms = Vec::with_capacity(count);
        for _ in 0..count {
            rooms.push(self.bot.open_room().await?);
        }
        Ok(rooms)
    }

    /// Sends each request when it is due, whatever became of those before.
    async fn ask_all(&mut self, rooms: &[String], rate: usize, count: usize) -> Vec<Asked> {
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        for number in 0..count {
            let due = began + Duration::from_secs_f64(number as f64 / rate as f64);
            tokio::time::sleep_until(due.into()).await;
            let (bot, room, user) = (self.bot.clone(), rooms[number % rooms.len()].clone(), self.next);
            self.next = (self.next + 1) % self.users;
            self.invitations += 1;
            let context = self.invitations;
            under_way.spawn(async move {
                let at = Instant::now();
                let replied = match bot.invite(&room, &[user_id(user)], context).await {
                    Ok(invited) => Some((Instant::now(), invited)),
                    Err(error) => {
                        eprintln!("{error:#}");
                        None
                    }
                };
                Asked { user, at, late: at.saturating_duration_since(due), replied }
            });
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
                    asked.replied.as_ref().is_none_or(|(_, invited)| told.operations.contains_key(&invited.operation))
                };
                asked.iter().all(ended) && rooms.iter().all(|room| is_empty(&told.sizes, room))
            };
            if done {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn sum_up(
        &self,
        rate: usize,
        asked: &[Asked],
        rooms: &[String],
        used: Duration,
        stolen_percent: f64,
        answers: &Answers,
    ) -> Step {
        let told = self.webhook.told();
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1000.0;
        let (mut replies, mut joins, mut rosters, mut answered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut refused, mut failed, mut unended, mut joined) = (0, 0, 0, 0);
        let mut last_joined = None;
        for one in asked {
            let Some((replied, invited)) = &one.replied else {
                refused += 1;
                continue;
            };
            replies.push(ms(one.at, *replied));
            answered.extend(answers.first_of(one.user, one.at).map(|at| ms(one.at, at)));
            let rostered = invited.participants.first().and_then(|id| told.rostered.get(id));
            match (told.operations.get(&invited.operation), rostered) {
                (Some((at, true)), Some(rostered)) => {
                    joined += 1;
                    joins.push(ms(one.at, *at));
                    rosters.push(ms(one.at, *rostered));
                    last_joined = last_joined.max(Some(*at));
                }
                (Some(_), _) => failed += 1,
                (None, _) => unended += 1,
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
            refused,
            failed,
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
            cpu_ms_per_participant: used.as_secs_f64() * 1000.0 / joined.max(1) as f64,
            generator_late_p99_ms: percentile(&late, 99.0),
            stolen_percent,
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
