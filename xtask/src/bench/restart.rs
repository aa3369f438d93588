//! The server is killed, or hands over, in the middle of a conversation, and is started again at once: for how long each
//! participant hears nothing.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use media::Codec;

use super::carrier::Carrier;
use super::client::{Bot, Webhook};
use super::crowd::{Crowd, Talking};
use super::machine::percentile;
use super::server::{Prepared, Setup};
use super::talking::Rooms;

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// `kill -9`.
    Killed,
    /// SIGTERM, with `hand_over` set.
    HandedOver,
}

/// How long nothing was heard, over all participants and restarts.
#[derive(Debug)]
pub(super) struct Gaps {
    /// Sorted, ms.
    ms: Vec<f64>,
    /// Participants that heard nothing any more.
    pub(super) lost: usize,
    /// The longest gap of each restart, ms.
    pub(super) worst_ms: Vec<f64>,
}

/// Whoever hears nothing for longer is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two restarts: until all re-INVITEs are answered and written down, and some more.
const TALK: Duration = Duration::from_secs(3);

impl Gaps {
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        if self.lost > 0 { f64::INFINITY } else { percentile(&self.ms, percent) }
    }
}

pub(super) async fn measure(setup: Setup, how: How, participants: usize, times: usize) -> Result<Gaps> {
    let codec = Codec::Pcmu;
    let crowd = Crowd::start(codec, Talking::Everybody)?;
    let carrier = Carrier::start(codec, crowd.entrance())?;
    let webhook = Webhook::start().await?;
    let setup = Setup { hook: webhook.address, trunk: carrier.address, users: 1, codec: codec.name(), ..setup };
    let prepared = Prepared::new(setup)?;
    let (mut server, _) = prepared.serve().await?;
    let bot = Bot::new(prepared.api, webhook.callback()).await?;
    Rooms::new(bot, 0).fill(participants, &crowd).await.map_err(|error| error.context(prepared.newest_log()))?;
    let mut gaps = Gaps { ms: Vec::new(), lost: 0, worst_ms: Vec::new() };
    for _ in 0..times {
        tokio::time::sleep(TALK).await;
        ensure!(crowd.members() == participants, "only {} are left: {}", crowd.members(), prepared.newest_log());
        let began = now_ns()?;
        match how {
            How::Killed => server.die()?,
            How::HandedOver => server.terminate()?,
        }
        let dead = now_ns()?;
        let (next, heard) = tokio::join!(prepared.serve(), crowd.hear_again(dead, PATIENCE));
        (server, _) = next?;
        let heard = heard?;
        let ms: Vec<f64> = heard.iter().flatten().map(|at| (at - began) as f64 / 1e6).collect();
        gaps.lost += heard.len() - ms.len();
        gaps.worst_ms.push(ms.iter().copied().fold(0.0, f64::max).round());
        gaps.ms.extend(ms);
    }
    gaps.ms.sort_by(f64::total_cmp);
    Ok(gaps)
}

/// The clock by which the kernel stamps packets.
fn now_ns() -> Result<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    i64::try_from(since.as_nanos()).context("the clock is beyond 2262")
}
