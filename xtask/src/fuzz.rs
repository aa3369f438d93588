//! The fuzz targets, each for a while: `cargo xtask fuzz`.
//!
//! `cargo fuzz` builds them with a sanitizer and coverage, which the pinned toolchain has and hides: `RUSTC_BOOTSTRAP`
//! shows it. What each target reached, and whether it still grew at the end, is printed. New inputs go to `target/fuzz`;
//! `--keep` takes the best of them into `fuzz/corpus`, which is committed and which `cargo test -p fuzz` runs.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u64,
    /// Runs only this target; may be given several times
    #[arg(long, value_name = "TARGET")]
    only: Vec<String>,
    /// Afterwards replaces each committed corpus by the fewest inputs that reach as much
    #[arg(long)]
    keep: bool,
}

/// Longer inputs find nothing that these do not.
const INPUT_BYTES_MAX: u32 = 4_096;
/// An input that takes longer has found something: the slowest known takes a hundredth of it.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MIB_MAX: u32 = 2_048;

pub(crate) fn fuzz(root: &Path, options: &Options) -> Result<()> {
    let found = Command::new("cargo").args(["fuzz", "--version"]).output();
    ensure!(
        found.is_ok_and(|output| output.status.success()),
        "cargo-fuzz is missing: cargo install --locked cargo-fuzz"
    );
    let targets = targets(root, &options.only)?;
    cargo_fuzz(root, &["build", "--features", "libfuzzer"])?;
    let mut fell = Vec::new();
    for target in &targets {
        let found = root.join("target/fuzz").join(target);
        fs::create_dir_all(&found)?;
        println!("{target}: {} s", options.seconds);
        match run(root, target, options.seconds, &found) {
            Ok(reach) => {
                println!("{target}: {}", reach.told());
                if options.keep {
                    keep(root, target, &found)?;
                }
            }
            Err(why) => {
                println!("{target}: {why:#}");
                fell.push(target.as_str());
            }
        }
    }
    if fell.is_empty() { Ok(()) } else { bail!("inputs that do harm are in fuzz/artifacts: {}", fell.join(", ")) }
}

/// Every target has a file and a corpus.
fn targets(root: &Path, only: &[String]) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    targets.sort();
    for target in only {
        ensure!(targets.contains(target), "there is no target {target}; there are {}", targets.join(", "));
    }
    targets.retain(|target| only.is_empty() || only.contains(target));
    Ok(targets)
}

/// How much of the code a run has reached, and when.
#[derive(Default)]
struct Reach {
    executions: u64,
    /// Each number of edges that was told, and when; the first is what the corpus reaches.
    edges: Vec<(Duration, u64)>,
}

impl Reach {
    /// Takes a line of libFuzzer's in, and says whether it was about progress.
    fn hears(&mut self, line: &str, at: Duration) -> bool {
        if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = executions.trim().parse().unwrap_or(0);
        }
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:").skip(1);
        let has_begun = !self.edges.is_empty() || line.contains("INITED");
        if let (Some(edges), true) = (words.next().and_then(|word| word.parse().ok()), has_begun) {
            self.edges.push((at, edges));
        }
        // Also the dictionary that it recommends.
        ["#", "INFO:", "stat::", "\"", "\tNEW_FUNC"].iter().any(|start| line.starts_with(start))
    }

    fn told(&self) -> String {
        let (began, start) = self.edges.first().copied().unwrap_or_default();
        let (ended, end) = self.edges.last().copied().unwrap_or_default();
        let lasted = ended.saturating_sub(began);
        let last_quarter = began + lasted * 3 / 4;
        let by_then = self.edges.iter().filter(|(at, _)| *at <= last_quarter).map(|(_, edges)| *edges);
        let late = by_then.max().unwrap_or(start);
        let growth = 100.0 * end.saturating_sub(late) as f64 / end.max(1) as f64;
        let seconds = lasted.as_secs();
        format!(
            "{} executions in {seconds} s, {start} edges by the corpus and {end} at the end, {growth:.1} % of them in \
             the last quarter",
            self.executions,
        )
    }
}

fn run(root: &Path, target: &str, seconds: u64, found: &Path) -> Result<Reach> {
    let corpus = root.join("fuzz/corpus").join(target);
    let mut arguments: Vec<String> = ["run", "--features", "libfuzzer", target].map(str::to_owned).to_vec();
    arguments.extend([path(found)?, path(&corpus)?, "--".to_owned()]);
    arguments.extend([
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        "-print_final_stats=1".to_owned(),
    ]);
    let words = root.join("fuzz/dictionaries").join(dictionary(target)).with_extension("dict");
    if words.exists() {
        arguments.push(format!("-dict={}", path(&words)?));
    }
    let mut fuzzer = command(root, &arguments).stderr(Stdio::piped()).spawn().context("cannot run cargo fuzz")?;
    let mut reach = Reach::default();
    let began = Instant::now();
    // What it quotes need not be UTF-8.
    for line in BufReader::new(fuzzer.stderr.take().context("its output is read")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if !reach.hears(&line, began.elapsed()) {
            eprintln!("{line}");
        }
    }
    let status = fuzzer.wait()?;
    ensure!(status.success(), "{status}");
    Ok(reach)
}

fn keep(root: &Path, target: &str, found: &Path) -> Result<()> {
    let corpus = root.join("fuzz/corpus").join(target);
    let fewest = found.with_extension("fewest");
    fs::create_dir_all(&fewest)?;
    let (old, new, few) = (path(&corpus)?, path(found)?, path(&fewest)?);
    let merge = ["run", "--features", "libfuzzer", target, &few, &old, &new, "--"];
    // What counts is which lines are reached, not how often: that keeps a corpus small.
    cargo_fuzz(root, &[&merge[..], &["-set_cover_merge=1", "-use_counters=0", "-verbosity=0"]].concat())?;
    for entry in fs::read_dir(&corpus)? {
        let entry = entry?;
        // What has another name was written by hand, and says what it is.
        if is_found(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(&fewest)? {
        let entry = entry?;
        fs::copy(entry.path(), corpus.join(entry.file_name()))?;
    }
    fs::remove_dir_all(&fewest)?;
    Ok(())
}

/// The fuzzer names what it finds by its SHA-1.
fn is_found(name: &OsStr) -> bool {
    name.len() == 40 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// Three targets read SIP.
fn dictionary(target: &str) -> &str {
    if target.starts_with("sip_") { "sip" } else { target }
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is no UTF-8", path.display()))
}

fn cargo_fuzz(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = command(root, arguments).status().context("cannot run cargo fuzz")?;
    ensure!(status.success(), "cargo fuzz {}: {status}", arguments.join(" "));
    Ok(())
}

fn command(root: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("fuzz").args(arguments).current_dir(root).env("RUSTC_BOOTSTRAP", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_last_quarter_since_the_corpus_was_read() {
        let mut reach = Reach::default();
        for (seconds, line) in [
            (1, "#2\tREAD   cov: 1 ft: 1 corp: 1/1b"),
            (10, "#99\tINITED cov: 900 ft: 1234 corp: 12/9Kb exec/s: 0 rss: 90Mb"),
            (50, "#1024\tNEW    cov: 950 ft: 1240 corp: 13/9Kb"),
            (90, "#2048\tREDUCE cov: 990 ft: 1240 corp: 13/9Kb"),
            (110, "#4096\tDONE   cov: 1000 ft: 1241 corp: 14/9Kb"),
            (110, "stat::number_of_executed_units: 4096"),
        ] {
            assert!(reach.hears(line, Duration::from_secs(seconds)), "{line}");
        }
        assert!(!reach.hears("thread 'main' panicked", Duration::from_secs(110)));
        assert_eq!(
            reach.told(),
            "4096 executions in 100 s, 900 edges by the corpus and 1000 at the end, 5.0 % of them in the last quarter"
        );
    }
}
