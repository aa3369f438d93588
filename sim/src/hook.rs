//! Webhooks: slow, failing, forgetful, or down.

use std::sync::Arc;

use serde_json::Value;
use server::notify::courier::Attempt;
use store::PendingNotice;

use crate::cast::CALLBACKS;
use crate::world::{Happens, World};

/// How well bots listen, in thousandths of what they are sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    /// 5xx, unread.
    pub(crate) fails: u64,
    /// Taken, and then the connection breaks.
    pub(crate) drops: u64,
    /// Taken, and answered after the courier has lost its patience.
    pub(crate) sleeps: u64,
    pub(crate) slow: u64,
}

/// The courier gives an answer so long.
const PATIENCE_MS: u64 = 10_000;

/// The courier of a process sends a notice.
pub(crate) fn sent(world: &mut World, process: u64, notice: Arc<PendingNotice>) {
    let bot = bot_of(&notice);
    let id = notice.id;
    world.note(|| format!("courier sends {id} to bot {bot}"));
    world.oracle.catch_up(world.now, &world.disk);
    world.oracle.sent(world.now, &notice);
    let way = world.chance.between(1, 20);
    let tried = |world: &mut World, after, attempt| world.after(after, Happens::Tried { process, notice: id, attempt });
    if world.bots[bot].down_until > world.now {
        world.faults.hooks += 1;
        return tried(world, way, Attempt::Unanswered("connection refused".to_owned()));
    }
    let Mood { fails, drops, sleeps, slow } = world.hooks;
    let lot = world.chance.below(1000);
    world.faults.hooks += u64::from(lot < fails + drops + sleeps + slow);
    if lot < fails {
        let status = *world.chance.pick(&[500, 502, 503, 429, 408]).expect("a choice");
        return tried(world, 2 * way, Attempt::Answered(status));
    }
    world.after(way, Happens::Reaches { notice });
    if lot < fails + drops {
        tried(world, 2 * way, Attempt::Unanswered("connection reset".to_owned()));
    } else if lot < fails + drops + sleeps {
        tried(world, PATIENCE_MS, Attempt::Unanswered("no answer within 10 s".to_owned()));
    } else if lot < fails + drops + sleeps + slow {
        let after = world.chance.between(200, 9_000);
        tried(world, after, Attempt::Answered(202));
    } else {
        tried(world, 2 * way, Attempt::Answered(200));
    }
}

/// A bot takes a notice.
pub(crate) fn reaches(world: &mut World, notice: &PendingNotice) {
    let bot = bot_of(notice);
    let body: Value = serde_json::from_str(&notice.notice.body).unwrap_or(Value::Null);
    let again = !world.bots[bot].taken.insert(notice.message_id);
    let told = &body["value"][0];
    let line = format!("{} {}", told["changeType"].as_str().unwrap_or("?"), told["resource"].as_str().unwrap_or("?"));
    let more = summary(&told["resourceData"]);
    let id = notice.id;
    world.note(|| format!("bot {bot} takes {id}{} {line} {more}", if again { " again" } else { "" }));
    if !again {
        let now = world.now;
        world.oracle.catch_up(now, &world.disk);
        world.oracle.taken(now, &mut world.bots[bot], notice, told);
    }
}

fn summary(data: &Value) -> String {
    match data {
        Value::Object(members) => {
            let state = members.get("state").or_else(|| members.get("status")).and_then(Value::as_str);
            let result = &data["resultInfo"];
            format!("{} {}/{}", state.unwrap_or(""), result["code"], result["subcode"])
        }
        Value::Array(items) => format!("{} people", items.len()),
        _ => String::new(),
    }
}

fn bot_of(notice: &PendingNotice) -> usize {
    CALLBACKS.iter().position(|callback| *callback == notice.notice.callback).expect("a callback of ours")
}
