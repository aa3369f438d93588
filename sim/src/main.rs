//! Plays seeds: `cargo xtask sim --seeds 500`, or one of them with its trace: `cargo xtask sim --seed 17`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Parser;
use sim::{Cast, Ending};

#[derive(Debug, Parser)]
#[command(name = "sim", about = "The world in one thread, from one seed")]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Play this one alone, and print everything that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Worlds played at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop at the first that is broken.
    #[arg(long)]
    first: bool,
    /// Seeds that were found broken once, one a line: played first.
    #[arg(long)]
    kept: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    sim::listen();
    let cast = Arc::new(Cast::default());
    if let Some(seed) = arguments.seed {
        let ending = sim::play(seed, &cast);
        print!("{}", ending.trace);
        report(&ending);
        return if ending.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut seeds = arguments.kept.as_deref().map(kept).unwrap_or_default();
    seeds.extend(arguments.from..arguments.from + arguments.seeds);
    let began = Instant::now();
    let broken = play_all(&seeds, &arguments, &cast);
    let seconds = began.elapsed().as_secs_f64();
    let Tally { played, failed, faults, operations, calls, virtual_ms } = broken;
    let per_minute = |count: u64| (count as f64 * 60.0 / seconds).round();
    println!(
        "{played} seeds in {seconds:.1} s ({} a minute), {calls} calls, {operations} operations, {:.1} h of virtual time; \
         {faults} faults injected ({} a minute); {} broken",
        per_minute(played),
        virtual_ms as f64 / 3_600_000.0,
        per_minute(faults),
        failed.len(),
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("broken: {failed:?}; replay one with: cargo xtask sim --seed {}", failed[0]);
    ExitCode::FAILURE
}

#[derive(Debug, Default)]
struct Tally {
    played: u64,
    failed: Vec<u64>,
    faults: u64,
    operations: usize,
    calls: usize,
    virtual_ms: u64,
}

fn play_all(seeds: &[u64], arguments: &Arguments, cast: &Arc<Cast>) -> Tally {
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let ending = sim::play(*seed, cast);
                    let mut tally = tally.lock().expect("nobody falls while counting");
                    tally.played += 1;
                    tally.faults += ending.faults.sum();
                    tally.operations += ending.operations;
                    tally.calls += ending.calls;
                    tally.virtual_ms += ending.virtual_ms;
                    if !ending.broken.is_empty() {
                        report(&ending);
                        tally.failed.push(ending.seed);
                        if arguments.first {
                            next.store(seeds.len() as u64, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    tally.into_inner().expect("nobody fell while counting")
}

fn report(ending: &Ending) {
    let Ending { seed, broken, faults, virtual_ms, operations, calls, .. } = ending;
    println!("seed {seed}: {calls} calls, {operations} operations, {virtual_ms} ms, {faults:?}");
    for law in broken {
        println!("seed {seed}: BROKEN {law}");
    }
}

/// Lines that begin with a number.
fn kept(path: &std::path::Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}
