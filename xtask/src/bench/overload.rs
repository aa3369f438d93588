//! Overload: what becomes of invitations when far more come than can be served, of people who talk meanwhile, and how
//! soon all is well again when the flood ends.
//!
//! One run without a pause, in four parts: the sustainable rate, twice as much, five times as much, and seven tenths of it,
//! because the rate itself is the edge of what can be done. Who is refused is not asked again, so that what is offered is
//! what is said; a last run is of clients that come back as SDKs do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use media::Codec;
use serde::Serialize;
use serde_json::json;

use super::carrier::Carrier;
use super::client::Webhook;
use super::crowd::{Crowd, Heard, Talking};
use super::inviting::{Inviting, Load, Part, Refused, Step};
use super::server::{Prepared, Server, Setup};
use super::talking::Rooms;
use super::{Figure, USERS};

/// Those who talk all the time, in rooms of ten.
const ESTABLISHED: usize = 100;
/// Rates that are tried for the one that is sustained.
const RATES: [usize; 9] = [200, 300, 400, 450, 500, 550, 600, 650, 700];
/// Of the sustained rate, what is left when the flood ends.
const AFTERWARDS: f64 = 0.7;
/// How much may be lost of the peak, percent.
const GOODPUT_LOST_MAX: f64 = 10.0;
/// Ticks of the mixers that may be late, percent.
const LATE_TICKS_MAX: f64 = 0.1;

/// One part of the run.
#[derive(Clone, Debug, Serialize)]
struct Stage {
    times: f64,
    #[serde(flatten)]
    step: Step,
    /// Of those asked in this part, how many joined for each second of it.
    goodput_per_second: f64,
    late_ticks_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    established: Option<Heard>,
}

pub(super) async fn measure(setup: &Setup, quick: bool) -> Result<()> {
    let crowd = Crowd::start(Codec::Pcmu, Talking::Everybody)?;
    let carrier = Carrier::start(Codec::Pcmu, crowd.entrance())?;
    let webhook = Webhook::start().await?;
    let prepared =
        Prepared::new(Setup { hook: webhook.address, trunk: carrier.address, users: USERS, ..setup.clone() })?;
    let (server, _) = prepared.serve().await?;
    let mut inviting = Inviting::start(&prepared, webhook, USERS).await?;
    Rooms::new(inviting.bot.clone(), 10).fill(ESTABLISHED, &crowd).await?;

    let rate = sustained(&mut inviting, &server, quick).await?;
    let (short, long) = if quick { (5, 10) } else { (20, 60) };
    let part = |times: f64, seconds| Part { rate: (rate as f64 * times) as usize, seconds };
    let parts = [part(1.0, short), part(2.0, short), part(5.0, long), part(AFTERWARDS, short)];
    let stages = run(&mut inviting, &server, &crowd, rate, &parts, Refused::GoAway).await?;
    for stage in &stages {
        eprintln!("{}", serde_json::to_string(stage)?);
    }
    let coming_back = run(&mut inviting, &server, &crowd, rate, &[part(2.0, short)], Refused::ComeBack).await?;

    let peak = stages.iter().map(|stage| stage.goodput_per_second).fold(0.0, f64::max);
    let flood = stages.get(2).context("the flood is the third part")?;
    let after = stages.get(3).context("the fourth part comes after the flood")?;
    let kept = 100.0 * flood.goodput_per_second / peak.max(f64::EPSILON);
    let lost: usize = stages.iter().map(|stage| stage.step.failed + stage.step.unended).sum();
    let late = stages.iter().map(|stage| stage.late_ticks_percent).fold(0.0, f64::max);
    let detail = json!({"sustained_per_second": rate, "peak_per_second": peak, "stages": stages});
    Figure::at_least("overload_goodput_at_5_times", kept, "% of the peak", 100.0 - GOODPUT_LOST_MAX, detail);
    Figure::at_most("overload_accepted_and_lost", lost as f64, "operations", 0.0, json!(null));
    Figure::at_most("overload_late_ticks", late, "%", LATE_TICKS_MAX, json!(null));
    Figure::at_most("overload_recovery", after.step.last_refused_s, "s", 1.0, json!({"refused": after.step.refused}));
    let served = coming_back.first().context("one part")?;
    let share = 100.0 * served.step.joined as f64 / served.step.invited.max(1) as f64;
    Figure::plain("overload_joined_of_twice_when_clients_come_back", share, "%", json!({"stages": coming_back}));
    Ok(())
}

/// The highest rate that holds, those who talk beside it.
async fn sustained(inviting: &mut Inviting, server: &Server, quick: bool) -> Result<usize> {
    let seconds = if quick { 4 } else { 10 };
    let mut best = RATES[0];
    for rate in RATES {
        let mut step = inviting.step(server, rate, seconds).await?;
        if !step.holds() {
            eprintln!("once more: {}", serde_json::to_string(&step)?);
            step = inviting.step(server, rate, seconds).await?;
        }
        eprintln!("{}", serde_json::to_string(&step)?);
        if !step.holds() {
            break;
        }
        best = rate;
    }
    Ok(best)
}

async fn run(
    inviting: &mut Inviting,
    server: &Server,
    crowd: &Crowd,
    rate: usize,
    parts: &[Part],
    refused: Refused,
) -> Result<Vec<Stage>> {
    let load = Load { parts: parts.to_vec(), rooms: rooms_for(rate), refused };
    let windows: Vec<Duration> = parts.iter().map(|part| Duration::from_secs(part.seconds)).collect();
    let bot = inviting.bot.clone();
    let watching = async {
        let mut seen = Vec::new();
        for window in windows {
            let before = bot.late_ticks().await?;
            // The crowd's window begins and ends a little later than it is told to.
            let heard = crowd.measure(window.saturating_sub(Duration::from_millis(200))).await?;
            let after = bot.late_ticks().await?;
            let due = window.as_secs_f64() * 50.0;
            seen.push((heard, 100.0 * (after - before) / due));
        }
        anyhow::Ok(seen)
    };
    let (steps, seen) = tokio::join!(inviting.load(server, &load), watching);
    let stages = steps?.into_iter().zip(seen?).zip(parts).map(|((step, (heard, late)), part)| Stage {
        times: part.rate as f64 / rate as f64,
        goodput_per_second: step.joined as f64 / part.seconds as f64,
        step,
        late_ticks_percent: late,
        established: Some(heard),
    });
    Ok(stages.collect())
}

/// Rooms of about ten. Their number shares no divisor with that of the users: nobody is asked into a room while in it.
fn rooms_for(rate: usize) -> usize {
    // Of any four odd numbers in a row, some are no multiples of five, and 2000 has no other divisors.
    (rate / 10..rate / 10 + 8).find(|rooms| rooms % 2 == 1 && rooms % 5 != 0).unwrap_or(1)
}
