//! Plays seeds of the world in one thread.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds to play, after those in `sim/seeds`.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Play this one alone, and print everything that happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// Worlds played at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

pub(crate) fn sim(root: &Path, options: &Options) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "-p", "sim", "--"]).current_dir(root);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    } else {
        command.args(["--seeds", &options.seeds.to_string(), "--from", &options.from.to_string()]);
        command.args(["--threads", &options.threads.to_string(), "--kept", "sim/seeds/found.txt"]);
    }
    match command.status().context("cannot run the world")? {
        status if status.success() => Ok(()),
        _ => bail!("a law was broken"),
    }
}
