//! A long day: invitations, calls, moves, removals and hang-ups at about half of what one core takes, a bot that is away
//! now and then, and all the while a look at what the server holds: memory, descriptors, threads, the database.
//!
//! What is flat has no slope: the report fits a line through the samples of each third, and judges the last one: until pools
//! and caches are full, and the most that happens at one time has happened, twenty minutes pass. In the end everything that
//! was asked for must have ended, and what was opened must be closed again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::Figure;
use super::client::{Bot, Invited, Webhook, user_id};
use super::inviting::Inviting;
use super::machine::{Holding, Machine, holding};
use super::server::{Prepared, Server, Setup};

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How long, minutes
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// How much is asked for a second; about half of what one core takes
    #[arg(long, default_value_t = 150)]
    rate: usize,
}

/// Phones: each is in one call at a time.
const USERS: usize = 2_000;
/// How long each stays, unless somebody ends it.
const STAY: Duration = Duration::from_secs(2);
/// Rooms that are open at once.
const ROOMS: usize = 30;
/// A room is closed, with those in it, and another is opened.
const ROOM_EVERY: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The bot is away that long, that often.
const AWAY_EVERY: Duration = Duration::from_mins(1);
const AWAY_FOR: Duration = Duration::from_secs(2);
/// What has not ended so long after the last request is lost.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the server held at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    second: f64,
    #[serde(flatten)]
    holding: Holding,
    database_mib: f64,
}

/// What was asked for, and what became of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Tally {
    invited: usize,
    invited_several: usize,
    moved: usize,
    removed: usize,
    called: usize,
    rooms_closed: usize,
    /// Answered with an error: rooms that were closed meanwhile are among them.
    refused: usize,
    completed: usize,
    failed: usize,
    /// Operations of which no end was told.
    unended: usize,
}

pub(super) async fn soak(setup: &Setup, options: &Options) -> Result<()> {
    println!("{}", json!({"machine": Machine::here()}));
    let webhook = Webhook::start().await?;
    let prepared = Prepared::new(Setup { hook: webhook.address, users: USERS, ..setup.clone() })?;
    let (server, _) = prepared.serve().await?;
    let inviting = Inviting::start_staying(&prepared, webhook, USERS, STAY).await?;
    let before = sample(&prepared, &server, Instant::now())?;
    let mut day = Day::new(inviting).await?;
    let samples = day.pass(&prepared, &server, options).await?;
    let tally = day.close().await?;
    // Sockets that linger for late packets, and connections that wait to be used again.
    let after = day.quiet(&prepared, &server, before).await?;
    report(options, &samples, before, after, &tally);
    ensure!(tally.unended == 0, "{} operations have no end", tally.unended);
    ensure!(!prepared.has_dead_letters()?, "a notification was given up");
    Ok(())
}

/// The bot's day.
struct Day {
    bot: Bot,
    webhook: Webhook,
    _phones: Inviting,
    rooms: VecDeque<String>,
    tally: Tally,
    operations: Vec<String>,
    /// Who was invited not long ago: room, user, participant.
    recent: VecDeque<(String, usize, String)>,
    user: usize,
    chance: u64,
}

/// What one request came to.
enum Came {
    Operation { invited: Invited, room: String, users: Vec<usize> },
    Done,
    Refused,
}

impl Day {
    async fn new(inviting: Inviting) -> Result<Self> {
        let (bot, webhook) = (inviting.bot.clone(), inviting.webhook.clone());
        let mut rooms = VecDeque::new();
        for _ in 0..ROOMS {
            rooms.push_back(bot.open_room().await?);
        }
        Ok(Self {
            bot,
            webhook,
            _phones: inviting,
            rooms,
            tally: Tally::default(),
            operations: Vec::new(),
            recent: VecDeque::new(),
            user: 0,
            chance: 0x9e37_79b9_7f4a_7c15,
        })
    }

    async fn pass(&mut self, prepared: &Prepared, server: &Server, options: &Options) -> Result<Vec<Sample>> {
        let began = Instant::now();
        let length = Duration::from_mins(options.minutes);
        let (mut samples, mut under_way) = (Vec::new(), JoinSet::new());
        let (mut sample_at, mut room_at) = (began, began + ROOM_EVERY);
        for number in 0_u64.. {
            let due = began + Duration::from_secs_f64(number as f64 / options.rate as f64);
            if due > began + length {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            while let Some(came) = under_way.try_join_next() {
                self.note(came?);
            }
            let second = began.elapsed();
            let into_the_minute = Duration::from_millis((second.as_millis() % AWAY_EVERY.as_millis()) as u64);
            self.webhook.set_down(second > AWAY_EVERY && into_the_minute < AWAY_FOR);
            if Instant::now() >= room_at {
                room_at += ROOM_EVERY;
                self.change_room().await?;
            }
            if Instant::now() >= sample_at {
                sample_at += SAMPLE_EVERY;
                let sample = sample(prepared, server, began)?;
                eprintln!("{}", serde_json::to_string(&sample)?);
                samples.push(sample);
            }
            self.ask(&mut under_way);
        }
        self.webhook.set_down(false);
        while let Some(came) = under_way.join_next().await {
            self.note(came?);
        }
        Ok(samples)
    }

    /// One of the things that bots do, by chance.
    fn ask(&mut self, under_way: &mut JoinSet<Came>) {
        let bot = self.bot.clone();
        let room = self.chance(ROOMS);
        let room = self.rooms[room].clone();
        match self.chance(20) {
            0 | 1 if !self.recent.is_empty() => {
                let (from, user, participant) = self.recent.pop_front().expect("not empty");
                self.tally.moved += 1;
                under_way.spawn(async move {
                    let moved = bot.fetch(&room, &user_id(user), &from, &participant).await;
                    moved.map_or(Came::Refused, |invited| Came::Operation { invited, room, users: vec![user] })
                });
            }
            2 if !self.recent.is_empty() => {
                let (from, _, participant) = self.recent.pop_front().expect("not empty");
                self.tally.removed += 1;
                under_way
                    .spawn(async move { bot.remove(&from, &participant).await.map_or(Came::Refused, |()| Came::Done) });
            }
            3 => {
                let user = self.next_user();
                self.tally.called += 1;
                under_way.spawn(async move {
                    let Ok(call) = bot.place(&user_id(user)).await else { return Came::Refused };
                    tokio::time::sleep(STAY / 2).await;
                    // The phone may have hung up first.
                    let _ = bot.close_room(&call).await;
                    Came::Done
                });
            }
            4 => {
                let users = vec![self.next_user(), self.next_user(), self.next_user()];
                self.tally.invited_several += 1;
                self.invite(under_way, room, users);
            }
            _ => {
                let users = vec![self.next_user()];
                self.tally.invited += 1;
                self.invite(under_way, room, users);
            }
        }
    }

    fn invite(&self, under_way: &mut JoinSet<Came>, room: String, users: Vec<usize>) {
        let bot = self.bot.clone();
        under_way.spawn(async move {
            let people: Vec<String> = users.iter().map(|user| user_id(*user)).collect();
            let invited = bot.invite(&room, &people, 0).await;
            invited.map_or(Came::Refused, |invited| Came::Operation { invited, room, users })
        });
    }

    fn note(&mut self, came: Came) {
        match came {
            Came::Operation { invited, room, users } => {
                for (user, participant) in users.into_iter().zip(&invited.participants) {
                    self.recent.push_back((room.clone(), user, participant.clone()));
                }
                while self.recent.len() > RECENT_MAX {
                    self.recent.pop_front();
                }
                self.operations.push(invited.operation);
            }
            Came::Done => {}
            Came::Refused => self.tally.refused += 1,
        }
    }

    async fn change_room(&mut self) -> Result<()> {
        let room = self.bot.open_room().await?;
        self.rooms.push_back(room);
        if let Some(oldest) = self.rooms.pop_front() {
            self.recent.retain(|(room, _, _)| *room != oldest);
            self.bot.close_room(&oldest).await?;
            self.tally.rooms_closed += 1;
        }
        Ok(())
    }

    /// Waits for the end of everything, and closes what is open.
    async fn close(&mut self) -> Result<Tally> {
        let began = Instant::now();
        let unended = |day: &Self| {
            let told = day.webhook.told();
            day.operations.iter().filter(|operation| !told.operations.contains_key(*operation)).count()
        };
        while unended(self) > 0 && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for room in self.rooms.drain(..) {
            self.bot.close_room(&room).await?;
        }
        self.tally.unended = unended(self);
        let told = self.webhook.told();
        self.tally.completed = told.operations.values().filter(|(_, completed)| *completed).count();
        self.tally.failed = told.operations.len() - self.tally.completed;
        Ok(self.tally.clone())
    }

    /// Waits until the server holds hardly more than before, or for three minutes: idle connections stand for up to a
    /// minute and a half.
    async fn quiet(&self, prepared: &Prepared, server: &Server, before: Sample) -> Result<Sample> {
        let began = Instant::now();
        loop {
            let now = sample(prepared, server, began)?;
            if now.holding.descriptors <= before.holding.descriptors + LEFT_OPEN || began.elapsed() > QUIET_WITHIN {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn next_user(&mut self) -> usize {
        self.user = (self.user + 1) % USERS;
        self.user
    }

    /// Below `bound`; xorshift, the same every day.
    fn chance(&mut self, bound: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance % bound as u64) as usize
    }
}

/// People to move or to remove: the newest ones, who have hardly hung up.
const RECENT_MAX: usize = 50;

/// Once all is over the server holds no more descriptors than so many beyond those of its beginning.
const LEFT_OPEN: usize = 10;
const QUIET_WITHIN: Duration = Duration::from_mins(3);

fn sample(prepared: &Prepared, server: &Server, began: Instant) -> Result<Sample> {
    let second = began.elapsed().as_secs_f64();
    Ok(Sample { second, holding: holding(server.pid())?, database_mib: prepared.database_bytes() as f64 / MIB })
}

const MIB: f64 = 1024.0 * 1024.0;

fn report(options: &Options, samples: &[Sample], before: Sample, after: Sample, tally: &Tally) {
    let thirds: Vec<&[Sample]> = samples.chunks(samples.len().div_ceil(3).max(1)).collect();
    let settled = thirds.last().copied().unwrap_or_default();
    let line =
        |part: &[Sample], of: fn(&Sample) -> f64| 3600.0 * slope(part.iter().map(|sample| (sample.second, of(sample))));
    let slope = |of| line(settled, of);
    let detail = json!({
        "minutes": options.minutes, "rate": options.rate, "tally": tally, "before": before, "after": after,
        "first": settled.first(), "last": settled.last(),
    });
    Figure::at_most("soak_operations_without_end", tally.unended as f64, "operations", 0.0, detail);
    let resident = |sample: &Sample| sample.holding.resident_mib;
    let each: Vec<f64> = thirds.iter().map(|third| line(third, resident)).collect();
    Figure::at_most("soak_memory_slope", slope(resident), "MiB/h", 10.0, json!({"of_each_third": each}));
    let descriptors = slope(|sample| sample.holding.descriptors as f64);
    Figure::at_most("soak_descriptor_slope", descriptors, "1/h", 60.0, json!(null));
    let threads = slope(|sample| sample.holding.threads as f64);
    Figure::at_most("soak_thread_slope", threads, "1/h", 1.0, json!(null));
    let database = slope(|sample| sample.database_mib);
    Figure::at_most("soak_database_slope", database, "MiB/h", 50.0, json!(null));
    let left = after.holding.descriptors as f64 - before.holding.descriptors as f64;
    Figure::at_most("soak_descriptors_left", left, "descriptors", LEFT_OPEN as f64, json!(null));
}

/// Of the line that fits best, by least squares; zero of fewer than two points.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let (sum_x, sum_y) = points.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (mean_x, mean_y) = (sum_x / count.max(1.0), sum_y / count.max(1.0));
    let (above, below) = points
        .fold((0.0, 0.0), |(above, below), (x, y)| (above + (x - mean_x) * (y - mean_y), below + (x - mean_x).powi(2)));
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_line_has_its_slope_and_noise_around_a_level_none() {
        let line = (0..10).map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0));
        assert!((slope(line) - 3.0).abs() < 1e-9);
        let level = (0..10).map(|x| (f64::from(x), 5.0 + f64::from(x % 2)));
        assert!(slope(level).abs() < 0.1);
        assert!(slope(std::iter::empty()).abs() < f64::EPSILON);
    }
}
