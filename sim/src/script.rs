//! What is played: requests of bots, whims of people, and everything that goes wrong, drawn from the seed.

use serde_json::Value;

use crate::bot::{Asked, BotCall, Fetch, What};
use crate::cast::{NUMBERS, PEOPLE, devices_of, is_person};
use crate::chance::Chance;
use crate::disk;
use crate::hook;
use crate::net::Weather;
use crate::phone::{Temper, Wake};
use crate::world::{Happens, World};

/// How far the play is, and what kind of play it is.
#[derive(Debug)]
pub(crate) struct Script {
    left: u64,
    requests: u64,
    /// In thousandths of the steps: how much goes wrong.
    trouble: u64,
    /// Steps follow so quickly, milliseconds.
    pace_ms: u64,
    burst: u64,
}

/// Requests of one kind are tried so often.
const TRIES_MAX: u32 = 6;

impl Script {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        // One world in eight is a good one: then everything must work, too.
        let trouble = if chance.permille(125) { 0 } else { chance.between(50, 450) };
        Self {
            left: chance.between(12, 60),
            requests: 0,
            trouble,
            pace_ms: *chance.pick(&[100, 500, 1_500, 3_000]).expect("a choice"),
            burst: 0,
        }
    }

    /// What phones are like in this play.
    pub(crate) fn temper(chance: &mut Chance) -> Temper {
        if chance.permille(200) {
            return Temper::good();
        }
        Temper {
            refuses: chance.between(0, 300),
            rings_on: chance.between(0, 200),
            silent: chance.between(0, 100),
            answers_late: chance.between(0, 200),
            asks_longer: chance.between(0, 200),
            forks: chance.between(0, 250),
            changes: chance.between(0, 400),
            leaves: chance.between(0, 300),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Temper {
    /// Answers, and stays.
    pub(crate) fn good() -> Self {
        Self { refuses: 0, rings_on: 0, silent: 0, answers_late: 0, asks_longer: 0, forks: 0, changes: 0, leaves: 0 }
    }
}

/// One step.
pub(crate) fn step(world: &mut World) {
    world.script.left = world.script.left.saturating_sub(1);
    if world.script.is_over() {
        return;
    }
    let trouble = world.script.trouble;
    if world.chance.permille(trouble) {
        goes_wrong(world);
    } else {
        let bot = world.chance.below(2) as usize;
        // Without calls there is nothing else to do; with many, people would only be busy.
        if !asks_something(world, bot) && world.bots[bot].live(|_| true).len() < 4 {
            places(world, bot);
        }
    }
    // Now and then everything happens at once.
    if world.script.burst == 0 && world.chance.permille(150) {
        world.script.burst = world.chance.between(3, 8);
    }
    let pace = world.script.pace_ms;
    let gap = if world.script.burst > 0 {
        world.script.burst -= 1;
        world.chance.between(0, 8)
    } else {
        world.chance.between(pace / 10, 2 * pace)
    };
    // The last step is followed by a while in which things take their course.
    let gap = if world.script.left == 1 { gap + 3_000 } else { gap };
    world.after(gap, Happens::Step);
}

fn asks_something(world: &mut World, bot: usize) -> bool {
    match world.chance.below(100) {
        0..14 => places(world, bot),
        14..20 => joins(world, bot),
        20..42 => invites(world, bot),
        42..58 => replaces(world, bot),
        58..72 => moves(world, bot),
        72..80 => repeats(world, bot),
        80..85 => deletes(world, bot),
        85..90 => removes(world, bot),
        90..93 => looks(world, bot),
        _ => leaves(world),
    }
}

fn ask(world: &mut World, bot: usize, what: What) -> bool {
    world.script.requests += 1;
    let number = world.script.requests;
    let asked = Asked { what, tries: 0, waiting: 0, in_doubt: false, answered: Vec::new(), operation: None };
    world.bots[bot].asked.insert(number, asked);
    world.after(0, Happens::Asks { bot, request: number });
    true
}

fn person(world: &mut World) -> String {
    let id = if world.chance.permille(200) {
        world.chance.pick(&NUMBERS).copied()
    } else {
        world.chance.pick(&PEOPLE).map(|(id, ..)| *id)
    };
    id.expect("people").to_owned()
}

fn places(world: &mut World, bot: usize) -> bool {
    let mut people = vec![person(world)];
    if world.chance.permille(450) {
        people.extend((0..world.chance.between(1, 2)).map(|_| person(world)).collect::<Vec<_>>());
        people.sort();
        people.dedup();
    }
    let delta = world.chance.permille(300);
    ask(world, bot, What::Place { people, delta })
}

fn joins(world: &mut World, bot: usize) -> bool {
    let (meeting, delta) = (world.chance.below(2) as usize, world.chance.permille(300));
    ask(world, bot, What::Join { meeting, delta })
}

fn context(world: &World) -> String {
    format!("context-{}", world.script.requests + 1)
}

fn invites(world: &mut World, bot: usize) -> bool {
    let calls = world.bots[bot].live(|_| true);
    let Some(call) = world.chance.pick(&calls).cloned() else { return false };
    let mut people = vec![person(world)];
    if world.chance.permille(250) {
        people.push(person(world));
        people.dedup();
    }
    let context = context(world);
    ask(world, bot, What::Invite { call, people, fetch: None, context })
}

fn replaces(world: &mut World, bot: usize) -> bool {
    let from = world.bots[bot].live(|call| call.established && !call.is_group && call.people.len() == 1);
    let Some(from) = world.chance.pick(&from).cloned() else { return false };
    let into = world.bots[bot].live(|_| true);
    let into: Vec<String> = into.into_iter().filter(|call| *call != from).collect();
    let Some(call) = world.chance.pick(&into).cloned() else { return false };
    let people = world.bots[bot].calls[&from].people.clone();
    let context = context(world);
    interferes(world, bot, &from, &people[0]);
    ask(world, bot, What::Invite { call, people, fetch: Some(Fetch { from, participant: None }), context })
}

fn moves(world: &mut World, bot: usize) -> bool {
    let someone = |call: &BotCall| call.is_group && call.roster.values().any(|who| is_person(who));
    let from = world.bots[bot].live(someone);
    let Some(from) = world.chance.pick(&from).cloned() else { return false };
    let into: Vec<String> =
        world.bots[bot].live(|call| call.is_group).into_iter().filter(|call| *call != from).collect();
    let Some(call) = world.chance.pick(&into).cloned() else { return false };
    let people: Vec<(String, String)> = world.bots[bot].calls[&from]
        .roster
        .iter()
        .filter(|(_, who)| is_person(who))
        .map(|(id, who)| (id.clone(), who.clone()))
        .collect();
    let Some((participant, who)) = world.chance.pick(&people).cloned() else { return false };
    let context = context(world);
    interferes(world, bot, &from, &who);
    let fetch = Fetch { from, participant: Some(participant) };
    ask(world, bot, What::Invite { call, people: vec![who], fetch: Some(fetch), context })
}

/// While someone is fetched: they hang up, their call is deleted, or they are fetched by somebody else.
fn interferes(world: &mut World, bot: usize, from: &str, who: &str) {
    let after = world.chance.between(0, 25);
    match world.chance.below(10) {
        0..3 => on_their_phone(world, after, who, Wake::HangUp),
        3 => {
            ask(world, bot, What::Delete { call: from.to_owned() });
        }
        4 => world.after(after, Happens::Dies),
        5 => on_their_phone(world, after, who, Wake::Change),
        _ => {}
    }
}

/// Somebody does something to a call that they are in.
fn on_their_phone(world: &mut World, after: u64, who: &str, what: fn(u64) -> Wake) {
    let devices = devices_of(who);
    let mut up = talking(world);
    up.retain(|(phone, _)| devices.contains(phone));
    if let Some((phone, call)) = world.chance.pick(&up).copied() {
        wake(world, after, phone, what(call));
    }
}

fn talking(world: &World) -> Vec<(usize, u64)> {
    let phones = world.phones.iter().enumerate();
    phones
        .flat_map(|(phone, each)| each.calls.iter().filter(|(_, call)| call.is_up()).map(move |(id, _)| (phone, *id)))
        .collect()
}

fn wake(world: &mut World, after: u64, phone: usize, what: Wake) {
    let boot = world.boots(phone);
    world.after(after, Happens::Wakes { phone, boot, what });
}

/// Says again what was said before: whether it was answered or not (INV-33).
fn repeats(world: &mut World, bot: usize) -> bool {
    let invites: Vec<u64> = world.bots[bot]
        .asked
        .iter()
        .filter(|(_, asked)| matches!(asked.what, What::Invite { .. }))
        .map(|(number, _)| *number)
        .collect();
    let recent = &invites[invites.len().saturating_sub(3)..];
    let Some(number) = world.chance.pick(recent).copied() else { return false };
    world.after(0, Happens::Asks { bot, request: number });
    true
}

fn deletes(world: &mut World, bot: usize) -> bool {
    let calls = world.bots[bot].live(|_| true);
    let Some(call) = world.chance.pick(&calls).cloned() else { return false };
    ask(world, bot, What::Delete { call })
}

fn removes(world: &mut World, bot: usize) -> bool {
    let calls = world.bots[bot].live(|call| call.roster.values().any(|who| is_person(who)));
    let Some(call) = world.chance.pick(&calls).cloned() else { return false };
    let people: Vec<String> = world.bots[bot].calls[&call]
        .roster
        .iter()
        .filter(|(_, who)| is_person(who))
        .map(|(id, _)| id.clone())
        .collect();
    let Some(participant) = world.chance.pick(&people).cloned() else { return false };
    ask(world, bot, What::Remove { call, participant })
}

fn looks(world: &mut World, bot: usize) -> bool {
    let calls = world.bots[bot].live(|_| true);
    let Some(call) = world.chance.pick(&calls).cloned() else { return false };
    let what = if world.chance.permille(500) { What::KeepAlive { call } } else { What::Look { call } };
    ask(world, bot, what)
}

/// Somebody hangs up.
fn leaves(world: &mut World) -> bool {
    let up = talking(world);
    let Some((phone, call)) = world.chance.pick(&up).copied() else { return false };
    let what = if world.chance.permille(600) { Wake::HangUp(call) } else { Wake::Change(call) };
    wake(world, 0, phone, what);
    true
}

fn goes_wrong(world: &mut World) {
    match world.chance.below(100) {
        0..15 => {
            let after = world.chance.between(0, 200);
            world.note(|| format!("the process is to die in {after} ms"));
            world.after(after, Happens::Dies);
        }
        15..28 => {
            let fatal = (world.chance.between(0, 6), world.chance.permille(500));
            world.note(|| format!("the commit after {} others is fatal, durable: {}", fatal.0, fatal.1));
            world.disk.platter().fatal = Some(fatal);
        }
        28..36 => {
            let left = world.chance.between(0, 6);
            world.note(|| format!("the effect after {left} others is fatal"));
            world.fatal_effect = Some(left);
        }
        36..52 => {
            let mood = disk::Mood {
                refuses_permille: world.chance.between(50, 500),
                stalls_permille: world.chance.between(0, 200),
            };
            world.note(|| format!("the disk: {mood:?}"));
            world.disk.platter().mood = mood;
            let after = world.chance.between(200, 6_000);
            world.after(after, Happens::DiskHeals);
        }
        52..68 => {
            world.hooks = hook::Mood {
                fails: world.chance.between(0, 300),
                drops: world.chance.between(0, 200),
                sleeps: world.chance.between(0, 100),
                slow: world.chance.between(0, 300),
            };
            let hooks = world.hooks;
            world.note(|| format!("webhooks: {hooks:?}"));
            if world.chance.permille(300) {
                let (bot, until) = (world.chance.below(2) as usize, world.now + world.chance.between(100, 8_000));
                world.bots[bot].down_until = until;
                world.note(|| format!("bot {bot} is down until {until}"));
            }
            let after = world.chance.between(500, 15_000);
            world.after(after, Happens::HooksHeal);
        }
        68..84 => {
            let least = world.chance.between(1, 30);
            world.weather = Weather {
                loss_permille: world.chance.between(0, 300),
                double_permille: world.chance.between(0, 200),
                delay_ms: (least, least + world.chance.between(0, 400)),
                cut_off: world.weather.cut_off.clone(),
            };
            let weather = world.weather.clone();
            world.note(|| format!("{weather:?}"));
            let after = world.chance.between(500, 15_000);
            world.after(after, Happens::WeatherClears);
        }
        84..92 => {
            let phone = world.chance.below(world.phones.len() as u64) as usize;
            let ip = world.phones[phone].address.ip();
            world.weather.cut_off.insert(ip);
            world.note(|| format!("phone {phone} is cut off"));
            // Shorter than SIP's patience: longer, and only a session timer could tell.
            let after = world.chance.between(200, 14_000);
            world.after(after, Happens::Reconnects(ip));
        }
        _ => {
            let phone = world.chance.below(world.phones.len() as u64) as usize;
            world.power_off(phone);
        }
    }
}

/// The process died: whatever was asked of it may have been done, or not.
pub(crate) fn lost(world: &mut World, bot: usize) {
    let mut again = Vec::new();
    for (number, asked) in &mut world.bots[bot].asked {
        if asked.waiting > 0 {
            asked.waiting = 0;
            asked.in_doubt = true;
            again.push(*number);
        }
    }
    for request in again {
        if world.chance.permille(700) {
            let after = world.chance.between(100, 5_000);
            world.after(after, Happens::Asks { bot, request });
        }
    }
}

/// Nobody listens; nothing was asked.
pub(crate) fn refused_connection(world: &mut World, bot: usize, request: u64) {
    let Some(asked) = world.bots[bot].asked.get_mut(&request) else { return };
    asked.waiting = 0;
    if asked.tries < TRIES_MAX {
        let after = world.chance.between(200, 2_000);
        world.after(after, Happens::Asks { bot, request });
    }
}

pub(crate) fn answered(world: &mut World, bot: usize, request: u64, status: u16, body: &Value) {
    let now = world.now;
    let Some(asked) = world.bots[bot].asked.get_mut(&request) else { return };
    asked.waiting = asked.waiting.saturating_sub(1);
    asked.answered.push(status);
    let (what, tries) = (asked.what.clone(), asked.tries);
    if status == 503 && tries < TRIES_MAX {
        let after = world.chance.between(100, 2_500);
        // A call is not placed again: nobody could tell one from the other.
        if matches!(what, What::Invite { .. } | What::Delete { .. } | What::Remove { .. }) {
            world.after(after, Happens::Asks { bot, request });
        }
        return;
    }
    if status >= 500 && status != 503 {
        world.oracle.broken(now, format!("request {request} is answered {status}"));
    }
    if !(200..300).contains(&status) {
        return;
    }
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    match what {
        What::Place { people, delta } => {
            let is_group = people.len() > 1;
            let call = world.bots[bot].calls.entry(id.clone()).or_default();
            call.people = people;
            call.is_group = is_group;
            call.delta = delta;
            world.oracle.placed(now, &world.disk, &id);
        }
        What::Join { delta, .. } => {
            let call = world.bots[bot].calls.entry(id.clone()).or_default();
            call.is_group = true;
            call.delta = delta;
            world.oracle.placed(now, &world.disk, &id);
        }
        What::Invite { call, fetch, context, .. } => {
            let asked = world.bots[bot].asked.get_mut(&request).expect("it was just there");
            let before = asked.operation.replace(id.clone());
            if before.as_ref().is_some_and(|before| *before != id) {
                // INV-33
                world.oracle.broken(now, format!("{context} was asked again, and began {id} after {before:?}"));
            }
            world.oracle.accepted(now, &world.disk, &id, &call, fetch.as_ref(), &context);
            // Whoever is being fetched is not wanted any more, and the leg may be on its way.
            if fetch.is_some()
                && let Some(participant) = body["participants"][0]["participantId"].as_str()
                && world.chance.permille(120)
            {
                ask(world, bot, What::Remove { call, participant: participant.to_owned() });
            }
        }
        What::Remove { .. } | What::Delete { .. } | What::KeepAlive { .. } | What::Look { .. } => {}
    }
}

/// Every call is deleted; several times, if it must be.
pub(crate) fn farewell(world: &mut World) {
    for bot in 0..world.bots.len() {
        for call in world.bots[bot].live(|_| true) {
            ask(world, bot, What::Delete { call });
        }
    }
}
