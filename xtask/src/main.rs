//! Checks and generated documents: `cargo xtask help`.

mod bench;
mod coverage;
mod fuzz;
mod mutants;
mod sim;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Checks, benches and generated documents of convoke")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Format, lints, documentation, licences, walls, coverage: everything but the tests.
    Check,
    /// The walls between crates and the taste that a machine can check.
    Tidy,
    /// Which test holds which rule of docs/contract: writes docs/coverage.md and fails on a rule without a test.
    Coverage {
        /// Write nothing; fail if docs/coverage.md is stale.
        #[arg(long)]
        check: bool,
    },
    /// Measures what docs/performance.md reports, and prints one JSON line per figure.
    ///
    /// Builds the release server, gives it a core of its own and loads it from another; takes some minutes.
    Bench(bench::Options),
    /// A long day at half capacity: what grows that should be flat, and what never ended.
    Soak(bench::soak::Options),
    /// Looks for bytes that do harm to what reads them, with each fuzz target in turn; needs cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Plays the world in one thread from many seeds, or from one with everything that happens in it.
    Sim(sim::Options),
    /// Breaks the code on purpose and expects the seeds to notice: docs/mutations.md.
    Mutants(mutants::Options),
}

fn main() -> ExitCode {
    match perform(&Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: &Task) -> Result<()> {
    let root = root()?;
    match task {
        Task::Check => check(&root),
        Task::Tidy => tidy::tidy(&root),
        Task::Coverage { check } => coverage::coverage(&root, *check),
        Task::Bench(options) => bench::bench(&root, options),
        Task::Soak(options) => bench::soak(&root, options),
        Task::Fuzz(options) => fuzz::fuzz(&root, options),
        Task::Sim(options) => sim::sim(&root, options),
        Task::Mutants(options) => mutants::mutants(&root, options),
    }
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies in the workspace")?.to_owned())
}

fn check(root: &Path) -> Result<()> {
    run(root, "cargo", &["fmt", "--all", "--", "--check"])?;
    run(root, "cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    tidy::tidy(root)?;
    coverage::coverage(root, true)?;
    if Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        // It looks into crates of every platform, of which a build here has fetched those of its own.
        run(root, "cargo", &["fetch", "--quiet", "--locked"])?;
        run(root, "cargo", &["deny", "--offline", "check", "licenses", "bans", "sources"])?;
    } else {
        println!("cargo-deny is not installed: licences and sources were not checked (cargo install cargo-deny)");
    }
    Ok(())
}

fn run(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    println!("$ {program} {}", arguments.join(" "));
    run_quietly(root, program, arguments)
}

fn run_quietly(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).current_dir(root).status();
    match status.with_context(|| format!("cannot run {program}"))? {
        status if status.success() => Ok(()),
        status => bail!("{program} {}: {status}", arguments.join(" ")),
    }
}
