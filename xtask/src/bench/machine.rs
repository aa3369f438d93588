//! The machine under the figures: which core a process runs on, what it has used, what the hypervisor took.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// The server's core.
pub(super) const SERVER_CORE: usize = 0;
/// The core of phones, webhook and client.
pub(super) const LOAD_CORE: usize = 1;

/// A generator that is later than that, at the 99th percentile, has not kept up.
pub(super) const GENERATOR_LATE_MAX_MS: f64 = 10.0;
/// A hypervisor that gave more than that of the cores to others has stopped the clock for us.
pub(super) const STOLEN_MAX_PERCENT: f64 = 3.0;

/// How often a step is tried that does not hold. A machine that others use stumbles now and then: a server at its limit
/// does so again, and what is spoiled from outside says nothing.
#[derive(Debug)]
pub(super) struct Tries {
    failed: u32,
    spoiled: u32,
}

impl Default for Tries {
    fn default() -> Self {
        Self { failed: 1, spoiled: 5 }
    }
}

impl Tries {
    /// Whether there is another.
    pub(super) fn again(&mut self, spoiled: bool) -> bool {
        let left = if spoiled { &mut self.spoiled } else { &mut self.failed };
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    }
}

/// Binds all threads of this process, and those to come, to the generator's core.
pub(super) fn pin_ourselves() -> Result<()> {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset")
        .args(["-a", "-p", "-c", &LOAD_CORE.to_string(), &pid])
        .output()
        .context("cannot run taskset (Debian: util-linux)")?;
    ensure!(done.status.success(), "taskset: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// Puts a process's session before all others. Only where others share the machine, and only as root; whether it was
/// possible.
pub(super) fn raise(pid: u32) -> bool {
    let renice = Command::new("renice").args(["-n", "-19", "-p", &pid.to_string()]).output();
    let reniced = renice.is_ok_and(|output| output.status.success());
    fs::write(format!("/proc/{pid}/autogroup"), "-20").is_ok() && reniced
}

/// Processor time a process has used, all threads, user and system; to a hundredth of a second.
pub(super) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a short stat")?.parse()?) };
    // USER_HZ is 100 on every Linux that Rust knows.
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

/// Resident memory, bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Holding {
    pub(super) resident_mib: f64,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

pub(super) fn holding(pid: u32) -> Result<Holding> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")?.count();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).context("the process is gone")?.count();
    Ok(Holding { resident_mib: resident(pid)? as f64 / (1024.0 * 1024.0), descriptors, threads })
}

/// What the cores did since some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    total: u64,
    steal: u64,
}

impl Cores {
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        Self { total: fields.iter().take(8).sum(), steal: fields.get(7).copied().unwrap_or_default() }
    }

    /// The share of all cores that the hypervisor gave to others since, percent.
    pub(super) fn stolen_percent(self) -> f64 {
        let now = Self::now();
        100.0 * (now.steal - self.steal) as f64 / (now.total - self.total).max(1) as f64
    }
}

/// What the report says about the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    load_average: String,
}

impl Machine {
    pub(super) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find(|line| line.starts_with("model name"));
        Self {
            cores: info.lines().filter(|line| line.starts_with("processor")).count(),
            processor: model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").trim().to_owned(),
        }
    }
}

/// A percentile of figures in ascending order; zero of none.
pub(super) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((percent / 100.0 * last as f64).round() as usize).copied().unwrap_or_default()
}
