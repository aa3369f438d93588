//! The figures of docs/performance.md, measured: a release server on one core; phones, webhook and client on another.
//!
//! Each figure is one JSON line on standard output; what happens meanwhile goes to standard error. Everything is on
//! loopback, bounded in time, and ends with this process.

mod carrier;
mod client;
mod crowd;
mod inviting;
mod janus;
mod machine;
mod overload;
mod restart;
mod server;
pub(crate) mod soak;
mod talking;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use cargo_metadata::MetadataCommand;
use clap::{Args, ValueEnum};
use media::Codec;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use client::Webhook;
use crowd::Talking;
use inviting::Inviting;
use machine::{Machine, Tries};
use server::{Prepared, Setup};
use talking::{BAD_MAX, Case, Step};

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Shorter runs and ladders, for a quick look
    #[arg(long)]
    quick: bool,
    /// Measures only this; may be given several times
    #[arg(long, value_enum)]
    only: Vec<What>,
    /// Puts server and generator before other work of a shared machine; needs root
    #[arg(long)]
    urgent: bool,
    /// Measures this server, built before, in place of the one that is built from here: to compare two
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Invite,
    Overload,
    Pcmu,
    Opus,
    Start,
    /// From `kill -9`, and from SIGTERM with `hand_over`, to audio heard again
    Restart,
    /// Janus with the same ladders of talkers, if it is installed
    Janus,
}

/// One line of the output.
#[derive(Debug, Serialize)]
struct Figure {
    #[serde(rename = "figure")]
    name: &'static str,
    /// Whose figure it is, if not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'static str>,
    value: f64,
    unit: &'static str,
    /// Where we want to be; at least or at most, as the figure goes.
    #[serde(flatten)]
    aim: Option<Aim>,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: Value,
}

#[derive(Debug, Serialize)]
struct Aim {
    aim: f64,
    reached: bool,
}

impl Figure {
    fn at_least(name: &'static str, value: f64, unit: &'static str, aim: f64, detail: Value) {
        Self { name, peer: None, value, unit, aim: Some(Aim { aim, reached: value >= aim }), detail }.print();
    }

    fn at_most(name: &'static str, value: f64, unit: &'static str, aim: f64, detail: Value) {
        Self { name, peer: None, value, unit, aim: Some(Aim { aim, reached: value <= aim }), detail }.print();
    }

    /// Nobody aims at anything with it.
    fn plain(name: &'static str, value: f64, unit: &'static str, detail: Value) {
        Self { name, peer: None, value, unit, aim: None, detail }.print();
    }

    fn of_janus(name: &'static str, value: f64, unit: &'static str, detail: Value) {
        Self { name, peer: Some("janus"), value, unit, aim: None, detail }.print();
    }

    fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("a figure is plain data"));
    }
}

pub(crate) fn bench(root: &Path, options: &Options) -> Result<()> {
    // A generator that is not optimised measures itself.
    if cfg!(debug_assertions) {
        return again_optimised(root);
    }
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build(root)?,
    };
    machine::pin_ourselves()?;
    if options.urgent && !machine::raise(std::process::id()) {
        eprintln!("the generator cannot be raised above other work: not root");
    }
    until_interrupted(measure(&binary, options))
}

/// `cargo xtask soak`.
pub(crate) fn soak(root: &Path, options: &soak::Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return again_optimised(root);
    }
    let binary = build(root)?;
    machine::pin_ourselves()?;
    until_interrupted(soak::soak(&anywhere(&binary, false), options))
}

fn until_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        // However it is ended, its server must not outlive it.
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}

/// The same command line by an optimised build of this tool.
fn again_optimised(root: &Path) -> Result<()> {
    let arguments: Vec<String> = ["run", "--quiet", "--release", "--package", "xtask", "--"]
        .map(str::to_owned)
        .into_iter()
        .chain(std::env::args().skip(1))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    super::run_quietly(root, "cargo", &arguments)
}

/// The release binary.
fn build(root: &Path) -> Result<PathBuf> {
    super::run_quietly(root, "cargo", &["build", "--quiet", "--release", "--package", "server", "--bin", "convoke"])?;
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    Ok(metadata.target_directory.join("release/convoke").into())
}

async fn measure(binary: &Path, options: &Options) -> Result<()> {
    let wanted = |what| options.only.is_empty() || options.only.contains(&what);
    println!("{}", json!({"machine": Machine::here()}));
    let setup = anywhere(binary, options.urgent);
    if wanted(What::Invite) || wanted(What::Start) {
        invitations(&setup, options, wanted(What::Invite), wanted(What::Start)).await?;
    }
    if wanted(What::Overload) {
        overload::measure(&setup, options.quick).await?;
    }
    if wanted(What::Pcmu) {
        conversation(PCMU, &setup, options, 1200.0).await?;
    }
    if wanted(What::Opus) {
        conversation(OPUS, &setup, options, 400.0).await?;
    }
    if wanted(What::Janus) {
        beside(options).await?;
    }
    if wanted(What::Restart) {
        restarts(&setup, options).await?;
    }
    Ok(())
}

/// Participants of one room that go on hearing each other.
const SURVIVORS: usize = 50;

async fn restarts(setup: &Setup, options: &Options) -> Result<()> {
    let times = if options.quick { 3 } else { 20 };
    for (how, figure_p50, figure_p99) in [
        (restart::How::Killed, "kill_to_audio_p50", "kill_to_audio_p99"),
        (restart::How::HandedOver, "hand_over_to_audio_p50", "hand_over_to_audio_p99"),
    ] {
        let gaps = restart::measure(setup.clone(), how, SURVIVORS, times).await?;
        let detail =
            json!({"participants": SURVIVORS, "restarts": times, "lost": gaps.lost, "worst_ms": gaps.worst_ms});
        Figure::at_most(figure_p50, gaps.percentile(50.0), "ms", 1000.0, Value::Null);
        Figure::at_most(figure_p99, gaps.percentile(99.0), "ms", 1000.0, detail);
    }
    Ok(())
}

/// A server whose webhook and trunk are yet to be said.
fn anywhere(binary: &Path, urgent: bool) -> Setup {
    let nowhere: SocketAddr = (Ipv4Addr::LOCALHOST, 9).into();
    Setup { binary: binary.to_owned(), hook: nowhere, trunk: nowhere, users: 1, codec: "PCMU", urgent }
}

/// Users, and so phones: nobody is invited again while still in a call.
const USERS: usize = 2_000;
/// The rate at which times are measured.
const STEADY: usize = 50;
const RATES: [usize; 6] = [100, 200, 300, 500, 600, 700];

async fn invitations(setup: &Setup, options: &Options, invite: bool, start: bool) -> Result<()> {
    let webhook = Webhook::start().await?;
    let prepared = Prepared::new(Setup { hook: webhook.address, users: USERS, ..setup.clone() })?;
    if invite {
        let seconds = if options.quick { 4 } else { 10 };
        let (server, _) = prepared.serve().await?;
        let mut inviting = Inviting::start(&prepared, webhook, USERS).await?;
        // What is loaded or made on first use is not what is measured.
        inviting.step(&server, STEADY, 2).await?;
        let mut steady = inviting.step(&server, STEADY, seconds).await?;
        let mut tries = Tries::default();
        while steady.is_spoiled() && tries.again(true) {
            eprintln!("once more: {}", serde_json::to_string(&steady)?);
            steady = inviting.step(&server, STEADY, seconds).await?;
        }
        let mut steps = vec![steady.clone()];
        let mut best = steady.clone();
        for rate in RATES {
            let mut step = inviting.step(&server, rate, seconds).await?;
            let mut tries = Tries::default();
            while !step.holds() && tries.again(step.is_spoiled()) {
                eprintln!("once more: {}", serde_json::to_string(&step)?);
                step = inviting.step(&server, rate, seconds).await?;
            }
            eprintln!("{}", serde_json::to_string(&step)?);
            let holds = step.holds();
            steps.push(step.clone());
            if !holds {
                eprintln!("{}", prepared.newest_log());
                break;
            }
            best = step;
        }
        let dead_letters = prepared.has_dead_letters()?;
        let detail = json!({"steps": steps, "dead_letters": dead_letters});
        let joined = if best.holds() { best.joined_per_second.min(best.offered_per_second as f64) } else { 0.0 };
        Figure::at_least("invited_joined_per_second", joined, "1/s", 500.0, detail);
        Figure::at_most("api_to_joined_p50_at_50_per_second", steady.joined_p50_ms, "ms", 5.0, Value::Null);
        Figure::at_most("api_to_joined_p99_at_50_per_second", steady.joined_p99_ms, "ms", 20.0, Value::Null);
        let each = json!({"at_50_per_second": steady.cpu_ms_per_participant});
        Figure::at_most("cpu_per_invited_participant", best.cpu_ms_per_participant, "ms", 2.0, each);
    }
    if start {
        let mut times = Vec::new();
        for _ in 0..10 {
            let (server, took) = prepared.serve().await?;
            times.push(took.as_secs_f64());
            drop(server);
        }
        times.sort_by(f64::total_cmp);
        Figure::at_most("start_to_serving", machine::percentile(&times, 50.0), "s", 0.3, json!({"seconds": times}));
    }
    Ok(())
}

const PCMU: Case = Case {
    codec: Codec::Pcmu,
    talking: Talking::Everybody,
    room: 10,
    ladder: &[400, 800, 1000, 1200, 1400, 1600, 1800, 2000],
};

const OPUS: Case =
    Case { codec: Codec::Opus, talking: Talking::First(3), room: 0, ladder: &[100, 200, 400, 600, 800, 900] };

/// What a case is called in the output: how many can talk, and what each of them takes of memory.
fn figures_of(case: Case) -> (&'static str, &'static str) {
    match case.codec {
        Codec::Opus => ("opus_participants_one_room_3_talking", "memory_per_opus_participant"),
        Codec::Pcmu | Codec::Pcma | Codec::G722 => {
            ("pcmu_participants_rooms_of_10_all_talking", "memory_per_participant")
        }
    }
}

fn window(options: &Options) -> Duration {
    Duration::from_secs(if options.quick { 4 } else { 10 })
}

async fn conversation(case: Case, setup: &Setup, options: &Options, aim: f64) -> Result<()> {
    let steps = talking::climb(case, setup.clone(), window(options)).await?;
    let (participants, memory) = figures_of(case);
    let detail = json!({"bad_percent_max": BAD_MAX, "steps": steps});
    Figure::at_least(participants, most(&steps), "participants", aim, detail);
    if let Some((slope, first)) = memory_of(&steps) {
        Figure::at_most(memory, slope, "MiB", 0.1, json!({"first_step_mib": first}));
    }
    Ok(())
}

/// The same cases with Janus, whose ladders are as much shorter as it is slower.
async fn beside(options: &Options) -> Result<()> {
    let Some(version) = janus::version() else {
        eprintln!("Janus is not measured: it is not installed (Debian: apt-get install janus)");
        println!("{}", json!({"peer": "janus", "skipped": "not installed"}));
        return Ok(());
    };
    let cases = [
        Case { ladder: &[80, 160, 240, 280, 320, 360, 400, 440, 480, 560], ..PCMU },
        Case { ladder: &[20, 40, 60, 70, 80, 100, 120, 140, 160], ..OPUS },
    ];
    for case in cases {
        let steps = talking::climb_janus(case, options.urgent, window(options)).await?;
        let (participants, memory) = figures_of(case);
        let detail = json!({"version": version, "bad_percent_max": BAD_MAX, "steps": steps});
        Figure::of_janus(participants, most(&steps), "participants", detail);
        if let Some((slope, first)) = memory_of(&steps) {
            Figure::of_janus(memory, slope, "MiB", json!({"first_step_mib": first}));
        }
    }
    Ok(())
}

/// The highest step that holds.
fn most(steps: &[Step]) -> f64 {
    steps.iter().rev().find(|step| step.holds()).map_or(0.0, |step| step.participants as f64)
}

/// What one more participant takes, MiB, and all that the first step takes.
fn memory_of(steps: &[Step]) -> Option<(f64, f64)> {
    let (first, last) = (steps.first()?, steps.last()?);
    let more = last.participants.checked_sub(first.participants).filter(|more| *more > 0)?;
    Some(((last.resident_mib - first.resident_mib) / more as f64, first.resident_mib))
}
