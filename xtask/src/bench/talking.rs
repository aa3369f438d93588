//! Conversations: more and more people in rooms, until more than half a percent of what they hear is late or lost. The
//! same for our server and for a peer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use media::Codec;
use serde::Serialize;

use super::carrier::Carrier;
use super::client::{Bot, Webhook};
use super::crowd::{Crowd, Entrance, Heard, Talking};
use super::janus::Janus;
use super::machine::{self, Cores, GENERATOR_LATE_MAX_MS, STOLEN_MAX_PERCENT, Tries, processor_time};
use super::server::{Prepared, Server, Setup};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) codec: Codec,
    pub(super) talking: Talking,
    /// People in one room; with zero, all are in the same.
    pub(super) room: usize,
    pub(super) ladder: &'static [usize],
}

/// One step of a ladder.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) participants: usize,
    #[serde(flatten)]
    pub(super) heard: Heard,
    pub(super) server_cpu_percent: f64,
    pub(super) generator_cpu_percent: f64,
    pub(super) resident_mib: f64,
    pub(super) stolen_percent: f64,
}

/// What may be late or lost, percent.
pub(super) const BAD_MAX: f64 = 0.5;

/// As many as one request takes.
const PER_INVITATION: usize = 5;
/// Until jitter buffers, rosters and notifications have come to rest.
const SETTLE: Duration = Duration::from_secs(3);
const JOIN_WITHIN: Duration = Duration::from_mins(1);

impl Step {
    /// Whether the generator or the hypervisor spoiled it, so that it says nothing about the server.
    fn is_spoiled(&self) -> bool {
        self.heard.generator_late_p99_ms > GENERATOR_LATE_MAX_MS || self.stolen_percent > STOLEN_MAX_PERCENT
    }

    pub(super) fn holds(&self) -> bool {
        self.heard.bad_percent <= BAD_MAX && self.heard.silent_streams == 0
    }
}

/// Our server, with SIP and a trunk.
pub(super) async fn climb(case: Case, setup: Setup, window: Duration) -> Result<Vec<Step>> {
    let crowd = Crowd::start(case.codec, case.talking)?;
    let carrier = Carrier::start(case.codec, crowd.entrance())?;
    let webhook = Webhook::start().await?;
    let setup = Setup { hook: webhook.address, trunk: carrier.address, users: 1, codec: case.codec.name(), ..setup };
    let prepared = Prepared::new(setup)?;
    let (server, _) = prepared.serve().await?;
    let bot = Bot::new(prepared.api, webhook.callback()).await?;
    let mut house = House::Ours(server, Rooms::new(bot, case.room));
    let steps = house.climb(case, &crowd, window).await;
    steps.map_err(|error| error.context(prepared.newest_log()))
}

/// Janus, with plain RTP and nothing else.
pub(super) async fn climb_janus(case: Case, urgent: bool, window: Duration) -> Result<Vec<Step>> {
    let crowd = Crowd::start(case.codec, case.talking)?;
    let janus = Janus::start(urgent).await?;
    let mut house = House::Janus(janus, crowd.entrance(), 0);
    house.climb(case, &crowd, window).await
}

/// Who mixes.
enum House {
    Ours(Server, Rooms),
    /// With how many people it has.
    Janus(Janus, Entrance, usize),
}

impl House {
    fn pid(&self) -> u32 {
        match self {
            Self::Ours(server, _) => server.pid(),
            Self::Janus(janus, ..) => janus.pid(),
        }
    }

    async fn fill(&mut self, target: usize, case: Case, crowd: &Crowd) -> Result<()> {
        match self {
            Self::Ours(_, rooms) => rooms.fill(target, crowd).await,
            Self::Janus(janus, entrance, people) => {
                while *people < target {
                    // Rooms are numbered from one.
                    let room = 1 + people.checked_div(case.room).unwrap_or_default();
                    if *people == 0 || (case.room > 0 && people.is_multiple_of(case.room)) {
                        janus.open_room(room as u64, case.codec).await?;
                    }
                    janus.join(room as u64, case.codec, entrance).await?;
                    *people += 1;
                }
                Ok(())
            }
        }
    }

    /// Climbs the ladder: each step adds people to those who talk already. Ends with the first step that does not hold,
    /// after further tries of it.
    async fn climb(&mut self, case: Case, crowd: &Crowd, window: Duration) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for &participants in case.ladder {
            self.fill(participants, case, crowd).await?;
            tokio::time::sleep(SETTLE).await;
            let mut step = measure(crowd, self.pid(), window).await?;
            let mut tries = Tries::default();
            while !step.holds() && tries.again(step.is_spoiled()) {
                eprintln!("once more: {}", serde_json::to_string(&step)?);
                tokio::time::sleep(SETTLE).await;
                step = measure(crowd, self.pid(), window).await?;
            }
            eprintln!("{} {}", case.codec.name(), serde_json::to_string(&step)?);
            let holds = step.holds();
            steps.push(step);
            if !holds {
                break;
            }
        }
        Ok(steps)
    }
}

async fn measure(crowd: &Crowd, server: u32, window: Duration) -> Result<Step> {
    let ourselves = std::process::id();
    let (began, cores) = (Instant::now(), Cores::now());
    let (used, generated) = (processor_time(server)?, processor_time(ourselves)?);
    let heard = crowd.measure(window).await?;
    let took = began.elapsed().as_secs_f64();
    let share = |used: Duration| 100.0 * used.as_secs_f64() / took;
    Ok(Step {
        participants: crowd.members(),
        heard,
        server_cpu_percent: share(processor_time(server)?.saturating_sub(used)),
        generator_cpu_percent: share(processor_time(ourselves)?.saturating_sub(generated)),
        resident_mib: machine::resident(server)? as f64 / f64::from(1 << 20),
        stolen_percent: cores.stolen_percent(),
    })
}

/// Rooms of our server that are filled over a trunk.
pub(super) struct Rooms {
    bot: Bot,
    size: usize,
    people: usize,
    room: String,
    invitations: u64,
}

impl Rooms {
    /// Rooms of so many people; with zero, all are in one.
    pub(super) fn new(bot: Bot, size: usize) -> Self {
        Self { bot, size, people: 0, room: String::new(), invitations: 0 }
    }

    /// Invites people until so many talk.
    pub(super) async fn fill(&mut self, target: usize, crowd: &Crowd) -> Result<()> {
        while self.people < target {
            let in_room = if self.size == 0 { self.people } else { self.people % self.size };
            if in_room == 0 {
                self.room = self.bot.open_room().await?;
            }
            let room_left = if self.size == 0 { usize::MAX } else { self.size - in_room };
            let count = PER_INVITATION.min(target - self.people).min(room_left);
            let numbers: Vec<_> = (0..count).map(|more| format!("+1425{:07}", self.people + more)).collect();
            self.invitations += 1;
            self.bot.invite(&self.room, &numbers, self.invitations).await?;
            self.people += count;
            // Not faster than a busy day: what is measured is talking.
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        let began = Instant::now();
        while crowd.members() < target {
            ensure!(began.elapsed() < JOIN_WITHIN, "only {} of {target} have joined", crowd.members());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
