//! What the server says about itself: logs on standard error, and figures for `/metrics`.
//!
//! Secrets, tokens and bodies never come here: whoever logs passes ids and outcomes as fields.

use std::sync::Once;
use std::time::Duration;

use metrics::counter;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error("`log.level` is wrong: {0}")]
    Level(#[from] ParseError),
    #[error("metrics cannot be recorded: {0}")]
    Metrics(#[from] BuildError),
}

/// Starts logging. Does nothing when something logs already, as in tests.
pub fn log(settings: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(&settings.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Whoever installed a subscriber before us goes on logging.
    let _ = match settings.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

/// Starts counting; the handle renders what `/metrics` answers.
///
/// A process counts once: later callers, such as a second server in one test process, get a handle of their own that
/// stays empty.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_mos".to_owned()), &OPINIONS)?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics are recorded already");
    }
    Ok(handle)
}

/// Counts every panic from here on, on whatever thread and whoever catches it. What is said of it stays as it was.
pub fn count_panics() {
    static HOOKED: Once = Once::new();
    let count = |panics| counter!("convoke_panics_total").increment(panics);
    count(0);
    HOOKED.call_once(|| {
        let said = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            count(1);
            said(panic);
        }));
    });
}

/// Adds up what was recorded, now and then, until it stops. The recorder keeps every sample until somebody asks for the
/// figures; a server that nobody asks would grow with each request.
pub async fn add_up(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut due = tokio::time::interval(ADD_UP_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => metrics.run_upkeep(),
        }
    }
}

/// Some thousand samples are a few milliseconds' work, and few KiB.
const ADD_UP_EVERY: Duration = Duration::from_secs(5);

/// From one commit to a ring that nobody answers.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];

/// Mean opinion scores: G.107 Annex B draws its lines at 2.6, 3.1, 3.6, 4.0 and 4.3.
const OPINIONS: [f64; 8] = [1.5, 2.0, 2.6, 3.1, 3.6, 4.0, 4.3, 4.5];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panic_is_counted_whoever_catches_it() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            count_panics();
            assert!(recorder.handle().render().contains("convoke_panics_total 0"));
            let caught = std::panic::catch_unwind(|| panic!("for a test"));
            assert!(caught.is_err());
        });
        assert!(recorder.handle().render().contains("convoke_panics_total 1"));
    }

    #[test]
    fn a_wrong_level_is_said_and_not_ignored() {
        let wrong = Log { format: LogFormat::Text, level: "info,switch=louder".to_owned() };
        assert!(log(&wrong).unwrap_err().to_string().starts_with("`log.level` is wrong"));
    }
}
